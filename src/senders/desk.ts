/**
 * One account of a channel with its rules: every road brings its messages here and does what it is told. The policy is
 * pure (policy.ts); what it needs to know and what follows from it is gathered here.
 */
import type { Account, Channel, Message } from '../channels/channel.ts'
import { hours, type Millis } from '../limits.ts'
import type { PairingBook, PairingRequest } from './book.ts'
import { Allowance, Recent, SenderBudget } from './budget.ts'
import type { SenderList } from './list.ts'
import { personal } from './personal.ts'
import type { Place } from './place.ts'
import { judgeMessage, type PolicySettings } from './policy.ts'
import type { ReplyQueue } from './replies.ts'

/** The rules of one account. */
export interface DeskSettings {
  readonly channel: Channel
  readonly account: Account
  readonly policy: PolicySettings
  /** Proven webhooks; the rest are brought again. */
  readonly requestsPerMinute: number
  readonly messagesPerMinute: number
  readonly messagesPerDay: number
  /** `silent`, `code`, or a text with `{code}`. */
  readonly reply: string
  readonly repliesPerHour: number
  /** Senders whom the configuration lists, and the key that does, for the owner's review. */
  readonly listed: readonly { readonly sender: string; readonly where: string }[]
  /** The owner's ids on this channel: told of each new request where the service has a way. */
  readonly owners: readonly string[]
}

/** Something that the owner should know; `facts` are for the log. */
export type TellLog = (facts: object, message: string) => void

/** What all desks share. */
export interface DeskDeps {
  readonly list: SenderList
  readonly book: PairingBook
  readonly replies: ReplyQueue
  /** Monotonic clock, ms. */
  readonly monotonic: () => Millis
  readonly tell: TellLog
  readonly sendersMax: number
}

/** What is to be done with one message. */
export interface Heard {
  readonly message: Message
  /** It goes on to the agent. */
  readonly passes: boolean
  readonly event: 'message.allowed' | 'message.withheld' | 'pairing.requested' | 'pairing.full'
  /** Ours, and fit for the audit log. */
  readonly because: string
  /** Set where a bound was met. */
  readonly code?: 'RATE_LIMITED'
  /** What its writer is to be told. */
  readonly tell?: string
}

/** Utterances that are remembered, so that one delivered twice counts and is judged once. */
const recentMax = 1000

/** One account under our policy. */
export class Desk {
  readonly place: Place
  readonly settings: DeskSettings
  readonly #deps: DeskDeps
  readonly #budget: SenderBudget
  readonly #replies: Allowance
  readonly #counted = new Recent(recentMax)
  readonly #refused = new Recent(recentMax)

  constructor(settings: DeskSettings, deps: DeskDeps) {
    const { channel, account, messagesPerMinute, messagesPerDay, repliesPerHour } = settings
    this.place = { channel: channel.name, account: account.id }
    this.settings = settings
    this.#deps = deps
    this.#budget = new SenderBudget(
      { perMinute: messagesPerMinute, perDay: messagesPerDay, sendersMax: deps.sendersMax },
      deps.monotonic,
    )
    this.#replies = new Allowance(repliesPerHour, deps.monotonic, hours(1))
  }

  /** Why a message is ignored whatever else happens; undefined when it is worth hearing. Counts nothing. */
  ignores(message: Message): string | undefined {
    const known = this.#deps.list.known(this.place)
    const { verdict, because } = judgeMessage(message, this.settings.policy, known)
    return verdict === 'ignore' ? because : undefined
  }

  /** Whether a message may go on to the agent now. Counts nothing. Throws when the list cannot be read, which is a no. */
  speaks(message: Message): boolean {
    const known = this.#deps.list.known(this.place)
    return judgeMessage(message, this.settings.policy, known).verdict === 'speak'
  }

  /** Judges one message. Rejects when the state cannot be read or written, which is a no. */
  async hear(message: Message): Promise<Heard> {
    return this.hearAtOnce(message)
  }

  /** The same without a promise where nothing needs to be written; throws or rejects. */
  hearAtOnce(message: Message): Heard | Promise<Heard> {
    const known = this.#deps.list.known(this.place)
    const { verdict, because, as } = judgeMessage(message, this.settings.policy, known)
    if (verdict === 'ignore') return withheld(message, because)
    if (verdict === 'pair') {
      const { id } = message.sender
      // Most messages of a stranger end here.
      return id !== null && this.#deps.book.isPending(this.place, id)
        ? withheld(message, askedAlready)
        : this.#pair(message)
    }
    const sender = as ?? message.sender.id
    if (sender === null) return { message, passes: true, event: 'message.allowed', because }
    const bound = this.#spend(message, sender)
    if (bound !== undefined) return { ...withheld(message, bound), code: 'RATE_LIMITED' }
    this.#deps.list.spoke(this.place, sender)
    return { message, passes: true, event: 'message.allowed', because }
  }

  /**
   * Says something to a person of this channel by a call; `false` where there is no way. `seen` is the reply address of
   * some message of the account, `theirs`: of one of this very person.
   */
  say(to: string, words: string, seen: PairingRequest['replyTo'], theirs = false): boolean {
    const message = personal(this.place, to, seen, theirs)
    return message !== undefined && this.answer(message, words)
  }

  /** Answers a message by a call of the service's API; `false` where there is none. */
  answer(message: Message, words: string): boolean {
    const { channel, account } = this.settings
    const { api } = channel.invite(message, words, account)
    if (api === undefined) return false
    this.#deps.replies.send({ channel, account, call: api, to: message.sender.id ?? '' })
    return true
  }

  /** The same words delivered as two events are one message to the budget, and share its verdict. */
  #spend(message: Message, sender: string): string | undefined {
    const { messagesPerMinute, messagesPerDay } = this.settings
    const key = `${sender} ${message.dedupeKey}`
    if (!this.#counted.add(key)) return this.#refused.has(key) ? 'over its budget' : undefined
    const over = this.#budget.spend(sender)
    if (over === undefined) return undefined
    this.#refused.add(key)
    return over === 'minute'
      ? `more than ${messagesPerMinute} messages a minute`
      : `more than ${messagesPerDay} messages a day`
  }

  async #pair(message: Message): Promise<Heard> {
    const { sender, replyTo } = message
    if (sender.id === null) return withheld(message, 'no sender')
    const asked = await this.#deps.book.ask(this.place, sender.id, replyTo)
    if (asked.kind === 'pending') return withheld(message, askedAlready)
    if (asked.kind === 'full') {
      if (!asked.first) return withheld(message, asked.because)
      this.#deps.tell({ ...this.place, because: asked.because }, 'strangers are ignored for now')
      const notice = `Strangers are ignored for now: ${asked.because}. See: hardshell pairing list`
      this.#sayToOwners(notice, sender.id, replyTo)
      return { ...withheld(message, asked.because), event: 'pairing.full' }
    }
    this.#tellOwner(asked.request)
    const words = this.#words(asked.request.code)
    const heard = { message, passes: false, event: 'pairing.requested' } as const
    if (words === undefined) return { ...heard, because: 'a stranger asks; nothing is answered' }
    if (!this.#replies.take()) {
      return { ...heard, because: 'a stranger asks; the answers of this hour are used up' }
    }
    return { ...heard, because: 'a stranger asks', tell: words }
  }

  #words(code: string): string | undefined {
    const { reply } = this.settings
    if (reply === 'silent') return undefined
    if (reply !== 'code') return reply.replaceAll('{code}', code)
    return `Pairing code: ${code}\nGive it to the owner of this bot. It is good for one hour.`
  }

  #tellOwner(request: PairingRequest): void {
    const { channel, account, sender, code, replyTo } = request
    const sentence = `hardshell pairing approve ${channel} ${code}`
    this.#deps.tell({ channel, account, sender }, `a stranger asks to be let in: ${sentence}`)
    const notice = `A stranger, ${sender}, asks to be let in. To agree: ${sentence}`
    this.#sayToOwners(notice, sender, replyTo)
  }

  #sayToOwners(words: string, stranger: string, seen: PairingRequest['replyTo']): void {
    for (const owner of this.settings.owners) if (owner !== stranger) this.say(owner, words, seen)
  }
}

const askedAlready = 'a stranger who has asked already'

const withheld = (message: Message, because: string): Heard => ({
  message,
  passes: false,
  event: 'message.withheld',
  because,
})
