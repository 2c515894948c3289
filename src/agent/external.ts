/** An agent that someone else runs: we only look whether it is there. */
import { Failure } from '../errors.ts'
import type {
  Agent,
  AgentAddress,
  AgentListener,
  AgentRunner,
  AgentState,
  AgentStatus,
} from './agent.ts'

/** What it needs from outside. */
export interface ExternalDeps {
  readonly now: () => number
  /** Whether the agent answers now. */
  readonly answers: (address: AgentAddress) => Promise<boolean>
  /** Hears that the agent does not answer, and that it does again. */
  readonly told?: AgentListener
}

/** How often the agent is looked at while nobody asks. */
const lookMs = 5000

/** Where `agent.upstream` points: `http://host:port`, or `unix:/path`; a `Failure` for everything else. */
export function addressOf(upstream: string): AgentAddress {
  const fail = (why: string): never => {
    throw new Failure(
      'UPSTREAM_INVALID',
      `agent.upstream ${why}: use "http://127.0.0.1:18789" or "unix:/path/to/socket".`,
    )
  }
  if (upstream.startsWith('unix:')) {
    const socketPath = upstream.slice('unix:'.length).replace(/^\/\/(?=\/)/, '')
    if (!/^\/[^\0]{1,106}$/.test(socketPath)) fail('names no usable socket')
    return { origin: 'http://agent', socketPath }
  }
  const url = URL.parse(upstream)
  if (url === null) return fail('is not a URL')
  if (url.protocol !== 'http:') fail(`has the scheme "${url.protocol}", and only http is spoken`)
  if (url.username !== '' || url.password !== '')
    fail('holds a credential; set agent.token instead')
  if (url.pathname !== '/' || url.search !== '' || url.hash !== '') fail('has a path')
  return { origin: url.origin }
}

/** An agent beside us. Its sandbox, restarts and logs are not ours. */
export class ExternalAgent implements Agent {
  readonly address: AgentAddress
  readonly #deps: ExternalDeps
  #state: AgentState = 'stopped'
  #since: number | undefined
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<AgentState> | undefined

  constructor(upstream: string, deps: ExternalDeps) {
    this.address = addressOf(upstream)
    this.#deps = deps
  }

  start(): Promise<void> {
    this.#state = 'starting'
    this.#timer = setInterval(() => void this.#look(), lookMs)
    // Looking at an agent is no reason for the process to go on.
    this.#timer.unref()
    void this.#look()
    return Promise.resolve()
  }

  state(): AgentState {
    return this.#state
  }

  ready(): undefined | Promise<'ready' | 'starting' | 'down'> {
    if (this.#state === 'ready') return undefined
    // One look is all: whether and when it comes back is not in our hands.
    return this.#look().then((state) => (state === 'ready' ? 'ready' : 'down'))
  }

  runner(): AgentRunner {
    return {
      driver: 'external',
      lacks: ['The agent runs outside of Hardshell: no sandbox of ours is applied.'],
    }
  }

  async status(): Promise<AgentStatus> {
    if (this.#state !== 'stopped') await this.#look()
    return {
      state: this.#state,
      ...this.runner(),
      restarts: 0,
      ...(this.#since === undefined ? {} : { since: this.#since }),
      ...(this.#state === 'down' ? { because: this.#silence() } : {}),
    }
  }

  #silence(): string {
    const { socketPath, origin } = this.address
    return `nothing answers at ${socketPath ?? origin}: start the agent, or mend agent.upstream`
  }

  restart(): Promise<void> {
    return Promise.reject(this.#notOurs('restarted'))
  }

  logs(): Promise<readonly string[]> {
    return Promise.reject(this.#notOurs('read'))
  }

  stop(): Promise<void> {
    clearInterval(this.#timer)
    this.#state = 'stopped'
    return Promise.resolve()
  }

  #notOurs(what: string): Failure {
    return new Failure(
      'AGENT_EXTERNAL',
      `The agent at agent.upstream is not run by Hardshell and cannot be ${what} by it: use what started it, or set agent.image.`,
    )
  }

  /** Looks once, however many ask at the same time. */
  #look(): Promise<AgentState> {
    this.#looking ??= this.#deps.answers(this.address).then((there) => {
      this.#looking = undefined
      if (this.#state === 'stopped') return this.#state
      if (there && this.#state !== 'ready') this.#since = this.#deps.now()
      if (!there) this.#since = undefined
      const before = this.#state
      this.#state = there ? 'ready' : 'down'
      if (!there && before !== 'down') this.#deps.told?.('down', this.#silence())
      if (there && before === 'down') this.#deps.told?.('ready', undefined)
      return this.#state
    })
    return this.#looking
  }
}
