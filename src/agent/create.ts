/** Makes the agent that the settings ask for: one in a cell of ours, or one that already runs. */
import type { AuditSink } from '../audit/record.ts'
import { Failure } from '../errors.ts'
import type { Agent, AgentListener } from './agent.ts'
import type { EngineEnv } from './engine.ts'
import { ExternalAgent } from './external.ts'
import { answers } from './health.ts'
import type { CellSettings } from './sandbox.ts'

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
  /** The environment's word about where the engine listens. */
  readonly engineEnv?: EngineEnv
  /** Hears of an agent that is not ready; absent when nobody is to be told. */
  readonly told?: AgentListener
  /** Tells whether a value is a secret of ours, which no agent may be given. */
  readonly isSecret?: (value: string) => boolean
}

/** An agent, not started yet; a `Failure` when the settings cannot work on this machine. */
export async function createAgent(settings: AgentSettings, deps: AgentDeps): Promise<Agent> {
  if (settings.upstream !== undefined) {
    return new ExternalAgent(settings.upstream, {
      now: deps.now,
      answers: (address) => answers(address, undefined),
      ...(deps.told === undefined ? {} : { told: deps.told }),
    })
  }
  if (settings.cell === undefined) {
    throw new Failure('AGENT_MISSING', 'There is no agent: set agent.image or agent.upstream.')
  }
  // Loaded for a cell alone: the engine's client is a quarter of start-up.
  const { createCell } = await import('./cell.ts')
  return createCell(settings, settings.cell, deps)
}
