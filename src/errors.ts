/** Every refusal and every failure of Hardshell, in one table: docs/errors.md is made from it. */

interface Row {
  /** HTTP status of the answer. */
  readonly status: number
  /** What the client is told: one sentence without a cause, a name or a number from inside. */
  readonly say: string
  /** What the owner of the installation can do about it. */
  readonly fix: string
}

/** Refusals: answers to requests. The code is stable: clients and tests match it, never the sentence. */
export const refusals = {
  BAD_REQUEST: {
    status: 400,
    say: 'The request is not valid HTTP/1.1.',
    fix: 'Send a well-formed HTTP/1.1 request; the log names the parser rule under the request id.',
  },
  FRAMING_AMBIGUOUS: {
    status: 400,
    say: 'The length of the request body is ambiguous.',
    fix: 'Send either one Content-Length or "Transfer-Encoding: chunked", never both or twice.',
  },
  TARGET_INVALID: {
    status: 400,
    say: 'The request target is not acceptable.',
    fix: 'Use a plain path: no dot segments, "//", "\\\\", "#" or encoded separators.',
  },
  HEADER_DUPLICATE: {
    status: 400,
    say: 'A header that may appear once appears more than once.',
    fix: 'Send each of Host, Authorization, Origin, Content-Type and the like once.',
  },
  HEADER_INVALID: {
    status: 400,
    say: 'A header is not acceptable.',
    fix: 'Header names with "_" and Connection options that name protected headers are refused.',
  },
  HOST_INVALID: {
    status: 400,
    say: 'The Host header is missing or malformed.',
    fix: 'Send one Host header with a host and an optional port.',
  },
  UPGRADE_INVALID: {
    status: 400,
    say: 'The upgrade request is not a valid WebSocket handshake.',
    fix: 'Use GET over HTTP/1.1 with Sec-WebSocket-Key and without a body.',
  },
  LOGIN_INVALID: {
    status: 400,
    say: 'The login is not acceptable.',
    fix: 'Send {"password": "…"} as application/json, or a form with one field "password".',
  },
  UNAUTHENTICATED: {
    status: 401,
    say: 'A valid credential is required.',
    fix: 'Send "Authorization: Bearer <token>"; see "hardshell token list". Never put it in the URL.',
  },
  WEBHOOK_UNPROVEN: {
    status: 401,
    say: 'The webhook does not prove to come from its service.',
    fix: 'The log says why under the request id; "hardshell channel check" looks at the secret and path.',
  },
  ORIGIN_DENIED: {
    status: 403,
    say: 'Requests from this web origin are not allowed.',
    fix: 'Add the origin to gateway.publicOrigins if it is yours.',
  },
  PATH_DENIED: {
    status: 403,
    say: 'This path is not allowed.',
    fix: 'See security.paths.allow and security.paths.deny.',
  },
  IDENTITY_NOT_ALLOWED: {
    status: 403,
    say: 'This identity is not allowed here.',
    fix: 'Add the e-mail, login or subject to gateway.dmPolicies.allowlist, or one of its groups to gateway.groupPolicies.allowedGroups.',
  },
  PAIRING_NEEDED: {
    status: 403,
    say: 'The owner has to let this identity in: give them the pairing code.',
    fix: 'Run "hardshell pairing approve gateway CODE" if you know who it is.',
  },
  FUNNEL_DENIED: {
    status: 403,
    say: 'Requests from the internet are not served here.',
    fix: 'Run "tailscale funnel reset", or set gateway.auth.tailscale.allowFunnel if the internet is meant to reach this.',
  },
  SCOPE_MISSING: {
    status: 403,
    say: 'The credential does not allow this request.',
    fix: 'Use a token with the scope that the request needs; see "hardshell token list".',
  },
  METHOD_NOT_ALLOWED: {
    status: 405,
    say: 'This method is not allowed.',
    fix: 'Use GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.',
  },
  REQUEST_TIMEOUT: {
    status: 408,
    say: 'The request arrived too slowly.',
    fix: 'See security.limits.headerTimeout and security.limits.bodyTimeout.',
  },
  SUCCESSOR_NOT_DUE: {
    status: 409,
    say: 'This token has no successor yet.',
    fix: 'Ask again when the token has reached its age (gateway.auth.tokenRotation); see "hardshell token list".',
  },
  SUCCESSOR_TAKEN: {
    status: 409,
    say: 'The successor of this token was handed out already.',
    fix: 'Who does not know where it went: "hardshell token revoke" by name ends both, "hardshell token new" starts anew.',
  },
  SUCCESSOR_NONE: {
    status: 409,
    say: 'This credential has no successor.',
    fix: 'Only tokens of "hardshell token new" are renewed here; docs/rotation.md has the way for the others.',
  },
  BODY_TOO_LARGE: {
    status: 413,
    say: 'The request body is too large.',
    fix: 'See security.maxRequestSize.',
  },
  URL_TOO_LONG: {
    status: 414,
    say: 'The request target is too long.',
    fix: 'See security.limits.maxUrlLength.',
  },
  EXPECTATION_FAILED: {
    status: 417,
    say: 'The expectation is not supported.',
    fix: 'Send "Expect: 100-continue" or no Expect header.',
  },
  HOST_DENIED: {
    status: 421,
    say: 'This host name is not served here.',
    fix: 'Add the origin that clients use, for example "https://box.tailnet.ts.net", to gateway.publicOrigins.',
  },
  WEBSOCKET_VERSION: {
    status: 426,
    say: 'Only WebSocket version 13 is supported.',
    fix: 'Send "Sec-WebSocket-Version: 13".',
  },
  RATE_LIMITED: {
    status: 429,
    say: 'Too many requests.',
    fix: 'Wait as long as Retry-After says; see security.rateLimiting.',
  },
  AUTH_LOCKED: {
    status: 429,
    say: 'Too many failed attempts.',
    fix: 'Wait as long as Retry-After says; see security.rateLimiting.authFailures.',
  },
  LOGIN_BUSY: {
    status: 429,
    say: 'Too many logins at once.',
    fix: 'Wait as long as Retry-After says; passwords are compared one at a time.',
  },
  TOO_MANY_SOCKETS: {
    status: 429,
    say: 'Too many open connections.',
    fix: 'Close some; see security.limits.webSocket.maxPerIdentity and maxPerAddress.',
  },
  HEADERS_TOO_LARGE: {
    status: 431,
    say: 'The request headers are too large.',
    fix: 'See security.limits.maxHeaderSize and security.limits.maxHeaders.',
  },
  TRANSFER_CODING: {
    status: 501,
    say: 'This transfer coding is not supported.',
    fix: 'Use "Transfer-Encoding: chunked" alone.',
  },
  AGENT_DOWN: {
    status: 502,
    say: 'The agent does not answer.',
    fix: 'See "hardshell agent status" and "hardshell agent logs".',
  },
  AGENT_ANSWER_INVALID: {
    status: 502,
    say: 'The agent gave an answer that is not valid HTTP.',
    fix: 'See "hardshell agent logs"; the log names the parser rule under the request id.',
  },
  AGENT_STARTING: {
    status: 503,
    say: 'The agent is starting.',
    fix: 'Try again after Retry-After; see "hardshell agent status".',
  },
  AUDIT_UNAVAILABLE: {
    status: 503,
    say: 'The request cannot be recorded.',
    fix: 'Free space on the disk of the audit folder or mend its mode; service resumes by itself.',
  },
  GATE_FAILED: {
    status: 503,
    say: 'The request cannot be judged.',
    fix: 'See the log under the request id; a gate that fails is a no.',
  },
  LOCKDOWN: {
    status: 503,
    say: 'This gateway is locked down.',
    fix: 'Run "hardshell lockdown off" when it is safe.',
  },
  OVERLOADED: {
    status: 503,
    say: 'Too many connections or requests at once.',
    fix: 'Try again after Retry-After; the log says under the request id what there was too much of.',
  },
  AGENT_TIMEOUT: {
    status: 504,
    say: 'The agent did not answer in time.',
    fix: 'See security.limits.upstreamTimeout.',
  },
  HTTP_VERSION: {
    status: 505,
    say: 'Only HTTP/1.1 and HTTP/1.0 are supported.',
    fix: 'Send the request as HTTP/1.1.',
  },
} as const satisfies Record<string, Row>

/** The stable name of a refusal. */
export type RefusalCode = keyof typeof refusals

/** The row of a refusal: status, sentence for the client, remedy for the owner. */
export function refusalRow(code: RefusalCode): Row {
  return refusals[code]
}

/**
 * A failure at the edge: start-up and the command line. It says on one line what is wrong and what to do.
 * Refusals are values, never this.
 */
export class Failure extends Error {
  /** Stable code, for `--json` and for tests. */
  readonly code: string
  /** Process exit code: 1 for a finding or refusal, 2 for bad usage. */
  readonly exitCode: 1 | 2

  constructor(code: string, message: string, options: { exitCode?: 1 | 2; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Failure'
    this.code = code
    this.exitCode = options.exitCode ?? 1
  }
}

/** The message of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown)
}

/** The `code` of a system or library error (`ENOENT`, `UND_ERR_SOCKET`), or an empty string. */
export function codeOf(thrown: unknown): string {
  if (typeof thrown === 'object' && thrown !== null && 'code' in thrown) {
    return typeof thrown.code === 'string' ? thrown.code : ''
  }
  return ''
}
