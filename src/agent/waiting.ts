/** Requests that wait for a starting agent, bounded in number and time. */

/** What a wait ends with. */
export type Waited = 'ready' | 'starting' | 'down'

/** The bounds, from `limits.heldRequests` and `limits.heldMs`. */
export interface WaitingBounds {
  readonly heldRequests: number
  readonly heldMs: number
}

/** A room with a fixed number of seats: who finds none, or sits too long, hears `starting`. */
export class WaitingRoom {
  readonly #bounds: WaitingBounds
  readonly #seats = new Set<(waited: Waited) => void>()

  constructor(bounds: WaitingBounds) {
    this.#bounds = bounds
  }

  /** Waits until `release`, or for the longest time allowed. */
  wait(): Promise<Waited> {
    if (this.#seats.size >= this.#bounds.heldRequests) return Promise.resolve('starting')
    return new Promise((resolve) => {
      const leave = (waited: Waited) => {
        clearTimeout(timer)
        this.#seats.delete(leave)
        resolve(waited)
      }
      const timer = setTimeout(leave, this.#bounds.heldMs, 'starting')
      this.#seats.add(leave)
    })
  }

  /** Ends every wait. */
  release(waited: Waited): void {
    for (const leave of this.#seats) leave(waited)
  }

  get size(): number {
    return this.#seats.size
  }
}
