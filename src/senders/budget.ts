/** How much each sender may say, how much strangers are answered, and what was seen a moment ago. */
import { days, hours, minutes, type Millis } from '../limits.ts'

/** A fixed window from its first count on. */
interface Window {
  endsAt: number
  count: number
}

/** One more in a window of `windowMs`; `false` when that is more than `max`. */
function counted(window: Window, max: number, windowMs: Millis, now: number): boolean {
  if (window.endsAt <= now) {
    window.endsAt = now + windowMs
    window.count = 0
  }
  if (window.count >= max) return false
  window.count += 1
  return true
}

/** Bounds of one sender. */
export interface BudgetSettings {
  readonly perMinute: number
  readonly perDay: number
  /** Senders that are remembered; the least recently used is forgotten. */
  readonly sendersMax: number
}

/** Counts messages per sender on a monotonic clock, in bounded memory. */
export class SenderBudget {
  readonly #settings: BudgetSettings
  readonly #now: () => Millis
  readonly #senders = new Map<string, { readonly minute: Window; readonly day: Window }>()

  constructor(settings: BudgetSettings, now: () => Millis) {
    this.#settings = settings
    this.#now = now
  }

  /** One more message of a sender: undefined when there is room for it, else which bound it meets. */
  spend(sender: string): 'minute' | 'day' | undefined {
    const now = this.#now()
    const windows = this.#touch(sender)
    const { perMinute, perDay } = this.#settings
    // The day first, so that a message refused by it does not use up the minute.
    if (windows.day.endsAt > now && windows.day.count >= perDay) return 'day'
    if (!counted(windows.minute, perMinute, minutes(1), now)) return 'minute'
    counted(windows.day, perDay, days(1), now)
    return undefined
  }

  /** How many senders are remembered. */
  get size(): number {
    return this.#senders.size
  }

  #touch(sender: string): { readonly minute: Window; readonly day: Window } {
    const known = this.#senders.get(sender)
    const windows = known ?? {
      minute: { endsAt: 0, count: 0 },
      day: { endsAt: 0, count: 0 },
    }
    this.#senders.delete(sender)
    this.#senders.set(sender, windows)
    if (this.#senders.size > this.#settings.sendersMax) {
      const oldest = this.#senders.keys().next()
      if (oldest.done !== true) this.#senders.delete(oldest.value)
    }
    return windows
  }
}

/** A count of one kind of thing in a window, such as answers in an hour. */
export class Allowance {
  readonly #max: number
  readonly #windowMs: Millis
  readonly #now: () => Millis
  readonly #window: Window = { endsAt: 0, count: 0 }

  /** `now` is a monotonic clock in ms. */
  constructor(max: number, now: () => Millis, windowMs: Millis = hours(1)) {
    this.#max = max
    this.#windowMs = windowMs
    this.#now = now
  }

  /** One more; `false` when there is no room for it in this window. */
  take(): boolean {
    return counted(this.#window, this.#max, this.#windowMs, this.#now())
  }

  /** Until the window ends, ms. */
  get resetMs(): Millis {
    return Math.max(0, this.#window.endsAt - this.#now())
  }
}

/** Remembers the newest keys, so that words delivered twice count once. */
export class Recent {
  readonly #max: number
  readonly #keys = new Set<string>()

  constructor(max: number) {
    this.#max = max
  }

  has(key: string): boolean {
    return this.#keys.has(key)
  }

  /** `true` when the key was not there; it is there now. */
  add(key: string): boolean {
    if (this.#keys.has(key)) return false
    this.#keys.add(key)
    if (this.#keys.size > this.#max) {
      const oldest = this.#keys.keys().next()
      if (oldest.done !== true) this.#keys.delete(oldest.value)
    }
    return true
  }
}
