import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'

import type { Failure } from '../../src/errors.ts'
import { Password } from '../../src/identity/password-check.ts'
import {
  costDefault,
  hashPassword,
  isWeak,
  passwordProblem,
  readHash,
  type PasswordHash,
} from '../../src/identity/password.ts'
import { openSqlite } from '../../src/store/sqlite.ts'

const cheap = { memory: 19_456, passes: 1, lanes: 1 }
const yes = () => true
const memoryStore = () => openSqlite(':memory:', { now: () => 0 })

function hashOf(text: string): PasswordHash {
  const read = readHash(text)
  if ('because' in read) throw new Error(read.because)
  return read
}

test('a new hash is a PHC string in the order of the reference program', async () => {
  const text = await hashPassword('correct horse battery', cheap)
  assert.match(text, /^\$argon2id\$v=19\$m=19456,t=1,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
  assert.notEqual(await hashPassword('correct horse battery', cheap), text)
  assert.deepEqual(costDefault, { memory: 65_536, passes: 3, lanes: 4 })
})

test('hashes of the reference program are understood, in both orders of their parameters', async () => {
  // A known answer of the reference implementation: "password", "somesalt", m=64 MiB, t=2, p=1.
  const salt = 'c29tZXNhbHQ'
  const tag = 'CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc'
  for (const parameters of ['m=65536,t=2,p=1', 'm=65536,p=1,t=2']) {
    const configured = `$argon2id$v=19$${parameters}$${salt}$${tag}`
    const password = await Password.open({ store: memoryStore(), configured })
    assert.equal(await password.attempt('passwore', yes), 'wrong')
    assert.equal(await password.attempt('password', yes), 'right')
    await password.close()
  }
})

test('costs are bounded on both sides, each by its own', () => {
  const read = (cost: string) =>
    readHash(`$argon2id$v=19$${cost}$${'c'.repeat(22)}$${'c'.repeat(43)}`)
  for (const good of ['m=19456,t=1,p=1', 'm=262144,t=10,p=8']) {
    assert.ok(!('because' in read(good)), good)
  }
  for (const [bad, why] of [
    ['m=19455,t=1,p=1', /m=19455/],
    ['m=262145,t=1,p=1', /m=262145/],
    ['m=65536,t=0,p=1', /t=0/],
    ['m=65536,t=11,p=1', /t=11/],
    ['m=65536,t=3,p=0', /p=0/],
    ['m=65536,t=3,p=9', /p=9/],
    ['m=99999999999,t=3,p=4', /not an argon2id/],
    ['m=65536,t=3,t=4', /not an argon2id/],
    ['m=65536,t=3,p=4,data=xx', /not an argon2id/],
  ] as const) {
    const verdict = read(bad)
    assert.match('because' in verdict ? verdict.because : '', why, bad)
  }
  const tag = `$argon2id$v=19$m=65536,t=3,p=4$${'c'.repeat(22)}$`
  assert.ok('because' in readHash(`${tag}${'c'.repeat(15)}`))
  assert.ok('because' in readHash(`${tag}${'c'.repeat(87)}`))
})

test('weak is what is cheaper to guess than a new hash', () => {
  const parts = (cost: string, salt = 22, tag = 43) =>
    hashOf(`$argon2id$v=19$${cost}$${'c'.repeat(salt)}$${'c'.repeat(tag)}`)
  for (const strong of ['m=65536,t=3,p=4', 'm=65536,t=3,p=1', 'm=131072,t=4,p=4']) {
    assert.equal(isWeak(parts(strong)), false, strong)
  }
  for (const weak of ['m=65535,t=3,p=4', 'm=65536,t=2,p=4']) {
    assert.equal(isWeak(parts(weak)), true, weak)
  }
  assert.equal(isWeak(parts('m=65536,t=3,p=4', 11)), true)
  assert.equal(isWeak(parts('m=65536,t=3,p=4', 22, 22)), true)
})

test('two ways of writing one letter are one password', async () => {
  const configured = await hashPassword('caf\u00e9 caf\u00e9 caf\u00e9', cheap)
  const password = await Password.open({ store: memoryStore(), configured })
  assert.equal(await password.attempt('cafe\u0301 cafe\u0301 cafe\u0301', yes), 'right')
  assert.equal(await password.attempt('cafe cafe cafe', yes), 'wrong')
  await password.close()
})

test('one verification runs, as many wait as may, and the next is told at once', async () => {
  const configured = await hashPassword('correct horse battery', cheap)
  const password = await Password.open({ store: memoryStore(), configured, waitingMax: 2 })
  const order: number[] = []
  const tried = [0, 1, 2, 3].map((n) =>
    password.attempt('wrong horse battery', () => order.push(n) > 0),
  )
  assert.equal(await tried[3], 'busy')
  // Only the first has had its turn when the fourth is sent away.
  assert.deepEqual(order, [0])
  assert.deepEqual(await Promise.all(tried.slice(0, 3)), ['wrong', 'wrong', 'wrong'])
  assert.deepEqual(order, [0, 1, 2])
  assert.equal(await password.attempt('wrong horse battery', yes), 'wrong')
})

test('whoever may no longer try when the turn comes costs no hash and gives the turn on', async () => {
  const configured = await hashPassword('correct horse battery', cheap)
  const password = await Password.open({ store: memoryStore(), configured })
  const [first, second, third] = await Promise.all([
    password.attempt('wrong horse battery', yes),
    password.attempt('correct horse battery', () => false),
    password.attempt('correct horse battery', yes),
  ])
  assert.deepEqual([first, second, third], ['wrong', 'barred', 'right'])
  await password.close()
})

test('the upgrade of a weak hash belongs to that very hash, and is forgotten with it', async () => {
  const store = memoryStore()
  const weak = await hashPassword('correct horse battery', cheap)
  const other = await hashPassword('another horse battery', cheap)
  const told: (Failure | undefined)[] = []
  const open = (configured: string) =>
    Password.open({ store, configured, onUpgrade: (failure) => told.push(failure) })
  const first = await open(weak)
  assert.equal(first.weak, true)
  assert.equal(await first.attempt('wrong horse battery', yes), 'wrong')
  await first.close()
  assert.equal(first.weak, true)
  assert.equal(await first.attempt('correct horse battery', yes), 'right')
  await first.close()
  assert.equal(first.weak, false)
  assert.deepEqual(told, [undefined])
  assert.equal((await open(weak)).weak, false)

  const changed = await open(other)
  assert.equal(changed.weak, true)
  assert.notEqual(changed.generation, first.generation)
  assert.equal(await changed.attempt('correct horse battery', yes), 'wrong')
  assert.deepEqual(await store.list('password/'), [])
  assert.equal((await open(weak)).weak, true)
})

test('an upgrade that cannot be stored is told, and the login stands', async () => {
  const store = memoryStore()
  const told: (Failure | undefined)[] = []
  const password = await Password.open({
    store,
    configured: await hashPassword('correct horse battery', cheap),
    onUpgrade: (failure) => told.push(failure),
  })
  await store.close()
  assert.equal(await password.attempt('correct horse battery', yes), 'right')
  await password.close()
  assert.equal(told[0]?.code, 'STORE_FAILED')
  assert.equal(password.weak, true)
})

test('a password is long enough, short enough for its form, and no key held down', () => {
  assert.equal(passwordProblem('abcdefghijkl'), undefined)
  assert.match(passwordProblem('abcdefghijk') ?? '', /11 characters/)
  assert.equal(passwordProblem('abcde'.padEnd(256, 'x')), undefined)
  assert.match(passwordProblem('abcde'.padEnd(257, 'x')) ?? '', /256 bytes/)
  assert.equal(passwordProblem('abcdeeeeeeee'), undefined)
  assert.match(passwordProblem('abcdddddddddd') ?? '', /fewer than 5/)
  assert.match(passwordProblem('abcdefgh\tijkl') ?? '', /control/)
})

test('argon2 comes from its prebuilt binaries: nothing was compiled or run at install time', () => {
  const folder = new URL('../../node_modules/argon2/', import.meta.url)
  assert.ok(!existsSync(new URL('build', folder)))
  assert.ok(existsSync(new URL('prebuilds/linux-x64/argon2.glibc.node', folder)))
  assert.match(
    readFileSync(new URL('../../.npmrc', import.meta.url), 'utf8'),
    /^ignore-scripts=true$/m,
  )
})
