/** Failures per address: too many presented wrong credentials, and the address is locked for a while (CWE-307). */
import { hours, limits, type Millis } from '../limits.ts'

/** How many failures in which window lock an address, and for how long at first. */
export interface LockoutSettings {
  readonly attempts: number
  readonly windowMs: Millis
  readonly lockoutMs: Millis
  /** Addresses remembered; beyond it the least recently used is forgotten. */
  readonly addressesMax: number
}

/** Longest lockout: each one is twice as long as the one before until it is this long. */
export const lockoutMsMax = hours(1)

/** The defaults of DESIGN §5: 5 failures in 5 minutes, locked for 5 minutes. */
export const lockoutDefaults: LockoutSettings = {
  attempts: limits.authAttempts.default,
  windowMs: limits.authWindowMs.default,
  lockoutMs: limits.authLockoutMs.default,
  addressesMax: limits.addresses.default,
}

interface Record {
  /** Failures in the present window. */
  failures: number
  windowEndsAt: number
  lockedUntil: number
  /** Lockouts so far; forgotten after `lockoutMsMax` without one and without a failure. */
  locks: number
}

/**
 * Counts failures per address key on a monotonic clock, in bounded memory. It only counts and answers: that a valid
 * credential is never refused because of it is the identity gate's part.
 */
export class Lockout {
  readonly #settings: LockoutSettings
  readonly #now: () => Millis
  readonly #onLocked: ((key: string, forMs: Millis) => void) | undefined
  readonly #records = new Map<string, Record>()
  /** Stands at the oldest: a new iterator would step over the gap of everyone who has left, each time. */
  readonly #oldest = this.#records.keys()

  /** `now` is a monotonic clock in ms; `onLocked` hears of each lockout once, when it begins. */
  constructor(
    settings: LockoutSettings,
    now: () => Millis,
    onLocked?: (key: string, forMs: Millis) => void,
  ) {
    this.#settings = settings
    this.#now = now
    this.#onLocked = onLocked
  }

  /** How many addresses are remembered now. */
  get size(): number {
    return this.#records.size
  }

  /** Milliseconds until the address may try again; 0 when it is not locked. */
  lockedFor(key: string): Millis {
    const record = this.#records.get(key)
    if (record === undefined) return 0
    return Math.max(0, record.lockedUntil - this.#now())
  }

  /** Counts one presented wrong credential; answers as `lockedFor` does afterwards. */
  fail(key: string): Millis {
    const now = this.#now()
    const record = this.#touch(key, now)
    if (record.lockedUntil > now) return record.lockedUntil - now
    if (record.windowEndsAt <= now) {
      record.failures = 0
      record.windowEndsAt = now + this.#settings.windowMs
    }
    record.failures += 1
    if (record.failures < this.#settings.attempts) return 0
    const forMs = Math.min(this.#settings.lockoutMs * 2 ** record.locks, lockoutMsMax)
    record.failures = 0
    record.windowEndsAt = now
    record.lockedUntil = now + forMs
    record.locks = Math.min(record.locks + 1, 32)
    this.#onLocked?.(key, forMs)
    return forMs
  }

  /** The record of a key, made the most recently used; the least recently used leaves when there are too many. */
  #touch(key: string, now: number): Record {
    const known = this.#records.get(key)
    this.#records.delete(key)
    const quietSince = known === undefined ? 0 : Math.max(known.lockedUntil, known.windowEndsAt)
    const record =
      known !== undefined && now - quietSince < lockoutMsMax
        ? known
        : { failures: 0, windowEndsAt: 0, lockedUntil: 0, locks: 0 }
    this.#records.set(key, record)
    if (this.#records.size > this.#settings.addressesMax) {
      const oldest = this.#oldest.next()
      if (oldest.done !== true) this.#records.delete(oldest.value)
    }
    return record
  }
}
