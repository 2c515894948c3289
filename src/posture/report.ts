/** From a context to a report: every check with its answer, the score, and the same as text. */
import { plain } from '../agent/engine.ts'
import { severities, type Check, type Found, type Group, type Severity } from './check.ts'
import { checks as allChecks } from './checks.ts'
import type { PostureContext, Suppression } from './context.ts'
import { costOf, gradeOf, scoreOf, weights, type Grade } from './score.ts'

/** What one check came to. */
export interface Result {
  readonly id: string
  readonly severity: Severity
  readonly group: Group
  readonly title: string
  readonly status: 'pass' | 'finding' | 'suppressed' | 'not measured'
  /** Points that it takes off the score; 0 unless the status is `finding`. */
  readonly cost: number
  readonly findings: readonly (Found & { readonly remedy: string })[]
  /** Why it was not measured. */
  readonly because?: string
  /** Why the finding is expected, and until when (RFC 3339). */
  readonly suppression?: { readonly reason: string; readonly until: string }
}

/** One security audit. */
export interface Report {
  readonly time: string
  readonly home: string
  readonly score: number
  readonly grade: Grade
  readonly counts: Readonly<Record<Severity | 'pass' | 'not measured' | 'suppressed', number>>
  readonly results: readonly Result[]
}

/** Runs every check. A CRITICAL finding cannot be suppressed. */
export function reportOf(context: PostureContext, checks: readonly Check[] = allChecks): Report {
  const results = checks.map((check) => resultOf(check, context))
  const fired = checks.filter((_, index) => results[index]?.status === 'finding')
  const score = scoreOf(fired)
  const count = (holds: (one: Result) => boolean) => results.filter(holds).length
  const ofSeverity = Object.fromEntries(
    severities.map((name) => [name, fired.filter(({ severity }) => severity === name).length]),
  ) as Record<Severity, number>
  return {
    time: new Date(context.now).toISOString(),
    home: context.home,
    score,
    grade: gradeOf(score, fired),
    counts: {
      ...ofSeverity,
      pass: count(({ status }) => status === 'pass'),
      'not measured': count(({ status }) => status === 'not measured'),
      suppressed: count(({ status }) => status === 'suppressed'),
    },
    results,
  }
}

function resultOf(check: Check, context: PostureContext): Result {
  const { id, severity, group, title } = check
  const base = { id, severity, group, title, cost: 0 }
  const look = check.look(context)
  if ('unmeasured' in look) {
    return { ...base, status: 'not measured', findings: [], because: look.unmeasured }
  }
  if (look.length === 0) return { ...base, status: 'pass', findings: [] }
  const findings = look.map((one) => ({ ...one, remedy: one.remedy ?? check.remedy }))
  const expected = severity === 'CRITICAL' ? undefined : expectedIn(context, id)
  if (expected === undefined) return { ...base, status: 'finding', cost: costOf(check), findings }
  const suppression = { reason: expected.reason, until: new Date(expected.until).toISOString() }
  return { ...base, status: 'suppressed', findings, suppression }
}

function expectedIn({ suppressions, now }: PostureContext, id: string): Suppression | undefined {
  return suppressions.find((one) => one.id === id && one.until > now)
}

/** The report for people: findings first, gravest first, then what was not measured. */
export function textOf(report: Report): string {
  const { score, grade, counts, results } = report
  const lines = [`score ${score} of 100, grade ${grade}`]
  const fired = results
    .filter(({ status }) => status === 'finding')
    .toSorted((a, b) => severities.indexOf(a.severity) - severities.indexOf(b.severity))
  for (const { severity, id, cost, findings } of fired) {
    lines.push('', `${severity} ${id}${cost === weights[severity] ? '' : ` (costs ${cost})`}`)
    for (const { found, remedy } of findings) {
      // Names of files and keys are not ours: nothing in them may command a terminal.
      lines.push(`  ${oneLine(found)}`, `    → ${oneLine(remedy)}`)
    }
  }
  for (const { id, suppression } of results.filter(({ status }) => status === 'suppressed')) {
    lines.push(
      '',
      `expected until ${suppression?.until ?? ''}: ${id} (${suppression?.reason ?? ''})`,
    )
  }
  const blind = results.filter(({ status }) => status === 'not measured')
  if (blind.length > 0) lines.push('', 'not measured, which does not mean fine:')
  for (const [because, ids] of byReason(blind)) lines.push(`  ${because}: ${ids.join(', ')}`)
  const found = severities.map((name) => `${counts[name]} ${name}`).join(', ')
  lines.push('', `${found}; ${counts.pass} passed, ${counts['not measured']} not measured`)
  return lines.join('\n')
}

const oneLine = (text: string) => plain(text).replaceAll(/[\t\n]/g, '\u{fffd}')

function byReason(results: readonly Result[]): readonly (readonly [string, readonly string[]])[] {
  const groups = Map.groupBy(results, ({ because = '' }) => because)
  return [...groups].map(([because, some]) => [because, some.map(({ id }) => id)] as const)
}
