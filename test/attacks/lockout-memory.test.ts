/** A million addresses: what is remembered of them is bounded (CWE-770, CWE-400). */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

import { addressKey } from '../../src/identity/address.ts'
import { memoryLimiter } from '../../src/identity/limiter.ts'
import { Lockout, lockoutDefaults } from '../../src/identity/lockout.ts'
import { limits } from '../../src/limits.ts'

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const heapMiB = (): number => {
  collect()
  return process.memoryUsage().heapUsed / 1024 ** 2
}

/** The test runner notes every timer, and lets go of it only between two turns. */
const breathe = () => new Promise((resolve) => setImmediate(resolve))

const million = 1_000_000
const most = limits.addresses.default

/** Every second one IPv4, the others IPv6 networks. */
const address = (i: number): string =>
  i % 2 === 0
    ? `${10 + (i >> 22)}.${(i >> 14) & 255}.${(i >> 6) & 255}.${i & 63}`
    : `2001:db8:${(i >> 16).toString(16)}:${(i & 65_535).toString(16)}::1`

test('failures of a million addresses take the room of ten thousand', () => {
  let now = 0
  const lockout = new Lockout(lockoutDefaults, () => now)
  for (let i = 0; i < 2 * most; i += 1) lockout.fail(addressKey(address(i)))
  const before = heapMiB()
  for (let i = 0; i < million; i += 1) {
    now += 1
    lockout.fail(addressKey(address(i)))
  }
  const grown = heapMiB() - before
  assert.equal(lockout.size, most)
  assert.ok(grown < 4, `${grown.toFixed(1)} MiB`)
})

test('requests of a million addresses take the room of ten thousand', async () => {
  const limiter = memoryLimiter({ perMinute: 300 })
  for (let i = 0; i < 2 * most; i += 1) limiter.hit(addressKey(address(i)))
  await breathe()
  const before = heapMiB()
  for (let i = 0; i < million; i += 1) {
    limiter.hit(addressKey(address(i)))
    if (i % 10_000 === 0) await breathe()
  }
  await breathe()
  const grown = heapMiB() - before
  assert.equal(limiter.size(), most)
  assert.ok(grown < 8, `${grown.toFixed(1)} MiB`)
})

test('an address in use is remembered while a hundred thousand others pass by', async () => {
  const limiter = memoryLimiter({ perMinute: 300 })
  const lockout = new Lockout(lockoutDefaults, () => 0)
  const busy = addressKey('192.0.2.7')
  for (let i = 0; i < 5; i += 1) lockout.fail(busy)
  let left = 300
  for (let i = 0; i < 100_000; i += 1) {
    limiter.hit(addressKey(address(i)))
    lockout.fail(addressKey(address(i)))
    if (i % 1000 !== 0) continue
    left = limiter.hit(busy).left
    lockout.fail(busy)
    await breathe()
  }
  assert.equal(left, 200)
  assert.ok(lockout.lockedFor(busy) > 0)
})

test('who leaves is always who was there longest ago', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 200 }), (visits) => {
      const limiter = memoryLimiter({ perMinute: 1000, keysMax: 5 })
      const model = new Map<number, number>()
      for (const visitor of visits) {
        const count = (model.get(visitor) ?? 0) + 1
        model.delete(visitor)
        model.set(visitor, count)
        const [longestAgo] = model.keys()
        if (model.size > 5 && longestAgo !== undefined) model.delete(longestAgo)
        assert.equal(limiter.hit(String(visitor)).left, 1000 - count)
      }
      assert.equal(limiter.size(), model.size)
    }),
  )
})

test('all addresses of a /64 are one', () => {
  const keys = new Set<string>()
  for (let i = 0; i < 10_000; i += 1) {
    const host = `${((i * 7) & 0xffff).toString(16)}::${i.toString(16)}`
    keys.add(addressKey(`2001:db8:1:2:${host}`))
  }
  assert.deepEqual([...keys], ['2001:db8:1:2::/64'])
})
