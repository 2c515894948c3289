/** The prover of JWTs (RFC 7519, RFC 8725): `Authorization: Bearer <token of the configured issuer>`. */
import { hash } from 'node:crypto'

import { isClientAlgorithm, verifyClientJwt } from '../crypto.ts'
import type { Facts, Scope } from '../gates/gate.ts'
import { KiB, seconds, type Bytes, type Millis } from '../limits.ts'
import type { KeySet } from './jwks.ts'
import { noProof, type Proof, type Prover } from './proof.ts'
import { jwtIdentity, readName, readNames, type Admit, type Vouched } from './vouched.ts'

/** Which tokens are good: `gateway.auth.jwt`. */
export interface JwtSettings {
  readonly issuer: string
  readonly audience: string
  /** The claim that names the identity; it must be one that its owner cannot change. */
  readonly identityClaim: string
  readonly groupsClaim: string
}

/** What the prover of JWTs needs. */
export interface JwtDeps {
  readonly settings: JwtSettings
  readonly keys: KeySet
  readonly admit: Admit
  /** Takes the bearer values that are no JWT: the tokens of `hardshell token new`. */
  readonly otherwise: Prover
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Hears that no good token of an identity is known any more: what it has open must end. */
  readonly onExpired?: (identityId: string) => void
}

/** The prover of JWTs, and what lives by it. */
export interface JwtProver extends Prover {
  /** False once every token that this identity has shown has expired. */
  isGood(identityId: string): boolean
  /** Looks for tokens that have expired; to be called about twice a second. */
  tick(): void
  /** Verified tokens that are remembered now. */
  size(): number
}

/** Difference between the issuer's clock and ours that is forgiven (T053: at most 30 s). */
export const skewMs: Millis = seconds(30)
/** The longest token; the whole head of a request has 16 KiB. */
export const jwtBytesMax: Bytes = KiB(8)
/** Verified tokens that are remembered; beyond it the least recently used is verified again. */
const verifiedMax = 1000
/** Identities whose expiry is watched. */
const watchedMax = 10_000
/** What a vouched identity may do. The owner's own come with `owners`. */
const scopes: readonly Scope[] = ['chat']

const bearer = /^bearer +([\x21-\x7e]+)$/i
/** Three or five parts (RFC 7515 §7.1, RFC 7516 §7.1): ours, or an encrypted one, which nobody may send. */
const looksLikeJwt = /^[^.]*\.[^.]*\.[^.]*(?:\.[^.]*\.[^.]*)?$/
const base64url = /^[A-Za-z0-9_-]+$/

interface Verified {
  readonly who: Vouched
  /** The last moment at which it is accepted, ms since the epoch. */
  readonly until: number
  /** Of the keys that it was verified with. */
  readonly generation: number
}

/**
 * Proves by a JWT. A verified token is remembered by its SHA-256, because verifying costs up to 0.15 ms, until it expires
 * or the issuer's keys change. While there are no keys the answer is an error, which is a no (GATE_FAILED).
 */
export function jwtProver(deps: JwtDeps): JwtProver {
  const { keys, otherwise, now } = deps
  const verified = new Map<string, Verified>()
  const watched = new Map<string, number>()

  const end = (identityId: string) => {
    watched.delete(identityId)
    deps.onExpired?.(identityId)
  }
  const watch = (identityId: string, until: number) => {
    const before = watched.get(identityId) ?? 0
    watched.delete(identityId)
    watched.set(identityId, Math.max(before, until))
    const oldest = watched.size > watchedMax ? watched.keys().next().value : undefined
    if (oldest !== undefined) end(oldest)
  }
  const remember = (digest: string, known: Verified) => {
    verified.delete(digest)
    verified.set(digest, known)
    const oldest = verified.size > verifiedMax ? verified.keys().next().value : undefined
    if (oldest !== undefined) verified.delete(oldest)
  }
  /** Asked each time: the owner may let somebody in, or take them out, while the token is good. */
  const admitted = (who: Vouched, until: number): Proof => {
    const proof = deps.admit(who)
    if (proof.kind === 'valid' && (watched.get(who.identity.id) ?? 0) < until) {
      watch(who.identity.id, until)
    }
    return proof
  }
  const verify = async (token: string, digest: string, at: number): Promise<Proof> => {
    const before = keys.generation()
    const judged = await judge(token, deps, at)
    if ('because' in judged) return wrong(judged.because)
    const generation = keys.generation()
    // Keys that changed meanwhile may no longer have the one that it was verified with.
    if (generation !== undefined && (before === undefined || before === generation)) {
      remember(digest, { ...judged, generation })
    }
    return admitted(judged.who, judged.until)
  }
  return {
    name: 'jwt',
    prove: (facts: Facts) => {
      const { authorization } = facts
      if (authorization === undefined || authorization === '') return noProof
      const token = bearer.exec(authorization)?.[1]
      if (token === undefined || !looksLikeJwt.test(token)) return otherwise.prove(facts)
      if (token.length > jwtBytesMax) return wrong('it is too long')
      const digest = hash('sha256', token, 'base64')
      const known = verified.get(digest)
      if (known !== undefined) {
        if (known.until > facts.time && known.generation === keys.generation()) {
          remember(digest, known)
          return admitted(known.who, known.until)
        }
        verified.delete(digest)
      }
      // A token of ours may have dots too.
      if (headerOf(token) === undefined) return otherwise.prove(facts)
      return verify(token, digest, facts.time)
    },
    isGood: (identityId) => (watched.get(identityId) ?? 0) > now(),
    tick: () => {
      const at = now()
      for (const [identityId, until] of watched) if (until <= at) end(identityId)
    },
    size: () => verified.size,
  }
}

function wrong(because: string): Proof {
  return { kind: 'wrong', because: `JWT: ${because}`, guess: true }
}

type Judged = { readonly who: Vouched; readonly until: number } | { readonly because: string }

async function judge(token: string, deps: JwtDeps, at: number): Promise<Judged> {
  const malformed = defectOf(token)
  if (malformed !== undefined) return { because: malformed }
  const { keys, settings } = deps
  const verdict = await verifyClientJwt(
    token,
    (alg, kid) => keys.find(alg, kid),
    { issuer: settings.issuer, audience: settings.audience, toleranceMs: skewMs },
    at,
  )
  if ('because' in verdict) return verdict
  const { claims } = verdict
  // A logout or security event token (RFC 8417) of the same issuer says what happened, not who may come in.
  if (Object.hasOwn(claims, 'events')) return { because: 'it is a token about events' }
  // Bound to a key of its owner (RFC 7800, RFC 9449): whoever sends it bare may have stolen it.
  if (Object.hasOwn(claims, 'cnf')) return { because: 'it is bound to a key' }
  const who = whoIs(claims, settings)
  if ('because' in who) return who
  return { who, until: Number(claims['exp']) * 1000 + skewMs }
}

/** What can be wrong with a token before its signature is looked at; undefined when nothing is. */
function defectOf(token: string): string | undefined {
  const parts = token.split('.')
  if (parts.length === 5) return 'it is encrypted'
  if (!parts.every((part) => base64url.test(part))) return 'it is malformed'
  const header = headerOf(token)
  if (header === undefined || readObject(parts[1] ?? '') === undefined) return 'it is malformed'
  if (Object.hasOwn(header, 'crit')) return 'it needs an extension that is not supported'
  if (!isClientAlgorithm(header['alg'])) return 'its algorithm is not allowed'
  if (header['kid'] !== undefined && typeof header['kid'] !== 'string') return 'it is malformed'
  const { typ } = header
  if (typ === undefined || (typeof typ === 'string' && types.has(typ.toLowerCase())))
    return undefined
  return 'it is a token of another type'
}

/** Access and identity tokens (RFC 9068 §2.1); `logout+jwt`, `dpop+jwt` and the rest are for others (RFC 8725 §3.11). */
const types = new Set(['jwt', 'at+jwt', 'application/jwt', 'application/at+jwt'])

/** The protected header (RFC 7515 §4); undefined for a text that has none. */
function headerOf(token: string): Readonly<Record<string, unknown>> | undefined {
  return readObject(token.split('.', 1)[0] ?? '')
}

/** The JSON object in a part; undefined when it is none, or has a name twice (RFC 7519 §4). */
function readObject(part: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = Buffer.from(part, 'base64url')
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    // In valid JSON a string before a colon is always a name.
    const written = [...text.matchAll(/"(?:[^"\\]|\\.)*"(\s*:)?/g)]
    const names = written.filter(([, colon]) => colon !== undefined).length
    return names === namesIn(value) ? { ...value } : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError || thrown instanceof TypeError) return undefined
    throw thrown
  }
}

/** A loop and no recursion: the depth of what is read here is the client's choice. */
function namesIn(root: object): number {
  let names = 0
  const left: unknown[] = [root]
  for (let value = left.pop(); value !== undefined; value = left.pop()) {
    if (typeof value !== 'object' || value === null) continue
    const inside: readonly unknown[] = Object.values(value)
    if (!Array.isArray(value)) names += inside.length
    left.push(...inside)
  }
  return names
}

/** Who the claims are about. An e-mail address counts only when the issuer has verified it. */
function whoIs(
  claims: Readonly<Record<string, unknown>>,
  { issuer, identityClaim, groupsClaim }: JwtSettings,
): Vouched | { readonly because: string } {
  const claim = (name: string) => (Object.hasOwn(claims, name) ? claims[name] : undefined)
  const subject = readName(claim('sub'))
  const name = readName(claim(identityClaim))
  if (subject === undefined) return { because: 'the claim sub is missing or no name' }
  if (name === undefined) return { because: `the claim ${identityClaim} is missing or no name` }
  const email = claim('email_verified') === true ? readName(claim('email')) : undefined
  if (identityClaim === 'email' && email === undefined) {
    return { because: 'its e-mail address is not verified' }
  }
  const groups = readNames(claim(groupsClaim))
  const identity = {
    id: jwtIdentity(issuer, subject),
    name,
    scopes,
    paths: [],
    groups,
    ...(email === undefined ? {} : { email }),
  }
  return { identity, names: [subject, name, ...(email === undefined ? [] : [email])] }
}
