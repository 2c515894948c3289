/** Asks the gates in order. The one place that says: a gate that fails is a no. */
import { messageOf } from '../errors.ts'
import {
  allow,
  deny,
  nobody,
  type Decision,
  type Facts,
  type Gate,
  type Identity,
} from '../gates/gate.ts'

/** What the gates said together. */
export interface Verdict {
  readonly decision: Decision
  readonly identity: Identity
  /** The gate that refused. */
  readonly gate?: string
  /** Flat headers that gates add to the answer, whatever it is. */
  readonly headers: readonly string[]
}

/** How long one gate may take, ms, and the timer that says so. */
export interface JudgeSettings {
  readonly gateTimeMs: number
}

/**
 * Asks each gate in turn and stops at the first no. Synchronous as long as every gate is, so that the hot path makes
 * no promise. A gate that throws, rejects, answers something that is no decision, or outlives its time is a no.
 */
export function judge(
  gates: readonly Gate[],
  facts: Facts,
  settings: JudgeSettings,
): Verdict | Promise<Verdict> {
  return walk(gates, 0, facts, { identity: nobody, headers: [] }, settings)
}

interface Known {
  identity: Identity
  headers: readonly string[]
}

function walk(
  gates: readonly Gate[],
  from: number,
  facts: Facts,
  known: Known,
  settings: JudgeSettings,
): Verdict | Promise<Verdict> {
  for (let i = from; i < gates.length; i += 1) {
    const gate = gates[i]
    if (gate === undefined) break
    const answer = ask(gate, facts, known.identity)
    if (answer instanceof Promise) {
      return inTime(answer, gate, settings.gateTimeMs).then((decision) => {
        const no = take(decision, gate, known)
        return no ?? walk(gates, i + 1, facts, known, settings)
      })
    }
    const no = take(answer, gate, known)
    if (no !== undefined) return no
  }
  return { decision: allow, identity: known.identity, headers: known.headers }
}

function ask(gate: Gate, facts: Facts, identity: Identity): Decision | Promise<Decision> {
  try {
    return gate.decide(facts, identity)
  } catch (thrown) {
    return failed(gate, messageOf(thrown))
  }
}

/** Notes what a yes brings; returns the verdict of a no. */
function take(decision: Decision, gate: Gate, known: Known): Verdict | undefined {
  // A gate written without types can answer nothing at all: silence is not consent.
  const said: unknown = decision
  if (typeof said !== 'object' || said === null || !('allow' in said)) {
    return verdictOf(failed(gate, 'no decision'), gate, known)
  }
  if (decision.allow !== true) return verdictOf(decision, gate, known)
  if (decision.identity !== undefined) known.identity = decision.identity
  if (decision.headers !== undefined) {
    known.headers =
      known.headers.length === 0 ? decision.headers : [...known.headers, ...decision.headers]
  }
  return undefined
}

function verdictOf(decision: Decision, gate: Gate, known: Known): Verdict {
  const own = decision.headers ?? []
  return {
    decision,
    identity: known.identity,
    gate: gate.name,
    headers: [...known.headers, ...own],
  }
}

const failed = (gate: Gate, why: string) => deny('GATE_FAILED', `gate ${gate.name}: ${why}`)

function inTime(answer: Promise<Decision>, gate: Gate, timeMs: number): Promise<Decision> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(failed(gate, 'no answer in time')), timeMs)
    answer.then(
      (decision) => {
        clearTimeout(timer)
        resolve(decision)
      },
      (thrown: unknown) => {
        clearTimeout(timer)
        resolve(failed(gate, messageOf(thrown)))
      },
    )
  })
}
