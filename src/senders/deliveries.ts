/** Which deliveries were taken: a second one with the same key is a replay, or the service's own retry. */
import { hash } from 'node:crypto'
import type { Millis } from '../limits.ts'
import { absent, type Store } from '../store/store.ts'
import { placeKey, type Place } from './place.ts'

/** What the memory of deliveries needs from outside. */
export interface DeliveriesDeps {
  /** Outlives the process, so that nothing can be replayed after a restart. */
  readonly store: Store
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** How long a delivery is known. */
  readonly keepMs: Millis
}

/** Deliveries by account and key. Every method rejects when the store fails, which is a no. */
export class Deliveries {
  readonly #deps: DeliveriesDeps

  constructor(deps: DeliveriesDeps) {
    this.#deps = deps
  }

  /** Takes a delivery: `false` when it was taken before, by this process or another. */
  take(place: Place, key: string): Promise<boolean> {
    const { store, now, keepMs } = this.#deps
    const expiresAt = now() + keepMs
    return store.compareAndSwap(keyOf(place, key), absent, '1', { expiresAt })
  }

  /** Gives a delivery back that did not reach the agent, so that the service may deliver it again. */
  async giveBack(place: Place, key: string): Promise<void> {
    await this.#deps.store.remove(keyOf(place, key))
  }

  /** True for what is older than deliveries are known: it could be a replay that was forgotten. */
  isForgotten(at: number | undefined): boolean {
    return at !== undefined && this.#deps.now() - at > this.#deps.keepMs
  }
}

const keyOf = (place: Place, key: string) =>
  `delivery/${placeKey(place)}/${hash('sha256', key).slice(0, 40)}`
