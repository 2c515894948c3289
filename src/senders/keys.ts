/** Public keys of services, fetched from the one address that a channel names, cached, and renewed with restraint. */
import type { KeySource, TrustedKey } from '../channels/channel.ts'
import { dig, field, list, readJsonText, record, text } from '../channels/json.ts'
import { Failure } from '../errors.ts'
import { days, hours, minutes, seconds, type Millis } from '../limits.ts'
import type { Call } from './outgoing.ts'

/** What the cache needs from outside. */
export interface KeyCacheDeps {
  readonly call: Call
  /** Monotonic clock, ms. */
  readonly now: () => Millis
}

/** Keys are fetched again after this time, and used for as long as that when the service cannot be reached. */
const freshMs = hours(1)
const staleMs = days(1)
/** A request with an unknown key makes us ask again at most this often: strangers choose that key. */
const renewMs = minutes(5)
/** After a failed fetch the next one waits. */
const pauseMs = seconds(10)

interface Kept {
  readonly keys: readonly TrustedKey[]
  readonly at: number
}

/** The keys of all services. */
export class KeyCache {
  readonly #deps: KeyCacheDeps
  readonly #kept = new Map<string, Kept>()
  readonly #failedAt = new Map<string, number>()
  readonly #fetching = new Map<string, Promise<readonly TrustedKey[]>>()

  constructor(deps: KeyCacheDeps) {
    this.#deps = deps
  }

  /** The keys of a source. Rejects with KEYS_UNAVAILABLE when there are none: then nothing can be proven. */
  async keys(source: KeySource): Promise<readonly TrustedKey[]> {
    const kept = this.#kept.get(source.url)
    const age = kept === undefined ? Infinity : this.#deps.now() - kept.at
    if (kept !== undefined && age < freshMs) return kept.keys
    try {
      return await this.#fetch(source)
    } catch (thrown) {
      if (kept !== undefined && age < staleMs) return kept.keys
      throw thrown
    }
  }

  /** Newer keys after a proof has failed, or nothing where it is too early to ask again. */
  async renewed(source: KeySource): Promise<readonly TrustedKey[] | undefined> {
    const kept = this.#kept.get(source.url)
    if (kept === undefined || this.#deps.now() - kept.at < renewMs) return undefined
    try {
      return await this.#fetch(source)
    } catch (thrown) {
      if (thrown instanceof Failure) return undefined
      throw thrown
    }
  }

  #fetch(source: KeySource): Promise<readonly TrustedKey[]> {
    const running = this.#fetching.get(source.url)
    if (running !== undefined) return running
    const failed = this.#failedAt.get(source.url)
    if (failed !== undefined && this.#deps.now() - failed < pauseMs) {
      return Promise.reject(unavailable(source, 'the last attempt failed'))
    }
    const fetching = this.#get(source).then(
      (keys) => {
        this.#kept.set(source.url, { keys, at: this.#deps.now() })
        this.#failedAt.delete(source.url)
        return keys
      },
      (thrown: unknown) => {
        this.#failedAt.set(source.url, this.#deps.now())
        throw thrown
      },
    )
    const done = fetching.finally(() => this.#fetching.delete(source.url))
    this.#fetching.set(source.url, done)
    return done
  }

  async #get(source: KeySource): Promise<readonly TrustedKey[]> {
    const document = await this.#document(source, source.url)
    if (source.form === 'x509') return certificates(document)
    if (source.form === 'jwks') return keySet(document)
    const jwks = text(field(document, 'jwks_uri'))
    // The metadata is the service's word; that its keys live elsewhere is not believed.
    if (jwks === undefined || URL.parse(jwks)?.origin !== new URL(source.url).origin) {
      throw unavailable(source, 'the metadata names no key set of the same origin')
    }
    return keySet(await this.#document(source, jwks))
  }

  async #document(source: KeySource, url: string): Promise<unknown> {
    const answer = await this.#deps.call({
      method: 'GET',
      url,
      headers: ['Accept', 'application/json'],
    })
    if (answer.status !== 200) throw unavailable(source, `status ${answer.status}`)
    const read = readJsonText(answer.body)
    if (!read.ok) throw unavailable(source, `the answer is ${read.because}`)
    return read.value
  }
}

const unavailable = (source: KeySource, why: string) =>
  new Failure('KEYS_UNAVAILABLE', `the keys of ${new URL(source.url).host} cannot be had: ${why}`)

function keySet(document: unknown): readonly TrustedKey[] {
  return list(field(document, 'keys')).flatMap((one) => {
    const jwk = record(one)
    const kid = text(dig(one, 'kid'))
    if (jwk === undefined || kid === undefined) return []
    const endorsements = list(jwk['endorsements']).flatMap((of) => text(of) ?? [])
    return [{ kid, jwk, endorsements }]
  })
}

function certificates(document: unknown): readonly TrustedKey[] {
  return Object.entries(record(document) ?? {}).flatMap(([kid, x509]) =>
    typeof x509 === 'string' ? [{ kid, x509 }] : [],
  )
}
