/** Request counters per key and minute; the one file that knows rate-limiter-flexible. */
import type MemoryStorageClass from 'rate-limiter-flexible/lib/component/MemoryStorage/MemoryStorage.js'
import { limits, seconds, type Millis } from '../limits.ts'

const { createRequire } = process.getBuiltinModule('node:module')

// An ES import would first compile Node's scanner of CommonJS exports.
const MemoryStorage = createRequire(import.meta.url)(
  'rate-limiter-flexible/lib/component/MemoryStorage/MemoryStorage.js',
) as typeof MemoryStorageClass

/** What a counter says after one more request. */
export interface Hit {
  /** More requests than the limit in this window. */
  readonly over: boolean
  /** Requests left in this window. */
  readonly left: number
  /** Until the window ends, ms. */
  readonly resetMs: Millis
}

/** Counts requests per key. A shared counter (Redis) answers with a promise, the embedded one at once. */
export interface Limiter {
  /** Requests allowed in a window. */
  readonly quota: number
  readonly windowMs: Millis
  hit(key: string): Hit | Promise<Hit>
}

/** How many requests a key may make in a minute, and how many keys are remembered. */
export interface LimiterSettings {
  readonly perMinute: number
  readonly keysMax?: number
}

/** A limiter that answers at once, so that the hot path makes no promise. */
export interface MemoryLimiter extends Limiter {
  hit(key: string): Hit
  /** Keys remembered now. */
  size(): number
}

/** The window of every counter. */
const windowMs = seconds(60)

/**
 * A limiter in the memory of this process: a fixed window from a key's first request on, the least recently used keys
 * forgotten beyond `keysMax`, so that a million distinct addresses cost no more than that (CWE-770).
 */
export function memoryLimiter(settings: LimiterSettings): MemoryLimiter {
  const { perMinute, keysMax = limits.addresses.default } = settings
  // The storage itself answers at once, where RateLimiterMemory wraps the same call into a promise per request.
  const counts = new MemoryStorage()
  const recent = new Map<string, true>()
  // It stands at the oldest: a new iterator would step over the gap of everyone who has left, each time.
  const ages = recent.keys()
  return {
    quota: perMinute,
    windowMs,
    size: () => recent.size,
    hit: (key) => {
      recent.delete(key)
      recent.set(key, true)
      if (recent.size > keysMax) {
        const oldest = ages.next()
        if (oldest.done !== true) {
          recent.delete(oldest.value)
          counts.delete(oldest.value)
        }
      }
      const count = counts.incrby(key, 1, windowMs / 1000)
      return {
        over: count.consumedPoints > perMinute,
        left: Math.max(0, perMinute - count.consumedPoints),
        // The library reads the wall clock: a clock set back must not make the window longer.
        resetMs: Math.min(count.msBeforeNext, windowMs),
      }
    },
  }
}
