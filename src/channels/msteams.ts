/**
 * Microsoft Teams over the Bot Framework, proven by a token that does not cover the body.
 * Facts:
 * https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-authentication,
 * https://learn.microsoft.com/azure/bot-service/rest-api/bot-framework-rest-connector-api-reference
 * (Activity).
 */
import { keyIdOf, verifyServiceJwt } from '../crypto.ts'
import type {
  Account,
  Channel,
  Message,
  MessageClass,
  Outgoing,
  Proof,
  Reply,
  Room,
  Sender,
  TrustedKey,
  WebhookRequest,
} from './channel.ts'
import { emptyOk, indivisible, jsonReply, message, nobodyKnown, nowhere } from './channel.ts'
import { postOnPath, unknown } from './channel.ts'
import { dig, field, id, list, readJson, text } from './json.ts'
import { authorization, digest, proved, unproved, usualFreshness } from './proof.ts'

const name = 'msteams'
const uuid = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i

/** Hosts of the connector; the token is sent there, so nothing else is called. */
const connectors =
  /^https:\/\/(?:smba\.trafficmanager\.net|smba\.infra\.(?:gcc\.teams\.microsoft\.com|gov\.teams\.microsoft\.us|dod\.teams\.microsoft\.us)|[a-z0-9-]+\.botframework\.com)\//

/** Microsoft Teams. */
export const msteams: Channel = {
  name,
  proof: 'bearer',
  hosts: ['smba.trafficmanager.net', 'login.botframework.com', 'login.microsoftonline.com'],
  settings: [
    {
      key: 'appId',
      secret: false,
      required: true,
      say: 'the Microsoft App ID of the bot',
      problem: (value) =>
        uuid.test(value) ? undefined : 'is not a UUID: copy the Microsoft App ID',
    },
    {
      key: 'tenantId',
      secret: false,
      required: true,
      say: 'the tenant whose people may be listed',
      problem: (value) => (uuid.test(value) ? undefined : 'is not a UUID: copy the tenant id'),
    },
    { key: 'appPassword', secret: true, required: false, say: 'the client secret for replies' },
  ],
  ids: {
    prefixes: ['msteams:', 'teams:', 'user:'],
    sender: uuid,
    room: /^(?:19|a):[\w.@:-]{3,200}$/,
    remedy: 'use the Entra object id of the person, a UUID',
    canonical: (of) => of.toLowerCase(),
  },
  contentTypes: ['application/json'],
  freshness: usualFreshness,
  keySource: () => ({
    url: 'https://login.botframework.com/v1/.well-known/openidconfiguration',
    form: 'openid',
  }),
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
  withheld: (messages) => withheld(messages[0]),
}

async function authentic(
  request: WebhookRequest,
  account: Account,
  keys: readonly TrustedKey[],
  now: number,
): Promise<Proof> {
  const token = authorization(request, 'bearer')
  if (token === undefined) return unproved('the bearer token is missing or repeated')
  const rules = {
    issuer: 'https://api.botframework.com',
    audience: account.settings['appId'] ?? '',
    toleranceMs: usualFreshness,
  }
  const claims = await verifyServiceJwt(token, keys, rules, now)
  if (claims === undefined)
    return unproved('the token is not one of the Bot Framework for this bot')
  const body = readJson(request.body)
  if (!body.ok) return unproved(`the body is ${body.because}`)
  // Some SDKs skip this comparison when the activity has no serviceUrl; a missing one is a no.
  const service = text(field(body.value, 'serviceUrl'))
  const claimed = claims['serviceurl'] ?? claims['serviceUrl']
  if (service === undefined || claimed !== service) {
    return unproved('the service address is missing or not the one in the token')
  }
  if (!connectors.test(service)) return unproved('the service address is not one of Microsoft')
  const kid = await keyIdOf(token)
  const endorsed = keys.find((key) => key.kid === kid)?.endorsements ?? []
  return field(body.value, 'channelId') === name && endorsed.includes(name)
    ? proved
    : unproved('the key does not speak for Microsoft Teams')
}

const classes: Readonly<Record<string, MessageClass>> = {
  message: 'message',
  messageUpdate: 'edit',
  messageDelete: 'edit',
  messageReaction: 'reaction',
  invoke: 'interaction',
  conversationUpdate: 'membership',
  installationUpdate: 'membership',
}

function activity(body: unknown, account: Account, whole: string): Message {
  const type = text(field(body, 'type')) ?? ''
  const of = Object.hasOwn(classes, type) ? classes[type] : undefined
  const room = roomOf(body)
  // An edit, a deletion and a reaction have the id of the message that they change, however often it is changed.
  const own = type === 'message' ? id(field(body, 'id')) : undefined
  const key = `${type}:${room.id ?? ''}:${own ?? whole}`
  if (of === undefined) return unknown(name, account, 'an activity that we do not know', key)
  // A submitted card is a message with a value and no text.
  const submitted = of === 'message' && field(body, 'value') !== undefined
  const found = submitted && text(field(body, 'text')) === undefined ? 'interaction' : of
  const named = list(field(body, 'entities')).some((entity) => isForUs(entity, body))
  const spoken = found !== 'membership' && found !== 'reaction'
  return message(name, account, {
    eventType: type,
    class: found,
    sender: person(body, account),
    room,
    mentioned: spoken && (room.kind === 'dm' || found === 'interaction' || named),
    mentionedBy: found === 'interaction' ? 'event' : named ? 'entity' : undefined,
    dedupeKey: key,
    withhold: foreign(body, account) ? 'the tenant is not the configured one' : undefined,
    replyTo: replyTo(body, type, room),
  })
}

/** The tenant stands in two places; both must be the configured one. */
function foreign(body: unknown, account: Account): boolean {
  const tenant = account.settings['tenantId']?.toLowerCase()
  const found = [dig(body, 'channelData', 'tenant', 'id'), dig(body, 'conversation', 'tenantId')]
  const named = found.filter((of) => of !== undefined)
  return named.length === 0 || named.some((of) => text(of)?.toLowerCase() !== tenant)
}

/**
 * The Entra object id. `from.id` differs for every bot, and guests without an object id name
 * nobody.
 */
function person(body: unknown, account: Account): Sender {
  const from = id(dig(body, 'from', 'id'))
  const entra = text(dig(body, 'from', 'aadObjectId'))?.toLowerCase()
  const self =
    from !== undefined &&
    (from === id(dig(body, 'recipient', 'id')) || from === `28:${account.settings['appId']}`)
  if (self) return { id: from, aliases: [], kind: 'self' }
  if (entra === undefined || !uuid.test(entra)) return nobodyKnown
  const bot = from?.startsWith('28:') === true || dig(body, 'from', 'role') === 'bot'
  return { id: entra, aliases: [], kind: bot ? 'bot' : 'user' }
}

function roomOf(body: unknown): Room {
  const conversation = id(dig(body, 'conversation', 'id'))
  if (conversation === undefined) return nowhere
  const [room = '', ...rest] = conversation.split(';messageid=')
  const team = id(dig(body, 'channelData', 'team', 'id'))
  return {
    id: room,
    kind: dig(body, 'conversation', 'conversationType') === 'personal' ? 'dm' : 'group',
    ...(team !== undefined && { parentId: team }),
    ...(rest[0] !== undefined && { threadId: rest[0] }),
  }
}

/** An entity that names the recipient; `<at>` in the text is only text. */
function isForUs(entity: unknown, body: unknown): boolean {
  const mentioned = id(dig(entity, 'mentioned', 'id'))
  return (
    field(entity, 'type') === 'mention' &&
    mentioned !== undefined &&
    mentioned === id(dig(body, 'recipient', 'id'))
  )
}

function replyTo(body: unknown, type: string, room: Room): Readonly<Record<string, string>> {
  const service = text(field(body, 'serviceUrl'))
  if (type === 'invoke') return { invoke: 'yes' }
  if (service === undefined || room.id === null || !connectors.test(service)) return {}
  return { service, room: room.id }
}

const forbidden = (words: string): Reply =>
  jsonReply({
    statusCode: 403,
    type: 'application/vnd.microsoft.error',
    value: { code: 'Forbidden', message: words },
  })

function invite(of: Message, words: string): Outgoing {
  if (of.replyTo['invoke'] !== undefined) return { sync: forbidden(words) }
  const { service, room } = of.replyTo
  if (service === undefined || room === undefined) return {}
  return {
    api: {
      method: 'POST',
      url: `${service.replace(/\/$/, '')}/v3/conversations/${encodeURIComponent(room)}/activities`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ type: 'message', text: words, textFormat: 'plain' }),
      credential: { setting: 'appPassword', place: 'client-credentials' },
    },
  }
}

/** An invoke without a body leaves the card spinning. */
function withheld(of: Message | undefined): Reply {
  return of?.replyTo['invoke'] === undefined ? emptyOk : forbidden('Not available.')
}
