/** How long a token is good: its greatest age, the grace of a rotation, and why it ends. Pure. */
import type { Facts } from '../gates/gate.ts'
import { days, hours, type Millis } from '../limits.ts'
import type { TokenRecord } from './token-record.ts'

/** The rule of `gateway.auth.tokenRotation` and `rotationGrace`. */
export interface Rotation {
  /** The greatest age of a token. */
  readonly maxAgeMs: Millis
  /** How long a token stays good beside its successor, and past its age without one. */
  readonly graceMs: Millis
}

/** The default of `gateway.auth.tokenRotation`. */
export const rotationMsDefault: Millis = days(30)
/** The most that the grace amounts to where the configuration does not say it. */
export const graceMsMost: Millis = hours(24)

/** The rotation of a configuration: the grace is a tenth of the age and at most a day, unless it is said. */
export function rotationOf(maxAgeMs: Millis, graceMs?: Millis): Rotation {
  return { maxAgeMs, graceMs: graceMs ?? Math.min(maxAgeMs / 10, graceMsMost) }
}

/** Where a client fetches the successor of its token, with that token. */
export const renewalPath = '/.hardshell/token'

/** True for the request that fetches a successor: the one thing that a token past its age may still do. */
export function isRenewal({ method, path }: Pick<Facts, 'method' | 'path'>): boolean {
  return method === 'POST' && path === renewalPath
}

/**
 * Why a token is no longer good. `retired`: the grace after its rotation is over. `replaced`: the same for a configured
 * token. `aged`: past its age and the grace, without a successor.
 */
export type TokenEnd = 'revoked' | 'expired' | 'replaced' | 'retired' | 'aged'

/** The moments in the life of a token, ms since the epoch; what never comes is `Infinity`, what always was `-Infinity`. */
export interface TokenLife {
  /** When its age is reached and its successor can be fetched. */
  readonly dueAt: number
  /** From when answers to it say when it ends. */
  readonly sunsetAt: number
  /** From when it is refused. */
  readonly endsAt: number
  /** Why it is refused then. */
  readonly end: TokenEnd
  /** Until when its successor can be fetched with it; one more age than it was good for. */
  readonly renewableUntil: number
}

/** The share of its age from which a token is announced to end. */
const sunsetShare = 0.8

/** The life of a token under a rotation; without one only what the record says. */
export function lifeOf(record: TokenRecord, rotation?: Rotation): TokenLife {
  const past = -Infinity
  const never = Infinity
  const still = { dueAt: never, sunsetAt: never, renewableUntil: past }
  if (record.revokedAt !== undefined) return { ...still, endsAt: past, end: 'revoked' }
  const expiresAt = record.expiresAt ?? never
  const rotatedAt = record.replacedAt ?? record.rotatedAt
  if (rotatedAt !== undefined) {
    // What was promised then may become shorter by a new configuration, never longer: an ended token stays ended.
    const graceMs = rotation?.graceMs ?? never
    const endsAt = Math.min(record.graceEndsAt ?? past, rotatedAt + graceMs)
    const end = record.replacedAt === undefined ? 'retired' : 'replaced'
    return expiresAt < endsAt
      ? { ...still, sunsetAt: rotatedAt, endsAt: expiresAt, end: 'expired' }
      : { ...still, sunsetAt: rotatedAt, endsAt, end }
  }
  if (rotation === undefined) return { ...still, endsAt: expiresAt, end: 'expired' }
  const { maxAgeMs, graceMs } = rotation
  const dueAt = record.createdAt + maxAgeMs
  // A token that expires before it is due needs no successor.
  if (expiresAt <= dueAt) return { ...still, endsAt: expiresAt, end: 'expired' }
  const agedAt = dueAt + graceMs
  return {
    dueAt,
    sunsetAt: record.createdAt + maxAgeMs * sunsetShare,
    ...(expiresAt <= agedAt
      ? ({ endsAt: expiresAt, end: 'expired' } as const)
      : ({ endsAt: agedAt, end: 'aged' } as const)),
    renewableUntil: record.kind === 'managed' ? Math.min(agedAt + maxAgeMs, expiresAt) : past,
  }
}

/** Why a token is not good at `now` (ms since the epoch); `undefined` while it is. */
export function endOf(record: TokenRecord, now: number, rotation?: Rotation): TokenEnd | undefined {
  const { endsAt, end } = lifeOf(record, rotation)
  return endsAt <= now ? end : undefined
}

/** True while a token can fetch its successor: due, and not past for too long. */
export function isRenewable({ dueAt, renewableUntil }: TokenLife, now: number): boolean {
  return dueAt <= now && now < renewableUntil
}

/** The moment as an HTTP-date (RFC 9110 §5.6.7), for `Sunset` (RFC 8594). */
export function httpDate(ms: number): string {
  return new Date(ms).toUTCString()
}

/** The shares of its age, in percent, at which a token is reported, highest first. */
export const alertPercents = [100, 95, 80] as const

/** The highest share that a token without a successor has reached; `undefined` below the first, and once it ended. */
export function alertOf(
  record: TokenRecord,
  now: number,
  rotation: Rotation,
): (typeof alertPercents)[number] | undefined {
  const { dueAt, endsAt } = lifeOf(record, rotation)
  if (dueAt === Infinity || endsAt <= now) return undefined
  const percent = ((now - record.createdAt) / rotation.maxAgeMs) * 100
  return alertPercents.find((share) => percent >= share)
}
