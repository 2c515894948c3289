/** Requests sent behind one that is not answered yet: RFC 9112 §9.3.2 (answers in order), §9.6, RFC 6455 §4.1. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
/** Lets the agent answer what it was asked under `/slow`. */
let letGo: (() => void)[] = []
before(async () => {
  side = await startSidecar({
    answer: (request, response, seen) => {
      request.on('end', () => {
        const answer = () => response.end(`answer to ${seen.url}\r\n`)
        if (seen.url.startsWith('/slow')) letGo.push(answer)
        else answer()
      })
    },
  })
})
after(() => side.stop())
beforeEach(() => {
  side.agent.seen.length = 0
  letGo = []
})

const lines = (first: string, ...more: string[]) =>
  head(first, 'Host: localhost', `Authorization: Bearer ${side.token}`, ...more)
const handshake = [
  'Connection: Upgrade',
  'Upgrade: websocket',
  'Sec-WebSocket-Version: 13',
  'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
]
const asked = () => side.agent.seen.map(({ url }) => url)

/** Sends everything at once and lets the slow answer go half a second later, or whenever it is asked for after that. */
async function pipelined(...requests: string[]) {
  const timer = setInterval(() => letGo.splice(0).forEach((go) => go()), 500)
  const answer = await exchange(side.port, [requests.join('')], { timeMs: 8000 })
  clearInterval(timer)
  return answer
}

test('a WebSocket is not opened while an answer on its connection is still to come', async () => {
  const answer = await pipelined(
    lines('GET /slow HTTP/1.1'),
    lines('GET /socket HTTP/1.1', ...handshake),
  )
  assert.equal(answer.text, '', 'no answer stands in the place of another')
  assert.equal(answer.closed, true)
  assert.ok(!asked().includes('/socket'), 'the agent never heard of the handshake')
})

test('the refusal of a handshake never stands in the place of an earlier answer', async () => {
  const answer = await pipelined(
    lines('GET /slow HTTP/1.1'),
    head('GET /socket HTTP/1.1', 'Host: localhost', ...handshake),
  )
  assert.equal(answer.text, '')
  assert.equal(answer.closed, true)
  assert.ok(!asked().includes('/socket'))
})

test('the refusal of CONNECT never stands in the place of an earlier answer', async () => {
  const answer = await pipelined(
    lines('GET /slow HTTP/1.1'),
    lines('CONNECT a.example:80 HTTP/1.1'),
  )
  assert.equal(answer.text, '')
  assert.equal(answer.closed, true)
})

test('bytes behind a refused request are no request, also while an earlier answer is awaited', async () => {
  const behind = lines('GET /behind HTTP/1.1')
  for (const refused of [
    `${lines('POST /refused HTTP/1.1', 'Transfer-Encoding: gzip, chunked')}0\r\n\r\n`,
    lines('GET /refused HTTP/1.1', 'Host: localhost'),
  ]) {
    side.agent.seen.length = 0
    letGo = []
    const answer = await pipelined(lines('GET /slow HTTP/1.1'), refused, behind)
    assert.deepEqual(asked(), ['/slow'])
    assert.match(answer.text, /^HTTP\/1\.1 200 [^]*answer to \/slow\r\n[^]*HTTP\/1\.1 (?:400|501) /)
    assert.equal(answer.statuses.length, 2, 'one answer each, in order')
    assert.equal(answer.closed, true)
  }
})

test('what comes behind a request is never held against it', async () => {
  for (const [behind, code] of [
    ['no request at all\r\n\r\n', 400],
    ['GET /behind HTTP/1.1\nHost: localhost\n\n', 400],
    ['GET /behind HTTP/9.9\r\nHost: localhost\r\n\r\n', 505],
    ['FOO /behind HTTP/1.1\r\nHost: localhost\r\n\r\n', 405],
  ] as const) {
    side.agent.seen.length = 0
    letGo = []
    const answer = await pipelined(lines('GET /slow HTTP/1.1'), lines('GET /2 HTTP/1.1'), behind)
    assert.deepEqual(asked().sort(), ['/2', '/slow'])
    assert.deepEqual(answer.statuses, [200, 200, code], 'one answer each, in order')
    assert.match(answer.text, /answer to \/slow\r\n[^]*answer to \/2\r\n/)
    assert.equal(answer.closed, true)
  }
})

test('a request that asks to close is answered, and nothing behind it is a request', async () => {
  for (const behind of [lines('GET /behind HTTP/1.1'), 'no request at all', '\r\n\r\n']) {
    for (const [path, last] of [
      ['/slow', 'HTTP/1.1'],
      ['/fast', 'HTTP/1.0'],
    ] as const) {
      side.agent.seen.length = 0
      letGo = []
      const answer = await pipelined(lines(`GET ${path} ${last}`, 'Connection: close'), behind)
      assert.deepEqual(asked(), [path])
      assert.deepEqual(answer.statuses, [200])
      assert.match(answer.text, /connection: close[^]*answer to /i)
      assert.equal(answer.closed, true)
      assert.equal(answer.reset, false)
    }
  }
})

test('a body that breaks is held against its own request and not against the one before it', async () => {
  const answer = await pipelined(
    lines('GET /slow HTTP/1.1'),
    `${lines('POST /broken HTTP/1.1', 'Transfer-Encoding: chunked')}5\r\nhello\r\nzz\r\n`,
  )
  assert.deepEqual(answer.statuses, [200, 400])
  assert.match(answer.text, /answer to \/slow\r\n/)
  assert.equal(answer.closed, true)
  assert.ok(side.agent.seen.every(({ url, ended }) => url === '/slow' || !ended))
})

test('pipelined requests are answered in their order, each by its own answer', async () => {
  const answer = await pipelined(
    lines('GET /slow/1 HTTP/1.1'),
    head('GET /stranger HTTP/1.1', 'Host: localhost'),
    lines('GET /3 HTTP/1.1', 'Connection: close'),
  )
  assert.match(answer.text, /answer to \/slow\/1\r\n[^]* 401 [^]*UNAUTHENTICATED[^]*answer to \/3/)
  assert.ok(!asked().includes('/stranger'))
})
