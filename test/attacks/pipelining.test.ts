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

/** Sends everything at once and lets the slow answer go half a second later. */
async function pipelined(...requests: string[]) {
  const timer = setTimeout(() => letGo.forEach((go) => go()), 500)
  const answer = await exchange(side.port, [requests.join('')])
  clearTimeout(timer)
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

test('pipelined requests are answered in their order, each by its own answer', async () => {
  const answer = await pipelined(
    lines('GET /slow/1 HTTP/1.1'),
    head('GET /stranger HTTP/1.1', 'Host: localhost'),
    lines('GET /3 HTTP/1.1', 'Connection: close'),
  )
  assert.match(answer.text, /answer to \/slow\/1\r\n[^]* 401 [^]*UNAUTHENTICATED[^]*answer to \/3/)
  assert.ok(!asked().includes('/stranger'))
})
