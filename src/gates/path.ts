/** Which paths exist for clients at all: prefixes on the canonical path. */
import { allow, deny, type Gate } from './gate.ts'

/** Prefixes from `security.paths`; a denied prefix wins. */
export interface PathSettings {
  readonly allow: readonly string[]
  readonly deny: readonly string[]
}

/**
 * True when `path` is `prefix` or lies under it: `/api` covers `/api` and `/api/x`, never `/apix`, nor what leads out of it
 * when it is decoded once more than it should be.
 */
export function isUnder(path: string, prefix: string): boolean {
  if (!path.startsWith(prefix)) return false
  if (prefix !== '/' && path.includes('%25') && dotSegment.test(loose(path))) return false
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
        // Encoded twice, what nobody may write plainly comes through: "..", "//" and the backslash.
        const plain = path.includes('%25') ? resolved(read) : read
        if (denied.some((prefix) => isUnder(read, prefix) || isUnder(plain, prefix))) {
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
  // Some agents decode once more than they should; a path that decodes for ever is none of theirs.
  for (let i = 0; i < 3 && read.includes('%'); i += 1) read = decoded(read)
  return read.toLowerCase().replace(/;[^/]*/g, '')
}

const dotSegment = /[/\\]\.{1,2}(?:[/\\]|$)/

/** The path that an agent arrives at which decodes too often: segments resolved, and a "/" at its end. */
function resolved(path: string): string {
  const kept: string[] = []
  for (const part of path.split(/[/\\]+/)) {
    if (part === '..') kept.pop()
    else if (part !== '' && part !== '.') kept.push(part)
  }
  return kept.length === 0 ? '/' : `/${kept.join('/')}/`
}

const encodedRun = /(?:%[0-9a-f]{2})+/gi

/** Bytes that are not UTF-8 are replaced, as lenient decoders do; one of them must not hide the letters beside it. */
function decoded(path: string): string {
  return path.replace(encodedRun, (run) =>
    Buffer.from(run.replaceAll('%', ''), 'hex').toString('utf8'),
  )
}
