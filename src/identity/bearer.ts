/** The prover of tokens: `Authorization: Bearer <token>` (RFC 6750 §2.1). */
import type { Facts } from '../gates/gate.ts'
import { isRenewal } from './token-life.ts'
import { noProof, type Proof, type Prover } from './proof.ts'

/** What the prover needs of the token table: one look-up. */
export interface TokenLookup {
  /**
   * The proof for the value of a presented token, compared in constant time; `renewing` when it asks for nothing but
   * its successor.
   */
  lookUp(value: string, renewing?: boolean): Proof
}

/**
 * Scheme without regard to case (RFC 9110 §11.1), then exactly one value. It may hold any visible character, which is
 * wider than token68, because a configured token may: the value is only ever hashed, and never goes on to the agent.
 */
const bearer = /^bearer +([\x21-\x7e]+)$/i

/** Proves by a token in the Authorization header, and nothing else: no cookie, no query, no body. */
export function bearerProver(tokens: TokenLookup): Prover {
  return {
    name: 'token',
    prove: (facts: Facts): Proof => {
      const { authorization } = facts
      if (authorization === undefined || authorization === '') return noProof
      const value = bearer.exec(authorization)?.[1]
      if (value === undefined) return notBearer
      return tokens.lookUp(value, isRenewal(facts))
    },
  }
}

const notBearer: Proof = {
  kind: 'wrong',
  because: 'Authorization is not "Bearer" and one value',
  guess: true,
}
