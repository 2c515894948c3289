/**
 * Twilio: SMS and WhatsApp messages and status callbacks. Every message is a direct chat.
 * Facts: https://www.twilio.com/docs/usage/security#validating-requests (signature, bodySHA256),
 * https://www.twilio.com/docs/messaging/guides/webhook-request,
 * https://www.twilio.com/docs/messaging/twiml.
 */
import type {
  Account,
  Channel,
  Message,
  Reply,
  Sender,
  Thinned,
  WebhookRequest,
} from './channel.ts'
import { indivisible, message, nobodyKnown, nowhere, postOnPath } from './channel.ts'
import { theService, unknown } from './channel.ts'
import { readForm } from './json.ts'
import { digest, header, hmac, mediaType, proved, queryValue, sameSecret } from './proof.ts'
import { shorterThan, unproved } from './proof.ts'

const name = 'twilio'
const form = 'application/x-www-form-urlencoded'

/** Twilio SMS and WhatsApp. */
export const twilio: Channel = {
  name,
  proof: 'hmac',
  hosts: ['api.twilio.com'],
  settings: [
    {
      key: 'authToken',
      secret: true,
      required: true,
      say: 'the Auth Token of the account',
      problem: shorterThan(16),
    },
    {
      key: 'publicWebhookUrl',
      secret: false,
      required: true,
      say: 'the address that Twilio calls, which is part of what it signs',
      problem: (value) =>
        /^https?:\/\/[^\s?#/@]+\/[^\s?#]*$/.test(value)
          ? undefined
          : 'is not a full address without a password and a query, like https://gw.example.com/webhooks/sms',
    },
  ],
  ids: {
    prefixes: ['twilio-sms:', 'twilio:', 'sms:'],
    sender: /^(?:(?:whatsapp|rcs):)?\+[1-9]\d{3,18}$|^messenger:\d{3,40}$/,
    room: /^(?!)/,
    remedy: 'use the number with its country code, like +15551230001, or whatsapp:+15551230001',
  },
  contentTypes: [form, 'application/json'],
  carries: postOnPath,
  authentic,
  messages(request, account) {
    if (mediaType(request) !== form) {
      return [unknown(name, account, 'a JSON event, not a message', digest(request.body))]
    }
    const fields = readForm(request.body)
    if (!fields.ok) return [unknown(name, account, `the body is ${fields.because}`, 'unreadable')]
    return [formMessage(fields.value, account)]
  },
  without: (): Thinned => indivisible(),
  invite: (of, words) => (of.class === 'message' ? { sync: twiml(words) } : {}),
  withheld: () => twiml(),
}

/**
 * Base64 of HMAC-SHA1 over the public address and, for a form, its fields sorted by name; JSON is
 * bound by a digest.
 */
function authentic(request: WebhookRequest, account: Account) {
  const given = header(request, 'x-twilio-signature')
  if (given === undefined) return unproved('the signature is missing or repeated')
  let signed = ''
  if (mediaType(request) === form) {
    const fields = readForm(request.body)
    if (!fields.ok) return unproved(`the body is ${fields.because}`)
    for (const key of [...fields.value.keys()].sort()) signed += key + (fields.value.get(key) ?? '')
  } else if (!sameSecret(queryValue(request, 'bodySHA256')?.toLowerCase(), digest(request.body))) {
    return unproved('the digest of the body does not match')
  }
  const secret = account.settings['authToken'] ?? ''
  const query = request.query === '' ? '' : `?${request.query}`
  const matches = spellings(account.settings['publicWebhookUrl'] ?? '').filter((url) =>
    sameSecret(given, hmac('sha1', secret, 'base64', url + query + signed)),
  )
  return matches.length > 0 ? proved : unproved('the signature does not match')
}

/**
 * The address with and without its port: Twilio signs either, and over HTTPS leaves out any port for some of its
 * products (Twilio, "Validating requests", notes).
 */
function spellings(url: string): readonly string[] {
  const found = /^(https?):\/\/([^/:]+)(?::(\d+))?(\/.*)$/.exec(url)
  if (found === null) return []
  const [, scheme = '', host = '', port = scheme === 'https' ? '443' : '80', path = ''] = found
  return [`${scheme}://${host}${path}`, `${scheme}://${host}:${port}${path}`]
}

/**
 * The states of something that the bot sent (Twilio, "Message status values"); a status has no
 * words.
 */
const sentStates = new Set([
  'accepted',
  'scheduled',
  'queued',
  'sending',
  'sent',
  'delivered',
  'undelivered',
  'failed',
  'read',
  'canceled',
])

function formMessage(fields: ReadonlyMap<string, string>, account: Account): Message {
  const sid = fields.get('MessageSid') ?? fields.get('SmsSid') ?? ''
  const state = fields.get('MessageStatus')
  const from = fields.get('From') ?? ''
  const to = fields.get('To') ?? ''
  if (sid === '') return unknown(name, account, 'not a Twilio message', 'no-sid')
  if (state !== undefined && sentStates.has(state) && !fields.has('Body')) {
    return message(name, account, {
      eventType: 'status',
      class: 'status',
      sender: theService,
      room: to === '' ? nowhere : { id: to, kind: 'dm' },
      dedupeKey: `status:${sid}:${state}`,
    })
  }
  if (state !== undefined || !fields.has('Body')) {
    return unknown(name, account, 'neither a message nor a status', `sms:${sid}`)
  }
  const pressed = fields.has('ButtonPayload') || fields.has('ListId')
  return message(name, account, {
    eventType: pressed ? 'button' : 'message',
    class: pressed ? 'interaction' : 'message',
    sender: senderOf(from, account),
    room: from === '' ? nowhere : { id: from, kind: 'dm' },
    mentioned: true,
    dedupeKey: `sms:${sid}`,
  })
}

/**
 * A number, with the medium before it. A name in letters can be set by anybody, so it names nobody.
 */
function senderOf(from: string, account: Account): Sender {
  if (from === '') return nobodyKnown
  if (account.bot.ids.includes(from)) return { id: from, aliases: [], kind: 'self' }
  const named = twilio.ids.sender.test(from)
  return { id: from, aliases: [], kind: named ? 'user' : 'service' }
}

/** An answer in TwiML; without words it sends nothing. */
function twiml(words?: string): Reply {
  const inner = words === undefined ? '' : `<Message>${escape(words)}</Message>`
  return {
    status: 200,
    headers: ['Content-Type', 'text/xml; charset=utf-8'],
    body: `<?xml version="1.0" encoding="UTF-8"?><Response>${inner}</Response>`,
  }
}

/** XML 1.0 text: markup escaped, characters that XML does not allow left out. */
function escape(words: string): string {
  return words
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
}
