import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Facts, Identity } from '../../src/gates/gate.ts'
import { nobody } from '../../src/gates/gate.ts'
import { scopeGate } from '../../src/gates/scope.ts'
import { facts } from '../support/identity-facts.ts'

const base: Identity = { id: 'token:a', name: 'a', scopes: ['operate'], paths: [] }

async function ask(identity: Partial<Identity>, request: Partial<Facts>, metricsPaths?: string[]) {
  const gate = scopeGate(metricsPaths === undefined ? {} : { metricsPaths })
  const decision = await gate.decide(facts(request), { ...base, ...identity })
  return decision.allow ? 'allow' : decision.code
}

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']
const websocket = { key: 'x', protocols: [] }

test('chat, operate and admin allow every method', async () => {
  for (const scope of ['chat', 'operate', 'admin'] as const) {
    for (const method of methods) assert.equal(await ask({ scopes: [scope] }, { method }), 'allow')
    assert.equal(await ask({ scopes: [scope] }, { websocket }), 'allow')
  }
})

test('read allows GET and HEAD only, and no WebSocket', async () => {
  for (const method of methods) {
    const expected = method === 'GET' || method === 'HEAD' ? 'allow' : 'SCOPE_MISSING'
    assert.equal(await ask({ scopes: ['read'] }, { method }), expected, method)
  }
  assert.equal(await ask({ scopes: ['read'] }, { websocket }), 'SCOPE_MISSING')
})

test('metrics opens the metrics path and nothing else', async () => {
  const scopes = ['metrics'] as const
  assert.equal(await ask({ scopes }, { path: '/metrics' }), 'SCOPE_MISSING')
  assert.equal(await ask({ scopes }, { path: '/metrics' }, ['/metrics']), 'allow')
  assert.equal(await ask({ scopes }, { path: '/metrics/x' }, ['/metrics']), 'SCOPE_MISSING')
  assert.equal(
    await ask({ scopes }, { path: '/metrics', method: 'POST' }, ['/metrics']),
    'SCOPE_MISSING',
  )
  assert.equal(await ask({ scopes: ['metrics', 'read'] }, { path: '/other' }), 'allow')
})

test('an identity without a scope may do nothing', async () => {
  assert.equal(await ask({ scopes: [] }, {}), 'SCOPE_MISSING')
  assert.equal(await ask(nobody, {}), 'SCOPE_MISSING')
})

test('a path prefix ends at a segment', async () => {
  for (const [prefix, path, expected] of [
    ['/api', '/api', 'allow'],
    ['/api', '/api/x', 'allow'],
    ['/api', '/apix', 'SCOPE_MISSING'],
    ['/api', '/API', 'SCOPE_MISSING'],
    ['/api', '/', 'SCOPE_MISSING'],
    ['/api/', '/api/x', 'allow'],
    ['/api/', '/api', 'SCOPE_MISSING'],
    ['/', '/anything', 'allow'],
    ['/', '/api/%252e%252e/admin', 'allow'],
    ['/api', '/api/a%252fb', 'allow'],
    ['/api', '/api/%2541', 'allow'],
    ['/api', '/api/%252e%252e/admin', 'SCOPE_MISSING'],
    ['/api', '/api/%252E./admin', 'SCOPE_MISSING'],
    ['/api', '/api/a%252f..%252f../admin', 'SCOPE_MISSING'],
    ['/api', '/api/%255c..%255cadmin', 'SCOPE_MISSING'],
    ['/api', '/api/%25252e%25252e/admin', 'SCOPE_MISSING'],
    ['/api', '/api/%252e%252e%253bx/admin', 'SCOPE_MISSING'],
  ] as const) {
    assert.equal(await ask({ paths: [prefix] }, { path }), expected, `${prefix} ${path}`)
  }
  assert.equal(await ask({ paths: ['/a', '/b'] }, { path: '/b/c' }), 'allow')
})

test('a token limited to networks is refused from elsewhere', async () => {
  const networks = ['10.0.0.0/8', '2001:db8::/32']
  assert.equal(await ask({ networks }, { peer: '10.9.9.9' }), 'allow')
  assert.equal(await ask({ networks }, { peer: '2001:db8::5' }), 'allow')
  assert.equal(await ask({ networks }, { peer: '11.0.0.1' }), 'SCOPE_MISSING')
  assert.equal(await ask({ networks: [] }, { peer: '11.0.0.1' }), 'allow')
})
