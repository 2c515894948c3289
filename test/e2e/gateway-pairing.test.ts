/** People whom a JWT proves and no list has: they may ask where the owner said so, and come in when the owner agrees. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { callAdmin } from '../../src/admin/client.ts'
import { startAgent } from '../support/agent.ts'
import { cli } from '../support/cli.ts'
import { claimsAt, jws, keySetOf, makeKey, startIssuer, type Jwk } from '../support/issuer.ts'
import { eventually, startSidecar, type TestSidecar } from '../support/sidecar.ts'

const key = makeKey('ES256', 'k1')

async function sidecarOf(
  t: TestContext,
  dmPolicies: object = { denyByDefault: false },
  more: Parameters<typeof startSidecar>[0] = {},
): Promise<TestSidecar> {
  const issuer = await startIssuer(keySetOf(key))
  t.after(() => issuer.stop())
  const side = await startSidecar({
    ...more,
    config: {
      gateway: {
        auth: {
          mode: 'jwt',
          jwt: { issuer: 'https://id.example.com/', audience: 'hardshell', jwks: issuer.url },
        },
        dmPolicies: { allowlist: ['alice-1'], ...dmPolicies },
      },
      ...more.config,
    },
  })
  t.after(() => side.stop())
  return side
}

const tokenOf = (sub: string, more: Jwk = {}) => jws(key, claimsAt(Date.now(), { sub, ...more }))
const bearing = (sub: string) => ({ headers: { Authorization: `Bearer ${tokenOf(sub)}` } })
interface Told {
  readonly status: number
  readonly code?: string
  readonly pairingCode?: string
}
async function get(side: TestSidecar, sub: string): Promise<Told> {
  const answer = await fetch(`${side.url}/x`, bearing(sub))
  const { code, pairingCode } = (await answer.json()) as Told
  return {
    status: answer.status,
    ...(code !== undefined && { code }),
    ...(pairingCode !== undefined && { pairingCode }),
  }
}
const admin = (side: TestSidecar, operation: string, input: object) =>
  callAdmin({ HARDSHELL_HOME: side.home }, operation, input)
const reached = (side: TestSidecar) => side.agent.seen.length

test('somebody on no list gets a code, and comes in when the owner approves it', async (t) => {
  const side = await sidecarOf(t)
  assert.equal((await get(side, 'alice-1')).status, 200)
  const before = reached(side)
  const first = await get(side, 'bob-2')
  assert.equal(first.status, 403)
  assert.equal(first.code, 'PAIRING_NEEDED')
  assert.match(first.pairingCode ?? '', /^[A-HJ-NP-Z2-9]{8}$/)
  assert.deepEqual(await get(side, 'bob-2'), first, 'the same code while it is good')
  assert.equal(reached(side), before)

  const { out } = await cli(side.home, ['pairing', 'approve', 'gateway', first.pairingCode ?? ''])
  assert.match(out, /^gateway:jwt:[0-9a-f]{12}:bob-2 may come in$/m)
  assert.equal((await get(side, 'bob-2')).status, 200, 'the same token, at once')
  assert.equal((await get(side, 'eve-3')).code, 'PAIRING_NEEDED', 'nobody else')
  assert.equal(reached(side), before + 1)
})

test('without denyByDefault: false nobody may ask', async (t) => {
  const side = await sidecarOf(t, {})
  assert.deepEqual(await get(side, 'bob-2'), { status: 403, code: 'IDENTITY_NOT_ALLOWED' })
  await assert.rejects(admin(side, 'pairing.list', {}), { code: 'NO_CHANNEL' })
  assert.equal(reached(side), 0)
})

test('only who is proven may ask', async (t) => {
  const side = await sidecarOf(t)
  const forged = jws(makeKey('ES256', 'k1'), claimsAt(Date.now(), { sub: 'bob-2' }))
  for (const headers of [
    {},
    { Authorization: `Bearer ${forged}` },
    { Authorization: 'Bearer x' },
  ]) {
    const answer = await fetch(side.url, { headers })
    assert.equal(answer.status, 401)
    assert.ok(!(await answer.text()).includes('pairing'))
  }
  assert.deepEqual(await admin(side, 'pairing.list', {}), { requests: [] })
})

test('a code is of one identity, good once, and not for another channel', async (t) => {
  const side = await sidecarOf(t)
  const { pairingCode: code } = await get(side, 'bob-2')
  await assert.rejects(admin(side, 'pairing.approve', { channel: 'telegram', code }), {
    code: 'PAIRING_UNKNOWN',
  })
  await admin(side, 'pairing.approve', { channel: 'gateway', code })
  await assert.rejects(admin(side, 'pairing.approve', { channel: 'gateway', code }), {
    code: 'PAIRING_UNKNOWN',
  })
  assert.equal((await get(side, 'bob-22')).status, 403)
})

test('a denied request is dropped, and asking again gives another code', async (t) => {
  const side = await sidecarOf(t)
  const { pairingCode: code } = await get(side, 'bob-2')
  await admin(side, 'pairing.deny', { channel: 'gateway', code })
  const { pairingCode: next } = await get(side, 'bob-2')
  assert.notEqual(next, code)
})

test('ten may ask in an hour, and the owner is told once that there is no room', async (t) => {
  const side = await sidecarOf(t)
  for (let nth = 0; nth < 10; nth += 1) {
    assert.equal((await get(side, `many-${nth}`)).code, 'PAIRING_NEEDED')
  }
  for (let nth = 10; nth < 13; nth += 1) {
    assert.deepEqual(await get(side, `many-${nth}`), { status: 403, code: 'IDENTITY_NOT_ALLOWED' })
  }
  assert.equal(side.records().filter(({ event }) => event === 'pairing.full').length, 1)
  assert.equal((await get(side, 'many-3')).code, 'PAIRING_NEEDED', 'who has asked keeps the code')
  assert.equal((await get(side, 'alice-1')).status, 200)
})

test('who is taken out again is refused at once, and what they have open ends', async (t) => {
  const agent = await startAgent()
  const sockets = new WebSocketServer({ server: agent.server })
  t.after(async () => {
    sockets.close()
    await agent.stop()
  })
  const side = await sidecarOf(t, { denyByDefault: false }, { agent })
  const { pairingCode: code } = await get(side, 'bob-2')
  const { sender } = (await admin(side, 'pairing.approve', { channel: 'gateway', code })) as {
    readonly sender: string
  }
  const socket = new WebSocket(`${side.url.replace('http', 'ws')}/x`, bearing('bob-2'))
  await new Promise((resolve, reject) => socket.once('open', resolve).once('error', reject))
  let closed: number | undefined
  socket.once('close', (why) => (closed = why))
  await admin(side, 'pairing.revoke', { channel: 'gateway', sender })
  assert.equal((await get(side, 'bob-2')).status, 403)
  await eventually(() => closed !== undefined, 'the socket is closed')
  assert.equal(closed, 1008)
})

test('who was let in is on the list, and stays in over a restart for as long as people may ask', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const side = await sidecarOf(t, { denyByDefault: false }, { home })
  const { pairingCode: code } = await get(side, 'bob-2')
  await admin(side, 'pairing.approve', { channel: 'gateway', code })
  assert.equal((await get(side, 'bob-2')).status, 200)
  const { senders } = (await admin(side, 'allowlist.list', { channel: 'gateway' })) as {
    readonly senders: readonly { readonly from: string; readonly lastSpoke?: number }[]
  }
  assert.equal(senders.length, 1)
  assert.equal(senders[0]?.from, 'pairing')
  assert.ok((senders[0]?.lastSpoke ?? 0) > 0)
  await side.stop()
  const again = await sidecarOf(t, { denyByDefault: false }, { home })
  assert.equal((await get(again, 'bob-2')).status, 200)
  await again.stop()
  const strict = await sidecarOf(t, { denyByDefault: true }, { home })
  assert.deepEqual(await get(strict, 'bob-2'), { status: 403, code: 'IDENTITY_NOT_ALLOWED' })
})

test('who was paired and has left the allowlist since then must ask again', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const side = await sidecarOf(t, { denyByDefault: false }, { home })
  const { pairingCode: code } = await get(side, 'bob-2')
  await admin(side, 'pairing.approve', { channel: 'gateway', code })
  await side.stop()
  const both = { denyByDefault: false, allowlist: ['alice-1', 'bob-2'] }
  const listed = await sidecarOf(t, both, { home })
  assert.equal((await get(listed, 'bob-2')).status, 200)
  await listed.stop()
  const again = await sidecarOf(t, { denyByDefault: false }, { home })
  assert.equal((await get(again, 'bob-2')).code, 'PAIRING_NEEDED')
})

test('the request is in the audit log and the log, without the token, and the code in no record', async (t) => {
  const side = await sidecarOf(t)
  const { pairingCode: code = '' } = await get(side, 'bob-2')
  const asked = side.records().find(({ event }) => event === 'pairing.requested')
  assert.match(String(asked?.['sender']), /^gateway:jwt:[0-9a-f]{12}:bob-2$/)
  assert.equal(asked?.['channel'], 'gateway')
  assert.ok(!JSON.stringify(side.records()).includes(code))
  assert.ok(
    side.logged.some(({ message }) =>
      message.includes(`hardshell pairing approve gateway ${code}`),
    ),
  )
  const refused = () => side.records().find(({ event }) => event === 'request.refused')
  await eventually(() => refused() !== undefined, 'the refusal is recorded')
  assert.equal(refused()?.['code'], 'PAIRING_NEEDED')
  assert.ok(!JSON.stringify(side.records()).includes(code))
})

test('a WebSocket of somebody on no list is refused like a request', async (t) => {
  const side = await sidecarOf(t)
  const socket = new WebSocket(`${side.url.replace('http', 'ws')}/x`, bearing('bob-2'))
  const status = await new Promise((resolve, reject) => {
    socket.once('unexpected-response', (_request, response) => resolve(response.statusCode))
    socket.once('open', () => reject(new Error('open')))
  })
  socket.on('error', () => undefined)
  assert.equal(status, 403)
  socket.terminate()
  assert.equal(reached(side), 0)
})
