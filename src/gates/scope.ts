/** May this credential do that? Scope, path prefixes and source networks of the identity. */
import { inNetworks } from '../identity/address.ts'
import { isRenewal } from '../identity/token-life.ts'
import { allow, deny, type Facts, type Gate, type Scope } from './gate.ts'
import { isUnder } from './path.ts'

/** What the scope gate asks. */
export interface ScopeGateDeps {
  /** Canonical paths that scope `metrics` may read; none means that scope opens nothing. */
  readonly metricsPaths?: readonly string[]
}

/**
 * Refuses what the credential does not allow, with 403: the client is known, so it may learn that it is the scope that
 * is missing. An identity without a scope may do nothing.
 */
export function scopeGate({ metricsPaths = [] }: ScopeGateDeps = {}): Gate {
  return {
    name: 'scope',
    decide: (facts, identity) => {
      const { scopes, paths, networks } = identity
      if (networks !== undefined && !inNetworks(facts.peer, networks)) {
        return deny('SCOPE_MISSING', 'outside the networks of the credential')
      }
      // Whatever a token may do, it may be followed by another that may do the same.
      if (isRenewal(facts)) return allow
      if (paths.length > 0 && !paths.some((prefix) => isUnder(facts.path, prefix))) {
        return deny('SCOPE_MISSING', 'outside the paths of the credential')
      }
      if (!scopes.some((scope) => covers(scope, facts, metricsPaths))) {
        return deny('SCOPE_MISSING', `scope ${scopes.join(' ') || 'none'}`)
      }
      return allow
    },
  }
}

function covers(scope: Scope, facts: Facts, metricsPaths: readonly string[]): boolean {
  const reads = facts.method === 'GET' || facts.method === 'HEAD'
  switch (scope) {
    case 'admin':
    case 'operate':
    case 'chat':
      return true
    case 'read':
      // A WebSocket begins as a GET and then writes.
      return reads && facts.websocket === undefined
    case 'metrics':
      return reads && facts.websocket === undefined && metricsPaths.includes(facts.path)
    default:
      return scope satisfies never
  }
}
