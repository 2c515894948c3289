/** The way from a stand-in to the one service that it stands for: a fixed root, no redirects, bounded answers. */
import { Buffer } from 'node:buffer'
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { Transform, type Readable, type TransformCallback } from 'node:stream'

/** One call of the service. */
export interface ServiceCall {
  readonly method: string
  /** Behind the root, with its slash. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** A whole body, or a stream of one. */
  readonly body: Buffer | Readable | undefined
  /** How long the service may say nothing, ms. */
  readonly silenceMs: number
  readonly signal: AbortSignal
}

/** The service was silent for too long. */
export class ServiceSilent extends Error {
  constructor() {
    super('the service did not answer in time')
    this.name = 'ServiceSilent'
  }
}

/** More bytes than allowed. */
export class TooLarge extends Error {
  constructor(bytes: number) {
    super(`more than ${bytes} bytes`)
    this.name = 'TooLarge'
  }
}

/** The service behind its root. */
export interface Service {
  /** Resolves with the head of the answer, whose body is still to be read; rejects when there is none. */
  call(of: ServiceCall): Promise<IncomingMessage>
  /** Ends all connections. */
  close(): void
}

/** A service at a root like `https://api.telegram.org`: scheme, host and perhaps a path, without a slash at the end. */
export function openService(root: string, connectionsMax: number): Service {
  const { protocol, hostname, port, pathname } = new URL(root)
  const secure = protocol === 'https:'
  const options = { keepAlive: true, maxSockets: connectionsMax, timeout: 0 }
  const agent = secure ? new HttpsAgent(options) : new HttpAgent(options)
  const prefix = pathname === '/' ? '' : pathname
  const open = secure ? httpsRequest : httpRequest
  return {
    close: () => agent.destroy(),
    call: (of) =>
      new Promise((resolve, reject) => {
        const outgoing = open({
          agent,
          hostname: hostname.replace(/^\[|\]$/g, ''),
          port: port === '' ? (secure ? 443 : 80) : Number(port),
          method: of.method,
          path: `${prefix}${of.path}`,
          headers: of.headers,
          signal: of.signal,
          maxHeaderSize: 32 * 1024,
        })
        outgoing.setTimeout(of.silenceMs, () => outgoing.destroy(new ServiceSilent()))
        outgoing.once('response', resolve)
        // Not once: a second error without a listener would end the process.
        outgoing.on('error', reject)
        const { body } = of
        if (body === undefined || Buffer.isBuffer(body)) {
          outgoing.end(body)
          return
        }
        // An upload that the bot breaks off must not reach the service as a whole one.
        body.on('error', (error) => outgoing.destroy(error))
        body.pipe(outgoing)
      }),
  }
}

/**
 * Reads a body whole; rejects with TooLarge beyond `maxBytes`, or when it breaks off. The stream is only left alone then,
 * because a request that is cut cannot be answered.
 */
export function readWhole(from: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const parts: Buffer[] = []
    let bytes = 0
    const take = (part: Buffer) => {
      bytes += part.length
      parts.push(part)
      if (bytes <= maxBytes) return
      from.off('data', take)
      from.pause()
      reject(new TooLarge(maxBytes))
    }
    from.on('data', take)
    from.on('error', reject)
    from.once('end', () => resolve(Buffer.concat(parts)))
    from.once('close', () => reject(new Error('the message broke off')))
  })
}

/** Lets at most `maxBytes` through and fails with TooLarge beyond. */
export function meter(maxBytes: number): Transform {
  let bytes = 0
  return new Transform({
    transform(chunk: Buffer, _encoding: string, done: TransformCallback) {
      bytes += chunk.length
      if (bytes > maxBytes) done(new TooLarge(maxBytes))
      else done(null, chunk)
    },
  })
}

/** Path and query of a request target, without the question mark. */
export function splitTarget(target: string): readonly [path: string, query: string] {
  const mark = target.indexOf('?')
  return mark === -1 ? [target, ''] : [target.slice(0, mark), target.slice(mark + 1)]
}

/** The headers of these names that a message has exactly one text of. */
export function picked(from: IncomingMessage, names: readonly string[]): Record<string, string> {
  const kept: Record<string, string> = {}
  for (const name of names) {
    const value = from.headers[name]
    if (typeof value === 'string') kept[name] = value
  }
  return kept
}
