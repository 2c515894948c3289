import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { addressRateGate, identityRateGate } from '../../src/gates/rate.ts'
import { nobody, type Decision, type Facts, type Identity } from '../../src/gates/gate.ts'
import { memoryLimiter, type Limiter } from '../../src/identity/limiter.ts'
import { identifier, noProof, type Proof } from '../../src/identity/proof.ts'
import { facts } from '../support/identity-facts.ts'

const owner: Identity = { id: 'token:a', name: 'a', scopes: ['operate'], paths: [] }

/** An identifier for which `Bearer good` is the owner; counts how often it had to look. */
function knowsGood(identity: Identity = owner) {
  const seen = { looks: 0 }
  const prove = ({ authorization }: Facts): Proof => {
    seen.looks += 1
    return authorization === 'Bearer good' ? { kind: 'valid', identity } : noProof
  }
  return { seen, identifier: identifier([{ name: 'test', prove }]) }
}

const code = (decision: Decision) => (decision.allow ? 'allow' : decision.code)
const header = (decision: Decision, name: string) => {
  const flat = decision.headers ?? []
  const at = flat.findIndex((text, place) => place % 2 === 0 && text === name)
  return at === -1 ? undefined : flat[at + 1]
}

/** Sixty seconds pass for the limiter: it lives on the wall clock and on timers. */
async function onFakeClock(body: (advance: (ms: number) => void) => Promise<void>) {
  mock.timers.enable({ apis: ['Date', 'setTimeout'], now: 1_800_000_000_000 })
  try {
    await body((ms) => mock.timers.tick(ms))
  } finally {
    mock.timers.reset()
  }
}

test('an identity may make as many requests a minute as its limit, and one more is refused', async () => {
  await onFakeClock(async (advance) => {
    const gate = identityRateGate({ limiter: memoryLimiter({ perMinute: 3 }) })
    for (const left of [2, 1, 0]) {
      const decision = await gate.decide(facts(), owner)
      assert.equal(code(decision), 'allow')
      assert.equal(header(decision, 'RateLimit-Policy'), '"identity";q=3;w=60')
      assert.equal(header(decision, 'RateLimit'), `"identity";r=${left};t=60`)
      assert.equal(header(decision, 'Retry-After'), undefined)
    }
    advance(20_500)
    const refused = await gate.decide(facts(), owner)
    assert.equal(code(refused), 'RATE_LIMITED')
    assert.equal(header(refused, 'RateLimit-Policy'), '"identity";q=3;w=60')
    assert.equal(header(refused, 'RateLimit'), '"identity";r=0;t=40')
    assert.equal(header(refused, 'Retry-After'), '40')
    advance(39_499)
    const last = await gate.decide(facts(), owner)
    assert.equal(code(last), 'RATE_LIMITED')
    assert.equal(header(last, 'Retry-After'), '1')
    advance(1)
    assert.equal(code(await gate.decide(facts(), owner)), 'allow')
  })
})

test('identities do not use up the limit of each other', async () => {
  await onFakeClock(async () => {
    const gate = identityRateGate({ limiter: memoryLimiter({ perMinute: 1 }) })
    assert.equal(code(await gate.decide(facts(), owner)), 'allow')
    assert.equal(code(await gate.decide(facts(), owner)), 'RATE_LIMITED')
    assert.equal(code(await gate.decide(facts(), { ...owner, id: 'token:b' })), 'allow')
  })
})

test('the address limit counts everyone and refuses only those without a valid credential', async () => {
  await onFakeClock(async () => {
    const { identifier: who, seen } = knowsGood()
    const gate = addressRateGate({ limiter: memoryLimiter({ perMinute: 2 }), identifier: who })
    const stranger = () => gate.decide(facts({ peer: '192.0.2.1' }), nobody)
    const good = () =>
      gate.decide(facts({ peer: '192.0.2.1', authorization: 'Bearer good' }), nobody)
    assert.equal(code(await good()), 'allow')
    assert.equal(code(await stranger()), 'allow')
    assert.equal(seen.looks, 0, 'below the limit nobody is asked who they are')
    const refused = await stranger()
    assert.equal(code(refused), 'RATE_LIMITED')
    assert.equal(header(refused, 'RateLimit-Policy'), '"address";q=2;w=60')
    assert.equal(header(refused, 'RateLimit'), '"address";r=0;t=60')
    assert.equal(header(refused, 'Retry-After'), '60')
    assert.equal(code(await good()), 'allow')
  })
})

test('a thousand bad requests behind the same hop do not starve the owner', async () => {
  await onFakeClock(async () => {
    const { identifier: who } = knowsGood()
    const gate = addressRateGate({ limiter: memoryLimiter({ perMinute: 300 }), identifier: who })
    let refused = 0
    for (let count = 0; count < 1000; count += 1) {
      const bad = await gate.decide(facts({ authorization: `Bearer ${count}` }), nobody)
      if (!bad.allow) refused += 1
    }
    assert.equal(refused, 700)
    assert.equal(code(await gate.decide(facts({ authorization: 'Bearer good' }), nobody)), 'allow')
  })
})

test('a token from outside its networks is a stranger to the address limit', async () => {
  await onFakeClock(async () => {
    const { identifier: who } = knowsGood({ ...owner, networks: ['10.0.0.0/8'] })
    const gate = addressRateGate({ limiter: memoryLimiter({ perMinute: 1 }), identifier: who })
    const from = (peer: string) =>
      gate.decide(facts({ peer, authorization: 'Bearer good' }), nobody)
    await from('192.0.2.1')
    assert.equal(code(await from('192.0.2.1')), 'RATE_LIMITED')
    await from('10.1.1.1')
    assert.equal(code(await from('10.1.1.1')), 'allow')
  })
})

test('addresses of one IPv6 /64 share a limit, those of the next /64 have their own', async () => {
  await onFakeClock(async () => {
    const { identifier: who } = knowsGood()
    const gate = addressRateGate({ limiter: memoryLimiter({ perMinute: 1 }), identifier: who })
    const from = async (peer: string) => code(await gate.decide(facts({ peer }), nobody))
    assert.equal(await from('2001:db8:0:1::1'), 'allow')
    assert.equal(await from('2001:db8:0:1:ffff::2'), 'RATE_LIMITED')
    assert.equal(await from('2001:db8:0:2::1'), 'allow')
  })
})

test('a million addresses are remembered no further than the cap', async () => {
  await onFakeClock(async () => {
    const limiter = memoryLimiter({ perMinute: 1, keysMax: 1000 })
    for (let count = 0; count < 20_000; count += 1) limiter.hit(`key ${count}`)
    assert.equal(limiter.size(), 1000)
    assert.equal(limiter.hit('key 19000').over, true, 'the newest thousand are known')
    assert.equal(limiter.hit('key 18999').over, false, 'older ones are forgotten')
  })
})

test('the gates also take a limiter and a prover that answer with promises', async () => {
  const limiter: Limiter = {
    quota: 1,
    windowMs: 60_000,
    hit: async () => ({ over: true, left: 0, resetMs: 1 }),
  }
  const who = identifier([
    {
      name: 'slow',
      prove: async ({ authorization }) =>
        authorization === undefined ? noProof : { kind: 'valid', identity: owner },
    },
  ])
  const byAddress = addressRateGate({ limiter, identifier: who })
  assert.equal(code(await byAddress.decide(facts(), nobody)), 'RATE_LIMITED')
  assert.equal(code(await byAddress.decide(facts({ authorization: 'Bearer x' }), nobody)), 'allow')
  const byIdentity = identityRateGate({ limiter })
  const refused = await byIdentity.decide(facts(), owner)
  assert.equal(code(refused), 'RATE_LIMITED')
  assert.equal(header(refused, 'Retry-After'), '1')
})
