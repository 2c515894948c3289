/** Everything that is signed: the one file that knows jose, which is loaded at first use. */

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
