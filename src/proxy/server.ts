/** The listener: accepts under caps, reads facts, asks the gates, records the verdict, and only then lets go on. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

import type { Agent } from '../agent/agent.ts'
import type { AuditSink } from '../audit/record.ts'
import { codeOf, refusalRow, type RefusalCode } from '../errors.ts'
import type { Facts, Gate, Identity } from '../gates/gate.ts'
import { challenge } from '../gates/identity.ts'
import { isVisitor } from '../identity/proof.ts'
import { BodiesComing } from './body.ts'
import { Connections } from './connections.ts'
import { readFacts, type FactSettings } from './facts.ts'
import type { Ended, Forwarder } from './forward.ts'
import { headersForAgent, type AgentHeaderSettings } from './headers.ts'
import { drain, httpServer, listen, parserRefusal, type ServerBounds } from './listening.ts'
import type { Live, LiveEnd } from './live.ts'
import { answerOwn, ownPrefix, type Own, type OwnPage } from './own.ts'
import { judge, type JudgeSettings, type Verdict } from './pipeline.ts'
import {
  afterAnswers,
  endBehind,
  finishedSending,
  isAnswering,
  isClosing,
  isLastRequest,
  lingerAtEnd,
  makeLast,
  takesNoMore,
  unfinishedRequest,
  writeOwn,
  writeRefusal,
  writeRefusalToSocket,
} from './reply.ts'
import type { Webhook } from './webhook.ts'
import { refusalAfterWait, type TunnelEnd, type UpgradeCall } from './ws-call.ts'

/** Bounds of the listener; times in ms, sizes in bytes. */
export interface ServerSettings
  extends ServerBounds, FactSettings, JudgeSettings, AgentHeaderSettings {
  readonly maxConnectionsPerAddress: number
}

/** Everything the listener works with. */
export interface ServerParts {
  readonly gates: readonly Gate[]
  readonly audit: AuditSink
  readonly agent: Agent
  readonly forwarder: Forwarder
  readonly live: Live
  /** Loads the WebSocket road at its first use; what it gives registers an upgrade before it returns. */
  readonly loadTunnel: () => Promise<(call: UpgradeCall) => Promise<TunnelEnd>>
  /** What Hardshell itself answers, such as its health, behind the same gates; undefined goes to the agent. */
  readonly own: Own
  /** False once the credential behind an identity has ended: it may have, since the gates were asked. */
  readonly isGood: (identity: Identity) => boolean
  /** The webhook that a request is for: it has gates and a proof of its own. */
  readonly webhooks?: ((facts: Facts) => Webhook | undefined) | undefined
  /** The page that a browser sees in place of a refusal; undefined is the refusal itself. */
  readonly refusalPage?: (facts: Facts, code: RefusalCode) => OwnPage | undefined
  /** Hash of the configuration that judges, for the audit log. */
  readonly configHash: () => string
  /** Told about connections that were cut, at most once a second. */
  readonly onDrop: (because: string, count: number) => void
}

/** A listener that can be started and drained. */
export interface Listener {
  /** Binds; rejects with the system's error (EADDRINUSE, EADDRNOTAVAIL). Resolves with the port. */
  listen(port: number, host: string): Promise<number>
  /** Refuses new connections, lets running exchanges end for `graceMs`, then cuts them. */
  close(graceMs: number): Promise<void>
  connections(): number
}

/** How long requests under way outlive the grace of a rotated token, ms. */
const rotatedLingerMs = 500

/** Builds the listener; nothing is bound yet. */
export function createListener(settings: ServerSettings, parts: ServerParts): Listener {
  const server = httpServer(settings)
  const doorway = new Doorway(settings, parts)
  server.on('connection', (socket) => doorway.connected(socket))
  server.on('drop', () => doorway.dropped('maxConnections'))
  const request = (req: IncomingMessage, res: ServerResponse) => doorway.request(req, res)
  server.on('request', request)
  server.on('checkContinue', request)
  server.on('checkExpectation', request)
  server.on('upgrade', (req, socket, head) => doorway.upgrade(req, socket, head))
  server.on('connect', (req, socket) => doorway.connect(req, socket))
  server.on('clientError', (error, socket) => doorway.malformed(error, socket))
  return {
    listen: (port, host) => listen(server, port, host),
    close: (graceMs) => {
      doorway.drain()
      return drain(server, graceMs, () => doorway.destroyAll())
    },
    connections: () => doorway.open,
  }
}

/** The life of connections and requests. */
class Doorway {
  readonly #settings: ServerSettings
  readonly #parts: ServerParts
  readonly #connections: Connections
  readonly #coming = new BodiesComing()
  /** Connections with bytes that are no request behind requests whose answers are still to come. */
  readonly #behind = new WeakSet<Duplex>()
  #drops = 0
  #draining = false

  constructor(settings: ServerSettings, parts: ServerParts) {
    this.#settings = settings
    this.#parts = parts
    const isHop = (address: string) => settings.hops?.isHop(address) === true
    this.#connections = new Connections({ ...settings, isHop })
  }

  get open(): number {
    return this.#connections.size
  }

  connected(socket: Socket): void {
    const cut = this.#connections.admit(socket)
    if (cut !== undefined) this.dropped(cut)
    socket.once('end', finishedSending)
  }

  /** Counts cut connections; a flood of them is one report a second. */
  dropped(because: string): void {
    this.#drops += 1
    if (this.#drops > 1) return
    setTimeout(() => {
      this.#parts.onDrop(because, this.#drops)
      this.#drops = 0
    }, 1000).unref()
  }

  /** From now on every answer is the last of its connection, so that none is kept open by one more request. */
  drain(): void {
    this.#draining = true
    this.#connections.forEach(makeLast)
  }

  destroyAll(): void {
    this.#connections.destroyAll()
  }

  request(request: IncomingMessage, response: ServerResponse): void {
    request.on('error', noteOnly)
    response.on('error', noteOnly)
    // Bytes behind a refused body are never a request of their own (T086).
    if (takesNoMore(request.socket)) {
      request.resume()
      return
    }
    if (this.#draining) response.shouldKeepAlive = false
    // Node announces the end, and then answers what comes behind it with a 503 of its own.
    else if (isLastRequest(response, this.#settings.maxRequestsPerConnection)) endBehind(response)
    const facts = readFacts(request, this.#settings)
    const webhook = this.#parts.webhooks?.(facts)
    const verdict = judge(webhook?.gates ?? this.#parts.gates, facts, this.#settings)
    const judged = (known: Verdict) => this.#judged(known, facts, request, response, webhook)
    if (verdict instanceof Promise) void verdict.then(judged)
    else judged(verdict)
  }

  #judged(
    verdict: Verdict,
    facts: Facts,
    request: IncomingMessage,
    response: ServerResponse,
    webhook: Webhook | undefined,
  ): void {
    const { decision, headers } = verdict
    if (!decision.allow) {
      this.#recordRefusal(facts, verdict.identity, decision.code, decision.because)
      const page = this.#parts.refusalPage?.(facts, decision.code)
      if (page !== undefined) {
        writeOwn(response, facts, page, [...page.headers, ...headers])
        return
      }
      const close = facts.defect !== undefined
      const { members } = decision
      writeRefusal(response, decision.code, facts.requestId, { headers, members, close })
      return
    }
    if (webhook !== undefined) {
      const proved = () => this.#connections.proved(request.socket)
      this.#coming.add(request, webhook.take({ facts, request, response, proved }))
      return
    }
    this.#proved(request.socket, verdict.identity)
    this.#recordAllowed(facts, verdict.identity, (failure) => {
      if (failure !== undefined) {
        writeRefusal(response, 'AUDIT_UNAVAILABLE', facts.requestId, { headers: retrySoon })
        return
      }
      const broken = this.#coming.brokenBy(request)
      if (broken !== undefined) {
        const status = refusalRow(broken).status
        this.#recordDone(facts, verdict.identity, { status, bytes: 0, code: broken })
        writeRefusal(response, broken, facts.requestId, { headers, close: true })
        return
      }
      const own = this.#parts.own({ facts, identity: verdict.identity, request })
      if (own !== undefined) {
        const ended = (how: Ended) => this.#recordDone(facts, verdict.identity, how)
        answerOwn(own, { facts, response, headers, ended })
        return
      }
      const waiting = this.#parts.agent.ready()
      if (waiting === undefined) this.#forward(verdict, facts, request, response)
      else void waiting.then((state) => this.#resume(state, verdict, facts, request, response))
    })
  }

  /** After the wait for a starting agent: go on, or say why not. */
  #resume(
    state: 'ready' | 'starting' | 'down',
    verdict: Verdict,
    facts: Facts,
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    if (state === 'ready') {
      this.#forward(verdict, facts, request, response)
      return
    }
    const code = state === 'starting' ? 'AGENT_STARTING' : 'AGENT_DOWN'
    const status = refusalRow(code).status
    this.#recordDone(facts, verdict.identity, { status, bytes: 0, code, because: state })
    writeRefusal(response, code, facts.requestId, { headers: [...verdict.headers, ...retrySoon] })
  }

  #forward(
    verdict: Verdict,
    facts: Facts,
    request: IncomingMessage,
    response: ServerResponse,
  ): void {
    const { identity } = verdict
    if (response.destroyed) {
      this.#recordDone(facts, identity, { status: 499, bytes: 0, because: 'the client went away' })
      return
    }
    const { live, forwarder, isGood } = this.#parts
    // From here to `track` nothing else runs, so that no end of the credential falls in between.
    if (!isGood(identity)) {
      this.#recordDone(facts, identity, endedMeanwhile)
      const headers = [...verdict.headers, ...challenge]
      writeRefusal(response, 'UNAUTHENTICATED', facts.requestId, { headers })
      return
    }
    let release: (() => void) | undefined
    const sent = forwarder.send({
      facts,
      request,
      response,
      headers: headersForAgent(facts, this.#settings),
      answerHeaders: ['X-Request-Id', facts.requestId, ...verdict.headers],
      ended: (how) => {
        release?.()
        this.#recordDone(facts, identity, how)
      },
    })
    if (!response.writableEnded) {
      this.#coming.add(request, sent)
      const untracked = live.track(identity.id, (reason) => {
        // A drain lets requests under way end within its grace.
        if (reason === 'drain') return
        // What a good token asked for a moment ago may still be answered; a stream ends within the second.
        if (reason === 'rotated')
          setTimeout(() => sent.cut('ended: rotated'), rotatedLingerMs).unref()
        else sent.cut(`ended: ${reason}`)
      })
      release = () => {
        untracked()
        this.#coming.remove(request)
      }
    }
  }

  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', noteOnly)
    if (takesNoMore(socket)) {
      socket.destroy()
      return
    }
    const facts = readFacts(request, this.#settings)
    if (this.#isEarly(facts, 'UPGRADE_INVALID', socket)) return
    const verdict = judge(this.#parts.gates, facts, this.#settings)
    const settled = (known: Verdict) => this.#upgradeJudged(known, facts, request, socket, head)
    if (verdict instanceof Promise) void verdict.then(settled)
    else settled(verdict)
  }

  #upgradeJudged(
    verdict: Verdict,
    facts: Facts,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): void {
    const { decision, identity, headers } = verdict
    if (!decision.allow) {
      this.#recordRefusal(facts, identity, decision.code, decision.because)
      writeRefusalToSocket(socket, decision.code, facts.requestId, headers)
      return
    }
    this.#proved(request.socket, identity)
    if (facts.path.startsWith(ownPrefix)) {
      this.#recordRefusal(facts, identity, 'PATH_DENIED', 'nothing of ours speaks WebSocket')
      writeRefusalToSocket(socket, 'PATH_DENIED', facts.requestId, headers)
      return
    }
    this.#recordAllowed(facts, identity, (failure) => {
      if (failure !== undefined) {
        writeRefusalToSocket(socket, 'AUDIT_UNAVAILABLE', facts.requestId, retrySoon)
        return
      }
      void this.#tunnel(facts, identity, request, socket, head)
    })
  }

  async #tunnel(
    facts: Facts,
    identity: Identity,
    request: IncomingMessage,
    socket: Duplex,
    head: Buffer,
  ): Promise<void> {
    // Until the tunnel is registered, a revocation in this window must be heard here.
    let ended: LiveEnd | undefined
    const untrack = this.#parts.live.track(identity.id, (reason) => {
      ended = reason
    })
    // It may have ended while the decision was being written.
    if (!this.#parts.isGood(identity)) ended = 'revoked'
    const openTunnel = await this.#parts.loadTunnel()
    const state = (await this.#parts.agent.ready()) ?? 'ready'
    const code = refusalAfterWait(state, ended)
    if (code !== undefined) {
      untrack()
      this.#recordDone(facts, identity, { status: refusalRow(code).status, bytes: 0, code })
      const headers = code === 'UNAUTHENTICATED' ? challenge : retrySoon
      writeRefusalToSocket(socket, code, facts.requestId, headers)
      return
    }
    const opened = openTunnel({
      facts,
      identity,
      request,
      socket,
      head,
      headers: headersForAgent(facts, this.#settings),
    })
    untrack()
    const end = await opened
    const closed = end.closeCode === undefined ? end.because : `${end.because} (${end.closeCode})`
    this.#recordDone(facts, identity, {
      status: end.status,
      bytes: end.bytesToClient,
      because: closed,
      ...(end.code === undefined ? {} : { code: end.code }),
    })
  }

  /** What takes over a connection before its answers are out would stand in their place (RFC 9112 §9.3.2). */
  #isEarly(facts: Facts, code: RefusalCode, socket: Duplex): boolean {
    if (!isAnswering(socket)) return false
    this.#recordRefusal(facts, undefined, code, 'sent behind a request that is not answered yet')
    socket.destroy()
    return true
  }

  /** CONNECT would make us a tunnel to anywhere. */
  connect(request: IncomingMessage, socket: Duplex): void {
    socket.on('error', noteOnly)
    const facts = readFacts(request, this.#settings)
    if (this.#isEarly(facts, 'METHOD_NOT_ALLOWED', socket)) return
    this.#recordRefusal(facts, undefined, 'METHOD_NOT_ALLOWED', 'CONNECT')
    writeRefusalToSocket(socket, 'METHOD_NOT_ALLOWED', facts.requestId)
  }

  /** What llhttp refuses, and heads that came too slowly. */
  malformed(error: Error, socket: Duplex): void {
    // Every piece that comes behind a parser's error is one more error.
    if (socket.listenerCount('error', noteOnly) === 0) socket.on('error', noteOnly)
    // What arrives behind a last answer is thrown away, well-formed or not.
    if (isClosing(socket)) return
    const because = codeOf(error)
    if (because === 'ECONNRESET' || !socket.writable) {
      socket.destroy()
      return
    }
    if (because === 'HPE_CLOSED_CONNECTION') {
      // It comes behind a request that asked to close: that one is answered, and this is none (RFC 9112 §9.6).
      lingerAtEnd(socket)
      return
    }
    const code = parserRefusal(error)
    const unfinished = unfinishedRequest(socket)
    if (!isAnswering(socket)) this.#refuseBytes(socket, code, because)
    else if (unfinished === undefined) {
      // What was asked before it has its answers first.
      if (this.#behind.has(socket)) return
      this.#behind.add(socket)
      afterAnswers(socket, () => this.#refuseBytes(socket, code, because))
    } else {
      // In the middle of a body: its exchange still may have an answer to give.
      this.#coming.refuse(socket, unfinished, { code, because })
    }
  }

  /** Refuses what never became a request. */
  #refuseBytes(socket: Duplex, code: RefusalCode, because: string): void {
    const requestId = this.#settings.newId()
    const peer = 'remoteAddress' in socket ? String(socket.remoteAddress) : ''
    this.#parts.audit.append({
      ...this.#common('request.refused'),
      requestId,
      peer,
      code,
      status: refusalRow(code).status,
      because,
    })
    writeRefusalToSocket(socket, code, requestId)
  }

  #common(event: string): { event: string; config: string } {
    return { event, config: this.#parts.configHash() }
  }

  #recordRefusal(
    facts: Facts,
    identity: Identity | undefined,
    code: RefusalCode,
    because: string,
  ): void {
    const name = identity?.name ?? ''
    this.#parts.audit.append({
      ...this.#common('request.refused'),
      ...fromFacts(facts),
      ...(name === '' ? {} : { identity: name }),
      code,
      status: refusalRow(code).status,
      because,
    })
  }

  #proved(socket: Socket, identity: Identity): void {
    if (!isVisitor(identity)) this.#connections.proved(socket)
  }

  #recordAllowed(facts: Facts, identity: Identity, written: (failure?: Error) => void): void {
    const entry = {
      ...this.#common('request.allowed'),
      ...fromFacts(facts),
      identity: identity.name,
    }
    this.#parts.audit.append(entry, written)
  }

  #recordDone(facts: Facts, identity: Identity, how: Ended): void {
    this.#parts.audit.append({
      event: 'request.done',
      requestId: facts.requestId,
      identity: identity.name,
      status: how.status,
      bytes: how.bytes,
      ms: Math.round(this.#settings.monotonic() - facts.startedAt),
      ...(how.code === undefined ? {} : { code: how.code }),
      ...(how.because === undefined ? {} : { because: how.because }),
    })
  }
}

const retrySoon = ['Retry-After', '5'] as const

const endedMeanwhile = {
  status: 401,
  bytes: 0,
  code: 'UNAUTHENTICATED',
  because: 'the credential ended before the request went on',
} as const

const fromFacts = ({ requestId, peer, method, path }: Facts) => ({ requestId, peer, method, path })

/** Socket errors end in 'close', where everything is cleaned up; the listener only keeps them from being thrown. */
function noteOnly(): void {}
