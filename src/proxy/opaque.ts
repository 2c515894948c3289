/**
 * WebSocket to the agent as bytes, through http-proxy-3: compression stays between client and agent, and messages are
 * not seen. Only its `ws()` is used: its HTTP path lets a body become a second request (docs/decisions).
 */
import { createHash } from 'node:crypto'
import { type ClientRequest, IncomingMessage } from 'node:http'
import { Socket } from 'node:net'

import type { AgentAddress } from '../agent/agent.ts'
import { messageOf } from '../errors.ts'
import { minutes, seconds } from '../limits.ts'
import type { Live, LiveEnd, Ticking } from './live.ts'
import { Attempt } from './ws-attempt.ts'
import type { TunnelEnd, TunnelSettings, UpgradeCall } from './ws-call.ts'

/** The suffix of the key in Sec-WebSocket-Accept (RFC 6455 §1.3). */
const acceptSuffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** Once one side has closed, the other gets this long without a byte moving, and the second figure in all. */
const stalledMs = seconds(5)
const endingMs = minutes(1)

/** Headers of the agent's 101 that belong to the handshake; the others end here. */
const handshakeAnswer = ['sec-websocket-protocol', 'sec-websocket-extensions'] as const

/**
 * Opens a WebSocket whose bytes pass unread. Caps, idle time, revocation and byte counts hold; message limits do not,
 * and what must end ends without a close frame, because only a reader of frames knows where one may stand.
 * Never rejects.
 */
export function openOpaque(
  call: UpgradeCall,
  settings: TunnelSettings,
  live: Live,
): Promise<TunnelEnd> {
  return new Promise((resolve) => {
    const attempt = new Attempt(call, settings, live, resolve)
    if (attempt.begin()) void dial(attempt)
  })
}

async function dial(attempt: Attempt): Promise<void> {
  const { call, settings } = attempt
  try {
    // Loaded on first use: the framed tunnel is the default and needs none of it.
    const { createProxyServer } = await import('http-proxy-3')
    const { socket } = call
    if (!attempt.undecided || !(socket instanceof Socket)) {
      attempt.refuse('AGENT_DOWN', 'the connection cannot be tunnelled')
      return
    }
    const proxy = createProxyServer({ target: targetOf(settings.address) })
    // The client's socket, whose end the attempt sees itself; without a listener the library would throw.
    proxy.on('error', noteOnly)
    proxy.on('proxyReqWs', (request) => prepare(attempt, request))
    proxy.on('open', (agentSocket) => watch(attempt, socket, agentSocket))
    proxy.ws(blankRequest(call), socket, call.head, {}, (thrown) => attempt.fail(thrown))
  } catch (thrown) {
    attempt.refuse('AGENT_DOWN', `the handshake could not be sent: ${messageOf(thrown)}`)
  }
}

function noteOnly(): void {
  // Nothing to do: the close that follows is what counts.
}

function targetOf({ origin, socketPath }: AgentAddress) {
  const { protocol, hostname, port } = new URL(origin)
  return socketPath === undefined
    ? { protocol, host: hostname, hostname, port: port === '' ? 80 : Number(port) }
    : { protocol, host: hostname, hostname, port: 80, socketPath }
}

/** All that the library may read of the request; what the agent gets is set in `prepare`. */
function blankRequest(call: UpgradeCall): IncomingMessage {
  const headers = { connection: 'Upgrade', upgrade: 'websocket' }
  const overlay = { headers: { value: headers }, url: { value: '/' }, method: { value: 'GET' } }
  return Object.create(call.request, overlay) as IncomingMessage
}

/** Builds the agent's request from facts and puts our own reading of its answer before the library's. */
function prepare(attempt: Attempt, request: ClientRequest): void {
  const { call } = attempt
  const handshake = call.facts.websocket
  request.path = call.facts.target
  for (const name of request.getHeaderNames()) request.removeHeader(name)
  for (let i = 0; i + 1 < call.headers.length; i += 2) {
    request.appendHeader(call.headers[i] ?? '', call.headers[i + 1] ?? '')
  }
  request.setHeader('Connection', 'Upgrade')
  request.setHeader('Upgrade', 'websocket')
  request.setHeader('Sec-WebSocket-Version', '13')
  request.setHeader('Sec-WebSocket-Key', handshake?.key ?? '')
  const offered = handshake?.protocols ?? []
  if (offered.length > 0) request.setHeader('Sec-WebSocket-Protocol', offered.join(', '))
  const extensions = offeredExtensions(call)
  if (extensions !== undefined) request.setHeader('Sec-WebSocket-Extensions', extensions)

  attempt.abandon = () => request.destroy()
  const emit = request.emit.bind(request)
  // The library answers 101 to whatever the agent upgrades to, and pipes; it never hears of such an answer.
  request.emit = (event: string | symbol, ...rest: unknown[]): boolean => {
    const [first, second] = rest
    if (event === 'error') attempt.fail(first)
    else if (event === 'response' && first instanceof IncomingMessage) attempt.relay(first)
    else if (event === 'upgrade' && first instanceof IncomingMessage && second instanceof Socket) {
      const because = objection(first, call, extensions)
      if (because === undefined && attempt.undecided) {
        first.headers = cleanAnswer(first)
        return emit(event, ...rest)
      }
      attempt.refuse('AGENT_ANSWER_INVALID', because ?? 'the answer came too late')
      second.on('error', () => second.destroy())
      second.destroy()
    } else return emit(event, ...rest)
    return true
  }
}

/** Facts keeps no extensions, because only this road passes them on; a list may come in several lines. */
function offeredExtensions(call: UpgradeCall): string | undefined {
  return call.request.headers['sec-websocket-extensions']
}

/** What is wrong with the agent's 101 (RFC 6455 §4.1); a connection without all of it is no WebSocket. */
function objection(
  answer: IncomingMessage,
  call: UpgradeCall,
  extensions: string | undefined,
): string | undefined {
  const { headers } = answer
  const { key = '', protocols = [] } = call.facts.websocket ?? {}
  const accept = createHash('sha1')
    .update(key + acceptSuffix)
    .digest('base64')
  if (answer.statusCode !== 101) return 'the agent upgraded without a 101'
  if (headers.upgrade?.toLowerCase() !== 'websocket') return 'the agent upgraded to something else'
  if (headers['sec-websocket-accept'] !== accept) return 'Sec-WebSocket-Accept is wrong'
  const chosen = headers['sec-websocket-protocol']
  if (chosen !== undefined && !protocols.includes(chosen)) {
    return 'the agent chose a subprotocol that was not offered'
  }
  if (headers['sec-websocket-extensions'] !== undefined && extensions === undefined) {
    return 'the agent chose an extension that was not offered'
  }
  return undefined
}

function cleanAnswer(answer: IncomingMessage): Record<string, string> {
  const headers: Record<string, string> = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Accept': answer.headers['sec-websocket-accept'] ?? '',
  }
  for (const name of handshakeAnswer) {
    const value = answer.headers[name]
    if (value !== undefined) headers[name] = String(value)
  }
  return headers
}

function watch(attempt: Attempt, client: Socket, agent: Socket): void {
  attempt.opened()
  const pipe = new Pipe(client, agent, attempt)
  attempt.endOpen = (reason) => pipe.end(reason)
}

/** Two sockets joined by the library: counted, timed and cut from here. */
class Pipe implements Ticking {
  readonly #client: Socket
  readonly #agent: Socket
  readonly #attempt: Attempt
  readonly #clientBase: number
  readonly #agentBase: number
  #moved: number
  #movedAt: number
  #closedAt: number | undefined
  #because: string | undefined

  constructor(client: Socket, agent: Socket, attempt: Attempt) {
    this.#client = client
    this.#agent = agent
    this.#attempt = attempt
    this.#clientBase = client.bytesWritten
    this.#agentBase = agent.bytesWritten
    this.#moved = progress(client) + progress(agent)
    this.#movedAt = attempt.settings.now()
    for (const socket of [client, agent]) {
      socket.on('end', () => this.#closing())
      socket.on('close', () => this.#closed())
    }
    attempt.live.beat.add(this)
  }

  end(reason: LiveEnd | 'idle' | 'stalled'): void {
    this.#because ??= reason
    this.#client.destroy()
    this.#agent.destroy()
  }

  tick(): void {
    const { now, idleMs } = this.#attempt.settings
    const at = now()
    const moved = progress(this.#client) + progress(this.#agent)
    if (moved !== this.#moved) {
      this.#moved = moved
      this.#movedAt = at
    }
    const still = at - this.#movedAt
    if (this.#closedAt === undefined) {
      if (still >= idleMs) this.end('idle')
    } else if (still >= stalledMs || at - this.#closedAt >= endingMs) this.end('stalled')
  }

  #closing(): void {
    this.#closedAt ??= this.#attempt.settings.now()
  }

  #closed(): void {
    this.#closing()
    if (!this.#client.destroyed || !this.#agent.destroyed) return
    this.#attempt.live.beat.remove(this)
    this.#attempt.finish({
      status: 101,
      bytesToClient: this.#client.bytesWritten - this.#clientBase,
      bytesToAgent: this.#agent.bytesWritten - this.#agentBase,
      // Who ended it is said inside the frames; the first FIN is the server's in any case (RFC 6455 §7.1.1).
      because: this.#because ?? 'closed',
    })
  }
}

/** A figure that changes whenever a byte moves in or out. */
const progress = (socket: Socket) => socket.bytesRead + socket.bytesWritten - socket.writableLength
