/** Making a server, binding and draining it. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

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
  Object.assign(server, { maxConnections, dropMaxConnection: true })
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
