/** Which deliveries were taken: a second one with the same key is a replay, or the service's own retry. */
import type { Seen, Told } from '../store/seen.ts'
import { placeKey, type Place } from './place.ts'

/** Deliveries by account and key. */
export class Deliveries {
  readonly #seen: Seen

  /** `seen` outlives the process, so that nothing can be replayed after a restart. */
  constructor(seen: Seen) {
    this.#seen = seen
  }

  /** Takes deliveries; `told` hears which were not taken before, by this process or another, once that is written. */
  take(place: Place, keys: readonly string[], told: Told): void {
    this.#seen.take(keysOf(place, keys), told)
  }

  /** Writes what waits now instead of at the end of this turn of the event loop. */
  write(): void {
    this.#seen.write()
  }

  /** Gives back deliveries that did not reach the agent, so that the service may deliver them again. */
  giveBack(place: Place, keys: readonly string[]): Promise<void> {
    return this.#seen.giveBack(keysOf(place, keys))
  }

  /** True for what is older than deliveries are known: it could be a replay that was forgotten. */
  isForgotten(at: number | undefined): boolean {
    return at !== undefined && at < this.#seen.knownSince()
  }
}

/** Neither part of a place has a line end in it. */
function keysOf(place: Place, keys: readonly string[]): readonly string[] {
  const before = `${placeKey(place)}\n`
  return keys.map((key) => before + key)
}
