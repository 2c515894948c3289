/**
 * Google Chat: app events and the Workspace add-on form, proven by a Google token that does not
 * cover the body.
 * Facts: https://developers.google.com/workspace/chat/verify-requests-from-chat,
 * https://developers.google.com/workspace/chat/api/reference/rest/v1/Event,
 * https://developers.google.com/workspace/add-ons/chat/build.
 */
import { verifyServiceJwt } from '../crypto.ts'
import type {
  Account,
  Channel,
  Message,
  MessageClass,
  Outgoing,
  Proof,
  Room,
  Sender,
  TrustedKey,
  WebhookRequest,
} from './channel.ts'
import { indivisible, jsonReply, message, nobodyKnown, nowhere, postOnPath } from './channel.ts'
import { unknown } from './channel.ts'
import { dig, field, id, list, readJson, text } from './json.ts'
import { authorization, digest, proved, unproved, usualFreshness } from './proof.ts'

const name = 'googlechat'
const chatIssuer = 'chat@system.gserviceaccount.com'
const googleIssuer = 'https://accounts.google.com'

/** Google Chat. */
export const googlechat: Channel = {
  name,
  proof: 'bearer',
  hosts: ['chat.googleapis.com', 'www.googleapis.com'],
  settings: [
    {
      key: 'audienceType',
      secret: false,
      required: true,
      say: '"project-number" or "app-url", as "Authentication Audience" of the app says',
      problem: (value) =>
        value === 'project-number' || value === 'app-url'
          ? undefined
          : 'must be "project-number" or "app-url"',
    },
    {
      key: 'audience',
      secret: false,
      required: true,
      say: 'the project number, or the address of the app',
    },
    {
      key: 'appPrincipal',
      secret: false,
      required: false,
      say: 'for add-ons: the service account that signs, service-…@gcp-sa-gsuiteaddons.iam.gserviceaccount.com',
      problem: (value) =>
        /^service-\d+@gcp-sa-gsuiteaddons\.iam\.gserviceaccount\.com$/.test(value)
          ? undefined
          : 'is not a service account of Google Workspace add-ons',
    },
  ],
  ids: {
    prefixes: ['googlechat:', 'gchat:'],
    sender: /^users\/\d{3,40}$/,
    room: /^spaces\/[\w-]{3,100}$/,
    remedy: 'use users/ and the numeric id, which the audit log shows for a refused message',
    canonical: (of) => (/^\d{3,40}$/.test(of) ? `users/${of}` : of),
  },
  contentTypes: ['application/json'],
  freshness: usualFreshness,
  keySource: (account) =>
    account.settings['audienceType'] === 'project-number'
      ? {
          url: `https://www.googleapis.com/service_accounts/v1/metadata/x509/${chatIssuer}`,
          form: 'x509',
        }
      : { url: 'https://www.googleapis.com/oauth2/v3/certs', form: 'jwks' },
  carries: postOnPath,
  authentic,
  messages(request, account) {
    const body = readJson(request.body)
    const key = digest(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, key)]
    const chat = field(body.value, 'chat')
    return [chat === undefined ? event(body.value, account, key) : addOn(chat, account, key)]
  },
  without: indivisible,
  invite,
  withheld: () => jsonReply({}),
}

async function authentic(
  request: WebhookRequest,
  account: Account,
  keys: readonly TrustedKey[],
  now: number,
): Promise<Proof> {
  const byNumber = account.settings['audienceType'] === 'project-number'
  const token = authorization(request, 'bearer') ?? (byNumber ? undefined : systemToken(request))
  if (token === undefined) return unproved('the bearer token is missing or repeated')
  const rules = {
    issuer: byNumber ? chatIssuer : googleIssuer,
    audience: account.settings['audience'] ?? '',
    toleranceMs: usualFreshness,
  }
  const claims = await verifyServiceJwt(token, keys, rules, now)
  if (claims === undefined) return unproved('the token is not one of Google Chat for this app')
  if (byNumber) return proved
  // Any Google account can get a token for our address: only these two send on behalf of Chat.
  const email = claims['email']
  const principal = account.settings['appPrincipal']
  const sender = email === chatIssuer || (principal !== undefined && email === principal)
  return sender && claims['email_verified'] !== false
    ? proved
    : unproved('the token belongs to another Google account')
}

/** Add-ons carry Google's token in the body. */
function systemToken(request: WebhookRequest): string | undefined {
  const body = readJson(request.body)
  return body.ok ? text(dig(body.value, 'authorizationEventObject', 'systemIdToken')) : undefined
}

const eventClasses: Readonly<Record<string, MessageClass>> = {
  MESSAGE: 'message',
  CARD_CLICKED: 'interaction',
  WIDGET_UPDATED: 'interaction',
  SUBMIT_FORM: 'interaction',
  APP_COMMAND: 'command',
  APP_HOME: 'membership',
  ADDED_TO_SPACE: 'membership',
  REMOVED_FROM_SPACE: 'membership',
}

function event(body: unknown, account: Account, key: string): Message {
  const type = text(field(body, 'type')) ?? ''
  const of = Object.hasOwn(eventClasses, type) ? eventClasses[type] : undefined
  if (of === undefined) return unknown(name, account, 'an event that we do not know', key)
  const found = { type, of, user: field(body, 'user'), space: field(body, 'space') }
  return said({ ...found, what: field(body, 'message'), addOn: false }, account, key)
}

const payloads: Readonly<Record<string, MessageClass>> = {
  messagePayload: 'message',
  appCommandPayload: 'command',
  buttonClickedPayload: 'interaction',
  widgetUpdatedPayload: 'interaction',
  addedToSpacePayload: 'membership',
  removedFromSpacePayload: 'membership',
}

/** The add-on form: `chat.user` and exactly one `chat.…Payload`. */
function addOn(chat: unknown, account: Account, key: string): Message {
  const holder = typeof chat === 'object' && chat !== null ? Object.keys(chat) : []
  const [type, ...more] = holder.filter((of) => of.endsWith('Payload'))
  const known = type !== undefined && more.length === 0 && Object.hasOwn(payloads, type)
  const of = known ? payloads[type] : undefined
  if (type === undefined || of === undefined) {
    return unknown(name, account, 'an add-on event that we do not know', key)
  }
  const payload = field(chat, type)
  const space = field(payload, 'space') ?? dig(payload, 'message', 'space')
  const found = { type, of, user: field(chat, 'user'), space }
  return said({ ...found, what: field(payload, 'message'), addOn: true }, account, key)
}

interface Said {
  readonly type: string
  readonly of: MessageClass
  readonly user: unknown
  readonly space: unknown
  /** The message, if the event has one. */
  readonly what: unknown
  readonly addOn: boolean
}

function said(of: Said, account: Account, key: string): Message {
  const room = roomOf(of.space, of.what)
  const sender = person(of.user, account)
  const named = list(field(of.what, 'annotations')).some((one) => isForUs(one, account))
  const author = id(dig(of.what, 'sender', 'name'))
  // A bot may read the author from either place, so a message must name one person.
  const twoAuthors = of.of === 'message' && author !== undefined && author !== sender.id
  const addressed = of.of === 'command' || of.of === 'interaction'
  const own = text(field(of.what, 'name'))
  return message(name, account, {
    eventType: of.type,
    class: of.of,
    sender,
    room,
    mentioned: of.of !== 'membership' && (addressed || named || room.kind === 'dm'),
    mentionedBy: addressed ? 'command' : named ? 'entity' : undefined,
    dedupeKey: of.of === 'message' && own !== undefined ? `message:${own}` : `event:${key}`,
    withhold: twoAuthors ? 'the event names two authors' : undefined,
    replyTo: { addOn: of.addOn ? 'yes' : '' },
  })
}

/** `users/<id>` is stable; the e-mail and the name are not. */
function person(user: unknown, account: Account): Sender {
  const sender = id(field(user, 'name'))
  if (sender === undefined) return nobodyKnown
  const type = field(user, 'type')
  if (account.bot.ids.includes(sender)) return { id: sender, aliases: [], kind: 'self' }
  return {
    id: sender,
    aliases: [],
    kind: type === 'HUMAN' ? 'user' : type === 'BOT' ? 'bot' : 'unknown',
  }
}

function roomOf(space: unknown, what: unknown): Room {
  const room = id(field(space, 'name'))
  if (room === undefined) return nowhere
  const type = text(field(space, 'spaceType')) ?? text(field(space, 'type'))
  const thread = id(dig(what, 'thread', 'name'))
  return {
    id: room,
    kind: type === 'DIRECT_MESSAGE' || type === 'DM' ? 'dm' : 'group',
    ...(thread !== undefined && { threadId: thread }),
  }
}

/**
 * A mention of this app, which Google calls `users/app` where it does not give its id, or a slash
 * command.
 */
function isForUs(annotation: unknown, account: Account): boolean {
  const type = field(annotation, 'type')
  if (type === 'SLASH_COMMAND') return true
  const user = dig(annotation, 'userMention', 'user')
  if (type !== 'USER_MENTION' || field(user, 'type') !== 'BOT') return false
  const mentioned = id(field(user, 'name')) ?? ''
  const { ids } = account.bot
  return mentioned === 'users/app' || ids.length === 0 || ids.includes(mentioned)
}

function invite(of: Message, words: string): Outgoing {
  if (of.replyTo['addOn'] !== 'yes') return { sync: jsonReply({ text: words }) }
  const action = { createMessageAction: { message: { text: words } } }
  return { sync: jsonReply({ hostAppDataAction: { chatDataAction: action } }) }
}
