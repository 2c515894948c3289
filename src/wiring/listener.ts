/** From the configuration to the listener: bounds, gates in order, roads to the agent. */
import type { IncomingMessage } from 'node:http'

import type { Agent } from '../agent/agent.ts'
import type { AuditSink } from '../audit/record.ts'
import type { Config, Loaded } from '../config/load.ts'
import { codeOf, Failure, messageOf } from '../errors.ts'
import { gateOrder, lockdownGate, type Gate } from '../gates/gate.ts'
import { identityGate } from '../gates/identity.ts'
import { originGate } from '../gates/origin.ts'
import { pathGate } from '../gates/path.ts'
import { addressRateGate, identityRateGate } from '../gates/rate.ts'
import { scopeGate } from '../gates/scope.ts'
import { shapeGate, sizeGate } from '../gates/shape.ts'
import { normaliseAddress } from '../identity/address.ts'
import { bearerProver } from '../identity/bearer.ts'
import { memoryLimiter } from '../identity/limiter.ts'
import { Lockout } from '../identity/lockout.ts'
import { identifier, type Identifier } from '../identity/proof.ts'
import { renewalRoute } from '../identity/token-route.ts'
import { isTokenIdentity } from '../identity/token-table.ts'
import type { TokenBook } from '../identity/tokens.ts'
import { limits, seconds } from '../limits.ts'
import type { Log } from '../log.ts'
import { openForwarder, type Forwarder } from '../proxy/forward.ts'
import type { Live } from '../proxy/live.ts'
import { ownRoutes, type OwnRoute } from '../proxy/own.ts'
import { createListener, type Listener } from '../proxy/server.ts'
import type { TunnelEnd, TunnelSettings, UpgradeCall } from '../proxy/ws-call.ts'
import type { Channels } from './channels.ts'
import { clocks } from './clocks.ts'
import type { PasswordMode } from './password.ts'
import type { Vouching } from './vouching.ts'

const { randomUUID } = process.getBuiltinModule('node:crypto')

/** The way to the agent over HTTP. */
export function forwarderFor(config: Config, agent: Agent): Forwarder {
  const { limits: bounds, maxRequestSize } = config.security
  return openForwarder({
    address: agent.address,
    connectMs: limits.upstreamConnectMs.default,
    answerMs: bounds.upstreamTimeout,
    idleMs: limits.upstreamIdleMs.default,
    stallMs: limits.clientStallMs.default,
    maxBytes: maxRequestSize,
    bodyTimeMs: bounds.bodyTimeout,
    rateFloorBytesPerSecond: limits.bodyRateFloorBytesPerSecond.default,
  })
}

/** What the listener's parts are made from. */
export interface Parts {
  readonly audit: AuditSink
  readonly agent: Agent
  readonly forwarder: Forwarder
  readonly live: Live
  readonly tokens: TokenBook
  /** Hash of the configuration that judges. */
  readonly configHash: () => string
  readonly log: Log
  /** Set in password mode. */
  readonly login?: PasswordMode | undefined
  readonly vouching: Vouching
  /** The webhook road, where a channel is configured. */
  readonly webhooks?: Channels['webhooks']
}

/** The listener with its gates, not bound yet. */
export function listenerFor(loaded: Loaded, parts: Parts): Listener {
  const { config } = loaded
  const { limits: bounds } = config.security
  const { audit, agent, forwarder, live, tokens, configHash, log, login, vouching } = parts
  const lockout = lockoutFor(config, audit)
  const bearer = bearerProver(login?.beside(tokens) ?? tokens)
  const provers = [
    vouching.jwt ?? bearer,
    ...(login === undefined ? [] : [login.prover]),
    ...(vouching.tailscale === undefined ? [] : [vouching.tailscale]),
  ]
  const gates = gatesFor(config, identifier(provers), lockout, vouching)
  return createListener(
    {
      maxUrlBytes: bounds.maxUrlLength,
      maxHeaders: bounds.maxHeaders,
      maxHeaderBytes: bounds.maxHeaderSize,
      headerMs: bounds.headerTimeout,
      keepAliveMs: bounds.keepAliveTimeout,
      maxConnections: bounds.maxConnections,
      maxConnectionsPerAddress: bounds.maxConnectionsPerAddress,
      maxRequestsPerConnection: bounds.maxRequestsPerConnection,
      gateTimeMs: limits.gateTimeMs.default,
      now: clocks.now,
      monotonic: clocks.monotonic,
      newId: randomUUID,
      peerOf: peerReader(),
      hops: vouching.hops,
      agentToken: config.agent.token,
      forwardedHeaders: config.agent.forwardedHeaders,
    },
    {
      gates,
      webhooks: parts.webhooks?.(gates),
      audit,
      agent,
      forwarder,
      live,
      loadTunnel: tunnelFor(config, agent, live),
      own: ownRoutes([
        ...healthRoutes(config.gateway.healthPath, agent),
        renewalRoute(tokens),
        ...(login?.routes(lockout) ?? []),
      ]),
      isGood: ({ id }) =>
        (!isTokenIdentity(id) || tokens.isGood(id)) &&
        login?.isGood(id) !== false &&
        vouching.isGood(id),
      ...(login === undefined ? {} : { refusalPage: login.refusalPage }),
      configHash,
      onDrop: (because, count) => log.warn({ because, count }, 'connections were cut'),
    },
  )
}

/** Reads the client's address; the last one is kept, because one client sends many requests. */
function peerReader(): (request: IncomingMessage) => string {
  let lastAddress = ''
  let lastPeer = ''
  return ({ socket }) => {
    const address = socket.remoteAddress ?? ''
    if (address !== lastAddress) {
      lastPeer = normaliseAddress(address) ?? ''
      lastAddress = address
    }
    return lastPeer
  }
}

/** One count of failures per address, whatever it was that was wrong: a token or a password. */
function lockoutFor({ security }: Config, audit: AuditSink): Lockout {
  const { attempts, window, lockout } = security.rateLimiting.authFailures
  return new Lockout(
    {
      attempts,
      windowMs: window,
      lockoutMs: lockout,
      addressesMax: limits.addresses.default,
    },
    clocks.monotonic,
    (peer, ms) => audit.append({ event: 'address.locked', peer, ms: Math.round(ms) }),
  )
}

/** The gates in the order of src/gates/gate.ts, which is checked here too. */
function gatesFor(
  config: Config,
  who: Identifier,
  lockout: Lockout,
  { tailnetHosts, ask }: Vouching,
): readonly Gate[] {
  const { gateway, security } = config
  const { enabled, requestsPerMinute, requestsPerMinutePerAddress } = security.rateLimiting
  const gates: Gate[] = [
    lockdownGate(() => false),
    shapeGate({
      bind: [gateway.bind],
      publicOrigins: gateway.publicOrigins,
      tailnetHosts,
      allowFunnel: gateway.auth.tailscale.allowFunnel,
    }),
    pathGate(security.paths),
    addressRateGate({
      limiter: memoryLimiter({ perMinute: requestsPerMinutePerAddress }),
      identifier: who,
    }),
    sizeGate(security.maxRequestSize),
    identityGate({ identifier: who, lockout, ask }),
    scopeGate(),
    originGate(gateway.publicOrigins),
    identityRateGate({ limiter: memoryLimiter({ perMinute: requestsPerMinute }) }),
  ]
  if (gates.map(({ name }) => name).join() !== gateOrder.join()) {
    throw new Failure('GATE_ORDER', 'the gates are not in the order of src/gates/gate.ts')
  }
  return enabled ? gates : gates.filter(({ name }) => !name.endsWith(' rate'))
}

function tunnelFor(
  config: Config,
  agent: Agent,
  live: Live,
): () => Promise<(call: UpgradeCall) => Promise<TunnelEnd>> {
  const bounds = config.security.limits.webSocket
  const settings: TunnelSettings = {
    address: agent.address,
    maxMessageBytes: bounds.maxMessageSize,
    messagesPerMinute: bounds.messagesPerMinute,
    idleMs: bounds.idleTimeout,
    handshakeMs: seconds(5),
    now: clocks.monotonic,
  }
  // Loaded at the first upgrade: most of start-up time is modules that a run may never need.
  return async () => {
    if (config.agent.websocket === 'opaque') {
      const { openOpaque } = await import('../proxy/opaque.ts')
      return (call) => openOpaque(call, settings, live)
    }
    const { openTunnel } = await import('../proxy/tunnel.ts')
    return (call) => openTunnel(call, settings, live)
  }
}

/**
 * GET or HEAD of the health path: whether the agent can be reached, what runs it and what that cannot guarantee, behind the
 * same gates as everything else.
 */
function healthRoutes(path: string, agent: Agent): readonly OwnRoute[] {
  const answer = () => {
    const state = agent.state()
    const status = state === 'ready' ? 'ok' : 'unavailable'
    const document = { status, agent: state, ...agent.runner() }
    return { status: state === 'ready' ? 200 : 503, document }
  }
  return ['GET', 'HEAD'].map((method) => ({ method, path, answer }))
}

/** Binds the listener; a Failure says on one line why that cannot be. */
export async function bind(listener: Listener, config: Config): Promise<number> {
  const { bind: host, port } = config.gateway
  try {
    return await listener.listen(port, host)
  } catch (thrown) {
    throw bindFailure(codeOf(thrown), host, port, thrown)
  }
}

function bindFailure(code: string, host: string, port: number, cause: unknown): Failure {
  const where = `${host}:${port}`
  switch (code) {
    case 'EADDRINUSE':
      return new Failure(
        'PORT_IN_USE',
        `port ${port} on ${host} is in use by another program: stop it (ss -ltnp "sport = :${port}") or set gateway.port`,
        { cause },
      )
    case 'EADDRNOTAVAIL':
      return new Failure(
        'BIND_UNAVAILABLE',
        `gateway.bind: this machine has no address ${host}: use "127.0.0.1" or one of "ip -brief address"`,
        { cause },
      )
    case 'EACCES':
      return new Failure(
        'PORT_FORBIDDEN',
        `${where} needs privileges: set gateway.port to 1024 or more`,
        { cause },
      )
    default:
      return new Failure('BIND_FAILED', `cannot listen on ${where}: ${messageOf(cause)}`, { cause })
  }
}
