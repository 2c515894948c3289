/** Claims, credentials and origins: RFC 6750, CVE-2026-25253, CVE-2022-31813, GHSA-943q-mwmv-hhvh. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { after, before, test } from 'node:test'

import { makeToken } from '../../src/identity/token-text.ts'
import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar({
    config: {
      agent: { token: 'agent-own-credential' },
      security: { rateLimiting: { authFailures: { attempts: 1000 } } },
    },
  })
})
after(() => side.stop())

const auth = () => `Authorization: Bearer ${side.token}`

async function answered(...lines: string[]) {
  const before = side.agent.seen.length
  const answer = await exchange(side.port, [head(...lines)], {
    until: (text) => /\r\n\r\n.*[}\n]$/s.test(text),
  })
  return { ...answer, reached: side.agent.seen.length - before }
}

test('no path, method or source is exempt from the token', async () => {
  for (const line of [
    'GET / HTTP/1.1',
    'GET /health HTTP/1.1',
    'HEAD /health HTTP/1.1',
    'OPTIONS /x HTTP/1.1',
    'POST /v1/x HTTP/1.1',
    'DELETE /x HTTP/1.1',
    'GET /favicon.ico HTTP/1.1',
    'GET /.well-known/x HTTP/1.1',
  ]) {
    const { status, reached } = await answered(
      line,
      'Host: localhost',
      'User-Agent: kube-probe/1.0',
    )
    assert.equal(status, 401, line)
    assert.equal(reached, 0, line)
  }
})

test('a token that is nearly right is as wrong as any', async () => {
  const { token } = side
  const tries = [
    'Bearer',
    'Bearer ',
    `Bearer ${token}x`,
    `Bearer ${token.slice(0, -1)}`,
    `Basic ${token}`,
    token,
    `Bearer ${token} ${token}`,
    `Bearer ${token},${token}`,
    `bearer:${token}`,
    `Bearer "${token}"`,
    `Bearer ${token.toUpperCase() === token ? token.toLowerCase() : token.toUpperCase()}`,
  ]
  const bodies = new Set<string>()
  for (const value of tries) {
    const { status, reached, text } = await answered(
      'GET /x HTTP/1.1',
      'Host: localhost',
      `Authorization: ${value}`,
    )
    assert.equal(status, 401, value.replace(token, '…'))
    assert.equal(reached, 0)
    bodies.add(text.replace(/"requestId":"[^"]+"|X-Request-Id: \S+|Date: [^\r]+/g, ''))
  }
  assert.equal(bodies.size, 1, 'every refusal looks alike')
})

test('two credentials are none', async () => {
  const { status, code, reached } = await answered(
    'GET /x HTTP/1.1',
    'Host: localhost',
    auth(),
    auth(),
  )
  assert.equal(status, 400)
  assert.equal(code, 'HEADER_DUPLICATE')
  assert.equal(reached, 0)
})

test('a token in the URL is refused, even the right one, and never logged', async () => {
  for (const target of [
    `/x?token=${side.token}`,
    `/x?a=b&access_token=${side.token}`,
    `/x?anything=${side.token}`,
    '/x?token=',
  ]) {
    const { status, reached } = await answered(`GET ${target} HTTP/1.1`, 'Host: localhost', auth())
    assert.equal(status, 401)
    assert.equal(reached, 0)
  }
  const written = JSON.stringify(side.records()) + JSON.stringify(side.logged)
  assert.ok(!written.includes(side.token))
})

test('a credential in another header is refused, beside a good one too', async () => {
  const { token } = makeToken(randomBytes)
  const session = `hss_${randomBytes(32).toString('base64url')}`
  const upgrade = [
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
  ]
  for (const secret of [token, session, side.token]) {
    for (const lines of [
      [`Cookie: a=b; token=${secret}`],
      [`X-Api-Key: ${secret}`],
      [`X-Anything: Bearer ${secret}, more`],
      [`Referer: http://localhost/x?t=${secret}`],
      [...upgrade, `Sec-WebSocket-Protocol: bearer, ${secret}`],
    ]) {
      const { status, text, reached } = await answered(
        'GET /x HTTP/1.1',
        'Host: localhost',
        auth(),
        ...lines,
      )
      assert.deepEqual([status, reached], [401, 0], lines.at(-1))
      assert.ok(!text.includes(secret))
    }
    assert.ok(!JSON.stringify(side.records()).includes(secret))
  }
  const { status } = await answered('GET /x HTTP/1.1', 'Host: localhost', auth(), 'X-A: hsk_ hss_')
  assert.equal(status, 200)
})

test('the agent gets its own credential and never the client’s', async () => {
  const { status } = await answered('GET /x HTTP/1.1', 'Host: localhost', auth())
  assert.equal(status, 200)
  const seen = side.agent.seen.at(-1)
  assert.equal(seen?.headers.authorization, 'Bearer agent-own-credential')
  assert.ok(!JSON.stringify(seen?.rawHeaders).includes(side.token))
})

test('nobody can say who they are in a header', async () => {
  const claims = [
    'X-Forwarded-For: 10.0.0.1',
    'X-Forwarded-Proto: https',
    'X-Forwarded-Host: a',
    'X-Forwarded-User: owner',
    'Forwarded: for=10.0.0.1',
    'X-Real-IP: 10.0.0.1',
    'Tailscale-User-Login: owner@example.com',
    'Remote-User: owner',
    'X-Original-URL: /admin',
    'X-Rewrite-URL: /admin',
    'X-HTTP-Method-Override: DELETE',
    'Via: 1.1 x',
    'X-Request-Id: mine',
  ]
  const { status } = await answered('GET /x HTTP/1.1', 'Host: localhost', auth(), ...claims)
  assert.equal(status, 200)
  const seen = side.agent.seen.at(-1)
  const names = seen?.rawHeaders
    .filter((_, i) => i % 2 === 0)
    .map((name) => name.toLowerCase())
    .toSorted()
  assert.deepEqual(names, ['authorization', 'connection', 'host', 'x-request-id'])
  assert.notEqual(seen?.headers['x-request-id'], 'mine')
})

test('a look-alike with an underscore is refused', async () => {
  const { status, code, reached } = await answered(
    'GET /x HTTP/1.1',
    'Host: localhost',
    auth(),
    'X_Forwarded_For: 10.0.0.1',
  )
  assert.equal(status, 400)
  assert.equal(code, 'HEADER_INVALID')
  assert.equal(reached, 0)
})

test('Connection cannot remove what was judged', async () => {
  for (const name of [
    'Host',
    'Authorization',
    'Content-Length',
    'Transfer-Encoding',
    'Cookie',
    'X-Forwarded-For',
  ]) {
    const { status, reached } = await answered(
      'GET /x HTTP/1.1',
      'Host: localhost',
      auth(),
      `Connection: close, ${name}`,
    )
    assert.equal(status, 400, name)
    assert.equal(reached, 0)
  }
  await answered(
    'GET /x HTTP/1.1',
    'Host: localhost',
    auth(),
    'Connection: x-secret',
    'X-Secret: 1',
    'X-Open: 2',
  )
  assert.equal(side.agent.seen.at(-1)?.headers['x-secret'], undefined)
  assert.equal(side.agent.seen.at(-1)?.headers['x-open'], '2')
})

test('a page of another site cannot speak, with or without the token', async () => {
  for (const origin of [
    'http://evil.example',
    'null',
    'http://localhost:1234',
    'https://localhost.evil.example',
  ]) {
    const { status, code, reached, text } = await answered(
      'POST /x HTTP/1.1',
      'Host: localhost',
      auth(),
      `Origin: ${origin}`,
      'Content-Length: 0',
    )
    assert.equal(status, 403, origin)
    assert.equal(code, 'ORIGIN_DENIED')
    assert.equal(reached, 0)
    assert.doesNotMatch(text, /access-control-allow/i)
  }
  const cross = await answered(
    'GET /x HTTP/1.1',
    'Host: localhost',
    auth(),
    'Sec-Fetch-Site: cross-site',
  )
  assert.equal(cross.status, 403)
  assert.equal(cross.reached, 0)
  const own = await answered(
    'GET /x HTTP/1.1',
    'Host: localhost',
    auth(),
    'Origin: http://localhost',
    'Sec-Fetch-Site: same-origin',
  )
  assert.equal(own.status, 200)
})

test('a preflight without a token is answered by us', async () => {
  const { status, reached } = await answered(
    'OPTIONS /x HTTP/1.1',
    'Host: localhost',
    'Origin: http://evil.example',
    'Access-Control-Request-Method: POST',
  )
  assert.equal(status, 401)
  assert.equal(reached, 0)
})

test('software names do not leave the house', async () => {
  side.agent.server.once('request', (_request, response) => {
    response.setHeader('Server', 'secretd/1')
    response.setHeader('X-Powered-By', 'secret')
    response.setHeader('Via', '1.1 secret')
  })
  const { text } = await answered('GET /x HTTP/1.1', 'Host: localhost', auth())
  assert.doesNotMatch(text.split('\r\n\r\n')[0] ?? '', /server:|powered|via:/i)
})
