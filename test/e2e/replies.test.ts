/** Answers to strangers by calls of the services, over real HTTP: the one right call, and none where policy says so. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { createServer as createNetServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { callAdmin } from '../../src/admin/client.ts'
import { askedServices, type AskedService } from '../support/asked.ts'
import { notOurs } from '../support/evidence.ts'
import type { ServiceRequest } from '../support/sdk-service.ts'
import { eventually, sidecarFor, startSidecar, type TestSidecar } from '../support/sidecar.ts'
import { post, publicHost, type Utterance } from '../support/webhooks.ts'

interface Api {
  readonly url: string
  readonly requests: ServiceRequest[]
  /** What the next calls answer; 200 when there is nothing left. */
  readonly next: { status: number; headers?: Record<string, string>; body?: string }[]
}

async function startApi(t: TestContext): Promise<Api> {
  const requests: ServiceRequest[] = []
  const next: Api['next'] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      requests.push({ method, path: url, headers, body })
      const answer = next.shift() ?? { status: 200 }
      response.writeHead(answer.status, { 'Content-Type': 'application/json', ...answer.headers })
      response.end(answer.body ?? '{"ok":true}')
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    server.close()
    server.closeAllConnections()
  })
  const { port } = server.address() as AddressInfo
  notOurs(port)
  return { url: `http://127.0.0.1:${port}`, requests, next }
}

const setup = (of: AskedService, root: string, policy: object = {}) => ({
  config: {
    gateway: { publicOrigins: [`https://${publicHost}`] },
    channels: {
      [of.name]: { webhookPath: of.path, ...of.settings(root), allowFrom: [of.owner], ...policy },
    },
  },
})

const sidecarOf = (t: TestContext, of: AskedService, root: string, policy?: object) =>
  sidecarFor(t, setup(of, root, policy))

async function says(side: TestSidecar, of: AskedService, said: Utterance): Promise<void> {
  const { status, body } = await post(side.port, of.write(said), { method: of.method })
  assert.ok(status >= 200 && status < 300, `${status} ${body}`)
  assert.ok(!body.includes(of.credential))
}

const events = (side: TestSidecar, event: string) =>
  side.records().filter((record) => record['event'] === event)
const reply = async (side: TestSidecar, event = 'reply.sent', count = 1) => {
  await eventually(() => events(side, event).length >= count, `${count} × ${event}`)
  return events(side, event).at(-1)
}
const pending = async (side: TestSidecar) => {
  const list = await callAdmin({ HARDSHELL_HOME: side.home }, 'pairing.list', {})
  return (list as { requests: { code: string }[] }).requests
}
const said = (from: string, key: number, more: Partial<Utterance> = {}): Utterance => ({
  from,
  words: 'let me in',
  key,
  ...more,
})

/** Like deepEqual, where an expected pattern matches a text. */
function assertLike(actual: unknown, expected: unknown): void {
  if (expected instanceof RegExp) assert.match(String(actual), expected)
  else if (typeof expected === 'object' && expected !== null && typeof actual === 'object') {
    assert.deepEqual(Object.keys(actual ?? {}), Object.keys(expected))
    const values: Readonly<Record<string, unknown>> = { ...actual }
    for (const [key, value] of Object.entries(expected)) assertLike(values[key], value)
  } else assert.deepEqual(actual, expected)
}

for (const of of askedServices) {
  test(`${of.name}: a stranger's first words lead to exactly one call, with the code`, async (t) => {
    const api = await startApi(t)
    const side = await sidecarOf(t, of, api.url)
    const eve = of.stranger(1)
    await says(side, of, said(eve, 101))
    await reply(side)
    await says(side, of, said(eve, 102, { words: 'please' }))
    await says(side, of, said(of.owner, 103, { words: 'from the owner' }))
    await eventually(() => side.agent.seen.length > 0, 'the agent hears the owner')
    const [only, ...more] = api.requests
    assert.ok(only !== undefined && more.length === 0, `${api.requests.length} calls`)
    const [{ code } = { code: '' }] = await pending(side)
    const expected = of.call(eve, 101)
    const words = `Pairing code: ${code}\nGive it to the owner of this bot. It is good for one hour.`
    assert.equal(only.method, expected.method)
    if (expected.path instanceof RegExp) assert.match(only.path, expected.path)
    else assert.equal(only.path, expected.path)
    assertLike(JSON.parse(only.body), expected.body(words))
    assert.equal(only.headers['authorization'], expected.authorization)
    assert.match(String(only.headers['content-type']), /^application\/json/)
    assert.equal(Number(only.headers['content-length']), Buffer.byteLength(only.body))
    assert.equal(only.headers['host'], new URL(api.url).host)
    assert.equal(only.headers['cookie'], undefined)
    if (of.proof !== undefined) assert.ok(of.proof(only))
    assert.equal(side.agent.seen.length, 1)
    assert.ok(
      !JSON.stringify(side.agent.seen.map(({ body }) => body.toString())).includes('let me'),
    )
  })

  test(`${of.name}: a busy service is asked again after its pause, and at most four times`, async (t) => {
    const api = await startApi(t)
    const side = await sidecarOf(t, of, api.url)
    api.next.push({ status: 429, headers: { 'Retry-After': '1' } }, { status: 200 })
    const from = performance.now()
    await says(side, of, said(of.stranger(1), 201))
    await reply(side)
    assert.ok(performance.now() - from >= 990, 'the pause was kept')
    assert.equal(api.requests.length, 2)
    const [first, second] = api.requests
    assert.deepEqual([second?.path, second?.body], [first?.path, first?.body], 'the same call')

    const away = { status: 503, headers: { 'Retry-After': '0.05' } }
    api.next.push(...Array.from({ length: 9 }, () => away))
    await says(side, of, said(of.stranger(2), 202))
    assert.equal((await reply(side, 'reply.failed'))?.['status'], 503)
    assert.equal(api.requests.length, 6)
    api.next.length = 0

    for (const [key, status] of [403, 302].entries()) {
      api.next.push({ status, headers: { Location: `${api.url}/elsewhere` } })
      await says(side, of, said(of.stranger(3 + key), 203 + key))
      assert.equal((await reply(side, 'reply.failed', 2 + key))?.['status'], status)
    }
    assert.equal(api.requests.length, 8, 'what will not be better is not tried again or followed')
    assert.equal((await pending(side)).length, 4, 'the requests wait for the owner all the same')
  })

  test(`${of.name}: strangers are answered so often in an hour and no more`, async (t) => {
    const api = await startApi(t)
    const side = await sidecarOf(t, of, api.url, { repliesPerHour: 2 })
    for (const nth of [1, 2, 3, 4]) await says(side, of, said(of.stranger(nth), 300 + nth))
    await reply(side, 'reply.sent', 2)
    assert.equal(events(side, 'pairing.requested').length, 4)
    assert.equal(
      events(side, 'pairing.requested').at(-1)?.['because'],
      'a stranger asks; the answers of this hour are used up',
    )
    assert.equal(api.requests.length, 2)
    assert.equal(side.agent.seen.length, 0)
  })

  test(`${of.name}: nobody is answered where the policy says so, in groups or for an edit`, async (t) => {
    const api = await startApi(t)
    const policies: readonly (readonly [object, number])[] = [
      [{ dm: { policy: 'allowlist' } }, 0],
      [{ dm: { policy: 'disabled' } }, 0],
      [{ reply: 'silent' }, 1],
    ]
    for (const [policy, requests] of policies) {
      const side = await sidecarOf(t, of, api.url, policy)
      await says(side, of, said(of.stranger(1), 401))
      assert.equal((await pending(side)).length, requests, JSON.stringify(policy))
      assert.equal(side.agent.seen.length, 0)
    }
    const side = await sidecarOf(t, of, api.url)
    if (of.group !== '') {
      await says(side, of, said(of.stranger(1), 402, { group: of.group, mention: true }))
    }
    if (of.edit !== undefined) {
      const { status } = await post(side.port, of.edit(said(of.stranger(1), 403)), {
        method: of.method,
      })
      assert.ok(status < 300)
    }
    assert.deepEqual(await pending(side), [])
    // What comes after it in the same queue has been sent, so nothing before it is on its way.
    await says(side, of, said(of.stranger(2), 404))
    await reply(side)
    assert.equal(api.requests.length, 1)
    assert.equal(side.agent.seen.length, 0)
  })

  test(`${of.name}: no credential is in a log, whatever becomes of the call`, async (t) => {
    const api = await startApi(t)
    const side = await sidecarOf(t, of, api.url)
    api.next.push({ status: 401, body: JSON.stringify({ error: of.credential }) })
    await says(side, of, said(of.stranger(1), 501))
    await reply(side, 'reply.failed')
    await says(side, of, said(of.stranger(2), 502))
    await reply(side)
    let broken = 0
    const breaking = createNetServer((socket) => {
      broken += 1
      socket.destroy()
    })
    await new Promise<void>((resolve) => breaking.listen(0, '127.0.0.1', resolve))
    t.after(() => breaking.close())
    const { port } = breaking.address() as AddressInfo
    const home = mkdtempSync(join(tmpdir(), 'hs-'))
    t.after(() => rmSync(home, { recursive: true, force: true }))
    const closed = await startSidecar({ home, ...setup(of, `http://127.0.0.1:${port}`) })
    await says(closed, of, said(of.stranger(1), 503))
    await eventually(() => broken > 0, 'the call was tried')
    await closed.stop()
    const because = String(events(closed, 'reply.failed')[0]?.['because'])
    assert.match(because, new RegExp(`^127\\.0\\.0\\.1:${port}: [A-Z]+$`))
    for (const one of [side, closed]) {
      const all = JSON.stringify([one.records(), one.logged])
      for (const form of [of.credential, encodeURIComponent(of.credential)]) {
        // The notice about plain secrets names keys; the values of none are there.
        assert.ok(!all.includes(form))
      }
    }
  })
}
