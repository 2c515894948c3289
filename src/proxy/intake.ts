/** One webhook from its first body byte to its answer: read, prove, judge, record, and only then act. */
import { Buffer } from 'node:buffer'
import { hash } from 'node:crypto'

import type { KeySource, Message, Proof, Reply, WebhookRequest } from '../channels/channel.ts'
import { proven } from '../channels/proof.ts'
import { Failure, messageOf, refusalRow, type RefusalCode } from '../errors.ts'
import type { Heard } from '../senders/desk.ts'
import { channelName } from '../senders/people.ts'
import type { Ended, Sent } from './forward.ts'
import { closeGently, writeRefusal } from './reply.ts'
import { headersOfWebhook } from './webhook-headers.ts'
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
  #taken: readonly string[] = []
  #forwarded: Sent | undefined
  #over = false

  constructor(call: WebhookCall, counter: Counter, shared: WebhookShared) {
    this.#call = call
    this.#counter = counter
    this.#shared = shared
  }

  /** Begins; the body is read at the end of this turn, when most of them have come. */
  begin(): this {
    this.#call.response.on('close', () => {
      if (!this.#over && this.#forwarded === undefined) this.#wentAway()
    })
    this.#shared.turn.add(this)
    return this
  }

  /** Reads the body in one piece when all of it is there, else as it comes. */
  read(): void {
    if (this.#over) return
    const { request, response, facts } = this.#call
    if (facts.framing.kind === 'none' || request.complete) {
      const whole: unknown = request.read()
      if (Buffer.isBuffer(whole)) this.#take(whole)
      this.#whole()
      return
    }
    const { bodyTimeMs } = this.#shared.settings
    this.#timer = setTimeout(
      () => this.refuse('REQUEST_TIMEOUT', `no whole body in ${bodyTimeMs} ms`),
      bodyTimeMs,
    )
    request.on('data', (chunk: Buffer) => this.#take(chunk))
    request.once('end', () => this.#whole())
    if (facts.expectsContinue) response.writeContinue()
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
    const [only, ...more] = this.#chunks
    const body = only !== undefined && more.length === 0 ? only : Buffer.concat(this.#chunks)
    this.#chunks = []
    this.#guard(() => this.#judge(body))
  }

  /** Does the next step; one that throws or rejects is a no. */
  #guard(step: () => void | Promise<void>): void {
    try {
      step()?.catch((thrown: unknown) => this.#failed(thrown))
    } catch (thrown) {
      this.#failed(thrown)
    }
  }

  /** Nobody knows what this request is worth: that is a no, and the service may come again. */
  #failed(thrown: unknown): void {
    const code = thrown instanceof Failure ? `${thrown.code}: ` : ''
    this.#refuse('GATE_FAILED', `${code}${messageOf(thrown)}`, ['Retry-After', '5'])
    // What was taken after the service went away.
    this.#giveBack()
  }

  #judge(body: Buffer): void | Promise<void> {
    const { channel, account } = this.#counter.desk.settings
    const request = this.#request(body)
    const probe = channel.probe?.(request, account)
    if (probe !== undefined) {
      this.#answer(probe, 'a test of the service')
      return
    }
    const proof = this.#prove(request)
    if (!(proof instanceof Promise)) return this.#proved(proof, request)
    return proof.then((known) => this.#proved(known, request))
  }

  #proved(proof: Proof, request: WebhookRequest): void {
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
    const { channel, account } = this.#counter.desk.settings
    const messages = channel.messages(request, account)
    const [first] = messages
    if (first?.class === 'probe' && messages.length === 1) {
      if (first.answer !== undefined) this.#answer(first.answer, first.eventType)
      else this.#recordAndGo([passing(first)], request, { body: request.body, headers: [] })
      return
    }
    this.#takeDeliveries(messages, request)
  }

  #request(body: Buffer): WebhookRequest {
    const { method, path, target, headers, authorization } = this.#call.facts
    const query = target.slice(path.length + 1)
    if (authorization === undefined) return { method, path, query, headers, body }
    const all = [...headers, 'Authorization', authorization]
    return { method, path, query, headers: all, body }
  }

  #prove(request: WebhookRequest): Proof | Promise<Proof> {
    const { channel, account } = this.#counter.desk.settings
    const source = channel.keySource?.(account)
    if (source !== undefined) return this.#proveWithKeys(request, source)
    return proven(channel, request, account, [], this.#shared.parts.now())
  }

  async #proveWithKeys(request: WebhookRequest, source: KeySource): Promise<Proof> {
    const { people, now } = this.#shared.parts
    const { channel, account } = this.#counter.desk.settings
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

  /** Leaves out what is not worth hearing, and takes the rest. */
  #takeDeliveries(messages: readonly Message[], request: WebhookRequest): void {
    const { deliveries } = this.#shared.parts.people
    const { desk } = this.#counter
    const heard = messages.map((message) => this.#unheard(message))
    const keys = messages.filter((_, i) => heard[i] === undefined).map((one) => one.deliveryKey)
    if (keys.length === 0) {
      this.#settle(decided(heard), request)
      return
    }
    deliveries.take(desk.place, keys, (fresh, failure) =>
      this.#guard(() => {
        if (failure !== undefined) throw failure
        this.#taken = keys.filter((_, i) => fresh[i] === true)
        if (this.#over) {
          this.#giveBack()
          return
        }
        let next = 0
        for (const [i, message] of messages.entries()) {
          if (heard[i] !== undefined) continue
          if (fresh[next] !== true) heard[i] = no(message, deliveredBefore)
          next += 1
        }
        return this.#hear(messages, heard, 0, request)
      }),
    )
  }

  /** The no to a message that needs no look at what was delivered. */
  #unheard(message: Message): Heard | undefined {
    const ignored = this.#counter.desk.ignores(message)
    if (ignored !== undefined) return no(message, ignored)
    // An edit carries the time of what it edits.
    const isOld =
      message.class !== 'edit' && this.#shared.parts.people.deliveries.isForgotten(message.at)
    return isOld ? no(message, 'older than deliveries are remembered') : undefined
  }

  /** One after the other: each may use up what the next one needs. */
  #hear(
    messages: readonly Message[],
    heard: (Heard | undefined)[],
    from: number,
    request: WebhookRequest,
  ): void | Promise<void> {
    for (let i = from; i < messages.length; i += 1) {
      const message = messages[i]
      if (message === undefined || heard[i] !== undefined) continue
      const said = this.#counter.desk.hearAtOnce(message)
      if (said instanceof Promise) {
        return said.then((known) => {
          heard[i] = known
          return this.#hear(messages, heard, i + 1, request)
        })
      }
      heard[i] = said
    }
    if (this.#over) this.#giveBack()
    else this.#settle(decided(heard), request)
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
        else this.#sendWhenReady(heard, request, parcel)
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

  #sendWhenReady(heard: readonly Heard[], request: WebhookRequest, parcel: Parcel): void {
    const waiting = this.#shared.parts.agent.ready()
    if (waiting === undefined) {
      this.#send('ready', heard, parcel)
      return
    }
    void waiting.then((state) =>
      this.#guard(() => {
        const still = state === 'ready' && !this.#over ? this.#stillHeard(heard) : heard
        if (still === heard) this.#send(state, heard, parcel)
        else this.#settle(still, request)
      }),
    )
  }

  /** Without what those said who were taken out while it waited; the same when there is nobody. */
  #stillHeard(heard: readonly Heard[]): readonly Heard[] {
    const { desk } = this.#counter
    const isGone = ({ passes, message }: Heard) =>
      passes && message.class !== 'probe' && !desk.speaks(message)
    if (!heard.some(isGone)) return heard
    return heard.map((one) => (isGone(one) ? no(one.message, 'taken out while it waited') : one))
  }

  #send(state: 'ready' | 'starting' | 'down', heard: readonly Heard[], parcel: Parcel): void {
    const { forwarder, live } = this.#shared.parts
    const { facts, request, response } = this.#call
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
      headers: headersOfWebhook(facts, parcel.headers, this.#shared.settings),
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

  /** An answer of ours to the service. */
  #answer(reply: Reply, because: string): void {
    if (this.#over) return
    const { response, facts } = this.#call
    const bytes = Buffer.byteLength(reply.body)
    this.#done({ status: reply.status, bytes, because })
    if (response.destroyed) return
    const flat = [...reply.headers, 'Content-Length', String(bytes)]
    flat.push('Cache-Control', 'no-store', 'X-Request-Id', facts.requestId)
    response.writeHead(reply.status, flat)
    // As text it leaves in the same piece as its head; a body of none would be a piece of its own.
    if (bytes === 0) response.end()
    else response.end(reply.body)
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
    if (keys.length === 0) return
    this.#taken = []
    const { people, audit } = this.#shared.parts
    people.deliveries.giveBack(this.#counter.desk.place, keys).catch((thrown: unknown) => {
      const because = messageOf(thrown)
      // They stay taken: the service's next attempt is withheld, which the log must explain.
      for (const _ of keys) audit.append({ event: 'delivery.lost', channel: this.#name(), because })
    })
  }

  #retryAfter(which: 'requests' | 'failures'): readonly string[] {
    return ['Retry-After', String(Math.max(1, Math.ceil(this.#counter[which].resetMs / 1000)))]
  }

  #name(): string {
    return channelName(this.#counter.desk.place)
  }
}

const deliveredBefore = 'delivered before: a replay, or the service repeats itself'

const no = (message: Message, because: string): Heard => ({
  message,
  passes: false,
  event: 'message.withheld',
  because,
})

const decided = (heard: readonly (Heard | undefined)[]) => heard.filter((one) => one !== undefined)

/** A probe that the agent itself must answer; it is authentic and carries nobody's words. */
const passing = (message: Message): Heard => ({
  message,
  passes: true,
  event: 'message.allowed',
  because: 'a test of the service that the agent answers',
})
