/** HTTP out of Hardshell to a messaging service: fixed hosts, no redirects, everything bounded. */
import { Buffer } from 'node:buffer'
import type { IncomingMessage } from 'node:http'
import { request as requestSecure } from 'node:https'

import { Failure } from '../errors.ts'
import { KiB, seconds, type Bytes, type Millis } from '../limits.ts'
import { request as requestPlain } from '../node-http.ts'

/** One request to a service. */
export interface Outgoing {
  readonly method: 'GET' | 'POST' | 'PUT'
  readonly url: string
  /** Flat name, value … */
  readonly headers: readonly string[]
  readonly body?: string
}

/** What came back; a redirect is an answer like any other and is not followed. */
export interface Incoming {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

/** Sends a request. Rejects with CALL_FAILED when there is no whole answer; the message names no secret. */
export type Call = (outgoing: Outgoing) => Promise<Incoming>

/** Bounds of one call. */
export interface CallBounds {
  readonly timeMs: Millis
  readonly answerBytes: Bytes
}

const usualBounds: CallBounds = { timeMs: seconds(10), answerBytes: KiB(256) }

/** The call of Node itself: a connection of its own for each request. */
export function nodeCall(bounds: CallBounds = usualBounds): Call {
  return (outgoing) =>
    new Promise((resolve, reject) => {
      const url = new URL(outgoing.url)
      const send = url.protocol === 'https:' ? requestSecure : requestPlain
      const body = Buffer.from(outgoing.body ?? '')
      const failed = (why: string) => reject(new Failure('CALL_FAILED', `${url.host}: ${why}`))
      const sent = send(
        url,
        {
          method: outgoing.method,
          agent: false,
          signal: AbortSignal.timeout(bounds.timeMs),
          headers: [
            'Host',
            url.host,
            ...outgoing.headers,
            ...(outgoing.method === 'GET' ? [] : ['Content-Length', String(body.length)]),
            'Connection',
            'close',
          ],
        },
        (response) => {
          const chunks: Buffer[] = []
          let bytes = 0
          response.on('data', (chunk: Buffer) => {
            bytes += chunk.length
            if (bytes > bounds.answerBytes) {
              failed(`the answer is longer than ${bounds.answerBytes} bytes`)
              response.destroy()
              return
            }
            chunks.push(chunk)
          })
          response.on('end', () =>
            resolve({
              status: response.statusCode ?? 0,
              headers: response.headers,
              body: Buffer.concat(chunks).toString('utf8'),
            }),
          )
          response.on('error', (error) => failed(reasonOf(error)))
        },
      )
      sent.on('error', (error) => failed(reasonOf(error)))
      sent.end(outgoing.method === 'GET' ? undefined : body)
    })
}

/** The system's code; a message could repeat the address, and an address may hold a token. */
function reasonOf(error: Error): string {
  if (error.name === 'AbortError' || error.name === 'TimeoutError') return 'no answer in time'
  return 'code' in error && typeof error.code === 'string' ? error.code : error.name
}
