/** Answers that need a call of the service's API: a bounded queue with retries, one at a time for each account. */
import type { Account, ApiCall, Channel } from '../channels/channel.ts'
import { Failure } from '../errors.ts'
import { minutes, seconds, type Millis } from '../limits.ts'
import { Credentials, type CredentialDeps } from './credentials.ts'
import type { Incoming } from './outgoing.ts'
import { placeKey } from './place.ts'

/** An answer on its way. */
export interface Reply {
  readonly channel: Channel
  readonly account: Account
  readonly call: ApiCall
  /** Whom it is for: the sender's id, for the audit log. */
  readonly to: string
}

/** How it ended. `because` is ours and holds nothing that the service or a stranger chose. */
export interface ReplyEnd {
  readonly reply: Reply
  readonly sent: boolean
  readonly status: number | undefined
  readonly attempts: number
  readonly because: string
}

/** What the queue needs from outside. */
export interface ReplyQueueDeps extends CredentialDeps {
  /** Answers that may wait, all accounts together. */
  readonly max: number
  readonly attempts: number
  /** How long to wait before the second attempt, the third …; the last one repeats. */
  readonly backOffMs?: readonly Millis[]
  readonly onEnd: (end: ReplyEnd) => void
}

const usualBackOff = [seconds(1), seconds(5), seconds(25)]
/** A service that asks for a longer pause than this is not waited for. */
const retryAfterMax = minutes(1)

/** Answers in order for each account; accounts do not wait for each other. */
export class ReplyQueue {
  readonly #deps: ReplyQueueDeps
  readonly #credentials: Credentials
  readonly #lanes = new Map<string, Promise<void>>()
  readonly #sleepers = new Map<NodeJS.Timeout, () => void>()
  #waiting = 0
  #closed = false

  constructor(deps: ReplyQueueDeps) {
    this.#deps = deps
    this.#credentials = new Credentials(deps)
  }

  /** How many have not ended yet. */
  get size(): number {
    return this.#waiting
  }

  /** Takes an answer in; beyond the bound it is dropped, which `onEnd` hears. */
  send(reply: Reply): void {
    if (this.#closed || this.#waiting >= this.#deps.max) {
      const because = this.#closed ? 'Hardshell stops' : `${this.#deps.max} answers are waiting`
      this.#deps.onEnd({ reply, sent: false, status: undefined, attempts: 0, because })
      return
    }
    this.#waiting += 1
    const key = placeKey({ channel: reply.channel.name, account: reply.account.id })
    const before = this.#lanes.get(key) ?? Promise.resolve()
    const lane = before.then(() => this.#deliver(reply))
    this.#lanes.set(key, lane)
    void lane.then(() => {
      if (this.#lanes.get(key) === lane) this.#lanes.delete(key)
    })
  }

  /** Ends all waiting; what has not been sent is dropped. Resolves when the calls under way are over. */
  async close(): Promise<void> {
    this.#closed = true
    for (const [timer, wake] of this.#sleepers) {
      clearTimeout(timer)
      wake()
    }
    this.#sleepers.clear()
    await Promise.all(this.#lanes.values())
  }

  async #deliver(reply: Reply): Promise<void> {
    const end = await this.#attempt(reply)
    this.#waiting -= 1
    this.#deps.onEnd({ reply, ...end })
  }

  async #attempt(reply: Reply): Promise<Omit<ReplyEnd, 'reply'>> {
    let last: Tried = { again: false, sent: false, status: undefined, because: 'Hardshell stops' }
    for (let attempt = 1; attempt <= this.#deps.attempts; attempt += 1) {
      if (this.#closed) return { ...ended(last), attempts: attempt - 1 }
      last = await this.#try(reply)
      if (!last.again) return { ...ended(last), attempts: attempt }
      if (attempt < this.#deps.attempts) await this.#sleep(last.waitMs ?? this.#backOff(attempt))
    }
    return { ...ended(last), attempts: this.#deps.attempts }
  }

  async #try({ channel, account, call }: Reply): Promise<Tried> {
    try {
      const outgoing = await this.#credentials.place(channel, account, call)
      return judge(channel, await this.#deps.call(outgoing))
    } catch (thrown) {
      // Anything unforeseen is treated like a call that failed, and says nothing of its own.
      const failure = thrown instanceof Failure ? thrown : undefined
      const again = failure === undefined || failure.code === 'CALL_FAILED'
      const because = failure?.message ?? 'the call could not be made'
      return { again, sent: false, status: undefined, because }
    }
  }

  #backOff(attempt: number): Millis {
    const steps = this.#deps.backOffMs ?? usualBackOff
    return steps[Math.min(attempt, steps.length) - 1] ?? 0
  }

  #sleep(ms: Millis): Promise<void> {
    return new Promise((resolve) => {
      if (this.#closed) {
        resolve()
        return
      }
      const timer = setTimeout(() => {
        this.#sleepers.delete(timer)
        resolve()
      }, ms)
      this.#sleepers.set(timer, resolve)
    })
  }
}

interface Tried {
  /** Another attempt could help. */
  readonly again: boolean
  readonly sent: boolean
  readonly status: number | undefined
  readonly because: string
  readonly waitMs?: Millis
}

const ended = ({ sent, status, because }: Tried) => ({ sent, status, because })

function judge(channel: Channel, { status, headers, body }: Incoming): Tried {
  if (status >= 200 && status < 300) {
    const undone = channel.undone?.(body)
    return undone === undefined
      ? { again: false, sent: true, status, because: 'taken' }
      : { ...undone, sent: false, status }
  }
  const because = `status ${status}`
  const again = status === 429 || status >= 500
  const wait = Number(headers['retry-after'])
  if (!again || !(wait > 0)) return { again, sent: false, status, because }
  const waitMs = seconds(wait)
  return { again: waitMs <= retryAfterMax, sent: false, status, because, waitMs }
}
