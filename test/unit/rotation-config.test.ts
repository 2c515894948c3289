import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codesOf, goodToken, load } from '../support/config-load.ts'

const env = { HARDSHELL_TOKEN: goodToken }
const withAuth = (auth: object) => JSON.stringify({ gateway: { auth } })

test('the age and the grace of tokens have bounds, and both sides of them hold', () => {
  for (const auth of [
    { tokenRotation: '1h' },
    { tokenRotation: '366d' },
    { rotationGrace: '1s' },
    { rotationGrace: '30d' },
    { tokenRotation: '1h', rotationGrace: '1h' },
  ]) {
    assert.doesNotThrow(() => load(withAuth(auth), env), JSON.stringify(auth))
  }
  for (const [auth, path] of [
    [{ tokenRotation: '59m' }, 'tokenRotation'],
    [{ tokenRotation: '367d' }, 'tokenRotation'],
    [{ rotationGrace: '999ms' }, 'rotationGrace'],
    [{ tokenRotation: '60d', rotationGrace: '31d' }, 'rotationGrace'],
  ] as const) {
    assert.deepEqual(codesOf(withAuth(auth), env), [`gateway.auth.${path} BOUNDS`])
  }
})

test('a grace that is longer than the age is refused', () => {
  const auth = { tokenRotation: '1h', rotationGrace: '61m' }
  assert.deepEqual(codesOf(withAuth(auth), env), ['gateway.auth.rotationGrace BOUNDS'])
})

test('without a word tokens live for 30 days, and the grace follows from that', () => {
  const { tokenRotation, rotationGrace } = load('{}', env).config.gateway.auth
  assert.deepEqual([tokenRotation, rotationGrace], [30 * 86_400_000, undefined])
})
