/**
 * Sealing: one secret as a compact JWE (RFC 7516 §7.1) with `dir` and A256GCM (RFC 7518 §4.5, §5.3). Written on
 * node:crypto, because a configuration is loaded in one go and jose's own is asynchronous; tests open each with the other.
 */
import type { Keyring, SecretsKey } from './key.ts'

const { createCipheriv, createDecipheriv } = process.getBuiltinModule('node:crypto')

/** What was sealed, or one clause saying why it cannot be opened; never a part of the secret. */
export type Opened<T = string> =
  | { readonly value: T; readonly because?: undefined }
  | { readonly value?: undefined; readonly because: string; readonly wrongKey: boolean }

/** The members of a protected header; other ones say how a key was derived. */
export type Header = Readonly<Record<string, string | number>>

const cipher = 'aes-256-gcm'
const ivBytes = 12
const tagBytes = 16

/** A compact JWE over bytes under a 32-byte key; the header is authenticated with them. */
export function encryptCompact(
  header: Header,
  key: Uint8Array,
  plain: Uint8Array,
  iv: Uint8Array,
): string {
  const head = Buffer.from(JSON.stringify({ alg: 'dir', enc: 'A256GCM', ...header })).toString(
    'base64url',
  )
  const sealing = createCipheriv(cipher, key, iv, { authTagLength: tagBytes })
  sealing.setAAD(Buffer.from(head, 'ascii'))
  const text = Buffer.concat([sealing.update(plain), sealing.final()])
  const parts = [Buffer.from(iv), text, sealing.getAuthTag()]
  return [head, '', ...parts.map((part) => part.toString('base64url'))].join('.')
}

/** The bytes of one part, only if it is spelled the one canonical way: no bit of the text may be free. */
function decode(part: string): Buffer | undefined {
  const bytes = Buffer.from(part, 'base64url')
  return bytes.toString('base64url') === part ? bytes : undefined
}

/** The protected header of a compact JWE, before any check of it; undefined when it is none of `dir` and A256GCM. */
export function headerOf(jwe: string): Readonly<Record<string, unknown>> | undefined {
  const bytes = decode(jwe.split('.')[0] ?? '')
  if (bytes === undefined) return undefined
  try {
    const header: unknown = JSON.parse(bytes.toString('utf8'))
    if (typeof header !== 'object' || header === null || Array.isArray(header)) return undefined
    const known = header as Readonly<Record<string, unknown>>
    return known['alg'] === 'dir' && known['enc'] === 'A256GCM' && known['crit'] === undefined
      ? known
      : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

/** The bytes in a compact JWE, or undefined when it is malformed, changed, or sealed with another key. */
export function decryptCompact(jwe: string, key: Uint8Array): Buffer | undefined {
  const parts = jwe.split('.')
  const [head = '', wrapped, ...rest] = parts
  if (parts.length !== 5 || wrapped !== '' || headerOf(jwe) === undefined) return undefined
  const [iv, text, tag] = rest.map(decode)
  if (iv?.length !== ivBytes || text === undefined || tag?.length !== tagBytes) return undefined
  const opening = createDecipheriv(cipher, key, iv, { authTagLength: tagBytes })
  opening.setAAD(Buffer.from(head, 'ascii'))
  opening.setAuthTag(tag)
  try {
    return Buffer.concat([opening.update(text), opening.final()])
  } catch (thrown) {
    // The one error of the engine here: the tag does not fit.
    if (thrown instanceof Error) return undefined
    throw thrown
  }
}

/** Keeps a sealed value from passing as a sealed file, which the same key seals, and the other way round. */
const sealedType = 'hardshell-sealed'
const fileType = 'hardshell-sealed-file'

/** Seals one secret. Two seals of one secret differ, as each has an IV of its own. */
export function seal(
  key: SecretsKey,
  secret: string,
  random: (bytes: number) => Uint8Array,
): string {
  const header = { typ: sealedType, kid: key.id }
  return encryptCompact(header, key.bytes, Buffer.from(secret, 'utf8'), random(ivBytes))
}

/** Opens a sealed secret with the key that its header names. Total over any text. */
export function open(keys: Keyring, sealed: string): Opened {
  const opened = openBytes(keys, sealed, sealedType)
  return opened.because === undefined ? { value: opened.value.toString('utf8') } : opened
}

/** Seals the bytes of a whole file as one text with a line end. */
export function sealFile(
  key: SecretsKey,
  content: Uint8Array,
  random: (bytes: number) => Uint8Array,
): string {
  const header = { typ: fileType, kid: key.id }
  return `${encryptCompact(header, key.bytes, content, random(ivBytes))}\n`
}

/** Says whether the text of a file is a sealed file, whoever sealed it. */
export function isSealedFile(text: string): boolean {
  return headerOf(text.trim())?.['typ'] === fileType
}

/** Opens a sealed file, byte for byte, with the key that its header names. Total over any text. */
export function openFile(keys: Keyring, text: string): Opened<Buffer> {
  return openBytes(keys, text.trim(), fileType)
}

function openBytes(keys: Keyring, sealed: string, type: string): Opened<Buffer> {
  const header = headerOf(sealed)
  const kid = header?.['kid']
  if (header === undefined || header['typ'] !== type || typeof kid !== 'string') {
    const what = type === fileType ? 'file' : 'value'
    return { because: `it is not a sealed ${what}`, wrongKey: false }
  }
  const mine = [keys.current, ...keys.others].find((key) => key?.id === kid)
  if (mine === undefined) {
    const name = /^[0-9a-f]{16}$/.test(kid) ? kid : 'of another kind'
    const held =
      keys.current === undefined
        ? `${keys.where} ${keys.from === 'file' ? 'does not exist' : 'holds no key'}`
        : `${keys.where} holds key ${keys.current.id}`
    return { because: `it was sealed with key ${name}, but ${held}`, wrongKey: true }
  }
  const bytes = decryptCompact(sealed, mine.bytes)
  if (bytes === undefined) {
    return { because: 'it was changed after it was sealed', wrongKey: false }
  }
  return { value: bytes }
}
