/** The composition root: from a configuration to a running sidecar, and back down in order. */

import type { Agent, AgentStatus } from './agent/agent.ts'
import type { EngineEnv } from './agent/engine.ts'
import type { AuditOptions } from './audit/log.ts'
import type { AuditSink } from './audit/record.ts'
import type { Config, Loaded } from './config/load.ts'
import { gatewayPairs } from './config/vouching-rules.ts'
import { messageOf } from './errors.ts'
import { ensureDir } from './files.ts'
import { bearerProver } from './identity/bearer.ts'
import { seconds } from './limits.ts'
import type { Log } from './log.ts'
import { Live } from './proxy/live.ts'
import type { Call } from './senders/outgoing.ts'
import { openSqlite } from './store/sqlite.ts'
import { agentFor } from './wiring/agent.ts'
import type { Channels, ChannelParts } from './wiring/channels.ts'
import { clocks } from './wiring/clocks.ts'
import { bind, forwarderFor, listenerFor } from './wiring/listener.ts'
import type { Vouching, VouchingParts } from './wiring/vouching.ts'
import type { PasswordMode, PasswordParts } from './wiring/password.ts'
import { openTokens } from './wiring/tokens.ts'

const { join } = process.getBuiltinModule('node:path')

/** What a sidecar is started from. */
export interface AppSetup {
  readonly loaded: Loaded
  readonly log: Log
  /** An agent of the caller's making, for tests; else it comes from the configuration. */
  readonly agent?: Agent
  /** Where the audit log cannot be opened or must be seen, for tests. */
  readonly audit?: AuditSink & { close(): Promise<void> }
  /** Calls of messaging services, for tests; else Node's own. */
  readonly call?: Call
  /** The environment's word about where the container engine listens. */
  readonly engineEnv?: EngineEnv
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
  /** Records that a defect of ours ends the program, and writes the audit log out; nothing else is touched. */
  fail(because: string): Promise<void>
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

/** How long running exchanges may take to end at a stop, ms. */
const drainMs = seconds(10)

/** How long a command that writes to the audit log is waited for at start; another sidecar does not go away. */
const commandMs = seconds(2)

/** How long after the start comes what need not be loaded before the first answer, ms. */
const settleMs = 100

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

/** What runs the agent and what that cannot guarantee, as the log keeps it. */
function runnerOf(agent: Agent): string {
  const { driver, lacks } = agent.runner()
  return [`agent by ${driver}`, ...lacks].join('; ').slice(0, 300)
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

  const audit = await openAuditSink(setup)
  undo.push(() => audit.close())
  const store = openSqlite(join(home, 'state.db'), { now: clocks.now })
  undo.push(() => store.close())
  const live = new Live({
    maxPerIdentity: config.security.limits.webSocket.maxPerIdentity,
    maxPerAddress: config.security.limits.webSocket.maxPerAddress,
  })
  const opened = await openTokens({ loaded, store, audit, live, log })
  const { tokens, configHash } = opened
  undo.push(() => opened.close())

  const login = await openLogin(config, { store, audit, live, log })
  undo.push(() => login?.close())

  const agent = setup.agent ?? (await agentFor(setup, audit, tokens))
  undo.push(() => agent.stop())
  const forwarder = forwarderFor(config, agent)
  undo.push(() => forwarder.close())
  const served = { store, audit, log, agent, forwarder, live, configHash, call: setup.call }
  const channels = await channelsFor(loaded, served)
  undo.push(() => channels?.close())
  const pairing = channels?.pairing
  const vouching = await vouchingFor(loaded, { tokens: bearerProver(tokens), live, log, pairing })
  undo.push(() => vouching.close())
  if (channels?.people !== undefined) {
    const { openEgress } = await import('./wiring/egress.ts')
    const egress = await openEgress(loaded, { people: channels.people, audit, log })
    undo.push(() => egress.close())
  }
  const listener = listenerFor(loaded, {
    audit,
    agent,
    forwarder,
    live,
    tokens,
    configHash,
    log,
    login,
    vouching,
    webhooks: channels?.webhooks,
  })
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
    configHash: configHash(),
    startedAt,
    pid: process.pid,
    agent: await agent.status(),
    audit: { failing: audit.failing },
    connections: listener.connections(),
    live: live.count(),
    notices: loaded.notices,
  })
  // Loaded now that the port is open: nobody waits for it.
  const { serveOperations } = await import('./wiring/operations.ts')
  const admin = await serveOperations(join(home, 'run', 'admin.sock'), {
    agent,
    tokens,
    audit,
    store,
    status,
    endSessions: login?.endAll,
    ofChannels: channels?.operations,
  })
  undo.push(() => admin.close())
  await agent.start()
  audit.append({ event: 'sidecar.started', config: configHash(), because: runnerOf(agent) })
  undo.push(
    afterwards(() => {
      for (const notice of loaded.notices) tellNotice(log, notice)
    }),
  )
  const warm = setTimeout(() => forwarder.warm(), settleMs).unref()
  undo.push(() => clearTimeout(warm))
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
    fail: (because) => {
      audit.append({ event: 'sidecar.failed', because })
      return audit.close()
    },
  }
}

/** Does the work once: soon after the start, or when the returned function is called before that. */
function afterwards(work: () => void): () => void {
  const timer = setTimeout(() => now(), settleMs).unref()
  let done = false
  const now = () => {
    clearTimeout(timer)
    if (!done) work()
    done = true
  }
  return now
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
  const { openAuditSoon } = await import('./audit/log.ts')
  const options: AuditOptions = {
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
  }
  return openAuditSoon(options, commandMs)
}

/** `security.auditLogging: false`: nothing is recorded; the configuration's notice says so. */
const unaudited: AuditSink & { close(): Promise<void> } = {
  failing: undefined,
  append: (_entry, written) => written?.(),
  close: () => Promise.resolve(),
}

/** Loaded when the mode asks for it: whoever uses tokens alone pays nothing for passwords. */
async function openLogin(config: Config, parts: PasswordParts): Promise<PasswordMode | undefined> {
  if (config.gateway.auth.mode !== 'password') return undefined
  const { openPasswordMode } = await import('./wiring/password.ts')
  return openPasswordMode(config, parts)
}

/** Loaded where a channel is configured, or where identities may ask to be let in: a start is mostly modules. */
async function channelsFor(loaded: Loaded, parts: ChannelParts): Promise<Channels | undefined> {
  const { config } = loaded
  if (Object.keys(config.channels).length === 0 && !gatewayPairs(config)) return undefined
  const { openChannels } = await import('./wiring/channels.ts')
  return openChannels(loaded, parts)
}

/** Loaded when somebody is trusted to vouch: for clients, or for the address they come from. */
async function vouchingFor(loaded: Loaded, parts: VouchingParts): Promise<Vouching> {
  const { auth, trustedProxies } = loaded.config.gateway
  const asked = auth.mode === 'jwt' || auth.tailscale.enabled || trustedProxies.length > 0
  if (!asked && parts.pairing === undefined) return nobodyVouches
  const { openVouching } = await import('./wiring/vouching.ts')
  return openVouching(loaded, parts)
}

const nobodyVouches: Vouching = {
  hops: undefined,
  jwt: undefined,
  tailscale: undefined,
  tailnetHosts: new Set(),
  isGood: (identityId) => !identityId.startsWith('jwt:'),
  ask: undefined,
  close: () => undefined,
}

async function ownVersion(): Promise<string> {
  const { version } = await import('./version.ts')
  return version
}
