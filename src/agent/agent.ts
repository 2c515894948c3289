/** The contract between the proxy and whatever runs the agent. */

/** Where the agent answers: a TCP origin, or a Unix socket whose far end is the agent's loopback port. */
export interface AgentAddress {
  /** `http://host:port`; the host is only a name when `socketPath` is set. */
  readonly origin: string
  readonly socketPath?: string
}

/** Whether the agent can be reached now. */
export type AgentState = 'starting' | 'ready' | 'down' | 'stopped'

/** What runs an agent, and what that cannot guarantee. */
export interface AgentRunner {
  /** `external`, `docker`, … */
  readonly driver: string
  /** What this driver cannot guarantee, one sentence each. */
  readonly lacks: readonly string[]
}

/** Hears that an agent is not ready and why, and that it is ready again. */
export type AgentListener = (state: AgentState, because: string | undefined) => void

/** What `agent status` and `status` show. */
export interface AgentStatus extends AgentRunner {
  readonly state: AgentState
  readonly restarts: number
  /** Why the agent is not ready, or ended last: `oom`, `exit 1`, `image … not found`. */
  readonly because?: string
  /** When the present run became ready, ms since the epoch. */
  readonly since?: number
  readonly image?: string
  readonly containers?: readonly string[]
}

/** An agent under our eyes. Its address never changes while the process lives. */
export interface Agent {
  readonly address: AgentAddress
  /** Resolves as soon as the first start is under way; the agent need not be ready yet. */
  start(): Promise<void>
  state(): AgentState
  runner(): AgentRunner
  /**
   * Waits for a ready agent, bounded in time and in the number of waiters.
   * `undefined` when it is ready now, so that the hot path makes no promise.
   */
  ready(): undefined | Promise<'ready' | 'starting' | 'down'>
  status(): Promise<AgentStatus>
  restart(): Promise<void>
  /** The newest lines the agent wrote, oldest first. */
  logs(lines: number): Promise<readonly string[]>
  stop(): Promise<void>
}
