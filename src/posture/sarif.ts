/** A report as SARIF 2.1.0 (OASIS), which code hosts and pipelines read. */
import { pathToFileURL } from 'node:url'
import { checks } from './checks.ts'
import type { Severity } from './check.ts'
import type { Report, Result } from './report.ts'

const levels = {
  CRITICAL: 'error',
  HIGH: 'error',
  MEDIUM: 'warning',
  LOW: 'note',
  INFO: 'note',
} as const satisfies Record<Severity, string>

/** Numbers by which tools sort findings of security (0 to 10). */
const numbers = {
  CRITICAL: '9.5',
  HIGH: '8.0',
  MEDIUM: '5.5',
  LOW: '3.0',
  INFO: '0.0',
} as const satisfies Record<Severity, string>

/** The report as one SARIF log with one run. Checks that could not look are results of kind "open". */
export function sarifOf(report: Report, version: string): unknown {
  const rules = checks.map(({ id, title, remedy, severity, group }) => ({
    id,
    name: id.replace(/(?:^|[.-])([a-z])/g, (_, letter: string) => letter.toUpperCase()),
    shortDescription: { text: `${title}.` },
    help: { text: remedy },
    defaultConfiguration: { level: levels[severity] },
    properties: { tags: ['security', group], 'security-severity': numbers[severity] },
  }))
  const ruleIndex = new Map(rules.map(({ id }, index) => [id, index]))
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [
      {
        tool: {
          driver: {
            name: 'hardshell',
            version,
            semanticVersion: version,
            rules,
          },
        },
        columnKind: 'utf16CodeUnits',
        invocations: [{ executionSuccessful: true, endTimeUtc: report.time }],
        results: report.results.flatMap((result) =>
          resultsOf(result, ruleIndex.get(result.id) ?? -1),
        ),
        properties: { score: report.score, grade: report.grade },
      },
    ],
  }
}

function resultsOf(result: Result, ruleIndex: number): readonly unknown[] {
  const { id: ruleId, severity, status, findings, because, suppression } = result
  if (status === 'pass') return []
  if (status === 'not measured') {
    const message = { text: `Not measured: ${because ?? ''}.` }
    return [{ ruleId, ruleIndex, kind: 'open', level: 'none', message }]
  }
  return findings.map(({ found, remedy, file }) => ({
    ruleId,
    ruleIndex,
    kind: 'fail',
    level: levels[severity],
    message: { text: `${found}. ${remedy}` },
    ...(file === undefined
      ? {}
      : {
          locations: [
            { physicalLocation: { artifactLocation: { uri: pathToFileURL(file).href } } },
          ],
        }),
    ...(suppression === undefined
      ? {}
      : {
          // Without a status it counts as accepted; editions of the schema differ in that member's name.
          suppressions: [{ kind: 'external', justification: suppression.reason }],
        }),
  }))
}
