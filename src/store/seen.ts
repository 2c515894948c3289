/**
 * Keys that were seen, for the refusal of replays: looked up in memory, and in the kernel before anybody hears that
 * they are new. Why it is no table with an index: docs/decisions/0014-deliveries-are-looked-up-in-memory.md.
 */
import { Buffer } from 'node:buffer'
import { hash } from 'node:crypto'
import type { DatabaseSync, StatementSync } from 'node:sqlite'

import { Failure, messageOf } from '../errors.ts'
import { limits, type Millis } from '../limits.ts'
import { Fingerprints, type Halves } from './fingerprints.ts'
import { openDatabase } from './sqlite.ts'

/** What the memory needs besides its file. */
export interface SeenSettings {
  /** Wall clock, ms since the epoch: the file outlives the process. */
  readonly now: () => number
  readonly random: (size: number) => Buffer
  /** How long a key is known at least. */
  readonly keepMs: Millis
  /** Keys that are known at once; beyond it the oldest are forgotten early. */
  readonly max?: number
  /** Told what is known from then on, ms since the epoch, each time that the oldest are forgotten early. */
  readonly onFull?: (since: number) => void
}

/** Told whether each key is new, in order; or the failure, after which none of them was taken. */
export type Told = (fresh: readonly boolean[], failure?: Failure) => void

/** Keys that were seen. */
export interface Seen {
  /** Takes keys; `told` is called once those that are new outlive the process. It must not throw. */
  take(keys: readonly string[], told: Told): void
  /** Forgets keys again; rejects with a Failure when that cannot be written. */
  giveBack(keys: readonly string[]): Promise<void>
  /** Writes what waits now instead of at the end of this turn of the event loop. */
  write(): void
  /** What was taken before this may be forgotten, ms since the epoch. */
  knownSince(): number
  /** Writes what waits and frees what is held. */
  close(): Promise<void>
}

/** Schema versions in order. The first, a table with an entry for each key, was never released. */
const migrations: readonly string[] = [
  '',
  // A row holds what one turn of the event loop took or gave back: added at the end, removed at the front.
  `DROP TABLE IF EXISTS entries;
   CREATE TABLE taken (
     id INTEGER PRIMARY KEY,
     at INTEGER NOT NULL,
     back INTEGER NOT NULL,
     keys BLOB NOT NULL
   ) STRICT;
   CREATE TABLE memory (salt TEXT NOT NULL, forgotten INTEGER NOT NULL) STRICT;`,
]

/** How many parts the time is cut into; the oldest part is forgotten as a whole. */
const partsOfTime = 6
/** Rows that one transaction removes at most, so that none takes long. */
const pruneRows = 500
const keyBytes = 8

/**
 * Opens (or makes, 0600) the file and reads what it holds; `:memory:` lives as long as the object. Fails as `openSqlite`
 * does. Several processes may share the file: each sees what the others took before.
 */
export function openSeen(path: string, settings: SeenSettings): Seen {
  const database = openDatabase(path, { migrations, survives: 'process' })
  try {
    return new SeenInMemory(database, path, settings)
  } catch (thrown) {
    database.close()
    throw failureOf(path, thrown)
  }
}

/** Keys of one part of the time. */
interface Part {
  /** When the part begins and when its newest key was taken, ms since the epoch. */
  readonly from: number
  until: number
  /** The first row of the part. */
  readonly row: number
  readonly prints: Fingerprints
}

interface Waiting {
  readonly prints: Halves
  readonly told: Told
}

class SeenInMemory implements Seen {
  readonly #database: DatabaseSync
  readonly #path: string
  readonly #settings: SeenSettings
  readonly #max: number
  readonly #sql: Readonly<
    Record<'begin' | 'commit' | 'rollback' | 'others' | 'add' | 'prune' | 'forget', StatementSync>
  >
  readonly #salt: string
  /** Oldest first. */
  readonly #parts: Part[] = []
  #waiting: Waiting[] = []
  /** The newest row that is in memory. */
  #row = 0
  /** Rows up to this one are removed from the file. */
  #pruned: number
  #forgottenBefore: number

  constructor(database: DatabaseSync, path: string, settings: SeenSettings) {
    this.#database = database
    this.#path = path
    this.#settings = settings
    this.#max = settings.max ?? limits.replayKeys.default
    this.#sql = {
      begin: database.prepare('BEGIN IMMEDIATE'),
      commit: database.prepare('COMMIT'),
      rollback: database.prepare('ROLLBACK'),
      others: database.prepare('SELECT id, at, back, keys FROM taken WHERE id > ? ORDER BY id'),
      add: database.prepare('INSERT INTO taken (at, back, keys) VALUES (?, ?, ?)'),
      prune: database.prepare('DELETE FROM taken WHERE id <= ?'),
      forget: database.prepare('UPDATE memory SET forgotten = ?'),
    }
    const { salt, forgotten } = this.#atomically(() => this.#readMemory())
    this.#salt = salt
    this.#forgottenBefore = forgotten
    const first = database.prepare('SELECT min(id) AS first FROM taken').get()?.['first']
    this.#pruned = typeof first === 'number' ? first - 1 : 0
    this.#readOthers()
  }

  take(keys: readonly string[], told: Told): void {
    this.#waiting.push({ prints: this.#printsOf(keys), told })
    if (this.#waiting.length === 1) setImmediate(() => this.write())
  }

  async giveBack(keys: readonly string[]): Promise<void> {
    const prints = this.#printsOf(keys)
    try {
      this.#atomically(() => {
        this.#readOthers()
        this.#add(prints, 1)
      })
    } catch (thrown) {
      throw failureOf(this.#path, thrown)
    }
    this.#forget(prints)
  }

  write(): void {
    const waiting = this.#waiting
    if (waiting.length === 0) return
    this.#waiting = []
    const taken: number[] = []
    let fresh: readonly (readonly boolean[])[]
    try {
      // All that waits shares a transaction: what a commit costs is the same for one and for many.
      fresh = this.#atomically(() => {
        this.#readOthers()
        this.#keepParts(this.#settings.now())
        const news = waiting.map(({ prints }) => this.#areNew(prints, taken))
        if (taken.length > 0) this.#add(taken, 0)
        return news
      })
    } catch (thrown) {
      this.#forget(taken)
      const failure = failureOf(this.#path, thrown)
      for (const { told } of waiting) told([], failure)
      return
    }
    for (const [i, { told }] of waiting.entries()) told(fresh[i] ?? [])
  }

  knownSince(): number {
    const { now, keepMs } = this.#settings
    return Math.max(this.#forgottenBefore, now() - keepMs)
  }

  async close(): Promise<void> {
    this.write()
    if (this.#database.isOpen) this.#database.close()
  }

  /** Salted, so that nobody can look for a key of theirs that stands in the way of another's. */
  #printsOf(keys: readonly string[]): Halves {
    const prints: number[] = []
    for (const key of keys) {
      const digits = hash('sha256', this.#salt + key)
      prints.push(parseInt(digits.slice(0, 8), 16), parseInt(digits.slice(8, 16), 16))
    }
    return prints
  }

  /** Each key sees those before it; the new ones go into memory and onto the list. */
  #areNew(prints: Halves, taken: number[]): readonly boolean[] {
    const news: boolean[] = []
    for (let i = 0; i < prints.length; i += 2) {
      const low = prints[i] ?? 0
      const high = prints[i + 1] ?? 0
      const isNew = !this.#parts.some((part) => part.prints.has(low, high))
      news.push(isNew)
      if (!isNew) continue
      this.#parts.at(-1)?.prints.add(low, high)
      taken.push(low, high)
    }
    return news
  }

  #forget(prints: Halves): void {
    for (let i = 0; i < prints.length; i += 2) {
      for (const part of this.#parts) part.prints.delete(prints[i] ?? 0, prints[i + 1] ?? 0)
    }
  }

  #add(prints: Halves, back: 0 | 1): void {
    const keys = Buffer.allocUnsafe(prints.length * 4)
    for (const [i, half] of prints.entries()) keys.writeUInt32LE(half, i * 4)
    const at = this.#settings.now()
    this.#row = Number(this.#sql.add.run(at, back, keys).lastInsertRowid)
    const newest = this.#parts.at(-1)
    if (newest !== undefined) newest.until = Math.max(newest.until, at)
    // The newest row stays, so that no id is used twice.
    const gone = Math.min((this.#parts[0]?.row ?? 1) - 1, this.#row - 1)
    const end = Math.min(gone, this.#pruned + pruneRows)
    if (end <= this.#pruned) return
    this.#sql.prune.run(end)
    this.#pruned = end
  }

  /** Takes up rows that are not in memory: at the start all of them, later those of other processes. */
  #readOthers(): void {
    for (const { id, at, back, keys } of this.#sql.others.iterate(this.#row)) {
      if (typeof id !== 'number' || typeof at !== 'number' || !(keys instanceof Uint8Array)) {
        throw new TypeError('a row of the deliveries has an unexpected shape')
      }
      this.#keepParts(at)
      this.#row = id
      const newest = this.#parts.at(-1)
      if (newest !== undefined) newest.until = Math.max(newest.until, at)
      const bytes = Buffer.from(keys.buffer, keys.byteOffset, keys.byteLength)
      for (let i = 0; i + keyBytes <= bytes.length; i += keyBytes) {
        const low = bytes.readUInt32LE(i)
        const high = bytes.readUInt32LE(i + 4)
        if (back === 1) this.#forget([low, high])
        else newest?.prints.add(low, high)
      }
    }
  }

  /** Begins the next part when the newest is old or full, and then forgets the oldest that are too old or too much. */
  #keepParts(at: number): void {
    const { keepMs, now, onFull } = this.#settings
    const newest = this.#parts.at(-1)
    const isFull = newest !== undefined && newest.prints.size >= this.#max / partsOfTime
    if (newest !== undefined && !isFull && at - newest.from < keepMs / partsOfTime) return
    // A clock that was set back must not make a part look older than the one before it.
    const from = Math.max(at, newest?.from ?? at)
    this.#parts.push({ from, until: from, row: this.#row + 1, prints: new Fingerprints() })
    for (let oldest = this.#parts[0]; oldest !== undefined; oldest = this.#parts[0]) {
      const isOld = oldest.until <= now() - keepMs
      const held = this.#parts.reduce((sum, { prints }) => sum + prints.size, 0)
      if ((!isOld && held <= this.#max - this.#max / partsOfTime) || this.#parts.length === 1) break
      this.#parts.shift()
      if (isOld) continue
      this.#forgottenBefore = Math.max(this.#forgottenBefore, oldest.until + 1)
      this.#sql.forget.run(this.#forgottenBefore)
      onFull?.(this.#forgottenBefore)
    }
  }

  #readMemory(): { readonly salt: string; readonly forgotten: number } {
    const memory = this.#database.prepare('SELECT salt, forgotten FROM memory').get()
    if (typeof memory?.['salt'] === 'string') {
      return { salt: memory['salt'], forgotten: Number(memory['forgotten']) }
    }
    const made = { salt: this.#settings.random(16).toString('hex'), forgotten: 0 }
    this.#database.prepare('INSERT INTO memory VALUES (?, ?)').run(made.salt, made.forgotten)
    return made
  }

  #atomically<T>(work: () => T): T {
    const row = this.#row
    this.#sql.begin.run()
    try {
      const result = work()
      this.#sql.commit.run()
      return result
    } catch (thrown) {
      if (this.#database.isTransaction) this.#sql.rollback.run()
      // An id that was rolled back may become that of a row of another process.
      this.#row = row
      throw thrown
    }
  }
}

function failureOf(path: string, thrown: unknown): Failure {
  if (thrown instanceof Failure) return thrown
  return new Failure(
    'STORE_FAILED',
    `${path}: ${messageOf(thrown)}. Check free space and the modes of the directory.`,
    { cause: thrown },
  )
}
