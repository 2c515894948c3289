/** Which paths exist for clients at all: prefixes on the canonical path. */
import { allow, deny, type Gate } from './gate.ts'

/** Prefixes from `security.paths`; a denied prefix wins. */
export interface PathSettings {
  readonly allow: readonly string[]
  readonly deny: readonly string[]
}

/** True when `path` is `prefix` or lies under it: `/api` covers `/api` and `/api/x`, never `/apix`. */
export function isUnder(path: string, prefix: string): boolean {
  if (!path.startsWith(prefix)) return false
  return prefix.endsWith('/') || path.length === prefix.length || path[prefix.length] === '/'
}

/**
 * Refuses paths outside the allowed prefixes or under a denied one. A denied prefix is compared without regard to
 * case and with encoded letters read, because the agent may read them so; an allowed one is compared exactly.
 */
export function pathGate(settings: PathSettings): Gate {
  const denied = settings.deny.map((prefix) => loose(prefix))
  return {
    name: 'path',
    decide: ({ path }) => {
      if (denied.length > 0) {
        const read = loose(path)
        if (denied.some((prefix) => isUnder(read, prefix))) {
          return deny('PATH_DENIED', 'under security.paths.deny')
        }
      }
      if (settings.allow.some((prefix) => isUnder(path, prefix))) return allow
      return deny('PATH_DENIED', 'not under security.paths.allow')
    },
  }
}

/** Lower case, percent-encodings read, path parameters dropped: how a lenient agent may see a path. */
function loose(path: string): string {
  let read = path
  try {
    read = decodeURIComponent(path)
  } catch {
    // Not UTF-8: only the undecoded form can be compared.
    read = path
  }
  return read.toLowerCase().replace(/;[^/]*/g, '')
}
