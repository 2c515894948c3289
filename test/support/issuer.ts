/** An issuer of JWTs: keys of every kind, tokens with any header and claims, and a server that publishes the keys. */
import { constants, generateKeyPairSync, sign, type KeyObject } from 'node:crypto'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { plant } from './secrets.ts'

export type Jwk = Readonly<Record<string, unknown>>

/** A key pair with the algorithm that it is used for. */
export interface TestKey {
  readonly alg: string
  readonly kid: string
  readonly privateKey: KeyObject
  readonly publicKey: KeyObject
  /** The public part, as a key set has it. */
  readonly jwk: Jwk
}

const curves: Readonly<Record<string, string>> = { ES256: 'P-256', ES384: 'P-384', ES512: 'P-521' }

function pairFor(alg: string, rsaBits: number) {
  if (curves[alg] !== undefined) {
    return generateKeyPairSync('ec', { namedCurve: curves[alg] })
  }
  if (alg === 'EdDSA') return generateKeyPairSync('ed25519')
  return generateKeyPairSync('rsa', { modulusLength: rsaBits })
}

export function makeKey(alg: string, kid: string, rsaBits = 2048): TestKey {
  const { privateKey, publicKey } = pairFor(alg, rsaBits)
  return withKey(alg, kid, privateKey, publicKey)
}

/** The same pair for another algorithm or under another name. */
export function withKey(
  alg: string,
  kid: string,
  privateKey: KeyObject,
  publicKey: KeyObject,
): TestKey {
  const jwk = { ...publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' }
  return { alg, kid, privateKey, publicKey, jwk }
}

/** The signature over `data` as RFC 7518 and RFC 8037 have it. */
export function signatureOf({ alg, privateKey: key }: TestKey, data: string): Buffer {
  const bytes = Buffer.from(data)
  if (alg === 'EdDSA') return sign(null, bytes, key)
  const digest = `sha${alg.slice(2)}`
  if (alg.startsWith('ES')) return sign(digest, bytes, { key, dsaEncoding: 'ieee-p1363' })
  if (!alg.startsWith('PS')) return sign(digest, bytes, key)
  const padding = constants.RSA_PKCS1_PSS_PADDING
  return sign(digest, bytes, { key, padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST })
}

/** base64url of JSON, or of a text as it is. */
export const part = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')

/** A compact JWS over these claims; `header` is laid over the usual one. A text stands for itself. */
export function jws(key: TestKey, claims: unknown, header: Jwk | string = {}): string {
  const { alg, kid } = key
  const head = typeof header === 'string' ? header : { alg, kid, typ: 'JWT', ...header }
  const data = `${part(head)}.${part(claims)}`
  const signature = signatureOf(key, data).toString('base64url')
  // Without its signature it opens nothing, and what it says of a person may be recorded.
  return `${data}.${plant('jwt', 'the signature of a JWT', signature)}`
}

/** Good claims of an hour around `now` (ms since the epoch). */
export function claimsAt(now: number, more: Jwk = {}): Jwk {
  const seconds = Math.floor(now / 1000)
  return {
    iss: 'https://id.example.com/',
    aud: 'hardshell',
    sub: 'alice-1',
    iat: seconds - 60,
    exp: seconds + 3600,
    ...more,
  }
}

export const keySetOf = (...keys: readonly TestKey[]): string =>
  JSON.stringify({ keys: keys.map(({ jwk }) => jwk) })

export interface TestIssuer {
  readonly url: string
  /** What is published; may be changed. */
  text: string
  /** Answers in place of the key set, when set. */
  answer: ((response: ServerResponse) => void) | undefined
  /** Paths that were asked for, in order. */
  readonly asked: string[]
  stop(): Promise<void>
}

/** Publishes a key set on a free loopback port. */
export async function startIssuer(text: string): Promise<TestIssuer> {
  const asked: string[] = []
  const issuer = { text, answer: undefined as TestIssuer['answer'] }
  const server = createServer((request, response) => {
    asked.push(request.url ?? '')
    if (issuer.answer !== undefined) {
      issuer.answer(response)
      return
    }
    response.writeHead(200, { 'Content-Type': 'application/jwk-set+json' })
    response.end(issuer.text)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return Object.assign(issuer, {
    url: `http://127.0.0.1:${port}/keys`,
    asked,
    stop: async () => {
      server.closeAllConnections()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  })
}
