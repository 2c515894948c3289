/** The issuer's public keys (JWKS, RFC 7517 §5): fetched or read, kept, renewed, and refused when they are too old. */
import type { ClientRequest, IncomingMessage, RequestOptions } from 'node:http'

import { importVerifyKey, isClientAlgorithm, isKeyFor, type VerifyKey } from '../crypto.ts'
import { Failure, messageOf } from '../errors.ts'
import { readTrusted } from '../files.ts'
import { hours, KiB, minutes, seconds, type Bytes, type Millis } from '../limits.ts'

/** Where the text of a key set comes from. Rejects when there is none. */
export type KeyText = () => Promise<string>

/** How long keys are used, in ms on a monotonic clock. */
export interface KeySetTimes {
  /** After this the keys are asked for again. */
  readonly maxAgeMs: Millis
  /** Between two askings, whoever wants them (T055: nobody makes us flood the issuer). */
  readonly cooldownMs: Millis
  /** The last good keys are used no longer than this when newer ones cannot be had. */
  readonly lastGoodMs: Millis
  /** How long a request waits for newer keys while there are good ones. */
  readonly patienceMs: Millis
}

/** Times for keys behind a URL. */
export const urlTimes: KeySetTimes = {
  maxAgeMs: minutes(10),
  cooldownMs: seconds(30),
  lastGoodMs: hours(24),
  patienceMs: seconds(2),
}

/** Times for keys in a file, which costs next to nothing to read again. */
export const fileTimes: KeySetTimes = { ...urlTimes, maxAgeMs: seconds(10), cooldownMs: seconds(1) }

/** What a key set needs from outside. */
export interface KeySetDeps {
  readonly text: KeyText
  readonly times: KeySetTimes
  /** Monotonic clock, ms. */
  readonly now: () => Millis
  /** Hears once that the keys cannot be had, and `undefined` once they can again. */
  readonly onTrouble: (because: string | undefined) => void
}

/** The keys of one issuer. */
export interface KeySet {
  /**
   * The one key for an algorithm and `kid`. Without a `kid` there must be exactly one that fits. Undefined when the
   * issuer has no such key; rejects with JWKS_UNAVAILABLE while there are no keys that may be used.
   */
  find(alg: string, kid: string | undefined): Promise<VerifyKey | undefined>
  /** Another number after the keys have changed; undefined while there are none that may be used. Renews old keys. */
  generation(): number | undefined
  /** Asks for the keys once, now. */
  warm(): Promise<void>
}

/** Bytes of a key set; the largest that are published have a fifth of it. */
export const keySetBytesMax: Bytes = KiB(256)
/** Keys of a set. */
const keysMax = 100
/** Time for a key set to arrive whole. */
const fetchMs = seconds(5)

interface Key {
  readonly jwk: Readonly<Record<string, unknown>>
  /** By algorithm: importing costs as much as verifying. */
  readonly ready: Map<string, Promise<VerifyKey | undefined>>
}

interface Keys {
  readonly text: string
  readonly byId: ReadonlyMap<string, readonly Key[]>
  readonly all: readonly Key[]
}

/** Keeps the keys of an issuer: one asking at a time, a pause between them, the last good keys for a while. */
export function keySet(deps: KeySetDeps): KeySet {
  const { times, now } = deps
  let keys: Keys | undefined
  let generation = 0
  let loadedAt = 0
  let askedAt: number | undefined
  let asking: Promise<void> | undefined
  let troubled = false

  const ask = async (): Promise<void> => {
    try {
      const text = await deps.text()
      if (keys === undefined || keys.text !== text) {
        keys = readKeys(text)
        generation += 1
      }
      loadedAt = now()
      if (troubled) deps.onTrouble(undefined)
      troubled = false
    } catch (thrown) {
      if (!troubled) deps.onTrouble(messageOf(thrown))
      troubled = true
    }
  }
  const renew = (): Promise<void> => {
    if (asking !== undefined) return asking
    if (askedAt !== undefined && now() - askedAt < times.cooldownMs) return done
    askedAt = now()
    asking = ask().finally(() => {
      asking = undefined
    })
    return asking
  }
  const usable = (): Keys | undefined =>
    keys !== undefined && now() - loadedAt <= times.lastGoodMs ? keys : undefined
  const isOld = (): boolean => now() - loadedAt > times.maxAgeMs

  const current = async (): Promise<Keys> => {
    if (usable() === undefined) await renew()
    else if (isOld()) await atMost(renew(), times.patienceMs)
    const known = usable()
    if (known === undefined)
      throw new Failure('JWKS_UNAVAILABLE', 'there are no keys of the issuer')
    return known
  }
  return {
    find: async (alg, kid) => {
      const known = await current()
      const found = pick(known, alg, kid)
      if (found !== undefined) return ready(found, alg)
      // A key that we have not seen: the issuer may have made a new one.
      await atMost(renew(), times.patienceMs)
      const renewed = pick(usable() ?? known, alg, kid)
      return renewed === undefined ? undefined : ready(renewed, alg)
    },
    generation: () => {
      if (usable() === undefined || isOld()) void renew()
      return usable() === undefined ? undefined : generation
    },
    warm: renew,
  }
}

const done = Promise.resolve()

/** A plain look-up: a `kid` is never a path, a URL or part of a query (RFC 8725 §3.10). */
function pick(keys: Keys, alg: string, kid: string | undefined): Key | undefined {
  if (!isClientAlgorithm(alg)) return undefined
  const named = kid === undefined ? keys.all : (keys.byId.get(kid) ?? [])
  const fitting = named.filter(({ jwk }) => isKeyFor(jwk, alg))
  return fitting.length === 1 ? fitting[0] : undefined
}

function ready(key: Key, alg: string): Promise<VerifyKey | undefined> {
  const known = key.ready.get(alg)
  if (known !== undefined) return known
  const imported = importVerifyKey(key.jwk, alg)
  key.ready.set(alg, imported)
  return imported
}

/** Reads a key set. Keys that sign nothing we accept are left out; a set without any other is none. */
function readKeys(text: string): Keys {
  const document: unknown = JSON.parse(text)
  const listed =
    typeof document === 'object' && document !== null && 'keys' in document
      ? document.keys
      : undefined
  if (!Array.isArray(listed) || listed.length > keysMax) {
    throw new SyntaxError(`it is not a key set of at most ${keysMax} keys`)
  }
  const all = listed.filter(isPublicKey).map((jwk): Key => ({ jwk, ready: new Map() }))
  if (all.length === 0) throw new SyntaxError('it has no key that may verify a signature')
  const byId = new Map<string, Key[]>()
  for (const key of all) {
    const kid = key.jwk['kid']
    if (typeof kid !== 'string') continue
    const same = byId.get(kid)
    if (same === undefined) byId.set(kid, [key])
    else same.push(key)
  }
  return { text, byId, all }
}

/** A shared secret (`oct`) has no place in a set that is published. */
function isPublicKey(value: unknown): value is Readonly<Record<string, unknown>> {
  return (
    typeof value === 'object' &&
    value !== null &&
    'kty' in value &&
    ['RSA', 'EC', 'OKP'].includes(String(value.kty))
  )
}

async function atMost(work: Promise<void>, timeMs: Millis): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const over = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeMs)
  })
  await Promise.race([work, over])
  clearTimeout(timer)
}

/** A key set in a file of ours; it is no secret, but whoever can write it can make tokens. */
export function keysFromFile(path: string, follow = false): KeyText {
  return () =>
    new Promise((resolve) => {
      resolve(readTrusted(path, {}, { parent: 'safe', maxBytes: keySetBytesMax, follow }).text)
    })
}

/** A key set behind a URL of the configuration: 200 within 5 s, at most 256 KiB, no redirect is followed. */
export function keysFromUrl(url: string, timeMs: Millis = fetchMs): KeyText {
  return async () => {
    const request = url.startsWith('https:')
      ? (await import('node:https')).request
      : (await import('node:http')).request
    return fetchText(request, url, timeMs)
  }
}

type Requester = (
  url: string,
  options: RequestOptions,
  answered: (answer: IncomingMessage) => void,
) => ClientRequest

function fetchText(request: Requester, url: string, timeMs: Millis): Promise<string> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) =>
      reject(signal.aborted ? new Error(`${url} took longer than ${timeMs} ms`) : error)
    // The signal bounds the whole exchange, where a socket time-out only bounds silence.
    const signal = AbortSignal.timeout(timeMs)
    const headers = { Accept: 'application/jwk-set+json, application/json', Connection: 'close' }
    const call = request(url, { headers, signal, agent: false }, (answer) => {
      const refuse = (because: string) => {
        call.destroy()
        reject(new Error(because))
      }
      if (answer.statusCode !== 200) {
        refuse(`${url} answered ${answer.statusCode}`)
        return
      }
      const pieces: Buffer[] = []
      let bytes = 0
      answer.on('data', (piece: Buffer) => {
        bytes += piece.length
        pieces.push(piece)
        if (bytes > keySetBytesMax) refuse(`${url} answered more than ${keySetBytesMax} bytes`)
      })
      answer.on('error', fail)
      answer.on('end', () => resolve(Buffer.concat(pieces).toString('utf8')))
    })
    call.on('error', fail)
    call.end()
  })
}
