/** Checks of limits: one for each that may be loosened beyond its default. */
import type { Config } from '../config/schema.ts'
import { limits, type Limit } from '../limits.ts'
import { inGroup, ofConfig, when, type Check, type Row, type Severity } from './check.ts'

interface Loosened {
  readonly key: string
  readonly limit: Limit
  readonly of: (config: Config) => number
  /** Smaller is looser. */
  readonly down?: true
  readonly severity?: Severity
}

const wsOf = ({ security }: Config) => security.limits.webSocket
const guesses = (config: Config) => config.security.rateLimiting.authFailures

const rows: readonly Loosened[] = [
  {
    key: 'security.maxRequestSize',
    limit: limits.requestBytes,
    of: (c) => c.security.maxRequestSize,
  },
  {
    key: 'security.rateLimiting.requestsPerMinute',
    limit: limits.requestsPerMinute,
    of: (c) => c.security.rateLimiting.requestsPerMinute,
  },
  {
    key: 'security.rateLimiting.requestsPerMinutePerAddress',
    limit: limits.requestsPerMinutePerAddress,
    of: (c) => c.security.rateLimiting.requestsPerMinutePerAddress,
  },
  {
    key: 'security.rateLimiting.authFailures.attempts',
    limit: limits.authAttempts,
    of: (c) => guesses(c).attempts,
    severity: 'MEDIUM',
  },
  {
    key: 'security.rateLimiting.authFailures.window',
    limit: limits.authWindowMs,
    of: (c) => guesses(c).window,
    down: true,
  },
  {
    key: 'security.rateLimiting.authFailures.lockout',
    limit: limits.authLockoutMs,
    of: (c) => guesses(c).lockout,
    down: true,
  },
  {
    key: 'security.limits.headerTimeout',
    limit: limits.headerTimeMs,
    of: (c) => c.security.limits.headerTimeout,
  },
  {
    key: 'security.limits.bodyTimeout',
    limit: limits.bodyTimeMs,
    of: (c) => c.security.limits.bodyTimeout,
  },
  {
    key: 'security.limits.keepAliveTimeout',
    limit: limits.keepAliveMs,
    of: (c) => c.security.limits.keepAliveTimeout,
  },
  {
    key: 'security.limits.upstreamTimeout',
    limit: limits.upstreamTimeMs,
    of: (c) => c.security.limits.upstreamTimeout,
  },
  {
    key: 'security.limits.maxHeaderSize',
    limit: limits.headerBytes,
    of: (c) => c.security.limits.maxHeaderSize,
  },
  {
    key: 'security.limits.maxHeaders',
    limit: limits.headers,
    of: (c) => c.security.limits.maxHeaders,
  },
  {
    key: 'security.limits.maxUrlLength',
    limit: limits.urlBytes,
    of: (c) => c.security.limits.maxUrlLength,
  },
  {
    key: 'security.limits.maxConnections',
    limit: limits.connections,
    of: (c) => c.security.limits.maxConnections,
  },
  {
    key: 'security.limits.maxConnectionsPerAddress',
    limit: limits.connectionsPerAddress,
    of: (c) => c.security.limits.maxConnectionsPerAddress,
  },
  {
    key: 'security.limits.maxRequestsPerConnection',
    limit: limits.requestsPerConnection,
    of: (c) => c.security.limits.maxRequestsPerConnection,
  },
  {
    key: 'security.limits.webSocket.maxMessageSize',
    limit: limits.wsMessageBytes,
    of: (c) => wsOf(c).maxMessageSize,
  },
  {
    key: 'security.limits.webSocket.messagesPerMinute',
    limit: limits.wsMessagesPerMinute,
    of: (c) => wsOf(c).messagesPerMinute,
  },
  {
    key: 'security.limits.webSocket.idleTimeout',
    limit: limits.wsIdleMs,
    of: (c) => wsOf(c).idleTimeout,
  },
  {
    key: 'security.limits.webSocket.maxPerIdentity',
    limit: limits.wsPerIdentity,
    of: (c) => wsOf(c).maxPerIdentity,
  },
  {
    key: 'security.limits.webSocket.maxPerAddress',
    limit: limits.wsPerAddress,
    of: (c) => wsOf(c).maxPerAddress,
  },
]

/** `limits.max-request-size` for `security.maxRequestSize`. */
const idOf = (key: string) =>
  `limits.${key
    .split('.')
    .slice(key.includes('webSocket') || key.includes('authFailures') ? -2 : -1)
    .join('-')
    .replaceAll(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

const loosened = rows.map(({ key, limit, of, down, severity = 'LOW' }): Row => {
  const looser = (value: number) => (down === true ? value < limit.default : value > limit.default)
  return {
    id: idOf(key),
    severity,
    title: `${key} is not looser than its default`,
    remedy: `Remove ${key}, or suppress this finding with the reason why it is needed.`,
    look: ofConfig((config) => {
      const value = of(config)
      return when(looser(value), `${key} is ${value}, looser than the default ${limit.default}`)
    }),
  }
})

/** Limits that are off, and each that is looser than its default. */
export const limitChecks: readonly Check[] = inGroup('limits', [
  {
    id: 'limits.rate-limiting-off',
    severity: 'HIGH',
    title: 'Requests are limited',
    remedy: 'Set security.rateLimiting.enabled to true and raise requestsPerMinute instead.',
    look: ofConfig(({ security }) =>
      when(!security.rateLimiting.enabled, 'security.rateLimiting.enabled is false'),
    ),
  },
  {
    id: 'limits.websocket-opaque',
    severity: 'MEDIUM',
    title: 'WebSocket messages are limited',
    remedy: 'Set agent.websocket to "framed".',
    look: ofConfig(({ agent }) =>
      when(agent.websocket === 'opaque', 'agent.websocket is "opaque", without message limits'),
    ),
  },
  {
    id: 'limits.sender-budget',
    severity: 'LOW',
    title: 'The budget of one sender is not larger than its default',
    remedy: 'Lower messagesPerMinute to 20 and messagesPerDay to 500.',
    look: ofConfig(({ channels }) =>
      Object.entries(channels)
        .filter(([, one]) => one.messagesPerMinute > 20 || one.messagesPerDay > 500)
        .map(([name]) => ({ found: `channels.${name} lets one sender say more than the default` })),
    ),
  },
  ...loosened,
])
