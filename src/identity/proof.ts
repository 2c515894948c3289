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
  | {
      readonly kind: 'valid'
      readonly identity: Identity
      /** Flat headers for the answers to this credential. */
      readonly headers?: readonly string[]
    }
  /** No credential yet, on a route that takes one: a stranger to limits, refused while its address is locked. */
  | { readonly kind: 'visitor'; readonly identity: Identity }
  /** Somebody we trust vouches for who it is, and the owner's lists do not have them. */
  | { readonly kind: 'unlisted'; readonly identity: Identity; readonly because: string }

/** How the id of an identity begins that is nobody yet. */
export const visitorPrefix = 'login:'

/** Says whether an identity is nobody yet: one that may log in, or out, and nothing else. */
export function isVisitor({ id }: Identity): boolean {
  return id.startsWith(visitorPrefix)
}

/** Nothing was presented. */
export const noProof: Proof = { kind: 'none' }

/** One way of proving who one is: a token, a session cookie, a JWT, a Tailscale login. */
export interface Prover {
  readonly name: string
  /** Not sent by the client but added on the way, such as a Tailscale login: asked when no credential is presented. */
  readonly ambient?: true
  /** Pure: it counts and writes nothing. `none` when the request carries no credential of its kind. */
  prove(facts: Facts): Proof | Promise<Proof>
}

/** Asks who sends a request. The answer is kept with the facts: gates may ask again at no cost. */
export interface Identifier {
  identify(facts: Facts): Proof | Promise<Proof>
}

/**
 * An identifier over a list of provers. A credential in the URL is wrong whatever else is sent (RFC 6750 §2.3), and so is
 * one that would go on to the agent in another header, and so are two credentials of different kinds: nobody has to guess
 * which of them wins.
 */
export function identifier(all: readonly Prover[]): Identifier {
  const provers = all.filter(({ ambient }) => ambient !== true)
  const ambient = all.find((prover) => prover.ambient === true)
  // Gates that answer at once ask about one request after the other: the last one is enough, where a weak map with an
  // entry for each request keeps the garbage collector busy.
  let last: Facts | undefined
  let lastProof: Proof = noProof
  const promised = new WeakMap<Facts, Promise<Proof>>()
  return {
    identify: (facts) => {
      if (facts === last) return lastProof
      const known = promised.get(facts)
      if (known !== undefined) return known
      const presented = ask(provers, facts)
      const proof = ambient === undefined ? presented : orAmbient(presented, ambient, facts)
      if (proof instanceof Promise) promised.set(facts, proof)
      else {
        last = facts
        lastProof = proof
      }
      return proof
    },
  }
}

function ask(provers: readonly Prover[], facts: Facts): Proof | Promise<Proof> {
  if (facts.credentialInUrl) {
    return { kind: 'wrong', because: 'credential in the URL', guess: false }
  }
  if (carriesSecret(facts)) {
    return { kind: 'wrong', because: 'credential in another place', guess: false }
  }
  const only = provers.length === 1 ? provers[0] : undefined
  if (only !== undefined) return only.prove(facts)
  const proofs = provers.map((prover) => prover.prove(facts))
  if (proofs.every(isReady)) return combine(proofs)
  return Promise.all(proofs.map((proof) => Promise.resolve(proof))).then(combine)
}

/** A token or session of ours: found by its form, in what would go on to the agent. */
const ownSecret = /hs[ks]_[0-9A-Za-z_-]{40}/
/** No credential is shorter; most values are: this is asked for every request. */
const secretChars = 32

/** True when the target, a header that goes on to the agent or a subprotocol has the credential in it, or one of ours. */
function carriesSecret({ headers, websocket, target, authorization = '' }: Facts): boolean {
  const presented = authorization.slice(authorization.lastIndexOf(' ') + 1)
  const isLong = presented.length >= secretChars
  const hasSecret = (text: string): boolean =>
    text.length >= secretChars &&
    ((isLong && text.includes(presented)) ||
      ((text.includes('hsk_') || text.includes('hss_')) && ownSecret.test(text)))
  if (hasSecret(target)) return true
  for (let at = 1; at < headers.length; at += 2) if (hasSecret(headers[at] ?? '')) return true
  return websocket?.protocols.some(hasSecret) === true
}

/** A presented credential stands for itself, good or not; what is added on the way never mends a wrong one. */
function orAmbient(
  presented: Proof | Promise<Proof>,
  ambient: Prover,
  facts: Facts,
): Proof | Promise<Proof> {
  if (presented instanceof Promise)
    return presented.then((proof) => orAmbient(proof, ambient, facts))
  return presented.kind === 'none' ? ambient.prove(facts) : presented
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
