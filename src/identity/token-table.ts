/** The token table in memory: look-ups for the hot path, and the news of tokens that end. */
import { hash, timingSafeEqual } from 'node:crypto'
import { Failure, messageOf } from '../errors.ts'
import type { Identity } from '../gates/gate.ts'
import type { Entry } from '../store/store.ts'
import type { Proof } from './proof.ts'
import {
  endOf,
  fingerprintOf,
  readRecord,
  viewOf,
  type TokenEnd,
  type TokenRecord,
  type TokenView,
} from './token-record.ts'

/** What happened to a token, for the audit log and for what lives by it. */
export interface TokenEvent {
  readonly event: 'token.first-seen' | `token.${TokenEnd}`
  /** The identity of the token, `token:<id>`. */
  readonly identityId: string
  readonly name: string
  readonly fingerprint: string
}

/** A token that the table knows. */
export interface Known {
  readonly record: TokenRecord
  /** Version of its entry in the store. */
  readonly version: number
  readonly bytes: Buffer
  /** The answer for a good token, made once. */
  readonly proof: Proof
  /** ms since the epoch. */
  usedAt: number | undefined
  /** The last use that the store knows. */
  storedUsedAt: number | undefined
}

/** What the table needs from outside. */
export interface TokenTableDeps {
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Hears of what went wrong without anybody to tell: an unreadable row, a listener that failed. */
  readonly onTrouble?: (failure: Failure) => void
}

/** Keys of the store: the records, and the times of their last use. */
export const recordPrefix = 'token/'
/** Apart from the record, so that a use never races with a revocation. */
export const usedPrefix = 'token-used/'

/** The table. It reads nothing and writes nothing: `takeOver` gives it what the store says. */
export class TokenTable {
  /** Set while the store cannot be read: then nobody comes in, because a revocation may have been missed. */
  unreadable: Failure | undefined
  /** Id of the configured token of this process. */
  configuredId: string | undefined
  readonly #deps: TokenTableDeps
  readonly #listeners = new Set<(event: TokenEvent) => void>()
  #byId = new Map<string, Known>()
  #byDigest = new Map<string, Known>()
  /** Ids of the tokens that were good when we last looked. */
  readonly #good = new Set<string>()

  constructor(deps: TokenTableDeps) {
    this.#deps = deps
  }

  /** Who the token belongs to, compared by hash in constant time. Throws while the table is unreadable. */
  lookUp(value: string): Proof {
    if (this.unreadable !== undefined) throw this.unreadable
    const digest = hash('sha256', value, 'base64')
    const known = this.#byDigest.get(digest)
    if (known === undefined) return unknownToken
    if (!timingSafeEqual(Buffer.from(digest, 'base64'), known.bytes)) return unknownToken
    const now = this.#deps.now()
    const end = this.#endOf(known.record, now)
    if (end !== undefined) {
      return { kind: 'wrong', because: `token ${known.record.name} is ${end}`, guess: true }
    }
    known.usedAt = now
    return known.proof
  }

  /** True while the token behind an identity is good. */
  isGood(identityId: string): boolean {
    if (this.unreadable !== undefined || !isTokenIdentity(identityId)) return false
    const known = this.#byId.get(identityId.slice(identityPrefix.length))
    return known !== undefined && this.#endOf(known.record, this.#deps.now()) === undefined
  }

  get(id: string): Known | undefined {
    return this.#byId.get(id)
  }

  all(): readonly Known[] {
    return [...this.#byId.values()]
  }

  /** Every token, oldest first, never its text. */
  list(): readonly TokenView[] {
    const now = this.#deps.now()
    return [...this.#byId.values()]
      .sort(
        ({ record: left }, { record: right }) =>
          left.createdAt - right.createdAt || left.name.localeCompare(right.name, 'en'),
      )
      .map(({ record, usedAt }) => viewOf(record, now, usedAt))
  }

  /** Takes over what the store says, and tells listeners which tokens ended. */
  takeOver(entries: readonly Entry[], uses: readonly Entry[]): void {
    const used = new Map(
      uses.map(({ key, value }) => [key.slice(usedPrefix.length), Number(value)]),
    )
    const byId = new Map<string, Known>()
    for (const entry of entries) {
      const record = this.#read(entry)
      if (record === undefined) continue
      const stored = used.get(record.id)
      const usedAt = Math.max(stored ?? 0, this.#byId.get(record.id)?.usedAt ?? 0)
      byId.set(record.id, knownOf(record, entry.version, usedAt === 0 ? undefined : usedAt, stored))
    }
    const gone = [...this.#good].flatMap((id) => (byId.has(id) ? [] : (this.#byId.get(id) ?? [])))
    this.#byId = byId
    this.#byDigest = new Map([...byId.values()].map((known) => [known.record.digest, known]))
    this.unreadable = undefined
    for (const { record } of gone) {
      this.#good.delete(record.id)
      this.tell('token.revoked', record)
    }
    this.notice()
  }

  /** Compares what is good now with what was, and tells listeners of the tokens that ended. */
  notice(): void {
    const now = this.#deps.now()
    for (const [id, { record }] of this.#byId) {
      const end = this.#endOf(record, now)
      if (end === undefined) this.#good.add(id)
      else if (this.#good.delete(id)) this.tell(`token.${end}`, record)
    }
  }

  /** Calls back for everything that happens to a token. The answer ends that. */
  onEvent(listener: (event: TokenEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Tells every listener. One that fails must not keep the next from closing its sockets. */
  tell(event: TokenEvent['event'], record: TokenRecord): void {
    const { id, name } = record
    const told = {
      event,
      identityId: identityPrefix + id,
      name,
      fingerprint: fingerprintOf(record),
    }
    for (const listener of this.#listeners) {
      try {
        listener(told)
      } catch (thrown) {
        this.#deps.onTrouble?.(asFailure(thrown))
      }
    }
  }

  #read(entry: Entry): TokenRecord | undefined {
    const record = readRecord(entry.value)
    if (typeof record !== 'string' && entry.key === recordPrefix + record.id) return record
    const why = typeof record === 'string' ? record : 'its id is not its key'
    const name = entry.key.slice(recordPrefix.length)
    this.#deps.onTrouble?.(
      new Failure('TOKEN_UNREADABLE', `The stored token ${name} is ignored: ${why}.`),
    )
    return undefined
  }

  /** A configured token is good only in the process that was told to use it. */
  #endOf(record: TokenRecord, now: number): TokenEnd | undefined {
    const end = endOf(record, now)
    if (end !== undefined || record.kind === 'managed') return end
    return record.id === this.configuredId ? undefined : 'replaced'
  }
}

/** Anything that was thrown, as a Failure. */
export function asFailure(thrown: unknown): Failure {
  return thrown instanceof Failure
    ? thrown
    : new Failure('TOKENS_FAILED', messageOf(thrown), { cause: thrown })
}

const identityPrefix = 'token:'

/** True for the identity of a token of ours, `token:<id>`. */
export const isTokenIdentity = (identityId: string): boolean =>
  identityId.startsWith(identityPrefix)

const unknownToken: Proof = { kind: 'wrong', because: 'unknown token', guess: true }

function knownOf(
  record: TokenRecord,
  version: number,
  usedAt: number | undefined,
  storedUsedAt: number | undefined,
): Known {
  const { id, name, scopes, paths, networks } = record
  const identity: Identity = { id: identityPrefix + id, name, scopes, paths, networks }
  return {
    record,
    version,
    bytes: Buffer.from(record.digest, 'base64'),
    proof: { kind: 'valid', identity },
    usedAt,
    storedUsedAt,
  }
}
