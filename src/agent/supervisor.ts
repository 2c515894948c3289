/** Keeps one agent alive in its cell: starts it, waits until it answers, starts it again when it ends, and says why. */
import type { AuditSink } from '../audit/record.ts'
import { messageOf } from '../errors.ts'
import type {
  Agent,
  AgentAddress,
  AgentListener,
  AgentRunner,
  AgentState,
  AgentStatus,
} from './agent.ts'
import type { Cell, CellEnd, CellSpec, SandboxDriver } from './sandbox.ts'
import { WaitingRoom, type WaitingBounds } from './waiting.ts'

/** What a supervisor is told. */
export interface SupervisorSettings extends WaitingBounds {
  /** The image as the owner wrote it, for `status`. */
  readonly image: string
}

/** What a supervisor needs from outside; tests hold the clock and the pauses. */
export interface SupervisorDeps {
  readonly driver: SandboxDriver
  readonly spec: CellSpec
  readonly audit: AuditSink
  /** Wall clock in ms. */
  readonly now: () => number
  /** Waits so many ms; rejects when the signal aborts. */
  readonly pause: (ms: number, signal: AbortSignal) => Promise<unknown>
  /** Whether the agent answers now. */
  readonly answers: (address: AgentAddress) => Promise<boolean>
  /** Hears why the agent is not ready, and that it is ready again. */
  readonly told?: AgentListener
}

/** The first pause before a new start; it doubles with each failure in a row. */
export const backoffMinMs = 100
/** The longest pause between two starts. */
export const backoffMaxMs = 30_000
/** A run that was ready for this long was a good one: the next pause is the first again. */
export const stableMs = 10_000
/** Failures in a row after which requests are refused at once instead of held. */
const heldFailures = 5
/** Pause between two questions whether the agent answers. */
const askMs = 50
/** An agent that has not answered for this long is shown as down; it is still waited for. */
export const patienceMs = 60_000
/** Lines of an ended run that are kept for `agent logs`. */
const lastLines = 200

/** The pause before the next start after so many failures in a row: 100, 200, 400 … 30,000 ms. */
export function backoffMs(failures: number): number {
  return Math.min(backoffMaxMs, backoffMinMs * 2 ** Math.min(failures - 1, 20))
}

/** An agent in a cell. */
export class Supervisor implements Agent {
  readonly address: AgentAddress
  readonly #settings: SupervisorSettings
  readonly #deps: SupervisorDeps
  readonly #room: WaitingRoom
  readonly #stopping = new AbortController()
  #hurry = new AbortController()
  #state: AgentState = 'stopped'
  #because: string | undefined
  #since: number | undefined
  #cell: Cell | undefined
  #starts = 0
  #failures = 0
  #wanted = false
  #lastWords: readonly string[] = []
  /** Why the agent is not ready, as it was told last. */
  #told: string | undefined
  #loop: Promise<void> | undefined

  constructor(settings: SupervisorSettings, deps: SupervisorDeps) {
    this.#settings = settings
    this.#deps = deps
    this.#room = new WaitingRoom(settings)
    this.address = { origin: 'http://agent', socketPath: deps.driver.socketPath(deps.spec) }
  }

  /** Rejects with a `Failure` when the cell cannot exist at all, such as a missing image. */
  async start(): Promise<void> {
    if (this.#loop !== undefined) return
    await this.#deps.driver.check(this.#deps.spec)
    this.#state = 'starting'
    this.#loop = this.#supervise()
  }

  state(): AgentState {
    return this.#state
  }

  ready(): undefined | Promise<'ready' | 'starting' | 'down'> {
    if (this.#state === 'ready') return undefined
    if (this.#state === 'starting') return this.#room.wait()
    return Promise.resolve('down')
  }

  runner(): AgentRunner {
    return { driver: this.#deps.driver.name, lacks: this.#deps.driver.lacks }
  }

  status(): Promise<AgentStatus> {
    return Promise.resolve({
      state: this.#state,
      ...this.runner(),
      restarts: Math.max(0, this.#starts - 1),
      image: this.#settings.image,
      ...(this.#because === undefined ? {} : { because: this.#because }),
      ...(this.#since === undefined ? {} : { since: this.#since }),
      ...(this.#cell === undefined ? {} : { containers: this.#cell.containers }),
    })
  }

  async restart(): Promise<void> {
    const cell = this.#cell
    if (cell === undefined) {
      // Between two runs: the next one need not wait any longer.
      this.#hurry.abort()
      return
    }
    this.#wanted = true
    this.#become('starting', 'restart was asked for')
    await cell.stop()
  }

  async logs(lines: number): Promise<readonly string[]> {
    const current = (await this.#cell?.logs(lines)) ?? []
    return [...this.#lastWords, ...current].slice(-lines)
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    this.#become('stopped', undefined)
    this.#room.release('down')
    await this.#end(this.#cell)
    await this.#loop
    await this.#deps.driver.close()
  }

  async #supervise(): Promise<void> {
    const { signal } = this.#stopping
    while (!signal.aborted) {
      const cell = await this.#launch()
      if (cell === undefined) {
        await this.#backOff()
        continue
      }
      const end = await this.#watch(cell)
      await this.#bury(cell, end)
      if (signal.aborted) return
      if (this.#wanted) {
        this.#wanted = false
        this.#failures = 0
        continue
      }
      await this.#backOff()
    }
  }

  /** Takes over the cell that an earlier process left, or makes a new one; undefined when neither is possible now. */
  async #launch(): Promise<Cell | undefined> {
    const { driver, spec, audit } = this.#deps
    try {
      const cell = (await driver.adopt(spec)) ?? (await driver.start(spec))
      this.#cell = cell
      this.#starts += 1
      // Asked to stop while the engine worked: nobody else knows this cell yet.
      if (this.#stopping.signal.aborted) await this.#end(cell)
      const how = cell.adopted ? 're-adopted' : 'started'
      audit.append({
        event: 'agent.started',
        because: `${how} by ${driver.name}: ${cell.containers.join(' ')}`,
      })
      return cell
    } catch (thrown) {
      const because = messageOf(thrown)
      if (because !== this.#because) {
        audit.append({ event: 'agent.failed', because: because.slice(0, 300) })
      }
      this.#because = because
      return undefined
    }
  }

  /** Waits until the agent answers, and then until the cell ends. */
  async #watch(cell: Cell): Promise<CellEnd> {
    let end: CellEnd | undefined
    const ended = cell.ended.then((how) => {
      end = how
      return how
    })
    const began = this.#deps.now()
    while (end === undefined && !this.#stopping.signal.aborted) {
      if (await this.#deps.answers(this.address)) {
        // It may have ended, or been asked to, while the answer was on its way.
        if (end === undefined && !this.#wanted) this.#readyNow()
        break
      }
      if (this.#state === 'starting' && this.#deps.now() - began > patienceMs) {
        const { port } = this.#deps.spec
        this.#become(
          'down',
          `nothing answers on port ${port} in the cell: see agent.port, agent.healthPath and "hardshell agent logs"`,
        )
        this.#room.release('down')
      }
      await Promise.race([this.#quietPause(askMs), ended])
    }
    return ended
  }

  #readyNow(): void {
    this.#since = this.#deps.now()
    this.#become('ready', undefined)
    this.#room.release('ready')
  }

  /** Notes how a cell ended, keeps its last lines, and removes what is left of it. */
  async #bury(cell: Cell, end: CellEnd): Promise<void> {
    const good = this.#since !== undefined && this.#deps.now() - this.#since >= stableMs
    if (good) this.#failures = 0
    const asked = this.#wanted || this.#stopping.signal.aborted
    const because = asked ? 'stopped on request' : end.because
    this.#since = undefined
    if (!this.#stopping.signal.aborted) this.#become('starting', because)
    this.#deps.audit.append({ event: 'agent.ended', because })
    if (end.lost !== true) {
      this.#lastWords = await cell.logs(lastLines).catch(() => [])
      await this.#end(cell)
    }
    this.#cell = undefined
  }

  /** Removes a cell. What an engine that is away cannot remove, the next start does. */
  async #end(cell: Cell | undefined): Promise<void> {
    try {
      await cell?.stop()
    } catch (thrown) {
      this.#deps.audit.append({ event: 'sandbox.left', because: messageOf(thrown).slice(0, 300) })
    }
  }

  async #backOff(): Promise<void> {
    this.#failures += 1
    if (this.#stopping.signal.aborted) return
    if (this.#failures > heldFailures) {
      this.#become('down', this.#because)
      this.#room.release('down')
    } else {
      this.#become('starting', this.#because)
    }
    await this.#quietPause(backoffMs(this.#failures))
  }

  #become(state: AgentState, because: string | undefined): void {
    this.#state = state
    this.#because = because
    // A restart on request is no news, and neither is one more failure for the same reason.
    if (because === this.#told || this.#wanted || state === 'stopped') return
    this.#told = because
    this.#deps.told?.(state, because)
  }

  /** A pause that ends early, without a failure, when the supervisor stops or is hurried. */
  async #quietPause(ms: number): Promise<void> {
    const signal = AbortSignal.any([this.#stopping.signal, this.#hurry.signal])
    try {
      await this.#deps.pause(ms, signal)
    } catch (thrown) {
      if (!signal.aborted) throw thrown
    }
    if (this.#hurry.signal.aborted) this.#hurry = new AbortController()
  }
}
