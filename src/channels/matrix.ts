/**
 * Matrix application service: batches of room events pushed by the home server. The body is not
 * signed.
 * Facts: https://spec.matrix.org/latest/application-service-api/ (transactions, authorization,
 * ping), https://spec.matrix.org/latest/client-server-api/#user-and-room-mentions,
 * …/#identifier-grammar in the appendices.
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
import { jsonReply, message, nobodyKnown, nowhere, theService, unknown } from './channel.ts'
import { dig, field, id, instant, list, readFormText, readJson, record, text } from './json.ts'
import { withoutPaths, writeJson } from './json.ts'
import type { Path } from './json.ts'
import {
  authorization,
  digest,
  headers,
  proved,
  sameSecret,
  shorterThan,
  unproved,
} from './proof.ts'

const name = 'matrix'

/**
 * What the home server calls, behind `webhookPath`; the short forms are the ones before version 1
 * of the API.
 */
const transaction = /^(?:\/_matrix\/app\/v1)?\/transactions\/[^/]{1,255}$/
const query = /^\/_matrix\/app\/(?:v1|unstable)\/(?:users|rooms|thirdparty)\/.{1,600}$/
const pinged = '/_matrix/app/v1/ping'

/** Matrix, as an application service. */
export const matrix: Channel = {
  name,
  proof: 'secret',
  hosts: [],
  settings: [
    {
      key: 'hsToken',
      secret: true,
      required: true,
      say: 'hs_token of the registration file',
      problem: shorterThan(16),
    },
    { key: 'asToken', secret: true, required: false, say: 'as_token of the registration file' },
  ],
  ids: {
    prefixes: ['matrix:', 'user:', 'room:'],
    sender: /^@[^\s:]{1,200}:[A-Za-z0-9.:[\]-]{1,230}$/,
    room: /^!\S{1,254}$/,
    remedy: 'use the whole user id with its server, like @olga:example.org',
  },
  contentTypes: ['application/json'],
  callsBelow: true,
  carries(method, path, account) {
    const root = account.webhookPath.replace(/\/$/, '')
    if (account.webhookPath === '' || !path.startsWith(root)) return false
    const rest = path.slice(root.length)
    if (method === 'PUT') return transaction.test(rest)
    return method === 'POST' ? rest === pinged : method === 'GET' && query.test(rest)
  },
  authentic,
  messages(request, account) {
    if (request.method !== 'PUT') return [probe(request, account)]
    const body = readJson(request.body)
    const key = digest(request.path + request.query + digest(request.body))
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, key)]
    return units(body.value, account, key).map(({ draft }, index) =>
      message(name, account, { ...draft, index }),
    )
  },
  without,
  invite,
  withheld: () => jsonReply({}),
}

/** The token comes as bearer, in the query, or as both; every one that comes must be right. */
function authentic(request: WebhookRequest, account: Account) {
  const secret = account.settings['hsToken'] ?? ''
  const fields = readFormText(request.query)
  if (!fields.ok) return unproved('the query can be read in two ways')
  const bearer = headers(request, 'authorization').length > 0
  const inQuery = fields.value.get('access_token')
  if (!bearer && inQuery === undefined) return unproved('the token is missing')
  if (bearer && !sameSecret(authorization(request, 'bearer'), secret)) {
    return unproved('the bearer token is repeated or wrong')
  }
  return inQuery === undefined || sameSecret(inQuery, secret)
    ? proved
    : unproved('the token in the query is wrong')
}

/**
 * A ping is answered; a question about a user or room is "not found", so that no stranger makes one
 * appear.
 */
function probe(request: WebhookRequest, account: Account): Message {
  const missing = jsonReply({ errcode: 'M_NOT_FOUND', error: 'Not found' }, 404)
  return message(name, account, {
    eventType: request.method === 'POST' ? 'ping' : 'query',
    class: 'probe',
    sender: theService,
    dedupeKey: digest(request.path),
    answer: request.method === 'POST' ? jsonReply({}) : missing,
  })
}

interface Unit {
  readonly path: Path
  readonly draft: Omit<Draft, 'index'>
}

/** Parts of a transaction without anybody's words: key counts and device lists. */
const counts = new Set([
  'device_lists',
  'device_one_time_keys_count',
  'device_unused_fallback_key_types',
  'org.matrix.msc3202.device_lists',
  'org.matrix.msc3202.device_one_time_keys_count',
  'org.matrix.msc3202.device_one_time_key_counts',
  'org.matrix.msc3202.device_unused_fallback_key_types',
])
const ephemeral = new Set(['ephemeral', 'de.sorunome.msc2409.ephemeral'])
const toDevice = new Set(['to_device', 'de.sorunome.msc2409.to_device'])

function units(body: unknown, account: Account, key: string): readonly Unit[] {
  const parts = record(body)
  if (parts === undefined || !Array.isArray(parts['events'])) {
    return [strange([], 'not a transaction', key)]
  }
  return Object.keys(parts).flatMap((part): Unit[] => {
    if (part === 'events') {
      return list(parts[part]).map((event, i) => said(event, [part, i], account, key))
    }
    if (counts.has(part)) return [counted(part, key)]
    if (ephemeral.has(part) || toDevice.has(part)) {
      const reader = ephemeral.has(part) ? fleeting : device
      return list(parts[part]).map((event, i) => reader(event, [part, i], account, key))
    }
    return [strange([part], 'a part of a transaction that we do not know', key)]
  })
}

function counted(part: string, key: string): Unit {
  const dedupeKey = `${key}:${part}`
  return {
    path: [part],
    draft: { eventType: part, class: 'status', sender: theService, dedupeKey },
  }
}

function strange(path: Path, because: string, key: string): Unit {
  const dedupeKey = `${key}:${path.join('.')}`
  return { path, draft: { eventType: 'unknown', class: 'unknown', withhold: because, dedupeKey } }
}

const classes: Readonly<Record<string, MessageClass>> = {
  'm.room.message': 'message',
  'm.room.encrypted': 'message',
  'm.sticker': 'message',
  'm.poll.start': 'message',
  'org.matrix.msc3381.poll.start': 'message',
  'm.poll.response': 'interaction',
  'm.poll.end': 'interaction',
  'org.matrix.msc3381.poll.response': 'interaction',
  'org.matrix.msc3381.poll.end': 'interaction',
  'm.reaction': 'reaction',
  'm.room.redaction': 'reaction',
  'm.room.member': 'membership',
}

function said(event: unknown, path: Path, account: Account, key: string): Unit {
  const type = text(field(event, 'type')) ?? ''
  const own = id(field(event, 'event_id'))
  const room = roomOf(field(event, 'room_id'), account)
  if (own === undefined || room.id === null) {
    return strange(path, 'an event without an id or a room', key)
  }
  // An event with a state key sets the state of its room; what else has a type of its own may be anybody's words.
  const state = typeof field(event, 'state_key') === 'string'
  const known = Object.hasOwn(classes, type) ? classes[type] : state ? 'membership' : undefined
  if (known === undefined) return strange(path, 'an event that we do not know', key)
  const content = field(event, 'content')
  const edit = dig(content, 'm.relates_to', 'rel_type') === 'm.replace'
  const of = known === 'message' && edit ? 'edit' : known
  const { ids } = account.bot
  const named = list(dig(content, 'm.mentions', 'user_ids')).some((one) =>
    ids.includes(id(one) ?? ''),
  )
  const spoken = known === 'message' || known === 'interaction'
  return {
    path,
    draft: {
      eventType: type,
      class: of,
      sender: person(field(event, 'sender'), account),
      room,
      // What is encrypted cannot be searched for a mention; without one the policy says no.
      mentioned:
        type === 'm.room.encrypted' && room.kind !== 'dm'
          ? 'unknown'
          : spoken && (named || room.kind === 'dm'),
      mentionedBy: named ? 'entity' : undefined,
      dedupeKey: `event:${own}`,
      at: instant(field(event, 'origin_server_ts'), 1),
      replyTo: { room: room.id, event: own, ...(invited(event, account) && { direct: 'yes' }) },
    },
  }
}

/** The bot is invited to what the sender calls a direct chat; the host may learn it from the owner. */
function invited(event: unknown, account: Account): boolean {
  const content = field(event, 'content')
  return (
    field(content, 'membership') === 'invite' &&
    field(content, 'is_direct') === true &&
    account.bot.ids.includes(text(field(event, 'state_key')) ?? '')
  )
}

/** Typing and receipts hold no words; a presence may, and then it is its sender's. */
function fleeting(event: unknown, path: Path, account: Account, key: string): Unit {
  const type = text(field(event, 'type')) ?? ''
  const plain = type === 'm.typing' || type === 'm.receipt'
  const base = { eventType: type, class: 'status', dedupeKey: `${key}:${path.join('.')}` } as const
  if (plain) return { path, draft: { ...base, sender: theService } }
  return { path, draft: { ...base, ...alone(event, account) } }
}

/**
 * Messages between devices carry the keys of encrypted rooms: whoever may write directly may send
 * them.
 */
function device(event: unknown, path: Path, account: Account, key: string): Unit {
  const type = text(field(event, 'type')) ?? ''
  const dedupeKey = `${key}:${path.join('.')}`
  return { path, draft: { eventType: type, class: 'status', dedupeKey, ...alone(event, account) } }
}

function alone(event: unknown, account: Account): { sender: Sender; room: Room } {
  const sender = person(field(event, 'sender'), account)
  return { sender, room: sender.id === null ? nowhere : { id: sender.id, kind: 'dm' } }
}

/** The whole user id: the same name on another server is another person. */
function person(sender: unknown, account: Account): Sender {
  const user = id(sender)
  if (user === undefined || !matrix.ids.sender.test(user)) return nobodyKnown
  return {
    id: user,
    aliases: [],
    kind: account.bot.ids.includes(user) ? 'self' : 'user',
    scope: user.slice(user.indexOf(':') + 1),
  }
}

/**
 * An event does not say whether its room is a direct chat; what nobody knows to be one counts as a
 * group.
 */
function roomOf(value: unknown, account: Account): Room {
  const room = id(value)
  if (room === undefined) return nowhere
  return { id: room, kind: account.directRooms?.has(room) === true ? 'dm' : 'group' }
}

/** The same transaction without the refused events; nothing is signed. */
function without(request: WebhookRequest, account: Account, refused: ReadonlySet<number>): Thinned {
  const body = readJson(request.body)
  if (!body.ok) return { ok: false, because: 'the body is not readable' }
  const gone = units(body.value, account, '').filter((_, i) => refused.has(i))
  if (gone.some(({ path }) => path.length === 0)) {
    return { ok: false, because: 'not a transaction' }
  }
  const thin = withoutPaths(
    body.value,
    gone.map(({ path }) => path),
  )
  return { ok: true, body: writeJson(thin), headers: [] }
}

function invite(of: Message, words: string, account: Account): Outgoing {
  const { room, event } = of.replyTo
  const root = account.settings['apiRoot']
  if (room === undefined || event === undefined || root === undefined) return {}
  // The transaction id is derived, so that a repeated call is the same message.
  const txn = `hardshell-${digest(event + words).slice(0, 24)}`
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(room)}/send/m.room.message/${txn}`
  return {
    api: {
      method: 'PUT',
      url: root.replace(/\/$/, '') + path,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify({ msgtype: 'm.notice', body: words }),
      credential: { setting: 'asToken', place: 'bearer' },
    },
  }
}
