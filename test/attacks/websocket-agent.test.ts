/**
 * A hostile or broken agent must not harm its clients or us: masked, oversize and malformed frames of a server
 * (https://www.rfc-editor.org/rfc/rfc6455#section-5.1), a flood of pings whose answers it does not read (as in
 * HTTP/2: https://nvd.nist.gov/vuln/detail/CVE-2019-9512).
 */
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, suite, test } from 'node:test'

import { Cleanup, startGateway, startRawAgent, switching } from '../support/websocket-gateway.ts'
import { closeFrame, frame, opcodes, parseFrame, RawClient, until } from '../support/websocket.ts'

const maxBytes = 1000
const bare = { masked: false }

let cleanup = new Cleanup()
beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run())

async function start(talk: (socket: Socket) => void, wire: 'tcp' | 'unix' = 'tcp') {
  const agent = await startRawAgent(
    cleanup,
    (socket, _head, accept) => {
      socket.write(switching(accept))
      talk(socket)
    },
    wire,
  )
  const { address } = agent
  const gateway = await startGateway(cleanup, { address, settings: { maxMessageBytes: maxBytes } })
  const client = await new RawClient(gateway.port).open()
  return { agent, gateway, client }
}

test('a message of exactly the limit reaches the client', async () => {
  const { client } = await start((socket) =>
    socket.write(frame(opcodes.binary, Buffer.alloc(maxBytes), bare)),
  )
  assert.equal((await client.frame()).payload.length, maxBytes)
  client.destroy()
})

const broken: readonly [string, Buffer, number, RegExp][] = [
  ['a message that is too large', frame(2, Buffer.alloc(maxBytes + 1), bare), 1009, /too large/],
  [
    'fragments that sum up to too much',
    Buffer.concat([frame(2, Buffer.alloc(maxBytes), { ...bare, fin: false }), frame(0, 'x', bare)]),
    1009,
    /too large/,
  ],
  ['text that is not UTF-8', frame(1, Buffer.from([0xff]), bare), 1007, /invalid UTF-8/],
  ['a masked frame', frame(1, 'x'), 1002, /broke the protocol: WS_ERR_UNEXPECTED_MASK/],
  ['a compressed frame', frame(1, 'x', { ...bare, rsv: 4 }), 1002, /broke the protocol/],
  ['a reserved opcode', frame(3, 'x', bare), 1002, /broke the protocol/],
  ['close code 1006', closeFrame(1006, '', bare), 1002, /broke the protocol/],
  ['plain text instead of frames', Buffer.from('Welcome to telnet'), 1002, /broke the protocol/],
]

suite('broken frames of an agent', () => {
  for (const [what, bytes, code, because] of broken) {
    test(`${what} ends with 1014 for the client and ${code} for the agent`, async () => {
      const { agent, gateway, client } = await start((socket) => socket.write(bytes))
      assert.deepEqual(await client.closing(), { code: 1014, reason: 'the agent failed' })
      client.socket.end()
      const end = await gateway.end()
      assert.match(end.because, /^the agent /)
      assert.match(end.because, because)
      assert.equal(end.bytesToClient, 0)
      const told = parseFrame(agent.bytes())?.frame
      assert.equal(told?.opcode, opcodes.close)
      assert.equal(told?.payload.readUInt16BE(), code)
      assert.equal(told?.masked, true)
      await until('the agent’s side is closed', () => agent.sockets[0]?.destroyed === true)
    })
  }

  test('dying in the middle of a message delivers nothing of it', async () => {
    const { gateway, client } = await start((socket) =>
      socket.end(frame(opcodes.text, 'half', { ...bare, fin: false })),
    )
    assert.equal((await client.closing())?.code, 1014)
    client.destroy()
    const end = await gateway.end()
    assert.equal(end.because, 'the agent vanished')
    assert.equal(end.bytesToClient, 0)
  })

  test('a close frame and then silence does not hold the client', async () => {
    const agent = await startRawAgent(cleanup, (socket, _head, accept) => {
      socket.allowHalfOpen = true
      socket.write(switching(accept))
      socket.write(closeFrame(1000, 'bye', bare))
    })
    const gateway = await startGateway(cleanup, { address: agent.address })
    const client = await new RawClient(gateway.port).open()
    await until('it was answered', () => agent.bytes().length > 0)
    await sleep(100)
    gateway.advance(5000)
    assert.deepEqual(await client.closing(), { code: 1000, reason: 'bye' })
    client.destroy()
    await gateway.end()
  })
})

test('pings whose answers the agent does not read are answered only up to a bound', async () => {
  const count = 120_000
  const payload = Buffer.alloc(125)
  const { agent, client } = await start((socket) => {
    socket.pause()
    socket.write(Buffer.concat(Array.from({ length: count }, () => frame(9, payload, bare))))
    socket.write(frame(opcodes.text, 'after the flood', bare))
  }, 'unix')
  // The flood is taken in, the connection lives, and the answers did not pile up.
  assert.equal((await client.frame()).payload.toString(), 'after the flood')
  agent.sockets[0]?.resume()
  let last = -1
  while (agent.bytes().length !== last) {
    last = agent.bytes().length
    await sleep(200)
  }
  const pongBytes = 2 + 4 + payload.length
  assert.ok(last >= pongBytes, 'some pings are answered')
  assert.ok(last < (count * pongBytes) / 2, `${last / pongBytes} of ${count} pings are answered`)
  client.destroy()
})
