/** Mode "jwt" as a user runs it: keys that rotate, an issuer that fails, tokens of ours beside, sockets that end. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { callAdmin } from '../../src/admin/client.ts'
import { keysFromUrl, keySetBytesMax } from '../../src/identity/jwks.ts'
import { startAgent } from '../support/agent.ts'
import { claimsAt, jws, keySetOf, makeKey, startIssuer, type Jwk } from '../support/issuer.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

const first = makeKey('ES256', 'k1')
const second = makeKey('RS256', 'k2')

async function issuerOf(t: TestContext, text: string) {
  const issuer = await startIssuer(text)
  t.after(() => issuer.stop())
  return issuer
}

async function sidecarOf(
  t: TestContext,
  jwks: string,
  gateway: Jwk = {},
  more: Parameters<typeof startSidecar>[0] = {},
): Promise<TestSidecar> {
  const side = await startSidecar({
    ...more,
    config: {
      gateway: {
        auth: {
          mode: 'jwt',
          jwt: { issuer: 'https://id.example.com/', audience: 'hardshell', jwks },
        },
        dmPolicies: { allowlist: ['alice-1'] },
        ...gateway,
      },
      ...more?.config,
    },
  })
  t.after(() => side.stop())
  return side
}

const bearing = (token: string) => ({ headers: { Authorization: `Bearer ${token}` } })
const get = async (side: TestSidecar, token: string) => {
  const answer = await fetch(`${side.url}/x`, bearing(token))
  const body = (await answer.json()) as { readonly code?: string }
  return { status: answer.status, code: body.code }
}
const tokenOf = (key = first, more: Jwk = {}) => jws(key, claimsAt(Date.now(), more))

test('a key that the issuer makes while we run is found', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  const side = await sidecarOf(t, issuer.url)
  assert.equal((await get(side, tokenOf())).status, 200)
  issuer.text = keySetOf(first, second)
  // The cooldown is not over: a new key is unknown, a known one serves.
  assert.deepEqual(await get(side, tokenOf(second)), { status: 401, code: 'UNAUTHENTICATED' })
  assert.equal((await get(side, tokenOf(first, { jti: '2' }))).status, 200)
  assert.equal(issuer.asked.length, 1)
})

test('keys in a file are read again, and a withdrawn one is refused', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'hardshell-keys-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'keys.json')
  writeFileSync(file, keySetOf(first), { mode: 0o600 })
  const side = await sidecarOf(t, file)
  assert.equal((await get(side, tokenOf())).status, 200)
  writeFileSync(file, keySetOf(second))
  await new Promise((resolve) => setTimeout(resolve, 1100))
  assert.equal((await get(side, tokenOf(second))).status, 200)
  assert.deepEqual(await get(side, tokenOf()), { status: 401, code: 'UNAUTHENTICATED' })
})

test('a key file that cannot be used is told at start', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'hardshell-keys-'))
  const agent = await startAgent()
  t.after(async () => {
    await agent.stop()
    rmSync(home, { recursive: true, force: true })
  })
  const jwt = { issuer: 'https://id.example.com/', audience: 'a', jwks: 'keys.json' }
  const start = () =>
    startSidecar({ home, agent, config: { gateway: { auth: { mode: 'jwt', jwt } } } })
  const told = (words: RegExp) => (error: Error) =>
    'code' in error && error.code === 'JWKS_UNREADABLE' && words.test(error.message)
  await assert.rejects(start(), told(/^gateway\.auth\.jwt\.jwks: .*keys\.json does not exist/))
  writeFileSync(join(home, 'keys.json'), '{"keys":[]}', { mode: 0o600 })
  await assert.rejects(start(), told(/no key that may verify/))
  writeFileSync(join(home, 'keys.json'), keySetOf(first))
  await (await start()).stop()
})

test('without keys a JWT is not judged: 503, no failure of the client, nothing for the agent', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  issuer.answer = (response) => response.writeHead(500).end()
  const side = await sidecarOf(t, issuer.url)
  for (let i = 0; i < 10; i += 1) {
    assert.deepEqual(await get(side, tokenOf()), { status: 503, code: 'GATE_FAILED' })
  }
  assert.equal(side.agent.seen.length, 0)
  assert.equal(issuer.asked.length, 1)
  assert.ok(
    side.logged.some(
      ({ level, facts }) => level === 'error' && JSON.stringify(facts).includes('answered 500'),
    ),
  )
  assert.ok(!side.records().some(({ event }) => event === 'address.locked'))
  assert.equal((await get(side, side.token)).status, 200, 'our own token does not depend on them')
})

test('tokens of ours work beside JWTs, and a wrong one of either kind counts', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  const side = await sidecarOf(t, issuer.url)
  const made = (await callAdmin({ HARDSHELL_HOME: side.home }, 'token.new', {
    name: 'phone',
    scopes: ['chat'],
    paths: [],
    networks: [],
  })) as { readonly token: string }
  assert.match(made.token, /^hsk_/)
  assert.equal((await get(side, made.token)).status, 200)
  assert.equal((await get(side, tokenOf())).status, 200)
  for (const wrong of ['hsk_wrong', `${tokenOf()}A`, 'x', 'a.b.c', tokenOf(second)]) {
    assert.equal((await get(side, wrong)).status, 401, wrong.slice(0, 12))
  }
  assert.equal((await get(side, 'x')).status, 429)
  assert.equal(
    (await get(side, tokenOf(first, { jti: 'late' }))).status,
    200,
    'a good JWT passes the lockout',
  )
})

test('a WebSocket of a JWT ends when the JWT does', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  const side = await sidecarOf(t, issuer.url)
  const echo = new WebSocketServer({ server: side.agent.server })
  t.after(() => echo.close())
  // Half a minute is forgiven, so a token that ended 25 s ago has 5 s left.
  const short = tokenOf(first, { exp: Math.floor(Date.now() / 1000) - 25 })
  const socket = new WebSocket(side.url.replace('http', 'ws'), bearing(short))
  const closed = new Promise<number>((resolve, reject) => {
    socket.on('close', resolve)
    socket.on('error', reject)
  })
  await new Promise((resolve) => socket.on('open', resolve))
  const opened = performance.now()
  assert.equal(await closed, 1008)
  assert.ok(performance.now() - opened < 15_000)
  assert.deepEqual(await get(side, short), { status: 401, code: 'UNAUTHENTICATED' })
})

test('a key set comes whole, small, in time and from where it was asked for', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  assert.equal(await keysFromUrl(issuer.url)(), keySetOf(first))
  const elsewhere = await issuerOf(t, keySetOf(second))
  for (const status of [301, 302, 303, 307, 308]) {
    issuer.answer = (response) => response.writeHead(status, { Location: elsewhere.url }).end()
    await assert.rejects(keysFromUrl(issuer.url)(), new RegExp(`answered ${status}`))
  }
  assert.deepEqual(elsewhere.asked, [], 'no redirect is followed')
  for (const status of [204, 206, 304, 401, 404, 500]) {
    issuer.answer = (response) => response.writeHead(status).end()
    await assert.rejects(keysFromUrl(issuer.url)(), new RegExp(`answered ${status}`))
  }
  issuer.answer = (response) => response.end(' '.repeat(keySetBytesMax))
  assert.equal((await keysFromUrl(issuer.url)()).length, keySetBytesMax)
  issuer.answer = (response) => response.end(' '.repeat(keySetBytesMax + 1))
  await assert.rejects(keysFromUrl(issuer.url)(), /more than/)
  issuer.answer = (response) => {
    response.writeHead(200, { 'Content-Length': '1000' })
    response.write('{')
    setTimeout(() => response.destroy(), 50)
  }
  await assert.rejects(keysFromUrl(issuer.url)())
  issuer.answer = (response) => void response.write('{"keys":[')
  const started = performance.now()
  await assert.rejects(keysFromUrl(issuer.url, 300)(), /took longer than 300 ms/)
  assert.ok(performance.now() - started < 5000)
})

test('a key set behind a port that says nothing or is closed is none', async (t) => {
  const silent = createServer((socket) => socket.on('error', () => undefined))
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve))
  const { port } = silent.address() as AddressInfo
  t.after(() => silent.close())
  await assert.rejects(keysFromUrl(`http://127.0.0.1:${port}/`, 200)(), /took longer/)
  const gone = await startIssuer('')
  await gone.stop()
  await assert.rejects(keysFromUrl(gone.url)(), { code: 'ECONNREFUSED' })
})

test('an https issuer must have a certificate that is good', async (t) => {
  const issuer = await issuerOf(t, keySetOf(first))
  await assert.rejects(keysFromUrl(issuer.url.replace('http:', 'https:'))())
})
