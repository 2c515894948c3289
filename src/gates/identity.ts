/** Who is it? Every request needs a proof; all refusals look alike, and only guesses count against the address. */
import { addressKey } from '../identity/address.ts'
import type { Lockout } from '../identity/lockout.ts'
import type { Identifier, Proof } from '../identity/proof.ts'
import { deny, type Decision, type Deny, type Facts, type Gate, type Identity } from './gate.ts'

/** What the identity gate asks. */
export interface IdentityGateDeps {
  readonly identifier: Identifier
  readonly lockout: Lockout
  /** The pairing code of somebody vouched for whom no list has; undefined where nobody may ask, or there is no room. */
  readonly ask?: ((identity: Identity) => Promise<string | undefined>) | undefined
}

/** The challenge of every authentication refusal (RFC 6750 §3): the same for none, wrong, expired and revoked. */
export const challenge: readonly string[] = ['WWW-Authenticate', 'Bearer realm="hardshell"']

/**
 * Lets through who proves an identity. A presented wrong credential counts against its address; from a locked address
 * it is 429, while a valid one passes all the same, so that nobody locks the owner out from behind the same hop.
 */
export function identityGate({ identifier, lockout, ask }: IdentityGateDeps): Gate {
  const decide = (facts: Facts, proof: Proof): Decision | Promise<Decision> => {
    switch (proof.kind) {
      case 'valid':
        return proof.headers === undefined
          ? { allow: true, identity: proof.identity }
          : { allow: true, identity: proof.identity, headers: proof.headers }
      case 'visitor':
        return locked(lockout, facts, proof.kind) ?? { allow: true, identity: proof.identity }
      case 'none':
        return nothing
      case 'unlisted':
        return ask === undefined ? unlisted(proof.because) : offered(proof, ask)
      case 'wrong':
        return proof.guess ? wrong(lockout, facts, proof.because) : unauthenticated(proof.because)
      default:
        return proof satisfies never
    }
  }
  return {
    name: 'identity',
    decide: (facts) => {
      const proof = identifier.identify(facts)
      return proof instanceof Promise
        ? proof.then((known) => decide(facts, known))
        : decide(facts, proof)
    },
  }
}

const unlisted = (because: string): Deny => deny('IDENTITY_NOT_ALLOWED', because)

async function offered(
  { identity, because }: Extract<Proof, { kind: 'unlisted' }>,
  ask: NonNullable<IdentityGateDeps['ask']>,
): Promise<Deny> {
  const code = await ask(identity)
  if (code === undefined) return unlisted(because)
  return { ...deny('PAIRING_NEEDED', because), members: { pairingCode: code } }
}

const unauthenticated = (because: string): Deny => deny('UNAUTHENTICATED', because, challenge)

const nothing = unauthenticated('no credential')

function wrong(lockout: Lockout, facts: Facts, because: string): Deny {
  const refused = locked(lockout, facts, because)
  if (refused !== undefined) return refused
  lockout.fail(addressKey(facts.peer))
  return unauthenticated(because)
}

function locked(lockout: Lockout, facts: Facts, because: string): Deny | undefined {
  const lockedMs = lockout.lockedFor(addressKey(facts.peer))
  if (lockedMs === 0) return undefined
  return deny('AUTH_LOCKED', `${because}; address locked`, ['Retry-After', wholeSeconds(lockedMs)])
}

/** `Retry-After` of a wait in ms (RFC 9110 §10.2.3): never 0, because then a client would try at once. */
export function wholeSeconds(ms: number): string {
  return String(Math.max(1, Math.ceil(ms / 1000)))
}
