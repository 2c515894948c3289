/** One webhook from its first body byte to its answer: read, prove, judge, record, and only then act. */
import { Buffer } from 'node:buffer'
import { hash } from 'node:crypto'

import type { Message, Proof, Reply, WebhookRequest } from '../channels/channel.ts'
import { proven } from '../channels/proof.ts'
import { Failure, messageOf, refusalRow, type RefusalCode } from '../errors.ts'
import type { Heard } from '../senders/desk.ts'
import { channelName } from '../senders/people.ts'
import type { Ended, Sent } from './forward.ts'
import { closeGently, writeRefusal } from './reply.ts'
import type { Counter, WebhookCall, WebhookShared } from './webhook.ts'

/** What goes on to the agent. */
interface Parcel {
  readonly body: Buffer
  /** Flat headers that replace those of the same names. */
  readonly headers: readonly string[]
}

/** RFC 9110 §15.5.2 asks for a challenge with every 401. */
const challenge = ['WWW-Authenticate', 'Webhook realm="hardshell"']

/** One webhook. A class rather than closures: it can be cut and refused from outside at any time. */
export class Intake implements Sent {
  readonly #call: WebhookCall
  readonly #counter: Counter
  readonly #shared: WebhookShared
  #chunks: Buffer[] = []
  #bytes = 0
  #timer: NodeJS.Timeout | undefined
  /** Deliveries that are taken and have not reached the agent yet. */
  #taken: string[] = []
  #forwarded: Sent | undefined
  #over = false

  constructor(call: WebhookCall, counter: Counter, shared: WebhookShared) {
    this.#call = call
    this.#counter = counter
    this.#shared = shared
  }

  /** Begins to read. */
  begin(): this {
    const { request, response, facts } = this.#call
    response.once('close', () => {
      if (!this.#over && this.#forwarded === undefined) this.#wentAway()
    })
    if (facts.framing.kind === 'none') {
      this.#whole()
      return this
    }
    const { bodyTimeMs } = this.#shared.settings
    this.#timer = setTimeout(
      () => this.refuse('REQUEST_TIMEOUT', `no whole body in ${bodyTimeMs} ms`),
      bodyTimeMs,
    )
    request.on('data', (chunk: Buffer) => this.#take(chunk))
    request.once('end', () => this.#whole())
    if (facts.expectsContinue) response.writeContinue()
    return this
  }

  cut(because: string): void {
    if (this.#forwarded !== undefined) {
      this.#forwarded.cut(because)
      return
    }
    if (this.#over) return
    this.#done({ status: 0, bytes: 0, because })
    this.#call.response.destroy()
  }

  refuse(code: RefusalCode, because: string): void {
    if (this.#forwarded !== undefined) this.#forwarded.refuse(code, because)
    else this.#refuse(code, because)
  }

  #take(chunk: Buffer): void {
    if (this.#over) return
    const { settings } = this.#shared
    this.#bytes += chunk.length
    this.#shared.held += chunk.length
    this.#chunks.push(chunk)
    if (this.#bytes > settings.bodyBytes) {
      this.#refuse('BODY_TOO_LARGE', `more than ${settings.bodyBytes} bytes`)
    } else if (this.#shared.held > settings.bodiesBytes) {
      this.#refuse('OVERLOADED', 'webhooks held at once', ['Retry-After', '5'])
    }
  }

  #whole(): void {
    clearTimeout(this.#timer)
    if (this.#over) return
    const body = Buffer.concat(this.#chunks)
    this.#chunks = []
    this.#judge(body).catch((thrown: unknown) => this.#failed(thrown))
  }

  /** Nobody knows what this request is worth: that is a no, and the service may come again. */
  #failed(thrown: unknown): void {
    const code = thrown instanceof Failure ? `${thrown.code}: ` : ''
    this.#refuse('GATE_FAILED', `${code}${messageOf(thrown)}`, ['Retry-After', '5'])
    // What was taken after the service went away.
    this.#giveBack()
  }

  async #judge(body: Buffer): Promise<void> {
    const { channel, account } = this.#counter.desk.settings
    const request = this.#request(body)
    const probe = channel.probe?.(request, account)
    if (probe !== undefined) {
      this.#answer(probe, 'a test of the service')
      return
    }
    const proof = await this.#prove(request)
    if (this.#over) return
    if (!proof.ok) {
      this.#unproven(proof.because)
      return
    }
    this.#call.proved()
    if (!this.#counter.requests.take()) {
      this.#refuse('RATE_LIMITED', 'requests of this channel', this.#retryAfter('requests'))
      return
    }
    const messages = channel.messages(request, account)
    const [first] = messages
    if (first?.class === 'probe' && messages.length === 1) {
      if (first.answer !== undefined) this.#answer(first.answer, first.eventType)
      else this.#recordAndGo([passing(first)], request, { body, headers: [] })
      return
    }
    const heard: Heard[] = []
    // One after the other: each may use up what the next one needs.
    for (const message of messages) heard.push(await this.#hear(message))
    if (this.#over) {
      this.#giveBack()
      return
    }
    this.#settle(heard, request)
  }

  #request(body: Buffer): WebhookRequest {
    const { method, path, target, headers, authorization } = this.#call.facts
    const sent = authorization === undefined ? [] : ['Authorization', authorization]
    const query = target.slice(path.length + 1)
    return { method, path, query, headers: [...headers, ...sent], body }
  }

  async #prove(request: WebhookRequest): Promise<Proof> {
    const { people, now } = this.#shared.parts
    const { channel, account } = this.#counter.desk.settings
    const source = channel.keySource?.(account)
    if (source === undefined) return proven(channel, request, account, [], now())
    const proof = await proven(channel, request, account, await people.keys.keys(source), now())
    if (proof.ok) return proof
    // The service may have begun to sign with a new key.
    const newer = await people.keys.renewed(source)
    return newer === undefined ? proof : proven(channel, request, account, newer, now())
  }

  /** Counted against the channel, never against the address: behind a tunnel the service shares it with everybody. */
  #unproven(because: string): void {
    const told = this.#counter.failures.take() && !this.#shared.overLimit.has(this.#call.facts)
    if (told) this.#refuse('WEBHOOK_UNPROVEN', because, challenge)
    else this.#refuse('RATE_LIMITED', `${because}; one of many`, this.#retryAfter('failures'))
  }

  async #hear(message: Message): Promise<Heard> {
    const { deliveries } = this.#shared.parts.people
    const { desk } = this.#counter
    const no = (because: string): Heard => ({
      message,
      passes: false,
      event: 'message.withheld',
      because,
    })
    const ignored = desk.ignores(message)
    if (ignored !== undefined) return no(ignored)
    // An edit carries the time of what it edits.
    if (message.class !== 'edit' && deliveries.isForgotten(message.at)) {
      return no('older than deliveries are remembered')
    }
    const taken = await deliveries.take(desk.place, message.deliveryKey)
    if (!taken) return no('delivered before: a replay, or the service repeats itself')
    this.#taken.push(message.deliveryKey)
    return desk.hear(message)
  }

  /** Whole, thinned or not at all. */
  #settle(heard: readonly Heard[], request: WebhookRequest): void {
    const passes = heard.filter((one) => one.passes).length
    if (passes === heard.length && passes > 0) {
      this.#recordAndGo(heard, request, { body: request.body, headers: [] })
      return
    }
    if (passes === 0) {
      this.#recordAndGo(heard, request, undefined)
      return
    }
    const { channel, account } = this.#counter.desk.settings
    const refused = new Set(heard.flatMap((one, i) => (one.passes ? [] : [i])))
    const thin = channel.without(request, account, refused)
    if (thin.ok) {
      this.#recordAndGo(heard, request, { body: Buffer.from(thin.body), headers: thin.headers })
      return
    }
    const dropped = heard.map((one): Heard => {
      if (!one.passes) return one
      const because = `with the rest of its batch: ${thin.because}`
      return { ...one, passes: false, event: 'message.withheld', because }
    })
    this.#recordAndGo(dropped, request, undefined)
  }

  /** What was decided takes effect once it is written. */
  #recordAndGo(heard: readonly Heard[], request: WebhookRequest, parcel: Parcel | undefined): void {
    const { requestId, peer, method, path } = this.#call.facts
    const digest = hash('sha256', request.body)
    this.#shared.parts.people.record(
      heard,
      { requestId, peer, method, path, digest },
      (failure) => {
        if (this.#over) {
          this.#giveBack()
          return
        }
        if (failure !== undefined) {
          this.#refuse('AUDIT_UNAVAILABLE', failure.message, ['Retry-After', '5'])
        } else if (parcel === undefined) this.#withhold(heard)
        else void this.#send(heard, parcel)
      },
    )
  }

  /** Nothing goes on; the service is content, and strangers are told by its answer or by a call. */
  #withhold(heard: readonly Heard[]): void {
    const { desk } = this.#counter
    const { channel, account } = desk.settings
    // Withheld for good: nothing is given back, whatever becomes of the answer.
    this.#taken = []
    const [only, ...more] = heard
    if (only?.tell !== undefined && more.length === 0) {
      const { sync } = channel.invite(only.message, only.tell, account)
      if (sync !== undefined) {
        this.#answer(sync, only.because)
        return
      }
    }
    this.#tell(heard)
    const messages = heard.map(({ message }) => message)
    this.#answer(channel.withheld(messages, account), 'withheld')
  }

  #tell(heard: readonly Heard[]): void {
    for (const { message, tell } of heard) {
      if (tell !== undefined) this.#counter.desk.answer(message, tell)
    }
  }

  async #send(heard: readonly Heard[], parcel: Parcel): Promise<void> {
    const { agent, forwarder, live } = this.#shared.parts
    const { facts, request, response } = this.#call
    const state = (await agent.ready()) ?? 'ready'
    if (this.#over) {
      this.#giveBack()
      return
    }
    if (state !== 'ready') {
      const code = state === 'starting' ? 'AGENT_STARTING' : 'AGENT_DOWN'
      this.#finish(code, state)
      writeRefusal(response, code, facts.requestId, { headers: ['Retry-After', '5'] })
      return
    }
    this.#tell(heard)
    let untrack: (() => void) | undefined
    this.#forwarded = forwarder.send({
      facts,
      request,
      response,
      body: parcel.body,
      headers: this.#headersFor(parcel),
      answerHeaders: ['X-Request-Id', facts.requestId],
      ended: (how) => {
        untrack?.()
        const arrived = how.status >= 200 && how.status < 300 && how.code === undefined
        if (arrived) this.#taken = []
        this.#done(how)
      },
    })
    const sent = this.#forwarded
    if (this.#over) return
    untrack = live.track(`channel:${this.#name()}`, (reason) => {
      if (reason !== 'drain') sent.cut(`ended: ${reason}`)
    })
  }

  /** As the service sent them, its proof included; only what a thinned body made false is replaced. */
  #headersFor({ headers }: Parcel): readonly string[] {
    const { facts } = this.#call
    const { forwardedHeaders, publicOrigins } = this.#shared.settings
    const replaced = new Set(
      headers.flatMap((name, i) => (i % 2 === 0 ? [name.toLowerCase()] : [])),
    )
    const all: string[] = []
    for (let i = 0; i + 1 < facts.headers.length; i += 2) {
      const name = facts.headers[i] ?? ''
      if (!replaced.has(name.toLowerCase())) all.push(name, facts.headers[i + 1] ?? '')
    }
    if (facts.authorization !== undefined) all.push('Authorization', facts.authorization)
    all.push(...headers, 'X-Request-Id', facts.requestId)
    if (forwardedHeaders) {
      const secure = publicOrigins.includes(`https://${facts.host}`)
      all.push('X-Forwarded-For', facts.peer, 'X-Forwarded-Host', facts.host)
      all.push('X-Forwarded-Proto', secure ? 'https' : 'http')
    }
    return all
  }

  /** An answer of ours to the service. */
  #answer(reply: Reply, because: string): void {
    if (this.#over) return
    const { response, facts } = this.#call
    const body = Buffer.from(reply.body)
    this.#done({ status: reply.status, bytes: body.length, because })
    if (response.destroyed) return
    const flat = [...reply.headers, 'Content-Length', String(body.length)]
    flat.push('Cache-Control', 'no-store', 'X-Request-Id', facts.requestId)
    response.writeHead(reply.status, flat)
    response.end(body)
  }

  #refuse(code: RefusalCode, because: string, headers: readonly string[] = []): void {
    if (this.#over) return
    const { facts, request, response } = this.#call
    const { requestId, peer, method, path } = facts
    const { audit, configHash } = this.#shared.parts
    audit.append({
      event: 'request.refused',
      requestId,
      peer,
      method,
      path,
      code,
      status: refusalRow(code).status,
      channel: this.#name(),
      because,
      config: configHash(),
    })
    this.#end()
    request.resume()
    if (!request.complete) closeGently(response)
    writeRefusal(response, code, requestId, { headers, close: !request.complete })
  }

  #wentAway(): void {
    this.#done({ status: 499, bytes: 0, because: 'the service went away' })
  }

  #finish(code: RefusalCode, because: string): void {
    this.#done({ status: refusalRow(code).status, bytes: 0, code, because })
  }

  #done(how: Ended): void {
    if (this.#over) return
    const { facts } = this.#call
    const { audit, monotonic } = this.#shared.parts
    audit.append({
      event: 'request.done',
      requestId: facts.requestId,
      channel: this.#name(),
      status: how.status,
      bytes: how.bytes,
      ms: Math.round(monotonic() - facts.startedAt),
      ...(how.code === undefined ? {} : { code: how.code }),
      ...(how.because === undefined ? {} : { because: how.because }),
    })
    this.#end()
  }

  #end(): void {
    this.#over = true
    clearTimeout(this.#timer)
    this.#shared.held -= this.#bytes
    this.#chunks = []
    this.#giveBack()
  }

  /** What did not reach the agent may be delivered again. */
  #giveBack(): void {
    const keys = this.#taken
    this.#taken = []
    const { people, audit } = this.#shared.parts
    for (const key of keys) {
      people.deliveries.giveBack(this.#counter.desk.place, key).catch((thrown: unknown) => {
        // It stays taken: the service's next attempt is withheld, which the log must explain.
        audit.append({
          event: 'delivery.lost',
          channel: this.#name(),
          because: messageOf(thrown),
        })
      })
    }
  }

  #retryAfter(which: 'requests' | 'failures'): readonly string[] {
    return ['Retry-After', String(Math.max(1, Math.ceil(this.#counter[which].resetMs / 1000)))]
  }

  #name(): string {
    return channelName(this.#counter.desk.place)
  }
}

/** A probe that the agent itself must answer; it is authentic and carries nobody's words. */
const passing = (message: Message): Heard => ({
  message,
  passes: true,
  event: 'message.allowed',
  because: 'a test of the service that the agent answers',
})
