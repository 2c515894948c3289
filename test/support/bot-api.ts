/** A Bot API on loopback in the documented shape: updates wait until an offset confirms them. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { notOurs } from './evidence.ts'

export interface ApiCall {
  readonly method: string
  readonly params: Readonly<Record<string, unknown>>
  readonly contentType: string
}

export interface BotApi {
  readonly url: string
  readonly token: string
  /** Every call but getUpdates, oldest first. */
  readonly calls: readonly ApiCall[]
  /** How often getUpdates was asked, and with which offset. */
  readonly polls: readonly (number | undefined)[]
  /** Polls that wait now. */
  waiting(): number
  /** Ids of updates that no offset has confirmed. */
  unconfirmed(): number[]
  /** Queues an update as if somebody had written; returns its id. */
  write(update: Record<string, unknown>): number
  /** A private message; returns the id of its update. */
  say(from: number, text: string): number
  /** Texts that the bot, or Hardshell, has sent to a chat. */
  sentTo(chat: number): string[]
  stop(): Promise<void>
}

interface Waiting {
  readonly response: ServerResponse
  readonly timer: NodeJS.Timeout
  readonly limit: number
}

/** Starts it. `token` is the real credential: nobody else is served. */
export async function startBotApi(token: string, bot = 'example_guard_bot'): Promise<BotApi> {
  const calls: ApiCall[] = []
  const polls: (number | undefined)[] = []
  let updates: { update_id: number }[] = []
  let next = 1000
  let waiting: Waiting | undefined
  let messageId = 1

  const json = (response: ServerResponse, value: unknown, status = 200) => {
    const body = JSON.stringify(value)
    response.writeHead(status, { 'Content-Type': 'application/json' })
    response.end(body)
  }
  const release = (of: Waiting, value: unknown, status = 200) => {
    clearTimeout(of.timer)
    if (waiting === of) waiting = undefined
    json(of.response, value, status)
  }
  const conflict = {
    ok: false,
    error_code: 409,
    description: 'Conflict: terminated by other getUpdates request',
  }

  const getUpdates = (params: Record<string, unknown>, response: ServerResponse) => {
    const offset = params['offset'] === undefined ? undefined : Number(params['offset'])
    const limit = Number(params['limit'] ?? 100)
    const timeout = Number(params['timeout'] ?? 0)
    polls.push(offset)
    if (waiting !== undefined) release(waiting, conflict, 409)
    if (offset !== undefined && offset >= 0) {
      updates = updates.filter((update) => update.update_id >= offset)
    } else if (offset !== undefined) updates = updates.slice(offset)
    if (updates.length > 0 || timeout === 0) {
      json(response, { ok: true, result: updates.slice(0, limit) })
      return
    }
    const timer = setTimeout(() => release(one, { ok: true, result: [] }), timeout * 1000)
    const one: Waiting = { response, timer, limit }
    waiting = one
    response.once('close', () => {
      clearTimeout(timer)
      if (waiting === one) waiting = undefined
    })
  }

  const other = (method: string, params: Record<string, unknown>): unknown => {
    const me = { id: 7_000_000_001, is_bot: true, first_name: 'Guard', username: bot }
    const chat = { id: Number(params['chat_id'] ?? 0), type: 'private', first_name: 'A' }
    const date = 1_764_000_000
    switch (method.toLowerCase()) {
      case 'getme':
        return { ...me, can_join_groups: true, supports_inline_queries: false }
      case 'sendmessage':
        messageId += 1
        return { message_id: messageId, from: me, chat, date, text: params['text'] }
      case 'getfile':
        return { file_id: params['file_id'], file_unique_id: 'u', file_path: 'photos/file_0.jpg' }
      case 'getwebhookinfo':
        return { url: `https://example.com/${token}`, pending_update_count: 0 }
      default:
        return true
    }
  }

  const serve = async (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '/', 'http://api')
    if (url.pathname === `/file/bot${token}/photos/file_0.jpg`) {
      response.writeHead(200, { 'Content-Type': 'image/jpeg', 'Content-Length': '5' })
      response.end('photo')
      return
    }
    const [, credential, method = ''] = /^\/bot([^/]+)\/(\w+)$/.exec(url.pathname) ?? []
    const parts: Buffer[] = []
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
    if (credential !== token) {
      json(response, { ok: false, error_code: 401, description: 'Unauthorized' }, 401)
      return
    }
    const contentType = request.headers['content-type'] ?? ''
    const params = {
      ...Object.fromEntries(url.searchParams),
      ...readParams(contentType, Buffer.concat(parts)),
    }
    if (method.toLowerCase() === 'getupdates') {
      getUpdates(params, response)
      return
    }
    calls.push({ method, params, contentType })
    json(response, { ok: true, result: other(method, params) })
  }

  const server = createServer((request, response) => {
    // A bot that breaks off is nothing that a server minds.
    serve(request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  notOurs(port)
  const write = (update: Record<string, unknown>) => {
    const update_id = next++
    updates.push({ update_id, ...update })
    if (waiting !== undefined) {
      release(waiting, { ok: true, result: updates.slice(0, waiting.limit) })
    }
    return update_id
  }
  return {
    url: `http://127.0.0.1:${port}`,
    token,
    calls,
    polls,
    waiting: () => (waiting === undefined ? 0 : 1),
    unconfirmed: () => updates.map(({ update_id }) => update_id),
    write,
    say: (from, text) => write({ message: privateMessage(from, text) }),
    sentTo: (chat) =>
      calls
        .filter(
          ({ method, params }) => /^sendmessage$/i.test(method) && `${chat}` === chatOf(params),
        )
        .map(({ params }) => String(params['text'])),
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

const chatOf = (params: Readonly<Record<string, unknown>>): string => {
  const chat = params['chat_id']
  return typeof chat === 'number' || typeof chat === 'string' ? `${chat}` : ''
}

function readParams(contentType: string, body: Buffer): Record<string, unknown> {
  if (body.length === 0) return {}
  if (contentType.startsWith('application/json')) {
    return JSON.parse(body.toString()) as Record<string, unknown>
  }
  if (contentType.startsWith('application/x-www-form-urlencoded')) {
    return Object.fromEntries(new URLSearchParams(body.toString()))
  }
  return { raw: body.length }
}

/** A message in a private chat, as Telegram writes it. */
export function privateMessage(from: number, text: string): Record<string, unknown> {
  const user = { id: from, is_bot: false, first_name: 'A', language_code: 'en' }
  return {
    message_id: from % 1000,
    from: user,
    chat: { id: from, first_name: 'A', type: 'private' },
    date: Math.floor(Date.now() / 1000),
    text,
  }
}
