import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'

import fc from 'fast-check'

import {
  Cleanup,
  closeOf,
  openClient,
  type Road,
  startAgent,
  startGateway,
  startRawAgent,
  switching,
  type Wire,
} from '../support/websocket-gateway.ts'
import { closeFrame, frame, opcodes, parseFrame, RawClient, until } from '../support/websocket.ts'

let cleanup = new Cleanup()
beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run())

const roads: readonly Road[] = ['framed', 'opaque']
const wires: readonly Wire[] = ['tcp', 'unix']

for (const road of roads) {
  for (const wire of wires) {
    suite(`a WebSocket on the ${road} road to an agent over ${wire}`, () => {
      test('carries text as text and binary as binary in both directions', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = await openClient(cleanup, gateway.port)
        const answers: { data: Buffer; binary: boolean }[] = []
        client.on('message', (data, binary) => answers.push({ data: data as Buffer, binary }))
        const sent = [
          { data: Buffer.from('grüße 🦞'), binary: false },
          { data: Buffer.from([0, 255, 254, 13, 10]), binary: true },
          { data: Buffer.alloc(0), binary: false },
          { data: Buffer.alloc(0), binary: true },
          { data: randomBytes(60_000), binary: true },
        ]
        for (const { data, binary } of sent) client.send(data, { binary })
        await until('all echoes are back', () => answers.length === sent.length)
        assert.deepEqual(answers, sent)
        assert.deepEqual((await agent.first()).messages, sent)

        const closed = closeOf(client)
        client.close(1000, 'done')
        assert.deepEqual(await closed, { code: 1000, reason: 'done' })
        const end = await gateway.end()
        assert.equal(end.status, 101)
        assert.equal(end.because, road === 'framed' ? 'the client closed' : 'closed')
        assert.deepEqual((await agent.first()).close, { code: 1000, reason: 'done' })
        const bytes = sent.reduce((sum, { data }) => sum + data.length, 0)
        if (road === 'framed') {
          assert.equal(end.bytesToAgent, bytes)
          assert.equal(end.bytesToClient, bytes)
        } else {
          // On the wire a frame has a head, a mask and at last a close frame.
          assert.ok(
            end.bytesToAgent > bytes && end.bytesToAgent < bytes + 100,
            `${end.bytesToAgent}`,
          )
          assert.ok(end.bytesToClient > bytes && end.bytesToClient < bytes + 100)
        }
        assert.equal(gateway.live.count(), 0)
        assert.equal(gateway.live.beat.size, 0)
      })

      test('gives the agent exactly the target and the headers that were prepared', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, {
          road,
          address: agent.address,
          headers: () => [
            ...['Host', 'agent.example', 'X-One', 'a', 'x-two', 'ü', 'X-One', 'b'],
            ...['Authorization', 'Bearer of-the-agent'],
          ],
        })
        const client = await new RawClient(gateway.port, {
          path: "/chat/%7Euser?q='<x>&r=%2e",
          headers: ['Authorization: Bearer of-the-client', 'X-Secret: 1', 'Cookie: a=b'],
        }).open()
        const { target, rawHeaders } = await agent.first()
        assert.equal(target, "/chat/%7Euser?q='<x>&r=%2e")
        const pairs: string[] = []
        for (let i = 0; i < rawHeaders.length; i += 2) {
          pairs.push(`${rawHeaders[i]?.toLowerCase()}: ${rawHeaders[i + 1]}`)
        }
        const handshake = /^(?:connection|upgrade|sec-websocket-(?:key|version)): /
        assert.deepEqual(
          pairs.filter((pair) => !handshake.test(pair)),
          [
            ...['host: agent.example', 'x-one: a', 'x-one: b', 'x-two: ü'],
            'authorization: Bearer of-the-agent',
          ],
        )
        assert.equal(pairs.filter((pair) => handshake.test(pair)).length, 4)
        client.destroy()
      })

      test('loses nothing that arrives in the same packet as the handshake', async () => {
        const agent = await startAgent(cleanup, {
          wire,
          onOpen: ({ socket }) => socket.send('hello from the agent'),
        })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const behind = Buffer.concat([frame(opcodes.text, 'early'), frame(opcodes.binary, 'bird')])
        const client = await new RawClient(gateway.port, { behind }).open()
        const texts = [await client.frame(), await client.frame(), await client.frame()]
        assert.deepEqual(
          texts.map(({ payload }) => payload.toString()),
          ['hello from the agent', 'early', 'bird'],
        )
        assert.deepEqual(
          (await agent.first()).messages.map(({ data }) => data.toString()),
          ['early', 'bird'],
        )
        client.destroy()
      })

      test('keeps what arrives while the agent still thinks about the handshake', async () => {
        let decide: () => void = () => assert.fail('nothing to decide')
        const agent = await startRawAgent(
          cleanup,
          (socket, _head, accept) => {
            decide = () => socket.write(switching(accept))
          },
          wire,
        )
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = new RawClient(gateway.port, { behind: frame(opcodes.text, 'one') })
        await until('the agent has the handshake', () => agent.sockets.length === 1)
        client.send(opcodes.text, 'two')
        await sleep(50)
        client.send(opcodes.text, 'three')
        await sleep(50)
        assert.equal(agent.bytes().length, 0)
        decide()
        await client.open()
        const arrived: string[] = []
        await until('all three have arrived', () => {
          arrived.length = 0
          for (
            let next = parseFrame(agent.bytes());
            next !== undefined;
            next = parseFrame(next.rest)
          ) {
            arrived.push(next.frame.payload.toString())
          }
          return arrived.length === 3
        })
        assert.deepEqual(arrived, ['one', 'two', 'three'])
        client.destroy()
      })

      test('offers the subprotocols of the client and gives it the one the agent chose', async () => {
        const agent = await startAgent(cleanup, {
          wire,
          protocol: (offered) => [...offered].at(-1) ?? false,
        })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = await openClient(cleanup, gateway.port, {
          protocols: ['v1.chat', 'v2_chat'],
        })
        assert.equal(client.protocol, 'v2_chat')
        const { rawHeaders } = await agent.first()
        const at = rawHeaders.findIndex((name) => name.toLowerCase() === 'sec-websocket-protocol')
        assert.equal(rawHeaders[at + 1]?.replaceAll(' ', ''), 'v1.chat,v2_chat')
        client.terminate()
      })

      test('opens without a subprotocol when the agent chooses none', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = new RawClient(gateway.port, { protocols: 'v1.chat' })
        const answer = await client.answer()
        assert.equal(answer.status, 101)
        assert.equal(answer.headers.has('sec-websocket-protocol'), false)
        client.destroy()
      })

      test('passes the close code and reason of the agent on', async () => {
        const agent = await startAgent(cleanup, {
          wire,
          onOpen: ({ socket }) => socket.close(4321, 'see you'),
        })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = await new RawClient(gateway.port).open()
        assert.deepEqual(await client.closing(), { code: 4321, reason: 'see you' })
        client.socket.write(closeFrame(4321, 'see you'))
        client.socket.end()
        const end = await gateway.end()
        assert.equal(end.because, road === 'framed' ? 'the agent closed' : 'closed')
        if (road === 'framed') assert.equal(end.closeCode, 4321)
      })

      test('keeps a missing close code missing in both directions', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const leaving = await new RawClient(gateway.port).open()
        leaving.socket.write(closeFrame())
        assert.deepEqual(await leaving.closing(), { code: undefined, reason: '' })
        leaving.socket.end()
        await until('the agent saw the close', () => agent.seen[0]?.close !== undefined)
        assert.deepEqual(agent.seen[0]?.close, { code: 1005, reason: '' })

        const left = await new RawClient(gateway.port).open()
        await until('the agent has it', () => agent.seen.length === 2)
        agent.seen[1]?.socket.close()
        assert.deepEqual(await left.closing(), { code: undefined, reason: '' })
        left.destroy()
      })

      test('ends for the agent when the client vanishes', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = await new RawClient(gateway.port).open()
        client.send(opcodes.text, 'last words')
        await client.frame()
        client.socket.resetAndDestroy()
        await until('the agent saw the end', () => agent.seen[0]?.close !== undefined)
        assert.equal(agent.seen[0]?.close?.code, road === 'framed' ? 1001 : 1006)
        assert.equal((await gateway.end()).status, 101)
        assert.equal(gateway.live.count(), 0)
      })

      test('ends for the client when the agent dies', async () => {
        const agent = await startAgent(cleanup, { wire })
        const gateway = await startGateway(cleanup, { road, address: agent.address })
        const client = await new RawClient(gateway.port).open()
        const { wire: agentSide } = await agent.first()
        if (wire === 'tcp') agentSide.resetAndDestroy()
        else agentSide.destroy()
        const closing = await client.closing()
        // A relay of bytes cannot know where a close frame may stand: the client sees the connection end.
        assert.equal(closing?.code, road === 'framed' ? 1014 : undefined)
        client.destroy()
        const end = await gateway.end()
        assert.equal(end.because, road === 'framed' ? 'the agent vanished' : 'closed')
      })
    })
  }
}

test('compression is end to end on the opaque road only', async () => {
  const agent = await startAgent(cleanup, { compress: true })
  const framed = await startGateway(cleanup, { address: agent.address })
  const opaque = await startGateway(cleanup, { road: 'opaque', address: agent.address })
  const plain = await openClient(cleanup, framed.port, { compress: true })
  assert.equal(plain.extensions, '')
  const compressed = await openClient(cleanup, opaque.port, { compress: true })
  assert.equal(compressed.extensions, 'permessage-deflate')
  const echoes: string[] = []
  compressed.on('message', (data) => echoes.push((data as Buffer).toString()))
  const message = 'la '.repeat(100_000)
  compressed.send(message)
  await until('the echo is back', () => echoes.length === 1)
  assert.equal(echoes[0], message)
  compressed.terminate()
  const end = await opaque.end()
  assert.ok(end.bytesToAgent < 10_000, `${end.bytesToAgent} bytes for a 300 KB message`)
})

test('a ping is answered with its own payload and does not reach the agent', async () => {
  const agent = await startAgent(cleanup)
  const gateway = await startGateway(cleanup, { address: agent.address })
  const client = await new RawClient(gateway.port).open()
  client.send(opcodes.ping, 'are you there')
  const pong = await client.frame()
  assert.equal(pong.opcode, opcodes.pong)
  assert.equal(pong.payload.toString(), 'are you there')
  assert.equal((await agent.first()).pings.length, 0)

  const ponged = new Promise<string>((resolve) => {
    agent.seen[0]?.socket.on('pong', (data) => resolve(data.toString()))
  })
  agent.seen[0]?.socket.ping('and you')
  assert.equal(await ponged, 'and you')
  client.destroy()
})

test('a ping between the fragments of a message is answered, and the message arrives whole', async () => {
  const agent = await startAgent(cleanup)
  const gateway = await startGateway(cleanup, { address: agent.address })
  const client = await new RawClient(gateway.port).open()
  client.send(opcodes.text, 'one ', { fin: false })
  client.send(opcodes.ping, 'x')
  client.send(opcodes.more, 'two ', { fin: false })
  client.send(opcodes.more, 'three')
  assert.equal((await client.frame()).opcode, opcodes.pong)
  assert.equal((await client.frame()).payload.toString(), 'one two three')
  assert.deepEqual(
    (await agent.first()).messages.map(({ data }) => data.toString()),
    ['one two three'],
  )
  client.destroy()
})

interface Message {
  readonly binary: boolean
  readonly parts: readonly Uint8Array[]
  readonly pings: number
}

const message: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    binary: fc.constant(true),
    parts: fc.array(fc.uint8Array({ maxLength: 300 }), { minLength: 1, maxLength: 4 }),
    pings: fc.nat(2),
  }),
  fc.record({
    binary: fc.constant(false),
    // Cut anywhere, also inside a character (RFC 6455 §5.6).
    parts: fc
      .tuple(fc.string({ unit: 'binary', maxLength: 100 }), fc.array(fc.nat(400), { maxLength: 3 }))
      .map(([text, cuts]) => {
        const bytes = Buffer.from(text)
        const at = [0, ...cuts.map((cut) => cut % (bytes.length + 1)), bytes.length]
        at.sort((a, b) => a - b)
        return at.slice(1).map((end, i) => bytes.subarray(at[i], end))
      }),
    pings: fc.nat(2),
  }),
)

for (const road of roads) {
  test(`any 1,000 sequences of frames reach the agent as they were meant on the ${road} road`, async () => {
    const agent = await startAgent(cleanup, { echo: false })
    const gateway = await startGateway(cleanup, {
      road,
      address: agent.address,
      settings: { messagesPerMinute: 1_000_000 },
    })
    const client = await new RawClient(gateway.port).open()
    const { messages } = await agent.first()
    client.socket.on('error', () => undefined)
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 5 }),
        fc.array(fc.nat(2000), { maxLength: 4 }),
        async (sent, cuts) => {
          messages.length = 0
          const bytes = Buffer.concat(sent.flatMap(framesOf))
          // The bytes also arrive in pieces that have nothing to do with the frames.
          let from = 0
          for (const cut of [...cuts.toSorted((a, b) => a - b), bytes.length]) {
            if (cut <= from) continue
            client.socket.write(bytes.subarray(from, cut))
            from = cut
          }
          await until('all messages arrived', () => messages.length === sent.length)
          assert.deepEqual(
            messages,
            sent.map(({ binary, parts }) => ({ data: Buffer.concat(parts), binary })),
          )
        },
      ),
      { numRuns: 1000 },
    )
    client.destroy()
    await gateway.end()
  })
}

function framesOf({ binary, parts, pings }: Message): Buffer[] {
  const frames = parts.map((part, i) =>
    frame(i > 0 ? opcodes.more : binary ? opcodes.binary : opcodes.text, Buffer.from(part), {
      fin: i === parts.length - 1,
    }),
  )
  for (let i = 0; i < pings; i++) frames.splice(i, 0, frame(opcodes.ping, `${i}`))
  return frames
}
