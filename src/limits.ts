/** Every bound of Hardshell: default, maximum and reason. Zero never means "off". */

declare const unit: unique symbol
/** A size in bytes. */
export type Bytes = number & { readonly [unit]?: 'bytes' }
/** A duration in milliseconds. */
export type Millis = number & { readonly [unit]?: 'ms' }

/** One bound: `min <= value <= max`; `why` is the sentence for docs/configuration.md. */
export interface Limit {
  readonly default: number
  readonly min: number
  readonly max: number
  readonly why: string
}

/** `n` kibibytes in bytes. */
export const KiB = (n: number): Bytes => n * 1024
/** `n` mebibytes in bytes. */
export const MiB = (n: number): Bytes => n * 1024 ** 2
/** `n` gibibytes in bytes. */
export const GiB = (n: number): Bytes => n * 1024 ** 3
/** `n` seconds in milliseconds. */
export const seconds = (n: number): Millis => n * 1000
/** `n` minutes in milliseconds. */
export const minutes = (n: number): Millis => n * 60_000
/** `n` hours in milliseconds. */
export const hours = (n: number): Millis => n * 3_600_000
/** `n` days in milliseconds. */
export const days = (n: number): Millis => n * 86_400_000

export const limits = {
  requestBytes: {
    default: MiB(10),
    min: 1,
    max: GiB(4),
    why: 'The agent reads bodies into memory; the seed asks for 10 MB.',
  },
  headerBytes: {
    default: KiB(16),
    min: KiB(1),
    max: KiB(32),
    why: 'llhttp holds the whole head in memory before any gate runs.',
  },
  headers: {
    default: 100,
    min: 10,
    max: 1000,
    why: 'Each header costs a comparison; CVE-2024-37890 is a header flood.',
  },
  urlBytes: {
    default: KiB(8),
    min: 128,
    max: KiB(16),
    why: 'RFC 9110 §4.1 recommends at least 8,000 octets.',
  },
  headerTimeMs: {
    default: seconds(10),
    min: seconds(1),
    max: minutes(2),
    why: 'A slow head holds a socket (slowloris).',
  },
  bodyTimeMs: {
    default: seconds(30),
    min: seconds(1),
    max: hours(1),
    why: 'A body slower than this needs the rate floor below.',
  },
  bodyRateFloorBytesPerSecond: {
    default: KiB(16),
    min: 1,
    max: MiB(10),
    why: 'Beyond bodyTime a body must have kept this average, so that large honest uploads pass.',
  },
  keepAliveMs: {
    default: seconds(5),
    min: seconds(1),
    max: minutes(10),
    why: 'Idle connections hold descriptors.',
  },
  upstreamTimeMs: {
    default: minutes(5),
    min: seconds(1),
    max: hours(1),
    why: 'Agents think long; beyond this a client should know.',
  },
  upstreamIdleMs: {
    default: minutes(5),
    min: seconds(1),
    max: hours(1),
    why: 'A stream that says nothing for this long is dead.',
  },
  clientStallMs: {
    default: minutes(2),
    min: seconds(1),
    max: minutes(10),
    why: 'A client that takes nothing holds the agent. The kernel buffers megabytes, so a slow honest one shows no progress for a while.',
  },
  upstreamConnectMs: {
    default: seconds(2),
    min: 100,
    max: seconds(30),
    why: 'The agent is on this machine.',
  },
  connections: {
    default: 1024,
    min: 16,
    max: 100_000,
    why: 'Each holds a descriptor and about 14 KB.',
  },
  connectionsPerAddress: {
    default: 64,
    min: 1,
    max: 100_000,
    why: 'One address must not take all connections.',
  },
  requestsPerConnection: {
    default: 1000,
    min: 1,
    max: 1_000_000,
    why: 'Bounds pipelining and the life of a connection.',
  },
  requestsPerMinute: {
    default: 60,
    min: 1,
    max: 10_000_000,
    why: 'Per identity; the seed asks for 60.',
  },
  requestsPerMinutePerAddress: {
    default: 300,
    min: 1,
    max: 10_000_000,
    why: 'Counts every request; refuses only those without a valid credential.',
  },
  authAttempts: {
    default: 5,
    min: 1,
    max: 1000,
    why: 'Wrong credentials from one address before it is locked.',
  },
  authWindowMs: {
    default: minutes(5),
    min: seconds(10),
    max: hours(24),
    why: 'Wrong credentials older than this do not count.',
  },
  authLockoutMs: {
    default: minutes(5),
    min: seconds(10),
    max: hours(1),
    why: 'First lockout; it doubles up to one hour.',
  },
  wsMessageBytes: {
    default: MiB(1),
    min: 125,
    max: MiB(64),
    why: 'Counted over all fragments (RFC 6455 §10.4).',
  },
  wsMessagesPerMinute: {
    default: 600,
    min: 1,
    max: 1_000_000,
    why: 'Messages and control frames of one socket.',
  },
  wsIdleMs: {
    default: minutes(10),
    min: seconds(10),
    max: hours(24),
    why: 'A silent socket holds two descriptors.',
  },
  wsPerIdentity: {
    default: 16,
    min: 1,
    max: 100_000,
    why: 'One identity must not take all sockets.',
  },
  wsPerAddress: { default: 64, min: 1, max: 100_000, why: 'Sockets behind one hop share this.' },
  addresses: {
    default: 10_000,
    min: 100,
    max: 1_000_000,
    why: 'Addresses remembered for limits and lockouts, least recently used out first.',
  },
  gateTimeMs: {
    default: seconds(5),
    min: 100,
    max: seconds(30),
    why: 'A gate that takes longer is a no.',
  },
  heldRequests: {
    default: 64,
    min: 1,
    max: 1000,
    why: 'Requests held while the agent starts; the rest get 503.',
  },
  heldMs: {
    default: seconds(30),
    min: seconds(1),
    max: minutes(5),
    why: 'How long a request waits for a starting agent.',
  },
  auditQueueRecords: {
    default: 10_000,
    min: 100,
    max: 1_000_000,
    why: 'Records waiting for the kernel; beyond it nothing is forwarded.',
  },
  auditFileBytes: {
    default: MiB(100),
    min: KiB(64),
    max: GiB(4),
    why: 'An audit file rotates at this size.',
  },
  auditKeepFiles: {
    default: 50,
    min: 2,
    max: 100_000,
    why: 'Rotated audit files kept before the oldest is removed.',
  },
  auditValueChars: {
    default: 256,
    min: 64,
    max: 1024,
    why: 'Any client-chosen string in a record is cut here (CWE-117).',
  },
  tokens: { default: 1000, min: 1, max: 100_000, why: 'Tokens in the store.' },
  passwordMemory: {
    default: MiB(64),
    min: MiB(19),
    max: MiB(256),
    why: 'Memory of one argon2id hash: too little is guessed cheaply, too much starves the machine.',
  },
  passwordPasses: {
    default: 3,
    min: 1,
    max: 10,
    why: 'Passes of argon2id; each costs the time of all memory once.',
  },
  passwordLanes: {
    default: 4,
    min: 1,
    max: 8,
    why: 'Lanes of argon2id; each is a thread while a password is compared.',
  },
  passwordWaiting: {
    default: 8,
    min: 1,
    max: 64,
    why: 'Logins that wait while one password is compared; the rest get 429.',
  },
  passwordBytes: {
    default: 256,
    min: 12,
    max: 256,
    why: 'Every character of a password may take three bytes in the form that carries it.',
  },
  loginBytes: {
    default: KiB(4),
    min: KiB(4),
    max: KiB(4),
    why: 'A login is a password and a path.',
  },
  sessions: {
    default: 1000,
    min: 1,
    max: 100_000,
    why: 'Sessions in the store; beyond it the one that expires first ends.',
  },
  sessionLifeMs: {
    default: days(7),
    min: minutes(5),
    max: days(30),
    why: 'A browser session ends after this, however much it is used.',
  },
  sessionIdleMs: {
    default: hours(12),
    min: minutes(5),
    max: days(30),
    why: 'A browser session that nothing uses ends after this; an open WebSocket is a use.',
  },
  sessionTokenMs: {
    default: hours(1),
    min: minutes(1),
    max: hours(24),
    why: 'The token of a login without a browser lives this long.',
  },
  channelBodyBytes: {
    default: MiB(1),
    min: KiB(1),
    max: MiB(16),
    why: 'A webhook is held whole until it is proven; services send less.',
  },
  channelBodyTimeMs: {
    default: seconds(10),
    min: seconds(1),
    max: minutes(1),
    why: 'Services send a webhook in one piece.',
  },
  channelBodiesBytes: {
    default: MiB(64),
    min: MiB(1),
    max: GiB(1),
    why: 'All webhooks held at once; beyond it a service is asked to come again.',
  },
  channelRequestsPerMinute: {
    default: 600,
    min: 1,
    max: 1_000_000,
    why: 'Proven webhooks of one account; the service delivers the rest again.',
  },
  channelFailuresPerMinute: {
    default: 60,
    min: 1,
    max: 1_000_000,
    why: 'Unproven webhooks of one account that are answered with 401; the rest get 429.',
  },
  replayKeepMs: {
    default: days(3),
    min: hours(1),
    max: days(30),
    why: 'How long a delivery is known; longer than any service repeats one.',
  },
  replayKeys: {
    default: 4_194_304,
    min: 1000,
    max: 67_108_864,
    why: 'Deliveries known at once, 11 to 22 bytes each: 970 a minute for three days; beyond it the oldest are forgotten early.',
  },
  senders: {
    default: 10_000,
    min: 100,
    max: 1_000_000,
    why: 'Senders remembered for their budgets, least recently used out first.',
  },
  pairingPending: {
    default: 100,
    min: 1,
    max: 10_000,
    why: 'Codes pending for one account; strangers must not fill the list against each other.',
  },
  pairingPerHour: {
    default: 10,
    min: 1,
    max: 10_000,
    why: 'New codes an hour of one account; beyond it strangers are ignored and the owner is told.',
  },
  pairingLifeMs: {
    default: hours(1),
    min: minutes(1),
    max: days(1),
    why: 'A code is read to the owner soon, or never.',
  },
  pairingAttempts: {
    default: 5,
    min: 1,
    max: 100,
    why: 'Wrong codes before approvals of a channel pause (CWE-307).',
  },
  pairingPauseMs: {
    default: minutes(5),
    min: seconds(10),
    max: hours(1),
    why: 'How long approvals pause after too many wrong codes.',
  },
  replyQueue: {
    default: 100,
    min: 1,
    max: 10_000,
    why: 'Answers waiting for a service; the newest are dropped beyond it.',
  },
  replyAttempts: {
    default: 4,
    min: 1,
    max: 10,
    why: 'A service that does not take an answer by then has it never.',
  },
  agentLogLines: { default: 200, min: 1, max: 10_000, why: 'Lines that "agent logs" shows.' },
} as const satisfies Record<string, Limit>
