/** The contract of a gate: facts in, a decision out; and the order of the gates. A gate never sees the socket. */
import type { RefusalCode } from '../errors.ts'

/** How the body of a request is framed. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }

/** What a request says about its WebSocket handshake (RFC 6455 §4.1). */
export interface Handshake {
  readonly key: string
  readonly protocols: readonly string[]
}

/** A way in which a request is ambiguous or malformed; `shape` turns it into a refusal. */
export interface Defect {
  readonly code: RefusalCode
  readonly because: string
}

/** What the trusted hop that handed a request on says about it. It never goes to the agent. */
export interface Hop {
  /** The socket's peer. */
  readonly address: string
  /** The hop named a client: `Facts.peer` is that address and not the hop's own. */
  readonly named: boolean
  /** `Tailscale-User-Login` as it was sent; nothing is proved until LocalAPI confirms it. */
  readonly tailscaleLogin: string | undefined
}

/** The one reading of a request. Nobody re-reads the raw headers. */
export interface Facts {
  /** Made by us, never the client's: `[0-9a-f-]{36}`. */
  readonly requestId: string
  /** Wall clock at arrival, ms since the epoch. */
  readonly time: number
  /** Monotonic clock at arrival, ms. */
  readonly startedAt: number
  /** Client address without zone or IPv4-mapping: the socket's peer, or what a trusted hop says. */
  readonly peer: string
  /** Set when a hop of `gateway.trustedProxies` handed the request on. */
  readonly hop?: Hop | undefined
  /** A trusted hop says that the client spoke TLS to it; we speak plain HTTP ourselves. */
  readonly secure?: boolean
  /** Marked as coming from the internet through Tailscale Funnel; anyone may say so, it only makes things stricter. */
  readonly funnel?: boolean
  readonly method: string
  /** The request target in origin form, byte for byte as it goes to the agent. */
  readonly target: string
  /** The path part of `target`: already canonical, because everything else is a defect. */
  readonly path: string
  /** Host header in lower case, with its port if it has one. */
  readonly host: string
  /** End-to-end headers that may go to the agent, flat name, value, name, value … */
  readonly headers: readonly string[]
  /** Cookies of ours, which `headers` do not have: flat name, value, … */
  readonly ownCookies?: readonly string[] | undefined
  /** The value of `Authorization`, if there is exactly one. */
  readonly authorization: string | undefined
  /** A credential was sent in the query or the userinfo of the target. */
  readonly credentialInUrl: boolean
  readonly origin: string | undefined
  readonly fetchSite: string | undefined
  readonly contentType: string | undefined
  readonly framing: Framing
  /** `Expect: 100-continue` was sent: answered after the gates. */
  readonly expectsContinue: boolean
  /** Asks what can be done here and may not be passed on: OPTIONS with `Max-Forwards: 0`. */
  readonly isForUs?: boolean
  /** Set when the request asks for a WebSocket. */
  readonly websocket: Handshake | undefined
  readonly defect: Defect | undefined
}

/** Scopes of a token (DESIGN §5); a token may also be limited to path prefixes and source networks. */
export type Scope = 'admin' | 'operate' | 'chat' | 'read' | 'metrics'

/** Who a client proved to be. */
export interface Identity {
  /** Stable key for limits and live sockets: `token:<id>`; `nobody` before the identity gate. */
  readonly id: string
  /** Name for the audit log. */
  readonly name: string
  readonly scopes: readonly Scope[]
  /** Path prefixes that the credential is limited to; empty means all. */
  readonly paths: readonly string[]
  /** Source networks that the credential is limited to, in CIDR notation; absent or empty means all. */
  readonly networks?: readonly string[]
  /** E-mail address that the issuer has verified. */
  readonly email?: string
  /** Groups that the issuer vouches for. */
  readonly groups?: readonly string[]
}

/** The identity of a client who proved nothing. */
export const nobody: Identity = { id: 'nobody', name: '', scopes: [], paths: [] }

/** A yes. `identity` is set by the identity gate; `headers` (flat) are added to the answer. */
export interface Allow {
  readonly allow: true
  readonly identity?: Identity
  readonly headers?: readonly string[]
}

/** A no. `because` goes to the log and never to the client. */
export interface Deny {
  readonly allow: false
  readonly code: RefusalCode
  readonly because: string
  /** Flat headers for the refusal, such as `Retry-After`. */
  readonly headers?: readonly string[]
  /** What the client is told beside the code: members of the problem document (RFC 9457 §3.2). */
  readonly members?: Readonly<Record<string, string>>
}

export type Decision = Allow | Deny

/** One check. A gate that throws, rejects or outlives its time is a no: only `judge` says so. */
export interface Gate {
  readonly name: string
  decide(facts: Facts, identity: Identity): Decision | Promise<Decision>
}

/** The plain yes. */
export const allow: Allow = { allow: true }

/** A no with its code, the reason for the log, and headers for the answer. */
export function deny(code: RefusalCode, because: string, headers?: readonly string[]): Deny {
  return headers === undefined
    ? { allow: false, code, because }
    : { allow: false, code, because, headers }
}

/** The order in which gates are asked (DESIGN §4). A test pins it, `config show --pipeline` prints it. */
export const gateOrder: readonly string[] = [
  'lockdown',
  'shape',
  'path',
  'address rate',
  'size',
  'identity',
  'scope',
  'origin',
  'identity rate',
]

/** The kill switch: refuses everything while `locked()` says so. */
export function lockdownGate(locked: () => boolean): Gate {
  return {
    name: 'lockdown',
    decide: () => (locked() ? deny('LOCKDOWN', 'lockdown is on', ['Retry-After', '60']) : allow),
  }
}
