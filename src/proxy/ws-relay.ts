/** One open WebSocket: messages between client and agent, and every reason to end it. */
import { codeOf } from '../errors.ts'
import { KiB, MiB, minutes, seconds } from '../limits.ts'
import type { Beat, LiveEnd, Ticking } from './live.ts'
import { Bucket } from './ws-bucket.ts'
import type { TunnelEnd, TunnelSettings } from './ws-call.ts'

/** One end of a WebSocket, as the relay uses it; 1 is open, 2 closing (RFC 6455 §7.1). */
export interface Side {
  readonly readyState: 0 | 1 | 2 | 3
  readonly bufferedAmount: number
  send(data: Buffer, options: { readonly binary: boolean }): void
  close(code?: number, reason?: string | Buffer): void
  ping(): void
  pong(data: Buffer): void
  pause(): void
  resume(): void
  terminate(): void
}

/** Above this a source is not read until its destination has drained. */
const bufferedHigh = MiB(1)
const bufferedLow = KiB(64)
/** A ping this often keeps address translations and their like open; it never counts as activity. */
const pingMs = seconds(30)
/** Pings in a row without a sign of life from the client: then it is gone, and its place is free. */
const unansweredMax = 2
/** An ending in which no byte moves for this long is cut. */
const stalledMs = seconds(5)
/** An ending takes no longer than this, however slowly bytes move. */
const endingMs = minutes(1)
/** A client whose right ended is cut at the next beat, so that it is gone within a second. */
const revokedMs = 300

const text = { binary: false } as const
const binary = { binary: true } as const

/** What goes on the wire; no code at all stays no code. */
interface Close {
  readonly code?: number
  readonly reason?: string | Buffer
}

/** What the agent hears whenever the client did not say goodbye itself. */
const leaving: Close = { code: 1001 }
/** What the client hears whenever the agent failed (IANA WebSocket Close Code registry). */
const badGateway: Close = { code: 1014, reason: 'the agent failed' }

/** The close code and the words for the log of a broken stream of frames (RFC 6455 §7.4.1). */
function faultOf(thrown: unknown): { readonly code: number; readonly because: string } {
  const code = codeOf(thrown)
  switch (code) {
    case 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH':
    case 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH':
      return { code: 1009, because: 'sent a message that is too large' }
    case 'WS_ERR_TOO_MANY_BUFFERED_PARTS':
      return { code: 1008, because: 'sent a message in too many parts' }
    case 'WS_ERR_INVALID_UTF8':
      return { code: 1007, because: 'sent invalid UTF-8' }
    default:
      return code.startsWith('WS_ERR_')
        ? { code: 1002, because: `broke the protocol: ${code}` }
        : { code: 1006, because: `lost its connection ${code}`.trim() }
  }
}

/** The codes that mean "none was received" are never sent (RFC 6455 §7.4.1). */
function onTheWire(code: number, reason: Buffer): Close {
  return code === 1005 || code === 1006 ? nothing : { code, reason }
}

const nothing: Close = {}

const revoked = { code: 1008, reason: 'credential no longer valid' }
const toClientAt: Record<LiveEnd, Close> = {
  revoked,
  rotated: revoked,
  lockdown: { code: 1008, reason: 'locked down' },
  drain: { code: 1001, reason: 'going away' },
}

/**
 * Passes messages on whole and ends both sides. Pings are answered here and not passed on, so that each hop proves
 * its own life; a message is activity, a ping or pong is not.
 */
export class Relay implements Ticking {
  readonly #client: Side
  readonly #agent: Side
  readonly #settings: TunnelSettings
  readonly #beat: Beat
  readonly #done: (end: TunnelEnd) => void
  readonly #bucket: Bucket
  #bytesToClient = 0
  #bytesToAgent = 0
  #activeAt: number
  #pingedAt: number
  #unanswered = 0
  #clientPaused = false
  #agentPaused = false
  #clientGone = false
  #agentGone = false
  /** Set when the end has begun. */
  #because: string | undefined
  #closeCode = 1006
  #endBy = 0
  #movedAt = 0
  #pending = 0
  #closingSince: number | undefined

  constructor(
    client: Side,
    agent: Side,
    settings: TunnelSettings,
    beat: Beat,
    done: (end: TunnelEnd) => void,
  ) {
    const now = settings.now()
    this.#client = client
    this.#agent = agent
    this.#settings = settings
    this.#beat = beat
    this.#done = done
    this.#bucket = new Bucket(settings.messagesPerMinute, now)
    this.#activeAt = now
    this.#pingedAt = now
    beat.add(this)
  }

  clientMessage(data: Buffer, isBinary: boolean): void {
    if (!this.#heardClient(true) || this.#agent.readyState !== 1) return
    this.#agent.send(data, isBinary ? binary : text)
    this.#bytesToAgent += data.length
    if (this.#agent.bufferedAmount <= bufferedHigh) return
    this.#clientPaused = true
    this.#client.pause()
  }

  agentMessage(data: Buffer, isBinary: boolean): void {
    if (this.#because !== undefined || this.#client.readyState !== 1) return
    this.#activeAt = this.#settings.now()
    this.#client.send(data, isBinary ? binary : text)
    this.#bytesToClient += data.length
    if (this.#client.bufferedAmount <= bufferedHigh) return
    this.#agentPaused = true
    this.#agent.pause()
  }

  clientPing(data: Buffer): void {
    if (this.#heardClient(false)) answer(this.#client, data)
  }

  agentPing(data: Buffer): void {
    if (this.#because === undefined) answer(this.#agent, data)
  }

  clientPong(): void {
    // An answer to our own ping is free, so that the smallest rate still survives its heartbeat.
    if (this.#unanswered > 0) this.#unanswered = 0
    else this.#heardClient(false)
  }

  clientDrained(): void {
    if (!this.#agentPaused || this.#client.bufferedAmount > bufferedLow) return
    this.#agentPaused = false
    this.#agent.resume()
  }

  agentDrained(): void {
    if (!this.#clientPaused || this.#agent.bufferedAmount > bufferedLow) return
    this.#clientPaused = false
    this.#client.resume()
  }

  /** The library has already sent the client its close frame. */
  clientFault(thrown: unknown): void {
    const { code, because } = faultOf(thrown)
    this.#end(`the client ${because}`, code === 1006 ? nothing : { code }, leaving, code)
  }

  agentFault(thrown: unknown): void {
    const { code, because } = faultOf(thrown)
    this.#end(`the agent ${because}`, badGateway, code === 1006 ? nothing : { code })
  }

  clientClosed(code: number, reason: Buffer): void {
    if (code === 1006) this.#end('the client vanished', nothing, leaving, 1006)
    else this.#end('the client closed', nothing, onTheWire(code, reason), code)
    this.#clientGone = true
    this.#report()
  }

  agentClosed(code: number, reason: Buffer): void {
    if (code === 1006) this.#end('the agent vanished', badGateway, nothing)
    else this.#end('the agent closed', onTheWire(code, reason), nothing, code)
    this.#agentGone = true
    this.#report()
  }

  /** Ends it from outside; from this moment on nothing passes in either direction. */
  end(reason: LiveEnd): void {
    this.#end(reason, toClientAt[reason], leaving)
    if (reason !== 'drain') this.#endBy = Math.min(this.#endBy, this.#settings.now() + revokedMs)
  }

  tick(): void {
    const now = this.#settings.now()
    if (this.#because !== undefined) this.#watchEnding(now)
    else if (this.#client.readyState !== 1 || this.#agent.readyState !== 1) this.#watchClosing(now)
    else if (now - this.#activeAt >= this.#settings.idleMs) {
      this.#end('idle', { code: 1001, reason: 'idle' }, leaving)
    } else if (now - this.#pingedAt >= pingMs) this.#ping(now)
  }

  /** Counts what the client said; false when it may not be passed on. */
  #heardClient(active: boolean): boolean {
    if (this.#because !== undefined) return false
    const now = this.#settings.now()
    this.#unanswered = 0
    if (!this.#bucket.take(now)) {
      this.#end('the client sends too much', { code: 1008, reason: 'too many messages' }, leaving)
      return false
    }
    if (active) this.#activeAt = now
    return true
  }

  #ping(now: number): void {
    this.#pingedAt = now
    // While the client is not read, or is far behind, its silence says nothing.
    if (this.#clientPaused || this.#client.bufferedAmount > 0) {
      this.#unanswered = 0
      return
    }
    if (this.#unanswered >= unansweredMax) {
      this.#end('the client does not answer pings', nothing, leaving, 1006)
      this.#client.terminate()
      return
    }
    this.#unanswered++
    this.#client.ping()
  }

  /** The first reason wins; `code` is for the record where nothing of ours is sent to the client. */
  #end(because: string, toClient: Close, toAgent: Close, code = toClient.code ?? 1005): void {
    if (this.#because !== undefined) return
    this.#because = because
    this.#closeCode = code
    const now = this.#settings.now()
    this.#endBy = now + endingMs
    this.#movedAt = now
    // A paused side would never read the other's close frame.
    this.#client.resume()
    this.#agent.resume()
    this.#client.close(toClient.code, toClient.reason)
    this.#agent.close(toAgent.code, toAgent.reason)
  }

  /** One side has begun to close and has not finished: it gets some seconds. */
  #watchClosing(now: number): void {
    this.#closingSince ??= now
    if (now - this.#closingSince < stalledMs) return
    if (this.#client.readyState !== 1) this.#client.terminate()
    if (this.#agent.readyState !== 1) this.#agent.terminate()
  }

  /** What is under way may arrive, at any speed but not for ever. */
  #watchEnding(now: number): void {
    const pending = this.#client.bufferedAmount + this.#agent.bufferedAmount
    if (pending !== this.#pending) {
      this.#pending = pending
      this.#movedAt = now
    }
    if (now < this.#endBy && now - this.#movedAt < stalledMs) return
    this.#client.terminate()
    this.#agent.terminate()
  }

  #report(): void {
    if (!this.#clientGone || !this.#agentGone) return
    this.#beat.remove(this)
    this.#done({
      status: 101,
      closeCode: this.#closeCode,
      bytesToClient: this.#bytesToClient,
      bytesToAgent: this.#bytesToAgent,
      because: this.#because ?? '',
    })
  }
}

/** A pong to the newest ping is enough (RFC 6455 §5.5.3), so one that would only grow a queue is left out. */
function answer(side: Side, data: Buffer): void {
  if (side.readyState === 1 && side.bufferedAmount <= bufferedHigh) side.pong(data)
}
