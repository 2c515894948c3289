/** How much a client may say: a bucket that holds one minute's worth and refills evenly. */
export class Bucket {
  readonly #perMinute: number
  #left: number
  #at: number

  constructor(perMinute: number, now: number) {
    this.#perMinute = perMinute
    this.#left = perMinute
    this.#at = now
  }

  /** Takes one at the time `now` (ms); false when there is none left. */
  take(now: number): boolean {
    const refill = (Math.max(0, now - this.#at) * this.#perMinute) / 60_000
    this.#left = Math.min(this.#perMinute, this.#left + refill)
    this.#at = Math.max(this.#at, now)
    if (this.#left < 1) return false
    this.#left -= 1
    return true
  }
}
