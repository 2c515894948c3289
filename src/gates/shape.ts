/** Refuses what is ambiguous, what is meant for another host (DNS rebinding, CVE-2025-66414), and what is too large. */
import type { Bytes } from '../limits.ts'
import { allow, deny, type Gate } from './gate.ts'

/** 127.0.0.0/8 and ::1 as they stand in a Host header, and `localhost`; any port. */
const loopbackHost =
  /^(?:localhost|127(?:\.(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}|\[::1\])(?::\d{1,5})?$/

/** The hosts that are served besides loopback: each with and without its port, in lower case. */
export interface HostSettings {
  /** Addresses we are bound to, for example `192.168.1.100` or `fd7a::1`; any port. */
  readonly bind: readonly string[]
  /** Origins under which clients reach us from outside: `https://box.tailnet.ts.net`. */
  readonly publicOrigins: readonly string[]
  /** This node's names on the tailnet, each with and without its port; they may change while we run. */
  readonly tailnetHosts?: ReadonlySet<string>
  /** Serves what comes through Tailscale Funnel, which is the whole internet. */
  readonly allowFunnel?: boolean
}

/** Refuses defects that `facts` found, what Funnel lets in unasked, and requests for a host that is not ours. */
export function shapeGate(settings: HostSettings): Gate {
  const bound = new Set(settings.bind.map((address) => bracketed(address.toLowerCase())))
  const named = new Set(settings.publicOrigins.flatMap(hostsOf))
  const { tailnetHosts, allowFunnel = false } = settings
  return {
    name: 'shape',
    decide: ({ defect, host, funnel }) => {
      if (defect !== undefined) return deny(defect.code, defect.because)
      if (funnel === true && !allowFunnel) {
        return deny('FUNNEL_DENIED', 'through Tailscale Funnel, and allowFunnel is false')
      }
      if (loopbackHost.test(host) || named.has(host) || bound.has(withoutPort(host))) return allow
      if (tailnetHosts?.has(host) === true) return allow
      return deny(
        'HOST_DENIED',
        'Host is neither loopback, the bind address nor in gateway.publicOrigins',
      )
    },
  }
}

const bracketed = (address: string) => (address.includes(':') ? `[${address}]` : address)
const withoutPort = (host: string) => host.replace(/:\d{1,5}$/, '')

/** `https://a.b` → `a.b` and `a.b:443`; a port of its own stays the only spelling. */
function hostsOf(origin: string): string[] {
  const { protocol, hostname, port } = new URL(origin)
  if (port !== '') return [`${hostname}:${port}`]
  return [hostname, `${hostname}:${protocol === 'https:' ? 443 : 80}`]
}

/** Refuses a request that declares more than `maxBytes`; a chunked body is measured while it streams. */
export function sizeGate(maxBytes: Bytes): Gate {
  return {
    name: 'size',
    decide: ({ framing }) =>
      framing.kind === 'length' && framing.bytes > maxBytes
        ? deny('BODY_TOO_LARGE', `${framing.bytes} > ${maxBytes} bytes`)
        : allow,
  }
}
