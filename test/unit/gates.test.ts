import assert from 'node:assert/strict'
import { test } from 'node:test'

import {
  type Decision,
  type Facts,
  type Gate,
  gateOrder,
  lockdownGate,
} from '../../src/gates/gate.ts'
import { originGate } from '../../src/gates/origin.ts'
import { isUnder, pathGate } from '../../src/gates/path.ts'
import { shapeGate, sizeGate } from '../../src/gates/shape.ts'
import { nobody, someFacts } from '../support/request.ts'

function code(gate: Gate, change: Partial<Facts>): string {
  const decision = gate.decide(someFacts(change), nobody) as Decision
  return decision.allow ? 'allow' : decision.code
}

test('the gates are asked in the order of the contract', () => {
  assert.deepEqual(gateOrder, [
    'lockdown',
    'shape',
    'path',
    'address rate',
    'size',
    'identity',
    'scope',
    'origin',
    'identity rate',
  ])
})

test('a body of exactly the limit passes and one byte more does not', () => {
  const gate = sizeGate(10)
  assert.equal(code(gate, { framing: { kind: 'length', bytes: 10 } }), 'allow')
  assert.equal(code(gate, { framing: { kind: 'length', bytes: 11 } }), 'BODY_TOO_LARGE')
  assert.equal(code(gate, { framing: { kind: 'chunked' } }), 'allow')
})

test('loopback, the bind address and the public origins are served, any other host is not', () => {
  const gate = shapeGate({
    bind: ['192.168.1.100', 'fd7a::1'],
    publicOrigins: ['https://box.tail.ts.net', 'http://bots.example:8443'],
  })
  const served = [
    'localhost',
    'localhost:1',
    '127.0.0.1',
    '127.0.0.1:8080',
    '127.9.9.9',
    '[::1]:8080',
    '192.168.1.100:8080',
    '[fd7a::1]',
    'box.tail.ts.net',
    'box.tail.ts.net:443',
    'bots.example:8443',
  ]
  for (const host of served) assert.equal(code(gate, { host }), 'allow', host)
  const foreign = [
    'evil.example',
    'localhost.evil.example',
    'evil.localhost',
    '127.0.0.1.nip.io',
    'box.tail.ts.net:80',
    'bots.example',
    'bots.example:443',
    '10.0.0.1',
    '[::2]',
    '1127.0.0.1',
    '127.0.0.256',
    '127.999.1.1',
    '127.0.0.01',
    '127.1',
    '0.0.0.0',
  ]
  for (const host of foreign) assert.equal(code(gate, { host }), 'HOST_DENIED', host)
})

test('a defect is refused with its own code', () => {
  const gate = shapeGate({ bind: [], publicOrigins: [] })
  const defect = { code: 'TARGET_INVALID', because: 'x' } as const
  assert.equal(code(gate, { defect }), 'TARGET_INVALID')
})

test('only the own origin and the public ones pass', () => {
  const gate = originGate(['https://box.tail.ts.net'])
  const host = '127.0.0.1:8080'
  assert.equal(code(gate, { host }), 'allow')
  assert.equal(code(gate, { host, origin: 'http://127.0.0.1:8080' }), 'allow')
  assert.equal(code(gate, { host, origin: 'https://box.tail.ts.net' }), 'allow')
  assert.equal(code(gate, { host, origin: 'https://BOX.tail.ts.net' }), 'allow')
  for (const origin of [
    'null',
    'http://evil.example',
    'http://127.0.0.1',
    'http://127.0.0.1:8081',
    'http://localhost:8080',
    'http://127.0.0.1:8080.evil.example',
    'https://box.tail.ts.net.evil.example',
    '',
  ]) {
    assert.equal(code(gate, { host, origin }), 'ORIGIN_DENIED', origin)
  }
})

test('a browser that says cross-site is refused even without an Origin', () => {
  const gate = originGate([])
  assert.equal(code(gate, { fetchSite: 'cross-site' }), 'ORIGIN_DENIED')
  for (const fetchSite of ['same-origin', 'same-site', 'none']) {
    assert.equal(code(gate, { fetchSite }), 'allow', fetchSite)
  }
})

test('a path prefix ends at a segment', () => {
  assert.equal(isUnder('/api', '/api'), true)
  assert.equal(isUnder('/api/x', '/api'), true)
  assert.equal(isUnder('/apix', '/api'), false)
  assert.equal(isUnder('/api/x', '/api/'), true)
  assert.equal(isUnder('/anything', '/'), true)
})

test('a denied path cannot be reached by spelling it differently', () => {
  const gate = pathGate({ allow: ['/'], deny: ['/admin'] })
  for (const path of [
    '/admin',
    '/admin/x',
    '/ADMIN',
    '/%61dmin',
    '/admin;v=1',
    '/admin;x/y',
    '/%41dMin/x',
    '/x/%252e%252e/admin',
    '/x%252f..%252fadmin/y',
    '/%252fadmin',
    '/%255cadmin',
  ]) {
    assert.equal(code(gate, { path }), 'PATH_DENIED', path)
  }
  for (const path of ['/', '/administrator', '/x/admin', '/%', '/x/%252e/admin'])
    assert.equal(code(gate, { path }), 'allow', path)
})

test('only allowed prefixes exist when they are listed', () => {
  const gate = pathGate({ allow: ['/api', '/health'], deny: ['/api/internal'] })
  assert.equal(code(gate, { path: '/api/x' }), 'allow')
  assert.equal(code(gate, { path: '/health' }), 'allow')
  assert.equal(code(gate, { path: '/other' }), 'PATH_DENIED')
  assert.equal(code(gate, { path: '/api/internal/x' }), 'PATH_DENIED')
  assert.equal(code(gate, { path: '/api/%252e%252e/other' }), 'PATH_DENIED')
})

test('lockdown refuses everything while it is on', () => {
  let on = true
  const gate = lockdownGate(() => on)
  assert.equal(code(gate, {}), 'LOCKDOWN')
  on = false
  assert.equal(code(gate, {}), 'allow')
})
