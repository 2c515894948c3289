/** The webhook road alone on a server of the test: real HTTP, the clock and the agent in the hand of the test. */
import type { Buffer } from 'node:buffer'
import { randomBytes, randomUUID } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'

import type { Agent } from '../../src/agent/agent.ts'
import { readFacts } from '../../src/proxy/facts.ts'
import type { Forwarder } from '../../src/proxy/forward.ts'
import { days } from '../../src/limits.ts'
import { Live } from '../../src/proxy/live.ts'
import { openWebhooks, type WebhookSettings } from '../../src/proxy/webhook.ts'
import type { DeskSettings } from '../../src/senders/desk.ts'
import type { Call } from '../../src/senders/outgoing.ts'
import { People, type PeopleRecord } from '../../src/senders/people.ts'
import { openSeen } from '../../src/store/seen.ts'
import { memoryStore, recordingCall, type TestClock } from './people.ts'

/** What reached the agent. */
export interface Passed {
  readonly body: Buffer | undefined
  readonly headers: readonly string[]
}

/** A running road. */
export interface Road {
  readonly port: number
  readonly passed: Passed[]
  readonly records: PeopleRecord[]
  readonly people: People
  close(): Promise<void>
}

const MiB = 1024 ** 2

/** Opens the road for one account. */
export async function openRoad(
  desk: DeskSettings,
  clock: TestClock,
  more: Partial<WebhookSettings> & { readonly call?: Call; readonly ready?: Agent['ready'] } = {},
): Promise<Road> {
  const { call = recordingCall().call, ready = () => undefined, ...settings } = more
  const records: PeopleRecord[] = []
  const passed: Passed[] = []
  const people = await People.open([desk], {
    store: memoryStore(clock),
    deliveries: openSeen(':memory:', { now: clock.now, random: randomBytes, keepMs: days(3) }),
    now: clock.now,
    monotonic: clock.now,
    random: randomBytes,
    call,
    evidence: {
      append: (record, written) => {
        records.push(record)
        written?.()
      },
    },
    tell: () => undefined,
  })
  const forwarder: Forwarder = {
    send: ({ body, headers, response, ended }) => {
      passed.push({ body, headers })
      response.end('{}')
      ended({ status: 200, bytes: 2 })
      return { cut: () => undefined, refuse: () => undefined }
    },
    warm: () => undefined,
    close: () => Promise.resolve(),
  }
  const agent: Pick<Agent, 'ready'> = { ready }
  const road = openWebhooks(
    {
      bodyBytes: MiB,
      bodyTimeMs: 20_000,
      bodiesBytes: 64 * MiB,
      limitsRequests: true,
      failuresPerMinute: 60,
      forwardedHeaders: false,
      publicOrigins: [],
      ...settings,
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
    const webhook = road(facts)
    if (webhook !== undefined && facts.defect === undefined) {
      webhook.take({ facts, request, response, proved: () => undefined })
      return
    }
    request.resume()
    response.writeHead(facts.defect === undefined ? 404 : 400).end()
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    port: (server.address() as AddressInfo).port,
    passed,
    records,
    people,
    close: async () => {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
      await people.close()
    },
  }
}
