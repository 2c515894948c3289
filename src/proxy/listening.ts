/** Making a server, binding and draining it; what its parser refuses to call a request. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

import { codeOf, type RefusalCode } from '../errors.ts'
import { createServer } from '../node-http.ts'
import { isWebSocketUpgrade } from './facts.ts'

/** What Node's own parser and connection list hold to; times in ms, sizes in bytes. */
export interface ServerBounds {
  readonly headerMs: number
  readonly keepAliveMs: number
  readonly maxHeaders: number
  readonly maxHeaderBytes: number
  readonly maxConnections: number
  readonly maxRequestsPerConnection: number
}

/** Connections that may be closing at once beside those that are open. */
const closingMax = 64
/** A server that parses strictly and has every bound set; nothing listens to it yet. */
export function httpServer(settings: ServerBounds): Server {
  const server = createServer({
    maxHeaderSize: settings.maxHeaderBytes,
    headersTimeout: settings.headerMs,
    // Bodies have their own meter with a rate floor, so that large honest uploads pass.
    requestTimeout: 0,
    connectionsCheckingInterval: 1000,
    keepAliveTimeout: settings.keepAliveMs,
    requireHostHeader: false,
    noDelay: true,
    insecureHTTPParser: false,
    rejectNonStandardBodyWrites: true,
    // A request without a body needs no stream: a twentieth of its cost.
    optimizeEmptyRequests: true,
    shouldUpgradeCallback: isWebSocketUpgrade,
  })
  // Beyond our own count, so that the parser's silent cut never hides a header from the scan.
  server.maxHeadersCount = settings.maxHeaders + 1
  server.maxRequestsPerSocket = settings.maxRequestsPerConnection
  // Node drops what is beyond it: more than our own bound, because those that give way are still closing.
  const maxConnections = settings.maxConnections + closingMax
  // A client may end its sending side and still wait for answers: `finishedSending` says for how long.
  Object.assign(server, { maxConnections, dropMaxConnection: true, httpAllowHalfOpen: true })
  server.timeout = 0
  return server
}

/** Binds; rejects with the system's error (EADDRINUSE, EADDRNOTAVAIL). Resolves with the port. */
export async function listen(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, backlog: 1024 }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  return (server.address() as AddressInfo).port
}

/** Refuses new connections, lets running exchanges end for `graceMs`, then cuts what `destroyAll` cuts. */
export async function drain(
  server: Server,
  graceMs: number,
  destroyAll: () => void,
): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  server.closeIdleConnections()
  const timer = setTimeout(destroyAll, graceMs)
  await closed
  clearTimeout(timer)
}

/** Which refusal a parser error is. */
export function parserRefusal(error: Error): RefusalCode {
  const code = codeOf(error)
  if (code === 'HPE_HEADER_OVERFLOW') return 'HEADERS_TOO_LARGE'
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_TIMEOUT'
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return 'BODY_TOO_LARGE'
  if (ambiguous.has(code)) return 'FRAMING_AMBIGUOUS'
  if (code === 'HPE_INVALID_VERSION' && begins(error, otherVersion)) return 'HTTP_VERSION'
  if (code === 'HPE_INVALID_METHOD' && begins(error, otherMethod)) return 'METHOD_NOT_ALLOWED'
  return 'BAD_REQUEST'
}

/** What llhttp says of a length that is none, or that is given twice or in two ways. */
const ambiguous = new Set([
  'HPE_INVALID_CONTENT_LENGTH',
  'HPE_UNEXPECTED_CONTENT_LENGTH',
  'HPE_INVALID_TRANSFER_ENCODING',
])

/** A method that llhttp does not know, in front of an HTTP request line; anything else is noise. */
const otherMethod = /^[A-Za-z][A-Za-z-]{0,30} \/\S* HTTP\/1\.[01]\r\n/
/** A whole version that is not 1.0 or 1.1; a bare line feed behind a good one is something else. */
const otherVersion = /^[A-Z]{1,31} \S+ HTTP\/(?!1\.[01]\s)\d\.\d\r\n/

/** Whether the request that the parser stopped in begins like that: others may stand before it in the same packet. */
function begins(error: Error, form: RegExp): boolean {
  if (!('rawPacket' in error) || !Buffer.isBuffer(error.rawPacket)) return false
  const stopped = 'bytesParsed' in error ? Number(error.bytesParsed) : 0
  const before = error.rawPacket.lastIndexOf('\r\n\r\n', stopped, 'latin1')
  const start = before === -1 ? 0 : before + 4
  return form.test(error.rawPacket.toString('latin1', start, start + 9000))
}
