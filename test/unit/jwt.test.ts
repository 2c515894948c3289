import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Facts } from '../../src/gates/gate.ts'
import { keySet, urlTimes } from '../../src/identity/jwks.ts'
import { jwtBytesMax, jwtProver } from '../../src/identity/jwt.ts'
import type { Proof, Prover } from '../../src/identity/proof.ts'
import { admitListed, type Lists } from '../../src/identity/vouched.ts'
import { facts } from '../support/identity-facts.ts'
import { claimsAt, jws, keySetOf, makeKey, signatureOf, part, type Jwk } from '../support/issuer.ts'

const key = makeKey('ES256', 'k1')
const other = makeKey('ES256', 'k2')
const now = 1_800_000_000_000
const issuer = 'https://id.example.com/'

const everybody: Lists = { people: ['alice-1', 'bob-2'], groups: ['staff'] }

function setUp(lists: Lists = everybody, settings: Partial<Record<string, string>> = {}) {
  const clock = { ms: now }
  const source = { text: keySetOf(key), asked: 0 }
  const expired: string[] = []
  const otherwise: Prover = {
    name: 'token',
    prove: () => ({ kind: 'wrong', because: 'asked the tokens', guess: true }),
  }
  const keys = keySet({
    text: () => {
      source.asked += 1
      return Promise.resolve(source.text)
    },
    times: urlTimes,
    now: () => clock.ms,
    onTrouble: () => undefined,
  })
  const prover = jwtProver({
    settings: {
      issuer,
      audience: 'hardshell',
      identityClaim: 'sub',
      groupsClaim: 'groups',
      ...settings,
    },
    keys,
    admit: admitListed(lists),
    otherwise,
    now: () => clock.ms,
    onExpired: (identityId) => expired.push(identityId),
  })
  const ask = (token: string, change: Partial<Facts> = {}) =>
    prover.prove(facts({ authorization: `Bearer ${token}`, time: clock.ms, ...change }))
  const said = async (token: string) => {
    const proof = await ask(token)
    return proof.kind === 'valid' ? proof.identity.name : proof.kind
  }
  return { clock, source, expired, prover, ask, said }
}

const because = (proof: Proof) => ('because' in proof ? proof.because : proof.kind)
const good = (more: Jwk = {}) => jws(key, claimsAt(now, more))

test('a good token proves its subject, who may chat', async () => {
  const { ask } = setUp()
  const proof = await ask(good({ groups: ['staff', 'ops'] }))
  assert.deepEqual(proof, {
    kind: 'valid',
    identity: {
      id: `jwt:${hash('sha256', issuer).slice(0, 12)}:alice-1`,
      name: 'alice-1',
      scopes: ['chat'],
      paths: [],
      groups: ['staff', 'ops'],
    },
  })
})

test('what is no JWT is left to the tokens, and no credential is none', () => {
  const { prover, ask } = setUp()
  assert.deepEqual(prover.prove(facts()), { kind: 'none' })
  for (const value of ['hsk_abc_def', 'a', 'a.b', 'a.b.c.d', 'a.b.c.d.e.f']) {
    const proof = ask(value)
    assert.ok(!(proof instanceof Promise))
    assert.equal(because(proof), 'asked the tokens', value)
  }
  for (const authorization of ['Basic a.b.c', 'Bearer', 'Bearer a.b.c d', 'DPoP a.b.c']) {
    const proof = prover.prove(facts({ authorization }))
    assert.ok(!(proof instanceof Promise))
    assert.equal(because(proof), 'asked the tokens', authorization)
  }
})

test('times are judged with 30 seconds of forgiveness on both sides', async () => {
  const { said } = setUp()
  const seconds = now / 1000
  const cases: [Jwk, string][] = [
    [{ exp: seconds - 29 }, 'alice-1'],
    [{ exp: seconds - 30 }, 'wrong'],
    [{ nbf: seconds + 30 }, 'alice-1'],
    [{ nbf: seconds + 31 }, 'wrong'],
  ]
  for (const [change, expected] of cases) {
    assert.equal(await said(good(change)), expected, JSON.stringify(change))
  }
})

test('a verified token is answered at once, until it expires', async () => {
  const { clock, ask, prover } = setUp()
  const token = good({ exp: now / 1000 + 60 })
  const first = ask(token)
  assert.ok(first instanceof Promise)
  await first
  const known = ask(token)
  assert.ok(!(known instanceof Promise), 'the second time costs no signature')
  assert.equal(known.kind, 'valid')
  assert.equal(prover.size(), 1)
  clock.ms += 60_000 + 29_999
  assert.ok(!(ask(token) instanceof Promise))
  clock.ms += 1
  assert.equal((await ask(token)).kind, 'wrong')
  assert.equal(prover.size(), 0)
})

test('a token that is wrong is never remembered', async () => {
  const { ask, prover } = setUp()
  const token = `${good().slice(0, -4)}AAAA`
  for (let i = 0; i < 3; i += 1) assert.equal((await ask(token)).kind, 'wrong')
  assert.equal(prover.size(), 0)
})

test('when the issuer withdraws a key its tokens are judged anew', async () => {
  const { clock, source, ask } = setUp()
  const token = good()
  await ask(token)
  source.text = keySetOf(other)
  clock.ms += 10 * 60_000 + 1
  assert.equal((ask(token) as Proof).kind, 'valid', 'the renewal has only begun')
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal((await ask(token)).kind, 'wrong')
})

test('a thousand verified tokens are remembered, the least recently used are forgotten', async () => {
  const { ask, prover } = setUp()
  const tokens = Array.from({ length: 1001 }, (_, i) => good({ jti: String(i) }))
  const [first = '', second = ''] = tokens
  for (const token of tokens.slice(0, 1000)) await ask(token)
  assert.ok(!(ask(first) instanceof Promise))
  await ask(tokens[1000] ?? '')
  assert.equal(prover.size(), 1000)
  assert.ok(!(ask(first) instanceof Promise))
  assert.ok(ask(second) instanceof Promise)
})

test('an identity is good until the last of its tokens has expired, and then what it has open ends', async () => {
  const { clock, expired, ask, prover } = setUp()
  const seconds = now / 1000
  await ask(good({ exp: seconds + 60 }))
  const proof = await ask(good({ exp: seconds + 120 }))
  const id = proof.kind === 'valid' ? proof.identity.id : ''
  await ask(good({ exp: seconds + 90 }))
  clock.ms += 149_999
  prover.tick()
  assert.equal(prover.isGood(id), true)
  assert.deepEqual(expired, [])
  clock.ms += 1
  assert.equal(prover.isGood(id), false)
  prover.tick()
  prover.tick()
  assert.deepEqual(expired, [id])
})

test('who is on no list is known and not let in', async () => {
  const { ask } = setUp({ people: ['bob-2'], groups: ['staff'] })
  const proof = await ask(good())
  assert.ok(proof.kind === 'unlisted')
  assert.equal(proof.because, 'alice-1 is on no list')
  assert.match(proof.identity.id, /^jwt:[0-9a-f]{12}:alice-1$/)
  assert.equal((await ask(good({ groups: ['staff'] }))).kind, 'valid')
  assert.equal((await ask(good({ groups: 'staff' }))).kind, 'valid')
  assert.equal((await ask(good({ groups: ['Staff', 'staff ', 'sta'] }))).kind, 'unlisted')
  assert.equal((await ask(good({ groups: { staff: true } }))).kind, 'unlisted')
})

test('a policy that is not enabled lets nobody in', async () => {
  assert.equal((await setUp({ people: undefined, groups: undefined }).ask(good())).kind, 'unlisted')
  const people = setUp({ people: undefined, groups: ['staff'] })
  assert.equal((await people.ask(good())).kind, 'unlisted')
  assert.equal((await people.ask(good({ groups: ['staff'] }))).kind, 'valid')
  assert.equal((await setUp({ people: [], groups: [] }).ask(good())).kind, 'unlisted')
})

test('an e-mail address counts when the issuer has verified it, in any case of its domain', async () => {
  const { ask } = setUp({ people: ['Alice@Example.COM'], groups: [] })
  const mail = async (email: unknown, verified: unknown) =>
    (await ask(good({ email, email_verified: verified }))).kind
  assert.equal(await mail('Alice@example.com', true), 'valid')
  assert.equal(await mail('Alice@EXAMPLE.com', true), 'valid')
  assert.equal(await mail('alice@example.com', true), 'unlisted')
  assert.equal(await mail('Alice@example.com', false), 'unlisted')
  assert.equal(await mail('Alice@example.com', 'true'), 'unlisted')
  assert.equal(await mail('Alice@example.com', undefined), 'unlisted')
  assert.equal(await mail(['Alice@example.com'], true), 'unlisted')
  assert.equal(await mail('Alice@example.com.evil.example', true), 'unlisted')
  // U+212A is lower-cased to "k" by Unicode: another domain all the same.
  const { ask: askKelvin } = setUp({ people: ['a@kelvin.example'], groups: [] })
  const kelvin = good({ email: 'a@\u212Aelvin.example', email_verified: true })
  assert.equal((await askKelvin(kelvin)).kind, 'unlisted')
})

test('the e-mail address is in the identity only when it is verified', async () => {
  const { ask } = setUp()
  const email = 'alice@example.com'
  const identity = async (more: Jwk) => {
    const proof = await ask(good(more))
    return proof.kind === 'valid' ? proof.identity : undefined
  }
  assert.equal((await identity({ email, email_verified: true }))?.email, email)
  assert.equal((await identity({ email, email_verified: false }))?.email, undefined)
  assert.equal((await identity({ email }))?.email, undefined)
})

test('another claim can name the identity; its id is always the subject', async () => {
  const { ask } = setUp({ people: ['alice'], groups: [] }, { identityClaim: 'preferred_username' })
  const proof = await ask(good({ preferred_username: 'alice' }))
  assert.equal(proof.kind, 'valid')
  if (proof.kind === 'valid') assert.match(proof.identity.id, /:alice-1$/)
  assert.match(because(await ask(good())), /preferred_username is missing/)
})

test('as the name of an identity an e-mail address must be verified', async () => {
  const { ask } = setUp({ people: ['alice-1'], groups: [] }, { identityClaim: 'email' })
  const email = 'alice@example.com'
  assert.equal((await ask(good({ email, email_verified: true }))).kind, 'valid')
  assert.equal((await ask(good({ email, email_verified: false }))).kind, 'wrong')
})

test('a subject that is no name is refused', async () => {
  const { said } = setUp()
  for (const sub of [
    undefined,
    '',
    7,
    null,
    ['alice-1'],
    ' alice-1',
    'alice-1\n',
    'a\u202Eb',
    'x'.repeat(256),
  ]) {
    assert.equal(await said(good({ sub })), 'wrong', JSON.stringify(sub))
  }
})

test('claims of a prototype are not claims', async () => {
  const { ask } = setUp(everybody, { groupsClaim: '__proto__', identityClaim: 'constructor' })
  assert.match(because(await ask(good())), /constructor is missing/)
})

test('the longest token has 8 KiB', async () => {
  const { ask } = setUp()
  const bare = good({ pad: '' }).length
  // Every three characters of padding are four of the token.
  const fits = good({ pad: 'x'.repeat(Math.floor(((jwtBytesMax - bare) * 3) / 4) - 2) })
  assert.ok(fits.length <= jwtBytesMax && fits.length > jwtBytesMax - 8)
  assert.equal((await ask(fits)).kind, 'valid')
  const over = good({ pad: 'x'.repeat(Math.floor(((jwtBytesMax - bare) * 3) / 4) + 8) })
  assert.ok(over.length > jwtBytesMax)
  assert.match(because(await ask(over)), /too long/)
})

test('a token nested as deep as it can be is just not good', async () => {
  const { ask } = setUp()
  const deep = `{"a":${'['.repeat(2900)}${']'.repeat(2900)}}`
  const proof = await ask(`${part({ alg: 'ES256', kid: 'k1' })}.${part(deep)}.AAAA`)
  assert.equal(proof.kind, 'wrong')
})

test('a token of ours with dots in it is no JWT', async () => {
  const { ask } = setUp()
  for (const token of [
    'a.b.c',
    'I7f.x2K.92',
    `${part('[]')}.b.c`,
    `${part('{"a":1,"a":1}')}.b.c`,
  ]) {
    assert.equal(because(await ask(token)), 'asked the tokens', token)
  }
  assert.match(because(await ask(`${part('{}')}.b.c`)), /^JWT: /)
})

test('no reason repeats what the client wrote', async () => {
  const { ask } = setUp()
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 8, maxLength: 30 }), async (text) => {
      const marked = `<<${text}>>`
      const tokens = [
        jws(key, claimsAt(now), { alg: marked }),
        jws(key, claimsAt(now), { kid: marked }),
        jws(key, claimsAt(now), { typ: marked }),
        jws(key, claimsAt(now), { crit: [marked] }),
        jws(key, claimsAt(now, { iss: marked })),
        jws(key, claimsAt(now, { aud: marked })),
        jws(key, claimsAt(now, { exp: marked })),
        `${part(marked)}.${part(marked)}.${part(marked)}`,
      ]
      for (const token of tokens) {
        const proof = await ask(token)
        assert.equal(proof.kind, 'wrong')
        assert.ok(!because(proof).includes(text))
      }
    }),
    { numRuns: 30 },
  )
})

test('whatever three parts are sent, only a signature of the issuer proves anything', async () => {
  const { ask } = setUp()
  const claims = part(claimsAt(now))
  const head = part({ alg: 'ES256', kid: 'k1' })
  const signature = signatureOf(key, `${head}.${claims}`).toString('base64url')
  assert.equal((await ask(`${head}.${claims}.${signature}`)).kind, 'valid')
  const piece = fc.oneof(
    fc.constantFrom(head, claims, signature, ''),
    fc.string({ unit: fc.constantFrom(...'ABCDEFabcdef019-_'), maxLength: 60 }),
    fc.json().map(part),
  )
  await fc.assert(
    fc.asyncProperty(piece, piece, piece, async (a, b, c) => {
      fc.pre(a !== head || b !== claims || c !== signature)
      assert.equal((await ask(`${a}.${b}.${c}`)).kind, 'wrong')
    }),
    { numRuns: 500 },
  )
})
