/** The hash chain of the audit log: pure functions from records to lines and back. */
import { limits } from '../limits.ts'
import type { AuditEntry, AuditRecord } from './record.ts'

const { hash: digest } = process.getBuiltinModule('node:crypto')

/** The newest record of a chain. */
export interface Head {
  readonly seq: number
  readonly hash: string
}

/** The head before the first record. */
export const genesis: Head = { seq: 0, hash: '0'.repeat(64) }

/** A record as it is written: its line with the line end, and the head that it makes. */
export interface Link {
  readonly line: string
  readonly head: Head
}

/** Why a line does not continue its chain. */
export interface Break {
  readonly seq: number
  readonly because: string
}

/** A value that the audit log may hold. */
export type Value = string | number | undefined

/**
 * `,"hash":"<64 hex>"}`: the end of every line. Without it, closed by `}`, a line is what was
 * hashed.
 */
const hashEnd = /^,"hash":"([0-9a-f]{64})"\}$/
const hashEndBytes = 75
const closingBrace = Buffer.of(0x7d)
const valueChars = limits.auditValueChars.default
/** Printable ASCII without `"` and `\`: its JSON is itself between quotes. */
const plain = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/
/**
 * What JSON leaves as it is although terminals and viewers act on it: DEL, C1 controls (U+009B
 * starts an escape sequence), line separators, invisible and bidirectional controls (CWE-117,
 * CVE-2021-42574).
 */
const unruly = /[\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g
const hex64 = /^[0-9a-f]{64}$/

/** A token or session of ours, wherever somebody put it (CWE-532). */
const credential = /(hs[ks]_)[0-9A-Za-z_-]{20,}/g
/** The shortest text that holds one. */
const credentialChars = 24

/**
 * A string as it may stand in a record: at most 256 UTF-16 units, well formed, nothing that a
 * viewer acts on, no credential of ours.
 */
export function recordable(value: string): string {
  const safe = value.replace(credential, '$1…')
  const cut = safe.length > valueChars ? `${safe.slice(0, valueChars - 1)}…` : safe
  return cut.toWellFormed().replace(unruly, '\ufffd')
}

/**
 * RFC 8785 for flat objects of strings and safe integers; members that are undefined are left out.
 * Throws TypeError on any other value and on lone surrogates, which that standard forbids.
 */
export function canonical(record: Readonly<Record<string, Value>>): string {
  const members: string[] = []
  for (const key of Object.keys(record).sort()) {
    const value = record[key]
    if (value === undefined) continue
    if (typeof value === 'string' && !value.isWellFormed()) {
      throw new TypeError(`audit field "${key}" has a lone surrogate`)
    }
    const spelled = typeof value === 'string' ? JSON.stringify(value) : integer(value)
    members.push(`${JSON.stringify(key)}:${spelled}`)
  }
  return `{${members.join(',')}}`
}

/**
 * The line that follows `head`: `hash = SHA-256(prev ‖ canonical record)`, both as UTF-8 text,
 * `prev` as 64 hex digits. `config` stands in for an entry that names none. Throws TypeError when a
 * number is not a safe integer.
 */
export function link(head: Head, time: string, entry: AuditEntry, config?: string): Link {
  const seq = head.seq + 1
  const body = canonicalEntry(entry, seq, time, head.hash, entry.config ?? config)
  const hash = digest('sha256', head.hash + body, 'hex')
  return { line: `${body.slice(0, -1)},"hash":"${hash}"}\n`, head: { seq, hash } }
}

/** The members in the order of RFC 8785, written out because this runs for every request. */
function canonicalEntry(
  entry: AuditEntry,
  seq: number,
  time: string,
  prev: string,
  config: string | undefined,
): string {
  let body = '{'
  if (entry.because !== undefined) body += `"because":${text(entry.because)},`
  if (entry.bytes !== undefined) body += `"bytes":${integer(entry.bytes)},`
  if (entry.channel !== undefined) body += `"channel":${text(entry.channel)},`
  if (entry.code !== undefined) body += `"code":${text(entry.code)},`
  if (config !== undefined) body += `"config":${text(config)},`
  if (entry.count !== undefined) body += `"count":${integer(entry.count)},`
  if (entry.digest !== undefined) body += `"digest":${text(entry.digest)},`
  body += `"event":${text(entry.event)},`
  if (entry.first !== undefined) body += `"first":${integer(entry.first)},`
  if (entry.identity !== undefined) body += `"identity":${text(entry.identity)},`
  if (entry.method !== undefined) body += `"method":${text(entry.method)},`
  if (entry.ms !== undefined) body += `"ms":${integer(entry.ms)},`
  if (entry.path !== undefined) body += `"path":${text(entry.path)},`
  if (entry.peer !== undefined) body += `"peer":${text(entry.peer)},`
  body += `"prev":"${prev}",`
  if (entry.requestId !== undefined) body += `"requestId":${text(entry.requestId)},`
  if (entry.room !== undefined) body += `"room":${text(entry.room)},`
  if (entry.sender !== undefined) body += `"sender":${text(entry.sender)},`
  body += `"seq":${integer(seq)},`
  if (entry.status !== undefined) body += `"status":${integer(entry.status)},`
  return `${body}"time":${text(time)}}`
}

function text(value: string): string {
  if (typeof value !== 'string')
    throw new TypeError('an audit field that is text is something else')
  const isPlain = value.length <= valueChars && plain.test(value)
  if (isPlain && (value.length < credentialChars || value.search(credential) === -1)) {
    return `"${value}"`
  }
  return JSON.stringify(recordable(value))
}

function integer(value: number): string {
  if (!Number.isSafeInteger(value))
    throw new TypeError('an audit field that counts is not an integer')
  return String(value)
}

/**
 * Reads one line, without its line end, as the successor of `previous`. Without `previous` the line
 * may stand anywhere in a chain, and only its own hash is checked. Hashes bytes, never decoded
 * text: two byte sequences that are both invalid UTF-8 decode to the same text.
 */
export function follow(
  previous: Head | undefined,
  line: Uint8Array,
): { readonly record: AuditRecord; readonly head: Head } | Break {
  const expected = previous === undefined ? undefined : previous.seq + 1
  const record = parseRecord(line)
  const seq = expected ?? record?.seq ?? 0
  if (record === undefined) return { seq, because: 'the line is not an audit record' }
  if (record.seq !== seq) {
    return { seq, because: `the line has seq ${record.seq} where ${seq} belongs` }
  }
  if (previous !== undefined && record.prev !== previous.hash) {
    return { seq, because: 'prev is not the hash of the record before' }
  }
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength)
  const hashed = Buffer.concat([
    Buffer.from(record.prev, 'latin1'),
    bytes.subarray(0, bytes.length - hashEndBytes),
    closingBrace,
  ])
  if (digest('sha256', hashed, 'hex') !== record.hash) {
    return { seq, because: 'the hash does not fit the record' }
  }
  return { record, head: { seq, hash: record.hash } }
}

/**
 * The first line that breaks the chain, with its index; undefined when all of them follow `start`
 * in turn.
 */
export function firstBreak(
  lines: Iterable<Uint8Array>,
  start: Head | undefined,
): (Break & { readonly index: number }) | undefined {
  let head = start
  let index = 0
  for (const line of lines) {
    const step = follow(head, line)
    if ('because' in step) return { ...step, index }
    head = step.head
    index += 1
  }
  return undefined
}

/** A line as a record, without a look at its chain; undefined when it is none. */
export function parseRecord(line: Uint8Array): AuditRecord | undefined {
  const bytes = Buffer.from(line.buffer, line.byteOffset, line.byteLength)
  const hash = hashEnd.exec(bytes.toString('latin1', Math.max(0, bytes.length - hashEndBytes)))?.[1]
  if (hash === undefined) return undefined
  const value = parseObject(bytes)
  if (value === undefined) return undefined
  const { seq, prev, event, time } = value
  if (typeof seq !== 'number' || !Number.isSafeInteger(seq) || seq < 1) return undefined
  if (typeof prev !== 'string' || !hex64.test(prev) || value['hash'] !== hash) return undefined
  if (typeof event !== 'string' || typeof time !== 'string') return undefined
  return { ...value, seq, prev, event, time, hash }
}

/** Text as a JSON object, or undefined. */
export function parseObject(
  bytes: Uint8Array | string,
): Readonly<Record<string, unknown>> | undefined {
  try {
    const value: unknown = JSON.parse(bytes.toString())
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return undefined
    return Object.fromEntries(Object.entries(value))
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}
