/**
 * The webhook road: a request for a channel's exact path and method proves itself by the service's own signature over
 * the bounded body, in place of a client's credential. Its gates are the head of the pinned order.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'

import type { Agent } from '../agent/agent.ts'
import type { AuditSink } from '../audit/record.ts'
import { allow, type Decision, type Facts, type Gate } from '../gates/gate.ts'
import { sizeGate } from '../gates/shape.ts'
import { minutes, type Bytes, type Millis } from '../limits.ts'
import { Allowance } from '../senders/budget.ts'
import type { Desk } from '../senders/desk.ts'
import type { People } from '../senders/people.ts'
import type { Forwarder, Sent } from './forward.ts'
import { Intake } from './intake.ts'
import type { Live } from './live.ts'
import type { WebhookHeaderSettings } from './webhook-headers.ts'

/** Bounds of the road; times in ms, sizes in bytes. */
export interface WebhookSettings extends WebhookHeaderSettings {
  readonly bodyBytes: Bytes
  readonly bodyTimeMs: Millis
  /** All bodies that are held at once. */
  readonly bodiesBytes: Bytes
  /** False leaves out the limit on proven requests, as `security.rateLimiting.enabled` does for clients. */
  readonly limitsRequests: boolean
  /** Unproven requests of one account that are told so; more get 429. */
  readonly failuresPerMinute: number
}

/** What the road works with. */
export interface WebhookParts {
  readonly people: People
  /** All gates of clients, in their order. */
  readonly gates: readonly Gate[]
  readonly audit: AuditSink
  readonly agent: Agent
  readonly forwarder: Forwarder
  readonly live: Live
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Monotonic clock, ms. */
  readonly monotonic: () => Millis
  /** Hash of the configuration that judges, for the audit log. */
  readonly configHash: () => string
}

/** A request on this road, after its gates. */
export interface WebhookCall {
  readonly facts: Facts
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** To be called once the request is proven: its connection never gives way to another. */
  readonly proved: () => void
}

/** The webhook that a request is for. */
export interface Webhook {
  readonly gates: readonly Gate[]
  /** Reads, proves, judges, records, and only then lets go on or answers. */
  take(call: WebhookCall): Sent
}

/** One account on the road: its desk and what is counted against it. */
export interface Counter {
  readonly desk: Desk
  readonly requests: Allowance
  readonly failures: Allowance
}

/** What all requests of the road share. */
export interface WebhookShared {
  readonly settings: WebhookSettings
  readonly parts: WebhookParts
  /** Requests whose address is over its limit: they pass if they are proven, and are told less if not. */
  readonly overLimit: WeakSet<Facts>
  /** Bytes of all bodies that are held now. */
  held: number
  readonly turn: Turn
}

/** The webhooks that came in one turn of the event loop: most of their bodies are whole at its end. */
export class Turn {
  readonly #end: () => void
  #begun: Intake[] = []

  /** `end` is called when all of them have been read. */
  constructor(end: () => void) {
    this.#end = end
  }

  /** Has the intake read at the end of this turn. */
  add(intake: Intake): void {
    this.#begun.push(intake)
    if (this.#begun.length === 1) setImmediate(() => this.#run())
  }

  #run(): void {
    const begun = this.#begun
    this.#begun = []
    for (const intake of begun) intake.read()
    this.#end()
  }
}

/** Gates of the client road that this road has too, in the same order; the rest ask for a client's credential. */
const headGates = new Set(['lockdown', 'shape', 'path', 'address rate', 'size'])

/** Opens the road; undefined for a request that is no webhook. */
export function openWebhooks(
  settings: WebhookSettings,
  parts: WebhookParts,
): (facts: Facts) => Webhook | undefined {
  // What one turn takes is written together, and heard in the same turn.
  const turn = new Turn(() => parts.people.deliveries.write())
  const shared: WebhookShared = { settings, parts, overLimit: new WeakSet(), held: 0, turn }
  const gates = gatesOf(shared)
  const allowance = (max: number) => new Allowance(max, parts.monotonic, minutes(1))
  const webhooks = parts.people.desks
    .filter(({ settings: { account } }) => account.webhookPath !== '')
    .map((desk) => {
      const requests = allowance(
        settings.limitsRequests ? desk.settings.requestsPerMinute : Infinity,
      )
      const failures = allowance(settings.failuresPerMinute)
      const counter: Counter = { desk, requests, failures }
      const take = (call: WebhookCall) => new Intake(call, counter, shared).begin()
      return { desk, webhook: { gates, take } }
    })
  return finder(webhooks)
}

/** Finds the webhook of a request; the configuration has made sure that there is one at most. */
function finder(
  webhooks: readonly { readonly desk: Desk; readonly webhook: Webhook }[],
): (facts: Facts) => Webhook | undefined {
  const below = webhooks.filter(({ desk }) => desk.settings.channel.callsBelow === true)
  const exact = new Map(
    webhooks
      .filter((one) => !below.includes(one))
      .map((one) => [one.desk.settings.account.webhookPath, one]),
  )
  return ({ method, path }) => {
    const carries = ({ desk: { settings } }: { readonly desk: Desk }) =>
      settings.channel.carries(method, path, settings.account)
    const one = exact.get(path)
    return one !== undefined && carries(one) ? one.webhook : below.find(carries)?.webhook
  }
}

function gatesOf({ parts, settings, overLimit }: WebhookShared): readonly Gate[] {
  return parts.gates
    .filter(({ name }) => headGates.has(name))
    .map((gate) => {
      if (gate.name === 'size') return sizeGate(settings.bodyBytes)
      return gate.name === 'address rate' ? countOnly(gate, overLimit) : gate
    })
}

/**
 * Counts a request against its address and lets it pass: who shares a hop with the service must not keep it out, and
 * whether it is the service is known only from the body.
 */
function countOnly(gate: Gate, overLimit: WeakSet<Facts>): Gate {
  const note = (facts: Facts, decision: Decision): Decision => {
    if (!decision.allow) overLimit.add(facts)
    return allow
  }
  return {
    name: gate.name,
    decide: (facts, identity) => {
      const decision = gate.decide(facts, identity)
      return decision instanceof Promise
        ? decision.then((known) => note(facts, known))
        : note(facts, decision)
    },
  }
}
