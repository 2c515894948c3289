/** Findings that the owner expects: a file with reasons and days, beside the configuration. */
import { join } from 'node:path'
import { parseJson5 } from '../config/json5.ts'
import { FileFailure, readOwn } from '../files.ts'
import { days } from '../limits.ts'
import type { Suppression } from './context.ts'

/** Nothing is expected for longer than this, so that every exception is looked at again. */
const longest = days(366)

/** Where the file of suppressions lies. */
export const suppressionsFile = (home: string) => join(home, 'audit-suppressions.json5')

/** The suppressions of a home, or what is wrong with the file; then none of them counts. */
export function readSuppressions(
  home: string,
  now: number,
  known: ReadonlySet<string>,
): { readonly suppressions: readonly Suppression[]; readonly fault?: string } {
  let text: string
  try {
    text = readOwn(suppressionsFile(home), { parent: 'safe' }).text
  } catch (thrown) {
    if (!(thrown instanceof FileFailure)) throw thrown
    if (thrown.code === 'FILE_MISSING') return { suppressions: [] }
    return { suppressions: [], fault: `cannot be used (${thrown.code})` }
  }
  const suppressions: Suppression[] = []
  const list = listIn(text)
  if (list === undefined) return { suppressions, fault: 'is not { suppressions: [ … ] }' }
  for (const [index, entry] of list.entries()) {
    const read = readOne(entry, now, known)
    if (typeof read === 'string') {
      return { suppressions: [], fault: `has entry ${index + 1}, which ${read}` }
    }
    suppressions.push(read)
  }
  return { suppressions }
}

function listIn(text: string): readonly unknown[] | undefined {
  const { value, problems } = parseJson5(text)
  if (problems.length > 0 || typeof value !== 'object' || value === null) return undefined
  const list: unknown = 'suppressions' in value ? value.suppressions : undefined
  return Array.isArray(list) ? list : undefined
}

function readOne(entry: unknown, now: number, known: ReadonlySet<string>): Suppression | string {
  if (typeof entry !== 'object' || entry === null) return 'is not an object'
  const { id, reason, until } = entry as Readonly<Record<string, unknown>>
  if (typeof id !== 'string' || !known.has(id)) return 'names no check'
  if (typeof reason !== 'string' || reason.trim().length < 8) return 'gives no reason'
  const end = typeof until === 'string' && /^\d{4}-\d\d-\d\d$/.test(until) ? Date.parse(until) : NaN
  if (Number.isNaN(end)) return 'has no day in "until", like "2027-01-31"'
  if (end > now + longest) return 'is to last longer than a year'
  return { id, reason: reason.trim(), until: end }
}
