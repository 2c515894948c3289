/** Makes the supervised agent in a cell of ours, from the first driver that works here. */
import { mkdirSync, realpathSync } from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { listenDeny } from '../egress/deny.ts'
import { codeOf } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Agent } from './agent.ts'
import type { AgentDeps, AgentSettings } from './create.ts'
import { DockerDriver } from './docker.ts'
import { allSockets, engineSockets as socketsOf } from './engine.ts'
import { answers } from './health.ts'
import { chooseDriver, specOf, type CellSettings, type SandboxDriver } from './sandbox.ts'
import { Supervisor } from './supervisor.ts'

/** Two descriptors each must fit below the 20,000 that small machines let a process have. */
const portalConnectionsMax = 9000

/** An agent in a cell, not started yet; a `Failure` when the settings cannot work on this machine. */
export async function createCell(
  settings: AgentSettings,
  cell: CellSettings,
  deps: AgentDeps,
): Promise<Agent> {
  mkdirSync(settings.runDir, { recursive: true, mode: 0o700 })
  const { engineEnv = {} } = deps
  const engineSockets = settings.engineSockets ?? socketsOf(engineEnv)
  const spec = specOf(cell, {
    instance: settings.instance,
    cell: 'main',
    forbidden: [
      ...settings.forbidden,
      settings.runDir,
      ...engineSockets,
      ...allSockets(engineEnv),
    ].map(realOr),
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
      ...(deps.told === undefined ? {} : { told: deps.told }),
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
