/** One row of the token table: what is stored, when it is good, and what may be shown of it. */
import { messageOf } from '../errors.ts'
import type { Scope } from '../gates/gate.ts'
import { lifeOf, type Rotation, type TokenEnd } from './token-life.ts'

/** All scopes, widest first. */
export const scopes: readonly Scope[] = ['admin', 'operate', 'chat', 'read', 'metrics']

/** What is stored of a token: everything but the token. */
export interface TokenRecord {
  readonly id: string
  readonly name: string
  /** `configured`: from gateway.auth.token, a file or the environment; we know it but cannot renew it. */
  readonly kind: 'managed' | 'configured'
  /** SHA-256 of the token in base64. */
  readonly digest: string
  readonly scopes: readonly Scope[]
  readonly paths: readonly string[]
  readonly networks: readonly string[]
  /** ms since the epoch; for a configured token the day it was first seen. */
  readonly createdAt: number
  readonly expiresAt?: number
  readonly revokedAt?: number
  /** When another configured token took its place. Cleared when it comes back: its age does not begin anew. */
  readonly replacedAt?: number
  /** When its successor was made, and which that is. */
  readonly rotatedAt?: number
  readonly successorId?: string
  /** Until when it stays good although it was rotated or replaced; without it not a moment. */
  readonly graceEndsAt?: number
  /** The token that this one follows. It counts only once that token names it as its successor. */
  readonly predecessorId?: string
}

/** What `token list` shows: never the token. Times in ms since the epoch. */
export interface TokenView {
  readonly id: string
  readonly name: string
  readonly kind: TokenRecord['kind']
  /** First 8 hexadecimal digits of the SHA-256: `printf %s "$TOKEN" | sha256sum | cut -c1-8`. */
  readonly fingerprint: string
  readonly status: 'good' | TokenEnd
  readonly scopes: readonly Scope[]
  readonly paths: readonly string[]
  readonly networks: readonly string[]
  readonly createdAt: number
  readonly expiresAt?: number
  readonly lastUsedAt?: number
  readonly revokedAt?: number
  /** When its age is reached: then a managed token has a successor, and a configured one must be replaced. */
  readonly dueAt?: number
  /** From when it is refused, as far as that is known. */
  readonly endsAt?: number
  /** When its successor was made, and which that is. */
  readonly rotatedAt?: number
  readonly successorId?: string
}

/** The view of a record at `now`. */
export function viewOf(
  record: TokenRecord,
  now: number,
  more: {
    readonly lastUsedAt?: number | undefined
    readonly rotation?: Rotation | undefined
  } = {},
): TokenView {
  const { id, name, kind, paths, networks, createdAt, expiresAt, revokedAt } = record
  const { rotatedAt, successorId } = record
  const { lastUsedAt, rotation } = more
  const { dueAt, endsAt, end } = lifeOf(record, rotation)
  return {
    id,
    name,
    kind,
    fingerprint: fingerprintOf(record),
    status: endsAt <= now ? end : 'good',
    scopes: record.scopes,
    paths,
    networks,
    createdAt,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(lastUsedAt === undefined ? {} : { lastUsedAt }),
    ...(revokedAt === undefined ? {} : { revokedAt }),
    ...(Number.isFinite(dueAt) ? { dueAt } : {}),
    ...(Number.isFinite(endsAt) ? { endsAt } : {}),
    ...(rotatedAt === undefined ? {} : { rotatedAt }),
    ...(successorId === undefined ? {} : { successorId }),
  }
}

/** First 8 hexadecimal digits of the SHA-256 of the token. */
export function fingerprintOf({ digest }: Pick<TokenRecord, 'digest'>): string {
  return Buffer.from(digest, 'base64').toString('hex').slice(0, 8)
}

/** Reads a stored record; a sentence when it is none, so that the caller can say which. */
export function readRecord(text: string): TokenRecord | string {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (thrown) {
    return messageOf(thrown)
  }
  return isRecord(value) ? value : 'it is not a token record'
}

function isRecord(value: unknown): value is TokenRecord {
  if (typeof value !== 'object' || value === null) return false
  const fields: Readonly<Record<string, unknown>> = { ...value }
  const isText = (name: string) => typeof fields[name] === 'string'
  const isMaybeText = (name: string) => fields[name] === undefined || isText(name)
  const isTime = (name: string) => Number.isSafeInteger(fields[name])
  const isMaybeTime = (name: string) => fields[name] === undefined || isTime(name)
  const isList = (name: string, good: (item: unknown) => boolean) => {
    const list = fields[name]
    return Array.isArray(list) && list.every(good)
  }
  const isItem = (item: unknown) => typeof item === 'string'
  return (
    ['id', 'name', 'digest'].every(isText) &&
    (fields['kind'] === 'managed' || fields['kind'] === 'configured') &&
    isList('scopes', (item) => scopes.some((scope) => scope === item)) &&
    isList('paths', isItem) &&
    isList('networks', isItem) &&
    isTime('createdAt') &&
    ['expiresAt', 'revokedAt', 'replacedAt', 'rotatedAt', 'graceEndsAt'].every(isMaybeTime) &&
    ['successorId', 'predecessorId'].every(isMaybeText)
  )
}
