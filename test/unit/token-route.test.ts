import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure, refusalRow } from '../../src/errors.ts'
import { scopeGate } from '../../src/gates/scope.ts'
import type { Identity } from '../../src/gates/gate.ts'
import { renewalRoute } from '../../src/identity/token-route.ts'
import { rotationOf } from '../../src/identity/token-life.ts'
import { TokenBook } from '../../src/identity/tokens.ts'
import { openSqlite } from '../../src/store/sqlite.ts'
import { facts } from '../support/identity-facts.ts'

const day = 86_400_000

async function setUp() {
  const clock = { ms: 1_800_000_000_000 }
  const now = () => clock.ms
  const rotation = rotationOf(30 * day)
  const tokens = await TokenBook.open({ store: openSqlite(':memory:', { now }), now, rotation })
  const ask = (id: string) =>
    renewalRoute(tokens).answer({ identity: { id, name: '', scopes: [], paths: [] } })
  return { clock, tokens, ask }
}

test('the successor is answered once, with until when the old token is good', async () => {
  const { clock, tokens, ask } = await setUp()
  const { view } = await tokens.create({ name: 'phone', scopes: ['read'], paths: [], networks: [] })
  clock.ms += 30 * day
  const answer = await ask(`token:${view.id}`)
  assert.ok('document' in answer)
  const { token, name, scopes, dueAt, previous } = answer.document
  assert.equal(tokens.lookUp(token).kind, 'valid')
  assert.deepEqual([answer.status, name, scopes], [200, 'phone', ['read']])
  assert.equal(dueAt, clock.ms + 30 * day)
  const { id, fingerprint } = view
  assert.deepEqual(previous, { id, fingerprint, endsAt: clock.ms + day })
  const again = await ask(`token:${view.id}`)
  assert.ok('code' in again)
  assert.deepEqual([again.code, refusalRow(again.code).status], ['SUCCESSOR_TAKEN', 409])
  assert.ok(!again.because.includes(token))
})

test('two who ask at once: one gets the successor, the other is told', async () => {
  const { clock, tokens, ask } = await setUp()
  const { view } = await tokens.create({ scopes: ['read'], paths: [], networks: [] })
  clock.ms += 30 * day
  const answers = await Promise.all([ask(`token:${view.id}`), ask(`token:${view.id}`)])
  assert.deepEqual(
    answers.map((answer) => ('code' in answer ? answer.code : answer.status)),
    [200, 'SUCCESSOR_TAKEN'],
  )
})

test('a credential without a successor is told so by its code', async () => {
  const { tokens, ask } = await setUp()
  const codeOf = async (id: string) => {
    const answer = await ask(id)
    return 'code' in answer ? answer.code : answer.status
  }
  const { view } = await tokens.create({ scopes: ['read'], paths: [], networks: [] })
  assert.equal(await codeOf(`token:${view.id}`), 'SUCCESSOR_NOT_DUE')
  const configured = await tokens.configure('a configured token')
  assert.equal(await codeOf(`token:${configured?.id}`), 'SUCCESSOR_NONE')
  assert.equal(await codeOf('jwt:somebody'), 'SUCCESSOR_NONE')
  assert.equal(await codeOf('session:somebody'), 'SUCCESSOR_NONE')
  await tokens.revoke(view.id)
  const ended = await ask(`token:${view.id}`)
  assert.ok('code' in ended)
  assert.equal(ended.code, 'UNAUTHENTICATED')
  assert.deepEqual(ended.headers, ['WWW-Authenticate', 'Bearer realm="hardshell"'])
})

test('a store that fails is a refusal, and what is no failure of ours is not hidden', async () => {
  const identity: Identity = { id: 'token:a', name: '', scopes: [], paths: [] }
  const failing = (thrown: Error) => renewalRoute({ renew: () => Promise.reject(thrown) })
  const answer = await failing(new Failure('STORE_FAILED', 'no space')).answer({ identity })
  assert.ok('code' in answer)
  assert.equal(answer.code, 'GATE_FAILED')
  await assert.rejects(failing(new TypeError('a mistake')).answer({ identity }), TypeError)
})

test('whatever a token may do it may fetch its successor, but from its own networks alone', () => {
  const gate = scopeGate()
  const renewal = facts({ method: 'POST', path: '/.hardshell/token' })
  const who: Identity = { id: 'token:a', name: '', scopes: ['metrics'], paths: ['/api'] }
  assert.deepEqual(gate.decide(renewal, who), { allow: true })
  assert.deepEqual(gate.decide(renewal, { ...who, networks: ['192.0.2.0/24'] }), { allow: true })
  const outside = gate.decide(renewal, { ...who, networks: ['10.0.0.0/8'] })
  assert.ok(!(outside instanceof Promise) && !outside.allow)
  const other = gate.decide(facts({ method: 'POST', path: '/.hardshell/other' }), who)
  assert.ok(!(other instanceof Promise) && !other.allow)
})
