/** The way out of a cell in mode `deny`: a proxy that lets nothing through and records who was asked for. */
import { lchownSync, rmSync } from 'node:fs'
import type { IncomingMessage, Server } from 'node:http'
import type { Duplex } from 'node:stream'
import type { AuditSink } from '../audit/record.ts'
import { createServer } from '../node-http.ts'

/** A user and group by number, as `chown` wants them. */
export interface Owner {
  readonly uid: number
  readonly gid: number
}

/** Where the way out listens, and for whom. */
export interface DenySettings {
  readonly socketPath: string
  /** Who may connect when it is not this process's own user: the portal's user. */
  readonly owner?: Owner
}

/** What it needs from outside: the audit log and a clock in ms. */
export interface DenyDeps {
  readonly audit: AuditSink
  readonly now: () => number
}

/** A listener that can be taken down. */
export interface Listener {
  close(): Promise<void>
}

/** Single refusals recorded in a minute; an agent in a loop must not fill the disk with them. */
export const refusalsPerMinute = 60

const answer = `${JSON.stringify({
  type: 'about:blank',
  title: 'Nothing may leave this sandbox.',
  status: 403,
  code: 'EGRESS_DENIED',
})}\n`

/** Listens on a Unix socket and answers every request, tunnel or upgrade with 403. Rejects when it cannot listen. */
export async function listenDeny(settings: DenySettings, deps: DenyDeps): Promise<Listener> {
  const record = recorder(deps)
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 10_000, maxHeaderSize: 16_384 },
    (request, response) => {
      record(request)
      response.writeHead(403, {
        'content-type': 'application/problem+json',
        'content-length': Buffer.byteLength(answer),
        connection: 'close',
      })
      response.end(answer)
    },
  )
  server.maxConnections = 256
  server.on('connect', (request: IncomingMessage, socket: Duplex) => refuse(request, socket))
  server.on('upgrade', (request: IncomingMessage, socket: Duplex) => refuse(request, socket))
  function refuse(request: IncomingMessage, socket: Duplex): void {
    record(request)
    socket.on('error', () => socket.destroy())
    socket.end(
      'HTTP/1.1 403 Forbidden\r\nContent-Type: application/problem+json\r\n' +
        `Content-Length: ${Buffer.byteLength(answer)}\r\nConnection: close\r\n\r\n${answer}`,
    )
  }
  await listenFor(server, settings)
  return {
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

/** Binds the socket as 0600 and hands it to its owner without following a link at its name. */
function listenFor(server: Server, settings: DenySettings): Promise<void> {
  rmSync(settings.socketPath, { force: true })
  return new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // A Unix socket is made inside listen(), so the mask need not stay longer than this call.
    const mask = process.umask(0o177)
    try {
      server.listen(settings.socketPath, () => {
        server.off('error', reject)
        resolve()
      })
    } finally {
      process.umask(mask)
    }
  }).then(() => {
    if (settings.owner !== undefined) {
      lchownSync(settings.socketPath, settings.owner.uid, settings.owner.gid)
    }
  })
}

/** Writes at most `refusalsPerMinute` records a minute, and then one with the number of those left out. */
function recorder({ audit, now }: DenyDeps): (request: IncomingMessage) => void {
  let minute = -1
  let written = 0
  let left = 0
  return (request) => {
    const current = Math.floor(now() / 60_000)
    if (current !== minute) {
      if (left > 0) {
        audit.append({ event: 'egress.refused', because: `${left} more in the minute before` })
      }
      minute = current
      written = 0
      left = 0
    }
    if (written >= refusalsPerMinute) {
      left += 1
      return
    }
    written += 1
    audit.append({
      event: 'egress.refused',
      method: request.method ?? '',
      path: askedFor(request),
      status: 403,
      because: 'egress.mode is deny',
    })
  }
}

/** `host:port` that a proxy request names, in plain characters only and cut at 256; what else it asks is not recorded. */
export function askedFor(request: {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly headers: { readonly host?: string | undefined }
}): string {
  const url = request.url ?? ''
  const name =
    request.method === 'CONNECT'
      ? url
      : (/^[a-z][a-z0-9+.-]*:\/\/(?:[^/?#@]*@)?([^/?#]+)/i.exec(url)?.[1] ?? request.headers.host)
  return name !== undefined && /^[A-Za-z0-9.\-_:[\]]{1,256}$/.test(name) ? name : 'unreadable'
}
