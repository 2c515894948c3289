/** People whom others vouch for (a JWT's issuer, Tailscale): which of them the owner's lists let in (DESIGN §5). */
import { hash } from 'node:crypto'

import type { Identity } from '../gates/gate.ts'
import type { Proof } from './proof.ts'

/** The lists of the configuration; undefined for a policy that is not enabled, which lets nobody in. */
export interface Lists {
  /** `gateway.dmPolicies.allowlist`: e-mail addresses, logins, subjects. */
  readonly people: readonly string[] | undefined
  /** `gateway.groupPolicies.allowedGroups`. */
  readonly groups: readonly string[] | undefined
}

/** Somebody who is vouched for. */
export interface Vouched {
  readonly identity: Identity
  /** The names by which a list may have them: subject, verified e-mail address, login. */
  readonly names: readonly string[]
}

/** Turns who somebody is into a proof: valid when a list has them, or the owner let them in, `unlisted` otherwise. */
export type Admit = (who: Vouched) => Proof

/** Whether the owner has let an identity in that no list has. Throws while that cannot be read, which is a no. */
export type LetIn = (identity: Identity) => boolean

/** The id of a subject of an issuer: the same subject of another issuer is somebody else. */
export const jwtIdentity = (issuer: string, subject: string): string =>
  `jwt:${hash('sha256', issuer).slice(0, 12)}:${subject}`

/** The id of a login of the tailnet. */
export const tailscaleIdentity = (login: string): string => `tailscale:${login}`

/** The longest name that an issuer may give. */
const nameMax = 255
/** Groups of one identity that are looked at. */
const groupsMax = 200

/**
 * People are compared exactly, but for the domain of an e-mail address, whose case says nothing (RFC 5321 §2.4). Being in
 * one list is enough.
 */
export function admitListed(lists: Lists, letIn: LetIn = () => false): Admit {
  const people = new Set((lists.people ?? []).map(foldDomain))
  const groups = new Set(lists.groups ?? [])
  return ({ identity, names }) => {
    const listed =
      names.some((name) => people.has(foldDomain(name))) ||
      (identity.groups ?? []).some((group) => groups.has(group))
    return listed || letIn(identity)
      ? { kind: 'valid', identity }
      : { kind: 'unlisted', identity, because: `${identity.name} is on no list` }
  }
}

/** Only ASCII letters: another alphabet's look-alike of a letter is another domain. */
function foldDomain(name: string): string {
  const at = name.lastIndexOf('@')
  return at === -1
    ? name
    : name.slice(0, at) + name.slice(at).replace(/[A-Z]/g, (letter) => letter.toLowerCase())
}

/** A name as an issuer may give it: text without control characters and blanks around it, of a bounded length. */
export function readName(value: unknown): string | undefined {
  if (typeof value !== 'string' || value === '' || value.length > nameMax) return undefined
  return value !== value.trim() || /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u.test(value)
    ? undefined
    : value
}

/** A list of names, or one name; what is no name is left out. */
export function readNames(value: unknown): readonly string[] {
  const listed: readonly unknown[] = Array.isArray(value) ? value.slice(0, groupsMax) : [value]
  return listed.flatMap((item) => readName(item) ?? [])
}
