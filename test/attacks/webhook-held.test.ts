/** Many half-sent webhooks at once must not fill the memory (CWE-770): the newest is asked to come again. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'

import type { Agent } from '../../src/agent/agent.ts'
import { readFacts } from '../../src/proxy/facts.ts'
import type { Forwarder } from '../../src/proxy/forward.ts'
import { Live } from '../../src/proxy/live.ts'
import { openWebhooks } from '../../src/proxy/webhook.ts'
import { People } from '../../src/senders/people.ts'
import { memoryStore, openDesk, recordingCall, TestClock } from '../support/people.ts'
import { exchange } from '../support/raw.ts'
import { telegram } from '../support/webhooks.ts'

const MiB = 1024 ** 2

/** The road alone, on a server of the test, with room for two mebibytes of bodies. */
async function openRoad() {
  const clock = new TestClock()
  clock.ms = Date.now()
  const { desk } = await openDesk(clock)
  const settings = {
    ...desk.settings,
    account: {
      ...desk.settings.account,
      webhookPath: telegram.path,
      settings: { webhookSecret: telegram.write(said(1)).headers[secretHeader] ?? '' },
    },
    policy: { ...desk.settings.policy, allowFrom: new Set([telegram.owner]) },
  }
  const people = await People.open([settings], {
    store: memoryStore(clock),
    deliveries: memoryStore(clock),
    now: clock.now,
    monotonic: clock.now,
    random: randomBytes,
    call: recordingCall().call,
    evidence: { append: (_record, written) => written?.() },
    tell: () => undefined,
  })
  const passed: number[] = []
  const forwarder: Forwarder = {
    send: ({ body, response, ended }) => {
      passed.push(body?.length ?? 0)
      response.end('{}')
      ended({ status: 200, bytes: 2 })
      return { cut: () => undefined, refuse: () => undefined }
    },
    close: () => Promise.resolve(),
  }
  const agent: Pick<Agent, 'ready'> = { ready: () => undefined }
  const road = openWebhooks(
    {
      bodyBytes: MiB,
      bodyTimeMs: 20_000,
      bodiesBytes: 2 * MiB,
      limitsRequests: true,
      failuresPerMinute: 60,
      forwardedHeaders: false,
      publicOrigins: [],
    },
    {
      people,
      gates: [],
      audit: { failing: undefined, append: (_entry, written) => written?.() },
      agent: agent as Agent,
      forwarder,
      live: new Live({ maxPerIdentity: 10, maxPerAddress: 10 }),
      now: clock.now,
      monotonic: clock.now,
      configHash: () => 'test',
    },
  )
  const server = createServer((request, response) => {
    const facts = readFacts(request, {
      maxUrlBytes: 8192,
      maxHeaders: 100,
      now: clock.now,
      monotonic: clock.now,
      newId: randomUUID,
      peerOf: () => '127.0.0.1',
    })
    road(facts)?.take({ facts, request, response, proved: () => undefined })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    await people.close()
  }
  return { port: (server.address() as AddressInfo).port, passed, close }
}

const secretHeader = 'X-Telegram-Bot-Api-Secret-Token'
const said = (key: number) => ({ from: telegram.owner, words: 'go', key })
const done = (text: string) => text.includes('}')

function bytesOf(key: number, size: number): Buffer {
  const { body } = telegram.write(said(key))
  return Buffer.concat([body, Buffer.alloc(size - body.length, ' ')])
}

const head = (bytes: number) =>
  [
    `POST ${telegram.path} HTTP/1.1`,
    'Host: localhost',
    ...Object.entries(telegram.write(said(1)).headers).map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${bytes}`,
    '',
    '',
  ].join('\r\n')

test('bodies that wait for their end fill a bounded room, and it is free again when they end', async (t) => {
  const { port, passed, close } = await openRoad()
  t.after(close)
  const size = MiB - 1000
  const half = (key: number, waitMs: number) => {
    const body = bytesOf(key, size)
    const pieces = [head(size), body.subarray(0, size - 1), waitMs, body.subarray(size - 1)]
    return exchange(port, pieces, { until: done, timeMs: 20_000 })
  }
  const slow = [half(1, 6000), half(2, 6000)]
  await new Promise((resolve) => setTimeout(resolve, 2000))
  const third = await half(3, 0)
  assert.deepEqual([third.status, third.code], [503, 'OVERLOADED'])
  assert.deepEqual(passed, [])
  for (const { status } of await Promise.all(slow)) assert.equal(status, 200)
  const fourth = await half(4, 0)
  assert.equal(fourth.status, 200)
  assert.deepEqual(passed, [size, size, size])
})
