/** What earlier security audits came to, one line each, so that a change can be seen. */
import { join } from 'node:path'
import { FileFailure, readOwn, writeAtomic } from '../files.ts'
import type { Report } from './report.ts'

/** One earlier audit. */
export interface Past {
  readonly time: string
  readonly score: number
  readonly grade: string
  /** Ids of the checks with findings. */
  readonly findings: readonly string[]
}

/** Lines that are kept; the oldest go. */
const linesMost = 500

/** Where the history lies. */
export const historyFile = (home: string) => join(home, 'history.jsonl')

/** The line for a report. */
export function pastOf({ time, score, grade, results }: Report): Past {
  const findings = results.filter(({ status }) => status === 'finding').map(({ id }) => id)
  return { time, score, grade, findings }
}

/** Earlier audits, oldest first; lines that are none are left out. Throws FileFailure. */
export function readHistory(home: string): readonly Past[] {
  try {
    const { text } = readOwn(historyFile(home), { parent: 'safe', maxBytes: 16 * 1024 ** 2 })
    return text.split('\n').flatMap((line) => {
      const past = readPast(line)
      return past === undefined ? [] : [past]
    })
  } catch (thrown) {
    if (thrown instanceof FileFailure && thrown.code === 'FILE_MISSING') return []
    throw thrown
  }
}

function readPast(line: string): Past | undefined {
  if (line === '') return undefined
  try {
    const value = JSON.parse(line) as Partial<Past> | null
    const good =
      typeof value?.time === 'string' &&
      typeof value.score === 'number' &&
      typeof value.grade === 'string' &&
      Array.isArray(value.findings)
    return good ? (value as Past) : undefined
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

/** Adds a report to the history. Throws FileFailure when it cannot be written. */
export function remember(home: string, report: Report): void {
  const kept = [...readHistory(home), pastOf(report)].slice(-linesMost)
  writeAtomic(historyFile(home), kept.map((past) => `${JSON.stringify(past)}\n`).join(''))
}

/** What changed since a moment: against the newest audit before it, or the oldest there is. */
export interface Change {
  readonly before: Past
  /** Checks that have findings now and had none. */
  readonly added: readonly string[]
  /** Checks that had findings and have none now. */
  readonly gone: readonly string[]
}

/** The change since `since` (ms since the epoch); undefined without an earlier audit. */
export function changeSince(
  history: readonly Past[],
  report: Report,
  since: number,
): Change | undefined {
  const before = history.findLast(({ time }) => Date.parse(time) <= since) ?? history[0]
  if (before === undefined) return undefined
  const now = pastOf(report).findings
  return {
    before,
    added: now.filter((id) => !before.findings.includes(id)),
    gone: before.findings.filter((id) => !now.includes(id)),
  }
}
