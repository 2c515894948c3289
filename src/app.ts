/** The composition root: from a configuration to a running sidecar, and back down in order. */
import { hash, randomBytes, randomUUID } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'

import { openAdmin, type Operations } from './admin/api.ts'
import type { Agent, AgentStatus } from './agent/agent.ts'
import type { AgentSettings } from './agent/create.ts'
import type { AuditSink } from './audit/record.ts'
import type { Config, Loaded } from './config/load.ts'
import { codeOf, Failure, messageOf } from './errors.ts'
import { ensureDir } from './files.ts'
import type { Facts, Gate } from './gates/gate.ts'
import { identityGate } from './gates/identity.ts'
import { lockdownGate } from './gates/lockdown.ts'
import { gateOrder } from './gates/order.ts'
import { originGate } from './gates/origin.ts'
import { pathGate } from './gates/path.ts'
import { addressRateGate, identityRateGate } from './gates/rate.ts'
import { scopeGate } from './gates/scope.ts'
import { shapeGate } from './gates/shape.ts'
import { sizeGate } from './gates/size.ts'
import { normaliseAddress } from './identity/address.ts'
import { bearerProver } from './identity/bearer.ts'
import { memoryLimiter } from './identity/limiter.ts'
import { Lockout } from './identity/lockout.ts'
import { tokenOperations } from './identity/operations.ts'
import { identifier, type Identifier } from './identity/proof.ts'
import { TokenBook } from './identity/tokens.ts'
import { limits, seconds } from './limits.ts'
import type { Log } from './log.ts'
import { openForwarder, type Forwarder } from './proxy/forward.ts'
import { Live } from './proxy/live.ts'
import { createListener, type Listener, type OwnAnswer } from './proxy/server.ts'
import type { TunnelEnd, TunnelSettings, UpgradeCall } from './proxy/ws-call.ts'
import { openSqlite } from './store/sqlite.ts'
import type { Store } from './store/store.ts'

/** What a sidecar is started from. */
export interface AppSetup {
  readonly loaded: Loaded
  readonly log: Log
  /** An agent of the caller's making, for tests; else it comes from the configuration. */
  readonly agent?: Agent
  /** Where the audit log cannot be opened or must be seen, for tests. */
  readonly audit?: AuditSink & { close(): Promise<void> }
  /** XDG_RUNTIME_DIR, where engines without root listen. */
  readonly runtimeDir?: string
}

/** A running sidecar. */
export interface App {
  /** Where clients reach it: `http://127.0.0.1:8080`. */
  readonly url: string
  readonly port: number
  readonly agent: Agent
  status(): Promise<AppStatus>
  /** Refuses new connections, lets exchanges end for `graceMs`, stops the cell, seals the audit head. */
  stop(graceMs?: number): Promise<void>
}

/** What `hardshell status` shows. */
export interface AppStatus {
  readonly version: string
  readonly url: string
  readonly home: string
  readonly configFile: string | undefined
  readonly configHash: string
  readonly startedAt: number
  readonly pid: number
  readonly agent: AgentStatus
  readonly audit: { readonly failing: string | undefined }
  readonly connections: number
  readonly live: number
  readonly notices: Loaded['notices']
}

/** The clocks of the process: the wall for records and expiry, a monotonic one for windows and time-outs. */
const clocks = { now: () => Date.now(), monotonic: () => performance.now() }

/** How long running exchanges may take to end at a stop, ms. */
const drainMs = seconds(10)

/** A stopping action; they run in reverse order of how the parts were built. */
type Undo = () => Promise<unknown> | void

/**
 * Builds and starts every part. When one cannot start, what was started is taken down again and the Failure says on
 * one line what is wrong.
 */
export async function startApp(setup: AppSetup): Promise<App> {
  const undo: Undo[] = []
  try {
    return await assemble(setup, undo)
  } catch (thrown) {
    await takeDown(undo, setup.log)
    throw thrown
  }
}

async function takeDown(undo: Undo[], log: Log): Promise<void> {
  for (let step = undo.pop(); step !== undefined; step = undo.pop()) {
    try {
      await step()
    } catch (thrown) {
      // The rest must still be taken down; what failed is told.
      log.error({ error: messageOf(thrown) }, 'a part did not stop cleanly')
    }
  }
}

async function assemble(setup: AppSetup, undo: Undo[]): Promise<App> {
  const { loaded, log } = setup
  const { config, home } = loaded
  const startedAt = clocks.now()
  ensureDir(join(home, 'run'))
  for (const notice of loaded.notices) tellNotice(log, notice)

  const audit = await openAuditSink(setup)
  undo.push(() => audit.close())
  const store = openSqlite(join(home, 'state.db'), { now: clocks.now })
  undo.push(() => store.close())
  const tokens = await openTokens(store, log)
  undo.push(() => tokens.close())

  const live = new Live({
    maxPerIdentity: config.security.limits.webSocket.maxPerIdentity,
    maxPerAddress: config.security.limits.webSocket.maxPerAddress,
  })
  tokens.onEvent(({ event, name, fingerprint }) =>
    audit.append({ event, identity: name, because: `fingerprint ${fingerprint}` }),
  )
  tokens.onRevoked((identityId) => void live.endIdentity(identityId, 'revoked'))
  await useConfigured(tokens, config)
  tokens.start()

  const agent = setup.agent ?? (await agentFor(setup, audit, tokens))
  undo.push(() => agent.stop())
  const forwarder = forwarderFor(config, agent)
  undo.push(() => forwarder.close())
  const listener = listenerFor(loaded, { audit, agent, forwarder, live, tokens, log })
  const port = await bind(listener, config)
  let graceMs = drainMs
  undo.push(async () => {
    const closed = listener.close(graceMs)
    // WebSockets hear that we go (1001); requests under way have the grace.
    live.endAll('drain')
    await closed
  })
  const host = config.gateway.bind.includes(':') ? `[${config.gateway.bind}]` : config.gateway.bind
  const url = `http://${host}:${port}`

  const status = async (): Promise<AppStatus> => ({
    version: await ownVersion(),
    url,
    home,
    configFile: loaded.file,
    configHash: loaded.hash,
    startedAt,
    pid: process.pid,
    agent: await agent.status(),
    audit: { failing: audit.failing },
    connections: listener.connections(),
    live: live.count(),
    notices: loaded.notices,
  })
  const admin = await openAdmin(
    join(home, 'run', 'admin.sock'),
    operationsFor({ agent, tokens, audit, status }),
  )
  undo.push(() => admin.close())
  await agent.start()
  audit.append({ event: 'sidecar.started', config: loaded.hash })
  return {
    url,
    port,
    agent,
    status,
    stop: async (grace = drainMs) => {
      graceMs = grace
      audit.append({ event: 'sidecar.stopped' })
      await takeDown(undo, log)
    },
  }
}

function tellNotice(log: Log, notice: Loaded['notices'][number]): void {
  const { level, code, path, message, remedy } = notice
  const facts = { code, path, remedy }
  if (level === 'INFO') log.info(facts, message)
  else log.warn({ ...facts, severity: level }, message)
}

async function openAuditSink(setup: AppSetup): Promise<AuditSink & { close(): Promise<void> }> {
  if (setup.audit !== undefined) return setup.audit
  const { config, home, hash } = setup.loaded
  if (!config.security.auditLogging) return unaudited
  const { openAudit } = await import('./audit/log.ts')
  return openAudit({
    dir: join(home, 'audit'),
    sync: config.security.audit.sync,
    rotateBytes: config.security.audit.rotate,
    keepFiles: config.security.audit.keep,
    now: clocks.now,
    configHash: () => hash,
    onState: (failing) => {
      if (failing === undefined) setup.log.info({}, 'the audit log can be written again')
      else
        setup.log.error(
          { because: failing },
          'the audit log cannot be written: requests are refused',
        )
    },
  })
}

/** `security.auditLogging: false`: nothing is recorded; the configuration's notice says so. */
const unaudited: AuditSink & { close(): Promise<void> } = {
  failing: undefined,
  append: (_entry, written) => written?.(),
  close: () => Promise.resolve(),
}

async function openTokens(store: Store, log: Log): Promise<TokenBook> {
  return await TokenBook.open({
    store,
    now: clocks.now,
    random: randomBytes,
    onTrouble: (failure) => log.error({ code: failure.code }, failure.message),
  })
}

/** The configured token is one more entry of the table; one that was revoked stays refused. */
async function useConfigured(tokens: TokenBook, config: Config): Promise<void> {
  const configured = await tokens.configure(config.gateway.auth.token)
  if (configured?.status !== 'revoked') return
  throw new Failure(
    'TOKEN_REVOKED',
    'gateway.auth.token was revoked with "hardshell token revoke": put a new one there (openssl rand -base64 32)',
  )
}

async function agentFor(setup: AppSetup, audit: AuditSink, tokens: TokenBook): Promise<Agent> {
  const { createAgent } = await import('./agent/create.ts')
  const { config, home } = setup.loaded
  const { runtimeDir } = setup
  return await createAgent(agentSettings(config, home), {
    audit,
    now: clocks.now,
    nodePath: process.execPath,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    isSecret: (value) => tokens.lookUp(value).kind === 'valid',
    ...(runtimeDir === undefined ? {} : { runtimeDir }),
  })
}

/** Which installation a cell belongs to: two homes on one engine never touch each other's cells. */
const instanceOf = (home: string) => `h${hash('sha256', home).slice(0, 12)}`

function agentSettings(config: Config, home: string): AgentSettings {
  const { agent, agents, security } = config
  const common = {
    instance: instanceOf(home),
    runDir: join(home, 'run'),
    forbidden: [home],
    // Two sockets of the portal for each connection that we may be asked to hold.
    connections: security.limits.maxConnections * 2,
  }
  if (agent.image === undefined) {
    return agent.upstream === undefined ? common : { ...common, upstream: agent.upstream }
  }
  const { memory, cpus, pidsLimit, user } = agents.defaults.sandbox.docker
  const optional = { command: agent.command, args: agent.args, workdir: agent.workdir }
  const places = { healthPath: agent.healthPath, workspace: agent.workspace }
  return {
    ...common,
    driver: agents.defaults.sandbox.driver === 'docker' ? 'docker' : 'auto',
    cell: {
      image: agent.image,
      env: agent.env,
      port: agent.port,
      memoryBytes: memory,
      cpus,
      pidsLimit,
      user,
      ...defined(optional),
      ...defined(places),
    },
  }
}

/** The object without the keys whose value is undefined. */
function defined<T extends object>(given: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(given).filter(([, value]) => value !== undefined)
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> }
}

function forwarderFor(config: Config, agent: Agent): Forwarder {
  const { limits: bounds, maxRequestSize } = config.security
  return openForwarder({
    address: agent.address,
    connectMs: limits.upstreamConnectMs.default,
    answerMs: bounds.upstreamTimeout,
    idleMs: limits.upstreamIdleMs.default,
    maxBytes: maxRequestSize,
    bodyTimeMs: bounds.bodyTimeout,
    rateFloorBytesPerSecond: limits.bodyRateFloorBytesPerSecond.default,
  })
}

/** What the listener's parts are made from. */
interface Parts {
  readonly audit: AuditSink
  readonly agent: Agent
  readonly forwarder: Forwarder
  readonly live: Live
  readonly tokens: TokenBook
  readonly log: Log
}

function listenerFor(loaded: Loaded, parts: Parts): Listener {
  const { config } = loaded
  const { limits: bounds } = config.security
  const { audit, agent, forwarder, live, tokens, log } = parts
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
      peerOf,
      agentToken: config.agent.token,
      forwardedHeaders: config.agent.forwardedHeaders,
    },
    {
      gates: gatesFor(config, identifier([bearerProver(tokens)]), audit),
      audit,
      agent,
      forwarder,
      live,
      loadTunnel: tunnelFor(config, agent, live),
      own: healthAnswer(config.gateway.healthPath, agent),
      configHash: () => loaded.hash,
      onDrop: (because, count) => log.warn({ because, count }, 'connections were cut'),
    },
  )
}

const peerOf = ({ socket }: IncomingMessage): string =>
  normaliseAddress(socket.remoteAddress ?? '') ?? ''

/** The gates in the order of src/gates/order.ts, which is checked here too. */
function gatesFor(config: Config, who: Identifier, audit: AuditSink): readonly Gate[] {
  const { gateway, security } = config
  const { enabled, requestsPerMinute, requestsPerMinutePerAddress, authFailures } =
    security.rateLimiting
  const lockout = new Lockout(
    {
      attempts: authFailures.attempts,
      windowMs: authFailures.window,
      lockoutMs: authFailures.lockout,
      addressesMax: limits.addresses.default,
    },
    clocks.monotonic,
    (peer, ms) => audit.append({ event: 'address.locked', peer, ms: Math.round(ms) }),
  )
  const gates: Gate[] = [
    lockdownGate(() => false),
    shapeGate({ bind: [gateway.bind], publicOrigins: gateway.publicOrigins }),
    pathGate(security.paths),
    addressRateGate({
      limiter: memoryLimiter({ perMinute: requestsPerMinutePerAddress }),
      identifier: who,
    }),
    sizeGate(security.maxRequestSize),
    identityGate({ identifier: who, lockout }),
    scopeGate(),
    originGate(gateway.publicOrigins),
    identityRateGate({ limiter: memoryLimiter({ perMinute: requestsPerMinute }) }),
  ]
  if (gates.map(({ name }) => name).join() !== gateOrder.join()) {
    throw new Failure('GATE_ORDER', 'the gates are not in the order of src/gates/order.ts')
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
      const { openOpaque } = await import('./proxy/opaque.ts')
      return (call) => openOpaque(call, settings, live)
    }
    const { openTunnel } = await import('./proxy/tunnel.ts')
    return (call) => openTunnel(call, settings, live)
  }
}

/** GET or HEAD of the health path: whether the agent can be reached, behind the same gates as everything else. */
function healthAnswer(path: string, agent: Agent): (facts: Facts) => OwnAnswer | undefined {
  return (facts) => {
    if (facts.path !== path || (facts.method !== 'GET' && facts.method !== 'HEAD')) return undefined
    const state = agent.state()
    const status = state === 'ready' ? 'ok' : 'unavailable'
    return { status: state === 'ready' ? 200 : 503, document: { status, agent: state } }
  }
}

async function bind(listener: Listener, config: Config): Promise<number> {
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

function operationsFor(parts: {
  agent: Agent
  tokens: TokenBook
  audit: AuditSink
  status: () => Promise<AppStatus>
}): Operations {
  const { agent, status } = parts
  return {
    ...tokenOperations({ tokens: parts.tokens, now: clocks.now, audit: parts.audit }),
    status,
    'agent.status': () => agent.status(),
    'agent.restart': async () => {
      await agent.restart()
      return await agent.status()
    },
    'agent.logs': (input) => agent.logs(linesOf(input)),
  }
}

function linesOf(input: unknown): number {
  const lines =
    typeof input === 'object' && input !== null && 'lines' in input ? input.lines : undefined
  const { min, max } = limits.agentLogLines
  if (lines === undefined) return limits.agentLogLines.default
  if (typeof lines !== 'number' || !Number.isInteger(lines) || lines < min || lines > max) {
    throw new Failure('BAD_USAGE', `-n must be a whole number from ${min} to ${max}`, {
      exitCode: 2,
    })
  }
  return lines
}

async function ownVersion(): Promise<string> {
  const { version } = await import('./version.ts')
  return version
}
