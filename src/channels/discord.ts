/**
 * Discord: interactions over HTTP, and the same interactions, messages and reactions as the gateway
 * dispatches them.
 * Facts: https://discord.com/developers/docs/interactions/receiving-and-responding,
 * /docs/interactions/overview (security and authorization), /docs/events/gateway-events.
 */
import { Buffer } from 'node:buffer'
import { createPublicKey, verify } from 'node:crypto'

import type { Account, Channel, Draft, Message, Outgoing, Reply, Room, Sender } from './channel.ts'
import type { SenderKind } from './channel.ts'
import { emptyOk, indivisible, jsonReply, message, nobodyKnown, nowhere } from './channel.ts'
import { postOnPath, theService, unknown } from './channel.ts'
import { dig, field, id, list, readJson, record, text } from './json.ts'
import { fresh, header, proved, unproved, usualFreshness } from './proof.ts'

const name = 'discord'

/** Discord. */
export const discord: Channel = {
  name,
  proof: 'asymmetric',
  hosts: ['discord.com', 'gateway.discord.gg'],
  settings: [
    {
      key: 'publicKey',
      secret: false,
      required: true,
      say: 'the Public Key on the General Information page of the application',
      problem: (value) =>
        /^[0-9a-f]{64}$/i.test(value)
          ? undefined
          : 'is not 64 hexadecimal digits: copy the Public Key of the application',
    },
    { key: 'botToken', secret: true, required: false, say: 'the bot token' },
  ],
  ids: {
    prefixes: ['discord:', 'user:', 'channel:'],
    sender: /^\d{17,20}$/,
    room: /^\d{17,20}$/,
    remedy: 'use the user id, "Copy User ID" in developer mode',
  },
  contentTypes: ['application/json'],
  freshness: usualFreshness,
  carries: postOnPath,
  authentic(request, account, _keys, now) {
    const signature = header(request, 'x-signature-ed25519') ?? ''
    const time = header(request, 'x-signature-timestamp')
    if (!/^[0-9a-f]{128}$/i.test(signature))
      return unproved('the signature is missing or malformed')
    // Discord signs the time and leaves the window to us; without one a request is good for ever.
    if (!fresh(time, now, usualFreshness)) return unproved('the time is missing, old or ahead')
    const signed = Buffer.concat([Buffer.from(time ?? ''), request.body])
    const key = ed25519(account.settings['publicKey'] ?? '')
    return verify(null, signed, key, Buffer.from(signature, 'hex'))
      ? proved
      : unproved('the signature does not match')
  },
  messages(request, account) {
    const body = readJson(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, 'unreadable')]
    return [interactionMessage(body.value, account)]
  },
  without: indivisible,
  invite,
  withheld: (messages) => withheld(messages[0]),
}

/**
 * A raw 32-byte Ed25519 key in hexadecimal as a key object (RFC 8410 §4: the DER prefix never
 * varies).
 */
function ed25519(hex: string) {
  const der = Buffer.concat([
    Buffer.from('302a300506032b6570032100', 'hex'),
    Buffer.from(hex, 'hex'),
  ])
  return createPublicKey({ key: der, format: 'der', type: 'spki' })
}

const types: Readonly<Record<number, 'command' | 'interaction'>> = {
  2: 'command',
  3: 'interaction',
  4: 'interaction',
  5: 'interaction',
}

/** An interaction; every one of them is meant for the bot. */
export function interactionMessage(body: unknown, account: Account): Message {
  const type = field(body, 'type')
  const key = id(field(body, 'id'))
  if (type === 1) return ping(account)
  const of = typeof type === 'number' ? types[type] : undefined
  if (of === undefined || key === undefined) {
    return unknown(name, account, 'an interaction that we do not know', `interaction:${key ?? '?'}`)
  }
  const guild = id(field(body, 'guild_id'))
  const member = field(body, 'member')
  // In a guild the invoker is the member; `user`, the installer and resolved authors are other
  // people.
  const user =
    guild !== undefined || member !== undefined ? field(member, 'user') : field(body, 'user')
  return message(name, account, {
    eventType: `interaction:${String(type)}`,
    class: of,
    sender: person(user, account),
    room: interactionRoom(body, guild),
    mentioned: true,
    mentionedBy: 'command',
    dedupeKey: `interaction:${key}`,
    replyTo: { interaction: String(type) },
  })
}

function ping(account: Account): Message {
  return message(name, account, {
    eventType: 'ping',
    class: 'probe',
    sender: theService,
    dedupeKey: 'ping',
    answer: jsonReply({ type: 1 }),
  })
}

/**
 * Context 1 is the chat with the bot; 2 is somebody else's direct or group chat (docs: interaction
 * context types).
 */
function interactionRoom(body: unknown, guild: string | undefined): Room {
  const channel = id(field(body, 'channel_id'))
  if (channel === undefined) return nowhere
  const direct = guild === undefined && field(body, 'context') === 1
  return {
    ...within(channel, dig(body, 'channel', 'parent_id'), guild),
    kind: direct ? 'dm' : 'group',
  }
}

function within(channel: string, parent: unknown, guild: string | undefined): Room {
  const parentId = id(parent)
  return {
    id: channel,
    kind: 'group',
    ...(parentId !== undefined && { parentId }),
    ...(guild !== undefined && { scope: guild }),
  }
}

function person(user: unknown, account: Account): Sender {
  const sender = id(field(user, 'id'))
  if (sender === undefined) return nobodyKnown
  const self = account.bot.ids.includes(sender)
  const handle = text(field(user, 'username'))
  return {
    id: sender,
    aliases: [],
    kind: self ? 'self' : kindOf(user),
    ...(handle !== undefined && { handle }),
  }
}

/** `system`: Discord itself, in whose name nobody writes. */
function kindOf(user: unknown): SenderKind {
  if (field(user, 'system') === true) return 'service'
  return field(user, 'bot') === true ? 'bot' : 'user'
}

/**
 * One dispatch of the gateway (op 0) that carries somebody's words or deeds; undefined for the
 * gateway's own.
 */
export function gatewayMessage(dispatch: unknown, account: Account): Message | undefined {
  const type = text(field(dispatch, 't')) ?? ''
  const data = field(dispatch, 'd')
  if (field(dispatch, 'op') !== 0 || plumbing.has(type)) return undefined
  if (type === 'INTERACTION_CREATE') return interactionMessage(data, account)
  const read = Object.hasOwn(dispatches, type) ? dispatches[type] : undefined
  const found = record(data) === undefined ? undefined : read?.(data, account)
  if (found === undefined) {
    return unknown(name, account, 'a gateway event that we do not know', `gateway:${type}`)
  }
  return message(name, account, { eventType: type, ...found })
}

/**
 * Dispatches without anybody's words: the session itself, and the bot's view of guilds it is in.
 */
const plumbing = new Set(['READY', 'RESUMED', 'GUILD_CREATE', 'GUILD_DELETE', 'USER_UPDATE'])

type Found = Omit<Draft, 'eventType'>

const dispatches: Readonly<Record<string, (data: unknown, account: Account) => Found | undefined>> =
  {
    MESSAGE_CREATE: (data, account) => said(data, account, isSaid(data) ? 'message' : 'membership'),
    MESSAGE_UPDATE: edited,
    MESSAGE_REACTION_ADD: (data, account) => deed(data, account, 'reaction'),
    MESSAGE_REACTION_REMOVE: (data, account) => deed(data, account, 'reaction'),
    MESSAGE_POLL_VOTE_ADD: (data, account) => deed(data, account, 'interaction'),
    MESSAGE_POLL_VOTE_REMOVE: (data, account) => deed(data, account, 'interaction'),
    THREAD_CREATE: thread,
  }

/** Types of a message that somebody wrote, alone or as a reply; the others tell of a deed: pinned, joined, called. */
const saidTypes: ReadonlySet<unknown> = new Set([undefined, 0, 19])
const isSaid = (data: unknown): boolean => saidTypes.has(field(data, 'type'))

/** Without a time of its own it is no edit: Discord showed the page behind a link, which anybody may have written. */
function edited(data: unknown, account: Account): Found | undefined {
  const found = said(data, account, 'edit')
  const byPerson = text(field(data, 'edited_timestamp')) !== undefined
  return found === undefined || byPerson
    ? found
    : { ...found, withhold: 'the edit is not by a person: a link was shown' }
}

function said(
  data: unknown,
  account: Account,
  of: 'message' | 'edit' | 'membership',
): Found | undefined {
  const channel = id(field(data, 'channel_id'))
  const key = id(field(data, 'id'))
  const guild = id(field(data, 'guild_id'))
  if (channel === undefined || key === undefined || hiddenGuild(data)) return undefined
  // Type 1 is the chat with the bot, 3 a group chat; the gateway does not always say.
  const direct = guild === undefined && (field(data, 'channel_type') ?? 1) === 1
  const { ids } = account.bot
  const named = list(field(data, 'mentions')).some((of) => ids.includes(id(field(of, 'id')) ?? ''))
  const replied = ids.includes(id(dig(data, 'referenced_message', 'author', 'id')) ?? '')
  return {
    class: of,
    sender: author(data, account),
    room: { ...within(channel, undefined, guild), kind: direct ? 'dm' : 'group' },
    mentioned: direct || named || replied,
    mentionedBy: direct ? undefined : named ? 'entity' : replied ? 'reply' : undefined,
    dedupeKey:
      of === 'edit'
        ? `edit:${key}:${text(field(data, 'edited_timestamp')) ?? ''}`
        : `message:${key}`,
    replyTo: { channel },
  }
}

/** It was in a guild, and nobody can say in which: no direct chat. */
function hiddenGuild(data: unknown): boolean {
  const guild = field(data, 'guild_id')
  return guild !== undefined && guild !== null && id(guild) === undefined
}

/**
 * A webhook's `author` has its id and a free name; the identity is the webhook. A partial update
 * has no author.
 */
function author(data: unknown, account: Account): Sender {
  const webhook = id(field(data, 'webhook_id'))
  if (webhook === undefined) return person(field(data, 'author'), account)
  return { id: webhook, aliases: [], kind: 'webhook' }
}

function deed(data: unknown, account: Account, of: 'reaction' | 'interaction'): Found | undefined {
  const channel = id(field(data, 'channel_id'))
  const user = id(field(data, 'user_id'))
  if (channel === undefined || user === undefined || hiddenGuild(data)) return undefined
  const guild = id(field(data, 'guild_id'))
  const what = id(dig(data, 'emoji', 'name')) ?? id(field(data, 'answer_id')) ?? ''
  return {
    class: of,
    sender: { ...person({ id: user }, account) },
    room: { ...within(channel, undefined, guild), kind: guild === undefined ? 'dm' : 'group' },
    mentioned: guild === undefined || of === 'interaction',
    dedupeKey: `deed:${id(field(data, 'message_id')) ?? ''}:${user}:${what}`,
  }
}

function thread(data: unknown, account: Account): Found | undefined {
  const channel = id(field(data, 'id'))
  const guild = id(field(data, 'guild_id'))
  if (channel === undefined || guild === undefined) return undefined
  return {
    class: 'membership',
    sender: person({ id: field(data, 'owner_id') }, account),
    room: within(channel, field(data, 'parent_id'), guild),
    dedupeKey: `thread:${channel}`,
  }
}

/** Only for the eyes of the invoker, and without any mention that the words could make. */
const whisper = (content: string): Reply =>
  jsonReply({ type: 4, data: { content, flags: 64, allowed_mentions: { parse: [] } } })

function invite(of: Message, words: string, account: Account): Outgoing {
  const interaction = of.replyTo['interaction']
  if (interaction === '4') return {}
  if (interaction !== undefined) return { sync: whisper(words) }
  const channel = of.replyTo['channel']
  if (channel === undefined) return {}
  const root = account.settings['apiRoot'] ?? 'https://discord.com/api/v10'
  return {
    api: {
      method: 'POST',
      url: `${root}/channels/${channel}/messages`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ content: words, allowed_mentions: { parse: [] } }),
      credential: { setting: 'botToken', place: 'bot' },
    },
  }
}

/** An interaction must be answered within three seconds, or Discord shows a failure. */
function withheld(of: Message | undefined): Reply {
  const interaction = of?.replyTo['interaction']
  if (interaction === undefined) return emptyOk
  return interaction === '4'
    ? jsonReply({ type: 8, data: { choices: [] } })
    : whisper('Not available.')
}
