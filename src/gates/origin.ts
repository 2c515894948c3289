/** Refuses browsers that speak for another site (CVE-2026-25253 is the WebSocket form; Fetch Metadata). */
import { allow, deny, type Facts, type Gate } from './gate.ts'

/**
 * A request with an `Origin` passes only when that is the host it is sent to, or one of `publicOrigins`; one that the
 * browser marks as cross-site never passes. Clients that are no browsers send neither header.
 */
export function originGate(publicOrigins: readonly string[]): Gate {
  const ours = new Set(publicOrigins.map((origin) => origin.toLowerCase()))
  return {
    name: 'origin',
    decide: (facts) => {
      const { origin, fetchSite } = facts
      if (origin !== undefined && !isOurs(origin.toLowerCase(), facts, ours)) {
        return deny('ORIGIN_DENIED', 'Origin is another site')
      }
      if (fetchSite === 'cross-site' && (origin === undefined || !ours.has(origin.toLowerCase()))) {
        return deny('ORIGIN_DENIED', 'Sec-Fetch-Site is cross-site')
      }
      return allow
    },
  }
}

/** The shape gate has already refused a Host that is not ours, so an equal Origin is ours too. */
function isOurs(origin: string, facts: Facts, ours: ReadonlySet<string>): boolean {
  return ours.has(origin) || origin === `http://${facts.host}` || origin === `https://${facts.host}`
}
