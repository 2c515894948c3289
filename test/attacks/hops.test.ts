/** Who the client is: CVE-2022-31813, CWE-348, CWE-290, and the walk over X-Forwarded-For. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { test, type TestContext } from 'node:test'

import { startSidecar, type SidecarOptions, type TestSidecar } from '../support/sidecar.ts'

/** The hop; any other loopback address is a client that comes without one. */
const hop = '127.0.0.2'
const stranger = '127.0.0.3'

async function sidecar(t: TestContext, options: SidecarOptions = {}): Promise<TestSidecar> {
  const side = await startSidecar({
    ...options,
    config: { gateway: { trustedProxies: [hop, '10.0.0.0/8'] }, ...options.config },
  })
  t.after(() => side.stop())
  return side
}

interface Answer {
  readonly status: number
  readonly body: string
}

/** A request from one address of this machine; `headers` is flat: name, value, … */
function from(
  side: TestSidecar,
  localAddress: string,
  headers: readonly string[],
  token = side.token,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const flat = ['Host', 'localhost', 'Authorization', `Bearer ${token}`, ...headers]
    const options = { host: '127.0.0.1', port: side.port, path: '/x', localAddress, headers: flat }
    const call = request({ ...options, agent: false }, (answer) => {
      let body = ''
      answer.setEncoding('utf8')
      answer.on('data', (piece: string) => {
        body += piece
      })
      answer.on('end', () => resolve({ status: answer.statusCode ?? 0, body }))
    })
    call.on('error', reject)
    call.end()
  })
}

const lastPeer = (side: TestSidecar) =>
  side.records().findLast(({ event }) => /^request\.(?:allowed|refused)$/.test(String(event)))?.[
    'peer'
  ]

test('only a trusted hop says who the client is, and no more than it saw', async (t) => {
  const side = await sidecar(t)
  const cases: [string, string, string][] = [
    [hop, '192.0.2.7', '192.0.2.7'],
    [hop, '198.51.100.1, 192.0.2.7', '192.0.2.7'],
    [hop, '192.0.2.7, 10.1.1.1, 10.2.2.2', '192.0.2.7'],
    [hop, '127.0.0.1, 192.0.2.7', '192.0.2.7'],
    [hop, 'x, 10.1.1.1', '10.1.1.1'],
    [hop, '<script>', hop],
    [hop, '', hop],
    [stranger, '192.0.2.7', stranger],
    [stranger, hop, stranger],
    [stranger, `192.0.2.7, ${hop}`, stranger],
    ['127.0.0.1', '192.0.2.7', '127.0.0.1'],
  ]
  for (const [socket, header, peer] of cases) {
    assert.equal((await from(side, socket, ['X-Forwarded-For', header])).status, 200)
    assert.equal(lastPeer(side), peer, `${socket}: ${header}`)
  }
})

test('no other header names the client, not even one of a trusted hop', async (t) => {
  const side = await sidecar(t)
  const claims = [
    ['Forwarded', 'for=192.0.2.7'],
    ['X-Real-IP', '192.0.2.7'],
    ['X-Client-IP', '192.0.2.7'],
    ['True-Client-IP', '192.0.2.7'],
    ['CF-Connecting-IP', '192.0.2.7'],
    ['X-Cluster-Client-IP', '192.0.2.7'],
    ['X-Forwarded', '192.0.2.7'],
    ['X-Envoy-External-Address', '192.0.2.7'],
  ]
  for (const claim of claims) {
    assert.equal((await from(side, hop, claim)).status, 200)
    assert.equal(lastPeer(side), hop, claim[0])
  }
})

test('what hops and clients say about themselves never reaches the agent', async (t) => {
  const side = await sidecar(t)
  const claims = [
    ['X-Forwarded-For', '198.51.100.1, 192.0.2.7'],
    ['X-Forwarded-Proto', 'https'],
    ['X-Forwarded-Host', 'box.example'],
    ['X-Forwarded-User', 'owner'],
    ['Forwarded', 'for=192.0.2.7'],
    ['Tailscale-User-Login', 'owner@example.com'],
    ['Tailscale-User-Name', 'Owner'],
  ].flat()
  for (const socket of [hop, stranger]) {
    await from(side, socket, claims)
    const names = side.agent.seen.at(-1)?.rawHeaders.filter((_, i) => i % 2 === 0) ?? []
    assert.deepEqual(names.map((name) => name.toLowerCase()).toSorted(), [
      'connection',
      'host',
      'x-request-id',
    ])
  }
})

test('an agent that wants forwarding headers gets ours: the client, and TLS when a hop says so', async (t) => {
  const side = await sidecar(t, { config: { agent: { forwardedHeaders: true } } })
  const claims = ['X-Forwarded-For', '198.51.100.1, 192.0.2.7', 'X-Forwarded-Proto', 'https']
  await from(side, hop, claims)
  const seen = side.agent.seen.at(-1)?.headers
  assert.equal(seen?.['x-forwarded-for'], '192.0.2.7')
  assert.equal(seen?.['x-forwarded-proto'], 'https')
  await from(side, stranger, claims)
  const other = side.agent.seen.at(-1)?.headers
  assert.equal(other?.['x-forwarded-for'], stranger)
  assert.equal(other?.['x-forwarded-proto'], 'http')
})

test('guesses behind a hop lock the guesser, not the hop, and no header moves the blame', async (t) => {
  const side = await sidecar(t)
  const guess = (forwardedFor: string, socket = hop) =>
    from(side, socket, ['X-Forwarded-For', forwardedFor], 'wrong')
  for (let i = 0; i < 5; i += 1) {
    // The guesser writes another address each time; the hop appends the true one.
    assert.equal((await guess(`203.0.113.${i}, 192.0.2.66`)).status, 401)
  }
  assert.equal((await guess('203.0.113.99, 192.0.2.66')).status, 429)
  assert.equal((await guess('192.0.2.67')).status, 401, 'a neighbour behind the same hop')
  for (let i = 0; i < 6; i += 1) await guess('192.0.2.67', stranger)
  assert.equal((await guess('192.0.2.67')).status, 401, 'nobody is locked by a stranger’s claim')
  assert.equal((await from(side, hop, ['X-Forwarded-For', '192.0.2.66'])).status, 200)
  assert.equal(side.agent.seen.length, 1)
  const locked = side.records().filter(({ event }) => event === 'address.locked')
  assert.deepEqual(
    locked.map(({ peer }) => peer),
    ['192.0.2.66', stranger],
  )
})

test('IPv6 clients behind a hop count by /64', async (t) => {
  const side = await sidecar(t)
  const guess = (last: string) => from(side, hop, ['X-Forwarded-For', last], 'wrong')
  for (let i = 1; i <= 5; i += 1) assert.equal((await guess(`2001:db8::${i}:${i}`)).status, 401)
  assert.equal((await guess('2001:db8::ffff')).status, 429)
  assert.equal((await guess('2001:db8:0:1::1')).status, 401)
})

test('a token for one network is judged by the client that the hop names', async (t) => {
  const side = await sidecar(t)
  const { callAdmin } = await import('../../src/admin/client.ts')
  const made = (await callAdmin({ HARDSHELL_HOME: side.home }, 'token.new', {
    name: 'office',
    scopes: ['chat'],
    paths: [],
    networks: ['192.0.2.0/24'],
  })) as { readonly token: string }
  const status = async (socket: string, forwardedFor: string) =>
    (await from(side, socket, ['X-Forwarded-For', forwardedFor], made.token)).status
  assert.equal(await status(hop, '192.0.2.7'), 200)
  assert.equal(await status(hop, '198.51.100.7'), 403)
  assert.equal(await status(hop, '192.0.2.7, 198.51.100.7'), 403)
  assert.equal(await status(stranger, '192.0.2.7'), 403)
})
