/**
 * BlueBubbles (iMessage): webhooks with a shared password. Handlers of this channel have trusted
 * every loopback peer (openclaw PR #13787), and behind a proxy every peer is loopback: the password
 * is checked here.
 * Facts: https://docs.bluebubbles.app/server/developer-guides/rest-api-and-webhooks.
 */
import type { Account, Channel, Message, MessageClass, Outgoing, Room, Sender } from './channel.ts'
import type { WebhookRequest } from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, nowhere, postOnPath } from './channel.ts'
import { unknown } from './channel.ts'
import { dig, field, id, instant, list, readFormText, readJson, text } from './json.ts'
import { digest, headers, proved, sameSecret, shorterThan, unproved } from './proof.ts'

const name = 'bluebubbles'
/** Where programs put the password: two places in the query, three headers. */
const queryNames = ['password', 'guid']
const headerNames = ['x-password', 'x-guid', 'x-bluebubbles-guid']

/** BlueBubbles (iMessage). */
export const bluebubbles: Channel = {
  name,
  proof: 'secret',
  hosts: [],
  settings: [
    {
      key: 'password',
      secret: true,
      required: true,
      say: 'the server password of BlueBubbles',
      problem: shorterThan(12),
    },
    {
      key: 'serverUrl',
      secret: false,
      required: false,
      say: 'the BlueBubbles server, for replies',
    },
  ],
  ids: {
    prefixes: ['bluebubbles:', 'imessage:'],
    // An Apple account is reached by number or by address; here an address is the id itself.
    sender: /^(?:\+[1-9]\d{4,18}|[^@\s:;]+@[^@\s:;]+\.[^@\s:;]+)$/,
    room: /^[A-Za-z]+;\+;[\w-]{3,100}$/,
    remedy: 'use the number with its country code, or the address of the Apple account',
    canonical: (of) => of.toLowerCase(),
  },
  contentTypes: ['application/json'],
  carries: postOnPath,
  authentic,
  messages(request, account) {
    const body = readJson(request.body)
    const key = digest(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, key)]
    return [eventMessage(body.value, account, key)]
  },
  without: indivisible,
  invite,
  withheld: () => emptyOk,
}

/** Every password that was sent, in whatever place, must be the one. */
function authentic(request: WebhookRequest, account: Account) {
  const query = readFormText(request.query)
  if (!query.ok) return unproved('the query can be read in two ways')
  const given = [
    ...queryNames.flatMap((one) => query.value.get(one) ?? []),
    ...headerNames.flatMap((one) => headers(request, one)),
  ]
  const secret = account.settings['password'] ?? ''
  return given.length > 0 && given.every((one) => sameSecret(one, secret))
    ? proved
    : unproved('the password is missing or wrong')
}

/** Tapbacks are messages with a type of 2000 to 3006 that point at another one. */
function classOf(type: string, data: unknown): MessageClass | undefined {
  const tapback = field(data, 'associatedMessageType')
  if (tapback !== undefined && tapback !== null && tapback !== 0 && tapback !== '')
    return 'reaction'
  if (type === 'new-message') return 'message'
  return type === 'updated-message' ? 'edit' : undefined
}

/** One event of the server. */
export function eventMessage(body: unknown, account: Account, key: string): Message {
  const type = text(field(body, 'type')) ?? ''
  const data = field(body, 'data')
  const of = classOf(type, data)
  const own = id(field(data, 'guid'))
  if (!['new-message', 'updated-message'].includes(type) || of === undefined || own === undefined) {
    return unknown(name, account, 'an event that we do not know', key)
  }
  const sender = senderOf(data)
  const room = roomOf(list(field(data, 'chats')), sender)
  return message(name, account, {
    eventType: type,
    class: of,
    sender,
    room,
    mentioned: room.kind === 'dm',
    dedupeKey: of === 'message' ? `message:${own}` : `${type}:${key}`,
    deliveryKey: `${type}:${key}`,
    at: instant(field(data, 'dateCreated'), 1),
    replyTo: replyTo(list(field(data, 'chats'))[0]),
  })
}

/**
 * `handle` is the other side; with `isFromMe` the author is the account itself. Unclear means ours.
 */
function senderOf(data: unknown): Sender {
  const other = id(dig(data, 'handle', 'address'))?.toLowerCase()
  const mine = field(data, 'isFromMe')
  if (mine !== false) return { id: null, aliases: [], kind: mine === true ? 'self' : 'unknown' }
  if (other === undefined) return nobodyKnown
  // A business, a short number or a name in letters can be set by whoever sends.
  return { id: other, aliases: [], kind: bluebubbles.ids.sender.test(other) ? 'user' : 'service' }
}

/** `service;-;address` is a direct chat, `service;+;id` a group. */
function roomOf(chats: readonly unknown[], sender: Sender): Room {
  const [chat, ...more] = chats
  const guid = id(field(chat, 'guid'))
  const parts = (guid ?? '').split(';')
  if (guid === undefined || more.length > 0 || parts.length !== 3) return nowhere
  if (parts[1] === '+') return { id: guid, kind: 'group' }
  return parts[1] === '-' && sender.id !== null ? { id: sender.id, kind: 'dm' } : nowhere
}

function replyTo(chat: unknown): Readonly<Record<string, string>> {
  const guid = id(field(chat, 'guid'))
  return guid === undefined ? {} : { chat: guid }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const chat = of.replyTo['chat']
  const server = account.settings['serverUrl']
  if (chat === undefined || server === undefined) return {}
  const tempGuid = `hardshell-${digest(of.dedupeKey + words).slice(0, 24)}`
  return {
    api: {
      method: 'POST',
      url: `${server.replace(/\/+$/, '')}/api/v1/message/text`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ chatGuid: chat, tempGuid, message: words }),
      credential: { setting: 'password', place: 'query-password' },
    },
  }
}
