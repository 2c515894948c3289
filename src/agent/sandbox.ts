/** What a cell is, told apart from how one is made: the settings, the checked spec, and the contract of a driver. */
import { createHash } from 'node:crypto'
import { lstatSync, realpathSync, statSync } from 'node:fs'
import { Failure } from '../errors.ts'
import { canonical } from './json.ts'

/** How the agent is launched, as the configuration says it. */
export interface CellSettings {
  readonly image: string
  /** Replaces the image's entry point. */
  readonly command?: readonly string[]
  /** Replaces the image's arguments. */
  readonly args?: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly workdir?: string
  /** The port that the agent listens on, on its loopback or on all its addresses. */
  readonly port: number
  /** A path that answers 2xx when the agent is ready; without it an open port is enough. */
  readonly healthPath?: string
  /** A folder of this machine that the agent may write, mounted at the same path. */
  readonly workspace?: string
  /** Folders that the agent reads under `/plugins/<name>`; each a copy of ours that nobody else can change. */
  readonly plugins?: readonly { readonly name: string; readonly source: string }[]
  readonly memoryBytes?: number
  readonly cpus?: number
  readonly pidsLimit?: number
  /** `uid:gid` in numbers. */
  readonly user?: string
}

/** A checked cell: everything a driver needs and nothing that it could loosen. */
export interface CellSpec {
  /** Which installation it belongs to; two installations on one engine have different ones. */
  readonly instance: string
  /** Which cell of that installation: `main`, later one name per session. */
  readonly cell: string
  readonly image: string
  readonly command: readonly string[] | undefined
  readonly args: readonly string[] | undefined
  /** `NAME=value`. */
  readonly env: readonly string[]
  readonly workdir: string | undefined
  readonly port: number
  readonly workspace: string | undefined
  readonly plugins?: readonly { readonly name: string; readonly source: string }[]
  readonly memoryBytes: number
  readonly cpus: number
  readonly pidsLimit: number
  readonly uid: number
  readonly gid: number
}

/** How a cell ended. */
export interface CellEnd {
  /** `oom`, `exit 1`, `signal SIGKILL`, `engine lost` … */
  readonly because: string
  readonly exitCode?: number
  /** We lost sight of it; it may still run, and is then taken over again. */
  readonly lost?: true
}

/** A running cell. */
export interface Cell {
  readonly containers: readonly string[]
  /** It was found running, left by an earlier process of ours. */
  readonly adopted: boolean
  /** Resolves once when the cell is no longer whole; never rejects. */
  readonly ended: Promise<CellEnd>
  /** The newest lines that the agent wrote, oldest first. */
  logs(lines: number): Promise<readonly string[]>
  /** Ends the agent, gently at first, and removes the cell. */
  stop(): Promise<void>
}

/** One way of making cells. test/contract/sandbox.ts says what each must hold. */
export interface SandboxDriver {
  readonly name: string
  /** What it cannot guarantee, one sentence each. */
  readonly lacks: readonly string[]
  /** Why it cannot work here and what to do about it, on one line; undefined when it can. Never throws. */
  unavailable(): Promise<string | undefined>
  /** The socket that leads to the agent of such a cell; the same for every run. */
  socketPath(spec: CellSpec): string
  /** Rejects with a `Failure` when the spec cannot be run here, such as a missing image. Starts nothing. */
  check(spec: CellSpec): Promise<void>
  /** Makes and starts the cell; rejects with a `Failure`, and leaves nothing behind then. */
  start(spec: CellSpec): Promise<Cell>
  /** The cell left running by an earlier process, if it is exactly what `start` would make. */
  adopt(spec: CellSpec): Promise<Cell | undefined>
  /** Removes every cell of the instance, whoever made it. */
  reap(instance: string): Promise<number>
  /** Gives back what the driver itself holds; cells keep running. */
  close(): Promise<void>
}

/** The size of a cell where the configuration says nothing. */
export const cellDefaults = {
  memoryBytes: 2 * 1024 ** 3,
  cpus: 2,
  pidsLimit: 256,
  user: '1000:1000',
}

/** Where the way out of a cell listens, inside it. */
export const egressPort = 3128

/** Variables that Hardshell sets so that tools which know a proxy use the one way out. */
export const proxyEnv: Readonly<Record<string, string>> = {
  HTTP_PROXY: `http://127.0.0.1:${egressPort}`,
  HTTPS_PROXY: `http://127.0.0.1:${egressPort}`,
  NO_PROXY: '127.0.0.1,localhost,::1',
  http_proxy: `http://127.0.0.1:${egressPort}`,
  https_proxy: `http://127.0.0.1:${egressPort}`,
  no_proxy: '127.0.0.1,localhost,::1',
  NODE_USE_ENV_PROXY: '1',
}

/** What the check of a spec must know from outside. */
export interface SpecContext {
  readonly instance: string
  readonly cell: string
  /** Real paths that a cell may never see: our own folders and the engine's socket. */
  readonly forbidden: readonly string[]
  /** Tells whether a value is a secret of ours. */
  readonly isSecret?: (value: string) => boolean
}

/** The checked spec of a cell, or a `Failure` that names the key and what to do. */
export function specOf(settings: CellSettings, context: SpecContext): CellSpec {
  const [uid, gid] = userOf(settings.user ?? cellDefaults.user)
  if (
    !/^[a-z0-9][a-z0-9-]{0,39}$/.test(context.instance) ||
    !/^[a-z0-9-]{1,20}$/.test(context.cell)
  ) {
    throw new Failure('INSTANCE_INVALID', `"${context.instance}" is not a usable instance name.`)
  }
  return {
    instance: context.instance,
    cell: context.cell,
    image: settings.image,
    command: settings.command,
    args: settings.args,
    env: envOf(settings.env ?? {}, context.isSecret ?? (() => false)),
    workdir: settings.workdir,
    port: portOf(settings.port),
    workspace:
      settings.workspace === undefined
        ? undefined
        : workspaceOf(settings.workspace, context.forbidden),
    plugins: settings.plugins ?? [],
    memoryBytes: settings.memoryBytes ?? cellDefaults.memoryBytes,
    cpus: settings.cpus ?? cellDefaults.cpus,
    pidsLimit: settings.pidsLimit ?? cellDefaults.pidsLimit,
    uid,
    gid,
  }
}

/** A hash over everything that makes a cell what it is; a cell with another hash is replaced, never adopted. */
export function hashOf(...parts: readonly unknown[]): string {
  return createHash('sha256').update(canonical(parts)).digest('hex').slice(0, 32)
}

/** The first driver that works here; a `Failure` that says why none does. */
export async function chooseDriver(drivers: readonly SandboxDriver[]): Promise<SandboxDriver> {
  const reasons: string[] = []
  for (const driver of drivers) {
    const reason = await driver.unavailable()
    if (reason === undefined) return driver
    reasons.push(drivers.length === 1 ? reason : `${driver.name}: ${reason}`)
  }
  throw new Failure('SANDBOX_UNAVAILABLE', `The agent has no sandbox: ${reasons.join(' ')}`)
}

function portOf(port: number): number {
  if (!Number.isInteger(port) || port < 1 || port > 65_535) {
    throw new Failure('AGENT_PORT', `agent.port ${port} is not a port: use 1 to 65535.`)
  }
  if (port === egressPort) {
    throw new Failure(
      'AGENT_PORT',
      `agent.port ${egressPort} is where the cell's way out listens: let the agent use another port.`,
    )
  }
  return port
}

function userOf(user: string): [uid: number, gid: number] {
  const [uid = 0, gid = 0] = /^\d{1,9}:\d{1,9}$/.test(user) ? user.split(':').map(Number) : []
  if (uid < 100 || gid < 100) {
    throw new Failure(
      'CELL_USER',
      `The agent's user "${user}" must be "uid:gid" in numbers from 100 up, such as "1000:1000".`,
    )
  }
  return [uid, gid]
}

function envOf(
  env: Readonly<Record<string, string>>,
  isSecret: (value: string) => boolean,
): readonly string[] {
  for (const [name, value] of Object.entries(env)) {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name) || value.includes('\0')) {
      throw new Failure(
        'AGENT_ENV',
        `agent.env has "${name.slice(0, 40)}", which no variable can be.`,
      )
    }
    if (/^(hardshell|moltbot_token$|clawdbot_gateway_token$)/i.test(name) || isSecret(value)) {
      throw new Failure(
        'AGENT_ENV',
        `agent.env.${name} is, or looks like, a secret of Hardshell's own: remove it, the agent must never hold that.`,
      )
    }
    if (Object.hasOwn(proxyEnv, name)) {
      throw new Failure(
        'AGENT_ENV',
        `agent.env.${name} is set by Hardshell, because the cell has one way out only: remove it.`,
      )
    }
  }
  return Object.entries({ ...env, ...proxyEnv }).map(([name, value]) => `${name}=${value}`)
}

/** System folders that a workspace may neither be nor lie in: mounted at the same path they would replace the image's. */
const systemFolders = [
  ...['/bin', '/boot', '/dev', '/etc', '/lib', '/lib32', '/lib64', '/libx32', '/proc', '/run'],
  ...['/sbin', '/sys', '/usr', '/var/run'],
]

function workspaceOf(path: string, forbidden: readonly string[]): string {
  const fail = (why: string, todo: string): never => {
    throw new Failure('WORKSPACE', `agent.workspace ${path} ${why}: ${todo}.`)
  }
  if (!path.startsWith('/') || /[\0-\x1f]/.test(path)) {
    fail('is not an absolute path', 'write it from "/"')
  }
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) fail('does not exist', `run "mkdir ${path}"`)
  // The engine follows links in a source, so a link decides what is mounted; only the real path may stand there.
  const real = realpathSync(path)
  const written = path.length > 1 ? path.replace(/\/+$/, '') : path
  if (real !== written) fail('passes through a symbolic link', `name the real folder, ${real}`)
  if (!statSync(real).isDirectory()) fail('is not a folder', 'name a folder')
  if (systemFolders.some((folder) => real === folder || real.startsWith(`${folder}/`))) {
    fail('is a folder of the system', 'use one of your own, such as /home/you/workspace')
  }
  for (const hidden of forbidden) {
    if (real === '/' || hidden === real || within(hidden, real) || within(real, hidden)) {
      fail(`would show ${hidden} to the agent`, 'use a folder apart from it')
    }
  }
  return real
}

function within(inner: string, outer: string): boolean {
  return inner.startsWith(outer.endsWith('/') ? outer : `${outer}/`)
}
