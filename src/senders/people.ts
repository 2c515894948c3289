/** Everything that the roads share about people: the desks, the lists behind them, and the evidence. */
import type { Buffer } from 'node:buffer'

import { Failure } from '../errors.ts'
import { limits, type Millis } from '../limits.ts'
import type { Seen } from '../store/seen.ts'
import type { Store } from '../store/store.ts'
import { PairingBook, usualBounds } from './book.ts'
import { Deliveries } from './deliveries.ts'
import { Desk, type DeskSettings, type Heard, type TellLog } from './desk.ts'
import { KeyCache } from './keys.ts'
import { SenderList } from './list.ts'
import type { Call } from './outgoing.ts'
import { ReplyQueue, type ReplyEnd } from './replies.ts'

/** A record of the audit log, as far as people are concerned. */
export interface PeopleRecord {
  readonly event: string
  readonly requestId?: string
  readonly peer?: string
  readonly method?: string
  readonly path?: string
  readonly code?: string
  readonly status?: number
  readonly channel?: string
  readonly sender?: string
  readonly room?: string
  readonly digest?: string
  readonly because?: string
}

/** Where it is written; `written` is called once it is safe, or with the failure. */
export interface Evidence {
  append(record: PeopleRecord, written?: (failure?: Error) => void): void
}

/** What a message came with, for its record. `digest` is the SHA-256 of the body that held it. */
export interface Came {
  readonly requestId?: string
  readonly peer?: string
  readonly method?: string
  readonly path?: string
  readonly digest: string
}

/** What all of it needs from outside. */
export interface PeopleDeps {
  /** Senders and codes: shared with the command line. */
  readonly store: Store
  /** Deliveries, written for every webhook. */
  readonly deliveries: Seen
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Monotonic clock, ms. */
  readonly monotonic: () => Millis
  readonly random: (size: number) => Buffer
  readonly call: Call
  readonly evidence: Evidence
  readonly tell: TellLog
}

/** The people of one installation. */
export class People {
  readonly desks: readonly Desk[]
  readonly list: SenderList
  readonly book: PairingBook
  readonly deliveries: Deliveries
  readonly keys: KeyCache
  readonly replies: ReplyQueue
  readonly #evidence: Evidence

  private constructor(
    settings: readonly DeskSettings[],
    deps: PeopleDeps,
    list: SenderList,
    book: PairingBook,
  ) {
    const { call, monotonic, random, tell, evidence } = deps
    this.list = list
    this.book = book
    this.#evidence = evidence
    this.deliveries = new Deliveries(deps.deliveries)
    this.keys = new KeyCache({ call, now: monotonic })
    this.replies = new ReplyQueue({
      call,
      now: monotonic,
      random,
      max: limits.replyQueue.default,
      attempts: limits.replyAttempts.default,
      onEnd: (end) => this.#replied(end, tell),
    })
    const sendersMax = limits.senders.default
    this.desks = settings.map(
      (one) => new Desk(one, { list, book, replies: this.replies, monotonic, tell, sendersMax }),
    )
  }

  /** Reads what is known of people and begins to watch it. Fails with the store's Failure. */
  static async open(settings: readonly DeskSettings[], deps: PeopleDeps): Promise<People> {
    const { store, now, random, tell } = deps
    const onTrouble = (failure: Failure) => tell({ code: failure.code }, failure.message)
    const list = await SenderList.open({ store, now, onTrouble })
    const book = await PairingBook.open({ store, now, random, onTrouble, bounds: usualBounds })
    const people = new People(settings, deps, list, book)
    for (const { place, settings: own } of people.desks) {
      const listed = own.listed.map(({ sender }) => sender)
      for (const sender of await list.settle(place, listed)) {
        deps.evidence.append({
          event: 'pairing.revoked',
          channel: channelName(place),
          sender: `${place.channel}:${sender}`,
          because: 'no longer listed in the configuration',
        })
      }
    }
    list.start()
    book.start()
    return people
  }

  /** The desk of an account. */
  desk(channel: string, account: string): Desk | undefined {
    return this.desks.find(({ place }) => place.channel === channel && place.account === account)
  }

  /**
   * Writes one record for each message; `written` is called once all of them are safe, or with the first failure. What
   * was decided takes effect only then.
   */
  record(heard: readonly Heard[], came: Came, written: (failure?: Error) => void): void {
    let waiting = heard.length
    let failed: Error | undefined
    if (waiting === 0) queueMicrotask(() => written())
    for (const { message, event, because, code } of heard) {
      const { sender, room } = message
      this.#evidence.append(
        {
          ...came,
          event,
          channel: channelName(message),
          ...(sender.id === null ? {} : { sender: `${message.channel}:${sender.id}` }),
          room: room.id ?? room.kind,
          because,
          ...(code === undefined ? {} : { code }),
        },
        (failure) => {
          failed ??= failure
          waiting -= 1
          if (waiting === 0) written(failed)
        },
      )
    }
  }

  /** Ends the watches, writes down who spoke, and drops the answers that still wait. */
  async close(): Promise<void> {
    await this.replies.close()
    await this.book.close()
    await this.list.close()
  }

  #replied({ reply, sent, status, because, attempts }: ReplyEnd, tell: TellLog): void {
    const channel = channelName({ channel: reply.channel.name, account: reply.account.id })
    const sender = `${reply.channel.name}:${reply.to}`
    this.#evidence.append({
      event: sent ? 'reply.sent' : 'reply.failed',
      channel,
      sender,
      because,
      ...(status === undefined ? {} : { status }),
    })
    if (!sent) tell({ channel, sender, attempts, because }, 'an answer could not be sent')
  }
}

/** `telegram`, or `telegram/work` for an account of another name. */
export function channelName({
  channel,
  account,
}: {
  readonly channel: string
  readonly account: string
}): string {
  return account === 'default' ? channel : `${channel}/${account}`
}
