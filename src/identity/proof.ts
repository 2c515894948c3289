/** Who sends a request: the provers are asked, and exactly one of them may have an answer. */
import type { Facts, Identity } from '../gates/gate.ts'

/** What a request proves about its client. */
export type Proof =
  | { readonly kind: 'none' }
  | {
      readonly kind: 'wrong'
      /** For the log; never text that the client chose. */
      readonly because: string
      /** A credential was presented and is not good: this counts against the address. */
      readonly guess: boolean
    }
  | { readonly kind: 'valid'; readonly identity: Identity }

/** Nothing was presented. */
export const noProof: Proof = { kind: 'none' }

/** One way of proving who one is: a token, a session cookie, a JWT, a Tailscale login. */
export interface Prover {
  readonly name: string
  /** Pure: it counts and writes nothing. `none` when the request carries no credential of its kind. */
  prove(facts: Facts): Proof | Promise<Proof>
}

/** Asks who sends a request. The answer is kept with the facts: gates may ask again at no cost. */
export interface Identifier {
  identify(facts: Facts): Proof | Promise<Proof>
}

/**
 * An identifier over a list of provers. A credential in the URL is wrong whatever else is sent (RFC 6750 §2.3), and so
 * are two credentials of different kinds: nobody has to guess which of them wins.
 */
export function identifier(provers: readonly Prover[]): Identifier {
  const answers = new WeakMap<Facts, Proof | Promise<Proof>>()
  return {
    identify: (facts) => {
      const known = answers.get(facts)
      if (known !== undefined) return known
      const proof = ask(provers, facts)
      answers.set(facts, proof)
      return proof
    },
  }
}

function ask(provers: readonly Prover[], facts: Facts): Proof | Promise<Proof> {
  if (facts.credentialInUrl) {
    return { kind: 'wrong', because: 'credential in the URL', guess: false }
  }
  const only = provers.length === 1 ? provers[0] : undefined
  if (only !== undefined) return only.prove(facts)
  const proofs = provers.map((prover) => prover.prove(facts))
  if (proofs.every(isReady)) return combine(proofs)
  return Promise.all(proofs.map((proof) => Promise.resolve(proof))).then(combine)
}

function combine(proofs: readonly Proof[]): Proof {
  const presented = proofs.filter((proof) => proof.kind !== 'none')
  const first = presented[0]
  if (first === undefined) return noProof
  if (presented.length === 1) return first
  // One of them may have been a guess: the address pays for that as if it had come alone.
  const guess = presented.some((proof) => proof.kind === 'wrong' && proof.guess)
  return { kind: 'wrong', because: `${presented.length} credentials`, guess }
}

const isReady = (proof: Proof | Promise<Proof>): proof is Proof => !(proof instanceof Promise)
