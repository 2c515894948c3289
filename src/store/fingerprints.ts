/** A set of 64-bit numbers in flat memory: 11 to 22 bytes each where a Set of texts takes about 70, and nothing for V8 to visit. */

/** Lower and upper half of each number, one after the other; every bit of them is used, so they must be hashes. */
export type Halves = readonly number[] | Uint32Array

/** No number: an empty place. */
const none = 0
/** A removed number: (removed, 0). */
const removed = 1
const smallest = 64

/** Open addressing with linear steps; grows when three quarters of the places were used. */
export class Fingerprints {
  #places = new Uint32Array(smallest * 2)
  #used = 0
  #size = 0

  get size(): number {
    return this.#size
  }

  has(low: number, high: number): boolean {
    return this.#find(low, marked(high)) >= 0
  }

  /** `true` when it was not there; it is there now. */
  add(low: number, high: number): boolean {
    const upper = marked(high)
    if (this.#find(low, upper) >= 0) return false
    if ((this.#used + 1) * 4 > this.#places.length * 1.5) this.#grow()
    this.#put(low, upper)
    return true
  }

  /** `true` when it was there. */
  delete(low: number, high: number): boolean {
    const at = this.#find(low, marked(high))
    if (at < 0) return false
    this.#places[at] = removed
    this.#places[at + 1] = none
    this.#size -= 1
    return true
  }

  /** Where it stands; -1 for nowhere. */
  #find(low: number, upper: number): number {
    const places = this.#places
    const last = places.length - 1
    for (let at = (low * 2) & last; ; at = (at + 2) & last) {
      const there = places[at + 1]
      if (there === upper && places[at] === low) return at
      if (there === none && places[at] === none) return -1
    }
  }

  #put(low: number, upper: number): void {
    const places = this.#places
    const last = places.length - 1
    let at = (low * 2) & last
    while (places[at + 1] !== none || places[at] !== none) at = (at + 2) & last
    places[at] = low
    places[at + 1] = upper
    this.#used += 1
    this.#size += 1
  }

  /** Twice as many places, or as many again when most of the used ones hold what was removed. */
  #grow(): void {
    const old = this.#places
    this.#places = new Uint32Array(this.#size * 4 > old.length ? old.length * 2 : old.length)
    this.#used = 0
    this.#size = 0
    for (let i = 0; i < old.length; i += 2) {
      const upper = old[i + 1] ?? none
      if (upper !== none) this.#put(old[i] ?? 0, upper)
    }
  }
}

/** An upper half that is never zero tells a number from an empty or removed place. */
const marked = (high: number) => (high === none ? 1 : high)
