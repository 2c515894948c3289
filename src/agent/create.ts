/** Makes the agent that the settings ask for: one in a cell of ours, or one that already runs. */
import { mkdirSync, realpathSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import type { AuditSink } from '../audit/record.ts'
import { listenDeny } from '../egress/deny.ts'
import { codeOf, Failure } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Agent } from './agent.ts'
import { DockerDriver } from './docker.ts'
import { defaultSockets } from './engine.ts'
import { ExternalAgent } from './external.ts'
import { answers } from './health.ts'
import { chooseDriver, specOf, type CellSettings, type SandboxDriver } from './sandbox.ts'
import { Supervisor } from './supervisor.ts'

/** Two descriptors each must fit below the 20,000 that small machines let a process have. */
const portalConnectionsMax = 9000

/** The settings of an agent, as the configuration says them. Exactly one of `upstream` and `cell` is set. */
export interface AgentSettings {
  readonly upstream?: string
  readonly cell?: CellSettings
  /** `auto` takes the first driver that works here. */
  readonly driver?: 'auto' | 'docker'
  /** Which installation this is, for names and labels: lower case letters, digits and "-". */
  readonly instance: string
  /** A folder of ours, 0700, in which the folder of each pod is made; short, because sockets lie in it. */
  readonly runDir: string
  /** Folders and sockets that no cell may ever see; the engine's sockets and `runDir` are added. */
  readonly forbidden: readonly string[]
  /** Unix sockets of container engines to try; the usual places when absent. */
  readonly engineSockets?: readonly string[]
  readonly heldRequests?: number
  readonly heldMs?: number
  /** Client connections that must fit through the portal at once. */
  readonly connections?: number
  readonly graceSeconds?: number
}

/** What an agent needs from outside. */
export interface AgentDeps {
  readonly audit: AuditSink
  /** Wall clock in ms. */
  readonly now: () => number
  /** The Node binary that runs us: the portal's image is made of it. */
  readonly nodePath: string
  readonly uid: number
  readonly gid: number
  /** XDG_RUNTIME_DIR, where engines without root listen. */
  readonly runtimeDir?: string
  /** Tells whether a value is a secret of ours, which no agent may be given. */
  readonly isSecret?: (value: string) => boolean
}

/** An agent, not started yet; a `Failure` when the settings cannot work on this machine. */
export async function createAgent(settings: AgentSettings, deps: AgentDeps): Promise<Agent> {
  if (settings.upstream !== undefined) {
    return new ExternalAgent(settings.upstream, {
      now: deps.now,
      answers: (address) => answers(address, undefined),
    })
  }
  const { cell } = settings
  if (cell === undefined) {
    throw new Failure('AGENT_MISSING', 'There is no agent: set agent.image or agent.upstream.')
  }
  mkdirSync(settings.runDir, { recursive: true, mode: 0o700 })
  const engineSockets = settings.engineSockets ?? defaultSockets(deps.runtimeDir)
  const spec = specOf(cell, {
    instance: settings.instance,
    cell: 'main',
    forbidden: [...settings.forbidden, settings.runDir, ...engineSockets].map(realOr),
    ...(deps.isSecret === undefined ? {} : { isSecret: deps.isSecret }),
  })
  const driver = await chooseDriver([dockerDriver(settings, engineSockets, deps)])
  return new Supervisor(
    {
      image: cell.image,
      heldRequests: settings.heldRequests ?? limits.heldRequests.default,
      heldMs: settings.heldMs ?? limits.heldMs.default,
    },
    {
      driver,
      spec,
      audit: deps.audit,
      now: deps.now,
      pause: (ms, signal) => pause(ms, undefined, { signal }),
      answers: (address) => answers(address, cell.healthPath),
    },
  )
}

function dockerDriver(
  settings: AgentSettings,
  engineSockets: readonly string[],
  deps: AgentDeps,
): SandboxDriver {
  return new DockerDriver(
    {
      engineSockets,
      podRoot: realOr(settings.runDir),
      self: { uid: deps.uid, gid: deps.gid },
      nodePath: deps.nodePath,
      connections: Math.min(settings.connections ?? 4096, portalConnectionsMax),
      graceSeconds: settings.graceSeconds ?? 5,
    },
    {
      audit: deps.audit,
      openEgress: (socketPath, owner) =>
        listenDeny(owner === undefined ? { socketPath } : { socketPath, owner }, deps),
    },
  )
}

/** The real path of something that exists, and the path itself of what does not. */
function realOr(path: string): string {
  try {
    return realpathSync(path)
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT' || codeOf(thrown) === 'EACCES') return path
    throw thrown
  }
}
