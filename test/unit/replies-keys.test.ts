/** Keys of services: cached, renewed with restraint, and never taken from another place. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { KeySource } from '../../src/channels/channel.ts'
import { Failure } from '../../src/errors.ts'
import { KeyCache } from '../../src/senders/keys.ts'
import type { Incoming, Outgoing } from '../../src/senders/outgoing.ts'
import { recordingCall, TestClock } from '../support/people.ts'

const minute = 60_000
const jwks: KeySource = { url: 'https://keys.test/certs', form: 'jwks' }
const set = (...kids: readonly string[]) => ({
  body: JSON.stringify({ keys: kids.map((kid) => ({ kid, kty: 'RSA', n: 'x', e: 'AQAB' })) }),
})

function cacheWith(answer: (outgoing: Outgoing, nth: number) => Partial<Incoming> | 'no answer') {
  const clock = new TestClock()
  const { call, asked } = recordingCall(answer)
  return { cache: new KeyCache({ call, now: clock.now }), asked, clock }
}

const kidsOf = (keys: readonly { readonly kid: string }[] | undefined) =>
  keys?.map(({ kid }) => kid)

test('keys are fetched once an hour', async () => {
  const { cache, asked, clock } = cacheWith((_, nth) => set(`k${nth}`))
  for (let i = 0; i < 5; i += 1) assert.deepEqual(kidsOf(await cache.keys(jwks)), ['k1'])
  clock.pass(60 * minute - 1)
  await cache.keys(jwks)
  assert.equal(asked.length, 1)
  clock.pass(1)
  assert.deepEqual(kidsOf(await cache.keys(jwks)), ['k2'])
})

test('many requests at once are one fetch', async () => {
  const { cache, asked } = cacheWith(() => set('k'))
  await Promise.all(Array.from({ length: 20 }, () => cache.keys(jwks)))
  assert.equal(asked.length, 1)
})

test('an unknown key makes us ask again, at most once in five minutes', async () => {
  const { cache, asked, clock } = cacheWith((_, nth) => set(`k${nth}`))
  await cache.keys(jwks)
  assert.equal(await cache.renewed(jwks), undefined)
  clock.pass(5 * minute - 1)
  assert.equal(await cache.renewed(jwks), undefined)
  clock.pass(1)
  assert.deepEqual(kidsOf(await cache.renewed(jwks)), ['k2'])
  for (let i = 0; i < 20; i += 1) assert.equal(await cache.renewed(jwks), undefined)
  assert.equal(asked.length, 2)
})

test('old keys serve for a day while the service is away, and then nothing does', async () => {
  const { cache, clock } = cacheWith((_, nth) => (nth === 1 ? set('k') : 'no answer'))
  await cache.keys(jwks)
  clock.pass(24 * 60 * minute - 1)
  assert.deepEqual(kidsOf(await cache.keys(jwks)), ['k'])
  clock.pass(minute)
  await assert.rejects(cache.keys(jwks))
})

test('without keys nothing can be proven, and the next attempt waits', async () => {
  const { cache, asked, clock } = cacheWith((_, nth) => (nth === 1 ? { status: 500 } : set('k')))
  const unavailable = (thrown: unknown) =>
    thrown instanceof Failure && thrown.code === 'KEYS_UNAVAILABLE'
  await assert.rejects(cache.keys(jwks), unavailable)
  await assert.rejects(cache.keys(jwks), unavailable)
  assert.equal(asked.length, 1)
  clock.pass(10_000)
  assert.deepEqual(kidsOf(await cache.keys(jwks)), ['k'])
})

test('metadata leads to a key set of the same origin and to no other', async () => {
  const openid: KeySource = { url: 'https://login.test/v1/openid', form: 'openid' }
  const leadingTo = (uri: string) =>
    cacheWith(({ url }) =>
      url.endsWith('/openid') ? { body: JSON.stringify({ jwks_uri: uri }) } : set('k'),
    ).cache.keys(openid)
  assert.deepEqual(kidsOf(await leadingTo('https://login.test/v1/keys')), ['k'])
  for (const uri of ['https://evil.test/keys', 'http://login.test/keys', 'keys', '']) {
    await assert.rejects(leadingTo(uri), { code: 'KEYS_UNAVAILABLE' }, uri)
  }
})

test('certificates come by their ids, and what is no key is left out', async () => {
  const x509: KeySource = { url: 'https://keys.test/x509', form: 'x509' }
  const certificates = cacheWith(() => ({ body: '{"a":"PEM","b":7}' }))
  assert.deepEqual(await certificates.cache.keys(x509), [{ kid: 'a', x509: 'PEM' }])
  const broken = cacheWith(() => ({
    body: '{"keys":[{"kid":""},7,{"kid":"a","endorsements":["x",1]}]}',
  }))
  const [key, ...more] = await broken.cache.keys(jwks)
  assert.deepEqual([key?.kid, key?.endorsements, more.length], ['a', ['x'], 0])
})

test('an answer that is not JSON, or a redirect, is no key set', async () => {
  for (const answer of [{ body: '<html>' }, { status: 302 }, { body: '{"keys":[],"keys":[]}' }]) {
    await assert.rejects(cacheWith(() => answer).cache.keys(jwks), { code: 'KEYS_UNAVAILABLE' })
  }
})
