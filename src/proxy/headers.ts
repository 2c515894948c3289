/** What goes to the agent and what comes back: always built from facts, never an original mutated. */
import type { Facts } from '../gates/gate.ts'
import { setsOwnCookie } from '../identity/cookies.ts'

/** What the agent is told about itself and about the client. */
export interface AgentHeaderSettings {
  /** The agent's own credential, put in the place of the client's. */
  readonly agentToken: string | undefined
  /** Set `X-Forwarded-*` for agents that read them; OpenClaw answers 403 to them. */
  readonly forwardedHeaders: boolean
}

/** The flat header list for the agent, without framing and connection headers. */
export function headersForAgent(facts: Facts, settings: AgentHeaderSettings): string[] {
  const headers = facts.headers.slice()
  if (settings.agentToken !== undefined) {
    headers.push('Authorization', `Bearer ${settings.agentToken}`)
  }
  headers.push('X-Request-Id', facts.requestId)
  if (settings.forwardedHeaders) {
    headers.push('X-Forwarded-For', facts.peer, 'X-Forwarded-Host', facts.host)
    headers.push('X-Forwarded-Proto', facts.secure === true ? 'https' : 'http')
  }
  return headers
}

/** Not passed back: one connection's own headers (RFC 9110 §7.6.1), what names software, and what we write. */
const droppedBack = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'server',
  'x-powered-by',
  'via',
  'x-request-id',
  'alt-svc',
])

/** An agent's answer as it goes to the client. */
export interface AnswerHeaders {
  readonly flat: string[]
  /** Declared body length, or undefined for a stream. */
  readonly length: number | undefined
  /** The body has a transfer coding besides chunked, or chunked twice: nobody takes that off. */
  readonly coded: boolean
}

/**
 * The headers of an agent's answer, cleaned. `raw` is undici's flat list of buffers; values stay Latin-1 byte for
 * byte. `own` is added, and replaces the agent's headers of the same names.
 */
export function headersForClient(
  raw: readonly Buffer[],
  own: readonly string[],
  status = 200,
): AnswerHeaders {
  const flat: string[] = []
  let length: number | undefined
  let coded = false
  let chunked = false
  let named: Set<string> | undefined
  for (let i = 0; i + 1 < raw.length; i += 2) {
    const name = raw[i]?.toString('latin1') ?? ''
    const lower = name.toLowerCase()
    if (lower === 'connection') {
      for (const part of (raw[i + 1]?.toString('latin1') ?? '').split(',')) {
        const option = part.trim().toLowerCase()
        if (option !== 'close' && option !== 'keep-alive') (named ??= new Set()).add(option)
      }
    }
    if (lower === 'transfer-encoding') {
      coded = chunked || raw[i + 1]?.toString('latin1').trim().toLowerCase() !== 'chunked'
      chunked = true
    }
    if (droppedBack.has(lower) || isOwn(lower, own)) continue
    // RFC 9110 §8.6: never in a 204.
    if (status === 204 && lower === 'content-length') continue
    const value = raw[i + 1]?.toString('latin1') ?? ''
    if (lower === 'set-cookie' && setsOwnCookie(value)) continue
    if (lower === 'content-length') length = Number(value)
    flat.push(name, value)
  }
  if (named !== undefined) {
    for (let i = flat.length - 2; i >= 0; i -= 2) {
      if (named.has((flat[i] ?? '').toLowerCase())) flat.splice(i, 2)
    }
  }
  flat.push(...own)
  return { flat, length, coded }
}

function isOwn(lower: string, own: readonly string[]): boolean {
  if (!lower.startsWith('ratelimit') && lower !== 'retry-after' && lower !== 'sunset') return false
  for (let i = 0; i < own.length; i += 2) if (own[i]?.toLowerCase() === lower) return true
  return false
}
