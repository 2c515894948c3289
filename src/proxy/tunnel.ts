/** WebSocket to the agent, message by message (RFC 6455): our own handshake on both sides, no extensions. */
import type { IncomingMessage } from 'node:http'
import { connect, type Socket } from 'node:net'

import { WebSocket, WebSocketServer } from 'ws'

import { messageOf } from '../errors.ts'
import type { Live } from './live.ts'
import { Attempt } from './ws-attempt.ts'
import type { TunnelEnd, TunnelSettings, UpgradeCall } from './ws-call.ts'
import { Relay } from './ws-relay.ts'

export type { TunnelEnd, TunnelSettings, UpgradeCall } from './ws-call.ts'

/** Fragments of one message; each costs an object while the message is incomplete. */
const fragmentsMax = 4096

/**
 * Opens a WebSocket to the agent and, only if the agent agrees, to the client, and passes messages until both are
 * closed. Never rejects: every failure is a `TunnelEnd`.
 */
export function openTunnel(
  call: UpgradeCall,
  settings: TunnelSettings,
  live: Live,
): Promise<TunnelEnd> {
  return new Promise((resolve) => {
    const attempt = new Attempt(call, settings, live, resolve)
    if (!attempt.begin()) return
    try {
      dial(attempt)
    } catch (thrown) {
      attempt.refuse('AGENT_DOWN', `the handshake could not be sent: ${messageOf(thrown)}`)
    }
  })
}

/** Bounds of the frame reader, said out loud instead of left to the library's defaults. */
function bounds(maxMessageBytes: number) {
  return {
    maxPayload: maxMessageBytes,
    maxFragments: fragmentsMax,
    // A message in many tiny segments costs far more memory than its bytes.
    maxBufferedChunks: Math.max(4096, Math.ceil(maxMessageBytes / 256)),
    perMessageDeflate: false,
    skipUTF8Validation: false,
    // The relay answers pings itself: it counts them first, and never queues pongs without end.
    autoPong: false,
    allowSynchronousEvents: true,
  } as const
}

function dial(attempt: Attempt): void {
  const { call, settings } = attempt
  const { origin, socketPath } = settings.address
  const agent = new WebSocket(origin, [], {
    ...bounds(settings.maxMessageBytes),
    followRedirects: false,
    setHost: false,
    ...(socketPath === undefined ? {} : { createConnection: () => connect(socketPath) }),
    finishRequest: (request) => {
      // The library's URL parser would rewrite the target; the agent gets the bytes that were judged.
      request.path = call.facts.target
      for (let i = 0; i + 1 < call.headers.length; i += 2) {
        request.appendHeader(call.headers[i] ?? '', call.headers[i + 1] ?? '')
      }
      const offered = call.facts.websocket?.protocols ?? []
      if (offered.length > 0) request.setHeader('Sec-WebSocket-Protocol', offered.join(', '))
      request.end()
    },
  })
  attempt.abandon = () => agent.terminate()
  agent.on('error', (thrown) => attempt.fail(thrown))
  agent.on('unexpected-response', (_request, response) => attempt.relay(response))
  agent.on('upgrade', (response) => {
    const protocol = takeProtocol(attempt, response)
    const { socket } = response
    agent.on('open', () => accept(attempt, agent, socket, protocol))
  })
}

/**
 * The subprotocol that the agent chose. An agent may choose none (RFC 6455 §4.2.2), which the library's client would
 * refuse; so the choice is checked here and taken off the answer.
 */
function takeProtocol(attempt: Attempt, response: IncomingMessage): string | undefined {
  const chosen = response.headers['sec-websocket-protocol']
  if (chosen === undefined) return undefined
  if (attempt.call.facts.websocket?.protocols.includes(chosen) !== true) {
    attempt.refuse('AGENT_ANSWER_INVALID', 'the agent chose a subprotocol that was not offered')
    return undefined
  }
  delete response.headers['sec-websocket-protocol']
  return chosen
}

/** The agent has agreed: now the client gets its 101. */
function accept(
  attempt: Attempt,
  agent: WebSocket,
  agentSocket: Socket,
  protocol: string | undefined,
): void {
  if (!attempt.undecided) {
    agent.terminate()
    return
  }
  const { call, settings } = attempt
  const server = new WebSocketServer({
    ...bounds(settings.maxMessageBytes),
    noServer: true,
    clientTracking: false,
    handleProtocols: () => protocol ?? false,
  })
  // A client that has gone is destroyed by the library without a word; the attempt hears its close.
  server.handleUpgrade(handshakeOf(call), call.socket, call.head, (client) => {
    attempt.opened()
    const relay = new Relay(client, agent, settings, attempt.live.beat, (end) =>
      attempt.finish(end),
    )
    attempt.endOpen = (reason) => relay.end(reason)
    agent.removeAllListeners()
    join(client, agent, relay)
    call.socket.on('drain', () => relay.clientDrained())
    agentSocket.on('drain', () => relay.agentDrained())
  })
}

/** The handshake built from facts: what else the client's request says is not looked at again. */
function handshakeOf(call: UpgradeCall): IncomingMessage {
  const { key = '', protocols = [] } = call.facts.websocket ?? {}
  const headers: Record<string, string> = {
    upgrade: 'websocket',
    'sec-websocket-key': key,
    'sec-websocket-version': '13',
  }
  if (protocols.length > 0) headers['sec-websocket-protocol'] = protocols.join(', ')
  const overlay = { headers: { value: headers }, method: { value: 'GET' } }
  return Object.create(call.request, overlay) as IncomingMessage
}

function join(client: WebSocket, agent: WebSocket, relay: Relay): void {
  client.on('message', (data, isBinary) => relay.clientMessage(data as Buffer, isBinary))
  client.on('ping', (data) => relay.clientPing(data))
  client.on('pong', () => relay.clientPong())
  client.on('error', (thrown) => relay.clientFault(thrown))
  client.on('close', (code, reason) => relay.clientClosed(code, reason))
  agent.on('message', (data, isBinary) => relay.agentMessage(data as Buffer, isBinary))
  agent.on('ping', (data) => relay.agentPing(data))
  agent.on('error', (thrown) => relay.agentFault(thrown))
  agent.on('close', (code, reason) => relay.agentClosed(code, reason))
}
