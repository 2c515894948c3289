/**
 * Any bot with a JSON webhook: Standard Webhooks signatures, a bearer token or a shared secret in a
 * header, and JSON pointers that say where the sender and the room stand.
 * Facts:
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md, RFC
 * 6901.
 */
import type { Account, Channel, Message, Room, Sender, WebhookRequest } from './channel.ts'
import { emptyOk, indivisible, message, nobodyKnown, postOnPath, unknown } from './channel.ts'
import { field, id, list, readJson } from './json.ts'
import { authorization, digest, fresh, fromBase64, header, hmac, proved } from './proof.ts'
import { sameSecret, shorterThan, unproved, usualFreshness } from './proof.ts'

const name = 'generic'

/** Any bot with a JSON webhook. */
export const generic: Channel = {
  name,
  proof: 'hmac',
  hosts: [],
  settings: [
    {
      key: 'secret',
      secret: true,
      required: true,
      say: 'the secret that the sending program shares with you',
      problem: shorterThan(16),
    },
    {
      key: 'proof',
      secret: false,
      required: false,
      say: 'standard-webhooks (default), bearer, or header',
      problem: (value) =>
        ['standard-webhooks', 'bearer', 'header'].includes(value)
          ? undefined
          : 'must be "standard-webhooks", "bearer" or "header"',
    },
    {
      key: 'secretHeader',
      secret: false,
      required: false,
      say: 'the header that carries the secret, for proof "header"',
      problem: (value) =>
        /^[a-z0-9-]{1,64}$/i.test(value) ? undefined : 'is not a header name: letters, digits, "-"',
    },
  ],
  ids: {
    prefixes: ['generic:'],
    sender: /^[^\s*]{1,300}$/,
    room: /^[^\s*]{1,300}$/,
    remedy: 'use the id that the pointer "sender" finds, without spaces',
  },
  contentTypes: ['application/json'],
  freshness: usualFreshness,
  carries: postOnPath,
  authentic(request, account, _keys, now) {
    const secret = account.settings['secret'] ?? ''
    const kind = account.settings['proof'] ?? 'standard-webhooks'
    if (kind === 'bearer') {
      return sameSecret(authorization(request, 'bearer'), secret)
        ? proved
        : unproved('the bearer token is missing, repeated or wrong')
    }
    if (kind === 'header') {
      const given = header(request, (account.settings['secretHeader'] ?? '').toLowerCase())
      return sameSecret(given, secret)
        ? proved
        : unproved('the secret header is missing, repeated or wrong')
    }
    return kind === 'standard-webhooks' ? signed(request, secret, now) : unproved('no such proof')
  },
  messages(request, account) {
    const body = readJson(request.body)
    const key = header(request, 'webhook-id') ?? digest(request.body)
    if (!body.ok) return [unknown(name, account, `the body is ${body.because}`, key)]
    return [pointed(body.value, account, key)]
  },
  without: indivisible,
  invite: () => ({}),
  withheld: () => emptyOk,
}

/**
 * `v1,<base64>` over `id.timestamp.body`, any one of a list; other versions are not ours to judge.
 */
function signed(request: WebhookRequest, secret: string, now: number) {
  const key = header(request, 'webhook-id')
  const time = header(request, 'webhook-timestamp')
  const given = header(request, 'webhook-signature')
  if (key === undefined || time === undefined || given === undefined) {
    return unproved('a webhook header is missing or repeated')
  }
  if (!fresh(time, now, usualFreshness)) return unproved('the time is old or ahead')
  const bytes = fromBase64(secret.replace(/^whsec_/, ''))
  if (bytes === undefined) return unproved('the secret is not base64')
  const expected = hmac('sha256', bytes, 'base64', `${key}.${time}.`, request.body)
  const offered = given.split(' ')
  // Two headers that a proxy joined with a comma do not pass for one list.
  if (offered.length > 20 || !offered.every((one) => /^v\d+[a-z]?,[\w+/=-]+$/.test(one))) {
    return unproved('the list of signatures is malformed')
  }
  const matches = offered.filter(
    (one) => one.startsWith('v1,') && sameSecret(one.slice(3), expected),
  )
  return matches.length > 0 ? proved : unproved('no signature matches')
}

function pointed(body: unknown, account: Account, key: string): Message {
  const { mapping } = account
  if (mapping === undefined) return unknown(name, account, 'no pointers are configured', key)
  const direct = stringAt(body, mapping.dm.pointer) === mapping.dm.equals
  const named = mapping.mention !== undefined && mentions(body, mapping.mention)
  const own = mapping.id === undefined ? undefined : id(at(body, mapping.id))
  const room: Room = { id: id(at(body, mapping.room)) ?? null, kind: direct ? 'dm' : 'group' }
  return message(name, account, {
    eventType: 'webhook',
    class: 'message',
    sender: senderOf(id(at(body, mapping.sender)), account),
    room,
    mentioned: direct || named,
    mentionedBy: !direct && named ? 'pattern' : undefined,
    dedupeKey: own === undefined ? key : `id:${own}`,
    deliveryKey: key,
  })
}

function senderOf(sender: string | undefined, account: Account): Sender {
  if (sender === undefined) return nobodyKnown
  return { id: sender, aliases: [], kind: account.bot.ids.includes(sender) ? 'self' : 'user' }
}

function mentions(
  body: unknown,
  how: { readonly pointer: string; readonly equals?: string; readonly contains?: string },
): boolean {
  if (how.equals !== undefined) return stringAt(body, how.pointer) === how.equals
  return how.contains !== undefined && list(at(body, how.pointer)).includes(how.contains)
}

function stringAt(body: unknown, pointer: string): string | undefined {
  const found = at(body, pointer)
  return typeof found === 'string' ? found : undefined
}

/** What a pointer (RFC 6901) finds: own properties and array positions only. */
function at(body: unknown, pointer: string): unknown {
  if (!pointer.startsWith('/')) return undefined
  let found = body
  for (const part of pointer.slice(1).split('/')) {
    const key = part.replaceAll('~1', '/').replaceAll('~0', '~')
    found =
      Array.isArray(found) && /^(?:0|[1-9]\d{0,5})$/.test(key)
        ? list(found)[Number(key)]
        : field(found, key)
  }
  return found
}
