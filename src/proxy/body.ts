/** The request body on its way to the agent: counted, timed, and with back-pressure. */
import type { IncomingMessage } from 'node:http'

import type { RefusalCode } from '../errors.ts'
import type { Framing } from '../gates/gate.ts'

const { Readable } = process.getBuiltinModule('node:stream')

/** Bounds of one body. */
export interface BodySettings {
  readonly maxBytes: number
  /** A body may take this long, ms; beyond it, it must have kept the rate floor on average. */
  readonly bodyTimeMs: number
  readonly rateFloorBytesPerSecond: number
}

/** Why a body was cut: the refusal that its client gets. */
export class BodyRefused extends Error {
  readonly refusal: RefusalCode
  constructor(refusal: RefusalCode, because: string) {
    super(because)
    this.name = 'BodyRefused'
    this.refusal = refusal
  }
}

/** What carries a request on, and can still end it with a refusal. */
interface Refusable {
  refuse(code: RefusalCode, because: string): void
}

/**
 * Requests whose body is still coming, for a parser error in the middle of it: each connection has one at most. By
 * connection, because a weak entry for each request would cost the collector more than the request.
 */
export class BodiesComing {
  readonly #latest = new WeakMap<object, { request: IncomingMessage; sent: Refusable }>()
  readonly #broken = new WeakMap<object, RefusalCode>()

  /** From here on an error in the body of the request is told to `sent`. */
  add(request: IncomingMessage, sent: Refusable): void {
    // Nothing can be wrong any more with a body that is there, and the place may be that of the request behind it.
    if (!request.complete) this.#latest.set(request.socket, { request, sent })
  }

  /** The exchange has ended: an idle connection must not hold what it last carried. */
  remove(request: IncomingMessage): void {
    const { socket } = request
    if (this.#latest.get(socket)?.request === request) this.#latest.delete(socket)
  }

  /** The body of `unfinished` on this connection is malformed. */
  refuse(socket: object, unfinished: object, why: { code: RefusalCode; because: string }): void {
    const latest = this.#latest.get(socket)
    if (latest?.request === unfinished) latest.sent.refuse(why.code, why.because)
    else this.#broken.set(unfinished, why.code)
  }

  /** Why a request is not to be carried on: its body turned out malformed before anything did so. */
  brokenBy(request: IncomingMessage): RefusalCode | undefined {
    return this.#broken.get(request)
  }
}

/**
 * The body of a request for the agent: `null` for none; one buffer when all of it has arrived already (then no stream
 * object is made); else a stream. Throws BodyRefused when what has arrived is over the limit.
 */
export function bodyOf(
  request: IncomingMessage,
  framing: Framing,
  settings: BodySettings,
): null | Buffer | MeteredBody {
  if (framing.kind === 'none' || (framing.kind === 'length' && framing.bytes === 0)) return null
  if (!request.complete) return new MeteredBody(request, settings)
  const whole: unknown = request.read()
  const bytes = Buffer.isBuffer(whole) ? whole : null
  if (bytes !== null && bytes.length > settings.maxBytes) {
    throw new BodyRefused('BODY_TOO_LARGE', `${bytes.length} > ${settings.maxBytes} bytes`)
  }
  return bytes
}

/** A request's body as a stream that ends with an error at the limit, at the time bound, or when the client goes. */
export class MeteredBody extends Readable {
  #source: IncomingMessage
  #settings: BodySettings
  #received = 0
  #elapsedMs = 0
  #timer: NodeJS.Timeout

  constructor(source: IncomingMessage, settings: BodySettings) {
    super({ highWaterMark: 64 * 1024 })
    collectPiecesEarly()
    this.#source = source
    this.#settings = settings
    this.#timer = setTimeout(() => this.#tick(settings.bodyTimeMs), settings.bodyTimeMs)
    source.on('data', (chunk: Buffer) => this.#take(chunk))
    source.once('end', () => {
      clearTimeout(this.#timer)
      this.push(null)
    })
    source.once('close', () => {
      if (!source.complete) this.destroy(new BodyRefused('BAD_REQUEST', 'the client went away'))
    })
    source.once('error', (error) => this.destroy(error))
    source.pause()
  }

  /** Bytes received from the client so far. */
  get received(): number {
    return this.#received
  }

  #take(chunk: Buffer): void {
    this.#received += chunk.length
    if (this.#received > this.#settings.maxBytes) {
      this.destroy(new BodyRefused('BODY_TOO_LARGE', `more than ${this.#settings.maxBytes} bytes`))
      return
    }
    if (!this.push(chunk)) this.#source.pause()
  }

  #tick(sinceMs: number): void {
    this.#elapsedMs += sinceMs
    const floor = (this.#elapsedMs / 1000) * this.#settings.rateFloorBytesPerSecond
    if (this.#received < floor) {
      this.destroy(
        new BodyRefused('REQUEST_TIMEOUT', `${this.#received} bytes in ${this.#elapsedMs} ms`),
      )
      return
    }
    this.#timer = setTimeout(() => this.#tick(1000), 1000)
  }

  override _read(): void {
    this.#source.resume()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.#timer)
    this.#source.pause()
    done(error)
  }
}

/** The V8 of Node 24. A later one has no such flag and would say so on stderr. */
const knownV8 = /^13\./

let asked = false

/**
 * To be called where a body is about to pass in pieces; from the first call on, V8 collects its young generation
 * whenever 8 MiB of buffers have been made. Left alone it counts them only towards a full collection, every 64 MiB.
 *
 * The flag is four times smaller than its effect: V8 compares twice the default size of a semi-space, which is twice the
 * flag, with the buffers of the young generation. Its heap itself keeps the size it started with. Not before a stream,
 * because V8 takes no code that was compiled under other flags: Node would compile anew what it has not loaded yet.
 */
export function collectPiecesEarly(): void {
  if (asked) return
  asked = true
  if (!knownV8.test(process.versions.v8)) return
  process.getBuiltinModule('node:v8').setFlagsFromString('--scavenger-max-new-space-capacity-mb=2')
}
