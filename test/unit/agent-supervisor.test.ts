/** The supervisor over a driver and a clock that the test holds. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Cell, CellEnd, CellSpec, SandboxDriver } from '../../src/agent/sandbox.ts'
import { specOf } from '../../src/agent/sandbox.ts'
import { backoffMs, patienceMs, stableMs, Supervisor } from '../../src/agent/supervisor.ts'
import { WaitingRoom } from '../../src/agent/waiting.ts'
import type { AuditEntry } from '../../src/audit/record.ts'

/** A driver whose cells end when the test says so. */
class FakeDriver implements SandboxDriver {
  readonly name = 'fake'
  readonly lacks: readonly string[] = []
  /** What each start gives, in order; a cell when there is nothing. */
  readonly failures: string[] = []
  left: FakeCell | undefined
  cells: FakeCell[] = []
  closed = false
  unavailable = () => Promise.resolve(undefined)
  socketPath = () => '/nowhere/in.sock'
  check = () => Promise.resolve()
  reap = () => Promise.resolve(0)
  adopt = (): Promise<Cell | undefined> => Promise.resolve(this.left)
  start(_spec: CellSpec): Promise<Cell> {
    const failure = this.failures.shift()
    if (failure !== undefined) return Promise.reject(new Error(failure))
    const cell = new FakeCell(String(this.cells.length + 1))
    this.cells.push(cell)
    return Promise.resolve(cell)
  }
  close(): Promise<void> {
    this.closed = true
    return Promise.resolve()
  }
}

class FakeCell implements Cell {
  readonly containers: readonly string[]
  adopted = false
  stops = 0
  readonly #end = Promise.withResolvers<CellEnd>()
  readonly ended = this.#end.promise
  constructor(id: string) {
    this.containers = [id]
  }
  end(because: string): void {
    this.#end.resolve({ because })
  }
  logs = (lines: number) => Promise.resolve([`words of ${this.containers[0]}`].slice(-lines))
  stop(): Promise<void> {
    this.stops += 1
    this.end('stopped')
    return Promise.resolve()
  }
}

/** Lets everything run that is not waiting for the test. */
const settle = () => new Promise((resolve) => setImmediate(resolve))

function bench(options: { heldRequests?: number } = {}) {
  const driver = new FakeDriver()
  const entries: AuditEntry[] = []
  const pauses: number[] = []
  const told: string[] = []
  const world = { now: 0, up: true, holdPauses: false }
  const supervisor = new Supervisor(
    { image: 'bot', heldRequests: options.heldRequests ?? 2, heldMs: 60_000 },
    {
      driver,
      spec: specOf({ image: 'bot', port: 8000 }, { instance: 'i', cell: 'main', forbidden: [] }),
      audit: { append: (entry) => entries.push(entry), failing: undefined },
      now: () => world.now,
      pause: (ms, signal) => {
        if (ms !== 50) pauses.push(ms)
        if (!world.holdPauses) return settle()
        return new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(new Error('aborted'))),
        )
      },
      answers: () => Promise.resolve(world.up),
      told: (state, because) => told.push(`${state}: ${because ?? 'well'}`),
    },
  )
  return { driver, entries, pauses, told, world, supervisor }
}

/** Waits for a state, through as many turns of the loop as it takes within reason. */
async function reach(supervisor: Supervisor, state: string): Promise<void> {
  for (let turn = 0; turn < 1000 && supervisor.state() !== state; turn += 1) await settle()
  assert.equal(supervisor.state(), state)
}

test('pauses between starts double from 100 ms to 30 s and stay there', () => {
  const pauses = [1, 2, 3, 4, 8, 9, 10, 11, 1000].map(backoffMs)
  assert.deepEqual(pauses, [100, 200, 400, 800, 12_800, 25_600, 30_000, 30_000, 30_000])
})

test('an agent that ends again and again is started again after longer and longer pauses', async () => {
  const { driver, pauses, supervisor } = bench()
  await supervisor.start()
  for (let run = 0; run < 5; run += 1) {
    await reach(supervisor, 'ready')
    driver.cells.at(-1)?.end('exit 1')
    await settle()
    await settle()
  }
  await reach(supervisor, 'ready')
  assert.deepEqual(pauses, [100, 200, 400, 800, 1600])
  assert.equal((await supervisor.status()).restarts, 5)
  await supervisor.stop()
})

test('why an agent is not ready is told once for each reason, and that it is ready again', async () => {
  const { driver, told, world, supervisor } = bench()
  await supervisor.start()
  await reach(supervisor, 'ready')
  assert.deepEqual(told, [], 'a start that goes well is no news')
  await supervisor.restart()
  await reach(supervisor, 'ready')
  assert.deepEqual(told, [], 'a restart on request is no news')
  driver.failures.push(...Array.from({ length: 3 }, () => 'no such image'))
  driver.cells.at(-1)?.end('oom')
  await reach(supervisor, 'starting')
  await reach(supervisor, 'ready')
  assert.deepEqual(told, ['starting: oom', 'starting: no such image', 'ready: well'])
  world.up = false
  await supervisor.stop()
  assert.equal(told.length, 3, 'a stop is no news')
})

test('a run that was good for long enough makes the next pause the first again', async () => {
  const { driver, pauses, world, supervisor } = bench()
  await supervisor.start()
  for (const ranMs of [0, 0, stableMs - 1, stableMs, 0]) {
    await reach(supervisor, 'ready')
    world.now += ranMs
    driver.cells.at(-1)?.end('exit 1')
    await settle()
    await settle()
  }
  await reach(supervisor, 'ready')
  assert.deepEqual(pauses, [100, 200, 400, 100, 200])
  await supervisor.stop()
})

test('requests wait for a starting agent, as many as there are seats', async () => {
  const { world, supervisor } = bench({ heldRequests: 2 })
  world.up = false
  await supervisor.start()
  await settle()
  const held = [supervisor.ready(), supervisor.ready()].map((wait) => Promise.resolve(wait))
  assert.equal(await supervisor.ready(), 'starting')
  world.up = true
  assert.deepEqual(await Promise.all(held), ['ready', 'ready'])
  assert.equal(supervisor.ready(), undefined)
  await supervisor.stop()
})

test('a cell that an earlier process left is taken over instead of made', async () => {
  const { driver, entries, supervisor } = bench()
  driver.left = new FakeCell('left')
  driver.left.adopted = true
  await supervisor.start()
  await reach(supervisor, 'ready')
  assert.deepEqual(driver.cells, [])
  assert.equal(entries[0]?.because, 're-adopted by fake: left')
  await supervisor.stop()
})

test('an agent whose start keeps failing is down with the reason, recorded once', async () => {
  const { driver, entries, supervisor } = bench()
  driver.failures.push(...Array.from({ length: 7 }, () => 'no engine'))
  await supervisor.start()
  await reach(supervisor, 'down')
  assert.equal((await supervisor.status()).because, 'no engine')
  assert.equal(await supervisor.ready(), 'down')
  await reach(supervisor, 'ready')
  assert.deepEqual(
    entries.map((entry) => entry.event),
    ['agent.failed', 'agent.started'],
  )
  await supervisor.stop()
})

test('an agent that never answers is down with a hint, and ready when it does answer', async () => {
  const { world, supervisor } = bench()
  world.up = false
  await supervisor.start()
  await settle()
  const held = supervisor.ready()
  world.now = patienceMs
  await settle()
  assert.equal(supervisor.state(), 'starting')
  world.now = patienceMs + 1
  await reach(supervisor, 'down')
  assert.equal(await held, 'down')
  assert.match((await supervisor.status()).because ?? '', /nothing answers on port 8000/)
  world.up = true
  await reach(supervisor, 'ready')
  await supervisor.stop()
})

test('a restart that is asked for makes no pause, and ends one that is under way', async () => {
  const { driver, pauses, world, supervisor } = bench()
  await supervisor.start()
  await reach(supervisor, 'ready')
  await supervisor.restart()
  await reach(supervisor, 'ready')
  assert.deepEqual(pauses, [])
  world.holdPauses = true
  driver.cells.at(-1)?.end('exit 1')
  await settle()
  await settle()
  assert.equal(supervisor.state(), 'starting')
  await supervisor.restart()
  await reach(supervisor, 'ready')
  assert.equal(driver.cells.length, 3)
  await supervisor.stop()
})

test('stopping ends the cell, the waits and the driver, and nothing starts again', async () => {
  const { driver, world, supervisor } = bench()
  world.up = false
  await supervisor.start()
  await settle()
  const held = supervisor.ready()
  await supervisor.stop()
  assert.equal(await held, 'down')
  assert.equal(supervisor.state(), 'stopped')
  assert.equal(driver.cells.length, 1)
  assert.ok((driver.cells[0]?.stops ?? 0) > 0)
  assert.ok(driver.closed)
})

test('the lines of an ended run stand before those of the present one', async () => {
  const { driver, supervisor } = bench()
  await supervisor.start()
  await reach(supervisor, 'ready')
  driver.cells[0]?.end('exit 1')
  await settle()
  await settle()
  await reach(supervisor, 'ready')
  assert.deepEqual(await supervisor.logs(5), ['words of 1', 'words of 2'])
  assert.deepEqual(await supervisor.logs(1), ['words of 2'])
  await supervisor.stop()
})

test('a seat that is given back can be taken again', async () => {
  const room = new WaitingRoom({ heldRequests: 1, heldMs: 60_000 })
  const first = room.wait()
  assert.equal(await room.wait(), 'starting')
  room.release('ready')
  assert.equal(await first, 'ready')
  const second = room.wait()
  assert.equal(room.size, 1)
  room.release('down')
  assert.equal(await second, 'down')
})
