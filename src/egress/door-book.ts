/** Evidence of what a bot asks at its door: allowed calls before they go on, refused ones at most so many a minute. */
import type { AuditSink } from '../audit/record.ts'
import type { Place } from '../senders/place.ts'
import { pollLimits } from './poll-limits.ts'

/** What cannot be recorded does not go on. */
export class Unrecorded extends Error {
  constructor(failure: Error) {
    super(`the audit log: ${failure.message}`, { cause: failure })
    this.name = 'Unrecorded'
  }
}

/** The records of one door. */
export class DoorBook {
  readonly #audit: AuditSink
  readonly #now: () => number
  readonly #place: Place
  #minute = -1
  #refused = 0

  /** `now` is a monotonic clock in ms. */
  constructor(deps: { readonly audit: AuditSink; readonly now: () => number }, place: Place) {
    this.#audit = deps.audit
    this.#now = deps.now
    this.#place = place
  }

  /** Resolves once the record is in the kernel; rejects with Unrecorded when it cannot be written. */
  allowed(call: { readonly method: string; readonly path: string }): Promise<void> {
    const { channel, account } = this.#place
    const entry = { event: 'egress.allowed', ...call, channel, identity: account }
    return new Promise((resolve, reject) => {
      this.#audit.append(entry, (failure) => {
        if (failure === undefined) resolve()
        else reject(new Unrecorded(failure))
      })
    })
  }

  /** Records a refusal, at most so many a minute. */
  refused({ status, because }: { readonly status: number; readonly because: string }): void {
    const minute = Math.floor(this.#now() / 60_000)
    if (minute !== this.#minute) {
      this.#minute = minute
      this.#refused = 0
    }
    this.#refused += 1
    if (this.#refused > pollLimits.refusalsPerMinute.default) return
    const { channel, account } = this.#place
    this.#audit.append({ event: 'egress.refused', channel, identity: account, status, because })
  }
}
