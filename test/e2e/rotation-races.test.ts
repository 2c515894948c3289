/** Revoking in the middle of things: while the decision is written, during an upgrade, a stream, an upload. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import type { AuditEntry } from '../../src/audit/record.ts'
import { cli, makeToken } from '../support/cli.ts'
import { eventually, startSidecar, type SidecarOptions } from '../support/sidecar.ts'

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

/** A sidecar, a token that will be revoked, and the revoking. */
async function setUp(t: TestContext, options: SidecarOptions = {}) {
  const side = await startSidecar(options)
  t.after(() => side.stop())
  const token = await makeToken(side.home, '--name', 'phone')
  const revoke = async () => {
    const { code, err } = await cli(side.home, ['token', 'revoke', 'phone'])
    assert.equal(code, 0, err)
  }
  return { side, token, revoke }
}

/** An audit log that keeps decisions about requests waiting while it is held. */
function slowAudit() {
  const entries: AuditEntry[] = []
  const waiting: (() => void)[] = []
  const state = { held: false }
  return {
    entries,
    waiting,
    hold: () => void (state.held = true),
    release: () => {
      state.held = false
      for (const written of waiting.splice(0)) written()
    },
    sink: {
      failing: undefined,
      append: (entry: AuditEntry, written?: (failure?: Error) => void) => {
        entries.push(entry)
        if (written === undefined) return
        if (state.held && entry.event === 'request.allowed') waiting.push(() => written())
        else written()
      },
      close: () => Promise.resolve(),
    },
  }
}

/** The status and body of an answer, or the code of the broken connection. */
async function ended(call: ReturnType<typeof request>): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const broken = (error: Error) => resolve({ status: 0, text: error.message })
    call.on('error', broken)
    call.on('response', (response: IncomingMessage) => {
      let text = ''
      response.setEncoding('utf8').on('data', (piece: string) => void (text += piece))
      response.on('error', broken)
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    call.end()
  })
}

for (const road of ['framed', 'opaque'] as const) {
  test(`a token revoked while its upgrade is being recorded opens nothing (${road})`, async (t) => {
    const audit = slowAudit()
    const config = { agent: { websocket: road } }
    const { side, token, revoke } = await setUp(t, { audit: audit.sink, config })
    let upgrades = 0
    side.agent.server.on('upgrade', () => (upgrades += 1))
    audit.hold()
    const socket = new WebSocket(side.url.replace('http', 'ws'), { headers: bearer(token) })
    socket.on('error', () => undefined)
    const refused = once(socket, 'unexpected-response') as Promise<[unknown, IncomingMessage]>
    await eventually(() => audit.waiting.length === 1, 'the decision waits to be written')
    await revoke()
    audit.release()
    const [, response] = await refused
    assert.equal(response.statusCode, 401)
    assert.match(response.headers['www-authenticate'] ?? '', /^Bearer/)
    assert.equal(upgrades, 0)
    const done = audit.entries.find(({ event }) => event === 'request.done')
    assert.equal(done?.code, 'UNAUTHENTICATED')
  })

  test(`a token revoked while the agent thinks about its upgrade opens nothing (${road})`, async (t) => {
    const { side, token, revoke } = await setUp(t, { config: { agent: { websocket: road } } })
    const asked: Socket[] = []
    side.agent.server.on('upgrade', (_request, socket: Socket) => asked.push(socket))
    const socket = new WebSocket(side.url.replace('http', 'ws'), { headers: bearer(token) })
    socket.on('error', () => undefined)
    const refused = once(socket, 'unexpected-response') as Promise<[unknown, IncomingMessage]>
    await eventually(() => asked.length === 1, 'the agent is asked')
    const gone = once(asked[0] as Socket, 'end')
    asked[0]?.resume()
    await revoke()
    const [, response] = await refused
    assert.equal(response.statusCode, 401)
    await gone
  })

  test(`a token revoked right after its upgrade has its socket closed (${road})`, async (t) => {
    const { side, token, revoke } = await setUp(t, { config: { agent: { websocket: road } } })
    const gateway = new WebSocketServer({ server: side.agent.server })
    t.after(() => gateway.close())
    const socket = new WebSocket(side.url.replace('http', 'ws'), { headers: bearer(token) })
    socket.on('error', () => undefined)
    await once(socket, 'open')
    const closed = once(socket, 'close')
    await revoke()
    await closed
    await eventually(() => gateway.clients.size === 0, 'the agent hears of it')
  })
}

test('a token revoked while its request is being recorded reaches nobody', async (t) => {
  const audit = slowAudit()
  const { side, token, revoke } = await setUp(t, { audit: audit.sink })
  audit.hold()
  const answer = fetch(`${side.url}/x`, { headers: bearer(token) })
  await eventually(() => audit.waiting.length === 1, 'the decision waits to be written')
  await revoke()
  audit.release()
  const { status, headers } = await answer
  assert.equal(status, 401)
  assert.match(headers.get('www-authenticate') ?? '', /^Bearer/)
  assert.equal(side.agent.seen.length, 0)
  assert.ok(
    audit.entries.some(({ event, code }) => event === 'request.done' && code === 'UNAUTHENTICATED'),
  )
})

test('revoking during a streamed answer aborts it, and the agent hears of it', async (t) => {
  let gone = false
  const { side, token, revoke } = await setUp(t, {
    answer: (_request, response) => {
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      const timer = setInterval(() => response.write('data: more\n\n'), 20)
      response.on('close', () => {
        clearInterval(timer)
        gone = true
      })
    },
  })
  const answer = await fetch(`${side.url}/stream`, { headers: bearer(token) })
  const reader = answer.body?.getReader()
  await reader?.read()
  const start = performance.now()
  const drained = (async () => {
    while ((await reader?.read())?.done === false);
  })()
  const aborted = assert.rejects(drained, 'a cut answer must not look complete')
  await revoke()
  await aborted
  assert.ok(performance.now() - start < 5000)
  await eventually(() => gone, 'the agent hears of it')
  assert.ok(side.records().some(({ because }) => because === 'ended: revoked'))
})

test('revoking during an upload ends it, and the agent never gets a complete request', async (t) => {
  let aborted = false
  const { side, token, revoke } = await setUp(t, {
    answer: (incoming, response) => {
      incoming.on('close', () => (aborted = !incoming.complete))
      incoming.on('end', () => response.end('all of it'))
    },
  })
  const call = request(`${side.url}/upload`, { method: 'POST', headers: bearer(token) })
  call.on('error', () => undefined)
  call.write(Buffer.alloc(100_000))
  const timer = setInterval(() => call.write('more'), 20)
  t.after(() => clearInterval(timer))
  await eventually(() => (side.agent.seen.length ?? 0) === 1, 'the upload reaches the agent')
  const over = new Promise((resolve) => call.on('close', resolve))
  await revoke()
  await over
  clearInterval(timer)
  await eventually(() => aborted, 'the agent hears of it')
  assert.equal(side.agent.seen[0]?.ended, false)
})

test('a rotation lets a short request under way be answered, and ends a stream within the second', async (t) => {
  const { side, token } = await setUp(t, {
    config: { gateway: { auth: { rotationGrace: '2s' } } },
    answer: (incoming, response) => {
      if (incoming.url === '/slow') setTimeout(() => response.end('done'), 450)
      else response.write('data: first\n\n')
    },
  })
  const rotated = await cli(side.home, ['token', 'rotate', 'phone', '--json'])
  const { endsAt } = (JSON.parse(rotated.out) as { previous: { endsAt: number } }).previous
  const headers = bearer(token)
  const stream = await fetch(`${side.url}/stream`, { headers })
  const cut = assert.rejects(stream.text())
  await new Promise((resolve) => setTimeout(resolve, endsAt - Date.now() - 150))
  const answers = await Promise.all(
    [1, 2, 3].map(() => ended(request(`${side.url}/slow`, { headers }))),
  )
  assert.deepEqual(
    answers.map(({ status, text }) => `${status} ${text}`),
    Array(3).fill('200 done'),
  )
  await cut
  assert.ok(
    Date.now() - endsAt < 1000,
    `the stream ended ${Date.now() - endsAt} ms after the grace`,
  )
})
