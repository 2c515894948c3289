/** Clients that do not read their answer: CWE-400, the slow-read form of CVE-2007-6750. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { connect, type AddressInfo, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'

import { openForwarder, type Ended } from '../../src/proxy/forward.ts'
import { startAgent } from '../support/agent.ts'
import { someFacts } from '../support/request.ts'
import { eventually } from '../support/sidecar.ts'

/** A forwarder with a short bound behind a plain server, and what it says of each exchange. */
async function doorway(t: TestContext, bytes: number, stallMs: number) {
  let agentClosed = 0
  const agent = await startAgent((_request, response) => {
    response.on('close', () => (agentClosed += 1))
    const chunk = Buffer.alloc(64 * 1024, 120)
    let sent = 0
    const more = (): void => {
      while (sent < bytes) {
        sent += chunk.length
        if (!response.write(chunk)) {
          response.once('drain', more)
          return
        }
      }
      response.end()
    }
    response.writeHead(200)
    more()
  })
  const forwarder = openForwarder({
    address: { origin: agent.url },
    connectMs: 2000,
    answerMs: 5000,
    idleMs: 60_000,
    stallMs,
    maxBytes: 1024,
    bodyTimeMs: 5000,
    rateFloorBytesPerSecond: 1,
  })
  const ends: Ended[] = []
  const server = createServer((request, response) => {
    const ended = (how: Ended): void => void ends.push(how)
    const facts = someFacts({ target: '/big', path: '/big' })
    forwarder.send({ facts, request, response, headers: facts.headers, answerHeaders: [], ended })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.closeAllConnections()
    server.close()
    await forwarder.close()
    await agent.stop()
  })
  const ask = (): Socket => {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1')
    socket.on('error', () => undefined)
    t.after(() => socket.destroy())
    socket.write('GET /big HTTP/1.1\r\nHost: localhost\r\n\r\n')
    return socket
  }
  return { ask, ends, agentClosed: () => agentClosed }
}

test('a client that never reads is cut, and the agent’s request ends with it', async (t) => {
  const { ask, ends, agentClosed } = await doorway(t, 512 * 1024 * 1024, 400)
  const socket = ask()
  socket.pause()
  await eventually(() => ends.length === 1, 'the end of the exchange')
  assert.equal(ends[0]?.because, 'the client does not read')
  await eventually(() => agentClosed() === 1, 'the end of the agent’s request')
})

test('a client that reads slowly but goes on reading is served to the end', async (t) => {
  const bytes = 24 * 1024 * 1024
  const { ask, ends } = await doorway(t, bytes, 2000)
  const socket = ask()
  let got = 0
  socket.on('data', (chunk: Buffer) => {
    got += chunk.length
    // A pause now and then, each well inside the bound, together far beyond it.
    if (got % 7 === 0 || chunk.length < 16_384) {
      socket.pause()
      setTimeout(() => socket.resume(), 60)
    }
  })
  await eventually(() => ends.length === 1 && got >= bytes, 'the whole answer', 30_000)
  assert.equal(ends[0]?.because, undefined)
  assert.equal(ends[0]?.status, 200)
})
