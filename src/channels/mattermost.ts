/**
 * Mattermost: outgoing webhooks and slash commands, proven by a token in the body.
 * Facts: https://developers.mattermost.com/integrate/webhooks/outgoing/,
 * https://developers.mattermost.com/integrate/slash-commands/custom/.
 */
import type { Account, Channel, Message, Room, Sender, WebhookRequest } from './channel.ts'
import { emptyOk, indivisible, jsonReply, message, nobodyKnown, nowhere } from './channel.ts'
import { postOnPath, unknown } from './channel.ts'
import { field, id, instant, readForm, readJson, text } from './json.ts'
import type { Read } from './json.ts'
import {
  authorization,
  digest,
  headers,
  mediaType,
  proved,
  sameSecret,
  shorterThan,
} from './proof.ts'
import { unproved } from './proof.ts'

const name = 'mattermost'
const form = 'application/x-www-form-urlencoded'
const ids = /^[a-z0-9]{26}$/

/** Mattermost. */
export const mattermost: Channel = {
  name,
  proof: 'secret',
  hosts: [],
  settings: [
    {
      key: 'token',
      secret: true,
      required: true,
      say: 'the token that Mattermost showed when the webhook or command was made',
      problem: shorterThan(16),
    },
  ],
  ids: {
    prefixes: ['mattermost:', 'user:', 'channel:'],
    sender: ids,
    room: ids,
    remedy: 'use the user id of 26 letters and digits, which the audit log shows',
  },
  contentTypes: ['application/json', form],
  carries: postOnPath,
  authentic(request, account) {
    const fields = fieldsOf(request)
    if (!fields.ok) return unproved(`the body is ${fields.because}`)
    const secret = account.settings['token'] ?? ''
    const given = text(field(fields.value, 'token'))
    if (!sameSecret(given, secret)) return unproved('the token is missing or wrong')
    // Slash commands repeat it in a header: two readers must find the same.
    const repeated = headers(request, 'authorization').length > 0
    return !repeated || sameSecret(authorization(request, 'token'), secret)
      ? proved
      : unproved('the token in the header is not the one in the body')
  },
  messages(request, account) {
    const fields = fieldsOf(request)
    const key = digest(request.body)
    if (!fields.ok) return [unknown(name, account, `the body is ${fields.because}`, key)]
    return [said(fields.value, account, key)]
  },
  without: indivisible,
  invite: (of, words) => ({
    sync: jsonReply({
      text: words,
      response_type: of.class === 'command' ? 'ephemeral' : 'comment',
    }),
  }),
  withheld: () => emptyOk,
}

/** Both forms hold the same flat fields. */
function fieldsOf(request: WebhookRequest): Read<unknown> {
  if (mediaType(request) !== form) return readJson(request.body)
  const fields = readForm(request.body)
  return fields.ok ? { ok: true, value: Object.fromEntries(fields.value) } : fields
}

function said(fields: unknown, account: Account, key: string): Message {
  const command = text(field(fields, 'command'))
  const post = id(field(fields, 'post_id'))
  const user = id(field(fields, 'user_id'))
  const own = command === undefined ? post : id(field(fields, 'trigger_id'))
  if (own === undefined) return unknown(name, account, 'neither a post nor a command', key)
  const room = roomOf(fields, user)
  const trigger = text(field(fields, 'trigger_word'))
  const addressed = command !== undefined || trigger !== undefined || room.kind === 'dm'
  return message(name, account, {
    eventType: command === undefined ? 'outgoing_webhook' : 'slash_command',
    class: command === undefined ? 'message' : 'command',
    sender: senderOf(user, account),
    room,
    mentioned: addressed,
    mentionedBy: command !== undefined ? 'command' : trigger === undefined ? undefined : 'pattern',
    dedupeKey: `${command === undefined ? 'post' : 'command'}:${own}`,
    at: postedAt(field(fields, 'timestamp')),
  })
}

/** Seconds in a form, milliseconds in JSON. */
function postedAt(timestamp: unknown): number | undefined {
  const at = instant(timestamp, 1)
  return at === undefined || at > 1e11 ? at : at * 1000
}

function senderOf(user: string | undefined, account: Account): Sender {
  if (user === undefined) return nobodyKnown
  return { id: user, aliases: [], kind: account.bot.ids.includes(user) ? 'self' : 'user' }
}

/** A direct channel is named after its two people; one of them must be the author. */
function roomOf(fields: unknown, user: string | undefined): Room {
  const room = id(field(fields, 'channel_id'))
  if (room === undefined) return nowhere
  const pair = (text(field(fields, 'channel_name')) ?? '').split('__')
  const direct =
    pair.length === 2 &&
    pair.every((one) => ids.test(one)) &&
    user !== undefined &&
    pair.includes(user)
  const team = text(field(fields, 'team_id'))
  return { id: room, kind: direct ? 'dm' : 'group', ...(team !== undefined && { scope: team }) }
}
