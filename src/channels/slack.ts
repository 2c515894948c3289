/**
 * Slack: Events API, slash commands and interactivity over HTTP; Socket Mode envelopes hold the
 * same payloads.
 * Facts: https://api.slack.com/docs/verifying-requests-from-slack,
 * https://api.slack.com/apis/events-api, https://api.slack.com/interactivity/slash-commands.
 */
import type {
  Account,
  Channel,
  Draft,
  Message,
  MessageClass,
  Outgoing,
  Reply,
  Room,
  Sender,
  Undone,
  WebhookRequest,
} from './channel.ts'
import { emptyOk, indivisible, jsonReply, message, nobodyKnown, nowhere } from './channel.ts'
import { postOnPath, theService, unknown } from './channel.ts'
import { dig, field, id, instant, list, readForm, readJson, readJsonText, record } from './json.ts'
import { text } from './json.ts'
import { digest, fresh, header, hmac, mediaType, proved, sameSecret } from './proof.ts'
import { unproved, usualFreshness } from './proof.ts'

const name = 'slack'
const form = 'application/x-www-form-urlencoded'
/** Slack's own bot, which writes as a member. */
const slackbot = 'USLACKBOT'

/** Slack. */
export const slack: Channel = {
  name,
  proof: 'hmac',
  hosts: ['slack.com', 'hooks.slack.com', 'wss-primary.slack.com'],
  settings: [
    {
      key: 'signingSecret',
      secret: true,
      required: true,
      say: 'the Signing Secret on the Basic Information page of the app',
      problem: (value) =>
        value.length < 16 ? 'is too short: copy the Signing Secret of the app' : undefined,
    },
    { key: 'botToken', secret: true, required: false, say: 'the bot token, xoxb-…' },
  ],
  ids: {
    prefixes: ['slack:', 'user:', 'channel:'],
    sender: /^(?:[TE][A-Z0-9]{2,20}:)?[UWB][A-Z0-9]{2,20}$/,
    room: /^[CGD][A-Z0-9]{2,20}$/,
    remedy: 'use the member id, "Copy member ID" in the profile, like U0123ABCD',
  },
  contentTypes: ['application/json', form],
  freshness: usualFreshness,
  carries: postOnPath,
  probe: sslCheck,
  authentic(request, account, _keys, now) {
    const signature = header(request, 'x-slack-signature')
    const time = header(request, 'x-slack-request-timestamp')
    if (!fresh(time, now, usualFreshness)) return unproved('the time is missing, old or ahead')
    const secret = account.settings['signingSecret'] ?? ''
    const expected = `v0=${hmac('sha256', secret, 'hex', `v0:${time}:`, request.body)}`
    return sameSecret(signature, expected) ? proved : unproved('the signature does not match')
  },
  messages(request, account) {
    if (mediaType(request) !== form) {
      const event = readJson(request.body)
      return [event.ok ? eventMessage(event.value, account) : unreadable(account, event.because)]
    }
    const fields = readForm(request.body)
    if (!fields.ok) return [unreadable(account, fields.because)]
    const payload = fields.value.get('payload')
    if (payload === undefined) return [commandMessage(Object.fromEntries(fields.value), account)]
    // A command and a payload in one: programs differ in which of them they run.
    if (fields.value.size > 1) return [unreadable(account, 'a payload with other fields')]
    const interaction = readJsonText(payload)
    if (!interaction.ok) return [unreadable(account, interaction.because)]
    // Signed with the time, so that a menu that is asked the same twice is answered twice.
    const key = digest(header(request, 'x-slack-signature') ?? payload)
    return [interactionMessage(interaction.value, account, key)]
  },
  without: indivisible,
  invite,
  undone,
  withheld: (messages) => withheld(messages[0]),
}

/**
 * Slack tests a command's URL with `ssl_check=1`, which need not be signed. Some SDKs run handlers
 * on it (slackapi/bolt-js #2897), so it is answered here and never goes on, whatever else the form
 * holds.
 */
function sslCheck(request: WebhookRequest): Reply | undefined {
  if (mediaType(request) !== form) return undefined
  const fields = readForm(request.body)
  return fields.ok && fields.value.has('ssl_check') ? emptyOk : undefined
}

function unreadable(account: Account, because: string): Message {
  return unknown(name, account, `the body is ${because}`, 'unreadable')
}

/**
 * One payload of Socket Mode: the same facts as over HTTP, in an envelope that the host
 * acknowledges.
 */
export function socketMessage(envelope: unknown, account: Account): Message {
  const payload = field(envelope, 'payload')
  const type = field(envelope, 'type')
  if (type === 'events_api') return eventMessage(payload, account)
  if (type === 'slash_commands') return commandMessage(payload, account)
  const key = text(field(envelope, 'envelope_id')) ?? 'envelope'
  if (type === 'interactive') return interactionMessage(payload, account, key)
  return unknown(name, account, 'a Socket Mode envelope that we do not know', key)
}

/** An Events API payload. */
export function eventMessage(payload: unknown, account: Account): Message {
  const type = field(payload, 'type')
  if (type === 'url_verification') return challenge(payload, account)
  const event = field(payload, 'event')
  const eventId = text(field(payload, 'event_id'))
  const key = `event:${eventId ?? '?'}`
  if (type !== 'event_callback' || record(event) === undefined || eventId === undefined) {
    return unknown(name, account, 'not a Slack event', key)
  }
  const eventType = text(field(event, 'type')) ?? ''
  const read = Object.hasOwn(events, eventType) ? events[eventType] : undefined
  const found = read?.(event, account, installedIn(payload))
  if (found === undefined) return unknown(name, account, 'an event that we do not know', key)
  return message(name, account, { eventType, dedupeKey: key, deliveryKey: key, ...found })
}

/** The workspace that the app is installed in; in a shared channel `team_id` may be that of others. */
function installedIn(payload: unknown): string | undefined {
  const [first] = list(field(payload, 'authorizations'))
  return text(field(first, 'team_id')) ?? text(field(payload, 'team_id'))
}

/** Only reached with a valid signature. The challenge is one word; anything else is not echoed. */
function challenge(payload: unknown, account: Account): Message {
  const word = text(field(payload, 'challenge')) ?? ''
  return message(name, account, {
    eventType: 'url_verification',
    class: 'probe',
    sender: theService,
    dedupeKey: 'url_verification',
    answer: /^[\w.~+/=-]{1,200}$/.test(word) ? jsonReply({ challenge: word }) : jsonReply({}, 400),
  })
}

type Found = Omit<Draft, 'eventType' | 'dedupeKey' | 'index'> & { readonly dedupeKey?: string }
type Reader = (event: unknown, account: Account, team: string | undefined) => Found | undefined

/**
 * One reader per event type; types that carry nobody's words to the bot are added here, others are
 * dropped.
 */
const events: Readonly<Record<string, Reader>> = {
  message: messageEvent,
  app_mention: (event, account, team) => said(event, account, team, 'event'),
  reaction_added: reaction,
  reaction_removed: reaction,
  app_home_opened: (event, account, team) => membership(event, field(event, 'user'), account, team),
  member_joined_channel: (event, account, team) =>
    membership(event, field(event, 'user'), account, team),
  member_left_channel: (event, account, team) =>
    membership(event, field(event, 'user'), account, team),
  assistant_thread_started: assistant,
  assistant_thread_context_changed: assistant,
  link_shared: (event, account, team) => pointed(event, field(event, 'user'), account, team),
  file_shared: (event, account, team) => pointed(event, field(event, 'user_id'), account, team),
  // The inputs of a workflow step may hold any user; nobody is named as the one who ran it.
  function_executed: () => ({ class: 'system', withhold: 'a workflow step names no user' }),
  app_uninstalled: () => ({ class: 'status', sender: theService }),
  tokens_revoked: () => ({ class: 'status', sender: theService }),
}

const plainSubtypes = new Set([
  'file_share',
  'me_message',
  'thread_broadcast',
  'reply_broadcast',
  'bot_message',
])
const memberSubtypes = new Set(['channel_join', 'channel_leave', 'group_join', 'group_leave'])

function messageEvent(
  event: unknown,
  account: Account,
  team: string | undefined,
): Found | undefined {
  const subtype = text(field(event, 'subtype'))
  if (subtype === undefined || plainSubtypes.has(subtype)) return said(event, account, team)
  if (subtype === 'message_changed') return edited(event, account, team)
  if (memberSubtypes.has(subtype)) return membership(event, field(event, 'user'), account, team)
  return undefined
}

function said(
  event: unknown,
  account: Account,
  team: string | undefined,
  by?: 'event',
): Found | undefined {
  const room = roomOf(event, field(event, 'channel'), team)
  const mentionedBy = by ?? (mentions(field(event, 'text'), account) ? 'entity' : undefined)
  const ts = text(field(event, 'ts'))
  if (ts === undefined || room.id === null) return undefined
  return {
    class: 'message',
    sender: author(event, account, team),
    room,
    mentioned: room.kind === 'dm' || mentionedBy !== undefined,
    mentionedBy: room.kind === 'dm' ? undefined : mentionedBy,
    // The same words come as app_mention and as message.channels.
    dedupeKey: `said:${room.id}:${ts}`,
    at: instant(ts.split('.')[0], 1000),
    replyTo: { channel: room.id },
  }
}

/**
 * An edit's author stands inside; without an `edited` that is new it is Slack's unfurling of a page
 * that anybody may have written.
 */
function edited(event: unknown, account: Account, team: string | undefined): Found {
  const inner = field(event, 'message')
  const before = text(dig(event, 'previous_message', 'edited', 'ts'))
  const isNew = before === undefined || before !== text(dig(inner, 'edited', 'ts'))
  const editor = isNew ? id(dig(inner, 'edited', 'user')) : undefined
  const room = roomOf(event, field(event, 'channel'), team)
  const mentioned = mentions(field(inner, 'text'), account)
  const unfurl =
    editor === undefined ? 'the edit is not by a person: a link was unfurled' : undefined
  const other =
    editor !== undefined && editor !== id(field(inner, 'user'))
      ? 'the edit is not by the author'
      : undefined
  return {
    class: 'edit',
    sender: author(inner, account, team),
    room,
    mentioned: room.kind === 'dm' || mentioned,
    mentionedBy: mentioned ? 'entity' : undefined,
    withhold: unfurl ?? other,
  }
}

function reaction(event: unknown, account: Account, team: string | undefined): Found {
  const room = roomOf(event, dig(event, 'item', 'channel'), team)
  return { class: 'reaction', sender: person(event, field(event, 'user'), account, team), room }
}

function membership(
  event: unknown,
  user: unknown,
  account: Account,
  team: string | undefined,
): Found {
  const room = roomOf(event, field(event, 'channel'), team)
  return { class: 'membership', sender: person(event, user, account, team), room }
}

function assistant(event: unknown, account: Account, team: string | undefined): Found {
  const thread = field(event, 'assistant_thread')
  const room = roomOf(undefined, field(thread, 'channel_id'), team)
  const sender = person(undefined, field(thread, 'user_id'), account, team)
  return { class: 'membership', sender, room }
}

function pointed(event: unknown, user: unknown, account: Account, team: string | undefined): Found {
  const channel = field(event, 'channel') ?? field(event, 'channel_id')
  const room = roomOf(event, channel, team)
  return { class: 'interaction', sender: person(event, user, account, team), room, mentioned: true }
}

/**
 * The author of a message. Whatever an app posts is the app's, also when it posts in a person's
 * name.
 */
function author(event: unknown, account: Account, team: string | undefined): Sender {
  const user = person(event, field(event, 'user'), account, team)
  const bot = id(field(event, 'bot_id'))
  if (user.kind === 'self') return user
  if (bot === undefined && field(event, 'subtype') !== 'bot_message') return user
  if (bot === undefined) return nobodyKnown
  return { id: bot, aliases: [], kind: account.bot.ids.includes(bot) ? 'self' : 'bot' }
}

/**
 * A user of another workspace (Slack Connect) is named with it, so that a bare entry never means a
 * foreigner.
 */
function person(event: unknown, user: unknown, account: Account, team: string | undefined): Sender {
  const sender = id(user)
  if (sender === undefined) return nobodyKnown
  const homes = ['user_team', 'source_team'].flatMap((key) => text(field(event, key)) ?? [])
  const foreign = team === undefined ? undefined : homes.find((one) => one !== team)
  const home = foreign ?? homes[0]
  return {
    id: foreign === undefined ? sender : `${foreign}:${sender}`,
    aliases: [],
    kind: account.bot.ids.includes(sender) ? 'self' : sender === slackbot ? 'bot' : 'user',
    ...(home !== undefined && { scope: home }),
  }
}

/** A direct chat has a channel type of its own and an id that begins with D; `mpim` is a group. */
function roomOf(event: unknown, channel: unknown, team: string | undefined): Room {
  const room = id(channel)
  if (room === undefined) return nowhere
  const type = text(field(event, 'channel_type'))
  const direct = type === undefined ? room.startsWith('D') : type === 'im'
  const thread = id(field(event, 'thread_ts'))
  return {
    id: room,
    kind: direct && room.startsWith('D') ? 'dm' : 'group',
    ...(thread !== undefined && { threadId: thread }),
    ...(team !== undefined && { scope: team }),
  }
}

/** `<@U…>` or `<@U…|label>`; typed angle brackets arrive as `&lt;` and are no mention. */
function mentions(words: unknown, account: Account): boolean {
  if (typeof words !== 'string') return false
  for (const found of words.matchAll(/<@([UW][A-Z0-9]+)(?:\|[^>]*)?>/g)) {
    if (account.bot.ids.includes(found[1] ?? '')) return true
  }
  return false
}

/** A slash command; it also works in channels that the bot is not in. */
function commandMessage(fields: unknown, account: Account): Message {
  const trigger = text(field(fields, 'trigger_id'))
  const command = text(field(fields, 'command'))
  const key = `trigger:${trigger ?? '?'}`
  if (command === undefined || trigger === undefined) {
    return unknown(name, account, 'not a slash command', key)
  }
  const team = text(field(fields, 'team_id'))
  return message(name, account, {
    eventType: 'slash_command',
    class: 'command',
    sender: person(undefined, field(fields, 'user_id'), account, team),
    room: roomOf(undefined, field(fields, 'channel_id'), team),
    mentioned: true,
    mentionedBy: 'command',
    dedupeKey: key,
    replyTo: { command: 'yes' },
  })
}

const interactionTypes = new Set([
  'block_actions',
  'block_suggestion',
  'interactive_message',
  'dialog_submission',
  'dialog_cancellation',
  'message_action',
  'shortcut',
  'view_submission',
  'view_closed',
  'workflow_step_edit',
])

/**
 * A pressed button, a menu, a shortcut or a modal: the sender is `user`; the message around it is
 * the bot's own.
 */
function interactionMessage(payload: unknown, account: Account, key: string): Message {
  const type = text(field(payload, 'type')) ?? ''
  if (!interactionTypes.has(type)) {
    return unknown(name, account, 'an interaction that we do not know', key)
  }
  const of: MessageClass = 'interaction'
  const user = field(payload, 'user')
  const team = text(dig(payload, 'team', 'id')) ?? text(field(user, 'team_id'))
  const home = { user_team: field(user, 'team_id') }
  const channel = dig(payload, 'channel', 'id') ?? dig(payload, 'container', 'channel_id')
  const response = text(field(payload, 'response_url'))
  return message(name, account, {
    eventType: type,
    class: of,
    sender: person(home, field(user, 'id'), account, team),
    room: roomOf(undefined, channel, team),
    mentioned: true,
    mentionedBy: 'event',
    dedupeKey: `interaction:${text(field(payload, 'trigger_id')) ?? key}`,
    replyTo: { type, ...(isResponseUrl(response) && { response }) },
  })
}

/** The address is signed by Slack, and still only Slack's own host is called. */
function isResponseUrl(url: string | undefined): url is string {
  return url?.startsWith('https://hooks.slack.com/') ?? false
}

/** Slack reads `&`, `<` and `>` as markup. */
function escape(words: string): string {
  return words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
}

/** Slack answers 200 to what it did not do; its error is one word of a known form. */
function undone(answer: string): Undone | undefined {
  const read = readJsonText(answer)
  if (!read.ok || field(read.value, 'ok') !== false) return undefined
  const error = field(read.value, 'error')
  const plain = typeof error === 'string' && /^[a-z_]{1,60}$/.test(error) ? error : 'no'
  return { because: `Slack says ${plain}`, again: false }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const json = ['Content-Type', 'application/json; charset=utf-8']
  const whisper = { response_type: 'ephemeral', text: escape(words) }
  if (of.replyTo['command'] !== undefined) return { sync: jsonReply(whisper) }
  const response = of.replyTo['response']
  if (response !== undefined) {
    const body = JSON.stringify({ ...whisper, replace_original: false })
    const credential = { setting: '', place: 'none' } as const
    return { api: { method: 'POST', url: response, headers: json, body, credential } }
  }
  const channel = of.replyTo['channel']
  if (channel === undefined) return {}
  const root = account.settings['apiRoot'] ?? 'https://slack.com/api'
  return {
    api: {
      method: 'POST',
      url: `${root}/chat.postMessage`,
      headers: json,
      body: JSON.stringify({ channel, text: escape(words), unfurl_links: false }),
      credential: { setting: 'botToken', place: 'bearer' },
    },
  }
}

/**
 * Slack retries anything but a 2xx within three seconds; menus and modals want their own empty
 * answers.
 */
function withheld(of: Message | undefined): Reply {
  const type = of?.replyTo['type']
  if (type === 'block_suggestion') return jsonReply({ options: [] })
  if (type === 'view_submission') return jsonReply({ response_action: 'clear' })
  return emptyOk
}
