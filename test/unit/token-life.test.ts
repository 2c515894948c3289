import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  alertOf,
  endOf,
  httpDate,
  isRenewable,
  isRenewal,
  lifeOf,
  rotationOf,
} from '../../src/identity/token-life.ts'
import type { TokenRecord } from '../../src/identity/token-record.ts'

const day = 86_400_000
const hour = 3_600_000
const born = 1_800_000_000_000
const rotation = { maxAgeMs: 30 * day, graceMs: day }

const token = (changes: Partial<TokenRecord> = {}): TokenRecord => ({
  id: 'a',
  name: 'phone',
  kind: 'managed',
  digest: '',
  scopes: ['operate'],
  paths: [],
  networks: [],
  createdAt: born,
  ...changes,
})

test('the grace is a tenth of the age and at most a day, unless it is said', () => {
  assert.equal(rotationOf(30 * day).graceMs, day)
  assert.equal(rotationOf(10 * day).graceMs, day)
  assert.equal(rotationOf(5 * day).graceMs, 12 * hour)
  assert.equal(rotationOf(30 * day, 2 * day).graceMs, 2 * day)
})

test('a token is good to the last millisecond of its age and grace', () => {
  const end = born + 31 * day
  assert.equal(endOf(token(), end - 1, rotation), undefined)
  assert.equal(endOf(token(), end, rotation), 'aged')
  assert.equal(endOf(token(), end + 1000 * day), undefined, 'without a rotation tokens do not age')
})

test('the first of the moments that end a token is the one that counts', () => {
  const at = born + 40 * day
  const ends = (changes: Partial<TokenRecord>) => {
    const { endsAt, end } = lifeOf(token(changes), rotation)
    return [endsAt, end]
  }
  assert.deepEqual(ends({ revokedAt: at }), [-Infinity, 'revoked'], 'whatever the clock says')
  assert.deepEqual(ends({ expiresAt: born + 5 }), [born + 5, 'expired'])
  assert.deepEqual(ends({ expiresAt: born + 30.5 * day }), [born + 30.5 * day, 'expired'])
  assert.deepEqual(ends({ expiresAt: at }), [born + 31 * day, 'aged'])
  const rotated = { rotatedAt: born + day, successorId: 'b', graceEndsAt: born + 2 * day }
  assert.deepEqual(ends(rotated), [born + 2 * day, 'retired'])
  assert.deepEqual(ends({ ...rotated, expiresAt: born + 5 }), [born + 5, 'expired'])
  assert.deepEqual(ends({ rotatedAt: born + 31 * day }), [-Infinity, 'retired'])
  const replaced = { kind: 'configured', replacedAt: born + day } as const
  assert.deepEqual(ends({ ...replaced, graceEndsAt: born + 1.5 * day }), [
    born + 1.5 * day,
    'replaced',
  ])
  assert.deepEqual(ends(replaced), [-Infinity, 'replaced'])
})

test('a token that is rotated at the end of its age still has its whole grace', () => {
  const rotatedAt = born + 31 * day - 1
  const { endsAt } = lifeOf(token({ rotatedAt, graceEndsAt: rotatedAt + day }), rotation)
  assert.equal(endsAt, rotatedAt + day)
})

test('a successor can be fetched from the age on, for one more age, and only of a managed token', () => {
  const at = (ms: number, changes: Partial<TokenRecord> = {}) =>
    isRenewable(lifeOf(token(changes), rotation), born + ms)
  assert.deepEqual([at(30 * day - 1), at(30 * day)], [false, true])
  assert.deepEqual([at(61 * day - 1), at(61 * day)], [true, false])
  assert.equal(at(30 * day, { kind: 'configured' }), false)
  assert.equal(at(30 * day, { revokedAt: born }), false)
  assert.equal(at(30 * day, { rotatedAt: born, graceEndsAt: born + 60 * day }), false)
  const expiring = { expiresAt: born + 40 * day }
  assert.deepEqual([at(40 * day - 1, expiring), at(40 * day, expiring)], [true, false])
  assert.equal(at(30 * day, { expiresAt: born + 30 * day }), false)
})

test('the end is announced from 80 % of the age on, and at once after a rotation', () => {
  assert.equal(lifeOf(token(), rotation).sunsetAt, born + 24 * day)
  const rotated = token({ rotatedAt: born + 5, graceEndsAt: born + day })
  assert.equal(lifeOf(rotated, rotation).sunsetAt, born + 5)
  assert.equal(lifeOf(token({ expiresAt: born + day }), rotation).sunsetAt, Infinity)
})

test('the highest share that the age has reached is told', () => {
  const at = (ms: number, changes: Partial<TokenRecord> = {}) =>
    alertOf(token(changes), born + ms, rotation)
  const moments = [24 * day - 1, 24 * day, 28.5 * day - 1, 28.5 * day, 30 * day - 1, 30 * day]
  assert.deepEqual(
    moments.map((ms) => at(ms)),
    [undefined, 80, 80, 95, 95, 100],
  )
  assert.deepEqual([at(31 * day - 1), at(31 * day)], [100, undefined])
  assert.equal(at(29 * day, { rotatedAt: born, graceEndsAt: born + 30 * day }), undefined)
  assert.equal(at(29 * day, { expiresAt: born + 29.5 * day }), undefined)
})

test('only POST on the one path fetches a successor', () => {
  assert.equal(isRenewal({ method: 'POST', path: '/.hardshell/token' }), true)
  for (const [method, path] of [
    ['GET', '/.hardshell/token'],
    ['POST', '/.hardshell/token/'],
    ['POST', '/.hardshell/Token'],
    ['POST', '/.hardshell'],
    ['post', '/.hardshell/token'],
  ] as const) {
    assert.equal(isRenewal({ method, path }), false, `${method} ${path}`)
  }
})

test('the moment of the end is an HTTP-date', () => {
  assert.equal(httpDate(784_111_777_000), 'Sun, 06 Nov 1994 08:49:37 GMT')
})

test('whatever a record says, its moments are in order', () => {
  const moment = fc.option(fc.integer({ min: born, max: born + 100 * day }), { nil: undefined })
  const some = fc.record({
    kind: fc.constantFrom('managed', 'configured'),
    expiresAt: moment,
    revokedAt: moment,
    rotatedAt: moment,
    graceEndsAt: moment,
  })
  fc.assert(
    fc.property(some, ({ kind, ...given }) => {
      const times = Object.entries(given).filter(([, value]) => value !== undefined)
      const record = token({ kind, ...(Object.fromEntries(times) as Partial<TokenRecord>) })
      const { dueAt, sunsetAt, endsAt, renewableUntil } = lifeOf(record, rotation)
      if (dueAt !== Infinity) assert.ok(sunsetAt < dueAt && dueAt < endsAt)
      assert.ok(endsAt <= (record.expiresAt ?? Infinity))
      assert.ok(renewableUntil === -Infinity || renewableUntil >= endsAt)
    }),
  )
})
