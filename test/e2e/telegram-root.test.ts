/** The stand-in for the Bot API's root over real sockets: credentials, methods, polls, files and what never passes. */
import assert from 'node:assert/strict'
import { createServer, request as httpRequest } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'

import type { AuditEntry } from '../../src/audit/record.ts'
import { openTelegramRoot } from '../../src/egress/telegram-root.ts'
import { startBotApi, type BotApi } from '../support/bot-api.ts'
import { eventually } from '../support/sidecar.ts'

const real = '7000000001:AAreal0credential0of0the0bot0000000'
const dummy = '7000000001:dummydummydummydummydummydummydummy1'
const owner = 111111111
const stranger = 999000111

interface Place {
  readonly api: BotApi
  readonly url: string
  readonly records: AuditEntry[]
  call(method: string, init?: RequestInit): Promise<{ status: number; body: unknown }>
}

async function place(
  t: TestContext,
  options: { audit?: Error; apiRoot?: string } = {},
): Promise<Place> {
  const api = await startBotApi(real)
  const records: AuditEntry[] = []
  const bot = { ids: ['7000000001'], names: ['example_guard_bot'] }
  const root = await openTelegramRoot(
    {
      account: { id: 'default', webhookPath: '', settings: {}, bot },
      apiRoot: options.apiRoot ?? api.url,
      botToken: real,
      agentToken: dummy,
      host: '127.0.0.1',
      port: 0,
    },
    {
      audit: {
        failing: undefined,
        append: (entry, written) => {
          records.push(entry)
          written?.(options.audit)
        },
      },
      now: () => performance.now(),
      onTrouble: () => undefined,
      hear: (messages) => Promise.resolve(messages.map(({ sender }) => sender.id === `${owner}`)),
    },
  )
  t.after(async () => {
    await root.close()
    await api.stop()
  })
  const url = `http://127.0.0.1:${root.port}`
  return {
    api,
    url,
    records,
    call: async (method, init) => {
      const answer = await fetch(`${url}/bot${dummy}/${method}`, init)
      return { status: answer.status, body: await answer.json() }
    },
  }
}

const json = (value: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'Content-Type': 'application/json' },
  body: JSON.stringify(value),
})
const texts = (body: unknown) =>
  (body as { result: { message: { text: string } }[] }).result.map(({ message }) => message.text)

test('the dummy credential calls the real API, and the real one is refused from the bot', async (t) => {
  const { api, url, call, records } = await place(t)
  assert.equal((await call('getMe')).status, 200)
  for (const credential of [real, 'x', `${dummy}x`, dummy.slice(1), real.toLowerCase()]) {
    const answer = await fetch(`${url}/bot${credential}/getMe`)
    assert.equal(answer.status, 401)
    assert.deepEqual(await answer.json(), {
      ok: false,
      error_code: 401,
      description: 'Unauthorized',
    })
  }
  assert.equal(api.calls.length, 1)
  assert.equal(records.filter(({ event }) => event === 'egress.refused').length, 5)
  assert.ok(!JSON.stringify(records).includes(real))
})

test('getUpdates in any spelling and form gives the owner and withholds the stranger', async (t) => {
  const { api, call } = await place(t)
  api.say(owner, 'from the owner')
  api.say(stranger, 'from a stranger')
  for (const [method, init] of [
    ['getUpdates', undefined],
    ['getupdates?limit=10', undefined],
    ['GETUPDATES', json({ limit: 10 })],
    ['getUpdates', { method: 'POST', body: new URLSearchParams({ limit: '10' }) }],
  ] as const) {
    const { status, body } = await call(method, init)
    assert.equal(status, 200)
    assert.deepEqual(texts(body), ['from the owner'], method)
  }
})

test('no spelling of a path reaches the updates around the policy', async (t) => {
  const { api, url } = await place(t)
  api.say(stranger, 'hidden')
  for (const path of [
    `/bot${dummy}/get%55pdates`,
    `/bot${dummy}//getUpdates`,
    `/bot${dummy}/getUpdates/`,
    `/bot${dummy}/./getUpdates`,
    `/bot${dummy}/test/getUpdates`,
    `/bot${dummy}/x/../getUpdates`,
    `/file/bot${dummy}/../../bot${dummy}/getUpdates`,
    `/file/bot${dummy}/../getUpdates`,
    `/bot${dummy}/getUpdates%3f`,
    `http://api.telegram.org/bot${dummy}/getUpdates`,
  ]) {
    const { port } = new URL(url)
    const { status, text } = await rawGet(Number(port), path)
    assert.ok(status >= 400, path)
    assert.ok(!text.includes('hidden'), path)
  }
  assert.equal(api.polls.length, 0)
})

function rawGet(port: number, path: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path }, (response) => {
      let text = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('a webhook that would lead around us is refused', async (t) => {
  const { api, call } = await place(t)
  for (const method of ['setWebhook', 'setwebhook', 'SETWEBHOOK']) {
    assert.equal((await call(method, json({ url: 'https://example.com/x' }))).status, 403)
  }
  assert.equal(api.calls.length, 0)
})

test('other methods go on as they are, and an answer never shows the real credential', async (t) => {
  const { api, call, url } = await place(t)
  const sent = await call('sendMessage', json({ chat_id: owner, text: 'héllo' }))
  assert.equal(sent.status, 200)
  assert.deepEqual(api.sentTo(owner), ['héllo'])
  const form = new FormData()
  form.set('chat_id', `${owner}`)
  form.set('document', new Blob(['x'.repeat(100_000)]), 'a.txt')
  assert.equal((await call('sendDocument', { method: 'POST', body: form })).status, 200)
  assert.match(api.calls.at(-1)?.contentType ?? '', /^multipart\/form-data; boundary=/)
  const info = await call('getWebhookInfo')
  assert.ok(!JSON.stringify(info.body).includes(real))
  assert.ok(JSON.stringify(info.body).includes(dummy))
  const file = await fetch(`${url}/file/bot${dummy}/photos/file_0.jpg`)
  assert.equal(await file.text(), 'photo')
  assert.equal(file.headers.get('content-type'), 'image/jpeg')
})

test('a poll that the bot breaks off ends at the service too', async (t) => {
  const { api, url } = await place(t)
  const gone = new AbortController()
  const poll = fetch(`${url}/bot${dummy}/getUpdates?timeout=30`, { signal: gone.signal })
  await eventually(() => api.waiting() === 1, 'the poll waits at the service')
  gone.abort()
  await assert.rejects(poll)
  await eventually(() => api.waiting() === 0, 'the poll is over at the service')
})

test('a second poll ends the first one with 409, as the service does', async (t) => {
  const { api, call } = await place(t)
  const first = call('getUpdates?timeout=30')
  await eventually(() => api.waiting() === 1, 'the poll waits at the service')
  const second = call('getUpdates?timeout=30')
  assert.equal((await first).status, 409)
  await eventually(() => api.waiting() === 1, 'the second poll waits')
  api.say(owner, 'hello')
  assert.deepEqual(texts((await second).body), ['hello'])
})

test('a stranger who writes during a long poll costs one more call, not a hot loop', async (t) => {
  const { api, call } = await place(t)
  const poll = call('getUpdates?timeout=30')
  await eventually(() => api.waiting() === 1, 'the poll waits')
  api.say(stranger, 'one')
  await eventually(() => api.polls.length === 2 && api.waiting() === 1, 'the poll went on')
  api.say(stranger, 'two')
  await eventually(() => api.polls.length === 3 && api.waiting() === 1, 'the poll went on')
  api.say(owner, 'three')
  assert.deepEqual(texts((await poll).body), ['three'])
  assert.equal(api.polls.length, 3)
})

test('a call that cannot be recorded does not reach the service', async (t) => {
  const { api, call } = await place(t, { audit: new Error('the disk is full') })
  assert.equal((await call('sendMessage', json({ chat_id: owner, text: 'x' }))).status, 503)
  assert.equal(api.calls.length, 0)
})

test('a body over its bound is refused, declared or not', async (t) => {
  const { api, call } = await place(t)
  const big = 'x'.repeat(64 * 1024 + 1)
  assert.equal((await call('getUpdates', json({ offset: big }))).status, 413)
  const stream = new Blob([big]).stream()
  const chunked = { method: 'POST', body: stream, duplex: 'half' } as const
  assert.equal((await call('getUpdates', chunked)).status, 413)
  assert.equal(api.polls.length, 0)
})

test('an upload over its bound, or one that breaks off, never reaches the service whole', async (t) => {
  const { api, url } = await place(t)
  const port = Number(new URL(url).port)
  const upload = (bytes: number, sent: string) => {
    const request = httpRequest({
      host: '127.0.0.1',
      port,
      method: 'POST',
      path: `/bot${dummy}/sendDocument`,
      headers: { 'Content-Type': 'application/octet-stream', 'Content-Length': String(bytes) },
    })
    request.on('error', () => undefined)
    request.write(sent)
    return request
  }
  const big = upload(64 * 1024 * 1024 + 1, 'x')
  const status = await new Promise((resolve) => {
    big.once('response', (response) => resolve(response.statusCode))
  })
  assert.equal(status, 413)
  big.destroy()
  const broken = upload(1000, 'half')
  await new Promise((resolve) => setTimeout(resolve, 100))
  broken.destroy()
  await new Promise((resolve) => setTimeout(resolve, 100))
  assert.equal(api.calls.length, 0)
})

test('a service that leads elsewhere is not followed', async (t) => {
  let asked = 0
  const elsewhere = createServer((_request, response) => {
    asked += 1
    response.end('{"ok":true,"result":[]}')
  })
  const service = createServer((_request, response) => {
    const { port } = elsewhere.address() as AddressInfo
    response.writeHead(302, { Location: `http://127.0.0.1:${port}/` }).end()
  })
  for (const server of [elsewhere, service]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  }
  t.after(() => {
    for (const server of [elsewhere, service]) {
      server.close()
      server.closeAllConnections()
    }
  })
  const { port } = service.address() as AddressInfo
  const { call, url } = await place(t, { apiRoot: `http://127.0.0.1:${port}` })
  assert.equal((await call('getUpdates')).status, 502)
  assert.equal((await call('getMe')).status, 502)
  assert.equal((await fetch(`${url}/file/bot${dummy}/photos/a.jpg`)).status, 502)
  assert.equal(asked, 0)
})

test('a service that is away is a 502 in the shape of the Bot API', async (t) => {
  const { api, call } = await place(t)
  await api.stop()
  const { status, body } = await call('getMe')
  assert.equal(status, 502)
  assert.deepEqual(body, { ok: false, error_code: 502, description: 'Bad Gateway' })
})
