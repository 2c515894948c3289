/** One rotation under load, as an owner does it: 200 requests a second and 100 open sockets, and nobody notices. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { WebSocket, WebSocketServer } from 'ws'

import { startAgent } from '../support/agent.ts'
import { cli, makeToken } from '../support/cli.ts'
import { eventually, startSidecar } from '../support/sidecar.ts'

const perSecond = 200
const sockets = 100
/** A request sent this shortly before the end of the grace may arrive after it. */
const onTheWayMs = 300
const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

/** One request and how it ended: a status, or the code of a broken connection. */
interface Asked {
  readonly token: string
  readonly at: number
  status: number | string
}

/** Asks `perSecond` times a second, each time with the token that `tokenOf` gives, until stopped. */
function load(url: string, tokenOf: (turn: number) => string) {
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const asked: Asked[] = []
  const pending = new Set<Asked>()
  const began = performance.now()
  const ask = (turn: number) => {
    const one: Asked = { token: tokenOf(turn), at: Date.now(), status: 0 }
    asked.push(one)
    pending.add(one)
    const done = (status: number | string) => {
      one.status = status
      pending.delete(one)
    }
    const call = request(`${url}/x`, { agent, headers: bearer(one.token) }, (response) => {
      response.resume()
      response.on('end', () => done(response.statusCode ?? 0))
      response.on('error', (error) => done(error.message))
    })
    call.on('error', (error) => done(error.message))
    call.end()
  }
  // As many as are due: a beat that comes late on a busy machine asks for all that it missed.
  const timer = setInterval(() => {
    const due = ((performance.now() - began) / 1000) * perSecond
    while (asked.length < due) ask(asked.length)
  }, 5)
  return {
    asked,
    rate: () => asked.length / ((performance.now() - began) / 1000),
    stop: async () => {
      clearInterval(timer)
      await eventually(() => pending.size === 0, 'every request is answered')
      agent.destroy()
    },
  }
}

async function openSocket(url: string, token: string) {
  const socket = new WebSocket(url.replace('http', 'ws'), { headers: bearer(token) })
  const closed = { code: 0, at: 0 }
  socket.on('close', (code) => Object.assign(closed, { code, at: Date.now() }))
  socket.on('error', () => undefined)
  await once(socket, 'open')
  return { socket, closed }
}

const status = async (url: string, token: string) => {
  const answer = await fetch(`${url}/x`, { headers: bearer(token) })
  await answer.arrayBuffer()
  return answer.status
}

test('a token is rotated under load and no client with a good token notices', async () => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  const agent = await startAgent((_, response) => void response.end('hello'))
  const gateway = new WebSocketServer({ server: agent.server })
  gateway.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
  const config = {
    gateway: { auth: { rotationGrace: '3s' } },
    security: {
      rateLimiting: { authFailures: { attempts: 1000 } },
      limits: {
        maxConnections: 2000,
        maxConnectionsPerAddress: 2000,
        webSocket: { maxPerIdentity: 200, maxPerAddress: 400 },
      },
    },
  }
  const side = await startSidecar({ agent, home, config })
  const stopping = [() => side.stop()]
  try {
    const old = await makeToken(home, '--name', 'fleet')
    const live = await Promise.all(Array.from({ length: sockets }, () => openSocket(side.url, old)))
    let fresh: string | undefined
    let movedFrom = Infinity
    // Twenty clients move one after the other in the first two seconds of the grace; the last one never does.
    const clients = 20
    const tokenOf = (turn: number) => {
      const client = turn % clients
      const moved = client < clients - 1 && Date.now() >= movedFrom + client * 100
      return moved && fresh !== undefined ? fresh : old
    }
    const traffic = load(side.url, tokenOf)
    await sleep(500)

    const rotated = await cli(home, ['token', 'rotate', 'fleet', '--json'])
    assert.equal(rotated.code, 0, rotated.err)
    const made = JSON.parse(rotated.out) as { token: string; previous: { endsAt: number } }
    const { endsAt } = made.previous
    fresh = made.token
    movedFrom = Date.now()
    assert.ok(endsAt - Date.now() > 1000, 'the grace is under way')
    const young = await openSocket(side.url, fresh)
    assert.deepEqual(
      live.map(({ closed }) => closed.code).filter((code) => code !== 0),
      [],
    )

    await sleep(endsAt - Date.now() + 1000)
    await eventually(() => live.every(({ closed }) => closed.code !== 0), 'the old sockets close')
    const rate = traffic.rate()
    await traffic.stop()

    assert.ok(rate >= perSecond * 0.95, `${rate} requests a second`)
    for (const { at, token, status: said } of traffic.asked) {
      const when = `${at - endsAt} ms from the end of the grace`
      if (token === fresh || at < endsAt - onTheWayMs) assert.equal(said, 200, when)
      else if (at >= endsAt) assert.equal(said, 401, when)
      else assert.ok(said === 200 || said === 401, `${said} ${when}`)
    }
    assert.ok(traffic.asked.filter(({ token }) => token === fresh).length > perSecond)
    assert.ok(traffic.asked.some(({ token, at }) => token === old && at >= endsAt))

    const late = live.map(({ closed }) => closed.at - endsAt)
    const [first, last] = [Math.min(...late), Math.max(...late)]
    assert.ok(first >= 0 && last < 1000, `closed ${first} to ${last} ms after the grace`)
    assert.deepEqual([...new Set(live.map(({ closed }) => closed.code))], [1008])
    young.socket.send('still here')
    const [echo] = (await once(young.socket, 'message')) as [Buffer]
    assert.equal(String(echo), 'still here')

    assert.deepEqual([await status(side.url, old), await status(side.url, fresh)], [401, 200])
    const events = side.records().filter(({ identity }) => identity === 'fleet')
    const told = events
      .map(({ event }) => String(event))
      .filter((each) => each.startsWith('token.'))
    assert.deepEqual(told, ['token.created', 'token.rotated', 'token.retired'])
    const rotatedSockets = events.filter(({ because }) => because === 'rotated (1008)')
    assert.equal(rotatedSockets.length, sockets)

    young.socket.close()
    await stopping.pop()?.()
    const again = await startSidecar({ agent, home, config, token: side.token })
    stopping.push(() => again.stop())
    assert.deepEqual([await status(again.url, old), await status(again.url, fresh)], [401, 200])
  } finally {
    for (const stop of stopping) await stop()
    gateway.close()
    await agent.stop()
    rmSync(home, { recursive: true, force: true })
  }
})

test('a rotation without grace refuses the old token and closes its socket and stream at once', async () => {
  const side = await startSidecar({
    answer: (incoming, response) => {
      if (incoming.url !== '/stream') return void response.end('hello')
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('data: first\n\n')
    },
  })
  const gateway = new WebSocketServer({ server: side.agent.server })
  try {
    const old = await makeToken(side.home, '--name', 'phone')
    const { closed } = await openSocket(side.url, old)
    const answer = await fetch(`${side.url}/stream`, { headers: bearer(old) })
    const reader = answer.body?.getReader()
    await reader?.read()
    const stream = { endedAt: 0 }
    const end = () => void (stream.endedAt = Date.now())
    void reader?.read().then(end, end)

    const rotated = await cli(side.home, ['token', 'rotate', 'phone', '--now', '--json'])
    assert.equal(rotated.code, 0, rotated.err)
    const { token, previous } = JSON.parse(rotated.out) as {
      token: string
      previous: { status: string; endsAt: number }
    }
    assert.equal(previous.status, 'retired')
    await eventually(() => closed.code !== 0 && stream.endedAt !== 0, 'both end')
    assert.ok(closed.at - previous.endsAt < 1000, `socket after ${closed.at - previous.endsAt} ms`)
    assert.ok(stream.endedAt - previous.endsAt < 1000, 'the stream ends within a second')
    assert.equal(closed.code, 1008)
    assert.deepEqual([await status(side.url, old), await status(side.url, token)], [401, 200])
    const both = await cli(side.home, ['token', 'list'])
    assert.match(both.out, /phone .* retired /)
  } finally {
    gateway.close()
    await side.stop()
  }
})

test('of two rotations at once one prints a token and the other says who was first', async () => {
  const side = await startSidecar()
  try {
    await makeToken(side.home, '--name', 'phone')
    const list = await cli(side.home, ['token', 'list', '--json'])
    const { tokens } = JSON.parse(list.out) as { tokens: { id: string; name: string }[] }
    const id = tokens.find(({ name }) => name === 'phone')?.id ?? ''
    const both = await Promise.all([1, 2].map(() => cli(side.home, ['token', 'rotate', id])))
    const [won, lost] = both.toSorted((one, two) => (one.code ?? 9) - (two.code ?? 9))
    assert.deepEqual([won?.code, lost?.code], [0, 1])
    assert.match(won?.out ?? '', /^hsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}\n$/)
    assert.match(won?.err ?? '', /The old one \(\w{8}\) is good until 20/)
    assert.equal(lost?.out, '')
    assert.match(
      lost?.err ?? '',
      new RegExp(`was rotated already: its successor is ${won?.out.slice(4, 12)}`),
    )
  } finally {
    await side.stop()
  }
})
