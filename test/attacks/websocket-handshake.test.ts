/**
 * Handshakes that would leave a raw tunnel, or wait for ever: WebSocket smuggling
 * (https://github.com/0ang3el/websocket-smuggle), h2c smuggling
 * (https://bishopfox.com/blog/h2c-smuggling-request), and a 101 that nobody asked for
 * (https://www.rfc-editor.org/rfc/rfc9110#section-7.8).
 */
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'

import {
  Cleanup,
  type Road,
  startAgent,
  startGateway,
  startRawAgent,
  switching,
} from '../support/websocket-gateway.ts'
import { frame, opcodes, RawClient, until } from '../support/websocket.ts'

let cleanup = new Cleanup()
beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run())

/** Frames that a client sends right behind its handshake; a raw tunnel would pass them on. */
const behind = Buffer.concat([
  Buffer.from('GET /smuggled HTTP/1.1\r\nHost: agent.example\r\n\r\n'),
  frame(opcodes.text, 'smuggled'),
])

type Talk = (socket: Socket, head: string, accept: string) => void

/** The answer of the gateway, and proof that the agent got one handshake and nothing else. */
async function answerTo(
  road: Road,
  talk: Talk,
  options: { handshakeMs?: number; protocols?: string } = {},
) {
  const agent = await startRawAgent(cleanup, talk)
  const { handshakeMs = 10_000 } = options
  const { address } = agent
  const gateway = await startGateway(cleanup, { road, address, settings: { handshakeMs } })
  const client = new RawClient(gateway.port, {
    behind,
    ...(options.protocols === undefined ? {} : { protocols: options.protocols }),
  })
  const answer = await client.answer()
  // What the client goes on saying finds no tunnel.
  client.socket.write(behind)
  const body = await client.rest()
  client.socket.end()
  await client.gone
  const end = await gateway.end()
  assert.equal(agent.sockets.length, 1)
  assert.equal(agent.bytes().toString('latin1'), '')
  await until('the agent’s side is closed', () => agent.sockets[0]?.destroyed === true)
  assert.equal(gateway.live.count(), 0)
  assert.equal(answer.headers.get('connection'), 'close')
  return { answer, body, end }
}

async function refusedWith(status: number, code: string, road: Road, talk: Talk, options = {}) {
  const { answer, body, end } = await answerTo(road, talk, options)
  assert.equal(answer.status, status)
  assert.equal(answer.headers.get('content-type'), 'application/problem+json')
  const problem = JSON.parse(body.toString()) as { code: string; requestId: string }
  assert.equal(problem.code, code)
  assert.equal(problem.requestId, 'request-1')
  assert.equal(end.status, status)
  assert.equal(end.code, code)
  return end
}

/** Closes after what it wrote; the far end of a refused handshake. */
const saying =
  (...lines: string[]): Talk =>
  (socket) =>
    socket.end(lines.join('\r\n'))

for (const road of ['framed', 'opaque'] as const) {
  suite(`an agent that does not open a WebSocket, on the ${road} road`, () => {
    test('its refusal reaches the client with status, type and body, and leaves no tunnel', async () => {
      const { answer, body, end } = await answerTo(
        road,
        saying(
          'HTTP/1.1 403 Because I Say So',
          'Content-Type: application/json',
          'Content-Length: 11',
          'Connection: keep-alive, X-Hop',
          'X-Hop: 1',
          'Server: agent/1.0',
          'Set-Cookie: a=b',
          'Keep-Alive: timeout=5',
          '',
          '{"no":true}',
        ),
      )
      assert.equal(answer.status, 403)
      assert.equal(body.toString(), '{"no":true}')
      assert.deepEqual(
        [...answer.headers],
        [
          ['content-type', 'application/json'],
          ['content-length', '11'],
          ['x-request-id', 'request-1'],
          ['connection', 'close'],
        ],
      )
      assert.ok(!answer.head.includes('Because'))
      assert.deepEqual(end, {
        status: 403,
        bytesToClient: 11,
        bytesToAgent: 0,
        because: 'the agent refused the handshake with 403',
      })
    })

    for (const [size, kept] of [
      [64 * 1024, 64 * 1024],
      [64 * 1024 + 1, 64 * 1024],
      [3 * 1024 * 1024, 64 * 1024],
    ] as const) {
      test(`of a refusal's body of ${size} bytes ${kept} are passed on`, async () => {
        const { answer, body } = await answerTo(
          road,
          saying(
            'HTTP/1.1 500 No',
            'Transfer-Encoding: chunked',
            '',
            size.toString(16),
            'x'.repeat(size),
            '0',
            '',
            '',
          ),
        )
        assert.equal(answer.status, 500)
        assert.equal(answer.headers.get('content-length'), `${kept}`)
        assert.equal(answer.headers.has('transfer-encoding'), false)
        assert.equal(body.length, kept)
      })
    }

    test('a 401 keeps its challenge, which belongs to it (RFC 9110 §11.6.1)', async () => {
      const { answer } = await answerTo(
        road,
        saying(
          'HTTP/1.1 401 No',
          'WWW-Authenticate: Bearer realm="agent"',
          'Content-Length: 0',
          '',
          '',
        ),
      )
      assert.equal(answer.status, 401)
      assert.equal(answer.headers.get('www-authenticate'), 'Bearer realm="agent"')
    })

    test('a redirect is passed on and not followed', async () => {
      const { answer } = await answerTo(
        road,
        saying('HTTP/1.1 302 Found', 'Location: http://127.0.0.1:1/x', 'Content-Length: 0', '', ''),
      )
      assert.equal(answer.status, 302)
      assert.equal(answer.headers.get('location'), 'http://127.0.0.1:1/x')
    })

    test('a plain 200 leaves no tunnel', async () => {
      const { answer, body } = await answerTo(
        road,
        saying('HTTP/1.1 200 OK', 'Content-Length: 2', '', 'hi'),
      )
      assert.equal(answer.status, 200)
      assert.equal(body.toString(), 'hi')
    })

    test('a 204 has no body and no length', async () => {
      const { answer, body } = await answerTo(road, saying('HTTP/1.1 204 No Content', '', ''))
      assert.equal(answer.status, 204)
      assert.equal(answer.headers.has('content-length'), false)
      assert.equal(body.length, 0)
    })

    test('a 101 with the wrong accept value is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket) =>
        socket.write(`${switching('AAAAAAAAAAAAAAAAAAAAAAAAAAA=')}raw bytes`),
      )
    })

    test('a 101 without an accept value is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket) =>
        socket.write('HTTP/1.1 101 Ok\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nraw'),
      )
    })

    test('a 101 to h2c is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket, _head, accept) =>
        socket.write(switching(accept).replace('Upgrade: websocket', 'Upgrade: h2c')),
      )
    })

    test('a 101 that upgrades to nothing is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket) =>
        socket.write('HTTP/1.1 101 Ok\r\nContent-Length: 0\r\n\r\n'),
      )
    })

    test('a subprotocol that was not offered is 502', async () => {
      await refusedWith(
        502,
        'AGENT_ANSWER_INVALID',
        road,
        (socket, _head, accept) => socket.write(switching(accept, 'Sec-WebSocket-Protocol: admin')),
        { protocols: 'chat' },
      )
    })

    test('a subprotocol where none was offered is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket, _head, accept) =>
        socket.write(switching(accept, 'Sec-WebSocket-Protocol: admin')),
      )
    })

    test('an extension that was not offered is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket, _head, accept) =>
        socket.write(switching(accept, 'Sec-WebSocket-Extensions: permessage-deflate')),
      )
    })

    test('an answer that is not HTTP is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, saying('SSH-2.0-OpenSSH_9', ''))
    })

    test('an endless head is 502', async () => {
      await refusedWith(502, 'AGENT_ANSWER_INVALID', road, (socket) => {
        socket.write(`HTTP/1.1 101 Ok\r\n${`X-Filler: ${'x'.repeat(1000)}\r\n`.repeat(100)}`)
      })
    })

    test('hanging up without an answer is 502', async () => {
      await refusedWith(502, 'AGENT_DOWN', road, (socket) => socket.destroy())
    })

    test('dying in the middle of a refusal never looks like a complete one', async () => {
      await refusedWith(
        502,
        'AGENT_DOWN',
        road,
        saying('HTTP/1.1 403 No', 'Content-Length: 100', '', 'half'),
      )
    })

    test('no answer in time is 504', async () => {
      await refusedWith(504, 'AGENT_TIMEOUT', road, () => undefined, { handshakeMs: 200 })
    })

    test('a drip of interim answers does not stretch the time', async () => {
      await refusedWith(
        504,
        'AGENT_TIMEOUT',
        road,
        (socket) => {
          const timer = setInterval(() => socket.write('HTTP/1.1 103 Early Hints\r\n\r\n'), 20)
          socket.on('close', () => clearInterval(timer))
        },
        { handshakeMs: 400 },
      )
    })

    test('a refusal whose body never ends is 504', async () => {
      await refusedWith(
        504,
        'AGENT_TIMEOUT',
        road,
        (socket) => socket.write('HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf'),
        { handshakeMs: 300 },
      )
    })

    test('a TCP port where nobody listens is 502', async () => {
      const closed = createServer()
      await new Promise<void>((resolve) => closed.listen(0, '127.0.0.1', resolve))
      const { port } = closed.address() as AddressInfo
      await new Promise((resolve) => closed.close(resolve))
      await assertDown(road, { origin: `http://127.0.0.1:${port}` })
    })

    test('a Unix socket that does not exist is 502', async () => {
      const directory = await mkdtemp(join(tmpdir(), 'hardshell-websocket-'))
      cleanup.add(() => rm(directory, { recursive: true }))
      await assertDown(road, { origin: 'http://localhost', socketPath: join(directory, 'in.sock') })
    })
  })

  suite(`handshakes on the ${road} road that the agent never hears of`, () => {
    test('sockets of one identity are capped', async () => {
      const agent = await startAgent(cleanup)
      const gateway = await startGateway(cleanup, {
        road,
        address: agent.address,
        live: { maxPerIdentity: 2 },
        identity: (request) => `token:${request.url}`,
      })
      const first = await new RawClient(gateway.port, { path: '/a' }).open()
      const second = await new RawClient(gateway.port, { path: '/a' }).open()
      await refusedAtCap(gateway.port, '/a')
      assert.equal(agent.requests(), 2)
      const other = await new RawClient(gateway.port, { path: '/b' }).open()
      // A place that is given back can be taken again.
      first.destroy()
      await until('the place is free', () => gateway.live.count() === 2)
      const again = await new RawClient(gateway.port, { path: '/a' }).open()
      for (const client of [second, other, again]) client.destroy()
      await until('all places are free', () => gateway.live.count() === 0)
    })

    test('sockets of one address are capped over all identities', async () => {
      const agent = await startAgent(cleanup)
      const gateway = await startGateway(cleanup, {
        road,
        address: agent.address,
        live: { maxPerAddress: 2 },
        identity: (request) => `token:${request.url}`,
      })
      const first = await new RawClient(gateway.port, { path: '/a' }).open()
      const second = await new RawClient(gateway.port, { path: '/b' }).open()
      await refusedAtCap(gateway.port, '/c')
      assert.equal(agent.requests(), 2)
      for (const client of [first, second]) client.destroy()
    })

    test('handshakes under way count against the caps', async () => {
      const agent = await startRawAgent(cleanup, () => undefined)
      const gateway = await startGateway(cleanup, {
        road,
        address: agent.address,
        live: { maxPerIdentity: 1 },
      })
      const waiting = new RawClient(gateway.port)
      await until('the first is under way', () => gateway.live.count() === 1)
      await refusedAtCap(gateway.port, '/')
      assert.equal((await gateway.end()).code, 'TOO_MANY_SOCKETS')
      waiting.socket.resetAndDestroy()
      await until('the place is free', () => gateway.live.count() === 0)
      assert.ok(agent.sockets.length <= 1)
    })

    for (const [what, options] of [
      ['a key that is not 16 bytes', { key: 'c2hvcnQ=' }],
      ['a subprotocol offered twice', { protocols: 'chat, chat' }],
      ['a subprotocol that is no token', { protocols: 'chat, a b' }],
    ] as const) {
      test(`${what} is 400`, async () => {
        const agent = await startAgent(cleanup)
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = new RawClient(gateway.port, options)
        assert.equal((await client.answer()).status, 400)
        client.destroy()
        assert.equal((await gateway.end()).code, 'UPGRADE_INVALID')
        assert.equal(agent.requests(), 0)
      })
    }
  })

  for (const [how, leave] of [
    ['resets its connection', (socket: Socket) => socket.resetAndDestroy()],
    ['closes its connection', (socket: Socket) => socket.destroy()],
  ] as const) {
    test(`a client that ${how} during the handshake ends the agent's on the ${road} road`, async () => {
      const agent = await startRawAgent(cleanup, () => undefined)
      const gateway = await startGateway(cleanup, {
        road,
        address: agent.address,
        settings: { handshakeMs: 3_600_000 },
      })
      const client = new RawClient(gateway.port)
      await until('the agent has the handshake', () => agent.sockets.length === 1)
      leave(client.socket)
      const end = await gateway.end()
      assert.equal(end.status, 0)
      assert.equal(end.because, 'the client left during the handshake')
      await until('the agent’s side is closed', () => agent.sockets[0]?.destroyed === true)
      assert.equal(gateway.live.count(), 0)
    })
  }

  test(`a client that has finished sending still hears the agent's refusal on the ${road} road`, async () => {
    const asked: Socket[] = []
    const agent = await startRawAgent(cleanup, (socket) => asked.push(socket))
    const gateway = await startGateway(cleanup, { road, address: agent.address })
    const client = new RawClient(gateway.port, { stubborn: true })
    await until('the agent has the handshake', () => asked.length === 1)
    client.socket.end()
    asked[0]?.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno')
    assert.equal((await client.answer()).status, 403)
    client.destroy()
    assert.equal((await gateway.end()).status, 403)
  })

  for (const [reason, status] of [
    ['revoked', 401],
    ['rotated', 401],
    ['lockdown', 503],
    ['drain', 503],
  ] as const) {
    test(`${reason} during the handshake is ${status} on the ${road} road`, async () => {
      const agent = await startRawAgent(cleanup, () => undefined)
      const gateway = await startGateway(cleanup, { road, address: agent.address })
      const client = new RawClient(gateway.port)
      await until('the agent has the handshake', () => agent.sockets.length === 1)
      assert.equal(gateway.live.endIdentity('token:test', reason), 1)
      assert.equal((await client.answer()).status, status)
      client.destroy()
      assert.equal((await gateway.end()).because, reason)
      await until('the agent’s side is closed', () => agent.sockets[0]?.destroyed === true)
    })
  }
}

async function assertDown(road: Road, address: { origin: string; socketPath?: string }) {
  const gateway = await startGateway(cleanup, { road, address })
  const client = new RawClient(gateway.port)
  const answer = await client.answer()
  assert.equal(answer.status, 502)
  client.destroy()
  assert.equal((await gateway.end()).code, 'AGENT_DOWN')
}

async function refusedAtCap(port: number, path: string): Promise<void> {
  const client = new RawClient(port, { path })
  const answer = await client.answer()
  assert.equal(answer.status, 429)
  assert.match(answer.headers.get('retry-after') ?? '', /^\d+$/)
  const problem = JSON.parse((await client.rest()).toString()) as { code: string }
  assert.equal(problem.code, 'TOO_MANY_SOCKETS')
  client.destroy()
}
