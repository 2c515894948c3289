/** The doors of a cell without the cell: the portal's pumps, the way out that refuses, and an agent beside us. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { rmSync, statSync } from 'node:fs'
import { createServer as createHttp, request, type Server as HttpServer } from 'node:http'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { afterEach, beforeEach, suite, test } from 'node:test'
import { setTimeout as pause } from 'node:timers/promises'
import { createAgent, type AgentDeps } from '../../src/agent/create.ts'
import { openPortal, type Portal } from '../../src/agent/portal.ts'
import { listenDeny, refusalsPerMinute } from '../../src/egress/deny.ts'
import { AuditList, tempDir, until } from '../support/engine.ts'

let dir: string
const undo: (() => void | Promise<void>)[] = []
beforeEach(() => {
  dir = tempDir()
})
afterEach(async () => {
  for (const step of undo.splice(0).toReversed()) await step()
  rmSync(dir, { recursive: true, force: true })
})

async function portOf(server: Server | HttpServer): Promise<number> {
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  undo.push(() => void server.close())
  const bound = server.address()
  return typeof bound === 'object' && bound !== null ? bound.port : 0
}

async function portalTo(agentPort: number, connections = 64): Promise<Portal> {
  const portal = await openPortal({ dir, agentPort, egressPort: 0, connections })
  undo.push(() => portal.close())
  return portal
}

const dial = (allowHalfOpen = false): Socket => {
  const socket = connect({ path: join(dir, 'in.sock'), allowHalfOpen })
  undo.push(() => void socket.destroy())
  return socket
}

async function readAll(socket: Socket): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of socket) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

suite('the portal', () => {
  test('passes bytes and half-closes both ways', async () => {
    const echo = createServer({ allowHalfOpen: true }, (socket) => socket.pipe(socket))
    await portalTo(await portOf(echo))
    const socket = dial(true)
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n % 256))
    socket.end(bytes)
    assert.ok((await readAll(socket)).equals(bytes))
  })

  test('hangs up at once when the agent does not listen, and carries when it does', async () => {
    const late = createServer((socket) => socket.end('here'))
    const port = await portOf(late)
    late.close()
    await once(late, 'close')
    await portalTo(port)
    assert.equal((await readAll(dial()).catch(() => Buffer.alloc(0))).length, 0)
    late.listen(port, '127.0.0.1')
    await once(late, 'listening')
    assert.equal((await readAll(dial())).toString(), 'here')
  })

  test('ends the client when the agent breaks off, and the agent when the client does', async () => {
    const accepted: Socket[] = []
    const holder = createServer((socket) => {
      socket.on('error', () => socket.destroy())
      accepted.push(socket)
    })
    await portalTo(await portOf(holder))
    const first = dial().on('error', () => undefined)
    first.resume()
    await until('the agent has it', () => accepted.length === 1)
    accepted[0]?.resetAndDestroy()
    await once(first, 'close')
    const second = dial()
    await until('the agent has it', () => accepted.length === 2)
    const gone = once(accepted[1] ?? holder, 'close')
    accepted[1]?.resume()
    second.destroy()
    await gone
  })

  test('stops reading from a sender whose receiver does not read', async () => {
    const held: Socket[] = []
    const slow = createServer({ pauseOnConnect: true }, (socket) => held.push(socket))
    await portalTo(await portOf(slow))
    const socket = dial()
    const block = Buffer.alloc(2 ** 20)
    let accepted = 0
    // Socket buffers on the way take a few MiB; without back-pressure it would take all.
    for (let n = 0; n < 64; n += 1) {
      const ok = await Promise.race([
        new Promise<boolean>((resolve) => socket.write(block, () => resolve(true))),
        pause(1000, false),
      ])
      if (!ok) break
      accepted += 1
    }
    assert.ok(accepted < 40, `${accepted} MiB were taken`)
    for (const one of held) one.destroy()
  })

  test('carries as many connections as it may and closes the next', async () => {
    const open: Socket[] = []
    const holder = createServer((socket) => open.push(socket.on('error', () => undefined)))
    await portalTo(await portOf(holder), 2)
    const kept = [dial(), dial()]
    await until('both are through', () => open.length === 2)
    const third = dial().on('error', () => undefined)
    third.resume()
    await once(third, 'close')
    assert.equal(open.length, 2)
    assert.ok(kept.every((socket) => !socket.destroyed))
  })

  test('leads from its loopback port to the way out, and takes the place of a dead one', async () => {
    const out = createServer((socket) => socket.end('outside'))
    out.listen(join(dir, 'out.sock'))
    await once(out, 'listening')
    undo.push(() => void out.close())
    const first = await portalTo(1)
    const socket = connect(first.egressPort, '127.0.0.1')
    assert.equal((await readAll(socket)).toString(), 'outside')
    // A killed portal leaves its socket file; the next must not stumble over it.
    await portalTo(1)
  })
})

suite('the way out that lets nothing through', () => {
  const open = async (now: () => number) => {
    const audit = new AuditList()
    const socketPath = join(dir, 'out.sock')
    const listener = await listenDeny({ socketPath }, { audit, now })
    undo.push(() => listener.close())
    return { audit, socketPath }
  }
  const ask = (socketPath: string, options: { method?: string; path: string }) =>
    new Promise<number>((resolve, reject) => {
      const call = request({ socketPath, agent: false, ...options }, (answer) => {
        answer.resume()
        resolve(answer.statusCode ?? 0)
      })
      call.on('connect', (answer, socket) => {
        socket.destroy()
        resolve(answer.statusCode ?? 0)
      })
      call.on('error', reject)
      call.end()
    })

  test('answers 403 to requests, tunnels and upgrades, and records host and port', async () => {
    const { audit, socketPath } = await open(() => 0)
    assert.equal(statSync(socketPath).mode & 0o777, 0o600)
    assert.equal(await ask(socketPath, { path: 'http://a.example/secret?token=1' }), 403)
    assert.equal(await ask(socketPath, { method: 'CONNECT', path: 'b.example:443' }), 403)
    const raw = connect(socketPath)
    raw.write(
      'GET http://c.example/ HTTP/1.1\r\nHost: c.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    )
    assert.match((await readAll(raw)).toString(), /^HTTP\/1\.1 403 /)
    assert.deepEqual(
      audit.entries.map((entry) => [entry.method, entry.path]),
      [
        ['GET', 'a.example'],
        ['CONNECT', 'b.example:443'],
        ['GET', 'c.example'],
      ],
    )
  })

  test('records a flood of refusals as a number', async () => {
    let now = 0
    const { audit, socketPath } = await open(() => now)
    for (let n = 0; n < refusalsPerMinute + 5; n += 1)
      await ask(socketPath, { path: 'http://a.example/' })
    assert.equal(audit.entries.length, refusalsPerMinute)
    now = 60_000
    await ask(socketPath, { path: 'http://a.example/' })
    assert.equal(audit.entries.length, refusalsPerMinute + 2)
    assert.equal(audit.entries.at(-2)?.because, '5 more in the minute before')
  })
})

suite('an agent that already runs', () => {
  const deps: AgentDeps = {
    audit: new AuditList(),
    now: () => Date.now(),
    nodePath: process.execPath,
    uid: 0,
    gid: 0,
  }
  const told: string[] = []
  const agentAt = async (upstream: string) => {
    told.length = 0
    const agent = await createAgent(
      { upstream, instance: 'x', runDir: dir, forbidden: [] },
      { ...deps, told: (state, because) => told.push(`${state}: ${because ?? 'well'}`) },
    )
    undo.push(() => agent.stop())
    await agent.start()
    return agent
  }

  test('is ready when its port is open, and its status says that no sandbox is applied', async () => {
    const server = createHttp((_request, response) => response.end('ok'))
    const agent = await agentAt(`http://127.0.0.1:${await portOf(server)}`)
    assert.equal(await agent.ready(), 'ready')
    assert.equal(agent.ready(), undefined)
    const status = await agent.status()
    assert.equal(status.driver, 'external')
    assert.match(status.lacks.join(), /no sandbox of ours is applied/)
    await assert.rejects(agent.restart(), { code: 'AGENT_EXTERNAL' })
    await assert.rejects(agent.logs(1), { code: 'AGENT_EXTERNAL' })
  })

  test('is down at once when nothing listens, and ready again when something does', async () => {
    const server = createHttp((_request, response) => response.end('ok'))
    const port = await portOf(server)
    server.close()
    await once(server, 'close')
    const agent = await agentAt(`http://127.0.0.1:${port}`)
    assert.equal(await agent.ready(), 'down')
    assert.equal(told.length, 1)
    assert.match(told[0] ?? '', /^down: nothing answers at http:.*: start the agent, or mend agent/)
    assert.match(
      (await agent.status()).because ?? '',
      /nothing answers at http:\/\/127\.0\.0\.1:\d+: start/,
    )
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    assert.equal(await agent.ready(), 'ready')
    assert.deepEqual(told.slice(1), ['ready: well'])
  })

  test('behind a portal is ready only when the agent itself listens', async () => {
    const server = createHttp((_request, response) => response.end('ok'))
    const port = await portOf(server)
    server.close()
    await once(server, 'close')
    await portalTo(port)
    const agent = await agentAt(`unix:${join(dir, 'in.sock')}`)
    assert.equal(await agent.ready(), 'down')
    server.listen(port, '127.0.0.1')
    await once(server, 'listening')
    assert.equal(await agent.ready(), 'ready')
  })
})
