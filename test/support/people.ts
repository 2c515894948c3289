/** Lists, books and desks on a store in memory, with clocks and randomness in the hand of the test. */
import { Buffer } from 'node:buffer'

import { channelNamed } from '../../src/channels/all.ts'
import type { Account, Message } from '../../src/channels/channel.ts'
import { Failure } from '../../src/errors.ts'
import { PairingBook, usualBounds, type BookBounds } from '../../src/senders/book.ts'
import { Desk, type DeskSettings } from '../../src/senders/desk.ts'
import { SenderList } from '../../src/senders/list.ts'
import type { Call, Incoming, Outgoing } from '../../src/senders/outgoing.ts'
import { ReplyQueue, type ReplyEnd } from '../../src/senders/replies.ts'
import { openSqlite } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'

/** A clock that stands still until it is moved. */
export class TestClock {
  ms = 1_764_000_000_000
  readonly now = (): number => this.ms
  pass(ms: number): void {
    this.ms += ms
  }
}

/** Bytes that differ with every call, so that codes do too. */
export function countingRandom(): (size: number) => Buffer {
  let calls = 0
  return (size) => {
    calls += 1
    const bytes = Buffer.alloc(size)
    for (let i = 0; i < size; i += 1) bytes[i] = (calls >> (5 * i)) & 31
    return bytes
  }
}

/** A store in memory. */
export const memoryStore = (clock: TestClock): Store => openSqlite(':memory:', { now: clock.now })

/** A book and a list on one store. */
export async function openBooks(
  clock: TestClock,
  bounds: Partial<BookBounds> = {},
  store = memoryStore(clock),
): Promise<{ store: Store; book: PairingBook; list: SenderList }> {
  const random = countingRandom()
  const all = { ...usualBounds, ...bounds }
  const book = await PairingBook.open({ store, now: clock.now, random, bounds: all })
  const list = await SenderList.open({ store, now: clock.now })
  return { store, book, list }
}

/** A call that records what was asked and answers what the test says. */
export function recordingCall(
  answer: (outgoing: Outgoing, nth: number) => Partial<Incoming> | 'no answer' = () => ({}),
): { readonly call: Call; readonly asked: Outgoing[] } {
  const asked: Outgoing[] = []
  const call: Call = (outgoing) => {
    asked.push(outgoing)
    const given = answer(outgoing, asked.length)
    if (given === 'no answer') {
      return Promise.reject(new Failure('CALL_FAILED', 'service.test: no answer in time'))
    }
    return Promise.resolve({ status: 200, headers: {}, body: '{}', ...given })
  }
  return { call, asked }
}

/** An account of a channel with these settings. */
export function accountWith(settings: Readonly<Record<string, string>>, id = 'default'): Account {
  return { id, webhookPath: '/hook', settings, bot: { ids: [], names: [] } }
}

/** Somebody's direct message on Telegram. */
export function directMessage(sender: string, parts: Partial<Message> = {}): Message {
  return {
    channel: 'telegram',
    account: 'default',
    eventType: 'message',
    class: 'message',
    sender: { id: sender, aliases: [], kind: 'user' },
    room: { id: sender, kind: 'dm' },
    mentioned: true,
    dedupeKey: `said:${sender}:${Math.trunc(performance.now() * 1000)}`,
    deliveryKey: 'd',
    index: 0,
    replyTo: { chat: sender },
    ...parts,
  }
}

/** A desk for Telegram, with what it told the owner and sent. */
export interface TestDesk {
  readonly desk: Desk
  readonly list: SenderList
  readonly book: PairingBook
  readonly store: Store
  readonly told: { readonly facts: object; readonly message: string }[]
  readonly asked: Outgoing[]
  readonly ends: ReplyEnd[]
}

/** Opens a desk; `settings` change the usual ones. */
export async function openDesk(
  clock: TestClock,
  settings: Partial<DeskSettings> = {},
  bounds: Partial<BookBounds> = {},
): Promise<TestDesk> {
  const { store, book, list } = await openBooks(clock, bounds)
  const { call, asked } = recordingCall()
  const ends: ReplyEnd[] = []
  const told: { facts: object; message: string }[] = []
  const replies = new ReplyQueue({
    call,
    now: clock.now,
    random: countingRandom(),
    max: 100,
    attempts: 1,
    onEnd: (end) => void ends.push(end),
  })
  const channel = settings.channel ?? channelNamed('telegram')
  if (channel === undefined) throw new Error('no such channel')
  const desk = new Desk(
    {
      channel,
      account: accountWith({ webhookSecret: 's'.repeat(16), botToken: '1:abcdefgh' }),
      policy: {
        dmPolicy: 'pairing',
        allowFrom: new Set(['1']),
        groupPolicy: 'allowlist',
        groups: new Map(),
        gatewayAllowlist: new Set<string>(),
        gatewayGroups: new Set<string>(),
      },
      requestsPerMinute: 600,
      messagesPerMinute: 20,
      messagesPerDay: 500,
      reply: 'code',
      repliesPerHour: 60,
      listed: [{ sender: '1', where: 'channels.telegram.allowFrom' }],
      owners: [],
      ...settings,
    },
    {
      list,
      book,
      replies,
      monotonic: clock.now,
      tell: (facts, message) => void told.push({ facts, message }),
      sendersMax: 1000,
    },
  )
  return { desk, list, book, store, told, asked, ends }
}

/** Lets everything that waits for a promise go on. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 20; i += 1) await new Promise((resolve) => setImmediate(resolve))
}
