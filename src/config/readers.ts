/** Readers: each turns one value of the file into what the program uses, or says what is wrong with it. */
import { KiB, type Bytes, type Limit, type Millis } from '../limits.ts'
import type { ProblemCode } from './problems.ts'

const { BlockList, isIP } = process.getBuiltinModule('node:net')

/** A fragment of JSON Schema, draft 2020-12. */
export type JsonSchema = Readonly<Record<string, unknown>>

/** What is wrong with a value; `at` is the rest of the path inside it, like `[2]` or `.NAME`. */
export interface Trouble {
  readonly code: ProblemCode
  readonly message: string
  readonly remedy: string
  readonly at?: string
}

/** What a reader made of a value. */
export type Reading<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly troubles: readonly Trouble[] }

/** Reads one type of value. Total: any input gives a value or troubles, never an exception. */
export interface Reader<T> {
  /** Type and bounds in words, for docs/configuration.md. */
  readonly about: string
  readonly unit?: 'bytes' | 'ms'
  readonly schema: JsonSchema
  read(value: unknown): Reading<T>
  /** The value as it is written in a file, so that `read(write(v))` is `v`. */
  write(value: T): unknown
}

const same = <T>(value: T): unknown => value

function good<T>(value: T): Reading<T> {
  return { ok: true, value }
}

function bad(code: ProblemCode, message: string, remedy: string): Reading<never> {
  return { ok: false, troubles: [{ code, message, remedy }] }
}

/** What a value is, in words, without showing it. */
export function kindOf(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return 'a list'
  if (typeof value === 'object') return 'an object'
  return `a ${typeof value}`
}

/** `true` or `false`. */
export const flag: Reader<boolean> = {
  about: 'true or false',
  schema: { type: 'boolean' },
  read: (value) =>
    typeof value === 'boolean'
      ? good(value)
      : bad('TYPE', `must be true or false, not ${kindOf(value)}`, 'Write it without quotes.'),
  write: same,
}

/** A whole number inside the bounds of a limit. */
export function count(bounds: Pick<Limit, 'min' | 'max'>): Reader<number> {
  const { min, max } = bounds
  return {
    about: `whole number from ${min} to ${max}`,
    schema: { type: 'integer', minimum: min, maximum: max },
    read: (value) => {
      const remedy = `Use a whole number from ${min} to ${max}, without quotes.`
      if (typeof value !== 'number' || !Number.isInteger(value)) {
        return bad('TYPE', 'must be a whole number', remedy)
      }
      return value >= min && value <= max
        ? good(value)
        : bad('BOUNDS', `is ${value}, outside ${min} to ${max}`, remedy)
    },
    write: same,
  }
}

function measured<T extends number>(
  kind: 'size' | 'duration',
  parse: (text: unknown) => Measured<T>,
  spell: (value: T) => string,
  pattern: string,
  { min, max }: Pick<Limit, 'min' | 'max'>,
): Reader<T> {
  const range = `from ${spell(min as T)} to ${spell(max as T)}`
  return {
    about: `${kind} ${range}`,
    unit: kind === 'size' ? 'bytes' : 'ms',
    schema: { type: 'string', pattern },
    read: (value) => {
      const remedy = `Use a ${kind} ${range}.`
      const result = parse(value)
      if (result.because !== undefined) return bad('UNIT', result.because, remedy)
      return result.value >= min && result.value <= max
        ? good(result.value)
        : bad('BOUNDS', `is ${spell(result.value)}, outside ${range.slice(5)}`, remedy)
    },
    write: spell,
  }
}

/** A size inside the bounds of a limit, in bytes; 1 KB is the least that can be written. */
export function size({ min, max }: Pick<Limit, 'min' | 'max'>): Reader<Bytes> {
  const bounds = { min: Math.max(min, KiB(1)), max }
  return measured('size', parseSize, spellSize, '^[0-9]+([KMG]i?B)$', bounds)
}

/** A size that may also be spelled as container engines do (`"512m"`), in bytes. */
export function memory(bounds: Pick<Limit, 'min' | 'max'>): Reader<Bytes> {
  return measured('size', parseMemory, spellSize, '^[0-9]+([KMG]i?B|[kmg])$', bounds)
}

/** A duration inside the bounds of a limit, in milliseconds. */
export function duration(bounds: Pick<Limit, 'min' | 'max'>): Reader<Millis> {
  return measured('duration', parseDuration, spellDuration, '^[0-9]+(ms|s|m|h|d|w)$', bounds)
}

/** One of a few words. */
export function choice<const C extends readonly string[]>(words: C): Reader<C[number]> {
  const listed = words.map((word) => `"${word}"`).join(', ')
  return {
    about: words.length === 1 ? `only ${listed}` : `one of ${listed}`,
    schema: { type: 'string', enum: words },
    read: (value) => {
      const found = words.find((word) => word === value)
      return found === undefined
        ? bad('CHOICE', 'has a value that is not allowed', `Use one of ${listed}.`)
        : good(found)
    },
    write: same,
  }
}

/** A text of 1 to 4,096 characters without control characters, optionally in a form. */
export function text(
  about = 'text',
  form?: { readonly pattern: RegExp; readonly remedy: string; readonly code?: ProblemCode },
): Reader<string> {
  return {
    about,
    schema:
      form === undefined
        ? { type: 'string', minLength: 1 }
        : { type: 'string', pattern: form.pattern.source },
    read: (value) => {
      if (typeof value !== 'string') {
        return bad('TYPE', `must be ${about} in quotes, not ${kindOf(value)}`, 'Put it in quotes.')
      }
      if (value === '') return bad('FORMAT', 'is empty', `Give ${about}, or remove the key.`)
      if (value.length > 4096 || /[\u0000-\u001f\u007f]/.test(value)) {
        const remedy = 'Use at most 4,096 characters on one line.'
        return bad('FORMAT', 'is too long or holds control characters', remedy)
      }
      if (form !== undefined && !form.pattern.test(value)) {
        return bad(form.code ?? 'FORMAT', `is not ${about}`, form.remedy)
      }
      return good(value)
    },
    write: same,
  }
}

/** A list whose every element one reader reads; the same element twice is kept once. */
export function list<T>(
  element: Reader<T>,
  { max = 1000, distinct = true }: { readonly max?: number; readonly distinct?: boolean } = {},
): Reader<readonly T[]> {
  return {
    about: `list of: ${element.about}`,
    schema: { type: 'array', items: element.schema, maxItems: max },
    read: (value) => {
      if (!Array.isArray(value)) {
        return bad('TYPE', `must be a list, not ${kindOf(value)}`, 'Put the entries in [ ].')
      }
      if (value.length > max) {
        return bad('BOUNDS', `has ${value.length} entries`, `Use at most ${max}.`)
      }
      const readings = value.map((item: unknown) => element.read(item))
      const troubles = readings.flatMap((reading, index) =>
        reading.ok
          ? []
          : reading.troubles.map((trouble) => ({
              ...trouble,
              at: `[${index}]${trouble.at ?? ''}`,
            })),
      )
      if (troubles.length > 0) return { ok: false, troubles }
      const values = readings.flatMap((reading) => (reading.ok ? [reading.value] : []))
      return good(Object.freeze(distinct ? [...new Set(values)] : values))
    },
    write: (values) => values.map((item) => element.write(item)),
  }
}

/** An object from names of a form to values of one reader. The result has no prototype. */
export function map<T>(name: RegExp, value: Reader<T>): Reader<Readonly<Record<string, T>>> {
  return {
    about: `object of: ${value.about}`,
    schema: {
      type: 'object',
      propertyNames: { pattern: name.source },
      additionalProperties: value.schema,
    },
    read: (object) => {
      if (typeof object !== 'object' || object === null || Array.isArray(object)) {
        return bad('TYPE', `must be an object, not ${kindOf(object)}`, 'Put the entries in { }.')
      }
      const result = Object.create(null) as Record<string, T>
      const troubles: Trouble[] = []
      for (const [key, item] of Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1))) {
        if (!name.test(key) || key === '__proto__') {
          const remedy = `Use names like ${name.source}.`
          troubles.push({ code: 'FORMAT', message: 'has a name that is not allowed', remedy })
          continue
        }
        const reading = value.read(item)
        if (reading.ok) result[key] = reading.value
        else troubles.push(...reading.troubles.map((t) => ({ ...t, at: `.${key}${t.at ?? ''}` })))
      }
      return troubles.length > 0 ? { ok: false, troubles } : good(Object.freeze(result))
    },
    write: (values) =>
      Object.fromEntries(Object.entries(values).map(([key, item]) => [key, value.write(item)])),
  }
}

/** Accepts only values that are at least as tight as the sandbox already is. */
export function tighten<T>(
  inner: Reader<T>,
  remedy: string,
  fits: (value: T) => boolean = () => true,
): Reader<T> {
  return {
    ...inner,
    read: (value) => {
      const reading = inner.read(value)
      if (!reading.ok) {
        const looser = reading.troubles.every(({ code }) => code === 'BOUNDS' || code === 'CHOICE')
        return looser ? bad('LOOSER', 'would loosen the sandbox', remedy) : reading
      }
      return fits(reading.value) ? reading : bad('LOOSER', 'would loosen the sandbox', remedy)
    },
  }
}

/** A number with a fraction, inside bounds. */
export function fraction({ min, max }: Pick<Limit, 'min' | 'max'>): Reader<number> {
  return {
    about: `number from ${min} to ${max}`,
    schema: { type: 'number', minimum: min, maximum: max },
    read: (value) => {
      const remedy = `Use a number from ${min} to ${max}, without quotes.`
      if (typeof value !== 'number' || !Number.isFinite(value)) {
        return bad('TYPE', 'must be a number', remedy)
      }
      return value >= min && value <= max
        ? good(value)
        : bad('BOUNDS', `is ${value}, outside ${min} to ${max}`, remedy)
    },
    write: same,
  }
}

/** An absolute URL path that is already canonical: no dot segments, `//`, query, `%`, `\` or `#`. */
export const urlPath: Reader<string> = {
  ...text('a path that starts with "/"'),
  schema: { type: 'string', pattern: '^/[^?#%\\\\]*$' },
  read: (value) => {
    const remedy = 'Use a plain path like "/health".'
    const canonical =
      typeof value === 'string' &&
      value.length <= 1024 &&
      /^\/[!$&'()*+,\-./0-9:;=@A-Z_a-z~]*$/.test(value) &&
      !value.includes('//') &&
      !value.split('/').some((segment) => segment === '.' || segment === '..')
    return canonical ? good(value) : bad('FORMAT', 'is not a canonical URL path', remedy)
  },
}

/** A web origin, `https://host[:port]`, in its canonical spelling. */
export const origin: Reader<string> = {
  ...text('a web origin like "https://box.tailnet.ts.net"'),
  schema: { type: 'string', pattern: '^https?://[^/]+/?$' },
  read: (value) => {
    const remedy = 'Use scheme, host and optional port, like "https://box.tailnet.ts.net".'
    if (typeof value !== 'string' || !/^https?:\/\/[^/?#@\\\s*]+\/?$/i.test(value)) {
      return bad('FORMAT', 'is not a web origin', remedy)
    }
    const url = URL.parse(value)
    return url === null ? bad('FORMAT', 'is not a web origin', remedy) : good(url.origin)
  },
}

const everywhere = new BlockList()
everywhere.addAddress('0.0.0.0', 'ipv4')
everywhere.addAddress('::', 'ipv6')

/** Says whether an address means every network of the machine, in any of its spellings. */
export function isUnspecified(address: string): boolean {
  const bare = address.split('%')[0] ?? ''
  if (isIP(bare) === 4) return everywhere.check(bare, 'ipv4')
  return isIP(bare) === 6 && everywhere.check(bare, 'ipv6')
}

/** An address to bind: a literal, `"loopback"` (127.0.0.1) or `"container"`. */
export const bindAddress: Reader<string> = {
  about: 'an IP address, "loopback" (127.0.0.1) or "container"',
  schema: { type: 'string', minLength: 1 },
  read: (value) => {
    if (value === 'loopback') return good('127.0.0.1')
    if (value === 'container') return good('container')
    const remedy = 'Use "127.0.0.1", another literal address of this machine, or "container".'
    return typeof value === 'string' && isIP(value) !== 0
      ? good(value)
      : bad('ADDRESS', 'is not an IP address', remedy)
  },
  write: same,
}

/** Where a running agent answers: `http://host[:port]` in canonical form, or `unix:/path`. */
export const upstream: Reader<string> = {
  about: '"http://host:port", or "unix:/path/to.sock"',
  schema: { type: 'string', pattern: '^(http://[^/?#@]+/?|unix:/.+)$' },
  read: (value) => {
    const remedy = 'Use "http://127.0.0.1:18789" or "unix:/path/to.sock".'
    if (typeof value === 'string' && /^unix:\/[^\u0000-\u001f\u007f]{1,100}$/.test(value)) {
      return good(value)
    }
    if (typeof value !== 'string' || !/^http:\/\/[^/?#@\\\s]+\/?$/i.test(value)) {
      return bad('ADDRESS', 'is not the address of an agent', remedy)
    }
    const url = URL.parse(value)
    return url === null || isUnspecified(url.hostname.replace(/^\[|\]$/g, ''))
      ? bad('ADDRESS', 'is not the address of an agent', remedy)
      : good(url.origin)
  },
  write: same,
}

/** A value whose form a later version defines; no value is accepted. */
export const undefinedYet: Reader<undefined> = {
  about: 'defined by a later version',
  schema: {},
  read: () => bad('NOT_AVAILABLE', 'is not available in this version', 'Remove the key.'),
  write: same,
}

/** What a text with a unit amounts to, or one sentence saying why it amounts to nothing. */
export type Measured<T extends number> =
  | { readonly value: T; readonly because?: undefined }
  | { readonly value?: undefined; readonly because: string }

const sizeUnits: Readonly<Record<string, number>> = {
  GB: 1024 ** 3,
  GiB: 1024 ** 3,
  MB: 1024 ** 2,
  MiB: 1024 ** 2,
  KB: 1024,
  KiB: 1024,
}

const dockerUnits: Readonly<Record<string, number>> = { g: 1024 ** 3, m: 1024 ** 2, k: 1024 }

const durationUnits: Readonly<Record<string, number>> = {
  w: 604_800_000,
  d: 86_400_000,
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
}

function measure(
  text: unknown,
  kind: 'size' | 'duration',
  units: Readonly<Record<string, number>>,
  example: string,
): Measured<number> {
  const names = Object.keys(units).join(', ')
  if (typeof text !== 'string') {
    return { because: `is not a ${kind}: a number needs a unit and quotes, like ${example}` }
  }
  const match = /^(-?)([0-9]+)([A-Za-z]*)$/.exec(text)
  if (match === null) {
    return { because: `is not a ${kind}: use a whole number and one of ${names}, like ${example}` }
  }
  const [, sign, digits = '', unit = ''] = match
  if (sign === '-') return { because: `is negative; a ${kind} is at least 1, like ${example}` }
  if (unit === '') return { because: `has no unit; add one of ${names}, like ${example}` }
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined
  if (factor === undefined) {
    return { because: `has the unknown unit "${unit}"; use one of ${names}, like ${example}` }
  }
  const value = Number(digits) * factor
  if (value === 0) return { because: `is zero, and zero never means "off"` }
  if (!Number.isSafeInteger(value)) return { because: `is too large to count` }
  return { value }
}

/** Bytes of `"10MB"`; KB, MB and GB are powers of 1024, as are KiB, MiB and GiB. */
export function parseSize(text: unknown): Measured<Bytes> {
  return measure(text, 'size', sizeUnits, '"10MB"')
}

/** Bytes of a size, or of the container engines' spelling of it: `"512m"`, `"1g"`. */
export function parseMemory(text: unknown): Measured<Bytes> {
  return measure(text, 'size', { ...sizeUnits, ...dockerUnits }, '"512MB"')
}

/** Milliseconds of `"30d"`; the units are ms, s, m, h, d and w. */
export function parseDuration(text: unknown): Measured<Millis> {
  return measure(text, 'duration', durationUnits, '"30d"')
}

function spell(value: number, units: readonly (readonly [string, number])[]): string | undefined {
  const found = units.find(([, factor]) => value % factor === 0)
  return found === undefined ? undefined : `${value / found[1]}${found[0]}`
}

/** The shortest exact spelling of a size; what KB does not divide is said in bytes. */
export function spellSize(bytes: Bytes): string {
  const units = [
    ['GB', 1024 ** 3],
    ['MB', 1024 ** 2],
    ['KB', 1024],
  ] as const
  return spell(bytes, units) ?? (bytes === 1 ? '1 byte' : `${bytes} bytes`)
}

/** The shortest exact spelling of a duration; weeks are said as days. */
export function spellDuration(ms: Millis): string {
  const units = Object.entries(durationUnits).filter(([name]) => name !== 'w')
  return spell(ms, units) ?? `${ms}ms`
}
