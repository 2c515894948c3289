/** What every sandbox driver must hold. A driver's own test makes cells with it and calls this. */
import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { AgentAddress } from '../../src/agent/agent.ts'
import { answers } from '../../src/agent/health.ts'
import type { Cell, CellSpec, SandboxDriver } from '../../src/agent/sandbox.ts'
import { ask, inCell, until } from '../support/engine.ts'

/** A driver with a spec of the test agent that it can run. */
export interface DriverBench {
  readonly driver: SandboxDriver
  /** A driver like the first, as the next process would make it. */
  again(): SandboxDriver
  /** The test agent's spec, with other fields where given. */
  spec(other?: Partial<CellSpec>): CellSpec
  close(): Promise<void>
}

/** The suite; `name` is the driver's. */
export function sandboxContract(name: string, open: () => Promise<DriverBench>): void {
  suite(`the ${name} driver`, () => {
    let bench: DriverBench
    let cell: Cell | undefined
    let address: AgentAddress
    const start = async (other?: Partial<CellSpec>): Promise<Cell> => {
      const spec = bench.spec(other)
      address = { origin: 'http://agent', socketPath: bench.driver.socketPath(spec) }
      cell = await bench.driver.start(spec)
      await until('the agent answers', () => answers(address, '/health'))
      return cell
    }
    before(async () => {
      bench = await open()
    })
    after(() => bench.close())

    test('works on this machine and says what it lacks', async () => {
      assert.equal(await bench.driver.unavailable(), undefined)
      assert.equal(bench.driver.name, name)
      for (const sentence of bench.driver.lacks) assert.match(sentence, /^[A-Z].*\.$/)
    })

    test('runs an agent that is reached through its socket and by no other way', async () => {
      await start()
      assert.deepEqual(await ask(address, '/x'), { status: 200, text: 'hello from /x' })
      const { value } = await inCell(
        address,
        `return Object.keys((await load('node:os')).networkInterfaces())`,
      )
      assert.deepEqual(value, ['lo'])
    })

    test('reads what the agent wrote, newest last and no more than asked for', async () => {
      await inCell(address, `for (let n = 1; n <= 30; n += 1) console.log('line ' + n)`)
      await until(
        'the lines are there',
        async () => (await cell?.logs(1))?.[0]?.endsWith('line 30') === true,
      )
      const lines = (await cell?.logs(3)) ?? []
      assert.deepEqual(
        lines.map((line) => line.replace(/^\S+ /, '')),
        ['line 28', 'line 29', 'line 30'],
      )
    })

    test('shows what could command a terminal as a plain character', async () => {
      await inCell(address, `console.log('\\u001b]0;owned\\u0007 \\u202egnp.exe')`)
      await until(
        'the line is there',
        async () => (await cell?.logs(1))?.[0]?.includes('owned') === true,
      )
      assert.match((await cell?.logs(1))?.[0] ?? '', /\ufffd\]0;owned\ufffd \ufffdgnp\.exe$/)
    })

    test('takes over a running cell whose spec is the same, and not one whose spec differs', async () => {
      const next = bench.again()
      try {
        assert.equal(await next.adopt(bench.spec({ pidsLimit: 99 })), undefined)
        const adopted = await next.adopt(bench.spec())
        assert.equal(adopted?.adopted, true)
        assert.deepEqual(adopted?.containers, cell?.containers)
        assert.equal((await ask(address, '/adopted')).status, 200)
      } finally {
        await next.close()
      }
    })

    test('makes a new cell in the place of one with another spec', async () => {
      const old = cell
      await start({ pidsLimit: 99 })
      assert.notDeepEqual(cell?.containers, old?.containers)
      assert.match((await old?.ended)?.because ?? '', /./)
      assert.equal(await bench.driver.reap(bench.spec().instance), cell?.containers.length)
    })

    test('tells the exit code of an agent that ends', async () => {
      const running = await start()
      await inCell(address, `setTimeout(() => process.exit(3), 20)`)
      const end = await running.ended
      assert.equal(end.because, 'exit 3')
      assert.equal(end.exitCode, 3)
      await running.stop()
      assert.equal(await bench.driver.reap(bench.spec().instance), 0)
    })

    test('stops an agent that does not want to', async () => {
      const running = await start({ env: ['IGNORE_TERM=1'] })
      await running.stop()
      assert.match((await running.ended).because, /137|portal/)
      assert.equal(await bench.driver.reap(bench.spec().instance), 0)
      await assert.rejects(ask(address, '/'))
    })

    test('refuses a missing image on one line and leaves nothing behind', async () => {
      const spec = bench.spec({ image: 'no-such-image:1' })
      // One after the other: a rejection that nobody waits for yet would fail the test.
      const attempts = [() => bench.driver.check(spec), () => bench.driver.start(spec)]
      for (const attempt of attempts) {
        await assert.rejects(attempt, {
          code: 'IMAGE_MISSING',
          message: /no-such-image:1.*docker pull/,
        })
      }
      assert.equal(await bench.driver.reap(spec.instance), 0)
    })

    test('tells why an agent whose program is not in the image ended', async () => {
      const spec = bench.spec({ command: ['/no/such/program'] })
      const running = await bench.driver.start(spec)
      assert.match((await running.ended).because, /exit 127: .*agent\.command/)
      assert.match((await running.logs(5)).join('\n'), /no\/such\/program/)
      await running.stop()
      assert.equal(await bench.driver.reap(spec.instance), 0)
    })
  })
}
