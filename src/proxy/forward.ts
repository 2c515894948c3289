/** HTTP to the agent: a request built from facts, streamed both ways (undici's dispatch). */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

import type { buildConnector, Dispatcher, Pool } from 'undici'

import type { AgentAddress } from '../agent/agent.ts'
import { codeOf, messageOf, refusalRow, type RefusalCode } from '../errors.ts'
import type { Facts } from '../gates/gate.ts'
import { bodyOf, BodyRefused, collectPiecesEarly, MeteredBody, type BodySettings } from './body.ts'
import { headersForClient } from './headers.ts'
import { closeGently, cutAnswer, writeRefusal, waiting, watchStall } from './reply.ts'

const { createRequire } = process.getBuiltinModule('node:module')

/** Bounds of the way to the agent, ms. */
export interface ForwardSettings extends BodySettings {
  readonly address: AgentAddress
  readonly connectMs: number
  /** Until the head of the answer. */
  readonly answerMs: number
  /** Between two pieces of an answer. */
  readonly idleMs: number
  /** How long a client may take nothing of what waits for it. */
  readonly stallMs: number
}

/** How an exchange ended, for the audit log. */
export interface Ended {
  readonly status: number
  readonly bytes: number
  /** Set when we refused or cut what had been allowed. */
  readonly code?: RefusalCode
  readonly because?: string
}

/** One allowed request. */
export interface Outgoing {
  readonly facts: Facts
  readonly request: IncomingMessage
  readonly response: ServerResponse
  /** The body where it has been read already; else it is streamed from the request. */
  readonly body?: Buffer
  /** Flat headers for the agent. */
  readonly headers: readonly string[]
  /** Flat headers that we add to the answer. */
  readonly answerHeaders: readonly string[]
  /** Called once. */
  readonly ended: (how: Ended) => void
}

/** A request under way. */
export interface Sent {
  /** Ends it at once, without a word: a revoked token, a lockdown. */
  cut(because: string): void
  /** Ends it with a refusal, or, once the head of the answer is out, without a word. */
  refuse(code: RefusalCode, because: string): void
}

/** The way to one agent. */
export interface Forwarder {
  send(outgoing: Outgoing): Sent
  /** Loads what the first request needs, so that it need not wait for it. */
  warm(): void
  close(): Promise<void>
}

/** Opens the way to the agent. Nothing is loaded or connected before the first request, unless `warm` is called. */
export function openForwarder(settings: ForwardSettings): Forwarder {
  let opened: Pool | undefined
  const pool = (): Pool => (opened ??= openPool(settings))
  return {
    send: (outgoing) => {
      const exchange = new Exchange(pool(), outgoing, settings)
      exchange.begin()
      return exchange
    },
    warm: () => void pool(),
    close: async () => opened?.destroy(),
  }
}

/**
 * The parts of undici that talk to one origin: its index loads fetch, caches and mocks too. Even these bring Node's
 * HTTP/2, which takes as long to load as an empty server to start; the port is open and answers before that.
 */
function loadUndici(): {
  readonly Pool: typeof Pool
  readonly buildConnector: typeof buildConnector
} {
  const load = createRequire(import.meta.url)
  return {
    Pool: load('undici/lib/dispatcher/pool.js') as typeof Pool,
    buildConnector: load('undici/lib/core/connect.js') as typeof buildConnector,
  }
}

function openPool(settings: ForwardSettings): Pool {
  const { address } = settings
  const undici = loadUndici()
  return new undici.Pool(address.origin, {
    connect: inOneWrite(
      undici.buildConnector({
        timeout: settings.connectMs,
        ...(address.socketPath === undefined ? {} : { socketPath: address.socketPath }),
      }),
    ),
    // Event streams would starve a fixed number; the server's own connection cap bounds this one.
    connections: null,
    pipelining: 1,
    headersTimeout: settings.answerMs,
    bodyTimeout: settings.idleMs,
    // Below Node's 5 s, so that we close an idle connection before the agent does.
    keepAliveTimeout: 4000,
    keepAliveMaxTimeout: 60_000,
    maxHeaderSize: 32 * 1024,
    strictContentLength: true,
    allowH2: false,
  })
}

/**
 * A connector whose sockets write a head and a small body, which undici corks together, as one piece of Latin-1 text:
 * byte for byte the same, and cheaper than a gathering write of text and buffer.
 */
function inOneWrite(connect: buildConnector.connector): buildConnector.connector {
  return (options, done) =>
    connect(options, (...[error, socket]) => {
      if (error !== null) {
        done(error, null)
        return
      }
      socket.on('error', brokenOff)
      const gather = socket._writev?.bind(socket)
      if (gather !== undefined) {
        socket._writev = (chunks, written) => {
          const text = headAndBody(chunks)
          if (text === undefined) gather(chunks, written)
          else socket._write(text, 'latin1', written)
        }
      }
      done(null, socket)
    })
}

/**
 * undici takes a reset behind the head of an answer for its end, where the agent would have closed the connection anyway;
 * an answer without a length would look complete. It looks for this one code.
 */
function brokenOff(this: Socket, error: Error): void {
  const { bytesRead } = this
  Object.assign(error, { socket: { bytesRead } })
  if (codeOf(error) === 'ECONNRESET') Object.assign(error, { code: resetByAgent })
}

const resetByAgent = 'AGENT_RESET'

/** True where the agent has answered on the connection that failed; undici's own errors describe it alike. */
function hadAnswered(error: Error): boolean {
  if (!('socket' in error) || typeof error.socket !== 'object' || error.socket === null)
    return false
  return 'bytesRead' in error.socket && error.socket.bytesRead !== 0
}

/** Head and body of one request as one text, when `chunks` are just that. */
function headAndBody(
  chunks: readonly { readonly chunk: unknown; readonly encoding: BufferEncoding }[],
): string | undefined {
  const [head, body] = chunks
  if (head === undefined || body === undefined || chunks.length !== 2) return undefined
  if (typeof head.chunk !== 'string' || head.encoding !== 'latin1') return undefined
  if (!Buffer.isBuffer(body.chunk) || body.chunk.length > wholeBytesMax) return undefined
  return head.chunk + body.chunk.toString('latin1')
}

/** One request and its answer. A class rather than closures: one object per request. */
class Exchange implements Dispatcher.DispatchHandler, Sent {
  readonly #pool: Pool
  readonly #out: Outgoing
  readonly #settings: ForwardSettings
  #controller: Dispatcher.DispatchController | undefined
  #body: null | Buffer | MeteredBody = null
  #status = 0
  #bytes = 0
  /** A declared body that arrives in one piece is written together with the head. */
  #expected = -1
  #whole: Buffer | undefined
  #retried = false
  #interim: NodeJS.Timeout | undefined
  #over = false

  constructor(pool: Pool, out: Outgoing, settings: ForwardSettings) {
    this.#pool = pool
    this.#out = out
    this.#settings = settings
  }

  begin(): void {
    const { request, response, facts, body } = this.#out
    try {
      if (body !== undefined) this.#body = body.length === 0 ? null : body
      else this.#body = bodyOf(request, facts.framing, this.#settings)
    } catch (thrown) {
      this.#fail(thrown instanceof Error ? thrown : new Error(String(thrown)))
      return
    }
    if (facts.expectsContinue && this.#body instanceof MeteredBody) response.writeContinue()
    response.once('close', () => {
      if (!response.writableFinished) this.#abort('the client went away')
      else if (!request.complete) this.#dropBody()
    })
    this.#dispatch()
  }

  #dispatch(): void {
    const { facts, headers } = this.#out
    const framed =
      this.#body instanceof MeteredBody && facts.framing.kind === 'length'
        ? [...headers, 'Content-Length', String(facts.framing.bytes)]
        : headers
    this.#pool.dispatch(
      {
        path: facts.target,
        // facts has refused every method outside the allowed list.
        method: facts.method as Dispatcher.HttpMethod,
        headers: framed as string[],
        body: this.#body,
      },
      this,
    )
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller
    if (this.#over) controller.abort(new Error('over'))
  }

  onResponseStart(
    controller: Dispatcher.DispatchController,
    status: number,
    _headers: unknown,
    message?: string,
  ): void {
    const { request, response, answerHeaders, facts } = this.#out
    // undici hands interim answers on as well; they say nothing that the client needs.
    if (status < 200) {
      // Each of them sets undici's own clock back: without ours an agent could send them for ever.
      this.#interim ??= setTimeout(
        () => controller.abort(new BodyRefused('AGENT_TIMEOUT', 'nothing but interim answers')),
        this.#settings.answerMs,
      )
      return
    }
    clearTimeout(this.#interim)
    const raw = (controller.rawHeaders ?? []) as readonly Buffer[]
    const { flat, length, coded } = headersForClient(raw, answerHeaders, status)
    if (coded) throw new BodyRefused('AGENT_ANSWER_INVALID', 'a transfer coding beside chunked')
    if (status > 599) throw new BodyRefused('AGENT_ANSWER_INVALID', `status ${status}`)
    if (!request.complete) {
      // The agent answers before it has read the body: the rest cannot be used, so the connection ends.
      flat.push('Connection', 'close')
      closeGently(response)
    }
    response.writeHead(status, plainPhrase(message), flat)
    this.#status = status
    const bodiless = facts.method === 'HEAD' || status === 204 || status === 304
    if (length !== undefined && length <= wholeBytesMax && !bodiless) this.#expected = length
    else if (!bodiless) setImmediate(() => this.#flushHead())
    if (this.#expected > 0) setImmediate(() => this.#flushWhole())
  }

  onResponseData(controller: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length
    if (this.#expected === chunk.length && this.#bytes === chunk.length) {
      this.#whole = chunk
      return
    }
    collectPiecesEarly()
    const { response } = this.#out
    if (response.write(chunk)) return
    controller.pause()
    response.once('drain', () => controller.resume())
    // undici stops its own clock while it is paused.
    watchStall(response, this.#settings.stallMs, () => this.cut('the client does not read'))
  }

  onResponseEnd(): void {
    const { response } = this.#out
    if (this.#whole === undefined) response.end()
    // Latin-1 keeps every byte, and as text the body leaves in the same system call as its head.
    else response.end(this.#whole.toString('latin1'), 'latin1')
    this.#whole = undefined
    this.#finish({ status: this.#status, bytes: this.#bytes })
    if (waiting(response) > 0) {
      watchStall(response, this.#settings.stallMs, () => cutAnswer(response))
    }
  }

  onResponseError(_controller: Dispatcher.DispatchController | undefined, error: Error): void {
    if (this.#over) return
    if (this.#mayRetry(error)) {
      this.#retried = true
      this.#dispatch()
      return
    }
    this.#fail(error)
  }

  refuse(code: RefusalCode, because: string): void {
    if (this.#over) return
    this.#fail(new BodyRefused(code, because))
    this.#release(because)
  }

  cut(because: string): void {
    if (this.#over) return
    this.#finish({ status: this.#status, bytes: this.#bytes, because })
    cutAnswer(this.#out.response)
    this.#release(because)
  }

  /** A kept-alive connection that the agent closed in the same moment: asked once more where nothing can be done twice. */
  #mayRetry(error: Error): boolean {
    const { method } = this.#out.facts
    const safe = method === 'GET' || method === 'HEAD' || method === 'OPTIONS'
    if (this.#retried || this.#status !== 0 || this.#body !== null || !safe) return false
    // On a new connection it was no coincidence: this request is what the agent fails at.
    if (!hadAnswered(error)) return false
    const code = codeOf(error)
    return error.message === 'other side closed' || code === resetByAgent || code === 'EPIPE'
  }

  #flushHead(): void {
    const { response } = this.#out
    if (!this.#over && !response.destroyed) response.flushHeaders()
  }

  /** The head of an answer whose body has not come with it must not wait for the body. */
  #flushWhole(): void {
    if (this.#over || this.#whole !== undefined || this.#bytes > 0) return
    this.#expected = -1
    this.#flushHead()
  }

  #fail(error: Error): void {
    const { response, facts } = this.#out
    const code = refusalFor(error)
    const because = `${codeOf(error) || error.name}: ${messageOf(error)}`
    this.#dropBody()
    if (this.#status !== 0) {
      // The head is out: only an aborted connection tells the client that the answer is not complete.
      this.#finish({ status: this.#status, bytes: this.#bytes, code, because })
      cutAnswer(response)
      return
    }
    this.#finish({ status: refusalRow(code).status, bytes: 0, code, because })
    // Node keeps the phrase of a head that it refused to write, and would write it with ours.
    response.statusMessage = ''
    writeRefusal(response, code, facts.requestId, { headers: this.#out.answerHeaders })
  }

  #abort(because: string): void {
    if (this.#over) return
    this.#finish({ status: this.#status === 0 ? 499 : this.#status, bytes: this.#bytes, because })
    this.#release(because)
  }

  #release(because: string): void {
    this.#controller?.abort(new Error(because))
    this.#dropBody()
  }

  #dropBody(): void {
    if (this.#body instanceof MeteredBody) this.#body.destroy()
  }

  #finish(how: Ended): void {
    if (this.#over) return
    this.#over = true
    clearTimeout(this.#interim)
    this.#out.ended(how)
  }
}

/** Answers up to this size, in bytes, are written in one piece with their head when they arrive in one piece. */
const wholeBytesMax = 64 * 1024

/** A reason phrase in visible ASCII; any other says nothing that its status does not (RFC 9112 §4). */
function plainPhrase(phrase: string | undefined): string | undefined {
  return phrase !== undefined && /^[\x20-\x7e]*$/.test(phrase) ? phrase : undefined
}

/** undici's words, without a code of their own, for bytes that are no answer to what was asked. */
const noAnswer = new Set(['bad upgrade', 'bad response'])

/** Which refusal a failed exchange is. */
function refusalFor(error: Error): RefusalCode {
  if (error instanceof BodyRefused) return error.refusal
  const code = codeOf(error)
  if (code === 'UND_ERR_HEADERS_TIMEOUT' || code === 'UND_ERR_BODY_TIMEOUT') return 'AGENT_TIMEOUT'
  if (code.startsWith('HPE_') || error.name === 'HTTPParserError') return 'AGENT_ANSWER_INVALID'
  if (code === 'UND_ERR_HEADERS_OVERFLOW' || code === 'ERR_ASSERTION') return 'AGENT_ANSWER_INVALID'
  if (noAnswer.has(error.message)) return 'AGENT_ANSWER_INVALID'
  if (code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return 'AGENT_ANSWER_INVALID'
  // Node refuses to repeat a header or a status line that could split the answer.
  if (code.startsWith('ERR_INVALID') || code.startsWith('ERR_HTTP')) return 'AGENT_ANSWER_INVALID'
  return 'AGENT_DOWN'
}
