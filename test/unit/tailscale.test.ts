import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Facts } from '../../src/gates/gate.ts'
import { shapeGate } from '../../src/gates/shape.ts'
import { identifier, type Prover } from '../../src/identity/proof.ts'
import {
  decodeWords,
  tailnetName,
  tailscaleProver,
  whoisMs,
  type Whois,
} from '../../src/identity/tailscale.ts'
import { admitListed } from '../../src/identity/vouched.ts'
import { facts } from '../support/identity-facts.ts'

const alice = 'alice@example.com'
const address = '100.64.0.2'

function setUp(listed: readonly string[] = [alice]) {
  const clock = { ms: 1000 }
  const asked: string[] = []
  const troubles: (string | undefined)[] = []
  const tailnet = new Map<string, Whois | Error>([[address, { login: alice }]])
  const prover = tailscaleProver({
    localApi: {
      whois: (of) => {
        asked.push(of)
        const found = tailnet.get(of)
        return found instanceof Error ? Promise.reject(found) : Promise.resolve(found)
      },
      ownName: () => Promise.resolve(undefined),
    },
    admit: admitListed({ people: listed, groups: undefined }),
    now: () => clock.ms,
    onTrouble: (because) => troubles.push(because),
  })
  const said = (login: string | undefined, change: Partial<Facts> = {}) =>
    facts({
      peer: address,
      hop: { address: '127.0.0.1', named: true, tailscaleLogin: login },
      ...change,
    })
  const ask = (login: string | undefined, change: Partial<Facts> = {}) =>
    Promise.resolve(prover.prove(said(login, change)))
  return { clock, asked, troubles, tailnet, prover, said, ask }
}

test('a login that LocalAPI confirms proves its identity, which may chat', async () => {
  assert.deepEqual(await setUp().ask(alice), {
    kind: 'valid',
    identity: { id: `tailscale:${alice}`, name: alice, scopes: ['chat'], paths: [] },
  })
})

test('without a hop, a client or a login nothing is presented and nobody is asked', async () => {
  const { ask, asked } = setUp()
  assert.equal((await ask(undefined)).kind, 'none')
  assert.equal((await ask('')).kind, 'none')
  assert.equal((await ask(alice, { hop: undefined })).kind, 'none')
  const unnamed = { address: '127.0.0.1', named: false, tailscaleLogin: alice }
  assert.equal((await ask(alice, { hop: unnamed, peer: '127.0.0.1' })).kind, 'none')
  assert.deepEqual(asked, [])
})

test('what comes through Funnel proves nothing', async () => {
  const { ask, asked } = setUp()
  assert.equal((await ask(alice, { funnel: true })).kind, 'none')
  assert.deepEqual(asked, [])
})

test('a login that is not the one of the address is refused without a count of failures', async () => {
  const { ask, tailnet } = setUp([alice, 'bob@example.com', 'tagged-devices', ''])
  tailnet.set('100.64.0.9', { login: undefined })
  const refused = {
    kind: 'wrong',
    because: 'LocalAPI does not confirm the Tailscale login',
    guess: false,
  }
  assert.deepEqual(await ask('bob@example.com'), refused)
  assert.deepEqual(await ask('Alice@example.com'), refused)
  assert.deepEqual(await ask(`${alice},${alice}`), refused)
  assert.deepEqual(await ask(alice, { peer: '100.64.0.3' }), refused)
  assert.deepEqual(await ask(alice, { peer: '100.64.0.9' }), refused, 'a tagged node is nobody')
  assert.deepEqual(await ask('tagged-devices', { peer: '100.64.0.9' }), refused)
})

test('somebody on no list is known and not let in', async () => {
  assert.deepEqual(await setUp(['bob@example.com']).ask(alice), {
    kind: 'unlisted',
    identity: { id: `tailscale:${alice}`, name: alice, scopes: ['chat'], paths: [] },
    because: `${alice} is on no list`,
  })
  assert.equal((await setUp(['alice@EXAMPLE.com']).ask(alice)).kind, 'valid')
})

test('an answer of LocalAPI is used for ten seconds', async () => {
  const { clock, asked, tailnet, said, prover, ask } = setUp()
  await ask(alice)
  assert.ok(!(prover.prove(said(alice)) instanceof Promise))
  tailnet.delete(address)
  clock.ms += whoisMs - 1
  assert.equal((await ask(alice)).kind, 'valid')
  clock.ms += 1
  assert.equal((await ask(alice)).kind, 'wrong')
  assert.equal(asked.length, 2)
})

test('a hundred requests at once ask once', async () => {
  const { asked, ask } = setUp()
  const proofs = await Promise.all(Array.from({ length: 100 }, () => ask(alice)))
  assert.ok(proofs.every(({ kind }) => kind === 'valid'))
  assert.deepEqual(asked, [address])
})

test('while LocalAPI cannot be asked nothing is proved; it is told once, and again when it works', async () => {
  const { clock, asked, tailnet, troubles, ask } = setUp()
  tailnet.set(address, new Error('connect ENOENT'))
  for (let i = 0; i < 10; i += 1) assert.equal((await ask(alice)).kind, 'none')
  assert.deepEqual(troubles, ['connect ENOENT'])
  assert.equal(asked.length, 1, 'a failure is not repeated for each request')
  tailnet.set(address, { login: alice })
  clock.ms += 1000
  assert.equal((await ask(alice)).kind, 'valid')
  assert.deepEqual(troubles, ['connect ENOENT', undefined])
})

test('a thousand addresses are remembered and no more', async () => {
  const { asked, ask } = setUp()
  for (let i = 0; i < 1001; i += 1) await ask(alice, { peer: `100.65.${i >> 8}.${i & 255}` })
  await ask(alice, { peer: '100.65.3.232' })
  assert.equal(asked.length, 1001)
  await ask(alice, { peer: '100.65.0.0' })
  assert.equal(asked.length, 1002)
})

test('a credential that the client sends stands for itself, good or wrong', async () => {
  const { prover, said } = setUp()
  const token = (proof: ReturnType<Prover['prove']>): Prover => ({
    name: 'token',
    prove: () => proof,
  })
  const kinds = async (proof: ReturnType<Prover['prove']>, change: Partial<Facts> = {}) => {
    const known = await identifier([token(proof), prover]).identify(said(alice, change))
    return known.kind === 'valid' ? known.identity.id : known.kind
  }
  const owner = { id: 'token:a', name: 'a', scopes: ['operate'], paths: [] } as const
  assert.equal(await kinds({ kind: 'none' }), `tailscale:${alice}`)
  assert.equal(await kinds(Promise.resolve({ kind: 'none' } as const)), `tailscale:${alice}`)
  assert.equal(await kinds({ kind: 'valid', identity: owner }), 'token:a')
  assert.equal(await kinds({ kind: 'wrong', because: 'x', guess: true }), 'wrong')
  assert.equal(await kinds({ kind: 'unlisted', identity: owner, because: 'x' }), 'unlisted')
  assert.equal(await kinds({ kind: 'none' }, { credentialInUrl: true }), 'wrong')
})

test('a login in encoded words is read as tailscaled writes it', () => {
  assert.equal(decodeWords('alice@example.com'), 'alice@example.com')
  assert.equal(decodeWords('=?utf-8?q?Kr=C5=ABmi=C5=86a?='), 'Krūmiņa')
  assert.equal(decodeWords('=?UTF-8?Q?j=C3=B6rg=40example.com?='), 'jörg@example.com')
  assert.equal(decodeWords('=?utf-8?q?J=C3=B6rg_M?='), 'Jörg M')
  const long = '=?utf-8?q?=C3=B6?= =?utf-8?q?=C3=BC?='
  assert.equal(decodeWords(long), 'öü')
  assert.equal(decodeWords('=?utf-8?q?=C3?= =?utf-8?q?=B6?='), 'ö')
})

test('what is no login is none', () => {
  for (const value of [
    '',
    ' ',
    ' alice',
    'jörg@example.com',
    '=?utf-8?q?=C3=28?=',
    '=?iso-8859-1?q?J=F6rg?=',
    '=?utf-8?b?SsO2cmc=?=',
    '=?utf-8?q?=00?=',
    '=?utf-8?q?alice=0D=0AX:_y?=',
    '=?utf-8?q?',
    'a =?x',
    'x'.repeat(256),
  ]) {
    assert.equal(decodeWords(value), undefined, value)
  }
})

test('this node is served under its own name, with and without its port, whatever it is by now', async () => {
  const names: (string | undefined | Error)[] = [
    'box.tailnet-name.ts.net',
    new Error('down'),
    'new.tailnet-name.ts.net',
    undefined,
  ]
  const troubles: (string | undefined)[] = []
  const api = {
    whois: () => Promise.resolve(undefined),
    ownName: () => {
      const name = names.shift()
      return name instanceof Error ? Promise.reject(name) : Promise.resolve(name)
    },
  }
  const name = tailnetName(api, (because) => troubles.push(because))
  const gate = shapeGate({ bind: [], publicOrigins: [], tailnetHosts: name.hosts })
  const nobody = { id: 'nobody', name: '', scopes: [], paths: [] }
  const isServed = (host: string) => {
    const decision = gate.decide(facts({ host }), nobody)
    return !(decision instanceof Promise) && decision.allow
  }
  const served = () => ['box', 'new'].map((box) => isServed(`${box}.tailnet-name.ts.net`))
  assert.deepEqual(served(), [false, false])
  await name.refresh()
  assert.deepEqual(served(), [true, false])
  assert.ok(isServed('box.tailnet-name.ts.net:443'))
  assert.ok(!isServed('box.tailnet-name.ts.net:8443'))
  assert.ok(!isServed('other.tailnet-name.ts.net'))
  await name.refresh()
  assert.deepEqual(served(), [true, false], 'the last name stays')
  await name.refresh()
  assert.deepEqual(served(), [false, true])
  assert.deepEqual(troubles, ['down', undefined])
  await name.refresh()
  assert.deepEqual(served(), [false, false])
})

test('what comes through Funnel is refused before anything else is asked, unless it is allowed', () => {
  const nobody = { id: 'nobody', name: '', scopes: [], paths: [] }
  const codeOf = (allowFunnel: boolean, funnel: boolean, host = 'localhost') => {
    const decision = shapeGate({ bind: [], publicOrigins: [], allowFunnel }).decide(
      facts({ funnel, host }),
      nobody,
    )
    assert.ok(!(decision instanceof Promise))
    return decision.allow ? 'allow' : decision.code
  }
  assert.equal(codeOf(false, true), 'FUNNEL_DENIED')
  assert.equal(codeOf(false, true, 'box.tailnet-name.ts.net'), 'FUNNEL_DENIED')
  assert.equal(codeOf(false, false), 'allow')
  assert.equal(codeOf(true, true), 'allow')
  assert.equal(codeOf(true, true, 'box.tailnet-name.ts.net'), 'HOST_DENIED')
})
