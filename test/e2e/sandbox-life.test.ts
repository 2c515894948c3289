/** The life of an agent in its cell: it dies, it is killed, it runs out of memory, we are killed, and it is back. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import type { AgentStatus } from '../../src/agent/agent.ts'
import { engineProxy } from '../support/engine-proxy.ts'
import { ask, inCell, openBench, until, untilReady, type Bench } from '../support/engine.ts'

suite('a supervised agent', () => {
  let bench: Bench
  beforeEach(async () => {
    bench = await openBench()
  })
  afterEach(() => bench.close())

  const idOf = async (role: string): Promise<string> => {
    const found = (await bench.containers()).filter(
      (one) => one.labels['io.hardshell.role'] === role,
    )
    assert.equal(found.length, 1)
    return found[0]?.id ?? ''
  }

  test('whose container is killed is back by itself, and the log says both', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const killed = await idOf('agent')
    await bench.engine.kill(killed, 'SIGKILL')
    await until('it is missed', () => agent.state() !== 'ready')
    await untilReady(agent)
    assert.equal((await ask(agent.address, '/')).status, 200)
    assert.notEqual(await idOf('agent'), killed)
    assert.equal((await agent.status()).restarts, 1)
    assert.deepEqual(
      bench.audit.entries.map((entry) => [entry.event, entry.because?.replace(/:.*/, '')]),
      [
        ['agent.started', 'started by docker'],
        ['agent.ended', 'killed (exit 137)'],
        ['agent.started', 'started by docker'],
      ],
    )
  })

  test('whose portal is killed gets a new pod, never a network', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const before = await bench.containers()
    await bench.engine.kill(await idOf('portal'), 'SIGKILL')
    await until('it is missed', () => agent.state() !== 'ready')
    await untilReady(agent)
    const now = await bench.containers()
    assert.equal(now.length, 2)
    assert.ok(now.every((one) => !before.some((old) => old.id === one.id)))
    assert.equal(bench.audit.of('agent.ended')[0]?.because, 'portal ended')
  })

  test('that runs out of memory is told from one that was stopped', async () => {
    const agent = await bench.create({ memoryBytes: 128 * 1024 ** 2 })
    await agent.start()
    await untilReady(agent)
    const eat = `const kept = []; for (;;) kept.push(Buffer.alloc(8 * 2 ** 20, 1))`
    await assert.rejects(inCell(agent.address, eat))
    await until('its end is recorded', () => bench.audit.of('agent.ended').length > 0)
    assert.equal(bench.audit.of('agent.ended')[0]?.because, 'oom')
    await untilReady(agent)
    await agent.restart()
    await until('its end is recorded', () => bench.audit.of('agent.ended').length > 1)
    assert.equal(bench.audit.of('agent.ended')[1]?.because, 'stopped on request')
  })

  test('keeps the last words of the run before', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const last = `console.error('fatal: no more'); setTimeout(() => process.exit(1), 50)`
    await inCell(agent.address, last)
    await until('its end is recorded', () => bench.audit.of('agent.ended').length > 0)
    await untilReady(agent)
    await until('the new run has written', async () => (await agent.logs(10)).length >= 3)
    const lines = (await agent.logs(10)).map((line) => line.replace(/^\S+ /, ''))
    assert.deepEqual(lines, ['listening', 'fatal: no more', 'listening'])
    assert.deepEqual(
      (await agent.logs(1)).map((line) => line.replace(/^\S+ /, '')),
      ['listening'],
    )
  })

  test('has requests wait while it starts, and no longer than allowed', async () => {
    const patient = await bench.create({ env: { READY_MS: '800' }, healthPath: '/health' })
    await patient.start()
    const waits = [patient.ready(), patient.ready()].map((wait) => Promise.resolve(wait))
    assert.deepEqual(await Promise.all(waits), ['ready', 'ready'])
    assert.equal(patient.ready(), undefined)
    await patient.stop()

    const slow = { env: { READY_MS: '60000' }, healthPath: '/health' }
    const agent = await bench.create(slow, { heldRequests: 1, heldMs: 1000 })
    await agent.start()
    const first = agent.ready()
    assert.equal(await agent.ready(), 'starting')
    assert.equal(await first, 'starting')
    assert.equal(agent.state(), 'starting')
  })

  test('restarts on request without a pause', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const before = await idOf('agent')
    await agent.restart()
    assert.equal(await (agent.ready() ?? 'ready'), 'ready')
    assert.notEqual(await idOf('agent'), before)
  })

  test('is down, with the reason, while its program fails again and again', async () => {
    const agent = await bench.create({ args: ['-e', 'process.exit(7)'] })
    await agent.start()
    await until('it is given up on for now', () => agent.state() === 'down')
    assert.match((await agent.status()).because ?? '', /^exit 7/)
    assert.equal(await agent.ready(), 'down')
    // 100 + 200 + 400 … ms: six ends are not six in a moment.
    assert.ok(bench.audit.of('agent.ended').length <= 8)
  })

  test('goes on while its engine is away, and is taken over when the engine is back', async () => {
    const socket = join(bench.dir, 'e.sock')
    const nothing = () => undefined
    const first = await engineProxy(socket, nothing)
    const agent = await bench.create({}, { engineSockets: [socket] })
    await agent.start()
    await untilReady(agent)
    const { containers } = await agent.status()
    await first.close()
    await until('it is missed', () => agent.state() === 'down')
    assert.match((await agent.status()).because ?? '', /no container engine answers/)
    const second = await engineProxy(socket, nothing)
    try {
      await agent.restart()
      await untilReady(agent)
      assert.deepEqual((await agent.status()).containers, containers)
      assert.match(bench.audit.of('agent.ended')[0]?.because ?? '', /^engine lost/)
      await agent.stop()
      assert.deepEqual(await bench.containers(), [])
    } finally {
      await second.close()
    }
  })

  const launch = async () => {
    const file = join(import.meta.dirname, '..', 'support', 'agent-process.ts')
    const child = spawn(process.execPath, [file, JSON.stringify(bench.settings())], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const [line] = (await once(child.stdout, 'data')) as [Buffer]
    return { child, ...(JSON.parse(line.toString()) as { waited: string; status: AgentStatus }) }
  }

  test('outlives a sidecar that is killed, and the next one takes it over', async () => {
    const first = await launch()
    assert.equal(first.waited, 'ready')
    const gone = once(first.child, 'exit')
    first.child.kill('SIGKILL')
    await gone
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    assert.deepEqual((await agent.status()).containers, first.status.containers)
    assert.match(bench.audit.of('agent.started')[0]?.because ?? '', /^re-adopted by docker/)
    assert.equal((await ask(agent.address, '/')).status, 200)
    // The way out was the killed process's; it is ours now.
    const code = `return (await fetch('http://example.org/').catch((thrown) => thrown)).status ?? 'failed'`
    await inCell(agent.address, code)
    assert.equal(bench.audit.of('egress.refused')[0]?.path, 'example.org:80')
  })

  test('left by a killed sidecar with other settings is replaced', async () => {
    const first = await launch()
    const gone = once(first.child, 'exit')
    first.child.kill('SIGKILL')
    await gone
    const agent = await bench.create({ pidsLimit: 200 })
    await agent.start()
    await untilReady(agent)
    const { containers } = await agent.status()
    assert.ok(containers?.every((id) => !first.status.containers?.includes(id)))
    assert.equal((await bench.containers()).length, 2)
    await agent.stop()
    assert.deepEqual(await bench.containers(), [])
  })
})
