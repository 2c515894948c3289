/** From the configuration to the agent: one in a cell of ours, or one that already runs. */

import type { Agent } from '../agent/agent.ts'
import type { AgentSettings } from '../agent/create.ts'
import type { EngineEnv } from '../agent/engine.ts'
import type { AuditSink } from '../audit/record.ts'
import type { Config, Loaded } from '../config/load.ts'
import type { TokenBook } from '../identity/tokens.ts'
import type { Log } from '../log.ts'
import type { PluginMount } from '../plugins.ts'
import { clocks } from './clocks.ts'

const { hash } = process.getBuiltinModule('node:crypto')
const { join } = process.getBuiltinModule('node:path')

/** What the agent is made from. */
export interface AgentSetup {
  readonly loaded: Loaded
  readonly log?: Log
  /** The environment's word about where the container engine listens. */
  readonly engineEnv?: EngineEnv
}

/** The agent that the configuration names, not started yet. */
export async function agentFor(
  setup: AgentSetup,
  audit: AuditSink,
  tokens: TokenBook,
): Promise<Agent> {
  const { createAgent } = await import('../agent/create.ts')
  const { config, home } = setup.loaded
  const plugins = await pluginsFor(setup, audit)
  return createAgent(agentSettings(config, home, plugins), {
    audit,
    now: clocks.now,
    nodePath: process.execPath,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
    isSecret: (value) => tokens.lookUp(value).kind === 'valid',
    told: (state, because) => {
      if (because === undefined) setup.log?.info({ state }, `the agent is ${state} again`)
      else setup.log?.warn({ state, because }, 'the agent is not ready')
    },
    engineEnv: setup.engineEnv ?? {},
  })
}

/** Which installation a cell belongs to: two homes on one engine never touch each other's cells. */
const instanceOf = (home: string) => `h${hash('sha256', home).slice(0, 12)}`

/** The plugins that reach the cell. One that was refused is told, in the log and for good, and the agent starts without. */
async function pluginsFor(
  { loaded, log }: AgentSetup,
  audit: AuditSink,
): Promise<readonly PluginMount[]> {
  const { config, home } = loaded
  if (config.agent.image === undefined || config.plugins.dir === undefined) return []
  const { preparePlugins } = await import('../plugins.ts')
  const { mounts, refused } = await preparePlugins(config.plugins, home)
  for (const { name, state, because } of refused) {
    audit.append({ event: 'plugin.refused', because: `${name} ${because}` })
    log?.error(
      { plugin: name, state },
      `the plugin ${name} ${because}, so the cell does not see it`,
    )
  }
  for (const { name } of mounts) audit.append({ event: 'plugin.mounted', because: name })
  return mounts
}

function agentSettings(
  config: Config,
  home: string,
  plugins: readonly PluginMount[],
): AgentSettings {
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
      plugins,
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
