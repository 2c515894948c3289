/** Sizes and durations as people write them: "10MB", "30d". */
import type { Bytes, Millis } from '../limits.ts'

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
