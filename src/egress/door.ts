/** The listener behind which a bot finds its service: on loopback, bounded, each call ending when the bot goes away. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

import { pollLimits } from './poll-limits.ts'

/** A running stand-in. */
export interface Door {
  readonly port: number
  close(): Promise<void>
}

/** What stands behind a door. */
export interface Behind {
  /** Answers one request; never rejects. `signal` is aborted when nobody waits for the answer any more. */
  serve(request: IncomingMessage, response: ServerResponse, signal: AbortSignal): Promise<void>
  close(): void
}

/** Listens for the bot; rejects when it cannot. */
export async function openDoor(
  { host, port }: { readonly host: string; readonly port: number },
  behind: Behind,
): Promise<Door> {
  const open = new Set<AbortController>()
  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const gone = new AbortController()
    open.add(gone)
    // The service ends a poll when another begins: one that nobody waits for must not stay.
    response.once('close', () => gone.abort())
    request.on('error', () => gone.abort())
    await behind.serve(request, response, gone.signal)
    open.delete(gone)
  }
  const server = createServer(
    {
      maxHeaderSize: pollLimits.headerBytes.default,
      headersTimeout: pollLimits.headerTimeMs.default,
      requestTimeout: pollLimits.requestTimeMs.default,
      insecureHTTPParser: false,
    },
    (request, response) => void serve(request, response),
  )
  server.maxConnections = pollLimits.connections.default
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        for (const one of open) one.abort()
        behind.close()
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
