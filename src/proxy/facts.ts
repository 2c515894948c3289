/** The only reader of raw requests: every gate and the forwarder see `Facts`, so that nothing is read twice. */
import type { IncomingMessage } from 'node:http'

import type { Defect, Facts, Framing, Handshake } from '../gates/gate.ts'
import { splitCookie } from '../identity/cookies.ts'
import type { Hops } from '../identity/hops.ts'
import { isDropped } from './dropped.ts'

/** What reading a request needs from outside. Sizes in bytes, clocks in ms. */
export interface FactSettings {
  readonly maxUrlBytes: number
  readonly maxHeaders: number
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Monotonic clock, ms. */
  readonly monotonic: () => number
  readonly newId: () => string
  /** Address of the socket's peer, without zone and IPv4-mapping. */
  readonly peerOf: (request: IncomingMessage) => string
  /** Hops whose word about the client is believed; none when absent. */
  readonly hops?: Hops | undefined
}

/** Headers that may appear once; a second one is read differently by different programs (RFC 9110 §5.3). */
const singletons = new Set([
  'host',
  'authorization',
  'proxy-authorization',
  'origin',
  'referer',
  'cookie',
  'content-type',
  'content-length',
  'content-encoding',
  'transfer-encoding',
  'expect',
  'upgrade',
  'user-agent',
  'range',
  'if-range',
  'max-forwards',
  'if-modified-since',
  'if-unmodified-since',
  'sec-websocket-key',
  'sec-websocket-version',
  'sec-fetch-site',
  'sec-fetch-mode',
  'sec-fetch-dest',
  'sec-fetch-user',
])

/** Dropped headers that are read all the same: lists, and what a trusted hop may say. */
const noted = new Set([
  'sec-websocket-protocol',
  'x-forwarded-for',
  'x-forwarded-proto',
  'tailscale-user-login',
  'tailscale-funnel-request',
])

/** Headers that Connection may not name: dropping them would change what we judged (CVE-2022-31813). */
const protectedFromConnection = new Set([
  'host',
  'authorization',
  'proxy-authorization',
  'cookie',
  'origin',
  'content-length',
  'content-type',
  'content-encoding',
  'transfer-encoding',
  'expect',
  'x-request-id',
])

const methods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
const tokenList = /^[!#$%&'*+.^`|~0-9a-z-]+$/i
/** A token (RFC 9110 §5.6.2): unlike a header name, a subprotocol may have "_", and one in base64url often does. */
const subprotocol = /^[!#$%&'*+.^_`|~0-9a-z-]+$/i
/** reg-name, IPv4 or bracketed IPv6 with an optional port up to 65535 (RFC 3986 §3.2.2, without percent-encoding). */
const hostForm =
  /^(?:[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*|\[[0-9a-f:.]+\])(?::(?:[0-5]?\d{1,4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5]))?$/
const visibleAscii = /^[\x21-\x7e]+$/
/** `%` without two digits, or an encoded dot, slash, backslash, NUL, CR, LF or byte that is never UTF-8. */
const encodedTrick = /%(?![0-9a-f]{2})|%(?:2e|2f|5c|00|0a|0d|c0|c1|f[5-9a-f])/i
/** A dot segment, also with a path parameter behind it (`/..;/`), as some servers read it. */
const dotSegment = /(?:^|\/)\.{1,2}(?:;[^/]*)?(?:\/|$)/
/** Query names under which clients put credentials (RFC 6750 §2.3 forbids it), and our own token form anywhere. */
const urlCredential =
  /[?&](?:token|access_token|auth_token|id_token|api_?key|apikey|bearer|password|authorization)=|hs[ks]_/i
/** A token or session of ours in a path, where proxies and browsers write it down. */
const pathCredential = /hs[ks]_[0-9A-Za-z_-]{20}/
const websocketKey = /^[A-Za-z0-9+/]{22}==$/

/** The headers as one pass found them. */
interface Scan {
  readonly kept: string[]
  readonly single: Map<string, string>
  readonly connection: Set<string>
  ownCookies: readonly string[] | undefined
  defect: Defect | undefined
}

/** Reads a request once. What is ambiguous becomes `defect`; nothing is repaired. */
export function readFacts(request: IncomingMessage, settings: FactSettings): Facts {
  const method = request.method ?? ''
  const scan = scanHeaders(request.rawHeaders, settings.maxHeaders)
  const { single, connection } = scan
  const host = single.get('host')?.toLowerCase() ?? ''
  const target = originForm(request.url ?? '', host)
  const cut = target.value.indexOf('?')
  const path = cut === -1 ? target.value : target.value.slice(0, cut)
  const framing = framingOf(single, request.httpVersion)
  const forwards = method === 'OPTIONS' ? forwardsLeft(scan) : undefined
  const upgrade = upgradeOf(single, connection, method, request.httpVersion, framing)
  const expect = single.get('expect')?.toLowerCase()
  const socketPeer = settings.peerOf(request)
  const from = settings.hops?.attribute(socketPeer, {
    forwardedFor: single.get('x-forwarded-for'),
    forwardedProto: single.get('x-forwarded-proto'),
    tailscaleLogin: single.get('tailscale-user-login'),
  })
  const defect =
    versionDefect(request.httpVersion) ??
    scan.defect ??
    targetDefect(target, path, request.url ?? '', settings.maxUrlBytes) ??
    hostDefect(single.get('host'), host) ??
    methodDefect(method) ??
    forwards?.defect ??
    ('code' in framing ? framing : undefined) ??
    ('code' in upgrade ? upgrade : undefined) ??
    (expect === undefined || expect === '100-continue'
      ? undefined
      : { code: 'EXPECTATION_FAILED' as const, because: 'another expectation than 100-continue' })
  return {
    requestId: settings.newId(),
    time: settings.now(),
    startedAt: settings.monotonic(),
    peer: from?.peer ?? socketPeer,
    hop: from?.hop,
    secure: from?.secure === true,
    funnel: single.has('tailscale-funnel-request'),
    method,
    target: target.value,
    path,
    host,
    headers: scan.kept,
    ownCookies: scan.ownCookies,
    authorization: single.get('authorization'),
    credentialInUrl:
      target.userinfo ||
      pathCredential.test(path) ||
      (cut !== -1 && urlCredential.test(target.value.slice(cut))),
    origin: single.get('origin'),
    fetchSite: single.get('sec-fetch-site')?.toLowerCase(),
    contentType: single.get('content-type'),
    framing: 'code' in framing ? { kind: 'none' } : framing,
    // RFC 9110 §10.1.1: an expectation of HTTP/1.0 must be ignored.
    expectsContinue: expect === '100-continue' && request.httpVersion === '1.1',
    websocket: 'code' in upgrade ? undefined : upgrade.handshake,
    isForUs: forwards?.left === 0,
    defect,
  }
}

/** True when a request is a complete WebSocket handshake; everything else is answered as a plain request. */
export function isWebSocketUpgrade(request: IncomingMessage): boolean {
  const upgrade = request.headers.upgrade
  return (
    request.method === 'GET' &&
    request.httpVersion === '1.1' &&
    upgrade !== undefined &&
    upgrade.toLowerCase() === 'websocket' &&
    request.headers['content-length'] === undefined &&
    request.headers['transfer-encoding'] === undefined &&
    request.headers['sec-websocket-version'] === '13' &&
    websocketKey.test(request.headers['sec-websocket-key'] ?? '')
  )
}

function scanHeaders(raw: readonly string[], maxHeaders: number): Scan {
  const scan: Scan = {
    kept: [],
    single: new Map(),
    connection: new Set(),
    ownCookies: undefined,
    defect: undefined,
  }
  if (raw.length / 2 > maxHeaders) {
    scan.defect = { code: 'HEADERS_TOO_LARGE', because: `${raw.length / 2} headers` }
  }
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i] ?? ''
    const value = raw[i + 1] ?? ''
    const lower = name.toLowerCase()
    if (name.includes('_')) {
      // A CGI-like agent would read X_Forwarded_For as X-Forwarded-For.
      scan.defect ??= { code: 'HEADER_INVALID', because: 'a header name with "_"' }
    }
    if (singletons.has(lower)) {
      if (scan.single.has(lower)) {
        scan.defect ??= isFramingHeader(lower)
          ? { code: 'FRAMING_AMBIGUOUS', because: `${lower} twice` }
          : { code: 'HEADER_DUPLICATE', because: `${lower} twice` }
      }
      scan.single.set(lower, value)
    } else if (lower === 'connection') {
      scan.defect ??= readConnection(value, scan.connection)
    }
    if (lower === 'cookie') keepCookie(scan, name, value)
    else if (!isDropped(lower)) scan.kept.push(name, value)
    else if (noted.has(lower)) {
      const before = scan.single.get(lower)
      scan.single.set(lower, before === undefined ? value : `${before},${value}`)
    } else if (lower.startsWith('sec-websocket-')) scan.single.set(lower, value)
  }
  if (scan.connection.size > 0) removeNamed(scan)
  return scan
}

/** The agent gets the cookies that are its own. */
function keepCookie(scan: Scan, name: string, value: string): void {
  const { rest, own } = splitCookie(value)
  if (rest !== undefined) scan.kept.push(name, rest)
  if (own.length > 0) scan.ownCookies = own
}

const isFramingHeader = (name: string) => name === 'content-length' || name === 'transfer-encoding'

function readConnection(value: string, names: Set<string>): Defect | undefined {
  for (const part of value.split(',')) {
    const name = part.trim().toLowerCase()
    if (name === '') continue
    if (!tokenList.test(name)) return { code: 'HEADER_INVALID', because: 'Connection is malformed' }
    if (protectedFromConnection.has(name) || name.startsWith('x-forwarded')) {
      return { code: 'HEADER_INVALID', because: `Connection names ${name}` }
    }
    names.add(name)
  }
  return undefined
}

function removeNamed(scan: Scan): void {
  for (let i = scan.kept.length - 2; i >= 0; i -= 2) {
    if (scan.connection.has((scan.kept[i] ?? '').toLowerCase())) scan.kept.splice(i, 2)
  }
}

/**
 * How many more programs may pass an OPTIONS on (RFC 9110 §7.6.2), us included: the next one is told one less. With
 * other methods the header means nothing; TRACE is refused.
 */
function forwardsLeft(scan: Scan): { readonly left: number; readonly defect?: Defect } | undefined {
  const value = scan.single.get('max-forwards')
  if (value === undefined) return undefined
  const at = scan.kept.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === 'max-forwards')
  if (!/^\d{1,9}$/.test(value)) {
    return { left: 0, defect: { code: 'HEADER_INVALID', because: 'Max-Forwards is no number' } }
  }
  const left = Number(value)
  if (at !== -1 && left > 0) scan.kept[at + 1] = String(left - 1)
  return { left }
}

/** The target as it is sent on; `foreign` when an absolute form names another authority than Host. */
interface Target {
  readonly value: string
  readonly foreign: boolean
  readonly userinfo: boolean
}

/** RFC 9112 §3.2: origin form, or absolute form for the same authority (§3.2.2 says a server must accept it). */
function originForm(url: string, host: string): Target {
  const absolute = /^https?:\/\/([^/?#]*)(.*)$/is.exec(url)
  if (absolute === null) return { value: url, foreign: false, userinfo: false }
  const authority = (absolute[1] ?? '').toLowerCase()
  const rest = absolute[2] ?? ''
  return {
    value: rest.startsWith('/') ? rest : `/${rest}`,
    foreign: authority !== host,
    userinfo: authority.includes('@'),
  }
}

function targetDefect(target: Target, path: string, url: string, max: number): Defect | undefined {
  if (url.length > max) return { code: 'URL_TOO_LONG', because: `${url.length} bytes` }
  const no = (because: string): Defect => ({ code: 'TARGET_INVALID', because })
  if (target.foreign) return no('absolute form for another authority than Host')
  const value = target.value
  if (!value.startsWith('/')) return no('not in origin form')
  if (!visibleAscii.test(value)) return no('a byte outside visible ASCII')
  if (value.includes('#') || value.includes('\\')) return no('"#" or a backslash')
  if (path.includes('//')) return no('"//"')
  if (path.includes('%') && encodedTrick.test(path))
    return no('a percent-encoding that hides structure')
  if (path.includes('/.') && dotSegment.test(path)) return no('a dot segment')
  return undefined
}

function versionDefect(version: string): Defect | undefined {
  if (version === '1.1' || version === '1.0') return undefined
  return { code: 'HTTP_VERSION', because: `HTTP/${version}` }
}

function hostDefect(raw: string | undefined, host: string): Defect | undefined {
  if (raw === undefined) return { code: 'HOST_INVALID', because: 'no Host' }
  if (!hostForm.test(host)) return { code: 'HOST_INVALID', because: 'Host is not host[:port]' }
  return undefined
}

function methodDefect(method: string): Defect | undefined {
  if (methods.has(method)) return undefined
  return { code: 'METHOD_NOT_ALLOWED', because: `method ${method}` }
}

/** Body framing (RFC 9112 §6): one Content-Length, or exactly "chunked" on HTTP/1.1, or none. */
function framingOf(single: ReadonlyMap<string, string>, version: string): Framing | Defect {
  const coding = single.get('transfer-encoding')
  const length = single.get('content-length')
  if (coding === undefined) {
    if (length === undefined) return { kind: 'none' }
    const bytes = Number(length)
    if (!/^\d{1,15}$/.test(length) || !Number.isSafeInteger(bytes)) {
      return { code: 'FRAMING_AMBIGUOUS', because: 'Content-Length is not a number' }
    }
    return { kind: 'length', bytes }
  }
  if (length !== undefined) {
    return { code: 'FRAMING_AMBIGUOUS', because: 'Content-Length with Transfer-Encoding' }
  }
  if (version !== '1.1') {
    return { code: 'FRAMING_AMBIGUOUS', because: `Transfer-Encoding on HTTP/${version}` }
  }
  if (coding.toLowerCase() === 'chunked') return { kind: 'chunked' }
  const codings = coding
    .toLowerCase()
    .split(',')
    .map((part) => part.trim())
  const unknown = codings.some((name) => name !== '' && name !== 'chunked')
  return unknown && codings.at(-1) === 'chunked' && !codings.includes('')
    ? { code: 'TRANSFER_CODING', because: 'a transfer coding before chunked' }
    : unknown && !codings.includes('chunked')
      ? { code: 'TRANSFER_CODING', because: 'an unknown transfer coding' }
      : { code: 'FRAMING_AMBIGUOUS', because: 'Transfer-Encoding is not exactly "chunked"' }
}

/** The WebSocket handshake, nothing, or why it is not one (RFC 6455 §4.2.1). */
function upgradeOf(
  single: ReadonlyMap<string, string>,
  connection: ReadonlySet<string>,
  method: string,
  version: string,
  framing: Framing | Defect,
): { readonly handshake: Handshake | undefined } | Defect {
  const upgrade = single.get('upgrade')?.toLowerCase()
  const wanted = upgrade?.split(',').some((part) => part.trim() === 'websocket') === true
  // h2c and others: the header is dropped and the request is a plain one (RFC 9110 §7.8 allows to ignore it).
  if (!wanted) return { handshake: undefined }
  const no = (because: string): Defect => ({ code: 'UPGRADE_INVALID', because })
  if (upgrade !== 'websocket') return no('several upgrade protocols')
  if (method !== 'GET') return no(`WebSocket handshake with ${method}`)
  if (version !== '1.1') return no(`WebSocket handshake over HTTP/${version}`)
  if (!connection.has('upgrade')) return no('Connection does not name upgrade')
  if (!('kind' in framing) || framing.kind !== 'none') return no('WebSocket handshake with a body')
  if (single.get('sec-websocket-version') !== '13') {
    return { code: 'WEBSOCKET_VERSION', because: 'Sec-WebSocket-Version is not 13' }
  }
  const key = single.get('sec-websocket-key') ?? ''
  if (!websocketKey.test(key)) return no('Sec-WebSocket-Key is not 16 bytes in base64')
  const protocols = (single.get('sec-websocket-protocol') ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '')
  if (
    protocols.some((part) => !subprotocol.test(part)) ||
    new Set(protocols).size < protocols.length
  ) {
    return no('Sec-WebSocket-Protocol is malformed')
  }
  return { handshake: { key, protocols } }
}
