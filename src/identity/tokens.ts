/** The tokens: made, configured, revoked; first in the store, then in the table that the hot path asks. */
import { Failure } from '../errors.ts'
import type { Scope } from '../gates/gate.ts'
import { limits, minutes } from '../limits.ts'
import { absent, type Store } from '../store/store.ts'
import type { Proof } from './proof.ts'
import { TokenAlerts } from './token-alerts.ts'
import { Configured, configuredName } from './token-configured.ts'
import type { ConfigureOptions, Remembered } from './token-configured.ts'
import { isRenewable, type TokenEnd } from './token-life.ts'
import type { TokenRecord, TokenView } from './token-record.ts'
import { Rotator, type Rotated } from './token-rotation.ts'
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

const { hash, randomBytes } = process.getBuiltinModule('node:crypto')

/** What the book needs from outside. */
export interface TokenBookDeps extends TokenTableDeps {
  readonly store: Store
  /** The system's random source, unless a test says otherwise. */
  readonly random?: RandomBytes
  readonly tokensMax?: number
  /**
   * Since when a configured token that the store does not know is in use, and whether it was revoked, by its
   * fingerprint: the audit log remembers it when the state is lost.
   */
  readonly firstSeenOf?: (fingerprint: string) => Promise<Remembered | undefined>
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

/** How often the book looks for ended tokens and retries a failed reading; sockets end within a second. */
const tickMs = 250
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
  readonly #configured: Configured
  readonly #rotator: Rotator
  readonly #alerts: TokenAlerts
  #queue: Promise<unknown> = Promise.resolve()
  #stops: readonly (() => void)[] = []
  #looking: Promise<void> = Promise.resolve()
  #flushAt = 0

  private constructor(deps: TokenBookDeps) {
    this.#deps = deps
    const { store, now, rotation, onTrouble } = deps
    const table = new TokenTable(deps)
    this.#table = table
    const shared = { store, table, now, rotation, onTrouble, load: () => this.#load() }
    this.#configured = new Configured({ ...shared, firstSeenOf: deps.firstSeenOf })
    this.#rotator = new Rotator({
      ...shared,
      random: deps.random ?? randomBytes,
      makeRoom: () => this.#makeRoom(false),
    })
    const tell = ({ record, life }: Known, percent: number) =>
      table.tell('token.ageing', record, `${percent} % of its age, due ${iso(life.dueAt)}`)
    this.#alerts = new TokenAlerts({ store, now, rotation, onTrouble, tell })
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
    await this.#looking
    await this.flush()
  }

  /**
   * Who the token belongs to. `renewing` when the request asks for nothing but its successor, which a token past its
   * age may do. Throws while the tokens cannot be read, which is a no (GATE_FAILED).
   */
  lookUp(value: string, renewing = false): Proof {
    return this.#table.lookUp(value, renewing)
  }

  /** True while the token behind an identity is good: to be asked again when an exchange becomes a live socket. */
  isGood(identityId: string): boolean {
    return this.#table.isGood(identityId)
  }

  /** Every token, oldest first, never its text. */
  list(): readonly TokenView[] {
    return this.#table.list()
  }

  /** The token with this SHA-256 (base64), never its text; `undefined` for one that is not known here. */
  inspect(digest: string): TokenView | undefined {
    const known = this.#table.ofDigest(digest)
    return known === undefined ? undefined : this.#table.view(known)
  }

  /** Makes a token. Its text is in the answer and nowhere else. */
  create(input: NewToken): Promise<{ readonly token: string; readonly view: TokenView }> {
    return this.#exclusive(async () => {
      await this.#load()
      await this.#makeRoom(true)
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
      return { token, view: this.#table.viewOf(record) }
    })
  }

  /**
   * Makes the successor of a token, by id or name: same name, same rights. Old and new are both good for the grace.
   * Of several who ask, one gets it: who asks by name means the token of that name when they began to ask (`since`, ms
   * since the epoch), and not the successor that another has made meanwhile. Fails with TOKEN_UNKNOWN, TOKEN_AMBIGUOUS,
   * TOKEN_ROTATED, TOKEN_CONFIGURED or TOKEN_ENDED.
   */
  rotate(idOrName: string, since = Infinity): Promise<Rotated> {
    const find = () => {
      const found = this.#find(idOrName)
      const { id, createdAt, predecessorId } = found.record
      const before = predecessorId === undefined ? undefined : this.#table.get(predecessorId)
      return id === idOrName || before === undefined || createdAt <= since ? found : before
    }
    return this.#exclusive(() => this.#rotator.rotate(find, 'owner'))
  }

  /** The same for the client that holds the token; fails with TOKEN_NOT_DUE before its age is reached. */
  renew(identityId: string): Promise<Rotated> {
    const find = () => this.#table.ofIdentity(identityId) ?? this.#find(identityId)
    return this.#exclusive(() => this.#rotator.rotate(find, 'client'))
  }

  /** Ends the grace of a rotated token now, by id. Fails with TOKEN_UNKNOWN or TOKEN_NOT_ROTATED. */
  retire(id: string): Promise<TokenView> {
    return this.#exclusive(() => this.#rotator.retire(() => this.#find(id)))
  }

  /**
   * Revokes by id or name, for good: no later write revives it. By name a token in its grace goes with its successor.
   * Revoking twice is the same as once. Fails with TOKEN_UNKNOWN, or TOKEN_AMBIGUOUS when several tokens have the name.
   */
  revoke(idOrName: string): Promise<TokenView> {
    return this.#exclusive(async () => {
      for (let tries = 0; tries < swapsMax; tries += 1) {
        await this.#load()
        const found = this.#find(idOrName)
        if (found.record.revokedAt !== undefined) return this.#table.view(found)
        if (!(await this.#revokeBefore(found, idOrName))) continue
        const revoked = { ...found.record, revokedAt: this.#deps.now() }
        if (await this.#swap(revoked, found.version)) {
          return this.#table.viewOf(revoked, found.usedAt)
        }
      }
      throw conflict()
    })
  }

  /** Who says a name means all that still comes in by it; `false` when another writer was first. */
  async #revokeBefore(found: Known, idOrName: string): Promise<boolean> {
    if (found.record.id === idOrName) return true
    const revokedAt = this.#deps.now()
    for (const { record, version } of this.#good(idOrName)) {
      if (record.id === found.record.id) continue
      if (!(await this.#swap({ ...record, revokedAt }, version))) return false
    }
    return true
  }

  /**
   * Names the configured token, or `undefined` when there is none any more. The day it was first seen is kept by its
   * hash (`firstSeenAt`: an earlier day known from elsewhere); the one before it is good for the grace. When this very
   * token was revoked it stays refused: `status` says so, and `onTrouble` hears TOKEN_REVOKED.
   */
  configure(
    value: string | undefined,
    options: ConfigureOptions = {},
  ): Promise<TokenView | undefined> {
    return this.#exclusive(() => this.#configured.use(value, options))
  }

  /** True for the text of the token that this process is configured with. */
  isConfigured(value: string): boolean {
    const known = this.#table.ofDigest(hash('sha256', value, 'base64'))
    return known !== undefined && this.#table.configuredIds.has(known.record.id)
  }

  /** Calls back when a token is good no longer, so that what it opened can be closed. The answer ends that. */
  onRevoked(listener: (identityId: string, end: TokenEnd) => void): () => void {
    return this.onEvent(({ event, identityId }) => {
      const end = endNames[event]
      if (end !== undefined) listener(identityId, end)
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
    else
      this.#looking = this.#alerts.look(this.#table.all(), (known) => this.#table.isGoodNow(known))
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

  #find(idOrName: string): Known {
    const byId = this.#table.get(idOrName)
    if (byId !== undefined) return byId
    const good = this.#good(idOrName)
    // In a grace two are good by one name: the newer one is meant.
    const current = good.filter(
      ({ record }) => record.rotatedAt === undefined && record.replacedAt === undefined,
    )
    const found = current[0] ?? good.at(-1) ?? this.#named(idOrName).at(-1)
    if (found === undefined) {
      throw new Failure(
        'TOKEN_UNKNOWN',
        'No token has this id or name. See "hardshell token list".',
      )
    }
    if (current.length > 1) {
      throw new Failure(
        'TOKEN_AMBIGUOUS',
        'Several tokens have this name. Use the id from "hardshell token list".',
      )
    }
    return found
  }

  /** The tokens of a name, the newest last. */
  #named(name: string): readonly Known[] {
    return this.#table
      .all()
      .filter(({ record }) => record.name === name)
      .sort(({ record: left }, { record: right }) => left.createdAt - right.createdAt)
  }

  /** The good ones of them, as stored: a command line beside the server does not know which is configured. */
  #good(name: string): readonly Known[] {
    const now = this.#deps.now()
    return this.#named(name).filter(({ life }) => life.endsAt > now)
  }

  #requireFreeName(name: string, now: number): void {
    const taken = this.#table
      .all()
      .some(({ record, life }) => record.id === name || (record.name === name && life.endsAt > now))
    if (!taken && name !== configuredName) return
    throw new Failure(
      'TOKEN_NAME_TAKEN',
      `The name "${name}" is taken. Choose another --name, or revoke that token first.`,
    )
  }

  /** Keeps the tokens under their bound: those that ended first go first, good ones and those with a right left never. */
  async #makeRoom(mustBe: boolean): Promise<void> {
    const max = this.#deps.tokensMax ?? limits.tokens.default
    const known = this.#table.all()
    if (known.length < max) return
    const now = this.#deps.now()
    const ended = known
      // A revoked configured token must stay known, or it would be good again.
      .filter(({ record }) => record.kind === 'managed')
      .filter(({ life }) => life.endsAt <= now && !isRenewable(life, now))
      .sort((left, right) => endedAt(left) - endedAt(right))
      .slice(0, known.length - max + 1)
    if (ended.length === 0 && mustBe) {
      throw new Failure(
        'TOKENS_FULL',
        `There are ${max} tokens already. Revoke those that nobody uses (see "hardshell token list").`,
      )
    }
    const unborn = this.#table.unborn()
    for (const { record } of ended) {
      // What was left behind of a rotation counts for nothing only as long as its predecessor says so.
      const left = unborn.filter((one) => one.record.predecessorId === record.id)
      for (const { id } of [...left.map((one) => one.record), record]) {
        await this.#deps.store.remove(recordPrefix + id)
        await this.#deps.store.remove(usedPrefix + id)
      }
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

const endNames: Partial<Record<TokenEvent['event'], TokenEnd>> = {
  'token.revoked': 'revoked',
  'token.expired': 'expired',
  'token.replaced': 'replaced',
  'token.retired': 'retired',
  'token.aged': 'aged',
}

/** When a token ended; one that got no grace ended with its rotation. */
function endedAt({ record, life }: Known): number {
  if (record.revokedAt !== undefined) return record.revokedAt
  return Number.isFinite(life.endsAt) ? life.endsAt : (record.rotatedAt ?? record.createdAt)
}

const iso = (ms: number) => new Date(ms).toISOString()

const conflict = () =>
  new Failure('TOKEN_CONFLICT', 'The token was changed by others at the same time. Try again.')
