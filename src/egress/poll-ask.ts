/**
 * What a bot asks of getUpdates, read from query, form or JSON alike, and written anew for the service: what we did not
 * understand never goes on (https://core.telegram.org/bots/api#getupdates).
 */
import type { Buffer } from 'node:buffer'

import { field, readForm, readFormText, readJson, readJsonText, record } from '../channels/json.ts'
import type { Read } from '../channels/json.ts'
import { pollLimits } from './poll-limits.ts'

/** The four parameters of getUpdates. */
export interface PollAsk {
  /** First update wanted; all before it are confirmed. Negative: that many from the end. */
  readonly offset: number | undefined
  readonly limit: number
  readonly timeoutSeconds: number
  /** JSON array of update types, as the service wants it; undefined leaves its setting as it is. */
  readonly allowedUpdates: string | undefined
}

const batchMax = 100
const typesMax = 100

const refuse = (because: string): { readonly ok: false; readonly because: string } => ({
  ok: false,
  because,
})

/** Reads the parameters; where query and body both name one, the body's counts. */
export function readAsk(query: string, contentType: string, body: Buffer): Read<PollAsk> {
  const inQuery = readFormText(query)
  if (!inQuery.ok) return refuse(`the query is unreadable: ${inQuery.because}`)
  const inBody = readBody(contentType, body)
  if (!inBody.ok) return inBody
  return asked({ ...Object.fromEntries(inQuery.value), ...inBody.value })
}

function readBody(contentType: string, body: Buffer): Read<Readonly<Record<string, unknown>>> {
  if (body.length === 0) return { ok: true, value: {} }
  const type = contentType.toLowerCase().split(';')[0]?.trim()
  if (type === 'application/json') {
    const read = readJson(body)
    if (!read.ok) return refuse(`the body is ${read.because}`)
    const value = record(read.value)
    return value === undefined ? refuse('the body is no JSON object') : { ok: true, value }
  }
  if (type === 'application/x-www-form-urlencoded') {
    const read = readForm(body)
    if (!read.ok) return refuse(`the body is unreadable: ${read.because}`)
    return { ok: true, value: Object.fromEntries(read.value) }
  }
  return refuse('the body is neither JSON nor a form')
}

function asked(values: Readonly<Record<string, unknown>>): Read<PollAsk> {
  const offset = whole(field(values, 'offset'), -1e15, 1e15)
  const limit = whole(field(values, 'limit'), 1, batchMax)
  const timeout = whole(field(values, 'timeout'), 0, pollLimits.pollSeconds.default)
  const types = updateTypes(field(values, 'allowed_updates'))
  if (offset === 'bad' || limit === 'bad' || timeout === 'bad') {
    return refuse('offset, limit and timeout must be whole numbers')
  }
  if (!types.ok) return types
  return {
    ok: true,
    value: {
      offset,
      limit: limit ?? batchMax,
      timeoutSeconds: timeout ?? 0,
      allowedUpdates: types.value,
    },
  }
}

const isAbsent = (value: unknown): boolean =>
  value === undefined || value === null || value === '' || value === 'null'

/** A whole number as number or digits, moved into its bounds as the service does. */
function whole(value: unknown, min: number, max: number): number | undefined | 'bad' {
  if (isAbsent(value)) return undefined
  const number = typeof value === 'string' && /^-?\d{1,16}$/.test(value) ? Number(value) : value
  if (typeof number !== 'number' || !Number.isSafeInteger(number)) return 'bad'
  return Math.min(max, Math.max(min, number))
}

function updateTypes(value: unknown): Read<string | undefined> {
  if (isAbsent(value)) return { ok: true, value: undefined }
  const read = typeof value === 'string' ? readJsonText(value) : { ok: true as const, value }
  const types = read.ok ? read.value : undefined
  const named =
    Array.isArray(types) &&
    types.length <= typesMax &&
    types.every((type) => typeof type === 'string' && /^[a-z_]{1,64}$/.test(type))
  if (!named) return refuse('allowed_updates must be a list of update types')
  return { ok: true, value: JSON.stringify(types) }
}

/** The parameters as the form that goes to the service. */
export function askForm(ask: PollAsk): string {
  const form = new URLSearchParams()
  if (ask.offset !== undefined) form.set('offset', String(ask.offset))
  form.set('limit', String(ask.limit))
  form.set('timeout', String(ask.timeoutSeconds))
  if (ask.allowedUpdates !== undefined) form.set('allowed_updates', ask.allowedUpdates)
  return form.toString()
}
