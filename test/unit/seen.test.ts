/** The memory of deliveries: what it knows, for how long, and what it costs to be sure. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test, type TestContext } from 'node:test'

import fc from 'fast-check'

import { Failure } from '../../src/errors.ts'
import { days, hours } from '../../src/limits.ts'
import { Fingerprints } from '../../src/store/fingerprints.ts'
import { openSeen, type Seen, type SeenSettings } from '../../src/store/seen.ts'
import { TestClock } from '../support/people.ts'

function setUp(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const clock = new TestClock()
  const path = join(folder, 'deliveries.db')
  const open = (more: Partial<SeenSettings> = {}) => {
    const seen = openSeen(path, {
      now: clock.now,
      random: randomBytes,
      keepMs: days(3),
      ...more,
    })
    t.after(() => seen.close())
    return seen
  }
  return { clock, path, open }
}

const take = (seen: Seen, ...keys: string[]) =>
  new Promise<readonly boolean[]>((resolve, reject) => {
    seen.take(keys, (fresh, failure) => (failure === undefined ? resolve(fresh) : reject(failure)))
  })

test('a key is new once: alone, beside itself, in the same turn and after the next start', async (t) => {
  const { open } = setUp(t)
  const seen = open()
  assert.deepEqual(await take(seen, 'a', 'b', 'a'), [true, true, false])
  assert.deepEqual(await Promise.all([take(seen, 'c'), take(seen, 'c'), take(seen, 'd')]), [
    [true],
    [false],
    [true],
  ])
  await seen.close()
  assert.deepEqual(await take(open(), 'a', 'b', 'c', 'd', 'e'), [false, false, false, false, true])
})

test('nobody hears that a key is new before it stands in the file', async (t) => {
  const { open, path } = setUp(t)
  const seen = open()
  let rows: unknown
  await new Promise<void>((resolve) => {
    seen.take(['a'], () => {
      const other = new DatabaseSync(path, { readOnly: true })
      rows = other.prepare('SELECT count(*) AS rows FROM taken').get()?.['rows']
      other.close()
      resolve()
    })
  })
  assert.equal(rows, 1)
})

test('what waits is written when it is asked for, and at the end', async (t) => {
  const { open } = setUp(t)
  const seen = open()
  const told: boolean[] = []
  seen.take(['a'], (fresh) => told.push(...fresh))
  assert.equal(told.length, 0)
  seen.write()
  assert.deepEqual(told, [true])
  seen.take(['b'], (fresh) => told.push(...fresh))
  await seen.close()
  assert.deepEqual(told, [true, true])
  await assert.rejects(take(seen, 'c'), Failure)
})

test('what is given back is new again, also after the next start', async (t) => {
  const { open } = setUp(t)
  const seen = open()
  await take(seen, 'a', 'b', 'c')
  await seen.giveBack(['a', 'b'])
  assert.deepEqual(await take(seen, 'a', 'c'), [true, false])
  await seen.close()
  assert.deepEqual(await take(open(), 'a', 'b', 'c'), [false, true, false])
})

test('of several processes on one file, one takes a key', async (t) => {
  const { open } = setUp(t)
  const [one, two] = [open(), open()]
  assert.deepEqual(await take(one, 'a'), [true])
  assert.deepEqual(await take(two, 'a', 'b'), [false, true])
  assert.deepEqual(await take(one, 'b', 'c'), [false, true])
  await two.giveBack(['b'])
  assert.deepEqual(await take(one, 'b'), [true])
})

test('a file that cannot be written is a no, and takes nothing', async (t) => {
  const { open, path } = setUp(t)
  const seen = open()
  const other = new DatabaseSync(path)
  other.exec('BEGIN IMMEDIATE')
  await assert.rejects(take(seen, 'a'), { code: 'STORE_FAILED' })
  await assert.rejects(seen.giveBack(['a']), { code: 'STORE_FAILED' })
  other.exec('ROLLBACK')
  other.close()
  assert.deepEqual(await take(seen, 'a'), [true])
})

test('a key is known for three days and forgotten within another, and the file forgets it too', async (t) => {
  const { open, clock, path } = setUp(t)
  const seen = open()
  await take(seen, 'a')
  for (let passed = 0; passed < 71; passed += 1) {
    clock.pass(hours(1))
    await take(seen, `hour ${passed}`)
  }
  assert.deepEqual(await take(seen, 'a'), [false])
  assert.equal(seen.knownSince(), clock.now() - days(3))
  for (let passed = 71; passed < 84; passed += 1) {
    clock.pass(hours(1))
    await take(seen, `hour ${passed}`)
  }
  assert.deepEqual(await take(seen, 'hour 20', 'a'), [false, true])
  const file = new DatabaseSync(path, { readOnly: true })
  const oldest = Number(file.prepare('SELECT min(at) AS at FROM taken').get()?.['at'])
  file.close()
  assert.ok(oldest > clock.now() - days(4))
})

test('after a long sleep the file is emptied, a piece with each write', async (t) => {
  const { open, clock, path } = setUp(t)
  const before = open()
  for (let key = 0; key < 1200; key += 1) {
    void take(before, `old ${key}`)
    before.write()
  }
  await before.close()
  clock.pass(days(30))
  const seen = open()
  const file = new DatabaseSync(path, { readOnly: true })
  const rows = () => Number(file.prepare('SELECT count(*) AS rows FROM taken').get()?.['rows'])
  assert.deepEqual(await take(seen, 'old 1'), [true])
  assert.equal(rows(), 1200 - 500 + 1)
  await take(seen, 'b')
  await take(seen, 'c')
  assert.equal(rows(), 3)
  file.close()
})

test('more keys than are kept push the oldest out, which counts as forgotten and is told', async (t) => {
  const { open, clock } = setUp(t)
  const told: number[] = []
  const seen = open({ max: 1200, onFull: (since) => told.push(since) })
  for (let key = 0; key < 2050; key += 1) {
    clock.pass(1000)
    void take(seen, `k${key}`)
    seen.write()
  }
  const since = seen.knownSince()
  const kept = Math.round((clock.now() - since) / 1000)
  assert.ok(kept >= 900 && kept <= 1200, String(kept))
  assert.equal(told.at(-1), since)
  assert.deepEqual(await take(seen, 'k2049', `k${2050 - kept}`, `k${2049 - kept}`), [
    false,
    false,
    true,
  ])
  await seen.close()
  const again = open({ max: 1200 })
  assert.ok(again.knownSince() >= since, 'the next start does not claim to know more')
})

test('a clock that is set back forgets nothing', async (t) => {
  const { open, clock } = setUp(t)
  const seen = open()
  await take(seen, 'a')
  clock.pass(days(-400))
  assert.deepEqual(await take(seen, 'a', 'b'), [false, true])
  await seen.close()
  assert.deepEqual(await take(open(), 'a', 'b'), [false, false])
})

test('the file is private, and a file of something else is refused', async (t) => {
  const { open, path } = setUp(t)
  await open().close()
  assert.equal(statSync(path).mode & 0o777, 0o600)
  const other = new DatabaseSync(path)
  other.exec('DROP TABLE taken')
  other.close()
  assert.throws(() => open(), { code: 'STORE_FAILED' })
})

test('fingerprints are a set', () => {
  const half = fc.integer({ min: 0, max: 3 })
  const step = fc.record({ low: half, high: half, add: fc.boolean() })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 400 }), (steps) => {
      const prints = new Fingerprints()
      // An upper half of 0 counts as 1: of 2^64 numbers a few billion share a place.
      const set = new Set<string>()
      for (const { low, high, add } of steps) {
        const name = `${low} ${Math.max(1, high)}`
        assert.equal(prints.has(low, high), set.has(name))
        if (add) assert.equal(prints.add(low, high), !set.has(name))
        else assert.equal(prints.delete(low, high), set.has(name))
        if (add) set.add(name)
        else set.delete(name)
        assert.equal(prints.size, set.size)
      }
    }),
  )
  const prints = new Fingerprints()
  const numbers = Array.from({ length: 20_000 }, () => {
    const bytes = randomBytes(8)
    return [bytes.readUInt32LE(0), bytes.readUInt32LE(4)] as const
  })
  for (const [low, high] of numbers) assert.ok(prints.add(low, high))
  for (const [i, [low, high]] of numbers.entries())
    if (i % 2 === 0) assert.ok(prints.delete(low, high))
  for (const [i, [low, high]] of numbers.entries()) assert.equal(prints.has(low, high), i % 2 === 1)
  assert.equal(prints.size, 10_000)
})
