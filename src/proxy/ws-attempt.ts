/** An upgrade up to its 101: admitted, refused by us, refused by the agent, or given up by the client. */
import type { IncomingMessage } from 'node:http'
import { STATUS_CODES } from 'node:http'
import type { Duplex } from 'node:stream'

import { codeOf, type RefusalCode, refusalRow } from '../errors.ts'
import { challenge } from '../gates/identity.ts'
import { addressKey } from '../identity/address.ts'
import { KiB } from '../limits.ts'
import type { Live, LiveEnd } from './live.ts'
import { writeRefusalToSocket } from './reply.ts'
import type { TunnelEnd, TunnelSettings, UpgradeCall } from './ws-call.ts'

/** Body bytes of an agent's refusal that are passed on; it is held in memory. */
const refusalBodyBytes = KiB(64)
/** How long, in ms, a client may take to read an answer that ends the connection. */
const lingerMs = 2000
/** How long, in ms, a client that has finished sending may be shown nothing before it counts as gone. */
const silentMs = 500
/** Seconds after which a client at a socket cap may try again. */
const retryAfterSeconds = '10'

/** Headers of an agent's refusal that mean something to the client; the rest belongs to the connection. */
const passedHeaders = [
  'content-type',
  'content-encoding',
  'location',
  'retry-after',
  'www-authenticate',
] as const

const tokenForm = /^[!#$%&'*+.^`|~\w-]+$/
const keyForm = /^[A-Za-z0-9+/]{22}==$/

/** One upgrade between admission and its first answer; exactly one of `refuse`, `relay` and `opened` wins. */
export class Attempt {
  readonly call: UpgradeCall
  readonly settings: TunnelSettings
  readonly live: Live
  /** Set by the road: stops the handshake with the agent. */
  abandon: () => void = nothing
  /** Set by the road once open: ends the WebSocket. */
  endOpen: (reason: LiveEnd) => void = nothing

  #stage: 'handshake' | 'answered' | 'open' | 'over' = 'handshake'
  #release: () => void = nothing
  #timer: NodeJS.Timeout | undefined
  #answered: TunnelEnd | undefined
  readonly #resolve: (end: TunnelEnd) => void
  readonly #onClose = () => this.#closed()
  #silence: NodeJS.Timeout | undefined
  /** It may wait for its answer or have gone: TCP says the same of both. */
  readonly #onEnd = () => {
    if (this.undecided) this.#silence = setTimeout(() => this.call.socket.destroy(), silentMs)
  }

  constructor(
    call: UpgradeCall,
    settings: TunnelSettings,
    live: Live,
    resolve: (end: TunnelEnd) => void,
  ) {
    this.call = call
    this.settings = settings
    this.live = live
    this.#resolve = resolve
  }

  /** True while nothing has been answered. */
  get undecided(): boolean {
    return this.#stage === 'handshake'
  }

  /** Takes a place under the caps and starts the clock of the handshake; false when that ended the upgrade. */
  begin(): boolean {
    const { facts, identity, socket } = this.call
    // Also what arrives after the answer was written: the cause of a dead connection is not ours to judge.
    socket.on('error', nothing)
    if (socket.destroyed) {
      this.finish({ status: 0, ...nothingMoved, because: 'the client left' })
      return false
    }
    socket.on('close', this.#onClose)
    if (socket.readableEnded) this.#onEnd()
    else socket.on('end', this.#onEnd)
    const handshake = facts.websocket
    if (handshake === undefined || !wellFormed(handshake.key, handshake.protocols)) {
      this.refuse('UPGRADE_INVALID', 'the handshake is malformed')
      return false
    }
    const peer = addressKey(facts.peer)
    const admitted = this.live.admit(identity.id, peer, (reason) => this.#end(reason))
    if (typeof admitted === 'string') {
      const because = `too many sockets of one ${admitted}`
      this.refuse('TOO_MANY_SOCKETS', because, ['Retry-After', retryAfterSeconds])
      return false
    }
    this.#release = admitted
    this.#timer = setTimeout(
      () => this.refuse('AGENT_TIMEOUT', 'the agent did not answer the handshake in time'),
      this.settings.handshakeMs,
    )
    return true
  }

  /** Answers with a refusal of ours, unless there is an answer already. */
  refuse(code: RefusalCode, because: string, headers?: readonly string[]): void {
    if (!this.#answer({ status: refusalRow(code).status, code, ...nothingMoved, because })) return
    writeRefusalToSocket(this.call.socket, code, this.call.facts.requestId, headers)
    linger(this.call.socket)
  }

  /** Refuses because the handshake with the agent failed. */
  fail(thrown: unknown): void {
    const code = codeOf(thrown)
    // Our own checks and the parser's (HPE_*) mean a wrong answer; a system code means no answer.
    if (code === '' || code.startsWith('HPE_')) {
      this.refuse('AGENT_ANSWER_INVALID', `the handshake of the agent is invalid ${code}`.trim())
    } else this.refuse('AGENT_DOWN', `no handshake with the agent: ${code}`)
  }

  /** Passes the agent's own refusal on: status, a few headers, and at most 64 KiB of body. */
  relay(response: IncomingMessage): void {
    const status = response.statusCode ?? 0
    if (status < 200 || status > 599) {
      this.refuse('AGENT_ANSWER_INVALID', 'the agent answered with a status that is no answer')
      return
    }
    const chunks: Buffer[] = []
    let size = 0
    const done = () => this.#relayed(response, status, Buffer.concat(chunks, size))
    response.on('data', (chunk: Buffer) => {
      const part = chunk.subarray(0, refusalBodyBytes - size)
      chunks.push(part)
      size += part.length
      if (size === refusalBodyBytes) done()
    })
    response.on('end', done)
    response.on('error', (thrown) => this.fail(thrown))
  }

  /** The 101 is on its way: from here on the road answers for the socket and calls `finish`. */
  opened(): void {
    this.#stopClocks()
    this.#stage = 'open'
    this.abandon = nothing
    this.call.socket.off('close', this.#onClose)
    this.call.socket.off('end', this.#onEnd)
  }

  /** Gives the place back and reports the end; a second call does nothing. */
  finish(end: TunnelEnd): void {
    if (this.#stage === 'over') return
    this.#stage = 'over'
    this.#stopClocks()
    this.#release()
    this.#resolve(end)
  }

  #relayed(response: IncomingMessage, status: number, body: Buffer): void {
    const bytes = bodyless(status) ? 0 : body.length
    const because = `the agent refused the handshake with ${status}`
    if (!this.#answer({ status, bytesToClient: bytes, bytesToAgent: 0, because })) return
    const { socket, facts } = this.call
    const lines = [`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}`]
    for (const name of passedHeaders) {
      const value = response.headers[name]
      if (value !== undefined) lines.push(`${name}: ${value}`)
    }
    if (!bodyless(status)) lines.push(`content-length: ${bytes}`)
    lines.push(`x-request-id: ${facts.requestId}`, 'connection: close', '', '')
    // One write, so that a client which closes at once has seen all or nothing.
    socket.end(Buffer.concat([Buffer.from(lines.join('\r\n'), 'latin1'), body.subarray(0, bytes)]))
    linger(socket)
  }

  /** Claims the one answer. */
  #answer(end: TunnelEnd): boolean {
    if (this.#stage !== 'handshake') return false
    this.#stage = 'answered'
    this.#answered = end
    this.#stopClocks()
    this.abandon()
    return true
  }

  #stopClocks(): void {
    clearTimeout(this.#timer)
    clearTimeout(this.#silence)
  }

  #closed(): void {
    if (this.#stage === 'handshake') this.abandon()
    const left = { status: 0, ...nothingMoved, because: 'the client left during the handshake' }
    this.finish(this.#answered ?? left)
  }

  #end(reason: LiveEnd): void {
    if (this.#stage === 'open') this.endOpen(reason)
    else if (reason === 'lockdown') this.refuse('LOCKDOWN', reason)
    else if (reason === 'drain') this.refuse('OVERLOADED', reason)
    else this.refuse('UNAUTHENTICATED', reason, challenge)
  }
}

const nothingMoved = { bytesToClient: 0, bytesToAgent: 0 }

function nothing(): void {
  // A listener or a step that has nothing to do.
}

/** Facts has refused these already; a library that met them would answer the client by itself. */
function wellFormed(key: string, protocols: readonly string[]): boolean {
  return (
    keyForm.test(key) &&
    protocols.every((name) => tokenForm.test(name)) &&
    new Set(protocols).size === protocols.length
  )
}

const bodyless = (status: number) => status === 204 || status === 304

/** Reads on until the client closes, because closing with unread bytes would destroy the answer on its way. */
function linger(socket: Duplex): void {
  if (socket.destroyed) return
  const timer = setTimeout(() => socket.destroy(), lingerMs)
  socket.once('close', () => clearTimeout(timer))
  socket.resume()
}
