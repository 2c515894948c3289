/**
 * Nextcloud Talk bots: signed activities of conversations.
 * Facts: https://nextcloud-talk.readthedocs.io/en/latest/bots/ (signature, activity types,
 * replies).
 */
import type {
  Account,
  Channel,
  Message,
  MessageClass,
  Outgoing,
  Room,
  Sender,
  SenderKind,
  WebhookRequest,
} from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, nowhere, postOnPath } from './channel.ts'
import { unknown } from './channel.ts'
import { dig, field, id, readJson, readJsonText, record, text } from './json.ts'
import { digest, header, hmac, proved, sameSecret, shorterThan, unproved } from './proof.ts'

const name = 'nextcloud-talk'

/** Nextcloud Talk. */
export const nextcloudTalk: Channel = {
  name,
  proof: 'hmac',
  hosts: [],
  settings: [
    {
      key: 'botSecret',
      secret: true,
      required: true,
      say: 'the secret that occ talk:bot:install was given',
      problem: shorterThan(40),
    },
    {
      key: 'backend',
      secret: false,
      required: false,
      say: 'the address of the Nextcloud server; requests of another one are refused, and answers go there',
      problem: (value) =>
        /^https?:\/\/[^\s?#]+$/.test(value)
          ? undefined
          : 'is not an address like https://cloud.example.com/',
    },
  ],
  ids: {
    prefixes: ['nextcloud-talk:', 'nc-talk:', 'nc:'],
    sender:
      /^(?:users\/[^\s/](?:[^/]{0,62}[^\s/])?|federated_users\/[^\s/]+@[^\s/]+|bots\/[\w-]{3,64})$/,
    room: /^[a-z0-9]{4,30}$/,
    remedy: 'use users/ and the account name, not the display name',
    canonical: (of) => (/^[^\s/@]{1,64}$/.test(of) ? `users/${of}` : of),
  },
  contentTypes: ['application/json'],
  carries: postOnPath,
  authentic,
  messages(request, account) {
    const body = readJson(request.body)
    if (!body.ok) {
      return [unknown(name, account, `the body is ${body.because}`, digest(request.body))]
    }
    return [activity(body.value, account, digest(request.body))]
  },
  without: indivisible,
  invite,
  withheld: () => emptyOk,
}

function authentic(request: WebhookRequest, account: Account) {
  const random = header(request, 'x-nextcloud-talk-random')
  const given = header(request, 'x-nextcloud-talk-signature')
  if (random === undefined || random.length < 32) return unproved('the random is missing or short')
  const secret = account.settings['botSecret'] ?? ''
  if (!sameSecret(given?.toLowerCase(), hmac('sha256', secret, 'hex', random, request.body))) {
    return unproved('the signature is missing, repeated or wrong')
  }
  // The backend header is not signed; it only pins which server the bot answers to.
  const backend = account.settings['backend']
  const claimed = header(request, 'x-nextcloud-talk-backend')
  return backend === undefined || (claimed !== undefined && bare(claimed) === bare(backend))
    ? proved
    : unproved('the backend is not the configured one')
}

const bare = (url: string): string => url.replace(/\/+$/, '').toLowerCase()

const classes: Readonly<Record<string, MessageClass>> = {
  Create: 'message',
  Update: 'edit',
  Like: 'reaction',
  Undo: 'reaction',
  Join: 'membership',
  Leave: 'membership',
}

function activity(body: unknown, account: Account, key: string): Message {
  const type = text(field(body, 'type')) ?? ''
  const found = Object.hasOwn(classes, type) ? classes[type] : undefined
  const said = found === 'message' || found === 'edit'
  // A Create without a Note is a system message of the conversation, such as a renamed room.
  const note = dig(body, 'object', 'type') === 'Note'
  if (found === undefined || (said && !note)) {
    return unknown(name, account, 'an activity that we do not know', key)
  }
  const member = found === 'membership'
  const room = roomOf(member ? dig(body, 'object', 'id') : dig(body, 'target', 'id'), account)
  const sender = senderOf(id(dig(body, 'actor', 'id')), account)
  const named = said && names(dig(body, 'object', 'content'), account)
  const own = id(dig(body, 'object', 'id')) ?? ''
  return message(name, account, {
    eventType: type,
    class: found,
    sender,
    room,
    mentioned: said && (named || room.kind === 'dm'),
    mentionedBy: named ? 'entity' : undefined,
    dedupeKey:
      found === 'message' ? `note:${room.id ?? ''}:${own}` : `${type}:${room.id ?? ''}:${key}`,
    replyTo: room.id === null ? {} : { room: room.id, reply: own },
  })
}

const kinds: Readonly<Record<string, SenderKind>> = {
  users: 'user',
  federated_users: 'user',
  bots: 'bot',
  guests: 'anonymous',
  emails: 'anonymous',
}

/** The kind stands before the slash; a guest's id lasts as long as the session. */
function senderOf(actor: string | undefined, account: Account): Sender {
  if (actor === undefined) return nobodyKnown
  const { ids } = account.bot
  const user = actor.replace(/^users\//, '')
  if (ids.includes(actor) || (user !== actor && ids.includes(user))) {
    return { id: actor, aliases: [], kind: 'self' }
  }
  const prefix = actor.split('/', 1)[0] ?? ''
  const kind = Object.hasOwn(kinds, prefix) ? kinds[prefix] : undefined
  return { id: actor, aliases: [], kind: kind ?? 'unknown' }
}

/**
 * The activity does not say what kind of room it is; what nobody knows to be direct counts as a
 * group.
 */
function roomOf(token: unknown, account: Account): Room {
  const room = id(token)
  if (room === undefined) return nowhere
  return { id: room, kind: account.directRooms?.has(room) === true ? 'dm' : 'group' }
}

/**
 * The content is JSON of its own; a mention is a parameter of type user, never a word of the text. One with a server is
 * somebody of that other server.
 */
function names(content: unknown, account: Account): boolean {
  const inner = typeof content === 'string' ? readJsonText(content) : undefined
  if (inner?.ok !== true) return false
  return Object.values(record(field(inner.value, 'parameters')) ?? {}).some((parameter) => {
    const mentioned = id(field(parameter, 'id'))
    return (
      field(parameter, 'type') === 'user' &&
      (field(parameter, 'server') ?? '') === '' &&
      mentioned !== undefined &&
      (account.bot.ids.includes(mentioned) || account.bot.ids.includes(`users/${mentioned}`))
    )
  })
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const { room, reply } = of.replyTo
  const backend = account.settings['backend']
  if (room === undefined || backend === undefined || !/^[a-z0-9]+$/i.test(room)) return {}
  const replyId = /^\d{1,15}$/.test(reply ?? '') ? { replyTo: Number(reply) } : {}
  return {
    api: {
      method: 'POST',
      url: `${backend.replace(/\/+$/, '')}/ocs/v2.php/apps/spreed/api/v1/bot/${room}/message`,
      headers: ['Content-Type', 'application/json', 'OCS-APIRequest', 'true'],
      body: JSON.stringify({ message: words, ...replyId }),
      // Signed by the host over a fresh random and the message text, not the body.
      credential: { setting: 'botSecret', place: 'nextcloud-bot' },
    },
  }
}
