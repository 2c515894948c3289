/** Channels as a whole: their people, their webhooks and what the owner can do about them. */
import type { Operations } from '../admin/api.ts'
import type { Agent } from '../agent/agent.ts'
import type { AuditSink } from '../audit/record.ts'
import type { Loaded } from '../config/load.ts'
import { gatewayPairs } from '../config/vouching-rules.ts'
import type { Facts, Gate } from '../gates/gate.ts'
import { limits } from '../limits.ts'
import type { Log } from '../log.ts'
import type { Forwarder } from '../proxy/forward.ts'
import type { Live } from '../proxy/live.ts'
import type { Webhook } from '../proxy/webhook.ts'
import type { Call } from '../senders/outgoing.ts'
import type { People } from '../senders/people.ts'
import type { Store } from '../store/store.ts'
import { clocks } from './clocks.ts'
import type { GatewayPairing } from './gateway-pairing.ts'

/** What the channels are made from. */
export interface ChannelParts {
  readonly store: Store
  readonly audit: AuditSink
  readonly log: Log
  readonly agent: Agent
  readonly forwarder: Forwarder
  readonly live: Live
  readonly configHash: () => string
  /** Calls of services, for tests; else Node's own. */
  readonly call?: Call | undefined
}

/** The open channels. */
export interface Channels {
  /** Undefined where no channel is configured. */
  readonly people: People | undefined
  /** The webhook road behind the head of these gates. */
  readonly webhooks: ((gates: readonly Gate[]) => (facts: Facts) => Webhook | undefined) | undefined
  /** Pairing of identities that others vouch for, where one without an entry may ask. */
  readonly pairing: GatewayPairing | undefined
  readonly operations: Operations
  close(): Promise<void>
}

/** Opens the channels of a configuration that has some, or identities that may ask to be let in. */
export async function openChannels(loaded: Loaded, parts: ChannelParts): Promise<Channels> {
  const none = Object.keys(loaded.config.channels).length === 0
  const pairs = gatewayPairs(loaded.config)
  const [{ openPeople }, { openWebhooks }, { openGatewayPairing }] = await Promise.all([
    import('./people.ts'),
    import('../proxy/webhook.ts'),
    import('./gateway-pairing.ts'),
  ])
  const { people, operations, close } = await openPeople(loaded, parts)
  const pairing = pairs
    ? await openGatewayPairing(loaded, {
        people,
        evidence: parts.audit,
        live: parts.live,
        log: parts.log,
      })
    : undefined
  const { agent: told, gateway } = loaded.config
  const settings = {
    bodyBytes: limits.channelBodyBytes.default,
    bodyTimeMs: limits.channelBodyTimeMs.default,
    bodiesBytes: limits.channelBodiesBytes.default,
    limitsRequests: loaded.config.security.rateLimiting.enabled,
    failuresPerMinute: limits.channelFailuresPerMinute.default,
    forwardedHeaders: told.forwardedHeaders,
    publicOrigins: gateway.publicOrigins,
  }
  const { audit, agent, forwarder, live, configHash } = parts
  const { now, monotonic } = clocks
  const road = { people, audit, agent, forwarder, live, now, monotonic, configHash }
  return {
    people,
    operations,
    webhooks: none ? undefined : (gates) => openWebhooks(settings, { ...road, gates }),
    pairing,
    close,
  }
}
