/**
 * Meta: WhatsApp Cloud API, Messenger and Instagram, which share the webhook form and its
 * signature.
 * Facts: https://developers.facebook.com/docs/graph-api/webhooks/getting-started (challenge,
 * signature), https://developers.facebook.com/docs/whatsapp/cloud-api/webhooks/reference (messages,
 * groups), https://developers.facebook.com/docs/whatsapp/business-scoped-user-ids,
 * https://developers.facebook.com/docs/messenger-platform/reference/webhook-events.
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
  Thinned,
  WebhookRequest,
} from './channel.ts'
import { emptyOk, message, nobodyKnown, theService, unknown } from './channel.ts'
import { dig, field, id, instant, list, readJson, record, text, withoutPaths } from './json.ts'
import { writeJson } from './json.ts'
import type { Path } from './json.ts'
import { digest, header, hmac, proved, queryValue, sameSecret, shorterThan } from './proof.ts'
import { unproved } from './proof.ts'

/** One thing in a batch, and where it stands there. */
interface Unit {
  readonly path: Path
  readonly draft: Omit<Draft, 'index'>
}

type Product = 'whatsapp' | 'messenger' | 'instagram'

const objects: Readonly<Record<Product, string>> = {
  whatsapp: 'whatsapp_business_account',
  messenger: 'page',
  instagram: 'instagram',
}

const remedies: Readonly<Record<Product, string>> = {
  whatsapp: 'use the phone number in digits, like 15551230001, or the business-scoped user id',
  messenger: 'use the page-scoped id, which the audit log shows for a refused message',
  instagram: 'use the Instagram-scoped id, which the audit log shows for a refused message',
}

function product(name: Product): Channel {
  return {
    name,
    proof: 'hmac',
    hosts: ['graph.facebook.com'],
    settings: [
      {
        key: 'appSecret',
        secret: true,
        required: true,
        say: 'the App Secret on the Basic settings page of the app',
        problem: shorterThan(16),
      },
      {
        key: 'verifyToken',
        secret: true,
        required: true,
        say: 'the word that you typed as Verify token beside the callback URL',
        problem: shorterThan(8),
      },
      { key: 'accessToken', secret: true, required: false, say: 'the token for sending' },
    ],
    ids: {
      prefixes: [],
      canonical: (of) => of.replace(/^\+/, ''),
      // Digits of a phone number or a scoped id; `US.1349…` is a business-scoped user id.
      sender: name === 'whatsapp' ? /^(?:\d{5,20}|[A-Z]{2}\.\d{5,40})$/ : /^\d{3,40}$/,
      room: /^\S{3,200}$/,
      remedy: remedies[name],
    },
    contentTypes: ['application/json'],
    carries: (method, path, account) =>
      (method === 'POST' || method === 'GET') &&
      account.webhookPath !== '' &&
      path === account.webhookPath,
    probe: challenge,
    authentic(request, account) {
      if (request.method !== 'POST') return unproved('a GET that is not a valid challenge')
      // `X-Hub-Signature` alone is SHA-1 and not accepted.
      const given = header(request, 'x-hub-signature-256')
      const secret = account.settings['appSecret'] ?? ''
      const expected = `sha256=${hmac('sha256', secret, 'hex', request.body)}`
      return sameSecret(given, expected) ? proved : unproved('the signature does not match')
    },
    messages(request, account) {
      const payload = readJson(request.body)
      if (!payload.ok)
        return [unknown(name, account, `the body is ${payload.because}`, 'unreadable')]
      const found = units(name, payload.value, account)
      if (found === undefined)
        return [unknown(name, account, 'not a webhook of this product', digest(request.body))]
      return found.map(({ draft }, index) => message(name, account, { ...draft, index }))
    },
    without: (request, account, refused) => without(name, request, account, refused),
    invite: (of, words, account) => invite(name, of, words, account),
    withheld: () => emptyOk,
  }
}

/** WhatsApp Cloud API. */
export const whatsapp = product('whatsapp')
/** Facebook Messenger. */
export const messenger = product('messenger')
/** Instagram messaging. */
export const instagram = product('instagram')

/** Meta's test of the address: the challenge comes back when the verify token is ours. */
function challenge(request: WebhookRequest, account: Account): Reply | undefined {
  if (request.method !== 'GET') return undefined
  const word = queryValue(request, 'hub.challenge') ?? ''
  const token = queryValue(request, 'hub.verify_token')
  const known =
    queryValue(request, 'hub.mode') === 'subscribe' &&
    sameSecret(token, account.settings['verifyToken'] ?? '')
  return known && /^[\w.-]{1,200}$/.test(word)
    ? { status: 200, headers: ['Content-Type', 'text/plain'], body: word }
    : undefined
}

/** Everything that a payload holds, in order; undefined for a payload of another product. */
function units(name: Product, payload: unknown, account: Account): readonly Unit[] | undefined {
  if (field(payload, 'object') !== objects[name]) return undefined
  const entries = list(field(payload, 'entry'))
  if (entries.length === 0) return undefined
  return entries.flatMap((entry, i) => {
    const found = Object.keys(record(entry) ?? {}).flatMap((key): Unit[] => {
      const path = ['entry', i, key]
      if (key === 'id' || key === 'time') return []
      if (name === 'whatsapp' && key === 'changes') return changes(entry, path, account)
      if (name !== 'whatsapp' && (key === 'messaging' || key === 'standby')) {
        return messaging(entry, key, path, account)
      }
      return [strange(path, entry, 'an entry that we do not know')]
    })
    return found.length > 0 ? found : [strange(['entry', i], entry, 'an empty entry')]
  })
}

function strange(path: Path, value: unknown, because: string): Unit {
  const key = `unknown:${digest(writeJson(value ?? null))}:${path.join('.')}`
  return {
    path,
    draft: { eventType: 'unknown', class: 'unknown', withhold: because, dedupeKey: key },
  }
}

const plainKeys = new Set(['messaging_product', 'metadata', 'contacts'])

/**
 * WhatsApp: entry → changes → value → messages and statuses. A key that we do not know may hold
 * anybody's words.
 */
function changes(entry: unknown, path: Path, account: Account): Unit[] {
  return list(field(entry, 'changes')).flatMap((change, i) => {
    const at = [...path, i]
    const value = field(change, 'value')
    if (field(change, 'field') !== 'messages' || record(value) === undefined) {
      return [strange(at, change, 'a change that we do not know')]
    }
    const found = Object.keys(value ?? {}).flatMap((key): Unit[] => {
      const below = [...at, 'value', key]
      if (plainKeys.has(key)) return []
      if (key === 'messages') {
        return list(field(value, key)).map((of, j) => sent(of, [...below, j], value, account))
      }
      if (key === 'statuses') {
        return list(field(value, key)).map((of, j) => delivered(of, [...below, j]))
      }
      return [strange(below, field(value, key), 'a part of a change that we do not know')]
    })
    return found.length > 0 ? found : [strange(at, change, 'a change without a message')]
  })
}

const interactive = new Set(['interactive', 'button', 'order'])
const spoken = new Set(['text', 'image', 'video', 'audio', 'voice', 'document', 'sticker'])
const shared = new Set(['location', 'contacts'])

function classOf(type: string): MessageClass {
  if (interactive.has(type)) return 'interaction'
  if (spoken.has(type) || shared.has(type)) return 'message'
  if (type === 'reaction') return 'reaction'
  return type === 'system' ? 'system' : 'unknown'
}

/**
 * The author is `from`, or `from_user_id` where the number is hidden; `contacts[]` only decorates.
 */
function sent(of: unknown, path: Path, value: unknown, account: Account): Unit {
  const type = text(field(of, 'type')) ?? ''
  const key = text(field(of, 'id'))
  if (key === undefined) return strange(path, of, 'a message without an id')
  const number = id(field(of, 'from'))
  const scoped = id(field(of, 'from_user_id'))
  const from = number ?? scoped
  const group = id(field(of, 'group_id'))
  const inGroup = field(of, 'group_id') !== undefined && field(of, 'group_id') !== null
  if (inGroup && group === undefined) return strange(path, of, 'a group without an id')
  const own = id(dig(value, 'metadata', 'display_phone_number'))
  const self = from !== undefined && (from === own || account.bot.ids.includes(from))
  const sender: Sender =
    from === undefined
      ? nobodyKnown
      : {
          id: from,
          aliases: number !== undefined && scoped !== undefined ? [scoped] : [],
          kind: self ? 'self' : 'user',
        }
  const answered = own !== undefined && id(dig(of, 'context', 'from')) === own
  const found = classOf(type)
  return {
    path,
    draft: {
      eventType: type,
      class: found,
      sender,
      room: group === undefined ? direct(from) : { id: group, kind: 'group' },
      mentioned: group === undefined || answered,
      mentionedBy: group !== undefined && answered ? 'reply' : undefined,
      dedupeKey: `wa:${key}`,
      at: instant(field(of, 'timestamp'), 1000),
      // A number that moves to another account must not take its place on a list along.
      withhold: found === 'system' ? 'a change of number or account, not a message' : undefined,
      replyTo: replyTo(from, id(dig(value, 'metadata', 'phone_number_id'))),
    },
  }
}

function direct(other: string | undefined): Room {
  return other === undefined ? { id: null, kind: 'unknown' } : { id: other, kind: 'dm' }
}

function replyTo(to: string | undefined, from: string | undefined): Record<string, string> {
  return to === undefined || from === undefined || !/^\d+$/.test(from) ? {} : { to, from }
}

/** A receipt for something that the bot sent. */
function delivered(of: unknown, path: Path): Unit {
  return {
    path,
    draft: {
      eventType: 'status',
      class: 'status',
      sender: theService,
      room: direct(id(field(of, 'recipient_id'))),
      // In a group each of its people has their own for the one message.
      dedupeKey: `status:${digest(writeJson(of ?? null))}`,
    },
  }
}

/** Messenger and Instagram: entry → messaging. The author is `sender.id`, scoped to the page. */
function messaging(entry: unknown, key: string, path: Path, account: Account): Unit[] {
  return list(field(entry, key)).map((event, i) => {
    const at = [...path, i]
    const kind = Object.keys(record(event) ?? {}).filter((of) => !envelope.has(of))
    const [what, ...more] = kind
    const of =
      what !== undefined && more.length === 0 && Object.hasOwn(eventClasses, what)
        ? eventClasses[what]
        : undefined
    if (what === undefined || of === undefined)
      return strange(at, event, 'an event that we do not know')
    const from = id(dig(event, 'sender', 'id'))
    const page = id(field(entry, 'id'))
    const body = field(event, what)
    const echo = field(body, 'is_echo') === true || field(body, 'is_self') === true
    const self = echo || (from !== undefined && (from === page || account.bot.ids.includes(from)))
    const sender: Sender =
      from === undefined ? nobodyKnown : { id: from, aliases: [], kind: self ? 'self' : 'user' }
    const receipt = of === 'status'
    const found = of === 'message' ? spokenClass(body) : of
    // What was done to a message, its taking back too, has the "mid" of that message.
    const isNew = found !== 'edit' && (what === 'message' || what === 'postback')
    const mid = isNew ? text(field(body, 'mid')) : undefined
    return {
      path: at,
      draft: {
        eventType: what,
        class: found,
        sender: receipt ? theService : sender,
        room: direct(from),
        mentioned: of !== 'membership' && !receipt,
        dedupeKey: `${what}:${mid ?? digest(writeJson(event))}`,
        at: instant(field(event, 'timestamp'), 1),
        // Another app has the thread.
        overheard: key === 'standby',
        replyTo: replyTo(from, page),
      },
    }
  })
}

/** A quick reply is a button; a message that was taken back says nothing. */
function spokenClass(body: unknown): MessageClass {
  if (field(body, 'is_deleted') === true) return 'edit'
  return field(body, 'quick_reply') === undefined ? 'message' : 'interaction'
}

const envelope = new Set(['sender', 'recipient', 'timestamp'])
const eventClasses: Readonly<Record<string, MessageClass>> = {
  message: 'message',
  message_edit: 'edit',
  postback: 'interaction',
  reaction: 'reaction',
  referral: 'membership',
  optin: 'membership',
  delivery: 'status',
  read: 'status',
}

/**
 * Thins a batch and signs it anew. ASCII only, because Meta signs escaped text and some SDKs escape
 * before hashing.
 */
function without(
  name: Product,
  request: WebhookRequest,
  account: Account,
  refused: ReadonlySet<number>,
): Thinned {
  const payload = readJson(request.body)
  const found = payload.ok ? units(name, payload.value, account) : undefined
  if (!payload.ok || found === undefined) return { ok: false, because: 'the body is not readable' }
  const gone = found.filter((_, i) => refused.has(i)).map(({ path }) => path)
  const contacts = strangersContacts(payload.value, found, refused)
  const thin = withoutPaths(payload.value, [...contacts, ...gone])
  const body = ascii(writeJson(tidied(thin)))
  const secret = account.settings['appSecret'] ?? ''
  return {
    ok: true,
    body,
    headers: ['X-Hub-Signature-256', `sha256=${hmac('sha256', secret, 'hex', body)}`],
  }
}

/**
 * Some SDKs take the author from `contacts[0]`, so the contact of a refused message goes with it.
 */
function strangersContacts(
  payload: unknown,
  found: readonly Unit[],
  refused: ReadonlySet<number>,
): readonly Path[] {
  const paths: Path[] = []
  list(field(payload, 'entry')).forEach((entry, i) => {
    list(field(entry, 'changes')).forEach((change, j) => {
      const inside = `entry.${i}.changes.${j}.value.messages.`
      const kept = found.filter(
        (unit, at) => !refused.has(at) && unit.path.join('.').startsWith(inside),
      )
      const ids = new Set(
        kept.flatMap(({ draft }) => [draft.sender?.id, ...(draft.sender?.aliases ?? [])]),
      )
      list(dig(change, 'value', 'contacts')).forEach((contact, k) => {
        const names = [id(field(contact, 'wa_id')), id(field(contact, 'user_id'))]
        if (!names.some((of) => of !== undefined && ids.has(of))) {
          paths.push(['entry', i, 'changes', j, 'value', 'contacts', k])
        }
      })
    })
  })
  return paths
}

/**
 * Without changes and entries that thinning emptied, because SDKs read the first message of each
 * without looking.
 */
function tidied(payload: unknown): unknown {
  const full = (holder: unknown, ...keys: readonly string[]): boolean =>
    keys.some((key) => list(field(holder, key)).length > 0)
  const entries = list(field(payload, 'entry')).flatMap((entry) => {
    const kept = { ...record(entry) }
    if (Array.isArray(kept['changes'])) {
      kept['changes'] = list(kept['changes']).flatMap((change) => {
        const value = { ...record(field(change, 'value')) }
        for (const key of ['messages', 'contacts', 'statuses']) {
          if (Array.isArray(value[key]) && list(value[key]).length === 0) delete value[key]
        }
        return full(value, 'messages', 'statuses') ? [{ ...record(change), value }] : []
      })
    }
    return full(kept, 'changes', 'messaging', 'standby') ? [kept] : []
  })
  return { ...record(payload), entry: entries }
}

function ascii(json: string): string {
  return json.replace(
    /[^\0-~]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

function invite(name: Product, of: Message, words: string, account: Account): Outgoing {
  const { to, from } = of.replyTo
  if (to === undefined || from === undefined || of.room.kind !== 'dm') return {}
  const root = account.settings['apiRoot'] ?? 'https://graph.facebook.com/v23.0'
  const body =
    name === 'whatsapp'
      ? { messaging_product: 'whatsapp', to, type: 'text', text: { body: words } }
      : { recipient: { id: to }, messaging_type: 'RESPONSE', message: { text: words } }
  return {
    api: {
      method: 'POST',
      url: `${root}/${from}/messages`,
      headers: ['Content-Type', 'application/json'],
      body: JSON.stringify(body),
      credential: { setting: 'accessToken', place: 'bearer' },
    },
  }
}
