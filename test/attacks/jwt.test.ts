/** Every case of RFC 8725 that applies, against a real sidecar: CVE-2015-9235, CVE-2018-0114, CVE-2022-36083. */
import assert from 'node:assert/strict'
import { createHmac, generateKeyPairSync } from 'node:crypto'
import { after, before, test } from 'node:test'

import { sign as signWithJose } from '../support/issuer-jose.ts'
import {
  claimsAt,
  jws,
  keySetOf,
  makeKey,
  part,
  signatureOf,
  startIssuer,
  withKey,
  type Jwk,
  type TestIssuer,
  type TestKey,
} from '../support/issuer.ts'
import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

const algorithms = [
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'EdDSA',
]
const keys = new Map(algorithms.map((alg) => [alg, makeKey(alg, `${alg}-1`)]))
const keyOf = (alg: string): TestKey => {
  const key = keys.get(alg)
  assert.ok(key !== undefined)
  return key
}
const rsa = keyOf('RS256')
const ec = keyOf('ES256')
const stranger = makeKey('ES256', 'ES256-1')

let issuer: TestIssuer
let evil: TestIssuer
let side: TestSidecar
before(async () => {
  const secret = {
    kty: 'oct',
    k: part('a shared secret of thirty-two bytes'),
    kid: 'HS256-1',
    alg: 'HS256',
  }
  const published = JSON.parse(keySetOf(...keys.values())) as { keys: Jwk[] }
  issuer = await startIssuer(JSON.stringify({ keys: [...published.keys, secret] }))
  evil = await startIssuer(keySetOf(stranger))
  side = await startSidecar({
    config: {
      gateway: {
        auth: {
          mode: 'jwt',
          jwt: { issuer: 'https://id.example.com/', audience: 'hardshell', jwks: issuer.url },
        },
        dmPolicies: { allowlist: ['alice-1'] },
      },
      agent: { token: 'agent-own-credential' },
      security: { rateLimiting: { authFailures: { attempts: 1000 } } },
    },
  })
})
after(async () => {
  await side.stop()
  await issuer.stop()
  await evil.stop()
})

async function send(token: string) {
  const seen = side.agent.seen.length
  const answer = await exchange(
    side.port,
    [head('GET /x HTTP/1.1', 'Host: localhost', `Authorization: Bearer ${token}`)],
    { until: (text) => /\r\n\r\n.*[}\n]$/s.test(text) },
  )
  return { ...answer, reached: side.agent.seen.length - seen }
}

async function refused(token: string, what: string) {
  const { status, code, reached } = await send(token)
  assert.deepEqual(
    { status, code, reached },
    { status: 401, code: 'UNAUTHENTICATED', reached: 0 },
    what,
  )
}

/** The reason that the audit log has for the last refusal. */
const lastReason = () =>
  String(side.records().findLast(({ event }) => event === 'request.refused')?.['because'])

const claims = (more: Jwk = {}) => claimsAt(Date.now(), more)
const seconds = () => Math.floor(Date.now() / 1000)

test('a token of the issuer passes with every allowed algorithm and never reaches the agent', async () => {
  for (const alg of algorithms) {
    const token = jws(keyOf(alg), claims())
    const { status, reached } = await send(token)
    assert.equal(status, 200, alg)
    assert.equal(reached, 1)
    const seen = side.agent.seen.at(-1)
    assert.equal(seen?.headers.authorization, 'Bearer agent-own-credential')
    assert.ok(!JSON.stringify(seen?.rawHeaders).includes(token))
  }
  assert.equal(issuer.asked.length, 1, 'all that for one look at the keys')
})

test('a token that another library signs passes', async () => {
  for (const alg of algorithms) {
    const { status } = await send(await signWithJose(keyOf(alg), claims()))
    assert.equal(status, 200, alg)
  }
})

test('no algorithm is no signature (RFC 8725 §2.1, CVE-2015-9235)', async () => {
  for (const alg of [
    'none',
    'None',
    'NONE',
    'nOnE',
    '',
    ' ',
    'null',
    null,
    undefined,
    0,
    ['RS256'],
    { RS256: 1 },
  ]) {
    const unsigned = `${part({ alg, typ: 'JWT' })}.${part(claims())}`
    await refused(`${unsigned}.`, `alg ${JSON.stringify(alg)}`)
    await refused(`${unsigned}.AAAA`, `alg ${JSON.stringify(alg)}`)
    await refused(jws(ec, claims(), { alg }), `alg ${JSON.stringify(alg)}, signed`)
  }
  await refused(`${part({ typ: 'JWT' })}.${part(claims())}.`, 'no alg at all')
})

test('a public key never serves as a shared secret (RFC 8725 §2.1, §3.1)', async () => {
  const secrets = [
    rsa.publicKey.export({ type: 'spki', format: 'pem' }),
    rsa.publicKey.export({ type: 'spki', format: 'der' }),
    JSON.stringify(rsa.jwk),
    String(rsa.jwk['n']),
    'a shared secret of thirty-two bytes',
    '',
  ]
  for (const alg of ['HS256', 'HS384', 'HS512']) {
    for (const kid of ['RS256-1', 'HS256-1', undefined]) {
      for (const secret of secrets) {
        const data = `${part({ alg, kid, typ: 'JWT' })}.${part(claims())}`
        const mac = createHmac(`sha${alg.slice(2)}`, secret)
          .update(data)
          .digest('base64url')
        await refused(`${data}.${mac}`, `${alg} ${kid}`)
      }
    }
  }
})

test('a key is used for its own algorithm only (RFC 8725 §3.1)', async () => {
  for (const [alg, kid] of [
    ['RS512', 'RS256-1'],
    ['PS256', 'RS256-1'],
    ['RS256', 'ES256-1'],
    ['ES256', 'EdDSA-1'],
    ['ES384', 'ES256-1'],
  ] as const) {
    await refused(jws(keyOf(alg), claims(), { kid }), `${alg} with ${kid}`)
  }
  const other = withKey('RS512', 'RS256-1', rsa.privateKey, rsa.publicKey)
  await refused(jws(other, claims()), 'the right key with another algorithm')
})

test('a signature must be whole and over just these bytes (RFC 8725 §2.1, §3.3)', async () => {
  const token = jws(ec, claims())
  const [header = '', payload = '', signature = ''] = token.split('.')
  await refused(`${header}.${payload}.`, 'no signature')
  await refused(`${header}.${payload}`, 'two parts')
  await refused(`${header}.${payload}.${signature.slice(0, -2)}`, 'cut')
  await refused(`${header}.${payload}.${signature}AA`, 'longer')
  await refused(
    `${header}.${payload}.${Buffer.alloc(64).toString('base64url')}`,
    'zeros (CVE-2022-21449)',
  )
  await refused(`${header}.${part(claims({ sub: 'admin' }))}.${signature}`, 'other claims')
  await refused(`${part({ alg: 'ES256', kid: 'ES256-1' })}.${payload}.${signature}`, 'other header')
  await refused(jws(stranger, claims()), 'the key of a stranger under our kid')
  const der = Buffer.from(signatureOf(rsa, `${header}.${payload}`)).toString('base64url')
  await refused(`${header}.${payload}.${der}`, 'a signature of another kind')
  for (const tail of ['=', '==', '%3D', '+', '/', '.', '.e30', '\u00e9']) {
    const { status, reached } = await send(token + tail)
    assert.ok(status === 401 || status === 400, tail)
    assert.equal(reached, 0)
  }
})

test('keys and addresses inside a token are never used (RFC 8725 §3.10, CVE-2018-0114)', async () => {
  const chain = [Buffer.from('not a certificate').toString('base64')]
  for (const more of [
    { jwk: stranger.jwk },
    { jwk: stranger.jwk, kid: undefined },
    { jku: evil.url },
    { jku: evil.url, kid: 'ES256-1' },
    { jku: `${issuer.url}@${evil.url}` },
    { x5u: evil.url },
    { x5c: chain },
    { x5t: 'AAAA', 'x5t#S256': 'AAAA' },
    { jku: evil.url, jwk: stranger.jwk, x5u: evil.url, x5c: chain },
  ] as Jwk[]) {
    await refused(jws(stranger, claims(), more), JSON.stringify(Object.keys(more)))
    // What is not used does no harm to a good token either.
    if (!('kid' in more)) assert.equal((await send(jws(ec, claims(), more))).status, 200)
  }
  const iss = evil.url.replace('/keys', '')
  await refused(jws(stranger, claims({ iss })), 'an issuer of its own')
  assert.deepEqual(evil.asked, [])
})

test('a kid is a name and nothing else (RFC 8725 §3.10)', async () => {
  for (const kid of [
    '../../../../dev/null',
    '/etc/passwd',
    `${evil.url}`,
    "ES256-1' OR '1'='1",
    'ES256-1\u0000',
    'es256-1',
    ' ES256-1',
    '__proto__',
    'constructor',
    'x'.repeat(4000),
    7,
    null,
    true,
    ['ES256-1'],
    { toString: 'ES256-1' },
  ]) {
    await refused(jws(ec, claims(), { kid }), JSON.stringify(kid).slice(0, 40))
  }
  const empty = createHmac('sha256', '')
  const data = `${part({ alg: 'HS256', kid: '../../dev/null' })}.${part(claims())}`
  await refused(`${data}.${empty.update(data).digest('base64url')}`, 'the empty file as a secret')
  const asked = issuer.asked.length
  for (let i = 0; i < 50; i += 1)
    await refused(jws(ec, claims(), { kid: `made-up-${i}` }), 'made up')
  assert.ok(issuer.asked.length - asked <= 1, 'made-up names do not flood the issuer')
  assert.ok(
    issuer.asked.every((path) => path === '/keys'),
    'nothing of a token is in a URL',
  )
})

test('issuer and audience must be ours (RFC 8725 §3.8, §3.9)', async () => {
  for (const iss of [
    undefined,
    null,
    '',
    7,
    'https://id.example.com',
    'https://id.example.com/ ',
    'HTTPS://id.example.com/',
    'https://id.example.com.evil.example/',
    ['https://id.example.com/'],
    { $eq: 'https://id.example.com/' },
  ]) {
    await refused(jws(ec, claims({ iss })), `iss ${JSON.stringify(iss)}`)
  }
  for (const aud of [
    undefined,
    null,
    '',
    7,
    'other',
    'Hardshell',
    'hardshell ',
    [],
    ['other'],
    [['hardshell']],
    {},
    true,
  ]) {
    await refused(jws(ec, claims({ aud })), `aud ${JSON.stringify(aud)}`)
  }
  assert.equal((await send(jws(ec, claims({ aud: ['other', 'hardshell'] })))).status, 200)
})

test('times are required, judged, and forgiven half a minute (RFC 7519 §4.1)', async () => {
  for (const exp of [
    undefined,
    null,
    '',
    String(seconds() + 60),
    true,
    [],
    -1,
    0,
    seconds() - 31,
    seconds() - 86_400,
  ]) {
    await refused(jws(ec, claims({ exp })), `exp ${JSON.stringify(exp)}`)
  }
  for (const nbf of [null, 'now', String(seconds()), seconds() + 60, seconds() + 86_400]) {
    await refused(jws(ec, claims({ nbf })), `nbf ${JSON.stringify(nbf)}`)
  }
  assert.equal((await send(jws(ec, claims({ exp: seconds() - 15 })))).status, 200)
  assert.equal((await send(jws(ec, claims({ nbf: seconds() + 15 })))).status, 200)
})

test('tokens that are made for something else are refused (RFC 8725 §2.8, §3.11, §3.12)', async () => {
  for (const typ of [
    'logout+jwt',
    'secevent+jwt',
    'dpop+jwt',
    'kb+jwt',
    'oauth-authz-req+jwt',
    'JOSE',
    '',
    7,
    null,
    ['JWT'],
  ]) {
    await refused(jws(ec, claims(), { typ }), `typ ${JSON.stringify(typ)}`)
  }
  for (const typ of ['JWT', 'jwt', 'at+jwt', 'application/at+jwt', undefined]) {
    assert.equal((await send(jws(ec, claims({ jti: typ }), { typ }))).status, 200, typ)
  }
  const logout = { 'http://schemas.openid.net/event/backchannel-logout': {} }
  await refused(jws(ec, claims({ events: logout })), 'a logout token')
  await refused(jws(ec, claims({ cnf: { jkt: 'AAAA' } })), 'a token that is bound to a key')
})

test('an encrypted token is refused before anything is decrypted (CVE-2022-36083, CVE-2024-28176)', async () => {
  for (const header of [
    { alg: 'RSA-OAEP', enc: 'A256GCM' },
    { alg: 'dir', enc: 'A128CBC-HS256', zip: 'DEF' },
    { alg: 'PBES2-HS256+A128KW', enc: 'A128GCM', p2s: 'AAAA', p2c: 2_000_000_000 },
  ]) {
    const started = performance.now()
    await refused(`${part(header)}.AAAA.AAAA.AAAA.AAAA`, header.alg)
    assert.ok(performance.now() - started < 2000)
    await refused(`${part(header)}.${part(claims())}.AAAA`, `${header.alg} in three parts`)
  }
})

test('a header that needs what we do not know is refused (RFC 7515 §4.1.11)', async () => {
  for (const crit of [
    ['exp'],
    ['b64'],
    ['http://example.com/x'],
    [],
    'exp',
    [''],
    ['alg'],
    null,
    {},
  ]) {
    await refused(
      jws(ec, claims(), { crit, 'http://example.com/x': 1, exp: 1 }),
      JSON.stringify(crit),
    )
  }
  const plain = `${part({ alg: 'ES256', kid: 'ES256-1', b64: false, crit: ['b64'] })}.${part(claims())}`
  await refused(`${plain}.${signatureOf(ec, plain).toString('base64url')}`, 'an unencoded payload')
  await refused(jws(ec, claims(), { b64: true, crit: ['b64'] }), 'an encoded one that says so')
})

test('a name that stands twice is refused, whichever of the two is the good one (RFC 7519 §4)', async () => {
  const good = JSON.stringify(claims())
  for (const doubled of [
    good.replace('{', '{"sub":"admin",'),
    good.replace(/}$/, ',"sub":"alice-1"}'),
    good.replace(/}$/, ',"s\\u0075b":"alice-1"}'),
    good.replace(/}$/, ',"a":{"b":1,"b":1}}'),
    good.replace(/}$/, ',"a":[{"b":1,"b":1}]}'),
    good.replace('{', '{"__proto__":1,"__proto__":1,'),
  ]) {
    await refused(jws(ec, doubled), doubled.slice(-40))
  }
  const header = '{"alg":"none","alg":"ES256","kid":"ES256-1"}'
  await refused(jws(ec, claims(), header), 'alg twice')
  await refused(jws(ec, claims(), '{"alg":"ES256","alg":"none","kid":"ES256-1"}'), 'alg twice')
  const fine = good.replace(/}$/, ',"a":{"sub":1},"text":"\\"sub\\": \\"x\\" {\\\\"}')
  assert.equal((await send(jws(ec, fine))).status, 200, 'the same name at two places is fine')
})

test('what is not JSON in UTF-8 is refused (RFC 8725 §3.7)', async () => {
  const raw = (bytes: Buffer) => {
    const data = `${part({ alg: 'ES256', kid: 'ES256-1' })}.${bytes.toString('base64url')}`
    return `${data}.${signatureOf(ec, data).toString('base64url')}`
  }
  const good = JSON.stringify(claims({ name: '§' }))
  assert.equal((await send(raw(Buffer.from(good)))).status, 200)
  await refused(raw(Buffer.from(good, 'latin1')), 'Latin-1')
  await refused(raw(Buffer.from(good, 'utf16le')), 'UTF-16')
  await refused(raw(Buffer.from(`\uFEFF${good}`)), 'a byte order mark')
  for (const text of ['', 'null', '[]', '"x"', '7', `${good}x`, good.slice(0, -1), `{'sub':'x'}`]) {
    await refused(raw(Buffer.from(text)), text.slice(0, 20))
  }
})

test('a token larger than any is refused, and so is one that fills the head', async () => {
  await refused(jws(ec, claims({ pad: 'x'.repeat(9000) })), '12 KB')
  const { status, reached } = await send('a'.repeat(17_000))
  assert.equal(status, 431)
  assert.equal(reached, 0)
})

test('a key that is too weak proves nothing (RFC 8725 §3.5)', async () => {
  const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 1024 })
  const weak = withKey('RS256', 'weak', privateKey, publicKey)
  const own = await startIssuer(keySetOf(weak))
  const other = await startSidecar({
    config: {
      gateway: {
        auth: {
          mode: 'jwt',
          jwt: { issuer: 'https://id.example.com/', audience: 'hardshell', jwks: own.url },
        },
        dmPolicies: { allowlist: ['alice-1'] },
      },
    },
  })
  const answer = await fetch(`${other.url}/x`, {
    headers: { Authorization: `Bearer ${jws(weak, claims())}` },
  })
  assert.equal(answer.status, 401)
  assert.equal(other.agent.seen.length, 0)
  await other.stop()
  await own.stop()
})

test('all refusals look alike, and neither answer nor log has the token', async () => {
  const bodies = new Set<string>()
  const tokens = [
    jws(ec, claims({ exp: seconds() - 100 })),
    jws(stranger, claims()),
    jws(ec, claims({ aud: 'other' })),
    `${part({ alg: 'none' })}.${part(claims())}.`,
  ]
  for (const token of tokens) {
    const { text } = await send(token)
    bodies.add(text.replace(/"requestId":"[^"]+"|X-Request-Id: \S+|Date: [^\r]+/g, ''))
  }
  assert.equal(bodies.size, 1)
  const written = JSON.stringify(side.records()) + JSON.stringify(side.logged)
  for (const token of tokens) {
    for (const piece of token.split('.').slice(1)) {
      if (piece !== '') assert.ok(!written.includes(piece))
    }
  }
  await refused(jws(ec, claims({ exp: seconds() - 100 })), 'expired')
  assert.equal(lastReason(), 'JWT: it has expired')
})

test('somebody else whom the issuer knows is told that they are not allowed', async () => {
  const { status, code, reached } = await send(jws(ec, claims({ sub: 'mallory-9' })))
  assert.deepEqual(
    { status, code, reached },
    { status: 403, code: 'IDENTITY_NOT_ALLOWED', reached: 0 },
  )
  assert.equal(lastReason(), 'mallory-9 is on no list')
})
