/**
 * Telegram Bot API: webhook updates and the results of getUpdates, which are the same objects.
 * Facts: https://core.telegram.org/bots/api#setwebhook (secret token), #update, #message,
 * #messageentity.
 */
import type {
  Account,
  Channel,
  Draft,
  MentionedBy,
  Message,
  MessageClass,
  Outgoing,
  Reply,
  Room,
  Sender,
  SenderKind,
} from './channel.ts'
import { emptyOk, indivisible, jsonReply, message, nobodyKnown, nowhere } from './channel.ts'
import { postOnPath, unknown } from './channel.ts'
import {
  dig,
  field,
  id,
  instant,
  list,
  readJson,
  record,
  text,
  withoutPaths,
  writeJson,
} from './json.ts'
import type { Read } from './json.ts'
import { header, proved, sameSecret, unproved } from './proof.ts'

const name = 'telegram'

/**
 * Ids that Telegram puts into `from` when the author is a chat: shared by all chats, so they name
 * nobody.
 */
const sharedIds = new Set(['1087968824', '136817688', '777000'])

/** Telegram. */
export const telegram: Channel = {
  name,
  proof: 'secret',
  hosts: ['api.telegram.org'],
  settings: [
    {
      key: 'webhookSecret',
      secret: true,
      required: true,
      say: 'the secret_token that setWebhook was given',
      problem: (value) =>
        /^[A-Za-z0-9_-]{16,256}$/.test(value)
          ? undefined
          : 'must be 16 to 256 letters, digits, "_" or "-": set a new secret_token with setWebhook',
    },
    { key: 'botToken', secret: true, required: false, say: 'the token from @BotFather' },
    {
      key: 'agentToken',
      secret: true,
      required: false,
      say: 'a token of your own making in the form of the real one: the id of the bot, ":" and 32 or more random letters and digits, which the bot holds in place of the real one',
      problem: (value) =>
        /^\d{1,19}:[A-Za-z0-9_-]{32,128}$/.test(value)
          ? undefined
          : 'is not in the form of a bot token: use the id of the bot, ":" and the output of "openssl rand -hex 20"',
    },
  ],
  ids: {
    prefixes: ['telegram:', 'tg:'],
    sender: /^[1-9]\d{0,18}$/,
    room: /^-[1-9]\d{0,18}$/,
    remedy: 'use the numeric user id, which the audit log shows for a refused message',
  },
  contentTypes: ['application/json'],
  carries: postOnPath,
  authentic(request, account) {
    const given = header(request, 'x-telegram-bot-api-secret-token')
    return sameSecret(given, account.settings['webhookSecret'] ?? '')
      ? proved
      : unproved('the secret token header is missing, repeated or wrong')
  },
  messages(request, account) {
    const update = readJson(request.body)
    if (!update.ok) return [unknown(name, account, `the body is ${update.because}`, 'unreadable')]
    return [updateMessage(update.value, account)]
  },
  without: indivisible,
  invite,
  withheld: (messages) => withheld(messages[0]),
}

/**
 * What one `Update` says. It has exactly one key beside `update_id`; a key that we do not know is
 * dropped.
 */
export function updateMessage(update: unknown, account: Account, index = 0): Message {
  const updateId = id(field(update, 'update_id'))
  const keys = Object.keys(record(update) ?? {}).filter((key) => key !== 'update_id')
  const [key, ...more] = keys
  if (updateId === undefined || key === undefined || more.length > 0) {
    return unknown(name, account, 'not one Telegram update', `update:${updateId ?? '?'}`, index)
  }
  const reader = Object.hasOwn(readers, key) ? readers[key] : undefined
  const body = field(update, key)
  if (reader === undefined || record(body) === undefined) {
    return unknown(name, account, 'an update type that we do not know', `update:${updateId}`, index)
  }
  return message(name, account, {
    eventType: key,
    dedupeKey: `update:${updateId}`,
    index,
    ...reader(body, account),
  })
}

/** A result of getUpdates: each update with its message, in order. Telegram sends at most 100. */
export interface PolledUpdates {
  readonly updateIds: readonly number[]
  readonly messages: readonly Message[]
  /** The same answer without the updates at these indexes. */
  without(refused: ReadonlySet<number>): string
}

/**
 * Reads an answer of getUpdates for the polling road; updates without a usable id make it
 * unreadable.
 */
export function polledUpdates(bytes: Uint8Array, account: Account): Read<PolledUpdates> {
  const answer = readJson(bytes)
  if (!answer.ok) return answer
  const result = field(answer.value, 'result')
  if (field(answer.value, 'ok') !== true || !Array.isArray(result)) {
    return { ok: false, because: 'not an answer with updates' }
  }
  const updateIds: number[] = []
  for (const update of list(result)) {
    const updateId = field(update, 'update_id')
    if (typeof updateId !== 'number' || !Number.isSafeInteger(updateId)) {
      return { ok: false, because: 'an update has no usable id' }
    }
    updateIds.push(updateId)
  }
  const messages = list(result).map((update, i) => updateMessage(update, account, i))
  const without = (refused: ReadonlySet<number>): string => {
    const paths = [...refused].map((i) => ['result', i] as const)
    return writeJson(withoutPaths(answer.value, paths))
  }
  return { ok: true, value: { updateIds, messages, without } }
}

type Found = Omit<Draft, 'eventType' | 'dedupeKey' | 'index'>
type Reader = (body: unknown, account: Account) => Found

/** One reader per key of `Update` (Bot API, "Update"). */
const readers: Readonly<Record<string, Reader>> = {
  message: (body, account) => said(body, account, 'message'),
  edited_message: (body, account) => said(body, account, 'edit'),
  channel_post: (body, account) => posted(body, account, 'message'),
  edited_channel_post: (body, account) => posted(body, account, 'edit'),
  // A customer's chat with the owner looks like a private chat, but nobody in it writes to the bot.
  business_message: (body, account) => business(body, account, 'message'),
  edited_business_message: (body, account) => business(body, account, 'edit'),
  guest_message: (body, account) => guest(body, account),
  callback_query: pressed,
  inline_query: roomless,
  chosen_inline_result: roomless,
  shipping_query: roomless,
  pre_checkout_query: roomless,
  purchased_paid_media: roomless,
  managed_bot: (body, account) => by('interaction', field(body, 'user'), account, nowhere),
  subscription: (body, account) => by('interaction', field(body, 'user'), account, nowhere),
  poll_answer: (body, account) =>
    acted('interaction', body, field(body, 'user'), field(body, 'voter_chat'), account),
  message_reaction: (body, account) =>
    acted('reaction', body, field(body, 'user'), field(body, 'actor_chat'), account),
  my_chat_member: joined,
  chat_member: joined,
  chat_join_request: joined,
  business_connection(body, account) {
    const chat = id(field(body, 'user_chat_id')) ?? null
    return by('membership', field(body, 'user'), account, { id: chat, kind: 'dm' })
  },
  // Only in a private chat, whose id is the user's.
  stopped_message_generation(body, account) {
    const room = roomOf(field(body, 'chat'))
    if (room.kind !== 'dm') return nobody()
    return by('interaction', field(body, 'chat'), account, room)
  },
  poll: nobody,
  message_reaction_count: nobody,
  deleted_business_messages: nobody,
  chat_boost: nobody,
  removed_chat_boost: nobody,
}

/** The names of all update types that are read, for tests and documentation. */
export const updateTypes: readonly string[] = Object.keys(readers)

function nobody(): Found {
  return { class: 'system', withhold: 'the update has no sender' }
}

function by(of: MessageClass, user: unknown, account: Account, room: Room): Found {
  return { class: of, sender: person(user, account), room, mentioned: of === 'interaction' }
}

function roomless(body: unknown, account: Account): Found {
  return by('interaction', field(body, 'from'), account, nowhere)
}

function joined(body: unknown, account: Account): Found {
  const found = by('membership', field(body, 'from'), account, roomOf(field(body, 'chat')))
  return { ...found, at: instant(field(body, 'date'), 1000) }
}

/** A user, or the chat in whose name somebody unnamed acted. */
function acted(
  of: MessageClass,
  body: unknown,
  user: unknown,
  chat: unknown,
  account: Account,
): Found {
  const room = field(body, 'chat') === undefined ? nowhere : roomOf(field(body, 'chat'))
  const sender = chat === undefined ? person(user, account) : chatAuthor(chat, room.id)
  return { class: of, sender, room, mentioned: of === 'interaction' }
}

/** A pressed button: the sender is who pressed it; `message.from` is the bot. */
function pressed(body: unknown, account: Account): Found {
  const chat = dig(body, 'message', 'chat')
  const room = chat === undefined ? nowhere : roomOf(chat)
  const query = id(field(body, 'id'))
  return {
    ...by('interaction', field(body, 'from'), account, room),
    replyTo: query === undefined ? {} : { callback: query },
  }
}

function business(body: unknown, account: Account, of: MessageClass): Found {
  return {
    ...said(body, account, of),
    mentioned: false,
    withhold: 'a business chat is not a chat with the agent',
  }
}

/** A guest bot is summoned in chats that it is not in, and private ones are not chats with it. */
function guest(body: unknown, account: Account): Found {
  const found = said(body, account, 'message')
  return found.room?.kind === 'dm' ? { ...found, room: { ...found.room, kind: 'unknown' } } : found
}

/** What is posted stands in a channel; from any other place it is no post, and asks nobody to pair. */
function posted(body: unknown, account: Account, of: MessageClass): Found {
  const found = said(body, account, of)
  if (found.room === undefined || found.room.kind === 'channel') return found
  return { ...found, room: { ...found.room, kind: 'unknown' }, mentioned: false }
}

function said(body: unknown, account: Account, of: MessageClass): Found {
  const chat = roomOf(field(body, 'chat'))
  const thread = id(field(body, 'message_thread_id'))
  const room = thread === undefined ? chat : { ...chat, threadId: thread }
  const author = field(body, 'sender_chat')
  const sender =
    author === undefined ? person(field(body, 'from'), account) : chatAuthor(author, room.id)
  const mentionedBy = room.kind === 'dm' ? undefined : mention(body, account)
  const command = room.kind !== 'dm' && entities(body).some(isCommandAtStart)
  // "message" may carry a chat that the bot is only a guest or a business delegate in.
  const foreign = text(field(body, 'guest_query_id')) ?? text(field(body, 'business_connection_id'))
  return {
    class: of === 'message' && command ? 'command' : of,
    sender,
    room,
    mentioned: room.kind === 'dm' || mentionedBy !== undefined,
    mentionedBy,
    at: instant(field(body, 'date'), 1000),
    replyTo: room.id === null ? {} : { chat: room.id },
    withhold: foreign !== undefined && room.kind === 'dm' ? 'not a chat with the agent' : undefined,
  }
}

function person(user: unknown, account: Account): Sender {
  const sender = id(field(user, 'id'))
  if (sender === undefined) return nobodyKnown
  const handle = text(field(user, 'username'))
  return {
    id: sender,
    aliases: [],
    kind: kindOf(sender, user, account),
    ...(handle !== undefined && { handle }),
  }
}

function kindOf(sender: string, user: unknown, account: Account): SenderKind {
  if (account.bot.ids.includes(sender)) return 'self'
  if (sharedIds.has(sender)) return 'service'
  return field(user, 'is_bot') === true ? 'bot' : 'user'
}

/**
 * `sender_chat` and its like: the author is a chat; in its own room it is an anonymous
 * administrator.
 */
function chatAuthor(chat: unknown, room: string | null): Sender {
  const author = id(field(chat, 'id'))
  if (author === undefined) return nobodyKnown
  return {
    id: author,
    aliases: [],
    kind: author === room && author !== '' && !isChannel(chat) ? 'anonymous' : 'channel',
  }
}

const isChannel = (chat: unknown): boolean => field(chat, 'type') === 'channel'

function roomOf(chat: unknown): Room {
  const room = id(field(chat, 'id'))
  if (room === undefined) return nowhere
  const type = field(chat, 'type')
  if (type === 'private') return { id: room, kind: 'dm' }
  if (type === 'channel') return { id: room, kind: 'channel' }
  return { id: room, kind: type === 'group' || type === 'supergroup' ? 'group' : 'unknown' }
}

function entities(body: unknown): readonly unknown[] {
  return [...list(field(body, 'entities')), ...list(field(body, 'caption_entities'))]
}

function isCommandAtStart(entity: unknown): boolean {
  return field(entity, 'type') === 'bot_command' && field(entity, 'offset') === 0
}

/** How a message in a room addresses the bot; the words of the text alone never do. */
function mention(body: unknown, account: Account): MentionedBy | undefined {
  const { ids, names } = account.bot
  const replied = repliedTo(field(body, 'reply_to_message'))
  for (const [at, holder] of [
    [field(body, 'text'), field(body, 'entities')],
    [field(body, 'caption'), field(body, 'caption_entities')],
  ]) {
    for (const entity of list(holder)) {
      if (field(entity, 'type') === 'text_mention') {
        const mentioned = id(dig(entity, 'user', 'id'))
        if (mentioned !== undefined && ids.includes(mentioned)) return 'entity'
      }
      const handle = handleIn(entity, typeof at === 'string' ? at : '')
      if (handle !== undefined && names.some((of) => of.toLowerCase() === handle)) {
        return field(entity, 'type') === 'mention' ? 'entity' : 'command'
      }
    }
  }
  return replied !== undefined && ids.includes(replied) ? 'reply' : undefined
}

/** Everything in a topic looks like a reply to the notice that opened it; only what answers words is one. */
function repliedTo(message: unknown): string | undefined {
  const opened = field(message, 'forum_topic_created') !== undefined
  return opened ? undefined : id(dig(message, 'from', 'id'))
}

/**
 * The name in `@name` or `/command@name`, lower case; offsets count UTF-16 units, as JavaScript
 * does.
 */
function handleIn(entity: unknown, said: string): string | undefined {
  const offset = field(entity, 'offset')
  const length = field(entity, 'length')
  if (typeof offset !== 'number' || typeof length !== 'number') return undefined
  const words = said.slice(offset, offset + length)
  const form = field(entity, 'type') === 'mention' ? /^@(\w+)$/ : /^\/\w+@(\w+)$/
  if (field(entity, 'type') !== 'mention' && !isCommandAtStart(entity)) return undefined
  // Lower case only now: some letters that are no ASCII become ASCII by it.
  return form.exec(words)?.[1]?.toLowerCase()
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const callback = of.replyTo['callback']
  if (callback !== undefined) {
    return {
      sync: jsonReply({ ...answerTo(callback), text: words.slice(0, 200), show_alert: true }),
    }
  }
  const chat = of.replyTo['chat']
  if (chat === undefined) return {}
  const root = account.settings['apiRoot'] ?? 'https://api.telegram.org'
  return {
    // Telegram carries out one method from the answer to a webhook, without a token.
    sync: jsonReply({ method: 'sendMessage', chat_id: chat, text: words }),
    api: {
      method: 'POST',
      url: `${root}/bot{credential}/sendMessage`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ chat_id: chat, text: words }),
      credential: { setting: 'botToken', place: 'path' },
    },
  }
}

const answerTo = (callback: string) => ({
  method: 'answerCallbackQuery',
  callback_query_id: callback,
})

/** Anything but 2xx is delivered again; a pressed button stops spinning when it is answered. */
function withheld(of: Message | undefined): Reply {
  const callback = of?.replyTo['callback']
  return callback === undefined ? emptyOk : jsonReply(answerTo(callback))
}
