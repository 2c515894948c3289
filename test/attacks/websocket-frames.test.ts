/**
 * Frames that break RFC 6455 or a limit: https://www.rfc-editor.org/rfc/rfc6455#section-10.4 (sizes),
 * https://www.rfc-editor.org/rfc/rfc6455#section-5 (framing), https://www.rfc-editor.org/rfc/rfc6455#section-7.4 (close
 * codes), https://www.rfc-editor.org/rfc/rfc6455#section-8.1 (UTF-8), and compressed bombs as in
 * https://nvd.nist.gov/vuln/detail/CVE-2026-1526.
 */
import assert from 'node:assert/strict'
import { afterEach, beforeEach, suite, test } from 'node:test'

import {
  Cleanup,
  type EchoAgent,
  type Gateway,
  startAgent,
  startGateway,
} from '../support/websocket-gateway.ts'
import { closeFrame, frame, opcodes, RawClient, until } from '../support/websocket.ts'

const maxBytes = 1000

let cleanup = new Cleanup()
let agent: EchoAgent
let gateway: Gateway
let client: RawClient

async function open(messagesPerMinute = 600): Promise<void> {
  agent = await startAgent(cleanup)
  const settings = { maxMessageBytes: maxBytes, messagesPerMinute }
  gateway = await startGateway(cleanup, { address: agent.address, settings })
  client = await new RawClient(gateway.port).open()
  await agent.first()
}

beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(async () => {
  client.destroy()
  await cleanup.run()
})

/** The client is told `code`, the agent's side is closed, and of what was sent nothing reached the agent. */
async function refusedWith(code: number, because: RegExp, delivered = 0): Promise<void> {
  assert.equal((await client.closing())?.code, code)
  await until('the agent saw the end', () => agent.seen[0]?.close !== undefined)
  assert.equal(agent.seen[0]?.close?.code, 1001)
  assert.equal(agent.seen[0]?.messages.length, delivered)
  // The connection ends from our side even if the client never does its part.
  client.socket.end()
  const end = await gateway.end()
  assert.match(end.because, because)
  assert.equal(end.closeCode, code)
  assert.equal(gateway.live.count(), 0)
}

async function passes(bytes: number, ...frames: Buffer[]): Promise<void> {
  client.socket.write(Buffer.concat(frames))
  assert.equal((await client.frame()).payload.length, bytes)
  assert.equal(agent.seen[0]?.messages.length, 1)
}

suite('the size of a message', () => {
  test('a message of exactly the limit passes', async () => {
    await open()
    await passes(maxBytes, frame(opcodes.binary, Buffer.alloc(maxBytes)))
  })

  test('a message of one byte more is closed with 1009 and not delivered', async () => {
    await open()
    client.send(opcodes.binary, Buffer.alloc(maxBytes + 1))
    await refusedWith(1009, /the client sent a message that is too large/)
  })

  test('it is closed on the declared size, before the bytes are there', async () => {
    await open()
    client.send(opcodes.binary, '', { length: maxBytes + 1 })
    await refusedWith(1009, /too large/)
  })

  test('a declared size of 2^63 bytes is closed with 1009', async () => {
    await open()
    const head = Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
    client.socket.write(head)
    await refusedWith(1009, /too large/)
  })

  test('fragments that sum up to exactly the limit pass', async () => {
    await open()
    await passes(
      maxBytes,
      frame(opcodes.text, 'a'.repeat(maxBytes - 1), { fin: false }),
      frame(opcodes.more, '', { fin: false }),
      frame(opcodes.more, 'b'),
    )
  })

  test('fragments that sum up to one byte more are closed with 1009 and not delivered', async () => {
    await open()
    client.send(opcodes.text, 'a'.repeat(maxBytes), { fin: false })
    client.send(opcodes.more, 'b')
    await refusedWith(1009, /too large/)
  })

  test('4,096 fragments pass, and one more is closed with 1008', async () => {
    await open()
    const fragments = (count: number) => [
      frame(opcodes.text, '', { fin: false }),
      ...Array.from({ length: count - 2 }, () => frame(opcodes.more, '', { fin: false })),
      frame(opcodes.more, 'end'),
    ]
    await passes(3, ...fragments(4096))
    client.socket.write(Buffer.concat(fragments(4097)))
    await refusedWith(1008, /too many parts/, 1)
  })
})

suite('the rate of a client', () => {
  test('as many messages as allowed pass, and one more is closed with 1008', async () => {
    await open(20)
    for (let i = 0; i < 20; i++) client.send(opcodes.text, `${i}`)
    for (let i = 0; i < 20; i++) assert.equal((await client.frame()).payload.toString(), `${i}`)
    client.send(opcodes.text, 'one too many')
    await refusedWith(1008, /the client sends too much/, 20)
  })

  test('the allowance comes back evenly with time', async () => {
    await open(20)
    for (let i = 0; i < 20; i++) client.send(opcodes.text, `${i}`)
    for (let i = 0; i < 20; i++) await client.frame()
    gateway.advance(3000)
    client.send(opcodes.text, 'after three seconds')
    assert.equal((await client.frame()).payload.toString(), 'after three seconds')
    gateway.advance(2999)
    client.send(opcodes.text, 'too early')
    await refusedWith(1008, /the client sends too much/, 21)
  })

  test('a burst in one packet is cut at the limit and the agent is spared the rest', async () => {
    await open(20)
    client.socket.write(Buffer.concat(Array.from({ length: 500 }, () => frame(opcodes.text, 'x'))))
    await refusedWith(1008, /the client sends too much/, 20)
  })

  test('a flood of pings is closed with 1008', async () => {
    await open(20)
    for (let i = 0; i < 20; i++) client.send(opcodes.ping, 'x')
    for (let i = 0; i < 20; i++) assert.equal((await client.frame()).opcode, opcodes.pong)
    client.send(opcodes.ping, 'x')
    await refusedWith(1008, /the client sends too much/)
    assert.equal(agent.seen[0]?.pings.length, 0)
  })

  test('a flood of pongs that nobody asked for is closed with 1008', async () => {
    await open(20)
    for (let i = 0; i < 21; i++) client.send(opcodes.pong, 'x')
    await refusedWith(1008, /the client sends too much/)
  })

  test('an answer to our own ping costs nothing, even at one message a minute', async () => {
    await open(1)
    for (let i = 0; i < 3; i++) {
      gateway.advance(30_000)
      assert.equal((await client.frame()).opcode, opcodes.ping)
      client.send(opcodes.pong)
    }
    await passes(2, frame(opcodes.text, 'hi'))
  })
})

const malformed: readonly [string, Buffer, number?][] = [
  ['an unmasked text frame', frame(opcodes.text, 'x', { masked: false })],
  ['an unmasked ping', frame(opcodes.ping, 'x', { masked: false })],
  ['an unmasked close', closeFrame(1000, '', { masked: false })],
  ['a compressed frame without compression', frame(opcodes.text, 'x', { rsv: 4 })],
  ['the second reserved bit', frame(opcodes.text, 'x', { rsv: 2 })],
  ['the third reserved bit', frame(opcodes.text, 'x', { rsv: 1 })],
  ['reserved opcode 3', frame(3, 'x')],
  ['reserved opcode 7', frame(7, 'x')],
  ['reserved control opcode 11', frame(11, 'x')],
  ['reserved control opcode 15', frame(15, 'x')],
  ['a continuation of nothing', frame(opcodes.more, 'x')],
  [
    'a new message inside another',
    Buffer.concat([frame(opcodes.text, 'x', { fin: false }), frame(opcodes.text, 'y')]),
  ],
  ['a fragmented ping', frame(opcodes.ping, 'x', { fin: false })],
  ['a fragmented close', closeFrame(1000, '', { fin: false })],
  ['a ping of 126 bytes', frame(opcodes.ping, Buffer.alloc(126))],
  ['a close frame with half a code', frame(opcodes.close, 'x')],
  ['close code 0', closeFrame(0)],
  ['close code 999', closeFrame(999)],
  ['close code 1004', closeFrame(1004)],
  ['close code 1005', closeFrame(1005)],
  ['close code 1006', closeFrame(1006)],
  ['close code 1015', closeFrame(1015)],
  ['close code 1100', closeFrame(1100)],
  ['close code 2999', closeFrame(2999)],
  ['close code 5000', closeFrame(5000)],
  ['close code 65535', closeFrame(65535)],
  ['a lone continuation byte', frame(opcodes.text, Buffer.from([0x80])), 1007],
  ['an overlong slash', frame(opcodes.text, Buffer.from([0xc0, 0xaf])), 1007],
  ['half a surrogate pair', frame(opcodes.text, Buffer.from([0xed, 0xa0, 0x80])), 1007],
  ['a code point above U+10FFFF', frame(opcodes.text, Buffer.from([0xf4, 0x90, 0x80, 0x80])), 1007],
  ['a character that is cut off', frame(opcodes.text, Buffer.from([0xe2, 0x82])), 1007],
  [
    'a character that is cut off over two fragments',
    Buffer.concat([
      frame(opcodes.text, Buffer.from([0xe2]), { fin: false }),
      frame(opcodes.more, Buffer.from([0x82])),
    ]),
    1007,
  ],
  ['a close reason that is not UTF-8', closeFrame(1000, Buffer.from([0xff])), 1007],
  ['an HTTP request instead of a frame', Buffer.from('GET /admin HTTP/1.1\r\nHost: a\r\n\r\n')],
]

suite('malformed frames', () => {
  for (const [what, bytes, code = 1002] of malformed) {
    test(`${what} is closed with ${code} and nothing of it is delivered`, async () => {
      await open()
      client.socket.write(bytes)
      await refusedWith(code, code === 1007 ? /invalid UTF-8/ : /broke the protocol: WS_ERR_/)
    })
  }

  for (const code of [1000, 1001, 1003, 1007, 1014, 3000, 3999, 4000, 4999]) {
    test(`close code ${code} is passed on to the agent with its reason`, async () => {
      await open()
      const reason = 'r'.repeat(123)
      client.socket.write(closeFrame(code, reason))
      assert.deepEqual(await client.closing(), { code, reason })
      client.socket.end()
      await until('the agent saw the close', () => agent.seen[0]?.close !== undefined)
      assert.deepEqual(agent.seen[0]?.close, { code, reason })
      assert.equal((await gateway.end()).closeCode, code)
    })
  }

  test('what follows a malformed frame in the same packet is not delivered', async () => {
    await open()
    client.socket.write(Buffer.concat([frame(3, 'x'), frame(opcodes.text, 'late')]))
    await refusedWith(1002, /broke the protocol/)
  })

  test('what precedes it is delivered', async () => {
    await open()
    client.socket.write(Buffer.concat([frame(opcodes.text, 'fine'), frame(3, 'x')]))
    await refusedWith(1002, /broke the protocol/, 1)
  })

  test('what follows a close frame is not delivered', async () => {
    await open()
    client.socket.write(Buffer.concat([closeFrame(1000), frame(opcodes.text, 'late')]))
    assert.equal((await client.closing())?.code, 1000)
    client.socket.end()
    await gateway.end()
    assert.equal(agent.seen[0]?.messages.length, 0)
  })
})

test('compression is never agreed to, so no message can grow behind our limit', async () => {
  agent = await startAgent(cleanup, { compress: true })
  gateway = await startGateway(cleanup, { address: agent.address })
  client = new RawClient(gateway.port, {
    extensions: 'permessage-deflate; client_max_window_bits, x-webkit-deflate-frame',
  })
  const answer = await client.answer()
  assert.equal(answer.status, 101)
  assert.equal(answer.headers.has('sec-websocket-extensions'), false)
  const { rawHeaders } = await agent.first()
  assert.equal(
    rawHeaders.some((name) => /^sec-websocket-extensions$/i.test(name)),
    false,
  )
})
