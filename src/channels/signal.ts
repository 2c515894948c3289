/**
 * Signal through `signal-cli daemon --http`: server-sent events, which the bot reads through the host.
 * There is no webhook: what calls itself one carries no proof, so every request is refused.
 * Facts: signal-cli-jsonrpc(5),
 * https://github.com/AsamK/signal-cli/blob/master/man/signal-cli-jsonrpc.5.adoc.
 */
import { Buffer } from 'node:buffer'

import type {
  Account,
  Channel,
  Draft,
  Message,
  MessageClass,
  Outgoing,
  Room,
  Sender,
  Undone,
} from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, nowhere } from './channel.ts'
import { theService, unknown } from './channel.ts'
import { dig, field, id, instant, list, readJson, readJsonText, record, text } from './json.ts'
import { digest, unproved } from './proof.ts'

const name = 'signal'
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/

/** Signal, through signal-cli. */
export const signal: Channel = {
  name,
  proof: 'none',
  hosts: [],
  settings: [
    {
      key: 'apiRoot',
      secret: false,
      required: false,
      say: 'the address of "signal-cli daemon --http"',
    },
    {
      key: 'agentToken',
      secret: true,
      required: false,
      say: 'what the bot proves itself with: 32 or more random letters and digits, the first segment of the path that it is told',
      problem: (value) =>
        /^[A-Za-z0-9_-]{32,128}$/.test(value)
          ? undefined
          : 'is not 32 to 128 letters and digits: use the output of "openssl rand -hex 32"',
    },
  ],
  ids: {
    prefixes: ['signal:'],
    sender: /^(?:uuid:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\+[1-9]\d{4,18})$/,
    room: /^[A-Za-z0-9+/_-]{8,100}={0,2}$/,
    remedy: 'use uuid: and the account id, or the number with its country code',
    canonical: (of) => (uuid.test(of.toLowerCase()) ? `uuid:${of.toLowerCase()}` : of),
  },
  contentTypes: [],
  carries: () => false,
  authentic: () => unproved('Signal has no webhook'),
  messages: () => [],
  without: indivisible,
  invite,
  undone,
  withheld: () => emptyOk,
}

/** The data of one `receive` event of the stream. */
export function streamMessage(data: string, account: Account): Message {
  const bytes = Buffer.from(data)
  const read = readJson(bytes)
  const key = digest(bytes)
  if (!read.ok) return unknown(name, account, `the event is ${read.because}`, key)
  // The writer chooses the time of a message, so only the same event again is the same message.
  return { ...eventMessage(read.value, account), dedupeKey: key, deliveryKey: key }
}

/**
 * The account as signal-cli names it: its number, or its account id where it has none. Undefined when `botIds` gives
 * neither.
 */
export function ownAccount({ bot }: Account): string | undefined {
  const number = bot.ids.find((one) => one.startsWith('+'))
  return number ?? bot.ids.find((one) => one.startsWith('uuid:'))?.slice('uuid:'.length)
}

/** Whether an event or a call is for this account: signal-cli writes an account id without our prefix. */
export function isOwnAccount(value: unknown, { bot }: Account): boolean {
  return typeof value === 'string' && (bot.ids.includes(value) || bot.ids.includes(`uuid:${value}`))
}

/** Parts of an envelope that hold what was said or done; exactly one may be there, and nothing else of its kind. */
const parts: readonly string[] = [
  'dataMessage',
  'editMessage',
  'syncMessage',
  'typingMessage',
  'receiptMessage',
  'callMessage',
  'storyMessage',
]

/** The `params` of a `receive` notification. */
export function eventMessage(event: unknown, account: Account): Message {
  const envelope = field(event, 'envelope')
  const found = Object.entries(record(envelope) ?? {}).flatMap(([key, value]) =>
    typeof value === 'object' && value !== null ? [key] : [],
  )
  const [part, ...more] = found
  const sender = senderOf(envelope, account)
  const time = instant(field(envelope, 'timestamp'), 1)
  const dedupeKey = `${part ?? '?'}:${sender.id ?? '?'}:${time ?? '?'}`
  if (part === undefined || !parts.includes(part) || more.length > 0) {
    return unknown(name, account, 'an envelope that we do not know', dedupeKey)
  }
  const owner = field(event, 'account')
  if (ownAccount(account) !== undefined && isThere(owner) && !isOwnAccount(owner, account)) {
    return unknown(name, account, 'it is for another account', dedupeKey)
  }
  const base = { eventType: part, dedupeKey, at: time, sender }
  if (part === 'dataMessage') return said(base, field(envelope, part), account, event)
  if (part === 'editMessage') {
    return said(base, dig(envelope, part, 'dataMessage'), account, event)
  }
  if (part === 'syncMessage') return synced(base, field(envelope, part), account)
  if (part === 'typingMessage' || part === 'receiptMessage') {
    return message(name, account, { ...base, class: 'status', sender: theService })
  }
  return message(name, account, { ...base, class: 'unknown', withhold: 'a call or a story' })
}

type Base = Pick<Draft, 'eventType' | 'dedupeKey' | 'at'> & { readonly sender: Sender }

function said(base: Base, data: unknown, account: Account, event: unknown): Message {
  const group = id(dig(data, 'groupInfo', 'groupId')) ?? id(dig(data, 'groupV2', 'id'))
  const inGroup = [field(data, 'groupInfo'), field(data, 'groupV2')].some(isThere)
  if (inGroup && group === undefined) {
    return unknown(name, account, 'a group without an id', base.dedupeKey)
  }
  const room: Room = group === undefined ? direct(base.sender.id) : { id: group, kind: 'group' }
  const own = [...account.bot.ids, id(field(event, 'account')) ?? '']
  const ours = (value: unknown): boolean => {
    const one = id(value)
    return one !== undefined && (own.includes(one) || own.includes(`uuid:${one.toLowerCase()}`))
  }
  const named = list(field(data, 'mentions')).some(
    (one) => ours(field(one, 'number')) || ours(field(one, 'uuid')),
  )
  const quoted = ['author', 'authorNumber', 'authorUuid'].some((key) =>
    ours(dig(data, 'quote', key)),
  )
  return message(name, account, {
    ...base,
    class: classOf(base, data),
    room,
    mentioned: group === undefined || named || quoted,
    mentionedBy: group === undefined ? undefined : named ? 'entity' : quoted ? 'reply' : undefined,
    replyTo: group === undefined && base.sender.id !== null ? { to: base.sender.id } : {},
  })
}

const isThere = (value: unknown): boolean => value !== undefined && value !== null

/** A timer, a deletion or a vote is no words of its own: nobody is answered for it. */
function classOf({ eventType }: Base, data: unknown): MessageClass {
  if (record(field(data, 'reaction')) !== undefined) return 'reaction'
  const words =
    text(field(data, 'message')) !== undefined ||
    ['sticker', 'pollCreate'].some((key) => record(field(data, key)) !== undefined) ||
    ['attachments', 'contacts'].some((key) => list(field(data, key)).length > 0)
  return eventType === 'dataMessage' && words ? 'message' : 'edit'
}

/** What the account itself did on another device. */
function synced(base: Base, sync: unknown, account: Account): Message {
  const to = id(dig(sync, 'sentMessage', 'destination')) ?? null
  const room = direct(to)
  const sender: Sender = { ...base.sender, kind: 'self' }
  return message(name, account, { ...base, class: 'message', sender, room, mentioned: true })
}

function direct(other: string | null): Room {
  return other === null ? nowhere : { id: other, kind: 'dm' }
}

/**
 * The account id stays with a person; a number can be given to somebody else, and is only an alias.
 */
function senderOf(envelope: unknown, account: Account): Sender {
  const person = text(field(envelope, 'sourceUuid'))?.toLowerCase()
  const number = id(field(envelope, 'sourceNumber'))
  const stable = person !== undefined && uuid.test(person) ? `uuid:${person}` : undefined
  const sender = stable ?? number
  if (sender === undefined) return nobodyKnown
  const aliases = stable !== undefined && number !== undefined ? [number] : []
  const self = [sender, ...aliases].some((one) => account.bot.ids.includes(one))
  return { id: sender, aliases, kind: self ? 'self' : 'user' }
}

/** Codes of signal-cli that pass: the network, and a limit of the service. */
const passing: ReadonlySet<unknown> = new Set([-3, -5])

/** A call of JSON-RPC that failed, or a message that no recipient took. */
function undone(answer: string): Undone | undefined {
  const read = readJsonText(answer)
  const error = read.ok ? field(read.value, 'error') : undefined
  if (isThere(error)) {
    const code = field(error, 'code')
    const known = typeof code === 'number' && Number.isSafeInteger(code) ? code : 'no'
    return { because: `signal-cli says ${known}`, again: passing.has(code) }
  }
  const results = read.ok ? list(dig(read.value, 'result', 'results')) : []
  const reached = results.length === 0 || results.some((one) => field(one, 'type') === 'SUCCESS')
  return reached ? undefined : { because: 'signal-cli reaches nobody', again: false }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const to = of.replyTo['to']?.replace(/^uuid:/, '')
  const root = account.settings['apiRoot']
  if (to === undefined || root === undefined) return {}
  const params = { recipient: [to], message: words, account: ownAccount(account) }
  return {
    api: {
      method: 'POST',
      url: `${root.replace(/\/+$/, '')}/api/v1/rpc`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ jsonrpc: '2.0', id: digest(of.dedupeKey), method: 'send', params }),
      credential: { setting: '', place: 'none' },
    },
  }
}
