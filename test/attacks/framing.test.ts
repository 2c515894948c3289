/** Request smuggling: RFC 9112 §6 and §11.2, CVE-2026-29057, CVE-2025-55315, CVE-2024-22019. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar()
})
after(() => side.stop())
beforeEach(() => {
  side.agent.seen.length = 0
})

const lines = (first: string, ...more: string[]) =>
  head(first, 'Host: localhost', `Authorization: Bearer ${side.token}`, ...more)

/** Sends bytes that must be refused with a status, close the connection, and leave the agent alone. */
async function refused(
  bytes: string,
  status: number | readonly number[],
  code?: string,
): Promise<void> {
  const answer = await exchange(side.port, [bytes])
  const wanted = typeof status === 'number' ? [status] : status
  assert.ok(
    wanted.includes(answer.status),
    `${JSON.stringify(bytes)} → ${answer.status} ${answer.text}`,
  )
  if (code !== undefined) assert.equal(answer.code, code)
  assert.equal(answer.closed, true, 'the connection closes')
  assert.equal(answer.statuses.length, 1, 'one answer')
  assert.equal(side.agent.seen.length, 0, 'the agent received nothing')
}

test('a length given twice, or in two ways, is refused', async () => {
  await refused(
    `${lines('POST / HTTP/1.1', 'Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    400,
    'FRAMING_AMBIGUOUS',
  )
  await refused(
    `${lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked', 'Content-Length: 5')}0\r\n\r\n`,
    400,
  )
  await refused(`${lines('POST / HTTP/1.1', 'Content-Length: 5', 'Content-Length: 5')}hello`, 400)
  await refused(`${lines('POST / HTTP/1.1', 'Content-Length: 5', 'Content-Length: 6')}hello`, 400)
  await refused(`${lines('POST / HTTP/1.1', 'Content-Length: 5, 5')}hello`, 400)
})

test('a length that is not a plain number is refused', async () => {
  for (const value of ['+5', '-5', '0x5', '5 5', '5a', '', '99999999999999999999999']) {
    const bytes = `${lines('POST / HTTP/1.1', `Content-Length: ${value}`)}hello`
    await refused(bytes, 400, 'FRAMING_AMBIGUOUS')
  }
})

test('a transfer coding that is not exactly chunked is refused', async () => {
  for (const value of ['gzip, chunked', 'gzip', 'identity', 'xchunked']) {
    await refused(`${lines('POST / HTTP/1.1', `Transfer-Encoding: ${value}`)}0\r\n\r\n`, [400, 501])
  }
  for (const value of ['chunked, chunked', ', chunked', 'chunked, identity', 'chunked;q=1']) {
    await refused(`${lines('POST / HTTP/1.1', `Transfer-Encoding: ${value}`)}0\r\n\r\n`, [400, 501])
  }
  await refused(
    `${lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    400,
  )
  await refused(`${lines('POST / HTTP/1.0', 'Transfer-Encoding: chunked')}0\r\n\r\n`, 400)
})

test('an unknown transfer coding is 501', async () => {
  await refused(
    `${lines('POST / HTTP/1.1', 'Transfer-Encoding: gzip, chunked')}0\r\n\r\n`,
    501,
    'TRANSFER_CODING',
  )
})

test('broken chunks never reach the agent as a whole request', async () => {
  for (const body of [
    '5\r\nhello0\r\n\r\n',
    '5\nhello\r\n0\r\n\r\n',
    'zz\r\nhello\r\n',
    '-5\r\nhello\r\n',
    '0x5\r\nhello\r\n',
    '5\r\nhello\r\n\r\n',
    'fffffffffffffffff\r\nx',
    '5 \r\nhello\r\n0\r\n\r\n',
  ]) {
    const answer = await exchange(
      side.port,
      [`${lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}${body}`],
      { timeMs: 1500 },
    )
    assert.ok(
      answer.status === 400 || answer.status === 0 || answer.status === 502,
      `${JSON.stringify(body)} → ${answer.status}`,
    )
    assert.equal(answer.closed, true)
    assert.ok(
      side.agent.seen.every((seen) => !seen.ended),
      'no complete request',
    )
    side.agent.seen.length = 0
  }
})

test('huge chunk extensions are cut off', async () => {
  const bytes = `${lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked')}5;${'x'.repeat(20_000)}\r\nhello\r\n0\r\n\r\n`
  const answer = await exchange(side.port, [bytes])
  assert.ok([400, 413].includes(answer.status), String(answer.status))
  assert.ok(side.agent.seen.every((seen) => !seen.ended))
})

test('bare line feeds, folded lines and spaces before the colon are refused', async () => {
  await refused(lines('GET / HTTP/1.1').replaceAll('\r\n', '\n'), 400)
  await refused(lines('GET / HTTP/1.1', 'X-A: one', ' two'), 400)
  await refused(lines('GET / HTTP/1.1', 'X-A : one'), 400)
  await refused(lines('GET / HTTP/1.1', 'X A: one'), 400)
  await refused(lines('GET / HTTP/1.1', ': one'), 400)
  await refused(lines('GET / HTTP/1.1', 'X-A: a\x00b'), 400)
  await refused(lines('GET / HTTP/1.1', 'X-A: a\rb'), 400)
})

test('a chunked DELETE or OPTIONS keeps its body: what follows is not a second request', async () => {
  const inner = 'GET /admin/smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n'
  const chunk = `${inner.length.toString(16)}\r\n${inner}\r\n0\r\n\r\n`
  for (const method of ['DELETE', 'OPTIONS', 'GET', 'POST']) {
    side.agent.seen.length = 0
    const answer = await exchange(
      side.port,
      [`${lines(`${method} /one HTTP/1.1`, 'Transfer-Encoding: chunked')}${chunk}`],
      { until: (text) => text.includes('"url"') },
    )
    assert.equal(answer.status, 200, method)
    assert.deepEqual(
      side.agent.seen.map(({ url }) => url),
      ['/one'],
      method,
    )
    assert.equal(side.agent.seen[0]?.body.toString(), inner, method)
  }
})

test('bytes behind a refused body are not a request', async () => {
  const second = lines('GET /second HTTP/1.1')
  const big = head(
    'POST / HTTP/1.1',
    'Host: localhost',
    'Authorization: Bearer wrong',
    `Content-Length: ${second.length}`,
  )
  const answer = await exchange(side.port, [big + second])
  assert.equal(answer.status, 401)
  assert.equal(side.agent.seen.length, 0)
})

test('trailers never become headers', async () => {
  const bytes = `${lines('POST / HTTP/1.1', 'Transfer-Encoding: chunked', 'Trailer: X-Late')}1\r\na\r\n0\r\nX-Late: 1\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n`
  const answer = await exchange(side.port, [bytes], { until: (text) => text.includes('"url"') })
  assert.equal(answer.status, 200)
  const raw = side.agent.seen[0]?.rawHeaders.map((value) => value.toLowerCase()) ?? []
  for (const name of ['x-late', 'trailer', 'x-forwarded-for']) assert.ok(!raw.includes(name), name)
})

test('two pipelined requests are two requests, each judged', async () => {
  const good = lines('GET /one HTTP/1.1')
  const bad = head('GET /two HTTP/1.1', 'Host: localhost')
  const answer = await exchange(side.port, [good + bad], {
    until: (text) => text.includes('UNAUTHENTICATED'),
  })
  assert.deepEqual([...answer.statuses], [200, 401])
  assert.deepEqual(
    side.agent.seen.map(({ url }) => url),
    ['/one'],
  )
})

test('old, new and nonsense versions are refused', async () => {
  await refused('GET /\r\n\r\n', [400, 505])
  await refused(lines('GET / HTTP/2.0'), [400, 505])
  await refused(lines('GET / HTTP/1.2'), [400, 505])
  await refused('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', [400, 405, 505])
  await refused('\x16\x03\x01\x02\x00\x01\x00', 400)
})

test('an h2c upgrade stays plain HTTP', async () => {
  const answer = await exchange(
    side.port,
    [
      lines(
        'GET /plain HTTP/1.1',
        'Connection: Upgrade, HTTP2-Settings',
        'Upgrade: h2c',
        'HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA',
      ),
    ],
    { until: (text) => text.includes('"url"') },
  )
  assert.equal(answer.status, 200)
  const names = side.agent.seen[0]?.headers ?? {}
  assert.equal(names.upgrade, undefined)
  assert.equal(names['http2-settings'], undefined)
})

test('nothing behind an upgrade that is not made is a request, in whatever pieces it comes', async () => {
  const upgrade = lines('GET /plain HTTP/1.1', 'Connection: Upgrade', 'Upgrade: h2c')
  const inner = lines('GET /smuggled HTTP/1.1')
  const outer = lines('POST /behind HTTP/1.1', `Content-Length: ${inner.length + 4}`)
  for (const pieces of [
    [`${upgrade}${outer}half`, 100, inner],
    [upgrade, 100, `${outer}half${inner}`],
    [`${upgrade}PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`],
  ]) {
    side.agent.seen.length = 0
    const answer = await exchange(side.port, pieces)
    assert.deepEqual(answer.statuses, [200])
    assert.match(answer.text, /connection: close/i)
    assert.equal(answer.closed, true)
    assert.deepEqual(
      side.agent.seen.map(({ url }) => url),
      ['/plain'],
    )
  }
})
