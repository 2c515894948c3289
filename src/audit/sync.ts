/** Brings the log to the disk without anybody waiting on the event loop. */
import type { Millis } from '../limits.ts'

/** What the syncer needs from its owner. */
export interface SyncerOptions {
  /** How long written records may be only in the kernel. */
  readonly everyMs: Millis
  /** A sync that takes longer counts as failed until it ends. */
  readonly lagMs: Millis
  sync(done: (error: Error | null) => void): void
  /** A sync begins: what is written from here on is not covered by it. */
  started(): void
  succeeded(): void
  failed(error: Error): void
}

/** One sync at a time; what is written meanwhile is covered by the next (group commit). */
export class Syncer {
  readonly #options: SyncerOptions
  #running: Promise<void> | undefined
  #again = false
  #timer: NodeJS.Timeout | undefined

  constructor(options: SyncerOptions) {
    this.#options = options
  }

  /** Something was written: sync it within `everyMs`. */
  soon(): void {
    if (this.#timer !== undefined) return
    this.#timer = setTimeout(() => this.now(), this.#options.everyMs)
    this.#timer.unref()
  }

  /** Sync now, or as soon as the running one has ended. */
  now(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    if (this.#running !== undefined) {
      this.#again = true
      return
    }
    const { promise, resolve } = Promise.withResolvers<void>()
    this.#running = promise
    this.#options.started()
    const late = setTimeout(() => {
      const { lagMs } = this.#options
      this.#options.failed(new Error(`EAGAIN: the disk takes longer than ${lagMs} ms to sync`))
    }, this.#options.lagMs)
    late.unref()
    this.#options.sync((error) => {
      clearTimeout(late)
      this.#running = undefined
      resolve()
      if (error === null) this.#options.succeeded()
      else this.#options.failed(error)
      if (!this.#again) return
      this.#again = false
      this.now()
    })
  }

  /**
   * Resolves when no sync is running or wanted, at the latest after `lagMs`: a disk may never
   * answer.
   */
  async settled(): Promise<boolean> {
    clearTimeout(this.#timer)
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, this.#options.lagMs)
    await Promise.race([late, this.#ended()])
    clearTimeout(timer)
    return this.#running === undefined
  }

  async #ended(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }
}
