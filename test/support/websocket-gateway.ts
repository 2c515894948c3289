/** The WebSocket roads on a bare server, agents that record what reaches them, and a clock that the test moves. */
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import {
  createServer as createTcpServer,
  type AddressInfo,
  type Server,
  type Socket,
} from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Duplex } from 'node:stream'

import { WebSocket, WebSocketServer } from 'ws'

import type { AgentAddress } from '../../src/agent/agent.ts'
import type { Facts, Identity } from '../../src/gates/gate.ts'
import { Live, type LiveSettings } from '../../src/proxy/live.ts'
import { openOpaque } from '../../src/proxy/opaque.ts'
import { openTunnel, type TunnelEnd, type TunnelSettings } from '../../src/proxy/tunnel.ts'
import { acceptOf, until } from './websocket.ts'

/** Things to undo, newest first. */
export class Cleanup {
  readonly #steps: (() => unknown)[] = []

  add(step: () => unknown): void {
    this.#steps.push(step)
  }

  async run(): Promise<void> {
    for (const step of this.#steps.reverse()) await step()
  }
}

export type Wire = 'tcp' | 'unix'

/** Listens on loopback or on a Unix socket in a fresh directory. */
async function listen(server: Server, wire: Wire, cleanup: Cleanup): Promise<AgentAddress> {
  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', () => socket.destroy())
  })
  const directory =
    wire === 'unix' ? await mkdtemp(join(tmpdir(), 'hardshell-websocket-')) : undefined
  const socketPath = directory === undefined ? undefined : join(directory, 'in.sock')
  await new Promise<void>((resolve) => {
    if (socketPath === undefined) server.listen(0, '127.0.0.1', resolve)
    else server.listen(socketPath, resolve)
  })
  cleanup.add(async () => {
    const closed = new Promise((resolve) => server.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
    if (directory !== undefined) await rm(directory, { recursive: true })
  })
  if (socketPath !== undefined) return { origin: 'http://localhost', socketPath }
  return { origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
}

/** One WebSocket as the agent saw it. */
export interface Seen {
  readonly socket: WebSocket
  readonly wire: Socket
  readonly target: string
  readonly rawHeaders: readonly string[]
  readonly messages: { data: Buffer; binary: boolean }[]
  readonly pings: Buffer[]
  close: { code: number; reason: string } | undefined
}

/** A real agent on the `ws` library that keeps what reached it. */
export interface EchoAgent {
  readonly address: AgentAddress
  readonly seen: Seen[]
  /** Handshakes and plain requests that arrived. */
  readonly requests: () => number
  /** The first WebSocket, as soon as it is there. */
  first(): Promise<Seen>
}

export interface EchoAgentOptions {
  wire?: Wire
  /** Sends every message back [true]. */
  echo?: boolean
  /** Chooses the subprotocol [none]. */
  protocol?: (offered: ReadonlySet<string>) => string | false
  compress?: boolean
  /** Answers the handshake in its own way. */
  answer?: (request: IncomingMessage, socket: Duplex) => void
  onOpen?: (seen: Seen) => void
}

export async function startAgent(
  cleanup: Cleanup,
  options: EchoAgentOptions = {},
): Promise<EchoAgent> {
  const seen: Seen[] = []
  let requests = 0
  const sockets = new WebSocketServer({
    noServer: true,
    perMessageDeflate: options.compress === true ? { threshold: 0 } : false,
    handleProtocols: options.protocol ?? (() => false),
  })
  const server = createServer((_request: IncomingMessage, response: ServerResponse) => {
    requests++
    response.end('plain')
  })
  server.on('upgrade', (request, socket: Socket, head: Buffer) => {
    requests++
    if (options.answer !== undefined) {
      options.answer(request, socket)
      return
    }
    sockets.handleUpgrade(request, socket, head, (accepted) => {
      const one = record(accepted, socket, request, options.echo ?? true)
      seen.push(one)
      options.onOpen?.(one)
    })
  })
  const address = await listen(server, options.wire ?? 'tcp', cleanup)
  return {
    address,
    seen,
    requests: () => requests,
    first: async () => {
      await until('the agent has a WebSocket', () => seen.length > 0)
      return seen[0] as Seen
    },
  }
}

function record(socket: WebSocket, wire: Socket, request: IncomingMessage, echo: boolean): Seen {
  const { url: target = '', rawHeaders } = request
  const one: Seen = {
    socket,
    wire,
    target,
    rawHeaders,
    messages: [],
    pings: [],
    close: undefined,
  }
  socket.on('message', (data, binary) => {
    one.messages.push({ data: data as Buffer, binary })
    if (echo) socket.send(data, { binary })
  })
  socket.on('ping', (data) => one.pings.push(data))
  socket.on('close', (code, reason) => {
    one.close = { code, reason: reason.toString() }
  })
  socket.on('error', () => undefined)
  return one
}

/** An agent on a bare socket: `talk` gets the head of each request, and the right accept value for it. */
export async function startRawAgent(
  cleanup: Cleanup,
  talk: (socket: Socket, head: string, accept: string) => void,
  wire: Wire = 'tcp',
): Promise<{ address: AgentAddress; bytes: () => Buffer; sockets: Socket[] }> {
  let bytes: Buffer = Buffer.alloc(0)
  const sockets: Socket[] = []
  const server = createTcpServer((socket) => {
    sockets.push(socket)
    let talked = false
    let head = ''
    socket.on('data', (chunk) => {
      if (talked) {
        bytes = Buffer.concat([bytes, chunk])
        return
      }
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      talked = true
      const key = /sec-websocket-key: (.*)\r\n/i.exec(head)?.[1] ?? ''
      talk(socket, head, acceptOf(key))
    })
  })
  return { address: await listen(server, wire, cleanup), bytes: () => bytes, sockets }
}

/** The 101 of an honest server. */
export function switching(accept: string, ...more: string[]): string {
  const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade']
  return [...lines, `Sec-WebSocket-Accept: ${accept}`, ...more, '', ''].join('\r\n')
}

export type Road = 'framed' | 'opaque'

export interface Gateway {
  readonly port: number
  readonly live: Live
  readonly ends: TunnelEnd[]
  /** Moves the clock of limits and pings. */
  advance(ms: number): void
  /** The first end, as soon as it is there. */
  end(): Promise<TunnelEnd>
}

export interface GatewayOptions {
  road?: Road
  address: AgentAddress
  settings?: Partial<Omit<TunnelSettings, 'now' | 'address'>>
  live?: Partial<LiveSettings>
  /** The flat headers for the agent, from those of the client. */
  headers?: (facts: Facts) => string[]
  identity?: (request: IncomingMessage) => string
  /** Let real time run instead of the test's clock. */
  realTime?: boolean
}

/** The road on a bare server, behind facts that a test can read in one glance. */
export async function startGateway(cleanup: Cleanup, options: GatewayOptions): Promise<Gateway> {
  let clock = 1_000_000
  const now = options.realTime === true ? () => performance.now() : () => clock
  const live = new Live({ maxPerIdentity: 16, maxPerAddress: 64, beatMs: 10, ...options.live })
  const settings: TunnelSettings = {
    address: options.address,
    maxMessageBytes: 64 * 1024,
    messagesPerMinute: 600,
    idleMs: 600_000,
    handshakeMs: 10_000,
    now,
    ...options.settings,
  }
  const ends: TunnelEnd[] = []
  const open = options.road === 'opaque' ? openOpaque : openTunnel
  const server = createServer()
  let serial = 0
  server.on('upgrade', (request, socket: Duplex, head: Buffer) => {
    const id = options.identity?.(request) ?? 'token:test'
    const identity: Identity = { id, name: 'test', scopes: ['operate'], paths: [] }
    const facts = factsOf(request, `request-${++serial}`)
    const headers = options.headers?.(facts) ?? facts.headers
    void open({ facts, identity, request, socket, head, headers }, settings, live).then((end) =>
      ends.push(end),
    )
  })
  const { origin } = await listen(server, 'tcp', cleanup)
  return {
    port: Number(new URL(origin).port),
    live,
    ends,
    advance: (ms) => {
      clock += ms
    },
    end: async () => {
      await until('the gateway reports an end', () => ends.length > 0)
      return ends[0] as TunnelEnd
    },
  }
}

function factsOf(request: IncomingMessage, requestId: string): Facts {
  const headers: string[] = []
  const raw = request.rawHeaders
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? ''
    if (/^(?:sec-websocket-.*|connection|upgrade)$/i.test(name)) continue
    headers.push(name, raw[i + 1] ?? '')
  }
  const target = request.url ?? '/'
  const offered = request.headers['sec-websocket-protocol'] ?? ''
  const protocols = offered === '' ? [] : offered.split(',').map((name) => name.trim())
  return {
    requestId,
    time: 0,
    startedAt: 0,
    peer: request.socket.remoteAddress ?? '',
    method: request.method ?? '',
    target,
    path: target.split('?')[0] ?? '',
    host: request.headers.host ?? '',
    headers,
    authorization: undefined,
    credentialInUrl: false,
    origin: undefined,
    fetchSite: undefined,
    contentType: undefined,
    framing: { kind: 'none' },
    expectsContinue: false,
    websocket: { key: request.headers['sec-websocket-key'] ?? '', protocols },
    defect: undefined,
  }
}

/** A client on the `ws` library, open. */
export async function openClient(
  cleanup: Cleanup,
  port: number,
  options: { path?: string; protocols?: string[]; compress?: boolean } = {},
): Promise<WebSocket> {
  const client = new WebSocket(
    `ws://127.0.0.1:${port}${options.path ?? '/'}`,
    options.protocols ?? [],
    { perMessageDeflate: options.compress ?? false },
  )
  cleanup.add(() => client.terminate())
  await new Promise<void>((resolve, reject) => {
    client.on('open', resolve)
    client.on('error', reject)
  })
  return client
}

/** How a client on the `ws` library saw its WebSocket end. */
export function closeOf(client: WebSocket): Promise<{ code: number; reason: string }> {
  return new Promise((resolve) => {
    client.on('error', () => undefined)
    client.on('close', (code, reason) => resolve({ code, reason: reason.toString() }))
  })
}
