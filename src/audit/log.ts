/**
 * The audit log: decisions become records of a hash chain before they take effect. The write path
 * is explained in docs/decisions/0003-audit-write-path.md.
 */
import type { Checkpoint } from '../crypto.ts'
import { codeOf, Failure } from '../errors.ts'
import { ensureDir } from '../files.ts'
import { limits, minutes, seconds, type Bytes, type Millis } from '../limits.ts'
import type { Head } from './chain.ts'
import { defaultKeyFile } from './checkpoints.ts'
import { auditFs, lockFolder, reasonOf, unwritable, type AuditFs } from './files.ts'
import type { AuditEntry, AuditSink } from './record.ts'
import { takeUp } from './recover.ts'
import { Signing } from './signing.ts'
import { Syncer } from './sync.ts'
import { ChainWriter, type Item } from './writer.ts'

/** How a log is opened. */
export interface AuditOptions {
  /** The folder of the log; made (0700) when it is missing. */
  readonly dir: string
  /** `batch`: a record counts once it is in the kernel; `always`: once it is on the disk. */
  readonly sync: 'batch' | 'always'
  readonly rotateBytes: Bytes
  readonly keepFiles: number
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Hash of the configuration that judges now, for every record that names none. */
  readonly configHash?: () => string
  /** Told why nothing can be written, and undefined when it can again. */
  readonly onState?: (failing: string | undefined) => void
  /** Given every signed checkpoint, to keep it where this machine cannot change it. */
  readonly onCheckpoint?: (checkpoint: Checkpoint, jws: string) => void
  /** The key that signs checkpoints, made at first use; `../keys/audit.key` unless named. */
  readonly keyFile?: string
  /** For tests: the file operations, and what is otherwise fixed. */
  readonly fs?: AuditFs
  readonly queueRecords?: number
  readonly syncEveryMs?: Millis
  readonly syncLagMs?: Millis
  readonly retryMs?: Millis
  readonly checkpointRecords?: number
  readonly checkpointMs?: Millis
}

/** An open log. */
export interface AuditLog extends AuditSink {
  /** Resolves once everything appended so far is on the disk; rejects when that fails. */
  flush(): Promise<void>
  /**
   * Writes, syncs and signs what there is, and gives the folder back. Rejects when records were
   * lost.
   */
  close(): Promise<void>
  /** The newest record that is in the kernel. */
  head(): Head
}

/** Opens the log for writing. Throws Failure: in use, not ours, not writable. */
export function openAudit(options: AuditOptions): AuditLog {
  ensureDir(options.dir)
  let unlock: () => void
  try {
    unlock = lockFolder(options.dir)
  } catch (thrown) {
    throw thrown instanceof Failure ? thrown : unwritable(options.dir, thrown)
  }
  try {
    return new Log(options, unlock)
  } catch (thrown) {
    unlock()
    throw thrown instanceof Failure ? thrown : unwritable(options.dir, thrown)
  }
}

const againMs = 50

/** As `openAudit`, but a short command that writes just now is waited for, at most `waitMs`; then AUDIT_IN_USE is thrown. */
export async function openAuditSoon(options: AuditOptions, waitMs: Millis): Promise<AuditLog> {
  for (let left: number = waitMs; ; left -= againMs) {
    try {
      return openAudit(options)
    } catch (thrown) {
      if (codeOf(thrown) !== 'AUDIT_IN_USE' || left <= 0) throw thrown
      await new Promise((resolve) => setTimeout(resolve, againMs))
    }
  }
}

/** Somebody who waits for the disk. */
interface Waiting {
  readonly written: ((failure?: Error) => void) | undefined
  /** How many records it stands for: `flush` waits too, for none of its own. */
  readonly records: 0 | 1
}

class Log implements AuditLog {
  readonly #options: AuditOptions
  readonly #unlock: () => void
  readonly #writer: ChainWriter
  readonly #syncer: Syncer
  readonly #signing: Signing
  readonly #queueRecords: number
  /** Appended, not yet written. */
  #queue: Item[] = []
  /** Written; the first `#covered` of them are covered by the running sync. */
  #waiting: Waiting[] = []
  #covered = 0
  #scheduled = false
  #closed = false
  /** Records of our own that come before all others, until they are written. */
  #owed: AuditEntry[]
  /** Records that could not be written since the last one that could, and why. */
  #lost = 0
  #lostBecause = ''
  #writeFailure: Failure | undefined
  #syncFailure: Failure | undefined
  #reported: string | undefined
  #retryTimer: NodeJS.Timeout | undefined
  /** The head that the running sync brings to the disk. */
  #syncing: Head

  constructor(options: AuditOptions, unlock: () => void) {
    this.#options = options
    this.#unlock = unlock
    const io = options.fs ?? auditFs
    const from = takeUp(options.dir, io)
    this.#owed = [...from.notes]
    this.#writer = new ChainWriter(from, io, options)
    this.#syncing = this.#writer.head
    this.#queueRecords = options.queueRecords ?? limits.auditQueueRecords.default
    this.#syncer = new Syncer({
      everyMs: options.syncEveryMs ?? 50,
      lagMs: options.syncLagMs ?? seconds(5),
      sync: (done) => this.#writer.sync(done),
      started: () => {
        this.#covered = this.#waiting.length
        this.#syncing = this.#writer.head
      },
      succeeded: () => this.#onDisk(),
      failed: (error) => this.#notOnDisk(error),
    })
    this.#signing = new Signing({
      dir: options.dir,
      keyFile: options.keyFile ?? defaultKeyFile(options.dir),
      records: options.checkpointRecords ?? 1000,
      ms: options.checkpointMs ?? minutes(1),
      timestamp: () => this.#timestamp(),
      signed: (checkpoint, jws) => options.onCheckpoint?.(checkpoint, jws),
      failed: (thrown) =>
        this.append({ event: 'audit.checkpoint-failed', because: reasonOf(thrown) }),
    })
    if (this.#owed.length > 0) this.#schedule()
  }

  get failing(): string | undefined {
    return (this.#writeFailure ?? this.#syncFailure)?.message
  }

  head(): Head {
    return this.#writer.head
  }

  append(entry: AuditEntry, written?: (failure?: Error) => void): void {
    if (!this.#closed && this.#queue.length + this.#waiting.length < this.#queueRecords) {
      this.#queue.push({ entry, written })
      this.#schedule()
      return
    }
    const because = this.#closed ? 'the log is closed' : 'too many records waited to be written'
    if (written !== undefined) queueMicrotask(() => written(new Failure('AUDIT_QUEUE', because)))
    if (this.#closed) return
    this.#lost += 1
    if (this.#lostBecause === '') this.#lostBecause = because
    this.#schedule()
  }

  async flush(): Promise<void> {
    this.#schedule()
    // Immediates run in the order in which they were asked for: after this the write has been made.
    await new Promise((resolve) => setImmediate(resolve))
    const failure = this.#writeFailure ?? this.#syncFailure
    if (failure !== undefined) throw failure
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const written = (failed?: Error): void => (failed === undefined ? resolve() : reject(failed))
    this.#waiting.push({ written, records: 0 })
    this.#syncer.now()
    await promise
  }

  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    try {
      await this.flush()
      await this.#signing.sign()
    } finally {
      clearTimeout(this.#retryTimer)
      // A descriptor that a stuck disk still holds is left to the end of the process.
      if (await this.#syncer.settled()) this.#writer.close()
      this.#unlock()
    }
  }

  /** One write for all that one turn of the event loop appends. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      this.#write()
      this.#report()
    })
  }

  #write(): void {
    const items = this.#queue
    this.#queue = []
    if (this.#syncFailure !== undefined) {
      this.#lose(items, this.#syncFailure)
      this.#syncer.now()
      return
    }
    const time = this.#timestamp()
    const own = this.#ownItems()
    const all = own.length === 0 ? items : [...own, ...items]
    let next = 0
    let resumed = false
    try {
      do {
        const start = next
        next = this.#writer.write(all, start, time)
        // Once, before anybody is told: what is lost in answer to that belongs to the next gap.
        if (!resumed && next >= own.length) {
          this.#resume()
          resumed = true
        }
        this.#inKernel(all.slice(Math.max(start, own.length), next))
      } while (next < all.length)
    } catch (thrown) {
      this.#lostBecause = reasonOf(thrown)
      this.#writeFailure = unwritable(this.#options.dir, thrown)
      this.#lose(all.slice(Math.max(next, own.length)), this.#writeFailure)
      this.#tryLater()
    }
    if (this.#writer.head.seq === this.#syncing.seq) return
    if (this.#waiting.length > 0) this.#syncer.now()
    else this.#syncer.soon()
  }

  /** What happened before the records of this turn stands before them. */
  #ownItems(): Item[] {
    if (this.#owed.length === 0 && this.#lostBecause === '') return []
    const gap = { event: 'audit.recovered', count: this.#lost, because: this.#lostBecause }
    const entries = this.#lostBecause === '' ? this.#owed : [...this.#owed, gap]
    return entries.map((entry) => ({ entry, written: undefined }))
  }

  #resume(): void {
    if (this.#owed.length > 0) this.#owed = []
    this.#lost = 0
    this.#lostBecause = ''
    this.#writeFailure = undefined
  }

  #inKernel(items: readonly Item[]): void {
    for (const { written, unfit } of items) {
      if (unfit !== undefined || this.#options.sync === 'batch') tell(written, unfit)
      else this.#waiting.push({ written, records: 1 })
    }
  }

  #lose(items: readonly Item[], failure: Failure): void {
    this.#lost += items.length
    for (const { written } of items) tell(written, failure)
  }

  #onDisk(): void {
    const head = this.#syncing
    const done = this.#waiting.splice(0, this.#covered)
    this.#covered = 0
    if (this.#syncFailure !== undefined) {
      this.#syncFailure = undefined
      this.#schedule()
    }
    for (const { written } of done) tell(written, undefined)
    if (this.#waiting.length > 0) this.#syncer.now()
    else if (this.#writer.head.seq !== head.seq) this.#syncer.soon()
    this.#keepHouse()
    this.#signing.onDisk(head)
    this.#report()
  }

  /** Removes what rotation no longer keeps, and looks whether the file is still ours. */
  #keepHouse(): void {
    try {
      if (this.#writer.prune()) void this.#signing.prune(this.#writer.first)
    } catch (thrown) {
      this.append({ event: 'audit.prune-failed', because: reasonOf(thrown) })
    }
    if (this.#writer.changedByOthers()) this.#schedule()
  }

  #notOnDisk(error: Error): void {
    this.#lostBecause = reasonOf(error)
    this.#syncFailure = unwritable(this.#options.dir, error)
    this.#covered = 0
    for (const { written, records } of this.#waiting.splice(0)) {
      this.#lost += records
      tell(written, this.#syncFailure)
    }
    this.#tryLater()
    this.#report()
  }

  /** The log recovers by itself, even if nobody asks it to write. */
  #tryLater(): void {
    clearTimeout(this.#retryTimer)
    this.#retryTimer = setTimeout(() => this.#schedule(), this.#options.retryMs ?? seconds(1))
    this.#retryTimer.unref()
  }

  #report(): void {
    const { failing } = this
    if (failing === this.#reported) return
    this.#reported = failing
    this.#options.onState?.(failing)
  }

  #timestamp(): string {
    return new Date(this.#options.now()).toISOString()
  }
}

/** A caller that throws must not keep the next one from being told. */
function tell(written: ((failure?: Error) => void) | undefined, failure: Error | undefined): void {
  if (written === undefined) return
  try {
    written(failure)
  } catch (thrown) {
    queueMicrotask(() => {
      throw thrown
    })
  }
}
