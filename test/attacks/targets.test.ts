/** Targets, hosts and methods: RFC 9112 §3.2, CVE-2021-41773, CVE-2025-66414 (DNS rebinding), RFC 9110 §9.3.6. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar({
    config: {
      gateway: { publicOrigins: ['https://box.tail.ts.net'] },
      security: { paths: { deny: ['/admin'] } },
    },
  })
})
after(() => side.stop())

const request = (line: string, host = 'Host: localhost') =>
  head(line, host, `Authorization: Bearer ${side.token}`)

async function refused(bytes: string, status: number, code: string): Promise<void> {
  const before = side.agent.seen.length
  const answer = await exchange(side.port, [bytes], { until: (text) => text.includes('requestId') })
  assert.equal(answer.status, status, JSON.stringify(bytes))
  assert.equal(answer.code, code, JSON.stringify(bytes))
  assert.equal(side.agent.seen.length, before, 'the agent received nothing')
}

test('a path in disguise is refused, never repaired', async () => {
  for (const path of [
    '/a/../admin',
    '/%2e%2e/admin',
    '/a/..;/admin',
    '/a%2f..%2fadmin',
    '//admin',
    '/a\\..\\admin',
    '/a%5cadmin',
    '/a%00',
    '/x#/../admin',
    '/a/./b',
    '/%2e/admin',
  ]) {
    await refused(request(`GET ${path} HTTP/1.1`), 400, 'TARGET_INVALID')
  }
})

test('a denied path is denied in every spelling', async () => {
  for (const path of [
    '/admin',
    '/admin/',
    '/admin/x',
    '/ADMIN',
    '/%61dmin',
    '/admin;x',
    '/admin?x=/',
    '/%61dmin%3bx',
    // A byte that is not UTF-8 elsewhere in the path hides nothing (CWE-172).
    '/%61dmin/%80',
    '/%61dmin%3bx/caf%e9',
    '/%61dmin/%ed%a0%80',
    // For agents that decode twice (CWE-174).
    '/%2561dmin',
  ]) {
    await refused(request(`GET ${path} HTTP/1.1`), 403, 'PATH_DENIED')
  }
})

test('the proxy is no proxy for anywhere else', async () => {
  await refused(
    request('GET http://169.254.169.254/latest/meta-data HTTP/1.1'),
    400,
    'TARGET_INVALID',
  )
  await refused(
    request('GET http://169.254.169.254/ HTTP/1.1', 'Host: 169.254.169.254'),
    421,
    'HOST_DENIED',
  )
  await refused(request('GET http://[ HTTP/1.1'), 400, 'TARGET_INVALID')
  await refused(request('OPTIONS * HTTP/1.1'), 400, 'TARGET_INVALID')
  await refused(
    request('CONNECT 169.254.169.254:80 HTTP/1.1', 'Host: 169.254.169.254:80'),
    405,
    'METHOD_NOT_ALLOWED',
  )
})

test('methods outside the list are 405 and say what is allowed', async () => {
  await refused(request('TRACE / HTTP/1.1'), 405, 'METHOD_NOT_ALLOWED')
  await refused(request('PROPFIND / HTTP/1.1'), 405, 'METHOD_NOT_ALLOWED')
  await refused(request('FOO / HTTP/1.1'), 405, 'METHOD_NOT_ALLOWED')
  const answer = await exchange(side.port, [request('TRACE / HTTP/1.1')], {
    until: (text) => text.includes('requestId'),
  })
  assert.match(answer.text, /\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n/)
})

test('a page on another host name cannot rebind its way in', async () => {
  for (const host of [
    'evil.example',
    'evil.example:8080',
    'localhost.evil.example',
    '10.0.0.7:8080',
  ]) {
    await refused(request('GET /x HTTP/1.1', `Host: ${host}`), 421, 'HOST_DENIED')
  }
  for (const host of [
    'localhost',
    'LocalHost:9',
    '127.0.0.1:8080',
    '[::1]',
    'box.tail.ts.net',
    'BOX.tail.ts.net:443',
  ]) {
    const answer = await exchange(side.port, [request('GET /x HTTP/1.1', `Host: ${host}`)], {
      until: (text) => text.includes('"url"'),
    })
    assert.equal(answer.status, 200, host)
    assert.equal(side.agent.seen.at(-1)?.headers.host, host, 'Host goes on as it came')
  }
})

test('a missing, doubled or malformed Host is 400', async () => {
  const auth = `Authorization: Bearer ${side.token}`
  await refused(head('GET / HTTP/1.1', auth), 400, 'HOST_INVALID')
  await refused(head('GET / HTTP/1.0', auth), 400, 'HOST_INVALID')
  await refused(
    head('GET / HTTP/1.1', 'Host: localhost', 'Host: localhost', auth),
    400,
    'HEADER_DUPLICATE',
  )
  await refused(head('GET / HTTP/1.1', 'Host: a@localhost', auth), 400, 'HOST_INVALID')
})

test('the absolute form for our own host is served in origin form', async () => {
  const answer = await exchange(side.port, [request('GET http://localhost/a?b=c HTTP/1.1')], {
    until: (text) => text.includes('"url"'),
  })
  assert.equal(answer.status, 200)
  assert.equal(side.agent.seen.at(-1)?.url, '/a?b=c')
})

test('what passes reaches the agent byte for byte', async () => {
  for (const path of [
    '/caf%C3%A9?q=%2F..%2F&x=//',
    '/.well-known/a',
    '/a;b=c/d?e',
    "/!$&'()*+,=:@-._~",
  ]) {
    const answer = await exchange(side.port, [request(`GET ${path} HTTP/1.1`)], {
      until: (text) => text.includes('"url"'),
    })
    assert.equal(answer.status, 200, path)
    assert.equal(side.agent.seen.at(-1)?.url, path)
  }
})

test('an OPTIONS that may not be passed on is answered here, behind the same gates', async () => {
  side.agent.seen.length = 0
  const ask = (forwards: number) =>
    exchange(
      side.port,
      [request('OPTIONS /x HTTP/1.1').replace('\r\n', `\r\nMax-Forwards: ${forwards}\r\n`)],
      { ends: true },
    )
  const answer = await ask(0)
  assert.equal(answer.status, 200)
  assert.match(answer.text, /\r\nAllow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n/)
  const stranger = head('OPTIONS /x HTTP/1.1', 'Host: localhost', 'Max-Forwards: 0')
  assert.equal((await exchange(side.port, [stranger], { ends: true })).status, 401)
  assert.equal(side.agent.seen.length, 0)
  assert.equal((await ask(5)).status, 200)
  assert.equal(side.agent.seen.at(-1)?.headers['max-forwards'], '4')
})

test('an odd target leaves the process well', async () => {
  await exchange(side.port, ['GET http://[ HTTP/1.1\r\n\r\n'])
  await exchange(side.port, ['\r\n\r\n\r\n'], { timeMs: 300 })
  const answer = await fetch(`${side.url}/health`, { headers: side.auth })
  assert.equal(answer.status, 200)
})

test('every refusal is dated, also on a bare socket', async () => {
  const connect = request('CONNECT a:80 HTTP/1.1', 'Host: a:80')
  const upgrade = request('GET /ws HTTP/1.1', 'Host: evil.example').replace(
    '\r\n\r\n',
    '\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  )
  for (const bytes of [request('GET /a/.. HTTP/1.1'), connect, upgrade, 'GARBAGE\r\n\r\n']) {
    const answer = await exchange(side.port, [bytes])
    assert.match(answer.text, /\r\nDate: \w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT\r\n/)
    assert.equal(answer.text.match(/\r\nDate: /g)?.length, 1)
  }
})
