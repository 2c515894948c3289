/** The tokens: made, configured, revoked; first in the store, then in the table that the hot path asks. */
import { hash, randomBytes } from 'node:crypto'
import { Failure } from '../errors.ts'
import type { Scope } from '../gates/gate.ts'
import { limits, minutes } from '../limits.ts'
import { absent, type Store } from '../store/store.ts'
import type { Proof } from './proof.ts'
import {
  endOf,
  fingerprintOf,
  viewOf,
  type TokenEnd,
  type TokenRecord,
  type TokenView,
} from './token-record.ts'
import {
  asFailure,
  recordPrefix,
  TokenTable,
  usedPrefix,
  type Known,
  type TokenEvent,
  type TokenTableDeps,
} from './token-table.ts'
import { makeToken, type RandomBytes } from './token-text.ts'

/** What the book needs from outside. */
export interface TokenBookDeps extends TokenTableDeps {
  readonly store: Store
  /** The system's random source, unless a test says otherwise. */
  readonly random?: RandomBytes
  readonly tokensMax?: number
}

/** What a new token may do. */
export interface NewToken {
  readonly name?: string
  readonly scopes: readonly Scope[]
  readonly paths: readonly string[]
  readonly networks: readonly string[]
  /** ms since the epoch. */
  readonly expiresAt?: number
}

/** The name of the configured token in lists and in the audit log. */
export const configuredName = 'default'

/** How often the book looks for expired tokens and retries a failed reading; sockets end within a second. */
const tickMs = 500
const flushMs = minutes(1)
/** Swaps lost to other writers before giving up. */
const swapsMax = 10

/**
 * The tokens. Look-ups are synchronous; a change is in the store before it is in memory, one at a time; changes by other
 * processes are seen within a second. While the store cannot be read nobody comes in.
 */
export class TokenBook {
  readonly #deps: TokenBookDeps
  readonly #table: TokenTable
  #queue: Promise<unknown> = Promise.resolve()
  #stops: readonly (() => void)[] = []
  #flushAt = 0

  private constructor(deps: TokenBookDeps) {
    this.#deps = deps
    this.#table = new TokenTable(deps)
  }

  /** Reads the tokens. Fails with the store's Failure when they cannot be read. */
  static async open(deps: TokenBookDeps): Promise<TokenBook> {
    const book = new TokenBook(deps)
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

  /** Who the token belongs to. Throws while the tokens cannot be read, which is a no (GATE_FAILED). */
  lookUp(value: string): Proof {
    return this.#table.lookUp(value)
  }

  /** True while the token behind an identity is good: to be asked again when an exchange becomes a live socket. */
  isGood(identityId: string): boolean {
    return this.#table.isGood(identityId)
  }

  /** Every token, oldest first, never its text. */
  list(): readonly TokenView[] {
    return this.#table.list()
  }

  /** Makes a token. Its text is in the answer and nowhere else. */
  create(input: NewToken): Promise<{ readonly token: string; readonly view: TokenView }> {
    return this.#exclusive(async () => {
      await this.#load()
      await this.#makeRoom()
      const now = this.#deps.now()
      const { id, token } = makeToken(this.#deps.random ?? randomBytes)
      const name = input.name ?? `token-${id}`
      this.#requireFreeName(name, now)
      const record: TokenRecord = {
        id,
        name,
        kind: 'managed',
        digest: hash('sha256', token, 'base64'),
        scopes: input.scopes,
        paths: input.paths,
        networks: input.networks,
        createdAt: now,
        ...(input.expiresAt === undefined ? {} : { expiresAt: input.expiresAt }),
      }
      if (!(await this.#swap(record, absent))) throw conflict()
      return { token, view: viewOf(record, now) }
    })
  }

  /**
   * Revokes by id or name, for good: no later write revives it. Revoking twice is the same as once. Fails with
   * TOKEN_UNKNOWN, or TOKEN_AMBIGUOUS when several good tokens have the name.
   */
  revoke(idOrName: string): Promise<TokenView> {
    return this.#exclusive(async () => {
      for (let tries = 0; tries < swapsMax; tries += 1) {
        await this.#load()
        const { record, version, usedAt } = this.#find(idOrName)
        const now = this.#deps.now()
        if (record.revokedAt !== undefined) return viewOf(record, now, usedAt)
        const revoked = { ...record, revokedAt: now }
        if (await this.#swap(revoked, version)) return viewOf(revoked, now, usedAt)
      }
      throw conflict()
    })
  }

  /**
   * Names the configured token, or `undefined` when there is none any more. The day it was first seen is kept by its
   * hash (`firstSeenAt`: an earlier day known from elsewhere); the one before it is good no longer. When this very
   * token was revoked it stays refused: `status` says so, and `onTrouble` hears TOKEN_REVOKED.
   */
  configure(
    value: string | undefined,
    options: { readonly firstSeenAt?: number } = {},
  ): Promise<TokenView | undefined> {
    return this.#exclusive(async () => {
      const digest = value === undefined ? undefined : hash('sha256', value, 'base64')
      const id = digest === undefined ? undefined : `default-${fingerprintOf({ digest })}`
      for (let tries = 0; tries < swapsMax; tries += 1) {
        await this.#load()
        if (digest !== undefined && id !== undefined) {
          if (!(await this.#seeConfigured(id, digest, options.firstSeenAt))) continue
        }
        // Only now the old one goes: a crash in between leaves two tokens that work, never none.
        this.#table.configuredId = id
        this.#table.notice()
        if (await this.#replaceOthers(id)) return this.#configuredView(id)
      }
      throw conflict()
    })
  }

  /** Calls back when a token is good no longer, so that what it opened can be closed. The answer ends that. */
  onRevoked(listener: (identityId: string, end: TokenEnd) => void): () => void {
    return this.onEvent(({ event, identityId }) => {
      if (event !== 'token.first-seen') listener(identityId, endNames[event])
    })
  }

  /** Calls back for everything that happens to a token. The answer ends that. */
  onEvent(listener: (event: TokenEvent) => void): () => void {
    return this.#table.onEvent(listener)
  }

  /** Reads the tokens again. A failure is reported, and nobody comes in until a later reading succeeds. */
  refresh(): Promise<void> {
    return this.#exclusive(async () => {
      try {
        await this.#load()
      } catch (thrown) {
        const failure = asFailure(thrown)
        if (this.#table.unreadable === undefined) this.#deps.onTrouble?.(failure)
        this.#table.unreadable = failure
      }
    })
  }

  /** One beat: ends expired tokens, retries a failed reading, writes down last uses once a minute. */
  tick(): void {
    this.#table.notice()
    if (this.#table.unreadable !== undefined) void this.refresh()
    const now = this.#deps.now()
    if (now < this.#flushAt) return
    this.#flushAt = now + flushMs
    void this.flush()
  }

  /** Writes down the last uses that the store does not know; a failure is reported and they stay due. */
  async flush(): Promise<void> {
    const due = this.#table.all().flatMap((known) => {
      const { usedAt, storedUsedAt } = known
      return usedAt === undefined || usedAt === storedUsedAt ? [] : [{ known, usedAt }]
    })
    if (due.length === 0) return
    const writes = due.map(({ known, usedAt }) => ({
      key: usedPrefix + known.record.id,
      value: String(usedAt),
    }))
    try {
      await this.#deps.store.putAll(writes)
      for (const { known, usedAt } of due) known.storedUsedAt = usedAt
    } catch (thrown) {
      this.#deps.onTrouble?.(asFailure(thrown))
    }
  }

  async #load(): Promise<void> {
    const { store } = this.#deps
    const entries = await store.list(recordPrefix)
    this.#table.takeOver(entries, await store.list(usedPrefix))
  }

  /** Writes a record if nobody wrote it since `version`, and takes it over into memory. */
  async #swap(record: TokenRecord, version: number): Promise<boolean> {
    const { store } = this.#deps
    const text = JSON.stringify(record)
    if (!(await store.compareAndSwap(recordPrefix + record.id, version, text))) return false
    await this.#load()
    return true
  }

  /** Makes sure that the configured token is in the store; `false` when another writer was first. */
  async #seeConfigured(id: string, digest: string, firstSeenAt?: number): Promise<boolean> {
    const known = this.#table.get(id)
    if (known === undefined) {
      const now = this.#deps.now()
      const record: TokenRecord = {
        id,
        name: configuredName,
        kind: 'configured',
        digest,
        scopes: ['operate'],
        paths: [],
        networks: [],
        createdAt: Math.min(firstSeenAt ?? now, now),
      }
      const first = await this.#swap(record, absent)
      if (first) this.#table.tell('token.first-seen', record)
      return first
    }
    if (known.record.digest !== digest) {
      throw new Failure(
        'TOKEN_CONFLICT',
        'The configured token has the fingerprint of another. Make a new one: openssl rand -hex 32',
      )
    }
    const { replacedAt, ...record } = known.record
    const createdAt = Math.min(record.createdAt, firstSeenAt ?? record.createdAt)
    if (replacedAt === undefined && createdAt === record.createdAt) return true
    const seen = await this.#swap({ ...record, createdAt }, known.version)
    return seen
  }

  /** Marks the configured tokens of before; `false` when another writer was first. */
  async #replaceOthers(id: string | undefined): Promise<boolean> {
    for (const { record, version } of this.#table.all()) {
      const old = record.kind === 'configured' && record.id !== id
      if (!old || record.replacedAt !== undefined) continue
      if (!(await this.#swap({ ...record, replacedAt: this.#deps.now() }, version))) return false
    }
    return true
  }

  #configuredView(id: string | undefined): TokenView | undefined {
    const known = id === undefined ? undefined : this.#table.get(id)
    if (known === undefined) return undefined
    if (known.record.revokedAt !== undefined) {
      this.#deps.onTrouble?.(
        new Failure(
          'TOKEN_REVOKED',
          'The configured token was revoked and stays refused. Put a new one into gateway.auth.token or its file.',
        ),
      )
    }
    return viewOf(known.record, this.#deps.now(), known.usedAt)
  }

  #find(idOrName: string): Known {
    const byId = this.#table.get(idOrName)
    if (byId !== undefined) return byId
    const named = this.#table.all().filter(({ record }) => record.name === idOrName)
    const now = this.#deps.now()
    // As stored: a command line beside the server does not know which token that is configured with.
    const good = named.filter(({ record }) => endOf(record, now) === undefined)
    const found = good[0] ?? named.at(-1)
    if (found === undefined) {
      throw new Failure(
        'TOKEN_UNKNOWN',
        'No token has this id or name. See "hardshell token list".',
      )
    }
    if (good.length > 1) {
      throw new Failure(
        'TOKEN_AMBIGUOUS',
        'Several tokens have this name. Use the id from "hardshell token list".',
      )
    }
    return found
  }

  #requireFreeName(name: string, now: number): void {
    const taken = this.#table
      .all()
      .some(
        ({ record }) =>
          record.id === name || (record.name === name && endOf(record, now) === undefined),
      )
    if (!taken && name !== configuredName) return
    throw new Failure(
      'TOKEN_NAME_TAKEN',
      `The name "${name}" is taken. Choose another --name, or revoke that token first.`,
    )
  }

  /** Keeps the tokens under their bound: those that ended first go first, good ones never. */
  async #makeRoom(): Promise<void> {
    const max = this.#deps.tokensMax ?? limits.tokens.default
    const known = this.#table.all()
    if (known.length < max) return
    const now = this.#deps.now()
    const ended = known
      // A revoked configured token must stay known, or it would be good again.
      .filter(({ record }) => record.kind === 'managed' && endOf(record, now) !== undefined)
      .sort((left, right) => endedAt(left.record) - endedAt(right.record))
      .slice(0, known.length - max + 1)
    if (ended.length === 0) {
      throw new Failure(
        'TOKENS_FULL',
        `There are ${max} tokens already. Revoke those that nobody uses (see "hardshell token list").`,
      )
    }
    for (const { record } of ended) {
      await this.#deps.store.remove(recordPrefix + record.id)
      await this.#deps.store.remove(usedPrefix + record.id)
    }
    await this.#load()
  }

  /** One change at a time, in the order they were asked for. */
  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(work)
    this.#queue = result.catch(() => undefined)
    return result
  }
}

const endNames = {
  'token.revoked': 'revoked',
  'token.expired': 'expired',
  'token.replaced': 'replaced',
} as const

const endedAt = ({ revokedAt, expiresAt }: TokenRecord) =>
  Math.min(revokedAt ?? Infinity, expiresAt ?? Infinity)

const conflict = () =>
  new Failure('TOKEN_CONFLICT', 'The token was changed by others at the same time. Try again.')
