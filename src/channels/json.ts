/**
 * What stands between bytes that a stranger may have written and a decision: a strict JSON reader,
 * a strict form reader and readers of single values. Two programs must not be able to read the same
 * bytes differently.
 */
import { Buffer, isUtf8 } from 'node:buffer'

/** Levels of arrays and objects that are read; a service's own payloads stay below ten. */
export const jsonDepthMax = 32
/** Fields of one form; Twilio sends about thirty. */
export const formFieldsMax = 500
/**
 * Characters of an identifier; Matrix allows 255 (Matrix specification, appendices, user
 * identifiers).
 */
export const idCharsMax = 300

/** A value, or the reason in our own words why there is none. */
export type Read<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly because: string }

const refuse = (because: string): { readonly ok: false; readonly because: string } => ({
  ok: false,
  because,
})

/**
 * Reads JSON (RFC 8259) that every parser reads alike: UTF-8 without a byte order mark, no key
 * twice in one object, no `__proto__`, at most 32 levels, finite numbers. An integer beyond 2^53
 * comes back as a bigint, so no digit is lost. The host has bounded the size before.
 */
export function readJson(bytes: Uint8Array): Read<unknown> {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) {
    return refuse('starts with a byte order mark')
  }
  if (!isUtf8(bytes)) return refuse('not UTF-8')
  return readJsonText(utf8(bytes))
}

/** `readJson` for text that was decoded before, such as one field of a form. */
export function readJsonText(text: string): Read<unknown> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (thrown) {
    if (!(thrown instanceof SyntaxError)) throw thrown
    return refuse('not JSON')
  }
  const found: Found = { keys: 0, because: '', wide: false }
  walk(value, jsonDepthMax, found)
  if (found.because !== '') return refuse(found.because)
  // JSON.parse keeps the last of two equal keys: fewer keys in the value than in the text means
  // that one was lost.
  if (found.keys !== keysIn(text)) return refuse('a key appears twice in one object')
  if (found.wide) value = JSON.parse(text, exactIntegers)
  return { ok: true, value }
}

interface Found {
  keys: number
  because: string
  /** An integer beyond 2^53 was seen. */
  wide: boolean
}

function walk(value: unknown, levels: number, found: Found): void {
  if (typeof value === 'number') {
    if (!Number.isFinite(value)) found.because = 'a number is out of range'
    else if (Number.isInteger(value) && !Number.isSafeInteger(value)) found.wide = true
    return
  }
  if (typeof value !== 'object' || value === null) return
  if (levels === 0) {
    found.because = `nested deeper than ${jsonDepthMax} levels`
    return
  }
  if (Array.isArray(value)) {
    for (const item of value) walk(item, levels - 1, found)
    return
  }
  const record = value as Record<string, unknown>
  for (const key in record) {
    if (key === '__proto__') found.because = 'has the key "__proto__"'
    found.keys += 1
    walk(record[key], levels - 1, found)
  }
}

/** How many object keys valid JSON text holds: the strings that are followed by a colon. */
function keysIn(text: string): number {
  let keys = 0
  let open = text.indexOf('"')
  while (open !== -1) {
    let close = text.indexOf('"', open + 1)
    while (escaped(text, close)) close = text.indexOf('"', close + 1)
    let next = close + 1
    let code = text.charCodeAt(next)
    while (code === 32 || code === 10 || code === 13 || code === 9) code = text.charCodeAt(++next)
    if (code === 58) keys += 1
    open = text.indexOf('"', next)
  }
  return keys
}

/** A quote behind an odd number of backslashes belongs to the string. */
function escaped(text: string, quote: number): boolean {
  let slashes = 0
  while (text.charCodeAt(quote - 1 - slashes) === 92) slashes += 1
  return slashes % 2 === 1
}

/** JSON.parse hands a reviver the source of each number, so that digits beyond 2^53 can be kept. */
function exactIntegers(_key: string, value: unknown, context?: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value)) return value
  const source = context?.source ?? ''
  return /^-?\d+$/.test(source) ? BigInt(source) : value
}

/** JSON text of a value that `readJson` made; integers keep all their digits. */
export function writeJson(value: unknown): string {
  if (typeof value === 'bigint') return value.toString()
  if (Array.isArray(value)) return `[${value.map(writeJson).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const parts = Object.entries(value).map(
      ([key, of]) => `${JSON.stringify(key)}:${writeJson(of)}`,
    )
    return `{${parts.join(',')}}`
  }
  return JSON.stringify(value)
}

/** Keys and positions from the root of a value to a part of it. */
export type Path = readonly (string | number)[]

/** A copy of a value without the parts that the paths name; an array closes its gaps. */
export function withoutPaths(value: unknown, paths: readonly Path[]): unknown {
  if (paths.length === 0) return value
  const gone = (key: string | number): boolean =>
    paths.some((path) => path.length === 1 && path[0] === key)
  const below = (key: string | number): readonly Path[] =>
    paths.filter((path) => path.length > 1 && path[0] === key).map((path) => path.slice(1))
  if (Array.isArray(value)) {
    return value.flatMap((item: unknown, i) => (gone(i) ? [] : [withoutPaths(item, below(i))]))
  }
  const entries = Object.entries(record(value) ?? {}).filter(([key]) => !gone(key))
  return Object.fromEntries(entries.map(([key, of]) => [key, withoutPaths(of, below(key))]))
}

/**
 * Reads `application/x-www-form-urlencoded` (WHATWG URL §5) strictly: UTF-8, no name twice, no
 * bracket names.
 */
export function readForm(bytes: Uint8Array): Read<ReadonlyMap<string, string>> {
  if (!isUtf8(bytes)) return refuse('not UTF-8')
  return readFormText(utf8(bytes))
}

function utf8(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8')
}

/** `readForm` for a query string without its question mark. */
export function readFormText(text: string): Read<ReadonlyMap<string, string>> {
  const fields = new Map<string, string>()
  if (text === '') return { ok: true, value: fields }
  const parts = text.split('&', formFieldsMax + 1)
  if (parts.length > formFieldsMax) return refuse(`more than ${formFieldsMax} form fields`)
  for (const part of parts) {
    const equals = part.indexOf('=')
    const name = decoded(equals === -1 ? part : part.slice(0, equals))
    const value = decoded(equals === -1 ? '' : part.slice(equals + 1))
    if (name === undefined || value === undefined) return refuse('a percent-encoding is not valid')
    // qs and PHP read "a[b]" as a structure, others as a name.
    if (name.includes('[')) return refuse('a form field name has a bracket')
    if (fields.has(name)) return refuse('a form field appears twice')
    fields.set(name, value)
  }
  return { ok: true, value: fields }
}

function decoded(text: string): string | undefined {
  const spaced = text.includes('+') ? text.replaceAll('+', ' ') : text
  if (!spaced.includes('%')) return spaced
  try {
    return decodeURIComponent(spaced)
  } catch (thrown) {
    if (!(thrown instanceof URIError)) throw thrown
    return undefined
  }
}

/** The value as an object, never an array. */
export function record(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
  return value as Readonly<Record<string, unknown>>
}

/** An own property of an object; nothing for anything else. */
export function field(value: unknown, key: string): unknown {
  const object = record(value)
  return object !== undefined && Object.hasOwn(object, key) ? object[key] : undefined
}

/** An own property reached over several objects. */
export function dig(value: unknown, ...keys: readonly string[]): unknown {
  let at = value
  for (const key of keys) at = field(at, key)
  return at
}

/** The elements of an array; none for anything else. */
export function list(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : []
}

/** A text that is not empty. */
export function text(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}

/**
 * An identifier: a bounded text without control characters, or an integer with every digit that was
 * sent.
 */
export function id(value: unknown): string | undefined {
  if (typeof value === 'string') {
    return value !== '' && value.length <= idCharsMax && !/[\u0000-\u001f\u007f]/.test(value)
      ? value
      : undefined
  }
  if (typeof value === 'bigint') return value.toString()
  return Number.isSafeInteger(value) ? String(value) : undefined
}

/** A number of `unitMs` milliseconds, as number or digits, in ms since the epoch. */
export function instant(value: unknown, unitMs: number): number | undefined {
  const count = typeof value === 'string' && /^\d{1,16}$/.test(value) ? Number(value) : value
  return typeof count === 'number' && Number.isSafeInteger(count) && count > 0
    ? count * unitMs
    : undefined
}
