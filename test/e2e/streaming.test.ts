import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { test } from 'node:test'

import { exchange } from '../support/raw.ts'
import { eventually, ownerRequest, sidecarFor } from '../support/sidecar.ts'

test('each server-sent event arrives when it is sent, and the head before the first', async (t) => {
  let say: ((text: string) => void) | undefined
  const side = await sidecarFor(t, {
    answer: (_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.flushHeaders()
      say = (text) => void response.write(text)
    },
  })
  const answer = await fetch(`${side.url}/events`, { headers: side.auth })
  assert.equal(answer.status, 200)
  const reader = answer.body?.getReader()
  for (const text of ['data: 1\n\n', 'data: 2\n\n']) {
    say?.(text)
    const piece = await reader?.read()
    assert.equal(Buffer.from(piece?.value ?? []).toString(), text)
  }
  await reader?.cancel()
})

test('a body reaches the agent while it is still being sent', async (t) => {
  const pieces: string[] = []
  const side = await sidecarFor(t, {
    answer: (incoming, response) => {
      incoming.on('data', (piece: Buffer) => pieces.push(piece.toString()))
      incoming.on('end', () => response.end('done'))
    },
  })
  const call = httpRequest(side.url, { method: 'POST', path: '/up', headers: side.auth })
  const answered = new Promise<number>((resolve, reject) => {
    call.on('response', (response) => {
      response.resume()
      resolve(response.statusCode ?? 0)
    })
    call.on('error', reject)
  })
  call.write('one')
  await eventually(() => pieces.join('') === 'one', 'the first piece')
  call.end('two')
  assert.equal(await answered, 200)
  assert.equal(pieces.join(''), 'onetwo')
})

test('a client that goes away ends the agent’s request', async (t) => {
  let gone = false
  const side = await sidecarFor(t, {
    answer: (_request, response) => {
      response.on('close', () => {
        gone = !response.writableFinished
      })
    },
  })
  const abort = new AbortController()
  const call = fetch(`${side.url}/slow`, { headers: side.auth, signal: abort.signal }).catch(
    () => undefined,
  )
  await eventually(() => side.agent.seen.length === 1, 'the request')
  abort.abort()
  await call
  await eventually(() => gone, 'the end of the agent’s request')
  await eventually(() => side.records().some(({ status }) => status === 499), 'its record')
})

test('an upload that the client breaks off never looks whole to the agent', async (t) => {
  let aborted = false
  const side = await sidecarFor(t, {
    answer: (incoming) => {
      incoming.on('error', () => {
        aborted = true
      })
    },
  })
  await exchange(
    side.port,
    [ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 100'), 'half'],
    {
      timeMs: 300,
    },
  )
  await eventually(() => aborted, 'the abort at the agent')
  assert.equal(side.agent.seen[0]?.ended, false)
})

test('an agent that dies in the middle of an answer never looks complete', async (t) => {
  for (const framing of ['length', 'chunked'] as const) {
    const side = await sidecarFor(t, {
      answer: (_request, response) => {
        response.writeHead(200, framing === 'length' ? { 'Content-Length': '100000' } : {})
        response.write('x'.repeat(1000), () => setTimeout(() => response.destroy(), 30))
      },
    })
    const answer = await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1')])
    assert.equal(answer.status, 200)
    assert.equal(answer.closed, true, framing)
    assert.ok(!answer.text.endsWith('0\r\n\r\n'), framing)
    await eventually(
      () =>
        side.records().some(({ event, code }) => event === 'request.done' && code === 'AGENT_DOWN'),
      'its record',
    )
  }
})

test('an agent that dies before its answer is 502', async (t) => {
  const side = await sidecarFor(t, { answer: (incoming) => void incoming.socket.destroy() })
  for (const line of ['GET / HTTP/1.1', 'POST / HTTP/1.1']) {
    const more = line.startsWith('POST') ? ['Content-Length: 0'] : []
    const answer = await exchange(side.port, [ownerRequest(side, line, ...more)], {
      until: (text) => text.includes('requestId'),
    })
    assert.equal(answer.status, 502)
    assert.equal(answer.code, 'AGENT_DOWN')
  }
})

test('an agent that takes too long is 504', async (t) => {
  const side = await sidecarFor(t, {
    config: { security: { limits: { upstreamTimeout: '1s' } } },
    answer: () => undefined,
  })
  const answer = await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1')], {
    timeMs: 6000,
    until: (text) => text.includes('requestId'),
  })
  assert.equal(answer.status, 504)
  assert.equal(answer.code, 'AGENT_TIMEOUT')
})

test('an agent that talks nonsense is 502', async (t) => {
  const answers = [
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!',
    'garbage\r\n\r\n',
    'HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 0\r\n\r\n',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n',
    `HTTP/1.1 200 OK\r\nX-Big: ${'x'.repeat(40_000)}\r\n\r\n`,
  ]
  for (const text of answers) {
    const side = await sidecarFor(t, { answer: (incoming) => void incoming.socket.end(text) })
    const answer = await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1')], {
      until: (got) => got.includes('requestId'),
    })
    assert.equal(answer.status, 502, JSON.stringify(text.slice(0, 80)))
  }
})

test('HEAD, 204 and 304 have no body and keep their headers', async (t) => {
  const side = await sidecarFor(t, {
    answer: (incoming, response) => {
      const status = Number(incoming.url?.slice(1))
      response.writeHead(
        status,
        status === 304 ? { ETag: '"a"', 'Content-Length': '7' } : { ETag: '"a"' },
      )
      if (status === 200 && incoming.method === 'GET') response.end('content')
      else response.end()
    },
  })
  for (const [line, status] of [
    ['HEAD /200 HTTP/1.1', 200],
    ['GET /204 HTTP/1.1', 204],
    ['GET /304 HTTP/1.1', 304],
  ] as const) {
    const again = ownerRequest(side, 'GET /200 HTTP/1.1')
    const answer = await exchange(side.port, [ownerRequest(side, line) + again], {
      until: (text) => text.includes('content\r\n0'),
    })
    assert.deepEqual([...answer.statuses], [status, 200], line)
    assert.match(answer.text, /ETag: "a"/)
  }
})

test('repeated answer headers stay repeated, hop-by-hop ones go', async (t) => {
  const side = await sidecarFor(t, {
    answer: (_request, response) => {
      response.writeHead(200, [
        'Set-Cookie',
        'a=1',
        'Set-Cookie',
        'b=2',
        'X-Dup',
        '1',
        'x-dup',
        '2',
        'Keep-Alive',
        'timeout=99',
        'Trailer',
        'X-T',
      ])
      response.end('ok')
    },
  })
  const answer = await exchange(side.port, [ownerRequest(side, 'GET / HTTP/1.1')], {
    until: (text) => text.includes('ok'),
  })
  assert.match(answer.text, /Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-Dup: 1\r\nx-dup: 2\r\n/)
  assert.doesNotMatch(answer.text, /timeout=99|Trailer/)
})

test('a client that does not read stops the agent instead of filling our memory', async (t) => {
  const chunk = Buffer.alloc(64 * 1024, 120)
  let written = 0
  const side = await sidecarFor(t, {
    answer: (_request, response) => {
      const more = () => {
        while (written < 512 * 1024 * 1024) {
          written += chunk.length
          if (!response.write(chunk)) {
            response.once('drain', more)
            return
          }
        }
        response.end()
      }
      response.writeHead(200)
      more()
    },
  })
  const { connect } = await import('node:net')
  const socket = connect(side.port, '127.0.0.1')
  t.after(() => socket.destroy())
  socket.pause()
  socket.write(ownerRequest(side, 'GET / HTTP/1.1'))
  await eventually(() => written > 1024 * 1024, 'the first MiB')
  await new Promise((resolve) => setTimeout(resolve, 500))
  const after = written
  await new Promise((resolve) => setTimeout(resolve, 300))
  assert.equal(written, after, 'the agent waits')
  assert.ok(written < 64 * 1024 * 1024, `${written} bytes written`)
})

test('an answer before the body has arrived reaches the client', async (t) => {
  const side = await sidecarFor(t, {
    answer: (_request, response) => {
      response.writeHead(403, { 'Content-Length': '2' })
      response.end('no')
    },
  })
  const answer = await exchange(
    side.port,
    [ownerRequest(side, 'POST / HTTP/1.1', 'Content-Length: 1000000'), 'x'.repeat(1000)],
    { timeMs: 4000 },
  )
  assert.equal(answer.status, 403)
  assert.ok(answer.text.endsWith('no'))
  assert.equal(answer.closed, true)
})
