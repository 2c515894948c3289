/** When checkpoints are due: after so many records, or so long after the first unsigned one. */
import type { Checkpoint } from '../crypto.ts'
import type { Millis } from '../limits.ts'
import type { Head } from './chain.ts'
import { CheckpointWriter } from './checkpoints.ts'

/** How a log is signed. */
export interface SigningOptions {
  readonly dir: string
  readonly keyFile: string
  readonly records: number
  readonly ms: Millis
  readonly timestamp: () => string
  readonly signed: (checkpoint: Checkpoint, jws: string) => void
  readonly failed: (thrown: unknown) => void
}

/**
 * Signs heads that are on the disk; a power cut must not leave a signature over a record that is
 * lost.
 */
export class Signing {
  readonly #options: SigningOptions
  readonly #writer: CheckpointWriter
  #head: Head | undefined
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #failing = false

  constructor(options: SigningOptions) {
    this.#options = options
    this.#writer = new CheckpointWriter(options.dir, options.keyFile)
  }

  /** This head is on the disk now. */
  onDisk(head: Head): void {
    this.#head = head
    const unsigned = head.seq - this.#writer.newest
    if (unsigned <= 0 || this.#running !== undefined) return
    // While signing fails the timer alone tries again.
    if (unsigned >= this.#options.records && !this.#failing) void this.sign()
    else if (this.#timer === undefined) {
      this.#timer = setTimeout(() => void this.sign(), this.#options.ms)
      this.#timer.unref()
    }
  }

  /**
   * Signs the newest head that is on the disk, if it is not signed yet. Never rejects: `failed` is
   * told.
   */
  async sign(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    while (this.#running !== undefined) await this.#running
    this.#running = this.#signNow()
    await this.#running
    this.#running = undefined
  }

  async #signNow(): Promise<void> {
    const head = this.#head
    if (head === undefined || head.seq <= this.#writer.newest) return
    const checkpoint = { seq: head.seq, hash: head.hash, time: this.#options.timestamp() }
    try {
      const jws = await this.#writer.add(checkpoint)
      this.#failing = false
      this.#options.signed(checkpoint, jws)
    } catch (thrown) {
      if (!this.#failing) this.#options.failed(thrown)
      this.#failing = true
    }
  }

  /** The records before `first` are gone: so go their checkpoints. */
  async prune(first: number): Promise<void> {
    try {
      await this.#writer.prune(first)
    } catch (thrown) {
      this.#options.failed(thrown)
    }
  }
}
