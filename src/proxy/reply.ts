/** Refusals as HTTP answers (RFC 9457): on a response, or on the bare socket of an upgrade or a parser error. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import { refusalRow, type RefusalCode } from '../errors.ts'
import { STATUS_CODES } from '../node-http.ts'

const { EventEmitter } = process.getBuiltinModule('node:events')

/** How long, in ms, a refused connection may still send before it is cut (RFC 9112 §9.6). */
const lingerMs = 1000

/** Headers of every answer that we write ourselves: nothing of ours is cached or sniffed. */
const ownHeaders = ['Cache-Control', 'no-store', 'X-Content-Type-Options', 'nosniff'] as const

/** The problem document: the stable code and the request id, never a cause. `members` are for the client alone. */
export function problem(
  code: RefusalCode,
  requestId: string,
  members?: Readonly<Record<string, string>>,
): string {
  const { status, say } = refusalRow(code)
  const type = `urn:hardshell:refusal:${code}`
  return `${JSON.stringify({ type, title: say, status, code, requestId, ...members })}\n`
}

function headersFor(
  code: RefusalCode,
  requestId: string,
  body: string,
  more: readonly string[] = [],
): string[] {
  const headers = ['Content-Type', 'application/problem+json']
  headers.push('Content-Length', String(Buffer.byteLength(body)), ...ownHeaders)
  if (!more.includes('X-Request-Id')) headers.push('X-Request-Id', requestId)
  if (code === 'WEBSOCKET_VERSION') {
    headers.push('Sec-WebSocket-Version', '13', 'Upgrade', 'websocket')
  }
  if (code === 'METHOD_NOT_ALLOWED' && !more.includes('Allow')) {
    headers.push('Allow', allowedMethods.join(', '))
  }
  headers.push(...more)
  return headers
}

/** The methods that are served; everything else is 405. */
export const allowedMethods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

/**
 * Answers a refusal. With `close`, or while body bytes are unread, the connection ends after the answer, and what the
 * client still sends is thrown away for a second: an immediate close would send a reset that can swallow the answer.
 */
export function writeRefusal(
  response: ServerResponse,
  code: RefusalCode,
  requestId: string,
  options: {
    headers?: readonly string[] | undefined
    members?: Readonly<Record<string, string>> | undefined
    close?: boolean
  } = {},
): void {
  if (response.headersSent || response.destroyed) {
    response.destroy()
    return
  }
  const body = problem(code, requestId, options.members)
  const headers = headersFor(code, requestId, body, options.headers)
  const ends = options.close === true || awaitsBody(response.req)
  if (ends) {
    // A 426 says what to upgrade to, and Connection names that header (RFC 9110 §15.5.22, §7.8).
    headers.push('Connection', code === 'WEBSOCKET_VERSION' ? 'close, Upgrade' : 'close')
    closeGently(response)
  }
  response.writeHead(refusalRow(code).status, headers)
  if (response.req.method === 'HEAD') response.end()
  else response.end(body)
}

/**
 * A declared body has not all arrived, so that what follows on the connection is no request. `complete` alone does not
 * say it: Node sets it for a request without a body only after the handler has run.
 */
function awaitsBody({ complete, headers }: IncomingMessage): boolean {
  if (complete) return false
  const length = headers['content-length']
  return headers['transfer-encoding'] !== undefined || (length !== undefined && length !== '0')
}

/** Answers with a document or a page of ours; returns its length in bytes. */
export function writeOwn(
  response: ServerResponse,
  facts: { readonly method: string; readonly requestId: string },
  answer: { readonly status: number } & ({ readonly document: object } | { readonly html: string }),
  headers: readonly string[],
): number {
  if (response.destroyed) return 0
  const [type, body] =
    'html' in answer
      ? ['text/html; charset=utf-8', answer.html]
      : ['application/json', `${JSON.stringify(answer.document)}\n`]
  const flat = ['Content-Type', type, 'Content-Length', String(Buffer.byteLength(body))]
  flat.push(...ownHeaders, 'X-Request-Id', facts.requestId, ...headers)
  if (awaitsBody(response.req)) {
    flat.push('Connection', 'close')
    closeGently(response)
  }
  response.writeHead(answer.status, flat)
  if (facts.method === 'HEAD') response.end()
  else response.end(body)
  return facts.method === 'HEAD' ? 0 : Buffer.byteLength(body)
}

/** Connections that take no more requests: their last one has come, or nothing that arrives means anything. */
const closing = new WeakMap<object, 'last request' | 'nothing'>()

/** True for a connection that ends after the answer already written: what arrives on it is thrown away. */
export function isClosing(socket: object): boolean {
  return closing.get(socket) === 'nothing'
}

/** True for a connection on which nothing that arrives is a request any more. */
export function takesNoMore(socket: object): boolean {
  return closing.has(socket)
}

/** True while an answer to an earlier request is still to go out on a connection. */
export function isAnswering(socket: object): boolean {
  return '_httpMessage' in socket && socket._httpMessage !== null
}

/** Requests of HTTP/1.0 so far on a connection that is kept alive. */
const older = new WeakMap<object, number>()

/**
 * True for the last request of a connection: the one that reaches `max` (Node counts, but not those of HTTP/1.0), and one
 * that asks for another protocol and is answered in HTTP. Node throws away what comes behind that in the same piece, so
 * that the next piece could begin in the middle of a body.
 */
export function isLastRequest(response: ServerResponse, max: number): boolean {
  const { req } = response
  if (req.headers.upgrade !== undefined) return true
  if (req.httpVersion !== '1.0') {
    return (
      'maxRequestsOnConnectionReached' in response &&
      response.maxRequestsOnConnectionReached === true
    )
  }
  const count = (older.get(req.socket) ?? 0) + 1
  older.set(req.socket, count)
  return count >= max
}

/** Makes the answer to a last request end its connection: what arrives behind the request is none. */
export function endBehind(response: ServerResponse): void {
  const { socket } = response.req
  response.shouldKeepAlive = false
  if (!closing.has(socket)) closing.set(socket, 'last request')
  lingerAtEnd(socket)
}

/** Makes the answer that is under way on a connection its last one; what arrives behind it is no request. */
export function makeLast(socket: object): void {
  if (!('_httpMessage' in socket) || typeof socket._httpMessage !== 'object') return
  if (socket._httpMessage === null) return
  closing.set(socket, 'nothing')
  // `_last` for a head that is out already: Node closes behind such an answer too.
  Object.assign(socket._httpMessage, { shouldKeepAlive: false, _last: true })
}

/** Ends the connection of a finished answer without a reset: FIN first, then a second for what is still on its way. */
export function closeGently(response: ServerResponse): void {
  // An answer that waits behind an earlier one has no socket yet; its request has.
  const { socket } = response.req
  if (isClosing(socket)) return
  closing.set(socket, 'nothing')
  lingerAtEnd(socket)
}

/** Lets a client that is still sending read its last answer: Node's own `destroySoon` would reset it. */
export function lingerAtEnd(socket: Duplex): void {
  Object.assign(socket, { destroySoon: () => linger(socket) })
}

function linger(socket: Duplex): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), lingerMs)
  socket.once('close', () => clearTimeout(timer))
  socket.end()
  socket.resume()
}

/** A client that has finished sending counts as gone once it was shown nothing in this many looks … */
const silentLooks = 5
/** … of this many ms each. One long wait of ours is one look: what arrived meanwhile is shown before the next. */
const lookMs = 100

/**
 * A listener for the end of what a client sends. It may wait for its answers (`printf … | ncat`), or it has gone: TCP
 * says the same of both until something is sent. So its answers go on as long as they flow, and silence ends them.
 */
export function finishedSending(this: Socket): void {
  if (!isAnswering(this)) return
  let written = this.bytesWritten
  let silent = 0
  const timer = setInterval(() => {
    // What waits to be taken is watched by its own clock, and a client that is gone resets it. A reset here too: an end
    // might look like that of the answer.
    silent = this.bytesWritten === written && this.writableLength === 0 ? silent + 1 : 0
    if (silent >= silentLooks) this.resetAndDestroy()
    written = this.bytesWritten
  }, lookMs)
  this.once('close', () => clearInterval(timer))
}

/**
 * Cuts an answer off. To a client of HTTP/1.0, which knows no chunks, the end of the connection may be the end of the
 * answer: only a reset says that there was more (RFC 9112 §8).
 */
export function cutAnswer(response: ServerResponse): void {
  const { socket } = response
  if (response.req.httpVersion === '1.0') socket?.resetAndDestroy()
  response.destroy()
}

/** The request on a connection whose body has not all arrived. */
export function unfinishedRequest(socket: object): object | undefined {
  const parser: unknown = 'parser' in socket ? socket.parser : undefined
  if (typeof parser !== 'object' || parser === null || !('incoming' in parser)) return undefined
  const { incoming } = parser
  if (typeof incoming !== 'object' || incoming === null) return undefined
  return 'complete' in incoming && incoming.complete === false ? incoming : undefined
}

/** Calls `then` once every request on a connection has its answer; never, where the last one ends the connection. */
export function afterAnswers(socket: Duplex, then: () => void): void {
  if (!socket.writable) return
  const message: unknown = '_httpMessage' in socket ? socket._httpMessage : undefined
  if (message instanceof EventEmitter) message.once('close', () => afterAnswers(socket, then))
  else then()
}

/** Answers a refusal where there is no response object, and closes. `headers` is flat: name, value, … */
export function writeRefusalToSocket(
  socket: Duplex,
  code: RefusalCode,
  requestId: string,
  headers: readonly string[] = [],
): void {
  if (socket.destroyed || !socket.writable) {
    socket.destroy()
    return
  }
  const { status } = refusalRow(code)
  const body = problem(code, requestId)
  const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`]
  // Node dates only the answers that it writes itself (RFC 9110 §6.6.1).
  const flat = [...headersFor(code, requestId, body, headers), 'Date', new Date().toUTCString()]
  flat.push('Connection', 'close')
  for (let i = 0; i + 1 < flat.length; i += 2) lines.push(`${flat[i]}: ${flat[i + 1]}`)
  closing.set(socket, 'nothing')
  socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`)
  linger(socket)
}

/**
 * Looks after `stallMs` whether the client has taken any of what is waiting for it, and again as long as it has; calls
 * `stalled` once it has not. Ends by itself when everything is taken or the response is over.
 */
export function watchStall(response: ServerResponse, stallMs: number, stalled: () => void): void {
  let left = waiting(response)
  const look = (): void => {
    const now = waiting(response)
    if (now >= left) {
      stop()
      stalled()
      return
    }
    left = now
    timer = setTimeout(look, stallMs)
  }
  const stop = (): void => {
    clearTimeout(timer)
    response.removeListener('drain', stop)
    response.removeListener('close', stop)
  }
  let timer = setTimeout(look, stallMs)
  response.once('drain', stop)
  response.once('close', stop)
}

/** Bytes that we hold because the client has not taken them. */
export function waiting(response: ServerResponse): number {
  return response.socket?.writableLength ?? 0
}
