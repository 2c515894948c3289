/** WebSockets through the whole chain: gates, audit, revocation, caps. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { test, type TestContext } from 'node:test'

import { WebSocket, WebSocketServer } from 'ws'

import { callAdmin } from '../../src/admin/client.ts'
import { ExternalAgent } from '../../src/agent/external.ts'
import { startAgent } from '../support/agent.ts'
import { exchange, head } from '../support/raw.ts'
import {
  eventually,
  sidecarFor,
  startSidecar,
  type SidecarOptions,
  type TestSidecar,
} from '../support/sidecar.ts'

async function echoSidecar(
  t: TestContext,
  options: SidecarOptions = {},
): Promise<TestSidecar & { sockets: WebSocketServer }> {
  const side = await startSidecar(options)
  const sockets = new WebSocketServer({ server: side.agent.server })
  sockets.on('connection', (socket) => {
    socket.on('error', () => undefined)
    socket.on('message', (data, binary) => socket.send(data as Buffer, { binary }))
  })
  t.after(() => side.stop())
  return { ...side, sockets }
}

const open = (side: TestSidecar, token: string, path = '/ws') =>
  new WebSocket(`ws://127.0.0.1:${side.port}${path}`, {
    headers: { Authorization: `Bearer ${token}` },
  })

const closed = (socket: WebSocket) =>
  new Promise<number>((resolve) => {
    socket.on('close', resolve)
    socket.on('error', () => undefined)
  })

const handshake = (token: string, ...more: string[]) =>
  head(
    'GET /ws HTTP/1.1',
    'Host: localhost',
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==',
    `Authorization: Bearer ${token}`,
    ...more,
  )

for (const road of ['framed', 'opaque'] as const) {
  test(`messages pass both ways (${road})`, async (t) => {
    const side = await echoSidecar(t, { config: { agent: { websocket: road } } })
    const socket = open(side, side.token)
    const said = await new Promise<string>((resolve, reject) => {
      socket.on('open', () => socket.send('hello'))
      socket.on('message', (data) => resolve(String(data as Buffer)))
      socket.on('error', reject)
    })
    assert.equal(said, 'hello')
    const end = closed(socket)
    socket.close(1000)
    assert.equal(await end, 1000)
    await eventually(
      () => side.records().some(({ event, status }) => event === 'request.done' && status === 101),
      'the record',
    )
  })

  test(`without a good token there is no 101 and the agent hears nothing (${road})`, async (t) => {
    const side = await echoSidecar(t, { config: { agent: { websocket: road } } })
    let upgrades = 0
    side.agent.server.on('upgrade', () => (upgrades += 1))
    for (const [text, status] of [
      [handshake('wrong'), 401],
      [handshake(side.token, 'Origin: http://evil.example'), 403],
      [handshake(side.token).replace('Host: localhost', 'Host: evil.example'), 421],
      [handshake(side.token).replace('Version: 13', 'Version: 8'), 426],
      [handshake(side.token).replace(/Sec-WebSocket-Key: \S+\r\n/, ''), 400],
      [handshake(side.token, 'Content-Length: 5') + 'hello', 400],
      [handshake(side.token).replace('GET', 'POST'), 400],
    ] as const) {
      const answer = await exchange(side.port, [text], {
        until: (got) => got.includes('requestId'),
      })
      assert.equal(answer.status, status)
    }
    assert.equal(side.sockets.clients.size, 0)
    assert.equal(upgrades, 0)
    assert.equal(side.agent.seen.length, 0)
  })

  test(`a revoked token loses its sockets within a second (${road})`, async (t) => {
    const side = await echoSidecar(t, { config: { agent: { websocket: road } } })
    const env = { HARDSHELL_HOME: side.home }
    const made = (await callAdmin(env, 'token.new', { name: 'phone', scopes: ['chat'] })) as {
      token: string
    }
    const phone = open(side, made.token)
    const owner = open(side, side.token)
    await Promise.all(
      [phone, owner].map((socket) => new Promise((resolve) => socket.on('open', resolve))),
    )
    const end = closed(phone)
    const began = performance.now()
    await callAdmin(env, 'token.revoke', { token: 'phone' })
    const code = await end
    assert.ok(performance.now() - began < 1500)
    assert.equal(code, road === 'framed' ? 1008 : 1006)
    assert.equal(owner.readyState, WebSocket.OPEN)
    owner.terminate()
    const again = await exchange(side.port, [handshake(made.token)], {
      until: (got) => got.includes('requestId'),
    })
    assert.equal(again.status, 401)
  })
}

test('a handshake that cannot be written down is refused and reaches nobody', async (t) => {
  const full: NonNullable<SidecarOptions['audit']> = {
    failing: 'the disk is full',
    append: (_entry, written) => {
      queueMicrotask(() => written?.(new Error('the disk is full')))
    },
    close: () => Promise.resolve(),
  }
  const side = await echoSidecar(t, { audit: full })
  let upgrades = 0
  side.agent.server.on('upgrade', () => (upgrades += 1))
  const answer = await exchange(side.port, [handshake(side.token)], {
    until: (got) => got.includes('requestId'),
  })
  assert.equal(answer.status, 503)
  assert.equal(answer.code, 'AUDIT_UNAVAILABLE')
  assert.match(answer.text, /^Retry-After: \d+\r$/m)
  assert.equal(upgrades, 0)
})

test('sockets of one identity have a cap', async (t) => {
  const side = await echoSidecar(t, {
    config: { security: { limits: { webSocket: { maxPerIdentity: 2 } } } },
  })
  const two = [open(side, side.token), open(side, side.token)]
  await Promise.all(two.map((socket) => new Promise((resolve) => socket.on('open', resolve))))
  const third = await exchange(side.port, [handshake(side.token)], {
    until: (got) => got.includes('requestId'),
  })
  assert.equal(third.status, 429)
  assert.equal(third.code, 'TOO_MANY_SOCKETS')
  assert.match(third.text, /Retry-After: \d+/)
  for (const socket of two) socket.terminate()
  await eventually(() => side.sockets.clients.size === 0, 'the end of both')
  const after = open(side, side.token)
  await new Promise((resolve) => after.on('open', resolve))
  after.terminate()
})

test('sockets of one IPv6 network have the cap of one address', async (t) => {
  const side = await echoSidecar(t, {
    config: {
      gateway: { trustedProxies: ['127.0.0.1'] },
      security: { limits: { webSocket: { maxPerAddress: 1 } } },
    },
  })
  const from = (address: string) =>
    new WebSocket(`ws://127.0.0.1:${side.port}/ws`, {
      headers: { Authorization: `Bearer ${side.token}`, 'X-Forwarded-For': address },
    })
  const first = from('2001:db8:1:2::1')
  await new Promise((resolve) => first.on('open', resolve))
  const neighbour = await exchange(
    side.port,
    [handshake(side.token, 'X-Forwarded-For: 2001:db8:1:2:3:4:5:6')],
    { until: (got) => got.includes('requestId') },
  )
  assert.equal(neighbour.status, 429)
  assert.equal(neighbour.code, 'TOO_MANY_SOCKETS')
  assert.equal(side.sockets.clients.size, 1)
  const elsewhere = from('2001:db8:1:3::1')
  await new Promise((resolve) => elsewhere.on('open', resolve))
  for (const socket of [first, elsewhere]) socket.terminate()
})

test('another version is told which one and that it is WebSocket that is spoken', async (t) => {
  const side = await echoSidecar(t)
  const answer = await exchange(side.port, [
    handshake(side.token).replace('Version: 13', 'Version: 8'),
  ])
  assert.equal(answer.status, 426)
  assert.match(answer.text, /^Sec-WebSocket-Version: 13\r$/m)
  // RFC 9110 §15.5.22 and §7.8.
  assert.match(answer.text, /^Upgrade: websocket\r$/m)
  assert.match(answer.text, /^Connection: close, Upgrade\r$/m)
  assert.equal(answer.closed, true)
  assert.equal(side.agent.seen.length, 0)
})

/** An agent beside us that is starting until `started` is called. */
class SlowStart extends ExternalAgent {
  asked = 0
  started: () => void = () => undefined
  readonly #wait = new Promise<'ready'>((resolve) => {
    this.started = () => resolve('ready')
  })

  override ready(): Promise<'ready'> {
    this.asked += 1
    return this.#wait
  }
}

test('a client that left while the agent was starting does not keep the agent waiting', async (t) => {
  const agent = await startAgent()
  t.after(() => agent.stop())
  let open = 0
  let upgrades = 0
  agent.server.on('upgrade', (_request, socket) => {
    upgrades += 1
    open += 1
    socket.on('error', () => undefined)
    socket.on('end', () => socket.end())
    socket.on('close', () => (open -= 1))
    socket.resume()
  })
  const own = new SlowStart(agent.url, { now: () => 0, answers: () => Promise.resolve(true) })
  const side = await sidecarFor(t, { agent, own })
  const client = connect(side.port, '127.0.0.1')
  client.write(handshake(side.token))
  await eventually(() => own.asked === 1, 'the wait for the agent')
  client.destroy()
  await once(client, 'close')
  own.started()
  const end = () => side.records().find(({ event }) => event === 'request.done')
  await eventually(() => end() !== undefined, 'the record')
  assert.equal(end()?.['status'], 0)
  assert.equal(end()?.['because'], 'the client left during the handshake')
  await eventually(() => open === 0, 'the end of the handshake')
  assert.ok(upgrades <= 1)
})

test('an oversize message closes 1009 and reaches nobody', async (t) => {
  const side = await echoSidecar(t, {
    config: { security: { limits: { webSocket: { maxMessageSize: '1KB' } } } },
  })
  let got = 0
  side.sockets.on('connection', (socket) => socket.on('message', () => (got += 1)))
  const socket = open(side, side.token)
  await new Promise((resolve) => socket.on('open', resolve))
  const end = closed(socket)
  socket.send('x'.repeat(1025))
  assert.equal(await end, 1009)
  assert.equal(got, 0)
})

test('the agent sees no credential, no claim and no compression of the client', async (t) => {
  const side = await echoSidecar(t)
  const headers: Record<string, unknown>[] = []
  side.sockets.on('connection', (_socket, request) => headers.push(request.headers))
  const socket = new WebSocket(`ws://127.0.0.1:${side.port}/ws?x=1`, ['chat'], {
    headers: { Authorization: `Bearer ${side.token}`, 'X-Forwarded-For': '1.2.3.4', 'X-Ok': 'yes' },
  })
  await new Promise((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('error', reject)
  })
  socket.terminate()
  const seen = headers[0] ?? {}
  assert.equal(seen['authorization'], undefined)
  assert.equal(seen['x-forwarded-for'], undefined)
  assert.equal(seen['sec-websocket-extensions'], undefined)
  assert.equal(seen['sec-websocket-protocol'], 'chat')
  assert.equal(seen['x-ok'], 'yes')
})
