/** What a command changes by itself, between its two records in the audit log. */
import type { Made } from '../admin/ledger.ts'
import type { Call } from './command.ts'

/**
 * Makes a change after the log has that it began, and writes down what it came to. Rejects, and then nothing was
 * changed, when the log cannot be written. `about` names keys, files and names; never a value.
 */
export async function record<T>(
  { io, options }: Call,
  operation: string,
  about: string | undefined,
  make: () => Made<T> | Promise<Made<T>>,
): Promise<T> {
  const { recordChange } = await import('../admin/ledger.ts')
  const { config } = options
  const change = {
    operation,
    ...(about === undefined ? {} : { about }),
    ...(typeof config === 'string' ? { config } : {}),
  }
  return recordChange(io.env, change, make)
}

/** The first few of a list of names, for a record. */
export function named(names: readonly string[]): string | undefined {
  if (names.length === 0) return undefined
  const shown = names.slice(0, 8)
  const more = names.length - shown.length
  return more === 0 ? shown.join(', ') : `${shown.join(', ')} and ${more} more`
}
