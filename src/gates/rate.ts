/** How many requests: per address for strangers, per identity for everyone else. */
import { addressKey, inNetworks } from '../identity/address.ts'
import type { Hit, Limiter } from '../identity/limiter.ts'
import type { Identifier, Proof } from '../identity/proof.ts'
import { allow, deny, type Decision, type Facts, type Gate } from './gate.ts'

/**
 * Counts every request of an address and refuses, beyond the limit, those without a valid credential: strangers behind
 * the same hop cannot starve the owner. A token used from outside its networks is a stranger's here.
 */
export function addressRateGate(deps: {
  readonly limiter: Limiter
  readonly identifier: Identifier
}): Gate {
  const { limiter, identifier } = deps
  const headers = headersFor('address', limiter)
  const judgeStranger = (facts: Facts, proof: Proof, hit: Hit): Decision => {
    const known =
      proof.kind === 'valid' && inNetworks(facts.peer, proof.identity.networks ?? anywhere)
    return known ? allow : deny('RATE_LIMITED', 'requests of this address', headers(hit))
  }
  const decide = (facts: Facts, hit: Hit): Decision | Promise<Decision> => {
    if (!hit.over) return allow
    const proof = identifier.identify(facts)
    return proof instanceof Promise
      ? proof.then((known) => judgeStranger(facts, known, hit))
      : judgeStranger(facts, proof, hit)
  }
  return {
    name: 'address rate',
    decide: (facts) => {
      const hit = limiter.hit(addressKey(facts.peer))
      return hit instanceof Promise
        ? hit.then((counted) => decide(facts, counted))
        : decide(facts, hit)
    },
  }
}

const anywhere: readonly string[] = []

/** Counts the requests of an identity; every answer says how many are left. */
export function identityRateGate({ limiter }: { readonly limiter: Limiter }): Gate {
  const headers = headersFor('identity', limiter)
  const decide = (hit: Hit): Decision =>
    hit.over
      ? deny('RATE_LIMITED', 'requests of this identity', headers(hit))
      : { allow: true, headers: headers(hit) }
  return {
    name: 'identity rate',
    decide: (_facts, identity) => {
      const hit = limiter.hit(identity.id)
      return hit instanceof Promise ? hit.then(decide) : decide(hit)
    },
  }
}

/** The headers of draft-ietf-httpapi-ratelimit-headers-10, and Retry-After (RFC 9110 §10.2.3) on a refusal. */
function headersFor(policy: string, limiter: Limiter): (hit: Hit) => readonly string[] {
  const offered = `"${policy}";q=${limiter.quota};w=${limiter.windowMs / 1000}`
  return (hit) => {
    const wait = Math.max(1, Math.ceil(hit.resetMs / 1000))
    const left = `"${policy}";r=${hit.left};t=${wait}`
    return hit.over
      ? ['RateLimit-Policy', offered, 'RateLimit', left, 'Retry-After', String(wait)]
      : ['RateLimit-Policy', offered, 'RateLimit', left]
  }
}
