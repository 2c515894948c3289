import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { keysFromFile, keySet, keySetBytesMax, urlTimes } from '../../src/identity/jwks.ts'
import { keySetOf, makeKey, withKey, type Jwk } from '../support/issuer.ts'

const first = makeKey('ES256', 'k1')
const second = makeKey('ES256', 'k2')
const rsa = makeKey('RS256', 'r1')
const minute = 60_000

function setUp(initial: string | Error) {
  const clock = { ms: 1000 }
  const source: { text: string | Error | Promise<string>; asked: number } = {
    text: initial,
    asked: 0,
  }
  const troubles: (string | undefined)[] = []
  const keys = keySet({
    text: async () => {
      source.asked += 1
      const text = await source.text
      if (text instanceof Error) throw text
      return text
    },
    times: { ...urlTimes, patienceMs: 50 },
    now: () => clock.ms,
    onTrouble: (because) => troubles.push(because),
  })
  const has = async (alg: string, kid?: string) => (await keys.find(alg, kid)) !== undefined
  return { clock, source, troubles, keys, has }
}

const unavailable = { code: 'JWKS_UNAVAILABLE' }

test('a key is found by its kid for the algorithm that it is made for', async () => {
  const { has, source } = setUp(keySetOf(first, rsa))
  assert.equal(await has('ES256', 'k1'), true)
  assert.equal(await has('RS256', 'r1'), true)
  assert.equal(await has('ES256', 'r1'), false)
  assert.equal(await has('RS256', 'k1'), false)
  assert.equal(await has('ES384', 'k1'), false)
  assert.equal(await has('PS256', 'r1'), false, 'the key says that it is for RS256')
  assert.equal(source.asked, 1)
})

test('a kid is looked up letter for letter and means nothing else', async () => {
  const { has } = setUp(keySetOf(first))
  for (const kid of [
    'K1',
    'k1 ',
    '',
    '../k1',
    '/etc/passwd',
    'k1\u0000',
    '__proto__',
    'constructor',
    "' OR 1=1",
  ]) {
    assert.equal(await has('ES256', kid), false, kid)
  }
})

test('without a kid there must be exactly one key that fits', async () => {
  assert.equal(await setUp(keySetOf(first, rsa)).has('ES256'), true)
  assert.equal(await setUp(keySetOf(first, second)).has('ES256'), false)
  const twins = keySetOf(first, withKey('ES256', 'k1', second.privateKey, second.publicKey))
  assert.equal(await setUp(twins).has('ES256', 'k1'), false, 'two keys of one name are none')
})

test('keys that are not for verifying signatures are left out', async () => {
  const changed = (change: Jwk) => JSON.stringify({ keys: [{ ...first.jwk, ...change }, rsa.jwk] })
  for (const change of [
    { use: 'enc' },
    { key_ops: ['sign'] },
    { key_ops: 'verify' },
    { alg: 'HS256' },
    { x: 'AA' },
  ]) {
    assert.equal(await setUp(changed(change)).has('ES256', 'k1'), false, JSON.stringify(change))
  }
  for (const change of [{ use: undefined }, { key_ops: ['verify'] }, { alg: undefined }]) {
    assert.equal(await setUp(changed(change)).has('ES256', 'k1'), true, JSON.stringify(change))
  }
})

test('of a key pair that was published by mistake the public part is used', async () => {
  const whole = { ...first.privateKey.export({ format: 'jwk' }), kid: 'k1' }
  const { keys } = setUp(JSON.stringify({ keys: [whole] }))
  assert.equal((await keys.find('ES256', 'k1'))?.type, 'public')
})

test('what is no key set is none', async () => {
  const oct = { kty: 'oct', k: 'c2VjcmV0', kid: 'k1', alg: 'HS256' }
  for (const text of [
    '',
    'null',
    '[]',
    '{}',
    '{"keys":[]}',
    '{"keys":{}}',
    '{"keys":[1,null,"x"]}',
    JSON.stringify({ keys: [oct] }),
    JSON.stringify({ keys: Array.from({ length: 101 }, () => first.jwk) }),
    '<html>',
  ]) {
    const { keys, troubles } = setUp(text)
    await assert.rejects(keys.find('ES256', 'k1'), unavailable, text.slice(0, 20))
    assert.equal(troubles.length, 1)
  }
})

test('a new kid makes us ask again, but only once in 30 s', async () => {
  const { clock, source, has } = setUp(keySetOf(first))
  assert.equal(await has('ES256', 'k1'), true)
  source.text = keySetOf(first, second)
  clock.ms += 29_999
  assert.equal(await has('ES256', 'k2'), false)
  assert.equal(source.asked, 1)
  clock.ms += 1
  assert.equal(await has('ES256', 'k2'), true)
  assert.equal(source.asked, 2)
  for (let i = 0; i < 1000; i += 1) assert.equal(await has('ES256', `made-up-${i}`), false)
  assert.equal(source.asked, 2)
})

test('a thousand requests at once ask once', async () => {
  const { source, has } = setUp(keySetOf(first))
  const answers = await Promise.all(Array.from({ length: 1000 }, () => has('ES256', 'k1')))
  assert.ok(answers.every(Boolean))
  assert.equal(source.asked, 1)
})

test('keys are asked for again when they are ten minutes old, and a withdrawn one is gone', async () => {
  const { clock, source, keys, has } = setUp(keySetOf(first, second))
  assert.equal(await has('ES256', 'k1'), true)
  const before = keys.generation()
  source.text = keySetOf(second)
  clock.ms += 10 * minute
  assert.equal(await has('ES256', 'k1'), true)
  clock.ms += 1
  assert.equal(await has('ES256', 'k1'), false)
  assert.equal(await has('ES256', 'k2'), true)
  assert.notEqual(keys.generation(), before)
})

test('the same keys again are the same generation', async () => {
  const { clock, source, keys, has } = setUp(keySetOf(first))
  await has('ES256', 'k1')
  const before = keys.generation()
  clock.ms += 11 * minute
  await has('ES256', 'k1')
  assert.equal(source.asked, 2)
  assert.equal(keys.generation(), before)
})

test('the last good keys serve for 24 hours without the issuer, and then nothing does', async () => {
  const { clock, source, troubles, keys, has } = setUp(keySetOf(first))
  assert.equal(await has('ES256', 'k1'), true)
  source.text = new Error('down')
  clock.ms += 24 * 60 * minute
  assert.equal(await has('ES256', 'k1'), true)
  assert.deepEqual(troubles, ['down'])
  assert.notEqual(keys.generation(), undefined)
  clock.ms += 1
  assert.equal(keys.generation(), undefined)
  await assert.rejects(has('ES256', 'k1'), unavailable)
  source.text = keySetOf(first)
  clock.ms += minute
  assert.equal(await has('ES256', 'k1'), true)
  assert.deepEqual(troubles, ['down', undefined])
})

test('an answer that is no key set leaves the good keys in place', async () => {
  const { clock, source, has } = setUp(keySetOf(first))
  await has('ES256', 'k1')
  source.text = '<html>maintenance</html>'
  clock.ms += 11 * minute
  assert.equal(await has('ES256', 'k1'), true)
})

test('an issuer that does not answer delays nobody who has a known key for long', async () => {
  const { clock, source, has } = setUp(keySetOf(first))
  await has('ES256', 'k1')
  let answer: ((text: string) => void) | undefined
  source.text = new Promise<string>((resolve) => {
    answer = resolve
  })
  clock.ms += 11 * minute
  assert.equal(await has('ES256', 'k1'), true, 'after its patience it takes the last good key')
  assert.equal(await has('ES256', 'unknown'), false)
  assert.equal(source.asked, 2)
  answer?.(keySetOf(first))
})

test('without any keys nothing is known, and nobody is asked more than once in 30 s', async () => {
  const { clock, source, keys, has } = setUp(new Error('down'))
  for (let i = 0; i < 10; i += 1) await assert.rejects(has('ES256', 'k1'), unavailable)
  assert.equal(source.asked, 1)
  assert.equal(keys.generation(), undefined)
  clock.ms += 30_000
  source.text = keySetOf(first)
  assert.equal(await has('ES256', 'k1'), true)
})

test('a key file must be ours, closed to others and small', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'hardshell-keys-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'keys.json')
  const read = keysFromFile(path)
  await assert.rejects(read(), { code: 'FILE_MISSING' })
  writeFileSync(path, keySetOf(first), { mode: 0o600 })
  assert.equal(await read(), keySetOf(first))
  chmodSync(path, 0o666)
  await assert.rejects(read(), { code: 'FILE_MODE' })
  chmodSync(path, 0o600)
  writeFileSync(path, ' '.repeat(keySetBytesMax))
  assert.equal((await read()).length, keySetBytesMax)
  writeFileSync(path, ' '.repeat(keySetBytesMax + 1))
  await assert.rejects(read(), { code: 'FILE_LARGE' })
})
