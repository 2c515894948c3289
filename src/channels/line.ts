/**
 * LINE Messaging API: signed batches of events.
 * Facts: https://developers.line.biz/en/docs/messaging-api/receiving-messages (signature,
 * redelivery, mentions), https://developers.line.biz/en/reference/messaging-api (webhook event
 * objects).
 */
import type {
  Account,
  Channel,
  Draft,
  Message,
  MessageClass,
  Outgoing,
  Room,
  Sender,
  Thinned,
  WebhookRequest,
} from './channel.ts'
import { emptyOk, message, nobodyKnown, nowhere, postOnPath, unknown } from './channel.ts'
import { dig, field, id, instant, list, readJson, text, withoutPaths, writeJson } from './json.ts'
import { digest, header, hmac, proved, sameSecret, shorterThan, unproved } from './proof.ts'

const name = 'line'

/** LINE. */
export const line: Channel = {
  name,
  proof: 'hmac',
  hosts: ['api.line.me'],
  settings: [
    {
      key: 'channelSecret',
      secret: true,
      required: true,
      say: 'the Channel secret on the Basic settings tab of the channel',
      problem: shorterThan(16),
    },
    { key: 'channelAccessToken', secret: true, required: false, say: 'the token for replies' },
  ],
  ids: {
    prefixes: ['line:', 'user:'],
    sender: /^U[0-9a-f]{32}$/,
    room: /^[CR][0-9a-f]{32}$/,
    remedy: 'use the user id, U and 32 digits, which the audit log shows for a refused message',
  },
  contentTypes: ['application/json'],
  carries: postOnPath,
  authentic(request, account) {
    const given = header(request, 'x-line-signature')
    const secret = account.settings['channelSecret'] ?? ''
    return sameSecret(given, hmac('sha256', secret, 'base64', request.body))
      ? proved
      : unproved('the signature is missing, repeated or wrong')
  },
  messages(request, account) {
    const body = readJson(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, 'unreadable')]
    const events = field(body.value, 'events')
    // The console's "Verify" button sends an empty list.
    if (!Array.isArray(events)) {
      return [unknown(name, account, 'not a LINE webhook', digest(request.body))]
    }
    return events.map((event: unknown, index) => eventMessage(event, account, index))
  },
  without,
  invite,
  withheld: () => emptyOk,
}

const classes: Readonly<Record<string, MessageClass>> = {
  message: 'message',
  postback: 'interaction',
  videoPlayComplete: 'interaction',
  beacon: 'interaction',
  accountLink: 'interaction',
  things: 'interaction',
  membership: 'membership',
  follow: 'membership',
  unfollow: 'membership',
  join: 'membership',
  leave: 'membership',
  memberJoined: 'membership',
  memberLeft: 'membership',
  unsend: 'reaction',
}

function eventMessage(event: unknown, account: Account, index: number): Message {
  const type = text(field(event, 'type')) ?? ''
  const key = text(field(event, 'webhookEventId'))
  const of = Object.hasOwn(classes, type) ? classes[type] : undefined
  if (of === undefined || key === undefined) {
    return unknown(name, account, 'an event that we do not know', `line:${key ?? '?'}`, index)
  }
  const source = field(event, 'source')
  const room = roomOf(source)
  const named = list(dig(event, 'message', 'mention', 'mentionees')).some(
    (mentionee) => field(mentionee, 'isSelf') === true,
  )
  const addressed = of === 'message' || of === 'interaction'
  const draft: Draft = {
    eventType: type,
    class: of,
    sender: senderOf(source, account),
    room,
    mentioned: named || (addressed && (room.kind === 'dm' || of === 'interaction')),
    mentionedBy: named ? 'entity' : undefined,
    dedupeKey: `line:${key}`,
    at: instant(field(event, 'timestamp'), 1),
    index,
    // Another module of the same account has the chat, and there is no token to answer with.
    overheard: field(event, 'mode') === 'standby',
    replyTo: replyToken(event),
  }
  return message(name, account, draft)
}

function replyToken(event: unknown): Readonly<Record<string, string>> {
  const token = text(field(event, 'replyToken'))
  return token === undefined ? {} : { token }
}

/** In groups LINE leaves `userId` out for people who have not agreed: then nobody is named. */
function senderOf(source: unknown, account: Account): Sender {
  const user = id(field(source, 'userId'))
  if (user === undefined) return nobodyKnown
  return { id: user, aliases: [], kind: account.bot.ids.includes(user) ? 'self' : 'user' }
}

function roomOf(source: unknown): Room {
  const type = field(source, 'type')
  if (type === 'user') return roomWith(id(field(source, 'userId')), 'dm')
  if (type === 'group') return roomWith(id(field(source, 'groupId')), 'group')
  return type === 'room' ? roomWith(id(field(source, 'roomId')), 'group') : nowhere
}

function roomWith(room: string | undefined, kind: Room['kind']): Room {
  return room === undefined ? nowhere : { id: room, kind }
}

/** Thins a batch and signs it anew. */
function without(request: WebhookRequest, account: Account, refused: ReadonlySet<number>): Thinned {
  const body = readJson(request.body)
  if (!body.ok) return { ok: false, because: 'the body is not readable' }
  const paths = [...refused].map((i) => ['events', i] as const)
  const thin = writeJson(withoutPaths(body.value, paths))
  const secret = account.settings['channelSecret'] ?? ''
  return {
    ok: true,
    body: thin,
    headers: ['x-line-signature', hmac('sha256', secret, 'base64', thin)],
  }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const token = of.replyTo['token']
  if (token === undefined) return {}
  const root = account.settings['apiRoot'] ?? 'https://api.line.me'
  return {
    api: {
      method: 'POST',
      url: `${root}/v2/bot/message/reply`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ replyToken: token, messages: [{ type: 'text', text: words }] }),
      credential: { setting: 'channelAccessToken', place: 'bearer' },
    },
  }
}
