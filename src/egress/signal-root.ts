/**
 * Stands in for the HTTP daemon of signal-cli (`signal-cli daemon --http`, signal-cli-jsonrpc(5)), for bots that read its
 * event stream. Events pass the sender policy one by one while the stream goes on; calls go on when a conversation needs
 * them. The daemon knows no credential, so the bot's is the first segment of the path that it is told.
 */
import { Buffer } from 'node:buffer'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { pipeline } from 'node:stream/promises'

import type { AuditSink } from '../audit/record.ts'
import { unknown, type Account, type Message } from '../channels/channel.ts'
import { readFormText } from '../channels/json.ts'
import { digest, sameSecret } from '../channels/proof.ts'
import { isOwnAccount, ownAccount, streamMessage } from '../channels/signal.ts'
import { messageOf } from '../errors.ts'
import { openDoor, type Door } from './door.ts'
import { DoorBook, Unrecorded } from './door-book.ts'
import { commentLine, EventReader, isEventId, spellEvent, type StreamPart } from './event-stream.ts'
import {
  meter,
  openService,
  picked,
  readWhole,
  ServiceSilent,
  splitTarget,
  TooLarge,
  type Service,
} from './poll-http.ts'
import { pollLimits } from './poll-limits.ts'
import type { PollDeps } from './poll-updates.ts'
import { readCalls, rpcFailure } from './signal-rpc.ts'

/** Which account is served, and where. */
export interface SignalRootSettings {
  readonly account: Account
  /** The daemon: `http://127.0.0.1:8080`. */
  readonly apiRoot: string
  /** What the bot proves itself with. */
  readonly agentToken: string
  /** A loopback address. */
  readonly host: string
  readonly port: number
}

/** What it needs from outside. */
export interface SignalRootDeps extends Pick<PollDeps, 'hear' | 'now'> {
  readonly audit: AuditSink
  /** Told when the daemon is away or answers what we cannot read. */
  readonly onTrouble: (because: string) => void
}

/** Listens for the bot; rejects when it cannot. */
export function openSignalRoot(settings: SignalRootSettings, deps: SignalRootDeps): Promise<Door> {
  return openDoor(settings, new Root(settings, deps))
}

/** `/<credential>/api/v1/<endpoint>`. */
const apiPath = /^\/([^/]{1,300})\/api\/v1\/(rpc|events|check)$/
const methods = { rpc: 'POST', events: 'GET', check: 'GET' } as const

class Root {
  readonly #settings: SignalRootSettings
  readonly #deps: SignalRootDeps
  readonly #service: Service
  readonly #book: DoorBook
  /** Bytes of calls that are being read or sent. */
  #held = 0

  constructor(settings: SignalRootSettings, deps: SignalRootDeps) {
    this.#settings = settings
    this.#deps = deps
    this.#book = new DoorBook(deps, { channel: 'signal', account: settings.account.id })
    this.#service = openService(settings.apiRoot, pollLimits.connections.default)
  }

  /** Answers one request of the bot; never rejects. */
  async serve(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    try {
      await this.#route(request, response, signal)
    } catch (thrown) {
      this.#failed(response, thrown, signal)
    }
  }

  close(): void {
    this.#service.close()
  }

  async #route(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const [path, query] = splitTarget(request.url ?? '')
    const [, credential, name] = apiPath.exec(path) ?? []
    if (credential === undefined) {
      this.#refuse(request, response, 404, 'no endpoint of signal-cli')
      return
    }
    if (!sameSecret(credential, this.#settings.agentToken)) {
      this.#refuse(request, response, 401, 'not the credential of the bot')
      return
    }
    const endpoint = name === 'rpc' || name === 'events' ? name : 'check'
    if (request.method !== methods[endpoint]) {
      this.#refuse(request, response, 405, `not ${methods[endpoint]}`)
      return
    }
    if (endpoint === 'events') await this.#events(request, response, query, signal)
    else if (endpoint === 'rpc') await this.#rpc(request, response, signal)
    else await this.#check(response, signal)
  }

  async #events(
    request: IncomingMessage,
    response: ServerResponse,
    query: string,
    signal: AbortSignal,
  ): Promise<void> {
    const asked = readFormText(query)
    const account = asked.ok ? asked.value.get('account') : undefined
    if (
      !asked.ok ||
      (account !== undefined && account !== '' && !isOwnAccount(account, this.#settings.account))
    ) {
      this.#refuse(request, response, 400, 'events of another account')
      return
    }
    const lastId = request.headers['last-event-id']
    const known = typeof lastId === 'string' && isEventId(lastId)
    // Ours, whatever the bot asks: a daemon of several accounts would send the messages of all of them.
    const of = ownAccount(this.#settings.account)
    const from = await this.#service.call({
      method: 'GET',
      path: `/api/v1/events${of === undefined ? '' : `?account=${encodeURIComponent(of)}`}`,
      headers: {
        Accept: 'text/event-stream',
        'Accept-Encoding': 'identity',
        ...(known && { 'Last-Event-ID': lastId }),
      },
      body: undefined,
      silenceMs: pollLimits.streamSilenceMs.default,
      signal,
    })
    const status = from.statusCode ?? 502
    if (status !== 200 || !isEventStream(from)) {
      from.destroy()
      this.#answer(response, status >= 400 ? status : 502, '')
      return
    }
    await this.#book.allowed({ method: 'GET', path: '/events' })
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' })
    response.flushHeaders()
    await this.#filter(from, response)
  }

  /** Event by event, none read before the one before it is on its way: a slow bot slows the daemon. */
  async #filter(from: IncomingMessage, response: ServerResponse): Promise<void> {
    const reader = new EventReader(pollLimits.eventBytes.default)
    for await (const chunk of from as AsyncIterable<Buffer>) {
      for (const part of reader.read(chunk)) {
        const words = await this.#judged(part)
        // Writing to a bot that is gone would be an error of its own.
        if (response.destroyed) return
        if (words !== '' && !response.write(words)) await drained(response)
      }
    }
    response.end()
  }

  /** What the bot gets of a part. Of an event that is withheld it gets the id alone, so that it does not ask for it again. */
  async #judged(part: StreamPart): Promise<string> {
    if (part.kind === 'comment') return commentLine
    if (part.kind === 'event' && part.data === undefined) return spellEvent(part)
    const [message, data] = this.#read(part)
    const [speaks] = await this.#deps.hear([message], Buffer.from(data))
    if (speaks === true && part.kind === 'event') return spellEvent(part)
    return spellEvent({ id: part.id, type: undefined, retry: undefined, data: undefined })
  }

  #read(part: Exclude<StreamPart, { kind: 'comment' }>): readonly [Message, string] {
    const { account } = this.#settings
    const strange = (because: string, of: string) =>
      unknown('signal', account, because, digest(`${part.id ?? ''} ${of}`))
    if (part.kind === 'broken') return [strange(part.because, ''), '']
    const data = part.data ?? ''
    return part.type === 'receive'
      ? [streamMessage(data, account), data]
      : [strange('an event that we do not know', data), data]
  }

  async #rpc(
    request: IncomingMessage,
    response: ServerResponse,
    signal: AbortSignal,
  ): Promise<void> {
    const type = request.headers['content-type']?.toLowerCase().split(';')[0]?.trim()
    if (type !== 'application/json') {
      this.#refuse(request, response, 415, 'a call that is not JSON')
      return
    }
    const { rpcBytes, rpcHeldBytes } = pollLimits
    const declared = Number(request.headers['content-length'] ?? rpcBytes.default)
    if (declared > rpcBytes.default) throw new TooLarge(rpcBytes.default)
    if (this.#held + declared > rpcHeldBytes.default) {
      response.setHeader('Retry-After', '1')
      this.#refuse(request, response, 503, 'too many large calls at once')
      return
    }
    this.#held += declared
    try {
      await this.#call(await readWhole(request, rpcBytes.default), response, signal)
    } finally {
      this.#held -= declared
    }
  }

  async #call(body: Buffer, response: ServerResponse, signal: AbortSignal): Promise<void> {
    const asked = readCalls(body, this.#settings.account)
    if (!asked.ok) {
      this.#book.refused({ status: 403, because: asked.because })
      this.#answer(response, 403, rpcFailure(asked.id, asked.because))
      return
    }
    for (const name of asked.methods) {
      await this.#book.allowed({ method: 'POST', path: `/${name}` })
    }
    const from = await this.#service.call({
      method: 'POST',
      path: '/api/v1/rpc',
      headers: {
        'Content-Type': 'application/json',
        'Content-Length': String(body.length),
        'Accept-Encoding': 'identity',
      },
      body,
      silenceMs: pollLimits.answerTimeMs.default,
      signal,
    })
    const status = from.statusCode ?? 502
    if (status >= 300 && status < 400) {
      from.destroy()
      this.#answer(response, 502, '')
      return
    }
    response.writeHead(status, picked(from, ['content-type', 'content-length', 'retry-after']))
    await pipeline(from, meter(pollLimits.rpcAnswerBytes.default), response)
  }

  async #check(response: ServerResponse, signal: AbortSignal): Promise<void> {
    await this.#book.allowed({ method: 'GET', path: '/check' })
    const from = await this.#service.call({
      method: 'GET',
      path: '/api/v1/check',
      headers: {},
      body: undefined,
      silenceMs: pollLimits.answerTimeMs.default,
      signal,
    })
    from.resume()
    const status = from.statusCode ?? 502
    this.#answer(response, status >= 300 && status < 400 ? 502 : status, '')
  }

  #answer(response: ServerResponse, status: number, body: string): void {
    if (response.destroyed || response.headersSent) return
    response.writeHead(status, {
      ...(body !== '' && { 'Content-Type': 'application/json' }),
      'Content-Length': String(Buffer.byteLength(body)),
    })
    response.end(body)
  }

  /** A refusal before the body was read: it ends the connection. */
  #refuse(
    request: IncomingMessage,
    response: ServerResponse,
    status: number,
    because: string,
  ): void {
    this.#book.refused({ status, because })
    response.setHeader('Connection', 'close')
    request.resume()
    this.#answer(response, status, '')
  }

  /**
   * A stream that cannot be had, or goes on no longer, ends like one of a daemon that is away: readers then come again by
   * themselves, which they do not after an answer with an error.
   */
  #failed(response: ServerResponse, thrown: unknown, signal: AbortSignal): void {
    // The bot went away, so there is nobody to tell.
    if (signal.aborted) return
    this.#deps.onTrouble(messageOf(thrown))
    const isStream = splitTarget(response.req.url ?? '')[0].endsWith('/events')
    if (response.headersSent || isStream) {
      response.destroy()
      return
    }
    response.setHeader('Connection', 'close')
    if (thrown instanceof TooLarge) this.#answer(response, 413, '')
    else if (thrown instanceof Unrecorded) this.#answer(response, 503, '')
    else if (thrown instanceof ServiceSilent) this.#answer(response, 504, '')
    else this.#answer(response, 502, '')
  }
}

function isEventStream(from: IncomingMessage): boolean {
  const type = from.headers['content-type']?.toLowerCase().split(';')[0]?.trim()
  return type === 'text/event-stream' && from.headers['content-encoding'] === undefined
}

/** Until the bot has taken what was written, or is gone. */
function drained(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      response.off('drain', done)
      response.off('close', done)
      resolve()
    }
    response.on('drain', done)
    response.on('close', done)
    if (response.destroyed) done()
  })
}
