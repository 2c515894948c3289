/**
 * The HTTP daemon of signal-cli on loopback in the documented shape (signal-cli-jsonrpc(5)): one process for one or more
 * accounts, events with ids of which the last are kept for those who come again, and JSON-RPC.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

export interface RpcCall {
  readonly method: string
  readonly params: Readonly<Record<string, unknown>>
}

export interface SignalDaemon {
  readonly url: string
  /** Every call that came, oldest first. */
  readonly calls: readonly RpcCall[]
  /** The streams that are open: what each asked for. */
  readonly streams: readonly {
    readonly account: string | null
    readonly lastId: string | undefined
  }[]
  /** Everything that reached it, of whatever kind: `GET /api/v1/check`. */
  readonly requests: readonly string[]
  /** An envelope for an account, as if somebody had written. */
  receive(envelope: object, account?: string): void
  /** Words of a person in a direct chat. */
  say(from: Person, words: string): void
  /** Bytes as they are, on every open stream. */
  raw(bytes: string | Buffer): void
  keepAlive(): void
  /** Ends the streams as a daemon that is stopped does. */
  cut(): void
  /** Texts that were sent to somebody by number or account id. */
  sentTo(recipient: string): string[]
  /** What the next calls of `send` answer. */
  answers: ('ok' | 'rate limited' | 'internal error' | 503)[]
  stop(): Promise<void>
}

export interface Person {
  readonly number: string
  readonly uuid: string
}

interface Stream {
  readonly account: string | null
  readonly lastId: string | undefined
  readonly response: ServerResponse
}

interface Kept {
  readonly sequence: number
  readonly account: string
  readonly text: string
}

/** An envelope of somebody, with one part in it. */
export function envelopeOf({ number, uuid }: Person, part: object): object {
  return {
    source: number,
    sourceNumber: number,
    sourceUuid: uuid,
    sourceName: 'N',
    sourceDevice: 1,
    timestamp: Date.now(),
    serverReceivedTimestamp: Date.now(),
    serverDeliveredTimestamp: Date.now(),
    ...part,
  }
}

const words = (message: string, more: object = {}) => ({
  dataMessage: {
    timestamp: Date.now(),
    message,
    expiresInSeconds: 0,
    isExpirationUpdate: false,
    viewOnce: false,
    ...more,
  },
})
export { words as wordsOf }

/** Starts it; `own` is the account of events that name none. A `port` that was used before makes it come back there. */
export async function startSignalDaemon(own: string, port = 0): Promise<SignalDaemon> {
  const calls: RpcCall[] = []
  const streams: Stream[] = []
  const requests: string[] = []
  const kept: Kept[] = []
  const prefix = `${Date.now()}-`
  const answers: SignalDaemon['answers'] = []

  const json = (response: ServerResponse, value: unknown, status = 200) => {
    const body = Buffer.from(JSON.stringify(value))
    response.writeHead(status, {
      'Content-Type': 'application/json',
      'Content-Length': body.length,
    })
    response.end(body)
  }
  const event = ({ sequence, text }: Kept) =>
    `id:${prefix}${sequence}\nevent:receive\ndata:${text}\n\n`

  const events = (request: IncomingMessage, url: URL, response: ServerResponse) => {
    const account = url.searchParams.get('account')
    const lastId = request.headers['last-event-id']
    response.writeHead(200, { 'Content-Type': 'text/event-stream' })
    response.flushHeaders()
    const stream = { account, lastId: typeof lastId === 'string' ? lastId : undefined, response }
    if (stream.lastId !== undefined) {
      const after = stream.lastId.startsWith(prefix)
        ? Number(stream.lastId.slice(prefix.length))
        : 0
      for (const one of kept) {
        if (one.sequence > after && isFor(one, stream)) response.write(event(one))
      }
    }
    streams.push(stream)
    response.once('close', () => streams.splice(streams.indexOf(stream), 1))
  }

  const rpc = async (request: IncomingMessage, response: ServerResponse) => {
    if (!(request.headers['content-type'] ?? '').startsWith('application/json')) {
      response.writeHead(415).end()
      return
    }
    const parts: Buffer[] = []
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
    const asked = JSON.parse(Buffer.concat(parts).toString()) as Asked | Asked[]
    if (Array.isArray(asked)) json(response, asked.map(answer))
    else if (asked.method === 'send' && answers[0] === 503) {
      answers.shift()
      response.writeHead(503, { 'Retry-After': '1' }).end()
    } else json(response, answer(asked))
  }

  const answer = ({ id, method, params = {} }: Asked): object => {
    calls.push({ method, params })
    const told = { jsonrpc: '2.0', id: id ?? null }
    if (method === 'version') return { ...told, result: { version: '0.14.5' } }
    if (method === 'receive')
      return { ...told, result: kept.map(({ text }) => JSON.parse(text) as unknown) }
    if (method !== 'send') return { ...told, result: {} }
    const next = answers.shift() ?? 'ok'
    if (next === 'ok') return { ...told, result: { timestamp: Date.now() } }
    const limited = next === 'rate limited'
    return {
      ...told,
      error: {
        code: limited ? -5 : -32603,
        message: limited
          ? 'Failed to send message due to rate limiting'
          : 'An internal server error',
        data: null,
      },
    }
  }

  const server = createServer((request, response) => {
    const url = new URL(request.url ?? '/', 'http://daemon')
    requests.push(`${request.method ?? ''} ${url.pathname}`)
    const wanted = { '/api/v1/rpc': 'POST', '/api/v1/events': 'GET', '/api/v1/check': 'GET' }
    const method = Object.entries(wanted).find(([path]) => path === url.pathname)?.[1]
    if (method !== request.method) response.writeHead(method === undefined ? 404 : 405).end()
    else if (url.pathname.endsWith('/check')) response.writeHead(200).end()
    else if (url.pathname.endsWith('/events')) events(request, url, response)
    // A bot that breaks off is nothing that a server minds.
    else rpc(request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))

  const receive = (envelope: object, account = own) => {
    const one = { sequence: kept.length + 1, account, text: JSON.stringify({ envelope, account }) }
    kept.push(one)
    for (const stream of streams) if (isFor(one, stream)) stream.response.write(event(one))
  }
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    streams,
    requests,
    answers,
    receive,
    say: (from, text) => receive(envelopeOf(from, words(text))),
    raw: (bytes) => {
      for (const { response } of streams) response.write(bytes)
    },
    keepAlive: () => {
      for (const { response } of streams) response.write(':\n')
    },
    cut: () => {
      for (const { response } of [...streams]) response.end()
    },
    sentTo: (recipient) =>
      calls
        .filter(({ method, params }) => method === 'send' && goesTo(params, recipient))
        .map(({ params }) => String(params['message'])),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

interface Asked {
  readonly id?: unknown
  readonly method: string
  readonly params?: Readonly<Record<string, unknown>>
}

const isFor = (one: Kept, { account }: Stream) => account === null || one.account === account

function goesTo(params: Readonly<Record<string, unknown>>, recipient: string): boolean {
  const to = params['recipient'] ?? params['groupId']
  return Array.isArray(to) ? to.includes(recipient) : to === recipient
}
