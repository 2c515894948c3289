/** The embedded store: one SQLite file in WAL mode, shared by the server and the command line. */
import type { DatabaseSync, StatementSync } from 'node:sqlite'
import { codeOf, Failure, messageOf } from '../errors.ts'
import { minutes, type Millis } from '../limits.ts'
import { absent, isKey, type Entry, type PutOptions, type Store, type Write } from './store.ts'

const { closeSync, constants, fchmodSync, fstatSync, openSync, statSync } =
  process.getBuiltinModule('node:fs')
const { dirname } = process.getBuiltinModule('node:path')
const { DatabaseSync: Database } = process.getBuiltinModule('node:sqlite')

/** What the store needs besides its file. */
export interface SqliteSettings {
  /** Wall clock, ms since the epoch: expiry is kept in it because it outlives the process. */
  readonly now: () => number
  /** How often a watch looks for writes of others; well under the promised second. */
  readonly watchEveryMs?: Millis
}

/** Schema versions in order; `PRAGMA user_version` counts how many of them a file has seen. */
const migrations: readonly string[] = [
  `CREATE TABLE entries (
     version INTEGER PRIMARY KEY AUTOINCREMENT,
     key TEXT NOT NULL UNIQUE,
     value TEXT NOT NULL,
     expires INTEGER
   ) STRICT;
   CREATE INDEX entries_expires ON entries (expires) WHERE expires IS NOT NULL;`,
]

/** How long a write waits for the write of another process. The event loop waits with it, so: short. */
const busyMs = 1000
const purgeEveryMs = minutes(1)
const valueCharsMax = 1024 * 1024

/**
 * Opens (or makes, 0600) the state file; `:memory:` lives as long as the object. Fails with STORE_UNSAFE for a link, a
 * foreign owner or a shared directory, STORE_NEWER for a file of a newer version, STORE_FULL,
 * STORE_READ_ONLY, STORE_DISK or STORE_BUSY where the file cannot be written now, STORE_BROKEN for anything else.
 */
export function openSqlite(path: string, settings: SqliteSettings): Store {
  const database = openDatabase(path, { migrations, survives: 'machine' })
  return new SqliteStore(database, path, settings)
}

/** What a file of ours is. */
export interface FileSettings {
  /** Schema versions in order. */
  readonly migrations: readonly string[]
  /**
   * What a finished write outlives: a power cut, which costs a sync of the disk each, or the end of the process only.
   */
  readonly survives: 'machine' | 'process'
}

/** Opens a file of ours and brings its schema up to date. Fails as `openSqlite` does. */
export function openDatabase(path: string, { migrations, survives }: FileSettings): DatabaseSync {
  if (path !== ':memory:') secureFile(path)
  let database: DatabaseSync | undefined
  try {
    database = new Database(path, { timeout: busyMs })
    // FULL: a revocation that was reported must survive a power cut. Writes of that kind are rare.
    const synchronous = survives === 'process' ? 'NORMAL' : 'FULL'
    database.exec(
      `PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA trusted_schema = 0`,
    )
    migrate(database, path, migrations)
    return database
  } catch (thrown) {
    if (database?.isOpen === true) database.close()
    if (thrown instanceof Failure) throw thrown
    const [code, remedy] = remedies.get(resultOf(thrown)) ?? broken
    throw new Failure(code, `${path}: ${messageOf(thrown)}. ${remedy}`, { cause: thrown })
  }
}

/** A code of a Failure, and what to do about it. */
type Remedy = readonly [code: string, remedy: string]

const broken: Remedy = [
  'STORE_BROKEN',
  'Restore a backup, or move the file away to begin with an empty state.',
]

const full: Remedy = ['STORE_FULL', 'Free space on its disk; what the file holds is kept.']
const readOnly: Remedy = ['STORE_READ_ONLY', 'Make its folder and its disk writable.']

/** What to do about a result of SQLite (sqlite.org/rescode.html) that says nothing about the content of the file. */
const remedies: ReadonlyMap<number, Remedy> = new Map([
  [5, ['STORE_BUSY', 'Another process holds it: try again.']],
  [8, readOnly],
  [
    10,
    [
      'STORE_DISK',
      'Free space on its disk, or look whether the disk fails; the file may be sound.',
    ],
  ],
  [13, full],
  [14, readOnly],
])

/** The same for what the kernel says when the file is opened. */
const refusals: Readonly<Record<string, Remedy>> = {
  EROFS: readOnly,
  ENOSPC: full,
  EDQUOT: full,
}

/** The primary result code of an error of SQLite; 0 for anything else. */
function resultOf(thrown: unknown): number {
  if (!(thrown instanceof Error) || !('errcode' in thrown)) return 0
  // The bits above are details of the same result.
  return typeof thrown.errcode === 'number' ? thrown.errcode & 0xff : 0
}

/** Makes the file or checks it: regular, ours, one link, no bits for others (mended), in a directory of ours. */
function secureFile(path: string): void {
  const uid = process.getuid?.()
  const unsafe = (why: string) => new Failure('STORE_UNSAFE', `${path}: ${why}`)
  let file: number
  try {
    const folder = statSync(dirname(path))
    if ((folder.mode & 0o022) !== 0) {
      throw unsafe('its directory is writable by others. Run "chmod 700" on the directory.')
    }
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW | constants.O_NONBLOCK
    file = openSync(path, flags, 0o600)
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    if (codeOf(thrown) === 'ELOOP') throw unsafe('is a symbolic link. Put the file itself there.')
    const [code, remedy] = refusals[codeOf(thrown)] ?? []
    if (code !== undefined) throw new Failure(code, `${path}: ${messageOf(thrown)}. ${remedy}`)
    throw unsafe(`${messageOf(thrown)}. Make the directory with mode 0700.`)
  }
  try {
    const stat = fstatSync(file)
    if (!stat.isFile()) throw unsafe('is not a regular file. Move it away.')
    if (stat.nlink !== 1) throw unsafe('has more than one link. Remove the others.')
    if (uid !== undefined && stat.uid !== uid) {
      throw unsafe('belongs to another user. Run as its owner.')
    }
    if ((stat.mode & 0o077) !== 0) fchmodSync(file, 0o600)
  } finally {
    closeSync(file)
  }
}

function migrate(database: DatabaseSync, path: string, migrations: readonly string[]): void {
  database.exec('BEGIN IMMEDIATE')
  try {
    const seen = Number(database.prepare('PRAGMA user_version').get()?.['user_version'] ?? 0)
    if (seen > migrations.length) {
      throw new Failure(
        'STORE_NEWER',
        `${path}: was written by a newer version (schema ${seen}, known ${migrations.length}). Update Hardshell.`,
      )
    }
    for (const step of migrations.slice(seen)) database.exec(step)
    if (seen < migrations.length) database.exec(`PRAGMA user_version = ${migrations.length}`)
    database.exec('COMMIT')
  } catch (thrown) {
    // A full disk ends the transaction by itself; a second end would hide the reason.
    if (database.isTransaction) database.exec('ROLLBACK')
    throw thrown
  }
}

/** No data_version is negative. */
const unreadable = -1

const columns = 'key, value, version, expires'

class SqliteStore implements Store {
  readonly #database: DatabaseSync
  readonly #path: string
  readonly #now: () => number
  readonly #watchEveryMs: Millis
  readonly #stops = new Set<() => void>()
  readonly #sql: Readonly<
    Record<'get' | 'put' | 'delete' | 'list' | 'purge' | 'dataVersion', StatementSync>
  >
  #purgeAt = 0

  constructor(database: DatabaseSync, path: string, settings: SqliteSettings) {
    this.#database = database
    this.#path = path
    this.#now = settings.now
    this.#watchEveryMs = settings.watchEveryMs ?? 250
    const live = '(expires IS NULL OR expires > ?)'
    this.#sql = {
      get: database.prepare(`SELECT ${columns} FROM entries WHERE key = ? AND ${live}`),
      // A replaced row gets the next number of AUTOINCREMENT, which is never used twice.
      put: database.prepare(
        'INSERT OR REPLACE INTO entries (key, value, expires) VALUES (?, ?, ?)',
      ),
      delete: database.prepare(`DELETE FROM entries WHERE key = ? RETURNING ${columns}`),
      list: database.prepare(
        `SELECT ${columns} FROM entries WHERE key >= ? AND key < ? AND ${live} ORDER BY key`,
      ),
      purge: database.prepare('DELETE FROM entries WHERE expires <= ?'),
      dataVersion: database.prepare('PRAGMA data_version'),
    }
  }

  get(key: string): Promise<Entry | undefined> {
    return this.#run(() => this.#read(key))
  }

  put(key: string, value: string, options: PutOptions = {}): Promise<void> {
    return this.#run(() => this.#write({ key, value, ...options }))
  }

  putAll(writes: readonly Write[]): Promise<void> {
    return this.#run(() =>
      this.#atomically(() => {
        for (const write of writes) this.#write(write)
      }),
    )
  }

  compareAndSwap(
    key: string,
    version: number,
    value: string,
    options: PutOptions = {},
  ): Promise<boolean> {
    return this.#run(() =>
      this.#atomically(() => {
        if ((this.#read(key)?.version ?? absent) !== version) return false
        this.#write({ key, value, ...options })
        return true
      }),
    )
  }
  take(key: string): Promise<Entry | undefined> {
    return this.#run(() => {
      const entry = entryOf(this.#sql.delete.get(key))
      return entry !== undefined && (entry.expiresAt ?? Infinity) > this.#now() ? entry : undefined
    })
  }

  async remove(key: string): Promise<boolean> {
    return (await this.take(key)) !== undefined
  }

  list(prefix: string): Promise<readonly Entry[]> {
    return this.#run(() =>
      // Keys are ASCII, so that DEL ends the range of a prefix.
      this.#sql.list.all(prefix, `${prefix}\x7f`, this.#now()).flatMap((row) => entryOf(row) ?? []),
    )
  }

  watch(changed: () => void): () => void {
    let seen = this.#dataVersion()
    const look = () => {
      const version = this.#dataVersion()
      // An unreadable file is news as well: who reads again will learn why.
      if (version === seen && version !== unreadable) return
      seen = version
      changed()
    }
    const timer = setInterval(look, this.#watchEveryMs).unref()
    const stop = () => {
      clearInterval(timer)
      this.#stops.delete(stop)
    }
    this.#stops.add(stop)
    return stop
  }

  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    if (this.#database.isOpen) this.#database.close()
  }

  /** Counts the writes of other connections; our own do not change it. */
  #dataVersion(): number {
    try {
      return Number(this.#sql.dataVersion.get()?.['data_version'] ?? unreadable)
    } catch {
      return unreadable
    }
  }

  #read(key: string): Entry | undefined {
    return entryOf(this.#sql.get.get(key, this.#now()))
  }

  #write({ key, value, expiresAt }: Write): void {
    if (!isKey(key)) throw new Failure('STORE_KEY', 'A key of the state is not visible ASCII.')
    if (value.length > valueCharsMax) {
      throw new Failure('STORE_VALUE', `The value of ${key} is larger than 1 MiB.`)
    }
    const now = this.#now()
    if (now >= this.#purgeAt) {
      this.#purgeAt = now + purgeEveryMs
      this.#sql.purge.run(now)
    }
    this.#sql.put.run(key, value, expiresAt ?? null)
  }

  #atomically<T>(work: () => T): T {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      const result = work()
      this.#database.exec('COMMIT')
      return result
    } catch (thrown) {
      if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
      throw thrown
    }
  }

  async #run<T>(work: () => T): Promise<T> {
    try {
      return work()
    } catch (thrown) {
      if (thrown instanceof Failure) throw thrown
      throw new Failure(
        'STORE_FAILED',
        `${this.#path}: ${messageOf(thrown)}. Check free space and the modes of the directory.`,
        { cause: thrown },
      )
    }
  }
}

function entryOf(row: Readonly<Record<string, unknown>> | undefined): Entry | undefined {
  if (row === undefined) return undefined
  const { key, value, version, expires } = row
  if (typeof key !== 'string' || typeof value !== 'string' || typeof version !== 'number') {
    throw new TypeError('a row of the state has an unexpected shape')
  }
  return typeof expires === 'number'
    ? { key, value, version, expiresAt: expires }
    : { key, value, version }
}
