import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Lockout, lockoutDefaults } from '../../src/identity/lockout.ts'

const minute = 60_000

function setUp(changes: Partial<typeof lockoutDefaults> = {}) {
  const clock = { ms: 0 }
  const lockout = new Lockout({ ...lockoutDefaults, ...changes }, () => clock.ms)
  const fail = (times: number, key = 'a') => {
    let last = 0
    for (let count = 0; count < times; count += 1) last = lockout.fail(key)
    return last
  }
  return { clock, lockout, fail }
}

test('four failures do not lock and the fifth does, for five minutes', () => {
  const { clock, lockout, fail } = setUp()
  assert.equal(fail(4), 0)
  assert.equal(lockout.lockedFor('a'), 0)
  assert.equal(fail(1), 5 * minute)
  clock.ms += 5 * minute - 1
  assert.equal(lockout.lockedFor('a'), 1)
  clock.ms += 1
  assert.equal(lockout.lockedFor('a'), 0)
})

test('failures older than the window do not count', () => {
  const { clock, lockout, fail } = setUp()
  fail(4)
  clock.ms += 5 * minute
  fail(4)
  assert.equal(lockout.lockedFor('a'), 0)
  clock.ms += 5 * minute - 1
  fail(1)
  assert.equal(lockout.lockedFor('a'), 5 * minute)
})

test('each lockout is twice as long as the one before, up to an hour', () => {
  const { clock, fail } = setUp()
  const lengths: number[] = []
  for (let round = 0; round < 7; round += 1) {
    const forMs = fail(5)
    lengths.push(forMs / minute)
    clock.ms += forMs
  }
  assert.deepEqual(lengths, [5, 10, 20, 40, 60, 60, 60])
})

test('after a quiet hour the first lockout is short again, and a minute earlier it is not', () => {
  for (const [quiet, expected] of [
    [60, 5],
    [59, 10],
  ] as const) {
    const { clock, fail } = setUp()
    clock.ms += fail(5) + quiet * minute
    assert.equal(fail(5), expected * minute)
  }
})

test('failures during a lockout do not make it longer', () => {
  const { clock, lockout, fail } = setUp()
  fail(5)
  clock.ms += minute
  fail(100)
  assert.equal(lockout.lockedFor('a'), 4 * minute)
  clock.ms += 4 * minute
  assert.equal(fail(4), 0)
})

test('a million distinct addresses are remembered no further than the cap', () => {
  const { lockout } = setUp({ addressesMax: 500 })
  for (let count = 0; count < 1_000_000; count += 1) lockout.fail(`address ${count}`)
  assert.equal(lockout.size, 500)
})

test('an address that keeps failing is not forgotten because others fail too', () => {
  const { lockout, fail } = setUp({ addressesMax: 100 })
  for (let round = 0; round < 5; round += 1) {
    fail(1)
    for (let count = 0; count < 99; count += 1) lockout.fail(`${round} ${count}`)
  }
  assert.equal(lockout.lockedFor('a') > 0, true)
})
