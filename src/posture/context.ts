/** Everything that the checks look at, as plain data: gathered once, so that each check is a pure function. */
import type { InCellReport } from '../agent/in-cell.ts'
import type { Problem, Notice } from '../config/problems.ts'
import type { Config } from '../config/schema.ts'
import type { SecretSource } from '../config/read.ts'
import type { TokenView } from '../identity/token-record.ts'
import type { PluginsFound } from '../plugins.ts'

/** Something that was looked at, or why it was not. */
export type Measured<T> = { readonly value: T } | { readonly unmeasured: string }

/** What a file of the installation is for. */
export type FileRole =
  | 'parent'
  | 'home'
  | 'config'
  | 'keys'
  | 'key'
  | 'token'
  | 'state'
  | 'audit'
  | 'record'
  | 'run'
  | 'socket'
  | 'other'

/** A file as it lies there; a link is not followed. */
export interface FileFact {
  readonly path: string
  readonly role: FileRole
  readonly kind: 'file' | 'directory' | 'link' | 'socket' | 'other'
  /** The twelve low bits. */
  readonly mode: number
  readonly uid: number
  /** How many names it has. */
  readonly names: number
  /** Mounted by the platform or on a read-only file system: it has rules of its own. */
  readonly platform: boolean
}

/** A TCP socket that listens. */
export interface Listening {
  readonly address: string
  readonly port: number
}

/** A process behind `agent.upstream` that runs as our own user and sees our home. */
export interface Neighbour {
  readonly pid: number
  /** The name of its program, like `node`. */
  readonly name: string
}

/** What the running sidecar says of itself. */
export interface Running {
  readonly url: string
  readonly configHash: string
  readonly auditFailing?: string
  readonly agent: { readonly state: string; readonly driver: string; readonly because?: string }
}

/** A process of a cell, as the kernel of this machine has it. */
export interface ProcessFact {
  readonly pid: number
  readonly name: string
  /** Real, effective, saved and file-system user. */
  readonly uids: readonly number[]
  /** Its capability sets that are not empty. */
  readonly capabilities: readonly string[]
  readonly noNewPrivileges: boolean
  /** A filter of system calls is in force. */
  readonly seccomp: boolean
}

/** A mount of a cell. */
export interface MountFact {
  /** The folder or file of the file system that is mounted. */
  readonly root: string
  /** Where, in the cell. */
  readonly target: string
  readonly type: string
  readonly writable: boolean
}

/** A running cell from outside. */
export interface RunningCell {
  readonly processes: readonly ProcessFact[]
  readonly interfaces: Measured<readonly string[]>
  readonly mounts: Measured<readonly MountFact[]>
  /** Kinds of namespaces that are ours too. */
  readonly shared: Measured<readonly string[]>
  /** What the kernel holds it to; not a number where it does not. Memory in bytes. */
  readonly limits: Measured<{ readonly pids: number; readonly memory: number }>
}

/** One cell: as it runs, and what could be done in a container made like it. */
export interface CellFacts {
  readonly name: string
  readonly running: Measured<RunningCell>
  readonly twin: Measured<InCellReport>
}

/** The container engine and what runs on it for us. */
export interface EngineFacts {
  readonly socketPath: string
  readonly mode: number
  readonly version: string
  readonly runc?: string
  readonly securityOptions: readonly string[]
  /** Containers of this installation: the fields in which each is not what a cell must be. */
  readonly containers: readonly { readonly name: string; readonly wrong: readonly string[] }[]
  /** The image of the agent is there. */
  readonly image?: boolean
}

/** The agent's own configuration file. */
export interface AgentConfigFacts {
  readonly file: string
  readonly mode: number
  readonly document: Readonly<Record<string, unknown>>
  /** Its gateway token is the one that guards Hardshell. */
  readonly sameToken: boolean
}

/** The audit log on disk. */
export interface AuditFacts {
  readonly ok: boolean
  /** The first broken record, in words. */
  readonly broken?: string
  readonly records: number
  readonly unsigned: number
  readonly keyMissing: boolean
  /** ms since the epoch. */
  readonly newestAt?: number
  readonly oldestAt?: number
  readonly checkpointAt?: number
  readonly freeBytes: number
}

/** Tailscale on this machine. */
export interface TailscaleFacts {
  /** `Running`, `NeedsLogin`, `Stopped` … */
  readonly backend: string
  /** Something is served to our port. */
  readonly serves: boolean
}

/** What the live probes of `--deep` saw. A status of 0: no answer. */
export interface Probes {
  readonly withoutToken: number
  readonly wrongToken: number
  readonly foreignHost: number
  /** The agent, asked around us and without a credential; undefined where it cannot be asked. */
  readonly agentDirect?: number
  readonly funnel: Measured<boolean>
}

/** The state of an installation at one moment. Holds no credential of ours but what `config` has. */
export interface PostureContext {
  readonly now: number
  readonly home: string
  readonly uid: number
  readonly configFile: string | undefined
  /** What the file asks for as far as it can be read, whether or not it would be accepted. */
  readonly config: Config | undefined
  /** Hash of a configuration that would be accepted. */
  readonly configHash: string | undefined
  readonly problems: readonly Problem[]
  readonly notices: readonly Notice[]
  readonly secrets: readonly SecretSource[]
  /** Copies of older files that are not sealed and show secrets. */
  readonly plainCopies: readonly string[]
  readonly tokens: Measured<readonly TokenView[]>
  readonly files: readonly FileFact[]
  readonly running: Running | undefined
  readonly listening: Measured<readonly Listening[]>
  readonly engine: Measured<EngineFacts>
  readonly agentConfig: Measured<AgentConfigFacts>
  readonly neighbours: Measured<readonly Neighbour[]>
  readonly plugins: Measured<PluginsFound>
  readonly audit: Measured<AuditFacts>
  /** Asked only where the configuration speaks of Tailscale. */
  readonly tailscale: Measured<TailscaleFacts>
  /** Senders that the audit log saw speak in the last 90 days; not measured in a younger log. */
  readonly speakers: Measured<readonly string[]>
  /** `24.21.0`. */
  readonly node: string
  readonly clockSynchronised: Measured<boolean>
  readonly probes: Measured<Probes>
  /** Looked at only with --deep. */
  readonly cells: Measured<readonly CellFacts[]>
  readonly suppressions: readonly Suppression[]
  /** What is wrong with the file of suppressions. */
  readonly suppressionFault?: string
}

/** A finding that the owner expects, and until when. */
export interface Suppression {
  readonly id: string
  readonly reason: string
  /** ms since the epoch. */
  readonly until: number
}
