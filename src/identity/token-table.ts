/** The token table in memory: look-ups for the hot path, and the news of tokens that end. */
import { Failure, messageOf } from '../errors.ts'
import type { Identity } from '../gates/gate.ts'
import type { Entry } from '../store/store.ts'
import type { Proof } from './proof.ts'
import { httpDate, isRenewable, lifeOf, type Rotation, type TokenLife } from './token-life.ts'
import type { TokenEnd } from './token-life.ts'
import {
  fingerprintOf,
  readRecord,
  viewOf,
  type TokenRecord,
  type TokenView,
} from './token-record.ts'

const { hash, timingSafeEqual } = process.getBuiltinModule('node:crypto')

/** What happened to a token, for the audit log and for what lives by it. */
export interface TokenEvent {
  readonly event: 'token.first-seen' | 'token.rotated' | 'token.ageing' | `token.${TokenEnd}`
  /** The identity of the token, `token:<id>`. */
  readonly identityId: string
  readonly name: string
  readonly fingerprint: string
  /** More about it in words of ours, for the log. */
  readonly detail?: string
}

/** What happened to a token as a record of the audit log; the token itself is not in it. */
export function tokenEntry({ event, name, fingerprint, detail }: TokenEvent): {
  readonly event: string
  readonly identity: string
  readonly because: string
} {
  const known = `fingerprint ${fingerprint}`
  return { event, identity: name, because: detail === undefined ? known : `${known}, ${detail}` }
}

/** A token that the table knows. */
export interface Known {
  readonly record: TokenRecord
  /** Version of its entry in the store. */
  readonly version: number
  readonly bytes: Buffer
  readonly life: TokenLife
  /** The answer for a good token, made once; and the one that says when it ends. */
  readonly proof: Proof
  readonly sunsetProof: Proof
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
  /** Without it tokens do not age, and what is rotated or replaced ends at once. */
  readonly rotation?: Rotation | undefined
}

/** Keys of the store: the records, and the times of their last use. */
export const recordPrefix = 'token/'
/** Apart from the record, so that a use never races with a revocation. */
export const usedPrefix = 'token-used/'

/** The table. It reads nothing and writes nothing: `takeOver` gives it what the store says. */
export class TokenTable {
  /** Set while the store cannot be read: then nobody comes in, because a revocation may have been missed. */
  unreadable: Failure | undefined
  /** Ids of the configured token of this process; two while one takes the place of the other. */
  configuredIds: ReadonlySet<string> = new Set()
  readonly #deps: TokenTableDeps
  readonly #listeners = new Set<(event: TokenEvent) => void>()
  #byId = new Map<string, Known>()
  #byDigest = new Map<string, Known>()
  #unborn: readonly Known[] = []
  /** Ids of the tokens that were good when we last looked. */
  readonly #good = new Set<string>()

  constructor(deps: TokenTableDeps) {
    this.#deps = deps
  }

  /**
   * Who the token belongs to, compared by hash in constant time. One past its age is good for `renewing` alone, while
   * its successor waits. Throws while the table is unreadable.
   */
  lookUp(value: string, renewing = false): Proof {
    if (this.unreadable !== undefined) throw this.unreadable
    const digest = hash('sha256', value, 'base64')
    const known = this.#byDigest.get(digest)
    if (known === undefined) return unknownToken
    if (!timingSafeEqual(Buffer.from(digest, 'base64'), known.bytes)) return unknownToken
    const now = this.#deps.now()
    const end = this.#endOf(known, now)
    if (end !== undefined && !(renewing && end === 'aged' && isRenewable(known.life, now))) {
      return { kind: 'wrong', because: `token ${known.record.name} is ${end}`, guess: true }
    }
    known.usedAt = now
    return now < known.life.sunsetAt ? known.proof : known.sunsetProof
  }

  /** True while the token behind an identity is good. */
  isGood(identityId: string): boolean {
    if (this.unreadable !== undefined) return false
    const known = this.ofIdentity(identityId)
    return known !== undefined && this.isGoodNow(known)
  }

  /** True while a token is good. */
  isGoodNow(known: Known): boolean {
    return this.#endOf(known, this.#deps.now()) === undefined
  }

  /** The token behind an identity. */
  ofIdentity(identityId: string): Known | undefined {
    if (!isTokenIdentity(identityId)) return undefined
    return this.#byId.get(identityId.slice(identityPrefix.length))
  }

  /** The token with this SHA-256 in base64. */
  ofDigest(digest: string): Known | undefined {
    return this.#byDigest.get(digest)
  }

  get(id: string): Known | undefined {
    return this.#byId.get(id)
  }

  all(): readonly Known[] {
    return [...this.#byId.values()]
  }

  /** Every token, oldest first, never its text. */
  list(): readonly TokenView[] {
    return [...this.#byId.values()]
      .sort(
        ({ record: left }, { record: right }) =>
          left.createdAt - right.createdAt || left.name.localeCompare(right.name, 'en'),
      )
      .map((known) => this.view(known))
  }

  /** What may be shown of a token, as stored: other processes do not know which token we are configured with. */
  view({ record, usedAt }: Known): TokenView {
    return this.viewOf(record, usedAt)
  }

  /** The same of a record that may not have been read yet. */
  viewOf(record: TokenRecord, lastUsedAt?: number): TokenView {
    const { now, rotation } = this.#deps
    return viewOf(record, now(), { lastUsedAt, rotation })
  }

  /** Successors that their predecessors do not name: what a crash, or a rotation that lost, left behind. */
  unborn(): readonly Known[] {
    return this.#unborn
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
      const uses = { usedAt: usedAt === 0 ? undefined : usedAt, storedUsedAt: stored }
      byId.set(record.id, {
        ...knownOf(record, this.#deps.rotation),
        version: entry.version,
        ...uses,
      })
    }
    this.#unborn = [...byId.values()].filter(({ record }) => isUnborn(record, byId))
    for (const { record } of this.#unborn) byId.delete(record.id)
    const gone = [...this.#good].flatMap((id) => (byId.has(id) ? [] : (this.#byId.get(id) ?? [])))
    this.#byId = byId
    this.#byDigest = new Map([...byId.values()].map((known) => [known.record.digest, known]))
    this.unreadable = undefined
    for (const { record } of gone) {
      this.#good.delete(record.id)
      // Nobody revoked it, as far as is known: in the log that is another sentence.
      this.tell('token.revoked', record, 'gone from the state')
    }
    this.notice()
  }

  /** Compares what is good now with what was, and tells listeners of the tokens that ended. */
  notice(): void {
    const now = this.#deps.now()
    for (const [id, known] of this.#byId) {
      const end = this.#endOf(known, now)
      if (end === undefined) this.#good.add(id)
      else if (this.#good.delete(id)) this.tell(`token.${end}`, known.record)
    }
  }

  /** Calls back for everything that happens to a token. The answer ends that. */
  onEvent(listener: (event: TokenEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  /** Tells every listener. One that fails must not keep the next from closing its sockets. */
  tell(event: TokenEvent['event'], record: TokenRecord, detail?: string): void {
    const { id, name } = record
    const told = {
      event,
      identityId: identityPrefix + id,
      name,
      fingerprint: fingerprintOf(record),
      ...(detail === undefined ? {} : { detail }),
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

  /** A configured token is good only in the process that was told to use it, and for a grace once it is replaced. */
  #endOf({ record, life }: Known, now: number): TokenEnd | undefined {
    if (life.endsAt <= now) return life.end
    if (record.kind === 'managed' || record.replacedAt !== undefined) return undefined
    return this.configuredIds.has(record.id) ? undefined : 'replaced'
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

function isUnborn(
  { id, predecessorId }: TokenRecord,
  byId: ReadonlyMap<string, { readonly record: TokenRecord }>,
): boolean {
  const predecessor = predecessorId === undefined ? undefined : byId.get(predecessorId)
  return predecessor !== undefined && predecessor.record.successorId !== id
}

function knownOf(
  record: TokenRecord,
  rotation: Rotation | undefined,
): Pick<Known, 'record' | 'bytes' | 'life' | 'proof' | 'sunsetProof'> {
  const { id, name, scopes, paths, networks } = record
  const identity: Identity = { id: identityPrefix + id, name, scopes, paths, networks }
  const life = lifeOf(record, rotation)
  const proof: Proof = { kind: 'valid', identity }
  return {
    record,
    bytes: Buffer.from(record.digest, 'base64'),
    life,
    proof,
    sunsetProof: Number.isFinite(life.endsAt)
      ? { ...proof, headers: ['Sunset', httpDate(life.endsAt)] }
      : proof,
  }
}
