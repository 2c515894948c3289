import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codesOf, load, nested, problemsOf } from '../support/config-load.ts'

const jwt = {
  issuer: 'https://id.example.com/',
  audience: 'hardshell',
  jwks: 'https://id.example.com/keys',
}
const inMode = (mode: string, keys: object) => ({ gateway: { auth: { mode, jwt: keys } } })

test('mode "jwt" names every key that it lacks, one line each', () => {
  assert.deepEqual(codesOf({ gateway: { auth: { mode: 'jwt' } } }), [
    'gateway.auth.jwt.audience KEY_NEEDED',
    'gateway.auth.jwt.issuer KEY_NEEDED',
    'gateway.auth.jwt.jwks KEY_NEEDED',
  ])
  for (const key of ['issuer', 'audience', 'jwks'] as const) {
    const { [key]: _, ...others } = jwt
    assert.deepEqual(codesOf(inMode('jwt', others)), [`gateway.auth.jwt.${key} KEY_NEEDED`])
    for (const { remedy } of problemsOf(inMode('jwt', others))) assert.match(remedy, /^Set it to /)
  }
  assert.equal(load(inMode('jwt', jwt)).config.gateway.auth.jwt.identityClaim, 'sub')
})

test('mode "jwt" needs no token, and judges one that is given', () => {
  assert.equal(load(inMode('jwt', jwt), {}).config.gateway.auth.token, undefined)
  assert.deepEqual(codesOf(inMode('jwt', jwt), { HARDSHELL_TOKEN: 'short' }), [
    'gateway.auth.token TOKEN_SHORT',
  ])
})

test('keys of a JWT issuer in another mode are told to have no effect', () => {
  assert.deepEqual(codesOf(inMode('token', { ...jwt, groupsClaim: 'roles' })), [
    'gateway.auth.jwt.audience EXCLUSIVE',
    'gateway.auth.jwt.groupsClaim EXCLUSIVE',
    'gateway.auth.jwt.issuer EXCLUSIVE',
    'gateway.auth.jwt.jwks EXCLUSIVE',
  ])
  assert.doesNotThrow(() => load(inMode('token', { identityClaim: 'sub', groupsClaim: 'groups' })))
})

test('keys come over https, from this machine, or from a file', () => {
  for (const jwks of [
    'https://id.example.com/keys',
    'https://id.example.com:8443/keys?tenant=a',
    'http://127.0.0.1:9000/keys',
    'http://localhost/keys',
    'http://[::1]:9000/keys',
    'keys.json',
    '/etc/hardshell/keys.json',
    '../keys.json',
  ]) {
    assert.equal(load(inMode('jwt', { ...jwt, jwks })).config.gateway.auth.jwt.jwks, jwks)
  }
  for (const jwks of [
    'http://id.example.com/keys',
    'http://127.0.0.1.evil.example/keys',
    'http://localhost.evil.example/keys',
    'http://127.0.0.1@evil.example/keys',
    'https://user:secret@id.example.com/keys',
    'https://id.example.com/keys#1',
    'file:///etc/keys.json',
    'ftp://id.example.com/keys',
    'data:application/json,{}',
    'https://',
  ]) {
    assert.deepEqual(codesOf(inMode('jwt', { ...jwt, jwks })), ['gateway.auth.jwt.jwks ADDRESS'])
  }
})

test('hops are addresses and networks, in one spelling, and never everybody', () => {
  const hops = (...list: unknown[]) => nested('gateway.trustedProxies', list)
  assert.deepEqual(
    load(hops('127.0.0.1', '10.1.2.3/8', '::FFFF:127.0.0.1', 'FD00::1')).config.gateway
      .trustedProxies,
    ['127.0.0.1/32', '10.0.0.0/8', 'fd00::1/128'],
  )
  for (const wrong of [
    '0.0.0.0/0',
    '::/0',
    '::ffff:0:0/96',
    'localhost',
    '10.0.0',
    '10.0.0.0/33',
    '',
    7,
    '*',
  ]) {
    assert.deepEqual(codesOf(hops('127.0.0.1', wrong)), ['gateway.trustedProxies[1] ADDRESS'])
  }
})

test('Tailscale logins need the hop that names them', () => {
  const tailscale = { enabled: true }
  assert.deepEqual(codesOf({ gateway: { auth: { tailscale } } }), [
    'gateway.trustedProxies KEY_NEEDED',
  ])
  assert.doesNotThrow(() =>
    load({ gateway: { trustedProxies: ['127.0.0.1'], auth: { tailscale } } }),
  )
  assert.deepEqual(codesOf(nested('gateway.auth.tailscale.socket', '/run/other.sock')), [
    'gateway.auth.tailscale.socket EXCLUSIVE',
  ])
})

test('it is told when nobody can come in, and when the internet can', () => {
  const told = (gateway: object) =>
    load({ gateway })
      .notices.filter(({ level }) => level === 'WARNING')
      .map(({ code }) => code)
  const auth = { mode: 'jwt', jwt }
  assert.deepEqual(told({ auth }), ['NOBODY_LISTED'])
  assert.deepEqual(told({ auth, dmPolicies: { allowlist: ['a@example.com'] } }), [])
  assert.deepEqual(told({ auth, groupPolicies: { allowedGroups: ['staff'] } }), [])
  assert.deepEqual(told({ auth, dmPolicies: { enabled: false, allowlist: ['a@example.com'] } }), [
    'NOBODY_LISTED',
  ])
  const tailscale = { enabled: true, allowFunnel: true }
  const groups = { groupPolicies: { allowedGroups: ['staff'] } }
  assert.deepEqual(told({ trustedProxies: ['10.0.0.1'], auth: { tailscale }, ...groups }), [
    'NOBODY_LISTED',
    'FUNNEL_ALLOWED',
  ])
})

test('it is told when an agent outside of a sandbox could claim a login', () => {
  const told = (hop: string, more: object = {}) =>
    load({
      gateway: {
        trustedProxies: [hop],
        auth: { tailscale: { enabled: true } },
        dmPolicies: { allowlist: ['a@example.com'] },
      },
      ...more,
    }).notices.filter(({ code }) => code === 'LOGINS_FROM_LOOPBACK').length
  assert.equal(told('127.0.0.1'), 1)
  assert.equal(told('127.0.0.0/8'), 1)
  assert.equal(told('172.30.77.1'), 0)
  assert.equal(told('127.0.0.1', { agent: { image: 'bot:1' } }), 0)
})
