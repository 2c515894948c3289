import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { nobody, type Decision, type Facts, type Identity } from '../../src/gates/gate.ts'
import { identityGate } from '../../src/gates/identity.ts'
import { bearerProver } from '../../src/identity/bearer.ts'
import { Lockout, lockoutDefaults } from '../../src/identity/lockout.ts'
import { identifier, noProof, type Proof, type Prover } from '../../src/identity/proof.ts'
import { facts } from '../support/identity-facts.ts'

const owner: Identity = { id: 'token:a', name: 'a', scopes: ['operate'], paths: [] }
const good = 'Xq7+Good/token=='
const tokens = {
  lookUp: (value: string): Proof =>
    value === good
      ? { kind: 'valid', identity: owner }
      : { kind: 'wrong', because: 'unknown token', guess: true },
}

function setUp(more: readonly Prover[] = []) {
  const clock = { ms: 1000 }
  const locked: string[] = []
  const lockout = new Lockout(
    lockoutDefaults,
    () => clock.ms,
    (key) => locked.push(key),
  )
  const gate = identityGate({ identifier: identifier([bearerProver(tokens), ...more]), lockout })
  const ask = (changes: Partial<Facts>) => gate.decide(facts(changes), nobody)
  return { clock, locked, lockout, ask }
}

const code = (decision: Decision | Promise<Decision>) => {
  assert.ok(!(decision instanceof Promise), 'the hot path makes no promise')
  return decision.allow ? `allow ${decision.identity?.id}` : decision.code
}

test('a good token proves its identity, whatever the case of the scheme', () => {
  const { ask } = setUp()
  for (const scheme of ['Bearer', 'bearer', 'BEARER', 'bEaReR']) {
    assert.equal(code(ask({ authorization: `${scheme} ${good}` })), 'allow token:a')
  }
})

test('the bytes of a token are compared exactly', () => {
  const { ask } = setUp()
  for (const value of [good.toLowerCase(), good.toUpperCase(), `${good}=`, good.slice(0, -1)]) {
    assert.equal(code(ask({ authorization: `Bearer ${value}`, peer: value })), 'UNAUTHENTICATED')
  }
})

test('anything but the word Bearer and one value is refused', () => {
  const { ask } = setUp()
  for (const authorization of [
    good,
    `Basic ${good}`,
    'Bearer',
    'Bearer ',
    `Bearer${good}`,
    `Bearer ${good} ${good}`,
    `Bearer ${good}, Bearer ${good}`,
    `Bearer ${good},${good}`,
    `Bearer\t${good}`,
    ` Bearer ${good}`,
    `Bearer ${good} `,
    `Bearer ${good}\u0000`,
    `Bearer "${good}"`,
    `Bearer: ${good}`,
    `token ${good}`,
  ]) {
    const decision = ask({ authorization, peer: authorization })
    assert.equal(code(decision), 'UNAUTHENTICATED', authorization)
  }
})

test('no text but the token itself ever passes', () => {
  const { ask } = setUp()
  fc.assert(
    fc.property(fc.string({ maxLength: 40 }), fc.string({ maxLength: 10 }), (before, after) => {
      const authorization = `${before}${good}${after}`
      fc.pre(!/^bearer +$/i.test(before) || after !== '')
      assert.notEqual(code(ask({ authorization })), 'allow token:a')
    }),
  )
})

test('all authentication refusals look alike', () => {
  const { ask } = setUp()
  const refusals = [
    ask({}),
    ask({ authorization: 'Bearer wrong' }),
    ask({ authorization: 'Basic d3Jvbmc=' }),
    ask({ authorization: `Bearer ${good}`, credentialInUrl: true }),
  ]
  for (const refusal of refusals) {
    assert.equal(code(refusal), 'UNAUTHENTICATED')
    assert.ok(!(refusal instanceof Promise))
    assert.deepEqual(refusal.headers, ['WWW-Authenticate', 'Bearer realm="hardshell"'])
  }
})

test('five wrong tokens lock an address, and only presented ones count', () => {
  const { ask, clock, locked } = setUp()
  for (let count = 0; count < 50; count += 1) {
    assert.equal(code(ask({})), 'UNAUTHENTICATED')
    assert.equal(code(ask({ credentialInUrl: true })), 'UNAUTHENTICATED')
  }
  for (let count = 0; count < 5; count += 1) {
    assert.equal(code(ask({ authorization: 'Bearer wrong' })), 'UNAUTHENTICATED')
  }
  assert.deepEqual(locked, ['192.0.2.7'])
  clock.ms += 1500
  const refusal = ask({ authorization: 'Bearer wrong' })
  assert.equal(code(refusal), 'AUTH_LOCKED')
  assert.ok(!(refusal instanceof Promise))
  assert.deepEqual(refusal.headers, ['Retry-After', '299'])
  assert.equal(locked.length, 1, 'the lockout is reported once')
})

test('a locked address that presents nothing gets 401, and one that presents a good token gets in', () => {
  const { ask } = setUp()
  for (let count = 0; count < 6; count += 1) void ask({ authorization: 'Bearer wrong' })
  assert.equal(code(ask({ authorization: 'Bearer wrong' })), 'AUTH_LOCKED')
  assert.equal(code(ask({})), 'UNAUTHENTICATED')
  assert.equal(code(ask({ authorization: `Bearer ${good}` })), 'allow token:a')
})

test('other addresses stay free, and one IPv6 /64 is one address', () => {
  const { ask } = setUp()
  const wrong = (peer: string) => code(ask({ authorization: 'Bearer wrong', peer }))
  for (let count = 0; count < 5; count += 1) wrong(`2001:db8:0:1::${count}`)
  assert.equal(wrong('2001:db8:0:1:8000::1'), 'AUTH_LOCKED')
  assert.equal(wrong('2001:db8:0:2::1'), 'UNAUTHENTICATED')
  assert.equal(wrong('192.0.2.8'), 'UNAUTHENTICATED')
})

test('two different credentials are refused even when both are good', async () => {
  const session: Prover = {
    name: 'session',
    prove: (request) =>
      request.origin === undefined
        ? noProof
        : { kind: 'valid', identity: { ...owner, id: 'session:1' } },
  }
  const { ask } = setUp([session])
  assert.equal(code(ask({ origin: 'x' })), 'allow session:1')
  assert.equal(code(ask({ authorization: `Bearer ${good}` })), 'allow token:a')
  assert.equal(code(ask({ authorization: `Bearer ${good}`, origin: 'x' })), 'UNAUTHENTICATED')
  const slow: Prover = { name: 'slow', prove: async (request) => session.prove(request) }
  const other = setUp([slow])
  const both = await other.ask({ authorization: `Bearer ${good}`, origin: 'x' })
  assert.equal(both.allow, false)
  const one = await other.ask({ origin: 'x' })
  assert.equal(code(one), 'allow session:1')
})

test('the same facts are asked once', () => {
  let looks = 0
  const who = identifier([
    {
      name: 'counting',
      prove: () => {
        looks += 1
        return noProof
      },
    },
  ])
  const request = facts()
  for (const each of [request, request, facts()]) void who.identify(each)
  assert.equal(looks, 2)
})
