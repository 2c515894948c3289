/**
 * Stands in for the root of the Telegram Bot API, for bots that poll. The bot calls us with a credential that is worth
 * nothing elsewhere and proves that it is the bot; the real token is put in its place here and never reaches the bot.
 * `getUpdates` answers pass the sender policy, `setWebhook` is refused because it would lead around it, and everything
 * else goes on as it is (https://core.telegram.org/bots/api#making-requests).
 */
import { Buffer } from 'node:buffer'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

import type { AuditSink } from '../audit/record.ts'
import type { Account } from '../channels/channel.ts'
import { sameSecret } from '../channels/proof.ts'
import { messageOf } from '../errors.ts'
import { openDoor, type Door } from './door.ts'
import { DoorBook, Unrecorded } from './door-book.ts'
import { askForm, readAsk, type PollAsk } from './poll-ask.ts'
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
import { apiFailure, Poller, type ApiAnswer, type PollDeps } from './poll-updates.ts'

/** Which bot is served, and where. */
export interface TelegramRootSettings {
  readonly account: Account
  /** The service: `https://api.telegram.org`. */
  readonly apiRoot: string
  /** The real credential. */
  readonly botToken: string
  /** What the bot holds in its place. */
  readonly agentToken: string
  /** A loopback address. */
  readonly host: string
  readonly port: number
}

/** What it needs from outside. */
export interface TelegramRootDeps extends Pick<PollDeps, 'hear' | 'now'> {
  readonly audit: AuditSink
  /** Told when the service is away or answers what we cannot read; never holds a credential. */
  readonly onTrouble: (because: string) => void
}

/** The Bot API where `apiRoot` is not set. */
export const telegramApi = 'https://api.telegram.org'

/** Listens for the bot; rejects when it cannot. */
export function openTelegramRoot(
  settings: TelegramRootSettings,
  deps: TelegramRootDeps,
): Promise<Door> {
  return openDoor(settings, new Root(settings, deps))
}

/** `/bot<credential>/<method>`. */
const apiPath = /^\/bot([^/]{1,300})\/([A-Za-z]{1,64})$/
/** `/file/bot<credential>/<file path>`: plain segments, none of which leads up. */
const filePath = /^\/file\/bot([^/]{1,300})((?:\/(?!\.{1,2}(?:\/|$))[A-Za-z0-9_.-]+){1,16})$/

/** Headers of a call that go on. */
const callHeaders = ['content-type', 'content-length', 'accept', 'range', 'if-modified-since']
/** Headers of an answer that go back. */
const answerHeaders = [
  'content-type',
  'content-length',
  'content-range',
  'content-disposition',
  'accept-ranges',
  'last-modified',
  'retry-after',
]

class Root {
  readonly #settings: TelegramRootSettings
  readonly #deps: TelegramRootDeps
  readonly #service: Service
  readonly #poller: Poller
  readonly #book: DoorBook

  constructor(settings: TelegramRootSettings, deps: TelegramRootDeps) {
    this.#settings = settings
    this.#deps = deps
    this.#book = new DoorBook(deps, { channel: 'telegram', account: settings.account.id })
    this.#service = openService(settings.apiRoot, pollLimits.connections.default)
    this.#poller = new Poller(settings.account, {
      fetch: (ask, signal) => this.#getUpdates(ask, signal),
      hear: deps.hear,
      now: deps.now,
    })
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

  async #route(request: IncomingMessage, response: ServerResponse, signal: AbortSignal) {
    const [path, query] = splitTarget(request.url ?? '')
    const call = apiPath.exec(path)
    const file = filePath.exec(path)
    const credential = (call ?? file)?.[1]
    if (credential === undefined) {
      this.#refuse(request, response, apiFailure(404, 'Not Found'), 'no method of the Bot API')
      return
    }
    const given = credential.replace(/%3a/i, ':')
    if (!sameSecret(given, this.#settings.agentToken)) {
      const answer = apiFailure(401, 'Unauthorized')
      this.#refuse(request, response, answer, 'not the credential of the bot')
      return
    }
    const method = request.method ?? ''
    if (method !== 'GET' && (method !== 'POST' || file !== null)) {
      const answer = apiFailure(405, 'Method Not Allowed')
      this.#refuse(request, response, answer, 'neither GET nor POST')
      return
    }
    if (file !== null) await this.#file(request, response, file[2] ?? '', signal)
    else await this.#method(request, response, call?.[2] ?? '', query, signal)
  }

  async #method(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    query: string,
    signal: AbortSignal,
  ): Promise<void> {
    const lower = name.toLowerCase()
    if (lower === 'setwebhook') {
      const said = 'Forbidden: Hardshell reads the updates; a webhook would lead around it'
      this.#refuse(request, response, apiFailure(403, said), 'setWebhook leads around the policy')
      return
    }
    if (lower !== 'getupdates') {
      await this.#pass(request, response, name, query, signal)
      return
    }
    const body = await readWhole(request, pollLimits.askBytes.default)
    const ask = readAsk(query, request.headers['content-type'] ?? '', body)
    if (!ask.ok) {
      const answer = apiFailure(400, `Bad Request: ${ask.because}`)
      this.#refuse(request, response, answer, 'getUpdates with parameters that cannot be read')
      return
    }
    this.#send(response, await this.#poller.answer(ask.value, signal))
  }

  async #getUpdates(ask: PollAsk, signal: AbortSignal): Promise<ApiAnswer> {
    const body = Buffer.from(askForm(ask))
    const from = await this.#service.call({
      method: 'POST',
      path: `/bot${this.#settings.botToken}/getUpdates`,
      headers: {
        'Content-Type': 'application/x-www-form-urlencoded',
        'Content-Length': String(body.length),
        'Accept-Encoding': 'identity',
      },
      body,
      silenceMs: ask.timeoutSeconds * 1000 + pollLimits.answerTimeMs.default,
      signal,
    })
    return this.#whole(from)
  }

  /** Any other method, with whatever body, as it is. */
  async #pass(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    query: string,
    signal: AbortSignal,
  ): Promise<void> {
    const maxBytes = pollLimits.uploadBytes.default
    if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw new TooLarge(maxBytes)
    await this.#book.allowed({ method: request.method ?? '', path: `/${name}` })
    const hasBody = request.method === 'POST'
    const from = await this.#service.call({
      method: request.method ?? '',
      path: `/bot${this.#settings.botToken}/${name}${query === '' ? '' : `?${query}`}`,
      headers: { ...picked(request, callHeaders), 'Accept-Encoding': 'identity' },
      body: hasBody ? bounded(request, maxBytes) : undefined,
      silenceMs: pollLimits.answerTimeMs.default,
      signal,
    })
    this.#send(response, await this.#whole(from))
  }

  async #file(
    request: IncomingMessage,
    response: ServerResponse,
    path: string,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#book.allowed({ method: 'GET', path: '/file' })
    const from = await this.#service.call({
      method: 'GET',
      path: `/file/bot${this.#settings.botToken}${path}`,
      headers: { ...picked(request, callHeaders), 'Accept-Encoding': 'identity' },
      body: undefined,
      silenceMs: pollLimits.answerTimeMs.default,
      signal,
    })
    const status = from.statusCode ?? 502
    if (status >= 300 && status < 400 && status !== 304) {
      from.destroy()
      this.#send(response, apiFailure(502, 'Bad Gateway'))
      return
    }
    response.writeHead(status, picked(from, answerHeaders))
    await pipeline(from, meter(pollLimits.fileBytes.default), response)
  }

  /** A whole answer of the service, in which its credential is the bot's again. */
  async #whole(from: IncomingMessage): Promise<ApiAnswer> {
    const body = await this.#readAnswer(from)
    const status = from.statusCode ?? 502
    if (status >= 300 && status < 400) return apiFailure(502, 'Bad Gateway')
    const retryAfter = from.headers['retry-after']
    return {
      status,
      body: this.#redacted(body),
      ...(retryAfter !== undefined && { retryAfter }),
    }
  }

  async #readAnswer(from: IncomingMessage): Promise<Buffer> {
    try {
      return await readWhole(from, pollLimits.answerBytes.default)
    } catch (thrown) {
      from.destroy()
      throw thrown
    }
  }

  /** getWebhookInfo shows addresses that owners make from the token, and a local server shows paths with it. */
  #redacted(body: Buffer): Buffer {
    const { botToken, agentToken } = this.#settings
    if (!body.includes(botToken)) return body
    return Buffer.from(body.toString('utf8').replaceAll(botToken, agentToken))
  }

  #send(response: ServerResponse, { status, body, retryAfter }: ApiAnswer): void {
    if (response.destroyed || response.headersSent) return
    response.writeHead(status, {
      'Content-Type': 'application/json',
      'Content-Length': String(body.length),
      ...(retryAfter !== undefined && { 'Retry-After': retryAfter }),
    })
    response.end(body)
  }

  /** A refusal before the body was read: it ends the connection. */
  #refuse(
    request: IncomingMessage,
    response: ServerResponse,
    answer: ApiAnswer,
    because: string,
  ): void {
    this.#book.refused({ status: answer.status, because })
    response.setHeader('Connection', 'close')
    request.resume()
    this.#send(response, answer)
  }

  #failed(response: ServerResponse, thrown: unknown, signal: AbortSignal): void {
    // The bot went away, so there is nobody to tell.
    if (signal.aborted) return
    if (response.headersSent) {
      response.destroy()
      return
    }
    this.#deps.onTrouble(messageOf(thrown).replaceAll(this.#settings.botToken, '***'))
    response.setHeader('Connection', 'close')
    if (thrown instanceof TooLarge) {
      this.#send(response, apiFailure(413, 'Request Entity Too Large'))
    } else if (thrown instanceof Unrecorded) {
      this.#send(response, apiFailure(503, 'Service Unavailable: the call cannot be recorded'))
    } else if (thrown instanceof ServiceSilent) {
      this.#send(response, apiFailure(504, 'Gateway Timeout'))
    } else {
      this.#send(response, apiFailure(502, 'Bad Gateway'))
    }
  }
}

/** The body of a request as a bounded stream that fails when the request breaks off. */
function bounded(request: IncomingMessage, maxBytes: number): Readable {
  const through = meter(maxBytes)
  request.on('error', (error) => through.destroy(error))
  request.once('close', () => {
    if (!request.complete) through.destroy(new Error('the bot broke off'))
  })
  return request.pipe(through)
}
