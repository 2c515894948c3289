/**
 * One getUpdates of a bot, filtered by the sender policy. The rules of offsets were measured with real bots:
 *
 * - Something may be delivered → it goes at once, and withheld updates behind it stay unconfirmed: were they confirmed, so
 *   would be what the bot has not handled yet. They come back with the next call.
 * - Everything was withheld → the same call goes on upstream behind the last one until the bot's own time is over. An
 *   empty answer instead would be asked again at once with the old offset, in a hot loop.
 * - What comes back is judged again, and whoever was let in meanwhile is heard.
 */
import { Buffer } from 'node:buffer'

import { unknown, type Account, type Message } from '../channels/channel.ts'
import { field } from '../channels/json.ts'
import { polledUpdates, type PolledUpdates } from '../channels/telegram.ts'
import type { PollAsk } from './poll-ask.ts'
import { pollLimits } from './poll-limits.ts'

/** An answer of the service, or ours in its shape. */
export interface ApiAnswer {
  readonly status: number
  readonly body: Buffer
  /** Seconds, as the service sent it. */
  readonly retryAfter?: string
}

/** What a poll needs from outside. */
export interface PollDeps {
  /** getUpdates of the service; rejects when it is away, or when `signal` ends it. */
  fetch(ask: PollAsk, signal: AbortSignal): Promise<ApiAnswer>
  /**
   * Which of the messages may reach the agent, in their order; resolves once the decisions are recorded, and rejects when
   * they cannot be. One that was judged before is neither charged nor answered again. `body` is what they came in.
   */
  hear(messages: readonly Message[], body: Buffer): Promise<readonly boolean[]>
  /** ms of a clock that never runs back. */
  readonly now: () => number
}

/** An answer in the shape of the Bot API, with a description of ours. */
export function apiFailure(status: number, description: string): ApiAnswer {
  const body = Buffer.from(JSON.stringify({ ok: false, error_code: status, description }))
  return { status, body }
}

const nothingNew = (): ApiAnswer => ({ status: 200, body: Buffer.from('{"ok":true,"result":[]}') })

/** A batch; `narrow`: one of several cannot be read, so they are asked for one by one. */
type Batch = PolledUpdates | 'narrow' | 'useless'

/** The polls of one account. */
export class Poller {
  readonly #account: Account
  readonly #deps: PollDeps

  constructor(account: Account, deps: PollDeps) {
    this.#account = account
    this.#deps = deps
  }

  /** The answer to one getUpdates of the bot. Rejects when the service is away, or the audit log cannot be written. */
  async answer(ask: PollAsk, signal: AbortSignal): Promise<ApiAnswer> {
    const { now, fetch } = this.#deps
    const deadline = now() + ask.timeoutSeconds * 1000
    let { offset, limit } = ask
    let late = 0
    for (let first = true; ; first = false) {
      const left = Math.max(0, Math.floor((deadline - now()) / 1000))
      const timeoutSeconds = first ? ask.timeoutSeconds : left
      if (!first && left === 0 && ++late > pollLimits.roundsLate.default) return nothingNew()
      const answer = await fetch({ ...ask, offset, limit, timeoutSeconds }, signal)
      if (answer.status !== 200) return answer
      const batch = this.#read(answer.body)
      if (batch === 'useless' || (batch === 'narrow' && limit === 1)) {
        return apiFailure(502, 'Bad Gateway: the updates of the service cannot be read')
      }
      if (batch === 'narrow') {
        limit = 1
        continue
      }
      const judged = await this.#judge(answer.body, batch)
      if ('body' in judged) return judged
      // A service that repeats itself must not keep us asking.
      const stuck = offset !== undefined && offset >= 0 && judged.last < offset
      if (judged.last === -1 || stuck) return nothingNew()
      offset = judged.last + 1
      limit = ask.limit
    }
  }

  /** The answer for the bot, or the last id of a batch in which nothing is for it (-1: an empty one). */
  async #judge(body: Buffer, updates: PolledUpdates): Promise<ApiAnswer | { last: number }> {
    const { messages, updateIds } = updates
    if (messages.length === 0) return { last: -1 }
    const speaks = await this.#deps.hear(messages, body)
    const refused = new Set([...updateIds.keys()].filter((i) => speaks[i] !== true))
    if (refused.size === messages.length) return { last: Math.max(...updateIds) }
    if (refused.size === 0) return { status: 200, body }
    return { status: 200, body: Buffer.from(updates.without(refused)) }
  }

  #read(body: Buffer): Batch {
    const read = polledUpdates(body, this.#account)
    if (read.ok) return read.value
    const ids = looseIds(body)
    const [only] = ids
    if (only === undefined) return 'useless'
    if (ids.length > 1) return 'narrow'
    // Withheld like any that nobody understands; else it would stop all that come after it.
    const because = `the update is ${read.because}`
    const message = unknown('telegram', this.#account, because, `update:${only}`)
    return { updateIds: ids, messages: [message], without: () => '' }
  }
}

/** The ids in an answer that the strict reader refused, to get past it; nothing else of it is used. */
function looseIds(body: Buffer): readonly number[] {
  let value: unknown
  try {
    value = JSON.parse(body.toString('utf8'))
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown
    return []
  }
  const result = field(value, 'result')
  if (!Array.isArray(result)) return []
  const ids: number[] = []
  for (const update of result) {
    const updateId = field(update, 'update_id')
    if (typeof updateId !== 'number' || !Number.isSafeInteger(updateId)) return []
    ids.push(updateId)
  }
  return ids
}
