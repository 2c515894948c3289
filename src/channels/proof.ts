/**
 * The proofs that services give: secrets, HMACs and signed times, compared in constant time over
 * raw bytes.
 */
import { Buffer } from 'node:buffer'
import { createHmac, hash, timingSafeEqual } from 'node:crypto'

import { minutes } from '../limits.ts'
import type { Account, Channel, Proof, TrustedKey, WebhookRequest } from './channel.ts'
import { readFormText } from './json.ts'

/** The window that Slack, Standard Webhooks and the Bot Framework use, both ways. */
export const usualFreshness = minutes(5)

/** The yes of a proof. */
export const proved: Proof = { ok: true }
/** The no of a proof; `because` is ours and holds nothing that was sent. */
export const unproved = (because: string): Proof => ({ ok: false, because })

/**
 * The proof of a request, asked by the host: first what all channels share, then what the service
 * signs. A missing secret is a no, never a yes.
 */
export function proven(
  channel: Channel,
  request: WebhookRequest,
  account: Account,
  keys: readonly TrustedKey[],
  now: number,
): Proof | Promise<Proof> {
  if (!channel.carries(request.method, request.path, account)) {
    return unproved('the path or method is not the webhook')
  }
  for (const row of channel.settings) {
    if (row.required && (account.settings[row.key] ?? '') === '') {
      return unproved(`the setting ${row.key} is missing`)
    }
  }
  if (headers(request, 'content-encoding').some((value) => value.toLowerCase() !== 'identity')) {
    return unproved('the body is compressed')
  }
  if (request.method !== 'GET' && !typed(request, channel.contentTypes)) {
    return unproved('the content type is not the one that the service sends')
  }
  return channel.authentic(request, account, keys, now)
}

/** Exactly one Content-Type, of a given media type, in UTF-8 if it says so (RFC 9110 §8.3). */
function typed(request: WebhookRequest, types: readonly string[]): boolean {
  const [value, ...more] = headers(request, 'content-type')
  if (value === undefined || more.length > 0) return false
  if (types.includes(value)) return true
  const [type = '', ...parameters] = value.toLowerCase().split(';')
  const utf8 = /^charset="?utf-8"?$/
  return types.includes(type.trim()) && parameters.every((of) => utf8.test(of.trim()))
}

/** All values of a header. */
export function headers(request: WebhookRequest, name: string): readonly string[] {
  const values: string[] = []
  for (let i = 0; i + 1 < request.headers.length; i += 2) {
    const given = request.headers[i] ?? ''
    if (given.length === name.length && given.toLowerCase() === name) {
      values.push(request.headers[i + 1] ?? '')
    }
  }
  return values
}

/**
 * The value of a header that was sent exactly once; a second one could be read by another program.
 */
export function header(request: WebhookRequest, name: string): string | undefined {
  const [value, ...more] = headers(request, name)
  return more.length > 0 || value === '' ? undefined : value
}

/** The media type of the body without parameters. */
export function mediaType(request: WebhookRequest): string {
  return (header(request, 'content-type') ?? '').toLowerCase().split(';')[0]?.trim() ?? ''
}

/** The credential of `Authorization: <scheme> <credential>` (RFC 9110 §11.4), sent once. */
export function authorization(request: WebhookRequest, scheme: string): string | undefined {
  const value = header(request, 'authorization') ?? ''
  const space = value.indexOf(' ')
  if (space === -1 || value.slice(0, space).toLowerCase() !== scheme) return undefined
  const credential = value.slice(space + 1).trim()
  return credential === '' ? undefined : credential
}

/** A parameter of the query; undefined when absent, or when the query can be read in two ways. */
export function queryValue(request: WebhookRequest, name: string): string | undefined {
  const query = readFormText(request.query)
  return query.ok ? query.value.get(name) : undefined
}

/** SHA-256 in hexadecimal: a key for what carries no id of its own. */
export function digest(data: string | Uint8Array): string {
  return hash('sha256', data)
}

/**
 * Compares in a time that tells neither the length nor the position of a difference. Empty equals
 * nothing.
 */
export function sameSecret(given: string | undefined, expected: string): boolean {
  if (given === undefined || given === '' || expected === '') return false
  return timingSafeEqual(Buffer.from(digest(given)), Buffer.from(digest(expected)))
}

/** HMAC (RFC 2104) over the parts as they are. */
export function hmac(
  algorithm: 'sha1' | 'sha256',
  key: string | Uint8Array,
  encoding: 'hex' | 'base64',
  ...parts: readonly (string | Uint8Array)[]
): string {
  const mac = createHmac(algorithm, key)
  for (const part of parts) mac.update(part)
  return mac.digest(encoding)
}

/** A signed time in whole seconds, as digits, at most `window` ms from `now` on either side. */
export function fresh(seconds: string | undefined, now: number, window: number): boolean {
  if (seconds === undefined || !/^\d{1,12}$/.test(seconds)) return false
  return Math.abs(now - Number(seconds) * 1000) <= window
}

/**
 * The text as bytes of a key, for secrets in base64 (RFC 4648 §4); undefined when it is not that.
 */
export function fromBase64(text: string): Buffer | undefined {
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64')
  // Node reads over characters that do not fit; the same bytes must give the same text.
  const same = bytes.toString('base64').replace(/=+$/, '') === text.replace(/=+$/, '')
  return bytes.length > 0 && same ? bytes : undefined
}

/** The problem of a secret that is shorter than the service makes them. */
export function shorterThan(length: number): (value: string) => string | undefined {
  return (value) =>
    value.length < length
      ? `is shorter than ${length} characters: copy the whole value from the service`
      : undefined
}
