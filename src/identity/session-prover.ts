/** The provers of password mode: our cookie, a session's bearer token, and the two routes that need neither. */
import type { Facts } from '../gates/gate.ts'
import { addressKey } from './address.ts'
import type { TokenLookup } from './bearer.ts'
import { plainCookie, secureCookie } from './cookies.ts'
import { loginPath, logoutPath } from './login-page.ts'
import { noProof, visitorPrefix, type Proof, type Prover } from './proof.ts'
import { isSessionSecret, type SessionBook } from './sessions.ts'

/** Says whether the browser that sent a request speaks TLS with whatever is in front of us. */
export type IsSecure = (facts: Facts) => boolean

/** Secure is what comes for an https origin of `gateway.publicOrigins`, or what a trusted hop says came over TLS. */
export function secureBy(publicOrigins: readonly string[]): IsSecure {
  const hosts = new Set(
    publicOrigins.flatMap((origin) => {
      const { protocol, hostname, port } = new URL(origin)
      if (protocol !== 'https:') return []
      return port === '' ? [hostname, `${hostname}:443`] : [`${hostname}:${port}`]
    }),
  )
  return (facts) => facts.secure === true || hosts.has(facts.host)
}

/** The name that our cookie has for this request; one of the other name is not looked at. */
export function cookieName(secure: boolean): string {
  return secure ? secureCookie : plainCookie
}

/** The values of our cookie in a request. Two different ones are nobody's: which of them came first is chance. */
export function cookieValues(facts: Facts, secure: boolean): readonly string[] {
  const { ownCookies } = facts
  if (ownCookies === undefined) return none
  const name = cookieName(secure)
  const values = ownCookies.filter((_, at) => at % 2 === 1 && ownCookies[at - 1] === name)
  return [...new Set(values)]
}

const none: readonly string[] = []

/**
 * Proves by our cookie. `POST` to the login route needs no proof and looks at no cookie, because a browser whose session
 * is over still sends it; nor does `POST` to the logout route without a good one. Both give a visitor who may go
 * nowhere else.
 */
export function sessionProver(sessions: SessionBook, isSecure: IsSecure): Prover {
  return {
    name: 'session',
    prove: (facts) => {
      const posts = facts.method === 'POST'
      if (posts && facts.path === loginPath) return visitor(facts)
      const proof = byCookie(facts, sessions, isSecure)
      const leaves = posts && facts.path === logoutPath && facts.authorization === undefined
      return leaves && proof.kind !== 'valid' ? visitor(facts) : proof
    },
  }
}

function byCookie(facts: Facts, sessions: SessionBook, isSecure: IsSecure): Proof {
  if (facts.ownCookies === undefined) return noProof
  const [value, ...others] = cookieValues(facts, isSecure(facts))
  if (value === undefined) return noProof
  return others.length === 0 ? sessions.lookUp(value) : severalCookies
}

const severalCookies: Proof = { kind: 'wrong', because: 'several session cookies', guess: false }

/** A stranger on a route of ours: the scope gate holds the identity to that one path. */
function visitor({ path, peer }: Facts): Proof {
  const identity = {
    id: `${visitorPrefix}${addressKey(peer)}`,
    name: 'login',
    scopes: ['chat'],
    paths: [path],
  } as const
  return { kind: 'visitor', identity }
}

/** Bearer tokens of both kinds: those of sessions by their form, everything else as before. */
export function withSessions(tokens: TokenLookup, sessions: SessionBook): TokenLookup {
  return {
    lookUp: (value, ...more) =>
      isSessionSecret(value) ? sessions.lookUp(value) : tokens.lookUp(value, ...more),
  }
}
