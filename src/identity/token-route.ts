/** `POST /.hardshell/token`: a client fetches the successor of its token with that token, once. */
import { Failure, type RefusalCode } from '../errors.ts'
import type { Identity } from '../gates/gate.ts'
import { challenge } from '../gates/identity.ts'
import { renewalPath } from './token-life.ts'
import type { TokenView } from './token-record.ts'
import type { Rotated } from './token-rotation.ts'

/** The successor, or why there is none; `because` goes to the log alone. */
export type RenewalReply =
  | { readonly status: 200; readonly document: RenewalDocument }
  | {
      readonly code: RefusalCode
      readonly because: string
      /** Flat headers of the refusal. */
      readonly headers?: readonly string[]
    }

/** The answer: the only place where the text of the successor stands. Times in ms since the epoch. */
export interface RenewalDocument extends TokenView {
  readonly token: string
  readonly previous: Pick<TokenView, 'id' | 'fingerprint' | 'endsAt'>
}

/** The route, as the table of our own answers takes it. */
export interface RenewalRoute {
  readonly method: 'POST'
  readonly path: string
  answer(call: { readonly identity: Identity }): Promise<RenewalReply>
}

/** The route over the part of the token book that it needs. A body is not looked at. */
export function renewalRoute(tokens: {
  renew(identityId: string): Promise<Rotated>
}): RenewalRoute {
  return {
    method: 'POST',
    path: renewalPath,
    answer: async ({ identity }) => {
      try {
        const { token, view, previous } = await tokens.renew(identity.id)
        const { id, fingerprint, endsAt } = previous
        const before = { id, fingerprint, ...(endsAt === undefined ? {} : { endsAt }) }
        return { status: 200, document: { token, ...view, previous: before } }
      } catch (thrown) {
        if (!(thrown instanceof Failure)) throw thrown
        const code = refusalOf[thrown.code] ?? 'GATE_FAILED'
        const because = `${thrown.code}: ${thrown.message}`
        // It ended between the gates and here: like any ended token.
        return code === 'UNAUTHENTICATED'
          ? { code, because, headers: challenge }
          : { code, because }
      }
    },
  }
}

/** What a client is told; a failure of the store is none of these. */
const refusalOf: Readonly<Record<string, RefusalCode>> = {
  TOKEN_NOT_DUE: 'SUCCESSOR_NOT_DUE',
  TOKEN_ROTATED: 'SUCCESSOR_TAKEN',
  TOKEN_CONFLICT: 'SUCCESSOR_TAKEN',
  TOKEN_CONFIGURED: 'SUCCESSOR_NONE',
  TOKEN_UNKNOWN: 'SUCCESSOR_NONE',
  TOKEN_ENDED: 'UNAUTHENTICATED',
}
