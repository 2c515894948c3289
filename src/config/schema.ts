/** The one table of settings. Types, JSON Schema, docs, `config show` and the example files come from it. */
import { KiB, days, hours, limits, minutes, seconds } from '../limits.ts'
import type { Limit } from '../limits.ts'
import {
  bindAddress,
  choice,
  count,
  duration,
  flag,
  list,
  map,
  origin,
  size,
  text,
  undefinedYet,
  upstream,
  urlPath,
} from './readers.ts'
import { accountRows, channelRows, secretText, senderEntry } from './channel-rows.ts'
import { key, optional, under, valuesLater } from './row.ts'
import { sandboxRows } from './sandbox-rows.ts'
import { hopNetwork, jwtRows, tailscaleRows } from './vouching-rows.ts'
import type { Nested, Row, Table } from './row.ts'

/** Bounds that no part of the program but a row here needs. */
const bounds = {
  port: { min: 1, max: 65_535 },
  rotation: { min: hours(1), max: days(366) },
  grace: { min: seconds(1), max: days(30) },
  interval: { min: seconds(1), max: hours(24) },
} as const satisfies Record<string, Pick<Limit, 'min' | 'max'>>

const absolute = text('an absolute path', {
  pattern: /^\/[^\u0000-\u001f\u007f]*$/,
  remedy: 'Start it with "/".',
})
const filePath = text('a path')
const name = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/

const egressLater = { what: 'the egress allow-list' }
const operatingLater = { what: 'monitoring, syslog, Redis and the console' }
const openclawLater = { what: "OpenClaw's own protocol" }

/** The reason of a limit is its doc sentence; `doc` comes first where the reason alone does not say what it is. */
const counted = (limit: Limit, doc?: string): Row<number> =>
  key(count(limit), limit.default, sentence(limit, doc))
const sized = (
  limit: Limit,
  doc?: string,
  more: { readonly restart?: boolean } = {},
): Row<number> => key(size(limit), limit.default, sentence(limit, doc), more)
const timed = (limit: Limit, doc?: string): Row<number> =>
  key(duration(limit), limit.default, sentence(limit, doc))

function sentence({ why }: Limit, doc?: string): string {
  return doc === undefined ? why : `${doc} ${why}`
}

/** Every key of the configuration, by path. */
export const settings = {
  'gateway.bind': key(bindAddress, '127.0.0.1', 'The address on which clients reach Hardshell.', {
    restart: true,
  }),
  'gateway.dangerouslyBindAllInterfaces': key(
    flag,
    false,
    'Allows bind to be "0.0.0.0" or "::", which every network of the machine can reach.',
    { restart: true },
  ),
  'gateway.port': key(
    count({ min: 0, max: 65_535 }),
    8080,
    'The TCP port on which clients reach Hardshell; 0 lets the system choose a free one.',
    { restart: true },
  ),
  'gateway.publicOrigins': key(
    list(origin, { max: 100 }),
    [],
    'Origins under which browsers and tunnels reach Hardshell; their hosts pass the Host check.',
  ),
  'gateway.trustedProxies': key(
    list(hopNetwork, { max: 100 }),
    [],
    'Hops in front of Hardshell whose word about the client is believed: addresses and networks.',
  ),
  'gateway.healthPath': key(
    urlPath,
    '/health',
    'The path that answers with the health of Hardshell; it needs a credential like any other.',
  ),
  'gateway.auth.mode': key(
    choice(['token', 'password', 'jwt']),
    'token',
    'How clients prove who they are.',
    { restart: true },
  ),
  'gateway.auth.token': optional(secretText, 'The token that clients send as a bearer token.', {
    secret: true,
    env: ['HARDSHELL_TOKEN', 'MOLTBOT_TOKEN', 'CLAWDBOT_GATEWAY_TOKEN', 'OPENCLAW_GATEWAY_TOKEN'],
  }),
  'gateway.auth.tokenFile': optional(
    filePath,
    'A file that holds the token, beside the configuration file unless the path is absolute; a change is taken over at once.',
  ),
  'gateway.auth.tokenRotation': key(
    duration(bounds.rotation),
    days(30),
    'The greatest age of a token: past it a managed token has a successor, and a configured one must be replaced.',
  ),
  'gateway.auth.rotationGrace': optional(
    duration(bounds.grace),
    'How long the old token stays good after a rotation; a tenth of tokenRotation and at most "24h" when it is not set.',
  ),
  'gateway.auth.passwordHash': optional(
    text('an argon2id PHC string', {
      pattern:
        /^\$argon2id\$v=19\$m=\d+,[tp]=\d+,[tp]=\d+\$[A-Za-z0-9+/]{11,}\$[A-Za-z0-9+/]{16,}$/,
      code: 'PASSWORD_HASH',
      remedy: 'Print one with "hardshell auth hash-password"; an elided "..." is not a hash.',
    }),
    'The argon2id hash of the password.',
    { secret: true, restart: true },
  ),
  ...under('gateway.auth.jwt', jwtRows),
  ...under('gateway.auth.tailscale', tailscaleRows),
  'gateway.dmPolicies.enabled': key(
    flag,
    true,
    "Applies the gateway's own list of people; false leaves it to each channel, never open.",
  ),
  'gateway.dmPolicies.allowlist': key(
    list(senderEntry),
    [],
    'People who are served: senders and identities that others vouch for.',
  ),
  'gateway.dmPolicies.denyByDefault': key(
    flag,
    true,
    'People without an entry are not served, whatever it says: false never admits anybody. It lets identities that a JWT or Tailscale proves ask to pair; senders on channels ask as dm.policy says.',
  ),
  'gateway.groupPolicies.enabled': key(flag, true, "Applies the gateway's own list of groups."),
  'gateway.groupPolicies.allowedGroups': key(
    list(text('a group')),
    [],
    'Groups that are served; empty means none but those that a channel lists itself.',
  ),
  'gateway.groupPolicies.mentionGating': key(
    flag,
    true,
    'A group message reaches the agent only if it mentions the bot.',
  ),
  'gateway.controlUi.allowInsecureAuth': optional(
    flag,
    'Deprecated and never honoured: it is accepted only to be reported.',
  ),
  'gateway.controlUi.dangerouslyDisableDeviceAuth': optional(
    flag,
    'Deprecated and never honoured: it is accepted only to be reported.',
  ),
  'security.followSymlinks': key(
    flag,
    false,
    'Lets the configuration and the files that it names be symbolic links; keys, state and audit log never are.',
  ),
  'security.auditLogging': key(flag, true, 'Records every decision before it takes effect.'),
  'security.audit.sync': key(
    choice(['batch', 'always']),
    'batch',
    'When records reach the disk: every 50 ms, or before each request goes on.',
  ),
  'security.audit.rotate': sized(limits.auditFileBytes),
  'security.audit.keep': counted(limits.auditKeepFiles),
  'security.maxRequestSize': sized(limits.requestBytes, 'The largest request body.'),
  'security.rateLimiting.enabled': key(
    flag,
    true,
    'Limits requests per identity and address; lockout after wrong credentials stays on.',
  ),
  'security.rateLimiting.requestsPerMinute': counted(
    limits.requestsPerMinute,
    'Requests a minute of one identity.',
  ),
  'security.rateLimiting.requestsPerMinutePerAddress': counted(
    limits.requestsPerMinutePerAddress,
    'Requests a minute of one address.',
  ),
  'security.rateLimiting.authFailures.attempts': counted(limits.authAttempts),
  'security.rateLimiting.authFailures.window': timed(limits.authWindowMs),
  'security.rateLimiting.authFailures.lockout': timed(limits.authLockoutMs),
  'security.paths.allow': key(
    list(urlPath),
    ['/'],
    'Prefixes on the canonical path that may be requested.',
  ),
  'security.paths.deny': key(
    list(urlPath),
    [],
    'Prefixes on the canonical path that are refused, before allow is asked.',
  ),
  'security.limits.headerTimeout': timed(limits.headerTimeMs, 'Time for the head of a request.'),
  'security.limits.bodyTimeout': timed(limits.bodyTimeMs, 'Time for the body of a request.'),
  'security.limits.keepAliveTimeout': timed(
    limits.keepAliveMs,
    'How long a connection may be idle between requests.',
  ),
  'security.limits.upstreamTimeout': timed(
    limits.upstreamTimeMs,
    'How long the agent may take to begin its answer.',
  ),
  'security.limits.maxHeaderSize': sized(limits.headerBytes, 'All headers of a request.', {
    restart: true,
  }),
  'security.limits.maxHeaders': counted(limits.headers, 'Number of headers of a request.'),
  'security.limits.maxUrlLength': sized(limits.urlBytes, 'Length of the request target.'),
  'security.limits.maxConnections': counted(limits.connections, 'Connections at once.'),
  'security.limits.maxConnectionsPerAddress': counted(
    limits.connectionsPerAddress,
    'Connections at once from one address.',
  ),
  'security.limits.maxRequestsPerConnection': counted(
    limits.requestsPerConnection,
    'Requests on one connection before it closes.',
  ),
  'security.limits.webSocket.maxMessageSize': sized(
    limits.wsMessageBytes,
    'The largest WebSocket message.',
  ),
  'security.limits.webSocket.messagesPerMinute': counted(
    limits.wsMessagesPerMinute,
    'Messages a minute on one WebSocket.',
  ),
  'security.limits.webSocket.idleTimeout': timed(
    limits.wsIdleMs,
    'How long a WebSocket may be silent.',
  ),
  'security.limits.webSocket.maxPerIdentity': counted(
    limits.wsPerIdentity,
    'WebSockets at once of one identity.',
  ),
  'security.limits.webSocket.maxPerAddress': counted(
    limits.wsPerAddress,
    'WebSockets at once from one address.',
  ),
  ...under('channels.*', channelRows),
  ...under('channels.*.accounts.*', accountRows),
  'agent.upstream': optional(
    upstream,
    'Where an agent that already runs answers; http://127.0.0.1:18789 when neither this nor agent.image is set.',
    { restart: true },
  ),
  'agent.image': optional(
    text('an image reference', {
      pattern: /^[a-z0-9][A-Za-z0-9._\-/:]*(@sha256:[0-9a-f]{64})?$/,
      remedy: 'Use a reference like "my-bot:1.2" or "my-bot@sha256:…".',
    }),
    'The container image of the agent, which Hardshell launches in a sandbox.',
    { restart: true },
  ),
  'agent.command': optional(
    list(text('an argument'), { max: 100, distinct: false }),
    "Replaces the image's entry point.",
    { restart: true },
  ),
  'agent.args': optional(
    list(text('an argument'), { max: 1000, distinct: false }),
    "Replaces the image's arguments.",
    { restart: true },
  ),
  'agent.env': key(
    map(name, secretText),
    {},
    'Variables of the agent; Hardshell adds none of its own secrets.',
    { secret: true, restart: true },
  ),
  'agent.workdir': optional(absolute, 'The working folder inside the sandbox.', { restart: true }),
  'agent.port': key(
    count(bounds.port),
    18_789,
    "The port on which the agent in the sandbox listens; OpenClaw's unless said otherwise.",
    { restart: true },
  ),
  'agent.healthPath': optional(
    urlPath,
    'A path of the agent that answers 2xx when it is ready; without it an open port is enough.',
    { restart: true },
  ),
  'agent.workspace': optional(
    absolute,
    'A folder of this machine that the agent may write, mounted at the same path.',
    { restart: true },
  ),
  'agent.protocol': key(choice(['http', 'openclaw']), 'http', 'What the agent speaks.', {
    restart: true,
    since: valuesLater(openclawLater, 'openclaw'),
  }),
  'agent.websocket': key(
    choice(['framed', 'opaque']),
    'framed',
    'Relays WebSockets frame by frame with message limits, or as opaque bytes without them.',
    { restart: true },
  ),
  'agent.token': optional(
    secretText,
    "The agent's own credential, sent to it in place of the client's.",
    { secret: true },
  ),
  'agent.forwardedHeaders': key(
    flag,
    false,
    'Tells the agent the client address in X-Forwarded-* headers; OpenClaw answers 403 to them.',
  ),
  'agent.profile': key(
    choice(['auto', 'trusted-proxy', 'password', 'token']),
    'auto',
    'How OpenClaw is told who the client is.',
    { since: openclawLater },
  ),
  owners: key(list(senderEntry), [], "The owner's own identities and senders."),
  ...under('agents.defaults.sandbox', sandboxRows),
  'egress.mode': key(
    choice(['deny', 'allowlist']),
    'deny',
    'Whether the cell may reach anything outside.',
    { since: valuesLater(egressLater, 'allowlist') },
  ),
  'egress.allow': key(list(text('host or host:port')), [], 'Hosts that the cell may reach.', {
    since: egressLater,
  }),
  'egress.inject': optional(undefinedYet, 'Credentials that are put in on the way out.', {
    since: egressLater,
  }),
  'plugins.enabled': key(
    list(text('a plugin')),
    [],
    'Plugins that the cell sees, read-only, under /plugins: trusted with "hardshell plugins trust".',
    { restart: true },
  ),
  'plugins.disabled': key(list(text('a plugin')), [], 'Plugins that the cell never sees.', {
    restart: true,
  }),
  'plugins.trustLevel': key(
    choice(['verified-only']),
    'verified-only',
    'Which plugins may be enabled: only those whose signed hash matches.',
  ),
  'plugins.dir': optional(absolute, 'The folder of plugins.', { restart: true }),
  ...under('monitoring', {
    enabled: key(flag, false, 'Sends health and audit checkpoints out.', { since: operatingLater }),
    endpoint: optional(text('a URL'), 'Where they are sent.', {
      env: ['MONITORING_URL'],
      since: operatingLater,
    }),
    interval: key(duration(bounds.interval), minutes(1), 'How often they are sent.', {
      since: operatingLater,
    }),
    secret: optional(secretText, 'The key that signs what is sent.', {
      secret: true,
      since: operatingLater,
    }),
  }),
  'syslog.enabled': key(flag, false, 'Sends events to syslog.', { since: operatingLater }),
  'syslog.endpoint': optional(text('an address'), 'Where syslog listens.', {
    since: operatingLater,
  }),
  'state.redis': optional(secretText, 'The URL of a Redis that sidecars share.', {
    secret: true,
    since: operatingLater,
  }),
  'admin.console': key(flag, false, 'Serves the web console.', { since: operatingLater }),
  'admin.port': key(count(bounds.port), 8081, 'The port of the web console.', {
    since: operatingLater,
  }),
} as const satisfies Table

/** The whole configuration: nested as the file is, deeply read-only, sizes in bytes, durations in milliseconds. */
export type Config = Nested<typeof settings>

/** OpenClaw spellings that mean the same as a key of ours: from, to. */
export const spellings: Readonly<Record<string, string>> = {
  'channels.*.dmPolicy': 'channels.*.dm.policy',
  'channels.*.dm.allowFrom': 'channels.*.allowFrom',
  'channels.*.accounts.*.dmPolicy': 'channels.*.accounts.*.dm.policy',
  'channels.*.accounts.*.dm.allowFrom': 'channels.*.accounts.*.allowFrom',
}

/** Bytes that a configuration file may have. */
export const configBytesMax = KiB(1024)
