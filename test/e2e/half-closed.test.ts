/** Clients that finish sending and still read, as shell tools do: TCP says the same of one that has gone. */
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { eventually, ownerRequest, startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
/** Lets the agent give the answers that it holds back under `/held`. */
let letGo: (() => void)[] = []
let aborted: string[] = []
before(async () => {
  side = await startSidecar({
    answer: (request, response, seen) => {
      response.on('close', () => {
        if (!response.writableFinished) aborted.push(seen.url)
      })
      request.on('end', () => {
        const answer = () => void response.end(`answer to ${seen.url} ${seen.body.toString()}\n`)
        if (seen.url === '/stream') stream(0)
        else if (seen.url === '/held') letGo.push(answer)
        else answer()
      })
      const stream = (event: number) => {
        response.write(`event ${event}\n`)
        if (event < 8) setTimeout(() => stream(event + 1), 100)
        else response.end('last event\n')
      }
    },
  })
})
after(() => side.stop())
beforeEach(() => {
  side.agent.seen.length = 0
  letGo = []
  aborted = []
})

const ask = (line: string, ...more: string[]) => ownerRequest(side, line, ...more)

test('a client that has finished sending gets its answer, whoever gives it', async () => {
  for (const [bytes, statuses] of [
    [ask('GET /x HTTP/1.1'), [200]],
    [ask('GET /x HTTP/1.0'), [200]],
    [`${ask('POST /x HTTP/1.1', 'Content-Length: 3')}abc`, [200]],
    [`${ask('POST /x HTTP/1.1', 'Transfer-Encoding: chunked')}3\r\nabc\r\n0\r\n\r\n`, [200]],
    [ask('GET /health HTTP/1.1'), [200]],
    [ask('POST /.hardshell/token HTTP/1.1'), [409]],
    [head('GET /x HTTP/1.1', 'Host: localhost'), [401]],
    [ask('POST /x HTTP/1.1', 'Content-Length: 99999999'), [413]],
    [ask('GET /x HTTP/1.1') + head('GET /x HTTP/1.1', 'Host: localhost'), [200, 401]],
    [ask('GET /x HTTP/1.1') + ask('GET /y HTTP/1.1'), [200, 200]],
  ] as const) {
    const answer = await exchange(side.port, [bytes], { ends: true, timeMs: 8000 })
    assert.deepEqual(answer.statuses, statuses, bytes.split('\r\n')[0])
    assert.equal(answer.closed, true)
    assert.equal(answer.reset, false)
  }
})

test('an answer that keeps flowing reaches a client that has finished sending to its end', async () => {
  const answer = await exchange(side.port, [ask('GET /stream HTTP/1.1')], {
    ends: true,
    timeMs: 8000,
  })
  assert.match(answer.text, /event 0[^]*event 8[^]*last event\n\r\n0\r\n\r\n$/)
})

test('a client that ends in the middle of its body gets 400, and the agent never has it whole', async () => {
  const whole = ask('POST /x HTTP/1.1', 'Content-Length: 30')
  for (const pieces of [[`${whole}half`], [`${whole}half`, 100]]) {
    const answer = await exchange(side.port, pieces, { ends: true, timeMs: 8000 })
    assert.equal(answer.status, 400)
    assert.equal(answer.closed, true)
    assert.ok(side.agent.seen.every(({ ended }) => !ended))
  }
})

test('an end of sending and then silence is a client that has gone: the agent’s request ends', async () => {
  const answer = await exchange(side.port, [ask('GET /held HTTP/1.1')], {
    ends: true,
    timeMs: 8000,
  })
  assert.deepEqual(answer.statuses, [])
  assert.equal(answer.closed, true)
  await eventually(() => aborted.includes('/held'), 'the end of the agent’s request')
  await eventually(() => side.records().some(({ status }) => status === 499), 'its record')
})
