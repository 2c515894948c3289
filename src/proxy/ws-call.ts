/** What an upgrade is given and what it leaves behind: the contract of `openTunnel` and `openOpaque`. */
import type { IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'

import type { AgentAddress } from '../agent/agent.ts'
import type { RefusalCode } from '../errors.ts'
import type { Facts, Identity } from '../gates/gate.ts'
import type { LiveEnd } from './live.ts'

/** An upgrade that every gate let through and that the audit log has. */
export interface UpgradeCall {
  readonly facts: Facts
  readonly identity: Identity
  readonly request: IncomingMessage
  readonly socket: Duplex
  /** Bytes that arrived behind the handshake: frames, never a request. */
  readonly head: Buffer
  /** Flat end-to-end headers for the agent, cleaned, without `sec-websocket-*`, `connection` and `upgrade`. */
  readonly headers: readonly string[]
}

/** How an upgrade ended. */
export interface TunnelEnd {
  /** 101, or the status of the answer given instead; 0 when the client left before any answer. */
  readonly status: number
  readonly code?: RefusalCode
  /** Close code sent to or received from the client; 1005 and 1006 mean that none was on the wire. */
  readonly closeCode?: number
  /** Payload bytes of messages (framed), bytes after the handshake (opaque), or the body of a refusal of the agent. */
  readonly bytesToClient: number
  readonly bytesToAgent: number
  /** In words of ours. */
  readonly because: string
}

/** Limits of one WebSocket; `now` is in ms and never goes back. */
export interface TunnelSettings {
  readonly address: AgentAddress
  /** Of one message over all its fragments, in both directions. */
  readonly maxMessageBytes: number
  /** Messages, pings and unasked pongs of the client. */
  readonly messagesPerMinute: number
  readonly idleMs: number
  /** For the whole handshake with the agent, a refusal's body included. */
  readonly handshakeMs: number
  readonly now: () => number
}

/** What to answer an upgrade that waited for the agent, if not to go on. */
export function refusalAfterWait(
  state: 'ready' | 'starting' | 'down',
  ended: LiveEnd | undefined,
): RefusalCode | undefined {
  if (ended === 'lockdown') return 'LOCKDOWN'
  if (ended === 'drain') return 'OVERLOADED'
  if (ended !== undefined) return 'UNAUTHENTICATED'
  if (state === 'ready') return undefined
  return state === 'starting' ? 'AGENT_STARTING' : 'AGENT_DOWN'
}
