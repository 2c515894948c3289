/** Sizes, times, counts: CVE-2007-6750 (slow heads), CWE-770, CWE-307, RFC 6585, CVE-2024-37890. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { eventually, ownerRequest, sidecarFor } from '../support/sidecar.ts'

const whole = { until: (text: string) => /\r\n\r\n.*[}\n]$/s.test(text) }

test('a declared body of the limit passes, one byte more is 413 before the agent hears of it', async (t) => {
  const side = await sidecarFor(t, { config: { security: { maxRequestSize: '1KB' } } })
  const at = await exchange(
    side.port,
    [ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 1024') + 'x'.repeat(1024)],
    whole,
  )
  assert.equal(at.status, 200)
  const over = await exchange(side.port, [
    ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 1025'),
  ])
  assert.equal(over.status, 413)
  assert.equal(over.code, 'BODY_TOO_LARGE')
  assert.equal(over.closed, true)
  assert.equal(side.agent.seen.length, 1)
})

test('a client that is still sending its too large body gets the 413', async (t) => {
  const side = await sidecarFor(t, { config: { security: { maxRequestSize: '1KB' } } })
  const body = Buffer.alloc(256 * 1024, 120)
  const answer = await exchange(side.port, [
    ownerRequest(side, 'POST / HTTP/1.1', `Content-Length: ${4 * body.length}`),
    body,
    body,
  ])
  assert.equal(answer.status, 413)
  assert.equal(side.agent.seen.length, 0)
})

test('a chunked body is cut at the limit and the agent never gets it whole', async (t) => {
  const side = await sidecarFor(t, { config: { security: { maxRequestSize: '64KB' } } })
  const chunk = `4000\r\n${'x'.repeat(0x4000)}\r\n`
  const at = await exchange(
    side.port,
    [
      ownerRequest(side, 'POST /at HTTP/1.1', 'Transfer-Encoding: chunked') +
        chunk.repeat(4) +
        '0\r\n\r\n',
    ],
    whole,
  )
  assert.equal(at.status, 200)
  const over = await exchange(side.port, [
    ownerRequest(side, 'POST /over HTTP/1.1', 'Transfer-Encoding: chunked'),
    chunk.repeat(4),
    20,
    '1\r\ny\r\n0\r\n\r\n',
  ])
  assert.equal(over.status, 413)
  assert.equal(over.code, 'BODY_TOO_LARGE')
  const small = await exchange(side.port, [
    ownerRequest(side, 'POST /over HTTP/1.1', 'Transfer-Encoding: chunked') +
      chunk.repeat(4) +
      '1\r\ny\r\n0\r\n\r\n',
  ])
  assert.equal(small.status, 413)
  assert.ok(side.agent.seen.filter(({ url }) => url === '/over').every((seen) => !seen.ended))
})

test('100 Continue comes only after the gates', async (t) => {
  const side = await sidecarFor(t, { config: { security: { maxRequestSize: '1KB' } } })
  const expecting = (token: string, bytes: number) =>
    head(
      'POST / HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${token}`,
      `Content-Length: ${bytes}`,
      'Expect: 100-continue',
    )
  const wrong = await exchange(side.port, [expecting('wrong', 5)])
  assert.deepEqual([...wrong.statuses], [401])
  const big = await exchange(side.port, [expecting(side.token, 5000)])
  assert.deepEqual([...big.statuses], [413])
  assert.equal(side.agent.seen.length, 0)
  const right = await exchange(side.port, [expecting(side.token, 5), 200, 'hello'], {
    until: (text) => text.includes('hello'),
  })
  assert.deepEqual([...right.statuses], [100, 200])
  assert.equal(side.agent.seen[0]?.headers.expect, undefined)
  const other = await exchange(side.port, [
    ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 1', 'Expect: 200-ok') + 'a',
  ])
  assert.equal(other.status, 417)
})

test('a long target is 414 and many or large headers are 431', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { limits: { maxUrlLength: '1KB', maxHeaders: 20, maxHeaderSize: '8KB' } } },
  })
  const at = await exchange(
    side.port,
    [ownerRequest(side, `GET /${'a'.repeat(1023)} HTTP/1.1`)],
    whole,
  )
  assert.equal(at.status, 200)
  const long = await exchange(side.port, [ownerRequest(side, `GET /${'a'.repeat(1024)} HTTP/1.1`)])
  assert.equal(long.code, 'URL_TOO_LONG')
  const some = (n: number) => Array.from({ length: n }, (_, i) => `X-H${i}: v`)
  assert.equal(
    (await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1', ...some(18))], whole)).status,
    200,
  )
  for (const n of [19, 20, 40, 300]) {
    const many = await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1', ...some(n))])
    assert.equal(many.status, 431, String(n))
  }
  const large = await exchange(side.port, [
    ownerRequest(side, 'GET / HTTP/1.1', `X-Big: ${'x'.repeat(9000)}`),
  ])
  assert.equal(large.code, 'HEADERS_TOO_LARGE')
  assert.equal(side.agent.seen.length, 2)
})

test('a head that comes byte by byte is 408', async (t) => {
  const side = await sidecarFor(t, { config: { security: { limits: { headerTimeout: '1s' } } } })
  const answer = await exchange(side.port, ['GET / HTTP/1.1\r\nHost: loc'], { timeMs: 6000 })
  assert.equal(answer.status, 408)
  assert.equal(answer.code, 'REQUEST_TIMEOUT')
  assert.equal(answer.closed, true)
  assert.equal(side.agent.seen.length, 0)
})

test('a body that comes too slowly is 408 and the agent never gets it whole', async (t) => {
  const side = await sidecarFor(t, { config: { security: { limits: { bodyTimeout: '1s' } } } })
  const answer = await exchange(
    side.port,
    [ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 100'), 'a', 300, 'b', 300, 'c'],
    { timeMs: 6000 },
  )
  assert.equal(answer.status, 408)
  assert.equal(answer.code, 'REQUEST_TIMEOUT')
  assert.ok(side.agent.seen.every((seen) => !seen.ended))
})

test('too many requests of one identity are 429 with Retry-After and the agent hears of none of them', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { rateLimiting: { requestsPerMinute: 3 } } },
  })
  const call = () => fetch(`${side.url}/x`, { headers: side.auth })
  for (const left of [2, 1, 0]) {
    const answer = await call()
    assert.equal(answer.status, 200)
    assert.equal(answer.headers.get('ratelimit-policy'), '"identity";q=3;w=60')
    assert.match(answer.headers.get('ratelimit') ?? '', new RegExp(`^"identity";r=${left};t=\\d+$`))
  }
  const over = await call()
  assert.equal(over.status, 429)
  assert.equal(((await over.json()) as { code: string }).code, 'RATE_LIMITED')
  assert.ok(Number(over.headers.get('retry-after')) >= 1)
  assert.equal(side.agent.seen.length, 3)
})

test('strangers behind the same address cannot starve the owner', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { rateLimiting: { requestsPerMinutePerAddress: 5 } } },
  })
  const statuses: number[] = []
  for (let i = 0; i < 8; i += 1) statuses.push((await fetch(`${side.url}/x`)).status)
  assert.deepEqual(statuses, [401, 401, 401, 401, 401, 429, 429, 429])
  assert.equal((await fetch(`${side.url}/x`, { headers: side.auth })).status, 200)
})

test('wrong tokens lock their address for wrong tokens only', async (t) => {
  const side = await sidecarFor(t)
  const wrong = () => fetch(`${side.url}/x`, { headers: { Authorization: 'Bearer wrong' } })
  for (let i = 0; i < 5; i += 1) assert.equal((await wrong()).status, 401)
  const locked = await wrong()
  assert.equal(locked.status, 429)
  assert.equal(((await locked.json()) as { code: string }).code, 'AUTH_LOCKED')
  assert.ok(Number(locked.headers.get('retry-after')) > 200)
  assert.equal((await fetch(`${side.url}/x`)).status, 401)
  assert.equal((await fetch(`${side.url}/x`, { headers: side.auth })).status, 200)
  assert.equal(side.agent.seen.length, 1)
  assert.equal(side.records().filter(({ event }) => event === 'address.locked').length, 1)
})

test('no address takes all connections', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { limits: { maxConnectionsPerAddress: 2 } } },
  })
  const held = [1, 2].map(() =>
    exchange(side.port, [ownerRequest(side, 'GET /x HTTP/1.1')], { timeMs: 1200 }),
  )
  await eventually(() => side.agent.seen.length === 2, 'two requests')
  const third = await exchange(side.port, [ownerRequest(side, 'GET /x HTTP/1.1')], { timeMs: 1000 })
  assert.equal(third.status, 0)
  assert.equal(third.closed, true)
  const other = await exchange(side.port, [ownerRequest(side, 'GET /x HTTP/1.1')], {
    ...whole,
    host: '127.0.0.2',
  }).catch(() => undefined)
  assert.notEqual(other?.status, 200)
  for (const one of await Promise.all(held)) assert.equal(one.status, 200)
  assert.equal(side.agent.seen.length, 2)
})

test('a connection ends after its number of requests', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { limits: { maxRequestsPerConnection: 2 } } },
  })
  const one = ownerRequest(side, 'GET /x HTTP/1.1')
  const answer = await exchange(side.port, [one + one + one + one], { timeMs: 4000 })
  assert.deepEqual(answer.statuses, [200, 200], 'nothing stands behind the last answer')
  assert.match(answer.text, /connection: keep-alive[^]*HTTP\/1\.1 200[^]*connection: close/i)
  assert.equal(answer.closed, true)
  assert.equal(side.agent.seen.length, 2)
  const later = await exchange(side.port, [one, 100, one, 100, one], { timeMs: 4000 })
  assert.deepEqual(later.statuses, [200, 200])
  assert.equal(later.closed, true)
  assert.equal(side.agent.seen.length, 4)
  const old = (path: string) => ownerRequest(side, `GET ${path} HTTP/1.0`, 'Connection: keep-alive')
  const older = await exchange(side.port, [old('/health').repeat(2) + old('/x')], { timeMs: 4000 })
  assert.deepEqual(older.statuses, [200, 200])
  assert.equal(older.closed, true)
  assert.equal(side.agent.seen.length, 4)
})
