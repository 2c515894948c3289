/** Our own cookies among those of the agent: taken out of what goes on, and never set by the agent. */

/** Behind TLS: the browser takes it from this host alone, over TLS alone (RFC 6265bis §4.1.3.2). */
export const secureCookie = '__Host-hardshell'
/** Over plain HTTP on this machine. */
export const plainCookie = 'hardshell'

/** A Cookie header in two: what goes on to the agent, byte for byte, and what is ours. */
export interface SplitCookie {
  /** `undefined` when nothing is left. */
  readonly rest: string | undefined
  /** Flat: name, value, name, value … */
  readonly own: readonly string[]
}

const isOwnName = (name: string) => name === plainCookie || name === secureCookie

/** Takes our cookies out of the value of a Cookie header (RFC 6265 §4.2.1); most values hold none. */
export function splitCookie(value: string): SplitCookie {
  if (!value.includes(plainCookie)) return { rest: value, own: [] }
  const own: string[] = []
  const rest = value.split(';').filter((pair) => {
    const at = pair.indexOf('=')
    const name = (at === -1 ? pair : pair.slice(0, at)).trim()
    if (!isOwnName(name)) return true
    own.push(name, at === -1 ? '' : pair.slice(at + 1).trim())
    return false
  })
  if (own.length === 0) return { rest: value, own }
  // Where ours stood first, the blank behind it would now stand first.
  const left = rest.join(';').trimStart()
  return { rest: left === '' ? undefined : left, own }
}

/** True when a Set-Cookie of the agent would put a cookie of its own in the place of ours. */
export function setsOwnCookie(value: string): boolean {
  // A cookie without a name comes back as its value alone: "=a=b" is sent as "a=b" (RFC 6265bis §5.6).
  const pair = (value.split(';', 1)[0] ?? '').replace(/^[\s=]+/, '')
  return isOwnName((pair.split('=', 1)[0] ?? '').trim())
}
