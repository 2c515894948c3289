/** Sessions: what a right password gives, so that its hash is not paid for on every request. */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

import { Failure, messageOf } from '../errors.ts'
import type { Identity } from '../gates/gate.ts'
import { limits, minutes } from '../limits.ts'
import type { Entry, Store } from '../store/store.ts'
import type { Proof } from './proof.ts'

/** `browser`: a cookie, ends when idle. `client`: a bearer token with a short life. */
export type SessionKind = 'browser' | 'client'

/** Why a session is over. */
export type SessionEnd = 'logout' | 'revoked' | 'expired' | 'replaced'

/** What happened to a session, for the audit log and for what lives by it. */
export interface SessionEvent {
  readonly event: 'session.created' | `session.${SessionEnd}`
  /** `session:<id>`; the name of the identity in the audit log too. */
  readonly identityId: string
}

/** What is stored of a session: everything but its secret. Times in ms since the epoch. */
interface SessionRecord {
  readonly id: string
  readonly kind: SessionKind
  /** SHA-256 of the secret in base64. */
  readonly digest: string
  /** Which password it was made with. */
  readonly password: string
  readonly createdAt: number
  readonly expiresAt: number
}

interface Known {
  readonly record: SessionRecord
  readonly bytes: Buffer
  /** The answer for a good session, made once. */
  readonly proof: Proof
  usedAt: number
  storedUsedAt: number
}

/** What the book needs from outside. */
export interface SessionBookDeps {
  readonly store: Store
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** `Password.generation`: sessions of another password are over. */
  readonly password: string
  /** True while something of the identity is open: an open WebSocket keeps its session from being idle. */
  readonly isLive?: (identityId: string) => boolean
  readonly random?: (count: number) => Uint8Array
  /** Hears of what went wrong without anybody to tell. */
  readonly onTrouble?: (failure: Failure) => void
  readonly sessionsMax?: number
}

/** A session just made: the only place where its secret ever stands. */
export interface SessionMade {
  readonly secret: string
  readonly identity: Identity
  /** ms since the epoch. */
  readonly expiresAt: number
}

const recordPrefix = 'session/'
/** Apart from the record, so that a use never races with a logout. */
const usedPrefix = 'session-used/'
const identityPrefix = 'session:'
/** 256 random bits. Recognisable, so that it is found in a URL or by a scanner. */
const secretForm = /^hss_[A-Za-z0-9_-]{43}$/

/** Ended sessions must close their sockets within a second. */
const tickMs = 500
const flushMs = minutes(1)

/** True for a text of the shape of a session's secret. */
export function isSessionSecret(text: string): boolean {
  return secretForm.test(text)
}

/**
 * The sessions of one password. Look-ups are synchronous; a change is in the store before it is in memory; changes by
 * other processes are seen within a second. While the store cannot be read nobody comes in.
 */
export class SessionBook {
  readonly #deps: SessionBookDeps
  readonly #listeners = new Set<(event: SessionEvent) => void>()
  #byDigest = new Map<string, Known>()
  #byId = new Map<string, Known>()
  #unreadable: Failure | undefined
  #queue: Promise<unknown> = Promise.resolve()
  #stops: readonly (() => void)[] = []
  #flushAt = 0

  private constructor(deps: SessionBookDeps) {
    this.#deps = deps
  }

  /** Reads the sessions and ends those of another password. Fails with the store's Failure. */
  static async open(deps: SessionBookDeps): Promise<SessionBook> {
    const book = new SessionBook(deps)
    await book.#load()
    return book
  }

  /** Begins to watch for changes by others and for expiry, and to write down last uses. */
  start(): void {
    const unwatch = this.#deps.store.watch(() => void this.refresh())
    const timer = setInterval(() => this.tick(), tickMs).unref()
    this.#flushAt = this.#deps.now() + flushMs
    this.#stops = [unwatch, () => clearInterval(timer)]
  }

  /** Ends the watch and writes down last uses. The store stays open: it is the caller's. */
  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    this.#stops = []
    await this.#queue
    await this.flush()
  }

  /** How many sessions are known. */
  get size(): number {
    return this.#byId.size
  }

  /** Whose secret this is, compared by hash in constant time. Throws while the sessions cannot be read. */
  lookUp(secret: string): Proof {
    if (this.#unreadable !== undefined) throw this.#unreadable
    const digest = hash('sha256', secret, 'base64')
    const known = this.#byDigest.get(digest)
    if (known === undefined || !timingSafeEqual(Buffer.from(digest, 'base64'), known.bytes)) {
      return unknownSession
    }
    const now = this.#deps.now()
    if (this.#isOver(known, now)) return overSession
    known.usedAt = now
    return known.proof
  }

  /** True while the session behind an identity is good. */
  isGood(identityId: string): boolean {
    const known = this.#byId.get(identityId.slice(identityPrefix.length))
    if (this.#unreadable !== undefined || known === undefined) return false
    return !this.#isOver(known, this.#deps.now())
  }

  /** Makes a session. Its secret is in the answer and nowhere else. */
  make(kind: SessionKind): Promise<SessionMade> {
    return this.#exclusive(async () => {
      const { now, store, password, random = randomBytes } = this.#deps
      const secret = `hss_${Buffer.from(random(32)).toString('base64url')}`
      const createdAt = now()
      const life = kind === 'browser' ? limits.sessionLifeMs : limits.sessionTokenMs
      const record: SessionRecord = {
        id: Buffer.from(random(6)).toString('hex'),
        kind,
        digest: hash('sha256', secret, 'base64'),
        password,
        createdAt,
        expiresAt: createdAt + life.default,
      }
      await this.#makeRoom()
      const { expiresAt } = record
      await store.put(recordPrefix + record.id, JSON.stringify(record), { expiresAt })
      await this.#load()
      this.#tell('session.created', record.id)
      return { secret, identity: identityOf(record.id), expiresAt }
    })
  }

  /** Ends one session; `false` when it was over already. */
  end(identityId: string, why: 'logout' | 'replaced'): Promise<boolean> {
    return this.#exclusive(async () => {
      const id = identityId.slice(identityPrefix.length)
      const was = await forget(this.#deps.store, id)
      if (this.#drop(id)) this.#tell(`session.${why}`, id)
      return was
    })
  }

  /** Ends every session, also those that another process made; says how many there were. */
  endAll(): Promise<number> {
    return this.#exclusive(async () => {
      const count = await endStoredSessions(this.#deps.store)
      await this.#load()
      return count
    })
  }

  /** Calls back for everything that happens to a session. The answer ends that. */
  onEvent(listener: (event: SessionEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Reads the sessions again. A failure is reported, and nobody comes in until a later reading succeeds. */
  refresh(): Promise<void> {
    return this.#exclusive(async () => {
      try {
        await this.#load()
      } catch (thrown) {
        const failure = asFailure(thrown)
        if (this.#unreadable === undefined) this.#deps.onTrouble?.(failure)
        this.#unreadable = failure
      }
    })
  }

  /** One beat: ends sessions whose time is over, retries a failed reading, writes down last uses once a minute. */
  tick(): void {
    const now = this.#deps.now()
    for (const [id, known] of this.#byId) {
      if (this.#deps.isLive?.(identityPrefix + id) === true) known.usedAt = now
      if (!this.#isOver(known, now)) continue
      this.#drop(id)
      this.#tell('session.expired', id)
      void this.#exclusive(() => forget(this.#deps.store, id)).catch((thrown: unknown) =>
        this.#deps.onTrouble?.(asFailure(thrown)),
      )
    }
    if (this.#unreadable !== undefined) void this.refresh()
    if (now < this.#flushAt) return
    this.#flushAt = now + flushMs
    void this.flush()
  }

  /** Writes down the last uses that the store does not know; a failure is reported and they stay due. */
  async flush(): Promise<void> {
    const due = [...this.#byId.values()].flatMap((known) =>
      known.usedAt === known.storedUsedAt ? [] : [{ known, usedAt: known.usedAt }],
    )
    if (due.length === 0) return
    const writes = due.map(({ known: { record }, usedAt }) => ({
      key: usedPrefix + record.id,
      value: String(usedAt),
      expiresAt: record.expiresAt,
    }))
    try {
      await this.#deps.store.putAll(writes)
      for (const { known, usedAt } of due) known.storedUsedAt = usedAt
    } catch (thrown) {
      this.#deps.onTrouble?.(asFailure(thrown))
    }
  }

  async #load(): Promise<void> {
    const { store, password } = this.#deps
    const entries = await store.list(recordPrefix)
    const uses = new Map(
      (await store.list(usedPrefix)).map(({ key, value }) => [
        key.slice(usedPrefix.length),
        Number(value),
      ]),
    )
    const byId = new Map<string, Known>()
    for (const entry of entries) {
      const record = readRecord(entry)
      // Of another password, or not a session at all: it opens nothing, and nobody will miss it.
      if (record === undefined || record.password !== password) {
        await store.remove(entry.key)
        continue
      }
      const stored = uses.get(record.id) ?? record.createdAt
      const usedAt = Math.max(stored, this.#byId.get(record.id)?.usedAt ?? 0)
      byId.set(record.id, knownOf(record, usedAt, stored))
    }
    const now = this.#deps.now()
    const gone = [...this.#byId].filter(([id]) => !byId.has(id))
    this.#byId = byId
    this.#byDigest = new Map([...byId.values()].map((known) => [known.record.digest, known]))
    this.#unreadable = undefined
    for (const [id, known] of gone) {
      this.#tell(this.#isOver(known, now) ? 'session.expired' : 'session.revoked', id)
    }
  }

  /** Keeps the sessions under their bound: the one that would expire first goes first. */
  async #makeRoom(): Promise<void> {
    const max = this.#deps.sessionsMax ?? limits.sessions.default
    const surplus = this.#byId.size - max + 1
    if (surplus <= 0) return
    const first = [...this.#byId.values()]
      .map(({ record }) => record)
      .sort((left, right) => left.expiresAt - right.expiresAt)
      .slice(0, surplus)
    for (const { id } of first) {
      await forget(this.#deps.store, id)
      if (this.#drop(id)) this.#tell('session.replaced', id)
    }
  }

  #isOver({ record, usedAt }: Known, now: number): boolean {
    const idle = record.kind === 'browser' && usedAt + limits.sessionIdleMs.default <= now
    return idle || record.expiresAt <= now
  }

  #drop(id: string): boolean {
    const known = this.#byId.get(id)
    if (known === undefined) return false
    this.#byId.delete(id)
    this.#byDigest.delete(known.record.digest)
    return true
  }

  /** Tells every listener. One that fails must not keep the next from closing its sockets. */
  #tell(event: SessionEvent['event'], id: string): void {
    for (const listener of this.#listeners) {
      try {
        listener({ event, identityId: identityPrefix + id })
      } catch (thrown) {
        this.#deps.onTrouble?.(asFailure(thrown))
      }
    }
  }

  /** One change at a time, in the order they were asked for. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => undefined)
    return result
  }
}

/** Ends every session in a store, whatever its password; a running sidecar hears of it within a second. */
export async function endStoredSessions(store: Store): Promise<number> {
  let count = 0
  for (const { key } of await store.list(recordPrefix)) {
    if (await forget(store, key.slice(recordPrefix.length))) count += 1
  }
  return count
}

/** `auth.logoutAll`, for the admin socket and for the command line on the store alone. */
export function sessionOperations(endAll: () => Promise<number>): {
  readonly 'auth.logoutAll': (input: unknown) => Promise<{ readonly ended: number }>
} {
  return { 'auth.logoutAll': async () => ({ ended: await endAll() }) }
}

async function forget(store: Store, id: string): Promise<boolean> {
  const was = await store.remove(recordPrefix + id)
  await store.remove(usedPrefix + id)
  return was
}

function asFailure(thrown: unknown): Failure {
  return thrown instanceof Failure
    ? thrown
    : new Failure('SESSIONS_FAILED', messageOf(thrown), { cause: thrown })
}

/** 256 random bits are not guessed, and sessions expire by themselves: neither counts against the address. */
const unknownSession: Proof = { kind: 'wrong', because: 'unknown session', guess: false }
const overSession: Proof = { kind: 'wrong', because: 'session is over', guess: false }

/** A password session may do what the configured token may. */
function identityOf(id: string): Identity {
  return { id: identityPrefix + id, name: identityPrefix + id, scopes: ['operate'], paths: [] }
}

function knownOf(record: SessionRecord, usedAt: number, storedUsedAt: number): Known {
  return {
    record,
    bytes: Buffer.from(record.digest, 'base64'),
    proof: { kind: 'valid', identity: identityOf(record.id) },
    usedAt,
    storedUsedAt,
  }
}

function readRecord({ key, value }: Entry): SessionRecord | undefined {
  try {
    const record: unknown = JSON.parse(value)
    return isRecord(record) && key === recordPrefix + record.id ? record : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

function isRecord(value: unknown): value is SessionRecord {
  if (typeof value !== 'object' || value === null) return false
  const fields: Readonly<Record<string, unknown>> = { ...value }
  const isText = (name: string) => typeof fields[name] === 'string'
  const isTime = (name: string) => Number.isSafeInteger(fields[name])
  return (
    ['id', 'digest', 'password'].every(isText) &&
    (fields['kind'] === 'browser' || fields['kind'] === 'client') &&
    ['createdAt', 'expiresAt'].every(isTime)
  )
}
