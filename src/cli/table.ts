/** Columns, times and words of others as commands print them. */
import { escaped } from '../channels/entries.ts'

/** Rows under a head, each column as wide as its widest cell. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
): readonly string[] {
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/**
 * Text as a terminal may show it: everything that is not plain becomes a JSON string (CWE-117,
 * CWE-150).
 */
export function printable(text: string): string {
  return /^[\x21-\x7e]+$/.test(text) ? text : escaped(JSON.stringify(text))
}

/** UTC to the minute, what a person compares with today, or to the second. */
export function instant(ms: number, to: 'minutes' | 'seconds' = 'minutes'): string {
  return `${new Date(ms).toISOString().slice(0, to === 'minutes' ? 16 : 19)}Z`
}
