/**
 * Zalo Bot Platform: webhook events and the results of its getUpdates, which hold one event each.
 * Facts: https://bot.zapps.me/docs/webhook/ (secret token header, event names).
 */
import type { Account, Channel, Message, Outgoing, Room, Sender, Undone } from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, nowhere, postOnPath } from './channel.ts'
import { unknown } from './channel.ts'
import { dig, field, id, instant, readJson, readJsonText, text } from './json.ts'
import { digest, header, proved, sameSecret, shorterThan, unproved } from './proof.ts'

const name = 'zalo'

/** Zalo. */
export const zalo: Channel = {
  name,
  proof: 'secret',
  hosts: ['bot-api.zaloplatforms.com', 'bot-api.zapps.me'],
  settings: [
    {
      key: 'webhookSecret',
      secret: true,
      required: true,
      say: 'the secret_token that setWebhook was given',
      problem: shorterThan(16),
    },
    { key: 'botToken', secret: true, required: false, say: 'the bot token' },
  ],
  ids: {
    prefixes: ['zalo:', 'zl:'],
    sender: /^[0-9a-z]{8,40}$/,
    room: /^[0-9a-z]{8,60}$/,
    remedy: 'use the id, which the audit log shows for a refused message',
  },
  contentTypes: ['application/json'],
  carries: postOnPath,
  authentic(request, account) {
    const given = header(request, 'x-bot-api-secret-token')
    return sameSecret(given, account.settings['webhookSecret'] ?? '')
      ? proved
      : unproved('the secret token header is missing, repeated or wrong')
  },
  messages(request, account) {
    const body = readJson(request.body)
    const key = digest(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, key)]
    return [eventMessage(body.value, account, key)]
  },
  without: indivisible,
  invite,
  undone,
  withheld: () => emptyOk,
}

/**
 * An event, bare or in the `{ok, result}` of getUpdates; a body that is both is read differently by
 * different bots.
 */
export function eventMessage(body: unknown, account: Account, key: string): Message {
  const wrapped = field(body, 'result')
  const bare = field(body, 'event_name')
  if (wrapped !== undefined && bare !== undefined) {
    return unknown(name, account, 'two events in one body', key)
  }
  const event = wrapped ?? body
  const type = text(field(event, 'event_name')) ?? ''
  const said = field(event, 'message')
  const own = id(field(said, 'message_id'))
  if (!/^message\.[a-z_]{1,40}\.received$/.test(type) || own === undefined) {
    return unknown(name, account, 'an event that we do not know', key)
  }
  const room = roomOf(field(said, 'chat'))
  return message(name, account, {
    eventType: type,
    class: 'message',
    sender: senderOf(field(said, 'from'), account),
    room,
    // Zalo does not say whom a group message addresses.
    mentioned: room.kind === 'dm',
    dedupeKey: `message:${own}`,
    at: instant(field(said, 'date'), 1),
    replyTo: room.id === null ? {} : { chat: room.id },
  })
}

function senderOf(from: unknown, account: Account): Sender {
  const sender = id(field(from, 'id'))
  if (sender === undefined) return nobodyKnown
  if (account.bot.ids.includes(sender)) return { id: sender, aliases: [], kind: 'self' }
  return { id: sender, aliases: [], kind: dig(from, 'is_bot') === true ? 'bot' : 'user' }
}

function roomOf(chat: unknown): Room {
  const room = id(field(chat, 'id'))
  if (room === undefined) return nowhere
  const type = field(chat, 'chat_type')
  return { id: room, kind: type === 'PRIVATE' ? 'dm' : type === 'GROUP' ? 'group' : 'unknown' }
}

/** The Bot API says in the body whether it did something, whatever the status is. */
function undone(answer: string): Undone | undefined {
  const read = readJsonText(answer)
  if (!read.ok || field(read.value, 'ok') !== false) return undefined
  const code = field(read.value, 'error_code')
  const known = typeof code === 'number' && Number.isSafeInteger(code) ? code : undefined
  const again = known === 429 || (known !== undefined && known >= 500)
  return { because: `Zalo says ${known ?? 'no'}`, again }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const chat = of.replyTo['chat']
  if (chat === undefined) return {}
  const root = account.settings['apiRoot'] ?? 'https://bot-api.zaloplatforms.com'
  return {
    api: {
      method: 'POST',
      url: `${root}/bot{credential}/sendMessage`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ chat_id: chat, text: words }),
      credential: { setting: 'botToken', place: 'path' },
    },
  }
}
