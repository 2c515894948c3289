import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterEach, beforeEach, suite, test } from 'node:test'

import { Cleanup, type Road, startAgent, startGateway } from '../support/websocket-gateway.ts'
import { opcodes, RawClient, until } from '../support/websocket.ts'

let cleanup = new Cleanup()
beforeEach(() => {
  cleanup = new Cleanup()
})
afterEach(() => cleanup.run())

const roads: readonly Road[] = ['framed', 'opaque']
const idleMs = 600_000
/** Several beats of the gateway under test, so that what it would do by now is done. */
const beats = () => sleep(60)

async function start(road: Road, settings = {}, echo = true) {
  const agent = await startAgent(cleanup, { echo })
  const gateway = await startGateway(cleanup, { road, address: agent.address, settings })
  const client = await new RawClient(gateway.port).open()
  const seen = await agent.first()
  return { agent, gateway, client, seen }
}

for (const road of roads) {
  const closeCode = (code: number) => (road === 'framed' ? code : undefined)

  suite(`time on the ${road} road`, () => {
    test('a silent WebSocket is closed at the idle limit and not a millisecond before', async () => {
      const { gateway, client, seen } = await start(road, { idleMs })
      gateway.advance(idleMs - 1)
      await beats()
      assert.equal(gateway.live.count(), 1)
      gateway.advance(1)
      assert.equal((await client.closing())?.code, closeCode(1001))
      client.socket.end()
      assert.equal((await gateway.end()).because, 'idle')
      await until('the agent saw the end', () => seen.close !== undefined)
      assert.equal(seen.close?.code, road === 'framed' ? 1001 : 1006)
    })

    test('a message from either side starts the idle time anew', async () => {
      const { gateway, client, seen } = await start(road, { idleMs })
      for (const speak of [
        () => client.send(opcodes.text, 'from the client'),
        () => seen.socket.send('from the agent'),
      ]) {
        gateway.advance(idleMs - 1)
        await beats()
        speak()
        while ((await client.frame()).opcode !== opcodes.text);
        await beats()
      }
      gateway.advance(idleMs - 1)
      await beats()
      assert.equal(gateway.live.count(), 1)
      client.destroy()
    })
  })

  suite(`ending on the ${road} road`, () => {
    for (const [reason, code] of [
      ['revoked', 1008],
      ['rotated', 1008],
      ['lockdown', 1008],
      ['drain', 1001],
    ] as const) {
      test(`${reason} closes the WebSockets of that identity and no others`, async () => {
        const agent = await startAgent(cleanup)
        const gateway = await startGateway(cleanup, {
          road,
          address: agent.address,
          identity: (request) => `token:${request.url}`,
        })
        const mine = await new RawClient(gateway.port, { path: '/mine' }).open()
        const other = await new RawClient(gateway.port, { path: '/other' }).open()
        await until('both are open', () => agent.seen.length === 2)
        assert.equal(gateway.live.endIdentity('token:/mine', reason), 1)
        mine.send(opcodes.text, 'too late')
        assert.equal((await mine.closing())?.code, closeCode(code))
        mine.socket.end()
        assert.equal((await gateway.end()).because, reason)
        const ended = agent.seen.find(({ target }) => target === '/mine')
        await until('the agent saw the end', () => ended?.close !== undefined)
        assert.equal(ended?.messages.length, 0)
        other.send(opcodes.text, 'still here')
        assert.equal((await other.frame()).payload.toString(), 'still here')
        other.destroy()
      })
    }

    test('a revoked client that ignores the close frame is cut within a second', async () => {
      const agent = await startAgent(cleanup)
      const gateway = await startGateway(cleanup, {
        road,
        address: agent.address,
        realTime: true,
        live: { beatMs: 500 },
      })
      const client = await new RawClient(gateway.port, { stubborn: true }).open()
      await agent.first()
      const startedAt = performance.now()
      gateway.live.endAll('revoked')
      await gateway.end()
      // The promise is a second; the rest is for a busy machine.
      assert.ok(performance.now() - startedAt < 2500, `${performance.now() - startedAt} ms`)
      client.destroy()
    })

    test('a lockdown ends everything at once', async () => {
      const agent = await startAgent(cleanup)
      const gateway = await startGateway(cleanup, { road, address: agent.address })
      const clients = await Promise.all(
        Array.from({ length: 10 }, () => new RawClient(gateway.port).open()),
      )
      await until('all are open', () => agent.seen.length === 10)
      assert.equal(gateway.live.endAll('lockdown'), 10)
      for (const client of clients) {
        assert.equal((await client.closing())?.code, closeCode(1008))
        client.destroy()
      }
      await until('all have ended', () => gateway.ends.length === 10)
      assert.equal(gateway.live.count(), 0)
      assert.equal(gateway.live.beat.size, 0)
    })
  })

  suite(`back-pressure on the ${road} road`, () => {
    const size = 60 * 1024
    const count = 1024

    test('a client that does not read stops the agent, and loses nothing', async () => {
      const { gateway, client, seen } = await start(road, { idleMs })
      client.socket.pause()
      const payload = randomBytes(size)
      const before = seen.wire.bytesWritten
      for (let i = 0; i < count; i++) seen.socket.send(payload)
      const taken = await settled(() => seen.wire.bytesWritten - before - seen.wire.writableLength)
      // Both kernels' buffers and our mebibyte: far from the 60 MiB that were sent.
      assert.ok(taken < 30 * 1024 * 1024, `${taken} bytes taken from the agent`)
      client.socket.resume()
      for (let i = 0; i < count; i++) {
        const frame = await client.frame()
        if (frame.opcode === opcodes.ping) continue
        assert.ok(frame.payload.equals(payload))
      }
      client.destroy()
      await gateway.end()
    })

    test('an agent that does not read stops the client, and loses nothing', async () => {
      const { gateway, client, seen } = await start(road, { messagesPerMinute: 100_000 }, false)
      seen.socket.pause()
      const payload = randomBytes(size)
      const before = client.socket.bytesWritten
      for (let i = 0; i < count; i++) client.send(opcodes.binary, payload)
      const taken = await settled(
        () => client.socket.bytesWritten - before - client.socket.writableLength,
      )
      assert.ok(taken < 30 * 1024 * 1024, `${taken} bytes taken from the client`)
      client.socket.resume()
      seen.socket.resume()
      await until('all messages arrived', () => seen.messages.length === count)
      assert.ok(seen.messages.every(({ data }) => data.equals(payload)))
      client.destroy()
      await gateway.end()
    })
  })
}

/** The figure once it has stopped moving. */
async function settled(figure: () => number): Promise<number> {
  let last = -1
  let since = performance.now()
  while (performance.now() - since < 800) {
    await sleep(10)
    const now = figure()
    if (now !== last) since = performance.now()
    last = now
  }
  return last
}

suite('heartbeat', () => {
  test('a silent client is pinged every 30 seconds, and its pongs are no activity', async () => {
    const { gateway, client } = await start('framed', { idleMs: 100_000 })
    for (let i = 0; i < 3; i++) {
      gateway.advance(29_999)
      await beats()
      gateway.advance(1)
      assert.equal((await client.frame()).opcode, opcodes.ping)
      client.send(opcodes.pong)
      await beats()
    }
    gateway.advance(10_000)
    assert.equal((await client.closing())?.code, 1001)
    client.destroy()
  })

  test('pings of the client are no activity either', async () => {
    const { gateway, client } = await start('framed', { idleMs: 20_000 })
    gateway.advance(19_999)
    client.send(opcodes.ping)
    assert.equal((await client.frame()).opcode, opcodes.pong)
    gateway.advance(1)
    assert.equal((await client.closing())?.code, 1001)
    client.destroy()
  })

  test('a client that leaves two pings unanswered is gone at the third', async () => {
    const { gateway, client, seen } = await start('framed')
    for (let i = 0; i < 2; i++) {
      gateway.advance(30_000)
      assert.equal((await client.frame()).opcode, opcodes.ping)
    }
    assert.equal(gateway.live.count(), 1)
    gateway.advance(30_000)
    const end = await gateway.end()
    assert.equal(end.because, 'the client does not answer pings')
    assert.equal(end.closeCode, 1006)
    await until('the agent saw the end', () => seen.close !== undefined)
    assert.equal(seen.close?.code, 1001)
  })

  test('a message is as good an answer as a pong', async () => {
    const { gateway, client } = await start('framed')
    for (let i = 0; i < 5; i++) {
      gateway.advance(30_000)
      assert.equal((await client.frame()).opcode, opcodes.ping)
      client.send(opcodes.text, 'x')
      assert.equal((await client.frame()).opcode, opcodes.text)
    }
    assert.equal(gateway.live.count(), 1)
    client.destroy()
  })
})

suite('endings that stall', () => {
  test('a client that ignores the close frame is cut after five seconds', async () => {
    const { gateway, client, seen } = await start('framed', { messagesPerMinute: 1 })
    client.send(opcodes.text, 'one')
    client.send(opcodes.text, 'two')
    assert.equal((await client.closing())?.code, 1008)
    gateway.advance(4999)
    await beats()
    assert.equal(gateway.ends.length, 0)
    gateway.advance(1)
    await client.gone
    await gateway.end()
    await until('the agent saw the end', () => seen.close !== undefined)
  })

  test('a client that closes but keeps its connection open is cut after five seconds', async () => {
    const { gateway, client } = await start('framed')
    client.destroy()
    await gateway.end()
    const stubborn = await new RawClient(gateway.port, { stubborn: true }).open()
    stubborn.send(opcodes.close)
    assert.deepEqual(await stubborn.closing(), { code: undefined, reason: '' })
    await beats()
    assert.equal(gateway.ends.length, 1)
    gateway.advance(5000)
    await until('it has ended', () => gateway.ends.length === 2)
    stubborn.destroy()
  })

  for (const road of roads) {
    test(`a client that half-closes and never goes is cut on the ${road} road`, async () => {
      const agent = await startAgent(cleanup)
      const gateway = await startGateway(cleanup, { road, address: agent.address })
      const client = await new RawClient(gateway.port, { stubborn: true }).open()
      // The agent has much to say to a client that reads nothing and only sends a FIN.
      client.socket.pause()
      const { socket } = await agent.first()
      for (let i = 0; i < 500; i++) socket.send(randomBytes(60 * 1024))
      await sleep(200)
      client.socket.end()
      const by = performance.now() + 10_000
      while (gateway.ends.length === 0 && performance.now() < by) {
        gateway.advance(5000)
        await beats()
      }
      assert.equal(gateway.ends.length, 1)
      assert.equal(gateway.live.count(), 0)
      client.destroy()
    })
  }

  test('an agent that ignores the close frame does not hold the client', async () => {
    const { gateway, client, seen } = await start('framed')
    seen.socket.pause()
    const closed = client.closing()
    client.send(opcodes.close)
    await closed
    client.socket.end()
    await beats()
    gateway.advance(5000)
    await gateway.end()
    assert.equal(gateway.live.count(), 0)
  })
})

test('what the agent sent before it closed reaches a slow client', async () => {
  const payload = randomBytes(32 * 1024)
  const count = 400
  const agent = await startAgent(cleanup, {
    onOpen: ({ socket }) => {
      for (let i = 0; i < count; i++) socket.send(payload)
      socket.close(1000, 'that was all')
    },
  })
  const gateway = await startGateway(cleanup, { address: agent.address })
  const client = await new RawClient(gateway.port).open()
  client.socket.pause()
  await sleep(200)
  client.socket.resume()
  for (let i = 0; i < count; i++) assert.ok((await client.frame()).payload.equals(payload))
  assert.deepEqual(await client.closing(), { code: 1000, reason: 'that was all' })
  client.destroy()
  assert.equal((await gateway.end()).bytesToClient, count * payload.length)
})
