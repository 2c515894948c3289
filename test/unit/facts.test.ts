import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { factsOf } from '../support/request.ts'

const host = ['Host', 'localhost'] as const
const defectOf = (line: string, headers: readonly string[] = host) =>
  factsOf(line, headers).defect?.code

test('a plain request has no defect and keeps its target byte for byte', () => {
  const facts = factsOf('GET /a/b%20c?x=%2e%2e/../&y=1 HTTP/1.1')
  assert.equal(facts.defect, undefined)
  assert.equal(facts.target, '/a/b%20c?x=%2e%2e/../&y=1')
  assert.equal(facts.path, '/a/b%20c')
})

test('a target that two programs can read differently is refused', () => {
  const targets = [
    '/a/../b',
    '/..',
    '/a/.',
    '/./a',
    '/a/..;/b',
    '/a/%2e%2e/b',
    '/a/%2E./b',
    '/a%2fb',
    '/a%5cb',
    '/a\\b',
    '//a',
    '/a//b',
    '/a%00',
    '/a%0d%0aX',
    '/a#b',
    '/a?b#c',
    '/a?b\\c',
    '/%',
    '/%zz',
    '/%c0%ae%c0%ae/',
    '*',
    'a',
    '',
    '/caf\u00e9',
    '/a\tb',
  ]
  for (const target of targets) {
    assert.equal(defectOf(`GET ${target} HTTP/1.1`), 'TARGET_INVALID', target)
  }
})

test('dots inside a segment are not dot segments', () => {
  for (const target of [
    '/.well-known/x',
    '/a..b',
    '/...',
    '/a.',
    '/.a',
    '/a/..b/c',
    '/a?x=/../',
    '/a;v=1/b',
  ]) {
    assert.equal(defectOf(`GET ${target} HTTP/1.1`), undefined, target)
  }
})

test('the longest allowed target passes and one byte more is refused', () => {
  const settings = { maxUrlBytes: 100 }
  const at = factsOf(`GET /${'a'.repeat(99)} HTTP/1.1`, host, settings)
  const over = factsOf(`GET /${'a'.repeat(100)} HTTP/1.1`, host, settings)
  assert.equal(at.defect, undefined)
  assert.equal(over.defect?.code, 'URL_TOO_LONG')
})

test('the absolute form passes only for the host that Host names', () => {
  const same = factsOf('GET http://localhost/a?b HTTP/1.1')
  assert.equal(same.defect, undefined)
  assert.equal(same.target, '/a?b')
  assert.equal(factsOf('GET http://LOCALHOST HTTP/1.1').target, '/')
  assert.equal(defectOf('GET http://169.254.169.254/ HTTP/1.1'), 'TARGET_INVALID')
  assert.equal(defectOf('GET http://localhost@evil/ HTTP/1.1'), 'TARGET_INVALID')
  assert.equal(defectOf('GET ftp://localhost/ HTTP/1.1'), 'TARGET_INVALID')
})

test('a framing that is in doubt is refused', () => {
  const cases: [readonly string[], string][] = [
    [['Content-Length', '1', 'Transfer-Encoding', 'chunked'], 'FRAMING_AMBIGUOUS'],
    [['Content-Length', '1', 'Content-Length', '1'], 'FRAMING_AMBIGUOUS'],
    [['Content-Length', '+1'], 'FRAMING_AMBIGUOUS'],
    [['Content-Length', '1, 1'], 'FRAMING_AMBIGUOUS'],
    [['Content-Length', '0x1'], 'FRAMING_AMBIGUOUS'],
    [['Content-Length', '99999999999999999999'], 'FRAMING_AMBIGUOUS'],
    [['Transfer-Encoding', 'chunked', 'Transfer-Encoding', 'chunked'], 'FRAMING_AMBIGUOUS'],
    [['Transfer-Encoding', 'chunked, chunked'], 'FRAMING_AMBIGUOUS'],
    [['Transfer-Encoding', ', chunked'], 'FRAMING_AMBIGUOUS'],
    [['Transfer-Encoding', 'chunked, gzip'], 'FRAMING_AMBIGUOUS'],
    [['Transfer-Encoding', 'gzip, chunked'], 'TRANSFER_CODING'],
    [['Transfer-Encoding', 'gzip'], 'TRANSFER_CODING'],
    [['Transfer-Encoding', 'identity'], 'TRANSFER_CODING'],
    [['Transfer-Encoding', 'xchunked'], 'TRANSFER_CODING'],
  ]
  for (const [headers, code] of cases) {
    assert.equal(defectOf('POST / HTTP/1.1', [...host, ...headers]), code, headers.join(' '))
  }
  assert.equal(
    defectOf('POST / HTTP/1.0', [...host, 'Transfer-Encoding', 'chunked']),
    'FRAMING_AMBIGUOUS',
  )
  assert.equal(defectOf('POST / HTTP/1.1', [...host, 'Transfer-Encoding', 'Chunked']), undefined)
  assert.equal(defectOf('DELETE / HTTP/1.1', [...host, 'Transfer-Encoding', 'chunked']), undefined)
})

test('a header that may come once and comes twice is refused', () => {
  const names = ['Host', 'Authorization', 'Origin', 'Content-Type', 'Cookie', 'Sec-Fetch-Site']
  for (const name of names) {
    const twice = [name, 'localhost', name.toUpperCase(), 'localhost']
    const headers = name === 'Host' ? twice : [...host, ...twice]
    assert.equal(defectOf('GET / HTTP/1.1', headers), 'HEADER_DUPLICATE', name)
  }
  assert.equal(defectOf('GET / HTTP/1.1', [...host, 'Accept', 'a', 'Accept', 'b']), undefined)
})

test('a header name with an underscore is refused', () => {
  assert.equal(
    defectOf('GET / HTTP/1.1', [...host, 'X_Forwarded_For', '1.2.3.4']),
    'HEADER_INVALID',
  )
})

test('the bound on the number of headers holds on both sides', () => {
  const many = (n: number) => Array.from({ length: n }, (_, i) => [`X-${i}`, 'v']).flat()
  assert.equal(defectOf('GET / HTTP/1.1', [...host, ...many(99)]), undefined)
  assert.equal(defectOf('GET / HTTP/1.1', [...host, ...many(100)]), 'HEADERS_TOO_LARGE')
})

test('Host must be there and be a host', () => {
  assert.equal(defectOf('GET / HTTP/1.1', []), 'HOST_INVALID')
  for (const value of [
    '',
    'a b',
    'user@localhost',
    'localhost:',
    'localhost:123456',
    'localhost:65536',
    'a/b',
    'a,b',
    '[::1',
    'a..b',
    '-a',
  ]) {
    assert.equal(defectOf('GET / HTTP/1.1', ['Host', value]), 'HOST_INVALID', value)
  }
  for (const value of [
    'localhost',
    'LOCALHOST:80',
    'localhost:65535',
    '127.0.0.1:8080',
    '[::1]:8080',
    'a-b.c.ts.net',
  ]) {
    assert.equal(defectOf('GET / HTTP/1.1', ['Host', value]), undefined, value)
  }
})

test('what Connection may not name is refused, and what it names is dropped', () => {
  for (const name of [
    'Host',
    'Content-Length',
    'Transfer-Encoding',
    'Authorization',
    'Cookie',
    'X-Forwarded-For',
  ]) {
    assert.equal(
      defectOf('GET / HTTP/1.1', [...host, 'Connection', `close, ${name}`]),
      'HEADER_INVALID',
      name,
    )
  }
  const facts = factsOf('GET / HTTP/1.1', [
    ...host,
    'X-One',
    '1',
    'Connection',
    'keep-alive, x-one',
    'X-Two',
    '2',
  ])
  assert.deepEqual(facts.headers, [...host, 'X-Two', '2'])
})

test('what a client says about who it is never goes on', () => {
  const claims = [
    'X-Forwarded-For',
    'x-forwarded-proto',
    'X-Forwarded-User',
    'Forwarded',
    'X-Real-IP',
    'Tailscale-User-Login',
    'True-Client-IP',
    'X-Original-URL',
    'X-Rewrite-URL',
    'Remote-User',
    'X-Remote-User',
    'X-WebAuth-User',
    'X-Auth-Request-Email',
    'CF-Connecting-IP',
    'CF-Access-Jwt-Assertion',
    'X-Goog-Authenticated-User-Email',
    'X-HTTP-Method-Override',
    'Via',
    'X-Request-Id',
    'Authorization',
    'Proxy-Authorization',
    'X-OpenClaw-Scopes',
  ]
  const facts = factsOf('GET / HTTP/1.1', [...host, ...claims.flatMap((name) => [name, 'owner'])])
  assert.equal(facts.defect, undefined)
  assert.deepEqual(facts.headers, [...host])
})

test('hop-by-hop headers never go on', () => {
  const names = [
    'Connection',
    'Keep-Alive',
    'Proxy-Connection',
    'TE',
    'Trailer',
    'Upgrade',
    'Expect',
    'HTTP2-Settings',
  ]
  const facts = factsOf('GET / HTTP/1.1', [
    ...host,
    ...names.flatMap((name) => [name, name === 'Expect' ? '100-continue' : 'h2c']),
  ])
  assert.equal(facts.defect, undefined)
  assert.deepEqual(facts.headers, [...host])
})

test('an OPTIONS counts the programs that it passes, and the last of them answers it (RFC 9110 §7.6.2)', () => {
  const asked = (method: string, value: string) =>
    factsOf(`${method} / HTTP/1.1`, [...host, 'Max-Forwards', value])
  assert.deepEqual(asked('OPTIONS', '10').headers, [...host, 'Max-Forwards', '9'])
  assert.equal(asked('OPTIONS', '10').isForUs, false)
  assert.equal(asked('OPTIONS', '0').isForUs, true)
  for (const value of ['-1', '+1', '1.5', 'x', '', '1, 1', '99999999999999999999']) {
    assert.equal(asked('OPTIONS', value).defect?.code, 'HEADER_INVALID', value)
  }
  assert.deepEqual(asked('GET', '0').headers, [...host, 'Max-Forwards', '0'])
  assert.equal(asked('GET', '0').isForUs, false)
})

test('credentials in the URL are seen under every usual name', () => {
  for (const query of [
    'token=x',
    'a=1&access_token=x',
    'auth_token=x',
    'api_key=x',
    'apikey=x',
    'x=hsk_1_abc',
    'TOKEN=x',
  ]) {
    assert.equal(factsOf(`GET /?${query} HTTP/1.1`).credentialInUrl, true, query)
  }
  assert.equal(factsOf('GET /?tokens=3&mytoken=4 HTTP/1.1').credentialInUrl, false)
})

test('methods, versions and expectations outside the list are refused', () => {
  for (const method of ['TRACE', 'CONNECT', 'PROPFIND', 'get']) {
    assert.equal(defectOf(`${method} / HTTP/1.1`), 'METHOD_NOT_ALLOWED', method)
  }
  assert.equal(defectOf('GET / HTTP/0.9'), 'HTTP_VERSION')
  assert.equal(defectOf('GET / HTTP/2.0'), 'HTTP_VERSION')
  assert.equal(defectOf('GET / HTTP/1.0'), undefined)
  assert.equal(defectOf('GET / HTTP/1.1', [...host, 'Expect', '200-ok']), 'EXPECTATION_FAILED')
})

const handshake = [
  ...host,
  'Connection',
  'keep-alive, Upgrade',
  'Upgrade',
  'WebSocket',
  'Sec-WebSocket-Key',
  'dGhlIHNhbXBsZSBub25jZQ==',
  'Sec-WebSocket-Version',
  '13',
]
const without = (name: string) => {
  const at = handshake.indexOf(name)
  return [...handshake.slice(0, at), ...handshake.slice(at + 2)]
}

test('a WebSocket handshake is read whole or refused', () => {
  const facts = factsOf('GET /ws HTTP/1.1', [...handshake, 'Sec-WebSocket-Protocol', 'a, b'])
  assert.deepEqual(facts.websocket, { key: 'dGhlIHNhbXBsZSBub25jZQ==', protocols: ['a', 'b'] })
  assert.deepEqual(facts.headers, [...host])
  assert.equal(defectOf('POST /ws HTTP/1.1', handshake), 'UPGRADE_INVALID')
  assert.equal(defectOf('GET /ws HTTP/1.0', handshake), 'UPGRADE_INVALID')
  assert.equal(defectOf('GET /ws HTTP/1.1', without('Sec-WebSocket-Key')), 'UPGRADE_INVALID')
  assert.equal(defectOf('GET /ws HTTP/1.1', without('Connection')), 'UPGRADE_INVALID')
  assert.equal(defectOf('GET /ws HTTP/1.1', without('Sec-WebSocket-Version')), 'WEBSOCKET_VERSION')
  assert.equal(
    defectOf('GET /ws HTTP/1.1', [...handshake, 'Content-Length', '5']),
    'UPGRADE_INVALID',
  )
  assert.equal(
    defectOf('GET /ws HTTP/1.1', [...handshake, 'Sec-WebSocket-Protocol', 'a, a']),
    'UPGRADE_INVALID',
  )
})

test('another upgrade than WebSocket is a plain request', () => {
  const facts = factsOf('GET / HTTP/1.1', [
    ...host,
    'Connection',
    'Upgrade, HTTP2-Settings',
    'Upgrade',
    'h2c',
    'HTTP2-Settings',
    'AAA',
  ])
  assert.equal(facts.defect, undefined)
  assert.equal(facts.websocket, undefined)
  assert.deepEqual(facts.headers, [...host])
})

test('reading never throws, and what passes is canonical', () => {
  const anyHeader = fc.tuple(
    fc.constantFrom(
      'Host',
      'Connection',
      'Upgrade',
      'Transfer-Encoding',
      'Content-Length',
      'X-A',
      'Expect',
      'Cookie',
    ),
    fc.string({ maxLength: 20 }),
  )
  fc.assert(
    fc.property(
      fc.string({ maxLength: 60 }),
      fc.array(anyHeader, { maxLength: 8 }),
      (url, headers) => {
        const facts = factsOf(`GET ${url.replaceAll(' ', '')} HTTP/1.1`, headers.flat())
        if (facts.defect !== undefined) return
        assert.match(facts.target, /^\/[\x21-\x7e]*$/)
        assert.equal(
          new URL(facts.target, 'http://localhost').pathname,
          facts.path
            .replaceAll('"', '%22')
            .replaceAll('<', '%3C')
            .replaceAll('>', '%3E')
            .replaceAll('`', '%60')
            .replaceAll('{', '%7B')
            .replaceAll('}', '%7D')
            .replaceAll('^', '%5E'),
        )
      },
    ),
    { numRuns: 500 },
  )
})
