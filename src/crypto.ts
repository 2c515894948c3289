/** Everything that is signed: the one file that knows jose, which is loaded at first use. */
import type { CryptoKey } from 'jose'

/** An Ed25519 key pair as a JWK (RFC 8037), as it stands in a key file. */
export interface SigningKey {
  readonly kty: 'OKP'
  readonly crv: 'Ed25519'
  readonly x: string
  /** The private part; a key that only verifies has none. */
  readonly d?: string
}

/** What a checkpoint of the audit log says: the record `seq` has this hash. */
export interface Checkpoint {
  readonly seq: number
  readonly hash: string
  /** RFC 3339, when it was signed. */
  readonly time: string
}

/** The fully specified name of RFC 9864, so that no other curve can be meant. */
const algorithm = 'Ed25519'
/** Keeps a signature made for something else from passing as a checkpoint (RFC 8725 §3.11). */
const checkpointType = 'hardshell-checkpoint'

/** A fresh Ed25519 key pair. */
export async function makeSigningKey(): Promise<SigningKey> {
  const { generateKeyPair, exportJWK } = await import('jose')
  const { privateKey } = await generateKeyPair(algorithm, { extractable: true })
  const { x, d } = await exportJWK(privateKey)
  if (x === undefined || d === undefined) throw new TypeError('an Ed25519 key came without x or d')
  return { kty: 'OKP', crv: 'Ed25519', x, d }
}

/** A compact JWS (RFC 7515) over the checkpoint. Rejects when the key has no private part. */
export async function signCheckpoint(key: SigningKey, checkpoint: Checkpoint): Promise<string> {
  const { CompactSign } = await import('jose')
  return new CompactSign(new TextEncoder().encode(JSON.stringify(checkpoint)))
    .setProtectedHeader({ alg: algorithm, typ: checkpointType })
    .sign({ ...key })
}

/** The checkpoint in a compact JWS, or undefined when this key did not sign it. */
export async function verifyCheckpoint(
  key: SigningKey,
  jws: string,
): Promise<Checkpoint | undefined> {
  const { compactVerify, errors } = await import('jose')
  try {
    const { kty, crv, x } = key
    const verified = await compactVerify(jws, { kty, crv, x }, { algorithms: [algorithm] })
    return verified.protectedHeader.typ === checkpointType ? readCheckpoint(jws) : undefined
  } catch (thrown) {
    if (thrown instanceof errors.JOSEError) return undefined
    throw thrown
  }
}

/**
 * What a compact JWS claims, without a look at its signature; undefined when it is no checkpoint.
 */
export function readCheckpoint(jws: string): Checkpoint | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(jws.split('.')[1] ?? '', 'base64url').toString())
    if (typeof value !== 'object' || value === null) return undefined
    if (!('seq' in value) || !('hash' in value) || !('time' in value)) return undefined
    const { seq, hash, time } = value
    if (typeof seq !== 'number' || typeof hash !== 'string' || typeof time !== 'string')
      return undefined
    return Number.isSafeInteger(seq) && seq > 0 ? { seq, hash, time } : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

/** A public key of a service, as the host fetched it: a JWK (RFC 7517) or a PEM certificate. */
export interface JwtKey {
  readonly kid: string
  readonly jwk?: Readonly<Record<string, unknown>>
  readonly x509?: string
}

/** What a token of a service must say. `toleranceMs` is allowed at `exp` and `nbf`. */
export interface JwtRules {
  readonly issuer: string
  readonly audience: string
  readonly toleranceMs: number
}

/**
 * The claims of an RS256 token (RFC 7519) that one of these keys signed, or undefined. Keys and
 * addresses inside the token are never used (RFC 8725 §3.5), other algorithms never accepted
 * (§3.1); `exp` and `kid` are required.
 */
export async function verifyServiceJwt(
  token: string,
  keys: readonly JwtKey[],
  rules: JwtRules,
  now: number,
): Promise<Readonly<Record<string, unknown>> | undefined> {
  const { jwtVerify, importJWK, importX509, errors } = await import('jose')
  try {
    const verified = await jwtVerify(
      token,
      async ({ kid }) => {
        const key = kid === undefined ? undefined : keys.find((one) => one.kid === kid)
        if (key?.x509 !== undefined) return importX509(key.x509, 'RS256')
        if (key?.jwk === undefined) throw new errors.JWKSNoMatchingKey()
        const found = await importJWK({ ...key.jwk }, 'RS256')
        // A symmetric JWK would come as bytes: the public key must never serve as a shared secret.
        if (found instanceof Uint8Array) throw new errors.JWKSNoMatchingKey()
        return found
      },
      {
        algorithms: ['RS256'],
        issuer: rules.issuer,
        audience: rules.audience,
        requiredClaims: ['exp'],
        clockTolerance: rules.toleranceMs / 1000,
        currentDate: new Date(now),
      },
    )
    return verified.payload
  } catch (thrown) {
    // A key that is no key is a TypeError of jose or of the engine: no proof either way.
    if (thrown instanceof errors.JOSEError || thrown instanceof TypeError) return undefined
    throw thrown
  }
}

/** The `kid` of a compact token before any check, to pick a key by; undefined when it has none. */
export async function keyIdOf(token: string): Promise<string | undefined> {
  const { decodeProtectedHeader } = await import('jose')
  try {
    const { kid } = decodeProtectedHeader(token)
    return typeof kid === 'string' ? kid : undefined
  } catch (thrown) {
    if (thrown instanceof TypeError) return undefined
    throw thrown
  }
}

/** A public key, ready to verify with. */
export type VerifyKey = CryptoKey

/**
 * What a client's token may be signed with, and the key that each algorithm needs: asymmetric ones only, so that no
 * public key can ever serve as a shared secret (RFC 8725 §3.1, §3.2).
 */
const clientAlgorithms: Readonly<Record<string, string>> = {
  RS256: 'RSA',
  RS384: 'RSA',
  RS512: 'RSA',
  PS256: 'RSA',
  PS384: 'RSA',
  PS512: 'RSA',
  ES256: 'P-256',
  ES384: 'P-384',
  ES512: 'P-521',
  EdDSA: 'Ed25519',
  Ed25519: 'Ed25519',
}

/** Says whether a client's token may be signed with this algorithm. */
export function isClientAlgorithm(alg: unknown): alg is string {
  return typeof alg === 'string' && Object.hasOwn(clientAlgorithms, alg)
}

/** Says whether a JWK (RFC 7517) may verify this algorithm, by its kind and by what it says it is for. */
export function isKeyFor(jwk: Readonly<Record<string, unknown>>, alg: string): boolean {
  const kind = jwk['kty'] === 'RSA' ? 'RSA' : jwk['crv']
  if (!isClientAlgorithm(alg) || kind !== clientAlgorithms[alg]) return false
  const { use, key_ops: uses, alg: only } = jwk
  const edwards = alg === 'EdDSA' || alg === 'Ed25519'
  return (
    (use === undefined || use === 'sig') &&
    (uses === undefined || (Array.isArray(uses) && uses.includes('verify'))) &&
    (only === undefined || only === alg || (edwards && (only === 'EdDSA' || only === 'Ed25519')))
  )
}

/** The public part of a JWK as a key for one algorithm; undefined when it is no such key. */
export async function importVerifyKey(
  jwk: Readonly<Record<string, unknown>>,
  alg: string,
): Promise<VerifyKey | undefined> {
  if (!isKeyFor(jwk, alg)) return undefined
  const { importJWK } = await import('jose')
  const { kty, n, e, crv, x, y } = jwk
  const parts = Object.entries({ n, e, crv, x, y }).filter(([, part]) => part !== undefined)
  try {
    const key = await importJWK({ kty: String(kty), ...Object.fromEntries(parts) }, alg)
    return key instanceof Uint8Array ? undefined : key
  } catch (thrown) {
    // Errors of jose and of the engine alike: a key that cannot be read is no key.
    if (thrown instanceof Error) return undefined
    throw thrown
  }
}

/** The claims of a good token, or why it is none: a sentence for the log without a word of the client's. */
export type JwtVerdict =
  | { readonly claims: Readonly<Record<string, unknown>> }
  | { readonly because: string }

/**
 * Verifies a client's token (RFC 7519, RFC 8725) against `now` in ms since the epoch: algorithm, signature, `iss`, `aud`,
 * `exp` and `nbf`. Only `find` gives keys; what the token says about keys and addresses is never looked at. What `find`
 * throws comes through.
 */
export async function verifyClientJwt(
  token: string,
  find: (alg: string, kid: string | undefined) => Promise<VerifyKey | undefined>,
  rules: JwtRules,
  now: number,
): Promise<JwtVerdict> {
  const { jwtVerify, errors } = await import('jose')
  try {
    const verified = await jwtVerify(
      token,
      async ({ alg, kid }) => {
        const key = await find(alg, kid)
        if (key === undefined) throw new errors.JWKSNoMatchingKey()
        return key
      },
      {
        algorithms: Object.keys(clientAlgorithms),
        issuer: rules.issuer,
        audience: rules.audience,
        requiredClaims: ['exp'],
        clockTolerance: rules.toleranceMs / 1000,
        currentDate: new Date(now),
      },
    )
    return { claims: verified.payload }
  } catch (thrown) {
    if (thrown instanceof errors.JWTClaimValidationFailed) {
      const { claim, reason } = thrown
      return { because: `the claim ${claim} is ${reason === 'missing' ? 'missing' : 'not good'}` }
    }
    if (thrown instanceof errors.JOSEError) {
      return { because: joseReasons[thrown.code] ?? 'it is malformed' }
    }
    // A key that is too weak is a TypeError of jose: no proof either way.
    if (thrown instanceof TypeError) return { because: 'the key is not acceptable' }
    throw thrown
  }
}

const joseReasons: Readonly<Record<string, string>> = {
  ERR_JWT_EXPIRED: 'it has expired',
  ERR_JOSE_ALG_NOT_ALLOWED: 'its algorithm is not allowed',
  ERR_JWS_SIGNATURE_VERIFICATION_FAILED: 'its signature is wrong',
  ERR_JWKS_NO_MATCHING_KEY: 'the issuer has no such key',
  ERR_JOSE_NOT_SUPPORTED: 'it needs an extension that is not supported',
}

/** Keeps a signature made for something else from passing as a list of plugins. */
const pluginsType = 'hardshell-plugins'

/** A compact JWS over the hashes of trusted plugins by name. Rejects when the key has no private part. */
export async function signPlugins(
  key: SigningKey,
  hashes: Readonly<Record<string, string>>,
): Promise<string> {
  const { CompactSign } = await import('jose')
  return new CompactSign(new TextEncoder().encode(JSON.stringify(hashes)))
    .setProtectedHeader({ alg: algorithm, typ: pluginsType })
    .sign({ ...key })
}

/** The hashes in a compact JWS, or undefined when this key did not sign it. */
export async function verifyPlugins(
  key: SigningKey,
  jws: string,
): Promise<ReadonlyMap<string, string> | undefined> {
  const { compactVerify, errors } = await import('jose')
  try {
    const { kty, crv, x } = key
    const verified = await compactVerify(jws, { kty, crv, x }, { algorithms: [algorithm] })
    if (verified.protectedHeader.typ !== pluginsType) return undefined
    const value: unknown = JSON.parse(new TextDecoder().decode(verified.payload))
    if (typeof value !== 'object' || value === null) return undefined
    return new Map(Object.entries(value).map(([name, hash]) => [name, String(hash)]))
  } catch (thrown) {
    if (thrown instanceof errors.JOSEError || thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}
