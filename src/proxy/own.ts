/** What Hardshell answers itself: a table of routes behind the same gates as everything else. */
import type { IncomingMessage, ServerResponse } from 'node:http'

import { messageOf, refusalRow, type RefusalCode } from '../errors.ts'
import type { Facts, Identity } from '../gates/gate.ts'
import type { Ended } from './forward.ts'
import { allowedMethods, writeOwn, writeRefusal } from './reply.ts'

/** Paths below it are ours: whatever is asked there never reaches the agent. */
export const ownPrefix = '/.hardshell/'

/** An answer of our own: a small JSON document. */
export interface OwnAnswer {
  readonly status: number
  readonly document: object
  /** Flat headers of this answer. */
  readonly headers?: readonly string[]
}

/** A page of our own, for a browser. */
export interface OwnPage {
  readonly status: number
  readonly html: string
  /** Flat headers of this page: its policy, a cookie, where to go next. */
  readonly headers: readonly string[]
  /** What the page refuses, and why: for the log alone. */
  readonly code?: RefusalCode
  readonly because?: string
}

/** A refusal of a route of ours; `because` goes to the log alone. */
export interface OwnRefusal {
  readonly code: RefusalCode
  readonly because: string
  /** Flat headers of the refusal, such as `Allow`. */
  readonly headers?: readonly string[]
}

/** What a route says. */
export type OwnReply = OwnAnswer | OwnPage | OwnRefusal

/** A request that every gate let through and that the audit log has. */
export interface OwnCall {
  readonly facts: Facts
  readonly identity: Identity
  /** For a route that reads a body; it bounds the body itself. */
  readonly request: IncomingMessage
}

/** One route: a method on an exact path. HEAD is asked for by name. */
export interface OwnRoute {
  readonly method: string
  readonly path: string
  answer(call: OwnCall): OwnReply | Promise<OwnReply>
}

/** Asks the routes; `undefined` is for the agent. */
export type Own = (call: OwnCall) => OwnReply | Promise<OwnReply> | undefined

/** The table as one question. Below our prefix a wrong method is 405 and an unknown path 403. */
export function ownRoutes(routes: readonly OwnRoute[]): Own {
  const byPath = new Map<string, Map<string, OwnRoute>>()
  for (const route of routes) {
    const methods = byPath.get(route.path) ?? new Map<string, OwnRoute>()
    byPath.set(route.path, methods.set(route.method, route))
  }
  return (call) => {
    const { path, method, isForUs } = call.facts
    if (isForUs === true) return methodsHere
    const methods = byPath.get(path)
    const route = methods?.get(method)
    if (route !== undefined) return route.answer(call)
    if (!path.startsWith(ownPrefix)) return undefined
    if (methods === undefined) {
      return { code: 'PATH_DENIED', because: `nothing of ours is below ${ownPrefix} there` }
    }
    const headers = ['Allow', [...methods.keys()].join(', ')]
    return { code: 'METHOD_NOT_ALLOWED', because: 'the method of a route of ours', headers }
  }
}

/** RFC 9110 §9.3.7. */
const methodsHere: OwnAnswer = {
  status: 200,
  document: { methods: allowedMethods },
  headers: ['Allow', allowedMethods.join(', ')],
}

/** Writes what a route says, at once or when it is known, and tells how it ended. A route that fails is a refusal. */
export function answerOwn(
  reply: OwnReply | Promise<OwnReply>,
  to: {
    readonly facts: Facts
    readonly response: ServerResponse
    /** Flat headers of the gates. */
    readonly headers: readonly string[]
    readonly ended: (how: Ended) => void
  },
): void {
  const { facts, response, ended } = to
  const write = (said: OwnReply) => {
    const headers = [...to.headers, ...(said.headers ?? [])]
    if ('document' in said) {
      const bytes = writeOwn(response, facts, said, headers)
      ended({ status: said.status, bytes })
      return
    }
    if ('html' in said) {
      const { status, code, because } = said
      const bytes = writeOwn(response, facts, said, headers)
      ended({
        status,
        bytes,
        ...(code === undefined ? {} : { code }),
        ...(because === undefined ? {} : { because }),
      })
      return
    }
    const { code, because } = said
    ended({ status: refusalRow(code).status, bytes: 0, code, because })
    writeRefusal(response, code, facts.requestId, { headers })
  }
  if (!(reply instanceof Promise)) {
    write(reply)
    return
  }
  void reply.then(write, (thrown: unknown) =>
    write({ code: 'GATE_FAILED', because: `a route of ours: ${messageOf(thrown)}` }),
  )
}
