/** The stand-in for signal-cli's daemon over real sockets: credentials, calls, streams, and what never passes. */
import assert from 'node:assert/strict'
import { createServer, request as httpRequest, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'

import type { AuditEntry } from '../../src/audit/record.ts'
import { openSignalRoot } from '../../src/egress/signal-root.ts'
import {
  envelopeOf,
  startSignalDaemon,
  wordsOf,
  type Person,
  type SignalDaemon,
} from '../support/signal-cli.ts'
import { eventually } from '../support/sidecar.ts'

const own = '+15550000000'
const agentToken = 'k7Qp2vXz9LmN4rTb8WcY6dHf3sJg1AeU'
const owner: Person = { number: '+15551230001', uuid: '11111111-1111-4111-8111-111111111111' }
const stranger: Person = { number: '+15559990002', uuid: '99999999-9999-4999-8999-999999999999' }

interface Place {
  readonly daemon: SignalDaemon
  readonly port: number
  /** With the credential of the bot. */
  readonly url: string
  readonly records: AuditEntry[]
  rpc(value: unknown, headers?: Record<string, string>): Promise<{ status: number; text: string }>
  stream(headers?: Record<string, string>, query?: string): Promise<Stream>
}

interface Stream {
  readonly status: number
  text(): string
  readonly answer: IncomingMessage
  ended(): boolean
  leave(): void
}

async function place(
  t: TestContext,
  options: {
    readonly audit?: Error
    readonly apiRoot?: string
    readonly hear?: () => Promise<void>
  } = {},
): Promise<Place> {
  const daemon = await startSignalDaemon(own)
  const records: AuditEntry[] = []
  const root = await openSignalRoot(
    {
      account: { id: 'default', webhookPath: '', settings: {}, bot: { ids: [own], names: [] } },
      apiRoot: options.apiRoot ?? daemon.url,
      agentToken,
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
      hear: async (messages) => {
        await options.hear?.()
        return messages.map(({ sender }) => sender.id === `uuid:${owner.uuid}`)
      },
    },
  )
  t.after(async () => {
    await root.close()
    await daemon.stop()
  })
  const url = `http://127.0.0.1:${root.port}/${agentToken}`
  return {
    daemon,
    port: root.port,
    url,
    records,
    rpc: async (value, headers = {}) => {
      const body = typeof value === 'string' ? value : JSON.stringify(value)
      const answer = await fetch(`${url}/api/v1/rpc`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json', ...headers },
        body,
      })
      return { status: answer.status, text: await answer.text() }
    },
    stream: (headers, query = '') => open(`${url}/api/v1/events${query}`, headers),
  }
}

function open(url: string, headers: Record<string, string> = {}): Promise<Stream> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest(url, { headers }, (answer) => {
      let text = ''
      let over = false
      answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
      answer.on('error', () => undefined)
      answer.on('close', () => (over = true))
      const status = answer.statusCode ?? 0
      resolve({ status, answer, text: () => text, ended: () => over, leave: () => sent.destroy() })
    })
    sent.on('error', reject)
    sent.end()
  })
}

const call = (method: string, params: object = {}) => ({ jsonrpc: '2.0', id: 1, method, params })

test('only the credential of the bot opens the door, and only for what signal-cli has', async (t) => {
  const { daemon, port, url, records } = await place(t)
  assert.equal((await fetch(`${url}/api/v1/check`)).status, 200)
  for (const path of [
    '/api/v1/check',
    '//api/v1/check',
    '/wrong/api/v1/check',
    `/${agentToken}x/api/v1/events`,
    `/${agentToken.toLowerCase()}/api/v1/events`,
    `/${agentToken}/api/v1/events/`,
    `/${agentToken}/api/v1/%65vents`,
    `/${agentToken}/api/v1/../v1/events`,
    `/${agentToken}/api/v1/rpc/`,
    `/${agentToken}/v1/receive/${own}`,
    `http://daemon/${agentToken}/api/v1/events`,
  ]) {
    const status = await rawGet(port, path)
    assert.ok(status === 401 || status === 404, `${path} ${status}`)
  }
  assert.deepEqual(daemon.requests, ['GET /api/v1/check'])
  assert.ok(!JSON.stringify(records).includes(agentToken))
})

function rawGet(port: number, path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({ host: '127.0.0.1', port, path }, (answer) => {
      answer.resume()
      resolve(answer.statusCode ?? 0)
    })
    sent.on('error', reject)
    sent.end()
  })
}

test('other methods than those of signal-cli are refused', async (t) => {
  const { daemon, url } = await place(t)
  assert.equal((await fetch(`${url}/api/v1/events`, { method: 'POST', body: 'x' })).status, 405)
  assert.equal((await fetch(`${url}/api/v1/rpc`)).status, 405)
  assert.equal((await fetch(`${url}/api/v1/check`, { method: 'DELETE' })).status, 405)
  assert.deepEqual(daemon.requests, [])
})

test('what a conversation needs goes on, and the answer of the daemon comes back', async (t) => {
  const { daemon, rpc, records } = await place(t)
  const sent = await rpc(call('send', { account: own, recipient: [owner.uuid], message: 'héllo' }))
  assert.equal(sent.status, 200)
  assert.match(sent.text, /"timestamp"/)
  assert.deepEqual(daemon.sentTo(owner.uuid), ['héllo'])
  assert.match((await rpc(call('version'))).text, /0\.14\.5/)
  const batch = await rpc([call('sendTyping', { recipient: [owner.uuid] }), call('listGroups')])
  assert.equal(batch.status, 200)
  assert.deepEqual(
    records.filter(({ event }) => event === 'egress.allowed').map(({ path }) => path),
    ['/send', '/version', '/sendTyping', '/listGroups'],
  )
})

test('no call fetches messages, links a device or changes the account', async (t) => {
  const { daemon, rpc, records } = await place(t)
  daemon.say(stranger, 'hidden')
  for (const value of [
    ...[
      'receive',
      'Receive',
      'receive ',
      'subscribeReceive',
      'unsubscribeReceive',
      'startLink',
      'finishLink',
      'link',
      'addDevice',
      'register',
      'verify',
      'unregister',
      'deleteLocalAccountData',
      'updateAccount',
      'updateConfiguration',
      'setPin',
      'trust',
      'sendSyncRequest',
      'listAccounts',
      '__proto__',
      'constructor',
      '',
    ].map((method) => call(method)),
    [call('send'), call('receive')],
    [[call('receive')]],
    [],
    Array.from({ length: 21 }, () => call('version')),
    { jsonrpc: '2.0', id: 1 },
    { ...call('send'), method: ['receive'] },
    '{"method":"version","method":"receive","id":1}',
    '{"method":"receive","\\u006dethod":"version","id":1}',
    '\ufeff{"method":"version","id":1}',
    '{"method":"version"}{"method":"receive"}',
    'receive',
    '',
  ]) {
    const { status, text } = await rpc(value)
    assert.equal(status, 403, JSON.stringify(value))
    assert.ok(!text.includes('hidden'))
    const answer = JSON.parse(text) as { error: { code: number; message: string } }
    assert.equal(answer.error.code, -32601)
    assert.match(answer.error.message, /^Forbidden: Hardshell/)
  }
  assert.deepEqual(daemon.calls, [])
  assert.ok(
    records.some(
      ({ because }) => because === 'the method receive is nothing that a conversation needs',
    ),
  )
})

test('a call for another account of the daemon is refused, and so are its events', async (t) => {
  const { daemon, rpc, stream } = await place(t)
  for (const account of ['+15550000001', 7, null, [own]]) {
    assert.equal((await rpc(call('send', { account, message: 'x' }))).status, 403)
  }
  assert.deepEqual(daemon.calls, [])
  for (const query of [
    '?account=%2B15550000001',
    `?account=${encodeURIComponent(own)}&account=x`,
    '?account=%',
  ]) {
    assert.equal((await stream({}, query)).status, 400, query)
  }
  assert.equal(daemon.streams.length, 0)
  await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  assert.equal(daemon.streams[0]?.account, own)
})

test('a call that is not JSON, too large, or that breaks off does not reach the daemon', async (t) => {
  const { daemon, rpc, url, port } = await place(t)
  assert.equal((await rpc(call('version'), { 'Content-Type': 'text/plain' })).status, 415)
  const sendHead = (bytes: number) => {
    const sent = httpRequest({
      host: '127.0.0.1',
      port,
      method: 'POST',
      path: `/${agentToken}/api/v1/rpc`,
      headers: { 'Content-Type': 'application/json', 'Content-Length': String(bytes) },
    })
    sent.on('error', () => undefined)
    sent.write('{')
    return sent
  }
  const big = sendHead(32 * 1024 * 1024 + 1)
  const status = await new Promise((resolve) => {
    big.once('response', (response) => resolve(response.statusCode))
  })
  assert.equal(status, 413)
  big.destroy()
  const broken = sendHead(1000)
  await new Promise((resolve) => setTimeout(resolve, 50))
  broken.destroy()
  assert.equal((await fetch(`${url}/api/v1/check`)).status, 200)
  assert.deepEqual(daemon.requests, ['GET /api/v1/check'])
})

test('large calls that are held at once are bounded, and room comes back when they end', async (t) => {
  const { rpc, port } = await place(t)
  const held = Array.from({ length: 4 }, () => {
    const sent = httpRequest({
      host: '127.0.0.1',
      port,
      method: 'POST',
      path: `/${agentToken}/api/v1/rpc`,
      headers: { 'Content-Type': 'application/json', 'Content-Length': String(32 * 1024 * 1024) },
    })
    sent.on('error', () => undefined)
    sent.write('{')
    return sent
  })
  let last = 0
  const looks: Promise<void>[] = []
  const look = () =>
    void looks.push(rpc(call('version')).then(({ status }) => void (last = status)))
  await eventually(() => {
    look()
    return last === 503
  }, 'there is no room')
  for (const one of held) one.destroy()
  await eventually(() => {
    look()
    return last === 200
  }, 'there is room again')
  await Promise.all(looks)
})

test('each event passes or stays away while the stream goes on', async (t) => {
  const { daemon, stream } = await place(t)
  const { text, status, answer } = await stream()
  assert.equal(status, 200)
  assert.equal(answer.headers['content-type'], 'text/event-stream')
  daemon.keepAlive()
  await eventually(() => text() === ':\n', 'the sign of life is here at once')
  daemon.say(owner, 'one')
  await eventually(() => text().includes('one'), 'the owner is here at once')
  daemon.say(stranger, 'hidden')
  daemon.say(owner, 'two')
  await eventually(() => text().includes('two'), 'the owner is heard')
  assert.ok(!text().includes('hidden'))
  const ids = [...text().matchAll(/^id:.*-(\d+)$/gm)].map(([, id]) => id)
  assert.deepEqual(ids, ['1', '2', '3'], 'a withheld event leaves its id')
})

test('no framing of an event slips past the reader', async (t) => {
  const { daemon, stream } = await place(t)
  const { text } = await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  const hidden = (type = 'receive') => {
    const envelope = envelopeOf(stranger, wordsOf('hidden'))
    return `event:${type}\ndata:${JSON.stringify({ envelope, account: own })}\n\n`
  }
  const good = JSON.stringify({ envelope: envelopeOf(owner, wordsOf('good')), account: own })
  for (const bytes of [
    hidden(),
    hidden().replaceAll('\n', '\r'),
    hidden().replaceAll('\n', '\r\n'),
    hidden('message'),
    hidden('RECEIVE'),
    hidden().replace('data:', ' data:'),
    hidden().replace('data:', '\ufeffdata:'),
    hidden().replace('event:receive\n', ''),
    `event:receive\ndata:${good}\ndata:${good.replace('good', 'hidden')}\n\n`,
    `event:receive\ndata:{"envelope":{},"envelope":${JSON.stringify(envelopeOf(owner, wordsOf('hidden')))}}\n\n`,
    Buffer.concat([
      Buffer.from('event:receive\ndata:hidden'),
      Buffer.from([0xff]),
      Buffer.from('\n\n'),
    ]),
    `event:receive\ndata:${JSON.stringify({ envelope: envelopeOf(owner, wordsOf('hidden')), pad: 'x'.repeat(1_100_000) })}\n\n`,
    `:hidden in a comment\n`,
    `hidden: in a field\nevent:receive\ndata:${good}\n\n`,
  ]) {
    daemon.raw(bytes)
  }
  daemon.say(owner, 'the last one')
  await eventually(() => text().includes('the last one'), 'the stream goes on')
  assert.ok(!text().includes('hidden'), text())
  assert.equal(text().match(/good/g)?.length, 1)
})

test('events that the daemon sends for an account that is not ours are withheld', async (t) => {
  const { daemon, stream } = await place(t)
  const { text } = await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  const envelope = envelopeOf(owner, wordsOf('for another'))
  daemon.raw(`event:receive\ndata:${JSON.stringify({ envelope, account: '+15550000001' })}\n\n`)
  daemon.say(owner, 'for us')
  await eventually(() => text().includes('for us'), 'ours is heard')
  assert.ok(!text().includes('for another'))
})

test('the bot says where it was, and the daemon goes on from there', async (t) => {
  const { daemon, stream } = await place(t)
  for (const words of ['one', 'two', 'three']) daemon.say(owner, words)
  const first = await stream({ 'Last-Event-ID': 'unknown' })
  await eventually(() => first.text().includes('three'), 'all that is kept comes')
  const [id = ''] = /(?<=id:).*(?=\n.*\n.*two)/.exec(first.text()) ?? []
  const second = await stream({ 'Last-Event-ID': id })
  await eventually(() => second.text().includes('three'), 'the rest comes')
  assert.ok(!second.text().includes('two'))
  assert.equal(daemon.streams.at(-1)?.lastId, id)
})

test('a bot that goes away ends the stream of the daemon', async (t) => {
  const { daemon, stream } = await place(t)
  const { leave } = await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  leave()
  await eventually(() => daemon.streams.length === 0, 'the stream is over')
})

test('a daemon that ends the stream, or is away, looks to the bot as without us', async (t) => {
  const { daemon, stream, rpc, url } = await place(t)
  const { ended } = await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  daemon.cut()
  await eventually(ended, 'the stream is over')
  await daemon.stop()
  await assert.rejects(stream())
  assert.equal((await rpc(call('version'))).status, 502)
  assert.equal((await fetch(`${url}/api/v1/check`)).status, 502)
})

test('what cannot be recorded does not go on', async (t) => {
  const { daemon, stream, rpc } = await place(t, { audit: new Error('the disk is full') })
  assert.equal((await rpc(call('send', { recipient: [owner.uuid], message: 'x' }))).status, 503)
  await assert.rejects(stream())
  assert.deepEqual(daemon.calls, [])
})

test('a decision that cannot be recorded ends the stream before the event', async (t) => {
  const hear = () => Promise.reject(new Error('the disk is full'))
  const { daemon, stream } = await place(t, { hear })
  const { text, ended } = await stream()
  await eventually(() => daemon.streams.length === 1, 'the stream is open')
  daemon.say(owner, 'unrecorded')
  await eventually(ended, 'the stream is over')
  assert.equal(text(), '')
})

test('a bot that does not read stops the daemon, and what we hold of it stays bounded', async (t) => {
  let written = 0
  let blocked = false
  const flood = createServer((_request, response) => {
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    const envelope = envelopeOf(owner, wordsOf('x'.repeat(60_000)))
    const bytes = `event:receive\ndata:${JSON.stringify({ envelope, account: own })}\n\n`
    const more = () => {
      while (written < 200_000_000) {
        written += bytes.length
        if (response.write(bytes)) continue
        blocked = true
        response.once('drain', more)
        return
      }
    }
    more()
  })
  await new Promise<void>((resolve) => flood.listen(0, '127.0.0.1', resolve))
  t.after(() => {
    flood.close()
    flood.closeAllConnections()
  })
  const { port } = flood.address() as AddressInfo
  const { stream } = await place(t, { apiRoot: `http://127.0.0.1:${port}` })
  const { answer } = await stream()
  answer.pause()
  await eventually(() => blocked, 'the daemon waits')
  let before = -1
  while (before !== written) {
    before = written
    await new Promise((resolve) => setTimeout(resolve, 300))
  }
  assert.ok(written < 50_000_000, `${written} bytes were taken for a bot that reads none`)
})

test('a daemon that leads elsewhere, or sends something else, is not followed', async (t) => {
  let asked = 0
  const elsewhere = createServer((_request, response) => {
    asked += 1
    response.end('hidden')
  })
  let head: readonly [number, Record<string, string>] = [302, {}]
  const service = createServer((_request, response) => response.writeHead(...head).end('hidden'))
  for (const server of [elsewhere, service]) {
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  }
  t.after(() => {
    for (const server of [elsewhere, service]) {
      server.close()
      server.closeAllConnections()
    }
  })
  const at = (of: typeof service) => `http://127.0.0.1:${(of.address() as AddressInfo).port}`
  const { rpc, stream, url } = await place(t, { apiRoot: at(service) })
  head = [302, { Location: at(elsewhere) }]
  assert.equal((await rpc(call('version'))).status, 502)
  assert.equal((await fetch(`${url}/api/v1/check`)).status, 502)
  for (const [wanted, answered] of [
    [502, head],
    [502, [200, { 'Content-Type': 'text/html' }]],
    [502, [200, { 'Content-Type': 'text/event-stream', 'Content-Encoding': 'gzip' }]],
    [400, [400, {}]],
    [500, [500, {}]],
  ] as const) {
    head = answered
    const got = await stream()
    assert.equal(got.status, wanted)
    await eventually(got.ended, 'the answer is over')
    assert.equal(got.text(), '')
  }
  assert.equal(asked, 0)
})
