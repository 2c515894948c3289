/**
 * Behind "tailscale serve": requests as it writes them, and a LocalAPI on a Unix socket that answers in the documented
 * shape. tailscaled itself is not run here.
 */
import assert from 'node:assert/strict'
import { after, before, test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { callAdmin } from '../../src/admin/client.ts'
import { localApi } from '../../src/identity/tailscale.ts'
import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'
import { makeTailscaled } from '../support/tailscaled.ts'

const alice = 'alice@example.com'
const laptop = '100.64.0.2'
const phone = 'fd7a:115c:a1e0::2'
const name = 'box.tailnet-name.ts.net'

const tailscaled = makeTailscaled()
let side: TestSidecar

const configured = (tailscale: object = {}, gateway: object = {}) => ({
  config: {
    gateway: {
      trustedProxies: ['127.0.0.1'],
      auth: { tailscale: { enabled: true, socket: tailscaled.socket, ...tailscale } },
      dmPolicies: { allowlist: [alice, 'Jörg@example.com'] },
      ...gateway,
    },
  },
})

before(async () => {
  for (const address of [laptop, phone]) tailscaled.nodes.set(address, { login: alice })
  tailscaled.nodes.set('100.64.0.3', { login: 'bob@example.com' })
  tailscaled.nodes.set('100.64.0.4', { login: alice, tags: ['tag:server'] })
  tailscaled.nodes.set('100.64.0.5', { login: 'Jörg@example.com' })
  await tailscaled.start()
  side = await startSidecar(configured())
})
after(async () => {
  await side.stop()
  await tailscaled.close()
})

/** The headers that "tailscale serve" adds to a request of a tailnet user. */
const through = (address: string, login: string): string[] => [
  `X-Forwarded-For: ${address}`,
  `X-Forwarded-Host: ${name}`,
  'X-Forwarded-Proto: https',
  `Tailscale-User-Login: ${login}`,
  'Tailscale-User-Name: Somebody',
  'Tailscale-User-Profile-Pic: https://example.com/picture.png',
  'Tailscale-Headers-Info: https://tailscale.com/s/serve-headers',
]

async function send(lines: readonly string[], to: TestSidecar = side, host = name) {
  const seen = to.agent.seen.length
  const answer = await exchange(to.port, [head('GET /x HTTP/1.1', `Host: ${host}`, ...lines)], {
    until: (text) => /\r\n\r\n.*[}\n]$/s.test(text),
  })
  return { status: answer.status, code: answer.code, reached: to.agent.seen.length - seen }
}

const refused = (status: number, code: string) => ({ status, code, reached: 0 })
const passed = { status: 200, code: undefined, reached: 1 }

async function started(t: TestContext, options: Parameters<typeof startSidecar>[0]) {
  const one = await startSidecar(options)
  t.after(() => one.stop())
  return one
}

test('a login that LocalAPI confirms is served, and the agent hears nothing of it', async () => {
  assert.deepEqual(await send(through(laptop, alice)), passed)
  assert.deepEqual(await send(through(phone, alice)), passed)
  assert.deepEqual(tailscaled.asked.slice(-2), [
    '/localapi/v0/whois?addr=100.64.0.2%3A0',
    '/localapi/v0/whois?addr=%5Bfd7a%3A115c%3Aa1e0%3A%3A2%5D%3A0',
  ])
  assert.deepEqual([...tailscaled.hosts], ['local-tailscaled.sock'])
  const names = side.agent.seen.at(-1)?.rawHeaders.filter((_, i) => i % 2 === 0)
  assert.deepEqual(names?.map((one) => one.toLowerCase()).toSorted(), [
    'connection',
    'host',
    'x-request-id',
  ])
  const record = side.records().findLast(({ event }) => event === 'request.allowed')
  assert.equal(record?.['identity'], alice)
  assert.equal(record?.['peer'], phone)
})

test('a login in encoded words is the same login', async () => {
  assert.deepEqual(await send(through('100.64.0.5', '=?utf-8?q?J=C3=B6rg@example.com?=')), passed)
})

test('nobody is who LocalAPI does not say they are', async () => {
  const no = refused(401, 'UNAUTHENTICATED')
  assert.deepEqual(await send(through('100.64.0.3', alice)), no, 'another user’s address')
  assert.deepEqual(await send(through('100.64.0.99', alice)), no, 'an address of nobody')
  assert.deepEqual(
    await send(through('203.0.113.9', alice)),
    no,
    'an address outside of the tailnet',
  )
  assert.deepEqual(await send(through('100.64.0.4', alice)), no, 'a tagged node')
  assert.deepEqual(await send(through('unknown', alice)), no, 'no address')
  assert.deepEqual(await send(through(`${laptop}, 100.64.0.3`, alice)), no, 'what the client wrote')
  assert.deepEqual(await send([`Tailscale-User-Login: ${alice}`]), no, 'no client named')
  assert.deepEqual(
    await send([...through(laptop, alice), `Tailscale-User-Login: bob@example.com`]),
    no,
  )
})

test('a user on no list is 403, with the login in the audit log alone', async () => {
  assert.deepEqual(
    await send(through('100.64.0.3', 'bob@example.com')),
    refused(403, 'IDENTITY_NOT_ALLOWED'),
  )
  const record = side.records().findLast(({ event }) => event === 'request.refused')
  assert.equal(record?.['because'], 'bob@example.com is on no list')
  assert.equal(record?.['peer'], '100.64.0.3')
})

test('a user on no list may ask where the owner lets them, and comes in when approved', async (t) => {
  const policies = { dmPolicies: { allowlist: [alice], denyByDefault: false } }
  const open = await started(t, configured({}, policies))
  const bob = through('100.64.0.3', 'bob@example.com')
  assert.deepEqual(await send(bob, open), refused(403, 'PAIRING_NEEDED'))
  assert.deepEqual(
    await send(through('100.64.0.2', 'bob@example.com'), open),
    refused(401, 'UNAUTHENTICATED'),
    'nobody asks in the name of another',
  )
  const env = { HARDSHELL_HOME: open.home }
  const { requests } = (await callAdmin(env, 'pairing.list', {})) as {
    readonly requests: readonly { readonly sender: string; readonly code: string }[]
  }
  assert.deepEqual(
    requests.map(({ sender }) => sender),
    ['tailscale:bob@example.com'],
  )
  await callAdmin(env, 'pairing.approve', { channel: 'gateway', code: requests[0]?.code })
  assert.deepEqual(await send(bob, open), passed)
})

test('from an address that is no trusted hop the same headers are worth nothing', async (t) => {
  const other = await started(t, configured({}, { trustedProxies: ['127.0.0.2'] }))
  assert.deepEqual(await send(through(laptop, alice), other), refused(401, 'UNAUTHENTICATED'))
  const record = other.records().findLast(({ event }) => event === 'request.refused')
  assert.equal(record?.['peer'], '127.0.0.1')
})

test('a token goes through as before, and a wrong one is not mended by a login', async () => {
  const token = `Authorization: Bearer ${side.token}`
  assert.deepEqual(await send([...through('100.64.0.4', alice).slice(0, 3), token]), passed)
  assert.deepEqual(await send([...through(laptop, alice), token]), passed)
  const record = side.records().findLast(({ event }) => event === 'request.allowed')
  assert.equal(record?.['identity'], 'default', 'the token, not the login')
  const wrong = [...through(laptop, alice), 'Authorization: Bearer wrong']
  assert.deepEqual(await send(wrong), refused(401, 'UNAUTHENTICATED'))
})

test('a page of another site gains nothing by the login', async () => {
  const denied = refused(403, 'ORIGIN_DENIED')
  const login = through(laptop, alice)
  assert.deepEqual(await send([...login, 'Origin: https://evil.example']), denied)
  assert.deepEqual(await send([...login, 'Sec-Fetch-Site: cross-site']), denied)
  assert.deepEqual(
    await send([...login, `Origin: https://${name}`, 'Sec-Fetch-Site: same-origin']),
    passed,
  )
})

test('this node is served under its own name and no other', async () => {
  assert.deepEqual(await send(through(laptop, alice), side, `${name}:443`), passed)
  for (const host of [
    'other.tailnet-name.ts.net',
    'ts.net',
    `${name}.evil.example`,
    `${name}:8443`,
  ]) {
    assert.deepEqual(
      await send(through(laptop, alice), side, host),
      refused(421, 'HOST_DENIED'),
      host,
    )
  }
})

test('what comes through Funnel is refused, whatever it carries', async (t) => {
  const marked = 'Tailscale-Funnel-Request: ?1'
  const token = `Authorization: Bearer ${side.token}`
  const no = refused(403, 'FUNNEL_DENIED')
  for (const lines of [
    [marked],
    [marked, token],
    [marked, ...through(laptop, alice)],
    [`${marked}x`, token],
  ]) {
    assert.deepEqual(await send(lines), no)
  }
  assert.deepEqual(await send(['tailscale-funnel-request:', token]), no, 'its presence is enough')
  const plain = await started(t, {})
  const ownToken = `Authorization: Bearer ${plain.token}`
  assert.deepEqual(
    await send([marked, ownToken], plain, 'localhost'),
    no,
    'also without Tailscale logins',
  )
  const open = await started(t, configured({ allowFunnel: true }))
  const openToken = `Authorization: Bearer ${open.token}`
  assert.deepEqual(await send([marked, 'X-Forwarded-For: 203.0.113.9', openToken], open), passed)
  assert.deepEqual(
    await send([marked, ...through(laptop, alice)], open),
    refused(401, 'UNAUTHENTICATED'),
  )
})

test('a WebSocket opens by the login too', async (t) => {
  const echo = new WebSocketServer({ server: side.agent.server })
  t.after(() => echo.close())
  const lines = through(laptop, alice).map((line) => line.split(/: (.*)/s).slice(0, 2))
  const headers = { ...(Object.fromEntries(lines) as Record<string, string>), Host: name }
  const socket = new WebSocket(side.url.replace('http', 'ws'), { headers })
  await new Promise((resolve, reject) => {
    socket.on('open', resolve)
    socket.on('error', reject)
  })
  socket.terminate()
})

test('while tailscaled is away its logins prove nothing, tokens do, and it is told', async (t) => {
  const other = await started(t, configured())
  assert.deepEqual(await send(through(laptop, alice), other), passed)
  await tailscaled.stop()
  // Another address: the first one is remembered for ten seconds.
  assert.deepEqual(await send(through(phone, alice), other), refused(401, 'UNAUTHENTICATED'))
  assert.deepEqual(await send([`Authorization: Bearer ${other.token}`], other), passed)
  assert.ok(other.logged.some(({ message }) => message.includes('Tailscale cannot be asked')))
  await tailscaled.start()
  await new Promise((resolve) => setTimeout(resolve, 1100))
  assert.deepEqual(await send(through(phone, alice), other), passed)
  assert.ok(other.logged.some(({ message }) => message === 'Tailscale can be asked again'))
})

test('Hardshell starts without tailscaled', async (t) => {
  const other = await started(t, configured({ socket: `${tailscaled.socket}-none` }))
  assert.deepEqual(await send(through(laptop, alice), other), refused(421, 'HOST_DENIED'))
  assert.deepEqual(
    await send(through(laptop, alice), other, 'localhost'),
    refused(401, 'UNAUTHENTICATED'),
  )
  assert.deepEqual(await send([`Authorization: Bearer ${other.token}`], other, 'localhost'), passed)
})

test('answers of LocalAPI that are not what they should be prove nothing', async (t) => {
  const api = localApi(tailscaled.socket, 300)
  t.after(() => {
    tailscaled.answer = undefined
  })
  const answers: [string, number, string][] = [
    ['not JSON', 200, '<html>'],
    ['no user', 200, '{"Node":{"ID":1}}'],
    ['no node', 200, '{"UserProfile":{"LoginName":"alice@example.com"}}'],
    ['a login that is no text', 200, '{"Node":{},"UserProfile":{"LoginName":7}}'],
    ['an error', 500, 'oops'],
    ['a refusal', 403, 'whois access denied'],
    ['a redirect', 302, ''],
    ['too much', 200, ' '.repeat(300_000)],
  ]
  for (const [what, status, body] of answers) {
    tailscaled.answer = (_request, response) => response.writeHead(status).end(body)
    await assert.rejects(api.whois(laptop), what)
    if (status !== 200) await assert.rejects(api.ownName(), what)
  }
  tailscaled.answer = (_request, response) => void response.writeHead(200).write('{')
  await assert.rejects(api.whois(laptop))
  tailscaled.answer = undefined
  assert.deepEqual(await api.whois(laptop), { login: alice })
  assert.deepEqual(await api.whois('100.64.0.4'), { login: undefined })
  assert.equal(await api.whois('100.64.0.99'), undefined)
  for (const wrong of [
    '',
    '.',
    'box',
    'Box_1.ts.net.',
    'box.ts.net/x',
    'box..ts.net',
    `${'a.'.repeat(200)}net`,
  ]) {
    tailscaled.name = wrong
    assert.equal(await api.ownName(), undefined, wrong)
  }
  tailscaled.name = 'BOX.Tailnet-Name.ts.net.'
  assert.equal(await api.ownName(), name)
})
