/** Strangers who share the owner's address: CWE-307, CWE-645 (locking out others), CWE-770, CVE-2007-6750. */
import assert from 'node:assert/strict'
import { Agent, request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { test, type TestContext } from 'node:test'

import { eventually, startSidecar, type TestSidecar } from '../support/sidecar.ts'

/** Limits as they are by default, but for the owner's own, which is not what is shown here. */
async function sidecar(t: TestContext, gateway: object = {}): Promise<TestSidecar> {
  const side = await startSidecar({
    config: {
      gateway,
      security: {
        rateLimiting: { requestsPerMinute: 100_000, requestsPerMinutePerAddress: 300 },
      },
    },
  })
  t.after(() => side.stop())
  return side
}

function ask(
  side: TestSidecar,
  agent: Agent | false,
  headers: Readonly<Record<string, string>>,
): Promise<number> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port: side.port, path: '/x', agent, headers }
    const call = request(options, (answer) => {
      answer.resume()
      answer.on('end', () => resolve(answer.statusCode ?? 0))
    })
    call.on('error', reject)
    call.end()
  })
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

/** What strangers try: guesses, other schemes, other forms, nothing at all. */
const attempts: readonly (readonly string[])[] = [
  ['Authorization', 'Bearer wrong-token-of-a-stranger'],
  ['Authorization', 'Bearer hsk_abcdefghijkl_0000000000000000000000000000000000000000000'],
  ['Authorization', 'Bearer eyJhbGciOiJub25lIn0.e30.'],
  ['Authorization', 'Basic b3duZXI6b3duZXI='],
  [],
]

/** About a thousand bad requests a second for `ms`; counts the answers by status. */
async function flood(
  side: TestSidecar,
  ms: number,
  more: (i: number) => Readonly<Record<string, string>> = () => ({}),
): Promise<Map<number, number>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 24 })
  const counts = new Map<number, number>()
  const note = (status: number) => void counts.set(status, (counts.get(status) ?? 0) + 1)
  const asked: Promise<void>[] = []
  for (let sent = 0, end = performance.now() + ms; performance.now() < end;) {
    for (let i = 0; i < 20; i += 1, sent += 1) {
      const [name, value] = attempts[sent % attempts.length] ?? []
      const credential = name === undefined || value === undefined ? {} : { [name]: value }
      // A connection that gave way is no answer.
      asked.push(ask(side, agent, { ...credential, ...more(sent) }).then(note, () => note(0)))
    }
    await pause(20)
  }
  await Promise.all(asked)
  agent.destroy()
  return counts
}

/** The owner's requests while something else goes on; each on a connection of its own if `anew`. */
async function ownersTraffic(
  side: TestSidecar,
  others: Promise<unknown>,
  anew: boolean,
  more: Readonly<Record<string, string>> = {},
): Promise<number[]> {
  const agent = anew ? false : new Agent({ keepAlive: true, maxSockets: 2 })
  const statuses: number[] = []
  let over = false
  void others.finally(() => {
    over = true
  })
  while (!over || statuses.length < 20) {
    statuses.push(await ask(side, agent, { ...side.auth, ...more }))
    await pause(10)
  }
  if (agent !== false) agent.destroy()
  return statuses
}

const only200 = (statuses: readonly number[]) => statuses.filter((status) => status !== 200)

test('a thousand bad requests a second from the owner’s address cost the owner not one', async (t) => {
  const side = await sidecar(t)
  const bad = flood(side, 3000)
  const [kept, anew] = await Promise.all([
    ownersTraffic(side, bad, false),
    ownersTraffic(side, bad, true),
  ])
  const counts = await bad
  const sent = [...counts.values()].reduce((sum, count) => sum + count, 0)
  t.diagnostic(`${sent} bad requests: ${JSON.stringify(Object.fromEntries(counts))}`)
  t.diagnostic(`${kept.length + anew.length} of the owner`)
  assert.ok(sent > 500)
  assert.deepEqual(only200(kept), [])
  assert.deepEqual(only200(anew), [])
  assert.equal(counts.get(200), undefined)
  assert.equal(side.agent.seen.length, kept.length + anew.length)
  assert.ok((counts.get(429) ?? 0) > 0, 'the address is locked and over its limit')
})

test('the same behind a trusted hop: only the strangers’ own addresses are locked', async (t) => {
  const side = await sidecar(t, { trustedProxies: ['127.0.0.1'] })
  const named = (client: string) => ({ 'X-Forwarded-For': client })
  const bad = flood(side, 1500, (i) => named(`2001:db8:${(i % 500).toString(16)}::1`))
  const neighbour = (async () => {
    const statuses: number[] = []
    for (let i = 0; i < 3; i += 1) {
      const wrong = { Authorization: 'Bearer mistyped', ...named('192.0.2.9') }
      statuses.push(await ask(side, false, wrong))
      await pause(300)
    }
    return statuses
  })()
  const statuses = await ownersTraffic(side, bad, true, named('192.0.2.7'))
  await bad
  assert.deepEqual(only200(statuses), [])
  assert.equal(side.agent.seen.length, statuses.length)
  assert.deepEqual(await neighbour, [401, 401, 401], 'a neighbour’s mistakes count for themselves')
  assert.deepEqual(
    only200([await ask(side, false, { ...side.auth, ...named('2001:db8:0::1') })]),
    [],
  )
})

test('a valid token passes whatever its address has done', async (t) => {
  const side = await sidecar(t)
  const wrong = { Authorization: 'Bearer wrong' }
  for (let i = 0; i < 400; i += 1) await ask(side, false, wrong)
  assert.equal(await ask(side, false, wrong), 429)
  assert.equal(await ask(side, false, {}), 429)
  for (let i = 0; i < 50; i += 1) assert.equal(await ask(side, false, side.auth), 200)
  assert.equal(
    await ask(side, false, wrong),
    429,
    'its success does not unlock the address for guesses',
  )
  assert.equal(side.agent.seen.length, 50)
})

/** Connections that are opened and held without a word, and opened again when they are cut. */
function holdOpen(side: TestSidecar, count: number) {
  const sockets = new Set<Socket>()
  let held = true
  const open = () => {
    if (!held) return
    const socket = connect({ port: side.port, host: '127.0.0.1' })
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('connect', () => socket.write('GET /x HTTP/1.1\r\nHost: localhost\r\nX-Slow: '))
    socket.on('close', () => {
      sockets.delete(socket)
      setTimeout(open, 100)
    })
  }
  for (let i = 0; i < count; i += 1) open()
  return {
    opened: () => sockets.size,
    release: () => {
      held = false
      for (const socket of sockets) socket.destroy()
    },
  }
}

test('strangers who hold every connection of the address do not keep the owner out', async (t) => {
  const side = await sidecar(t)
  const strangers = holdOpen(side, 100)
  t.after(() => strangers.release())
  await eventually(
    () => side.logged.some(({ message }) => message === 'connections were cut'),
    'a full address',
  )
  const socket = new Agent({ keepAlive: true, maxSockets: 1 })
  for (let i = 0; i < 30; i += 1) {
    assert.equal(await ask(side, false, side.auth), 200, 'on a new connection')
    assert.equal(await ask(side, socket, side.auth), 200, 'on the one that it has')
    await pause(20)
  }
  socket.destroy()
  strangers.release()
  assert.equal(side.agent.seen.length, 60)
})
