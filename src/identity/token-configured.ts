/** The configured token: one more entry of the table, known by its hash since the day it was first seen. */
import { Failure } from '../errors.ts'
import { absent, type Store } from '../store/store.ts'
import { endOf, type Rotation } from './token-life.ts'
import { fingerprintOf, type TokenRecord, type TokenView } from './token-record.ts'
import { recordPrefix, type TokenTable } from './token-table.ts'

const { hash } = process.getBuiltinModule('node:crypto')

/** The name of the configured token in lists and in the audit log. */
export const configuredName = 'default'

/** How a configured token is taken over. */
export interface ConfigureOptions {
  /** An earlier day on which it was seen, ms since the epoch. */
  readonly firstSeenAt?: number
  /** Fail with TOKEN_REVOKED or TOKEN_AGED, and leave the one before as it is, when this one would be refused. */
  readonly mustBeGood?: boolean
}

/** What others remember of a configured token that the store does not know. Times in ms since the epoch. */
export interface Remembered {
  readonly firstSeenAt?: number
  readonly revokedAt?: number
}

/** What taking it over works with. */
export interface ConfiguredDeps {
  readonly store: Store
  readonly table: TokenTable
  readonly now: () => number
  readonly rotation?: Rotation | undefined
  readonly onTrouble?: ((failure: Failure) => void) | undefined
  /** What is remembered of a token that the store does not know, by its fingerprint. */
  readonly firstSeenOf?: ((fingerprint: string) => Promise<Remembered | undefined>) | undefined
  /** Reads the tokens into the table again. */
  readonly load: () => Promise<void>
}

/** Swaps lost to other writers before giving up. */
const swapsMax = 10

/** Puts the configured token into the table, and its predecessor out of it. One call at a time: the book sees to that. */
export class Configured {
  readonly #deps: ConfiguredDeps

  constructor(deps: ConfiguredDeps) {
    this.#deps = deps
  }

  /**
   * Makes `value` the configured token, or leaves none. The one before is good for the grace of the rotation. The order
   * of the writes is what makes a crash harmless: first the new one is known, then the old one ends.
   */
  async use(
    value: string | undefined,
    options: ConfigureOptions = {},
  ): Promise<TokenView | undefined> {
    const { table, load } = this.#deps
    const digest = value === undefined ? undefined : hash('sha256', value, 'base64')
    const id = digest === undefined ? undefined : `default-${fingerprintOf({ digest })}`
    for (let tries = 0; tries < swapsMax; tries += 1) {
      await load()
      if (digest !== undefined && id !== undefined) {
        if (!(await this.#see(id, digest, options))) continue
      }
      const ids = id === undefined ? [] : [id]
      // In memory too the new one is good before the old one goes: there is never none.
      table.configuredIds = new Set([...table.configuredIds, ...ids])
      if (!(await this.#replaceOthers(id))) continue
      table.configuredIds = new Set(ids)
      table.notice()
      return this.#view(id)
    }
    throw new Failure(
      'TOKEN_CONFLICT',
      'The token was changed by others at the same time. Try again.',
    )
  }

  /** Makes sure that it is in the store; `false` when another writer was first. */
  async #see(
    id: string,
    digest: string,
    { firstSeenAt, mustBeGood = false }: ConfigureOptions,
  ): Promise<boolean> {
    const { table } = this.#deps
    const known = table.get(id)
    if (known === undefined) {
      const record = await this.#remembered(id, digest, firstSeenAt)
      if (mustBeGood) this.#requireGood(record)
      const first = await this.#swap(record, absent)
      if (first) this.#tell(record)
      return first
    }
    if (known.record.digest !== digest) {
      throw new Failure(
        'TOKEN_CONFLICT',
        'The configured token has the fingerprint of another. Make a new one: openssl rand -hex 32',
      )
    }
    // Its age does not begin anew when it comes back.
    const { replacedAt, graceEndsAt: _, ...record } = known.record
    if (mustBeGood) this.#requireGood(record)
    const createdAt = Math.min(record.createdAt, firstSeenAt ?? record.createdAt)
    if (replacedAt === undefined && createdAt === record.createdAt) return true
    return this.#swap({ ...record, createdAt }, known.version)
  }

  /** The record of a token that the store does not know: no younger and no better than others remember it. */
  async #remembered(id: string, digest: string, firstSeenAt?: number): Promise<TokenRecord> {
    const { now, firstSeenOf } = this.#deps
    const before = await firstSeenOf?.(fingerprintOf({ digest }))
    const at = now()
    return {
      id,
      name: configuredName,
      kind: 'configured',
      digest,
      scopes: ['operate'],
      paths: [],
      networks: [],
      createdAt: Math.min(firstSeenAt ?? at, before?.firstSeenAt ?? at, at),
      ...(before?.revokedAt === undefined ? {} : { revokedAt: before.revokedAt }),
    }
  }

  /** One that was revoked is told as such again, so that the newest files of the log have it. */
  #tell(record: TokenRecord): void {
    const { table } = this.#deps
    const since = new Date(record.createdAt).toISOString()
    if (record.revokedAt !== undefined) table.tell('token.revoked', record)
    else table.tell('token.first-seen', record, `first seen ${since}`)
  }

  /** A token that was replaced may come back, one that ended for good may not. */
  #requireGood(record: TokenRecord): void {
    const { now, rotation } = this.#deps
    const end = endOf(record, now(), rotation)
    if (end === undefined) return
    throw new Failure(
      end === 'revoked' ? 'TOKEN_REVOKED' : 'TOKEN_AGED',
      `The new configured token is ${end}, so the one before stays. Make a fresh one: openssl rand -hex 32`,
    )
  }

  /** Marks the configured tokens of before; `false` when another writer was first. */
  async #replaceOthers(id: string | undefined): Promise<boolean> {
    const { table, now, rotation } = this.#deps
    for (const { record, version } of table.all()) {
      const old = record.kind === 'configured' && record.id !== id
      if (!old || record.replacedAt !== undefined) continue
      const replacedAt = now()
      const graceEndsAt = replacedAt + (rotation?.graceMs ?? 0)
      // One that has ended, or that left the configuration without another in its place, gets no grace.
      const graced = id !== undefined && endOf(record, replacedAt, rotation) === undefined
      const replaced = { ...record, replacedAt, ...(graced ? { graceEndsAt } : {}) }
      if (!(await this.#swap(replaced, version))) return false
    }
    return true
  }

  #view(id: string | undefined): TokenView | undefined {
    const { table, onTrouble } = this.#deps
    const known = id === undefined ? undefined : table.get(id)
    if (known === undefined) return undefined
    if (known.record.revokedAt !== undefined) {
      onTrouble?.(
        new Failure(
          'TOKEN_REVOKED',
          'The configured token was revoked and stays refused. Put a new one into gateway.auth.token or its file.',
        ),
      )
    }
    return table.view(known)
  }

  /** Writes a record if nobody wrote it since `version`, and takes it over into memory. */
  async #swap(record: TokenRecord, version: number): Promise<boolean> {
    const key = recordPrefix + record.id
    if (!(await this.#deps.store.compareAndSwap(key, version, JSON.stringify(record)))) return false
    await this.#deps.load()
    return true
  }
}
