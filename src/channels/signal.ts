/**
 * Signal through `signal-cli daemon --http`: server-sent events, read by the host from the daemon.
 * There is no webhook: what calls itself one carries no proof, so every request is refused.
 * Facts: signal-cli-jsonrpc(5),
 * https://github.com/AsamK/signal-cli/blob/master/man/signal-cli-jsonrpc.5.adoc.
 */
import { Buffer } from 'node:buffer'

import type { Account, Channel, Draft, Message, Outgoing, Room, Sender } from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, nowhere } from './channel.ts'
import { theService, unknown } from './channel.ts'
import { dig, field, id, instant, list, readJson, record, text } from './json.ts'
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
      say: 'the address of signal-cli, for replies',
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
  withheld: () => emptyOk,
}

/**
 * One block of the event stream (WHATWG HTML §9.2.6), without its closing empty line: the message
 * in its data, or undefined for a comment or keep-alive, which holds none.
 */
export function streamMessage(block: string, account: Account): Message | undefined {
  const data = block
    .split(/\r\n|\n|\r/)
    .filter((one) => one === 'data' || one.startsWith('data:'))
    .map((one) => one.slice(5).replace(/^ /, ''))
  if (data.length === 0) return undefined
  const bytes = Buffer.from(data.join('\n'))
  const read = readJson(bytes)
  if (!read.ok) return unknown(name, account, `the event is ${read.because}`, digest(bytes))
  return eventMessage(read.value, account)
}

/** Parts of an envelope that hold what was said or done; exactly one may be there. */
const parts = [
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
  const found = parts.filter((part) => record(field(envelope, part)) !== undefined)
  const [part, ...more] = found
  const sender = senderOf(envelope, account)
  const time = instant(field(envelope, 'timestamp'), 1)
  const dedupeKey = `${part ?? '?'}:${sender.id ?? '?'}:${time ?? '?'}`
  if (part === undefined || more.length > 0) {
    return unknown(name, account, 'an envelope that we do not know', dedupeKey)
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
  const room: Room = group === undefined ? direct(base.sender.id) : { id: group, kind: 'group' }
  const own = [...account.bot.ids, id(field(event, 'account')) ?? '']
  const ours = (value: unknown): boolean => own.includes(id(value) ?? '-')
  const named = list(field(data, 'mentions')).some(
    (one) => ours(field(one, 'number')) || own.includes(`uuid:${text(field(one, 'uuid')) ?? '-'}`),
  )
  const quoted = ours(dig(data, 'quote', 'author')) || ours(dig(data, 'quote', 'authorNumber'))
  const reaction = record(field(data, 'reaction')) !== undefined
  return message(name, account, {
    ...base,
    class: reaction ? 'reaction' : base.eventType === 'editMessage' ? 'edit' : 'message',
    room,
    mentioned: group === undefined || named || quoted,
    mentionedBy: group === undefined ? undefined : named ? 'entity' : quoted ? 'reply' : undefined,
    replyTo: group === undefined && base.sender.id !== null ? { to: base.sender.id } : {},
  })
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

function invite(of: Message, words: string, account: Account): Outgoing {
  const to = of.replyTo['to']?.replace(/^uuid:/, '')
  const root = account.settings['apiRoot']
  if (to === undefined || root === undefined) return {}
  const params = { recipient: [to], message: words, account: account.bot.ids[0] }
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
