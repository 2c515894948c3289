/** One run as a table for people, and beside the ratios of the baseline. */
import { fileURLToPath } from 'node:url'

import { figure, met, type Effort, type Goal, type Section } from './section.ts'

/** Everything that one run found. */
export interface Report {
  readonly date: string
  readonly machine: string
  readonly command: string
  readonly loadBefore: string
  readonly loadAfter: string
  readonly seconds: number
  readonly effort: Effort
  readonly sections: readonly Section[]
}

/** Ratios by name: absolute figures belong to a machine, ratios to the code. */
export type Baseline = Readonly<Record<string, number>>

/** The committed ratios. */
export const baselinePath = fileURLToPath(new URL('../baseline.json', import.meta.url))

/** The tables as Markdown, so that they go into docs/benchmarks.md as they are. */
export function printed(report: Report): string {
  const { date, machine, command, loadBefore, loadAfter, seconds, effort } = report
  const head = [
    `${date}, ${machine}`,
    `\`${command}\`: ${effort.rounds} rounds of ${effort.seconds} s, ${seconds} s in all`,
    `load average before ${loadBefore}, after ${loadAfter}`,
  ]
  const goals = report.sections.flatMap((section) => section.goals)
  return [
    head.join('\n'),
    ...report.sections.map(sectionText),
    goals.length === 0 ? '' : goalsText(goals, effort.smoke),
  ].join('\n\n')
}

function sectionText({ title, columns, rows, notes, broken }: Section): string {
  const lines = [`### ${title}`, '', ...table([columns, ...rows])]
  if (notes.length > 0) lines.push('', ...notes.map((note) => `- ${note}`))
  if (broken.length > 0) lines.push('', ...broken.map((what) => `BROKEN ${what}`))
  return lines.join('\n')
}

function goalsText(goals: readonly Goal[], smoke: boolean): string {
  const title = smoke ? 'Goals (a smoke run is too short to judge them)' : 'Goals'
  const rows = goals.map((goal) => {
    const { name, value, bound, sense, unit = '' } = goal
    const shown = `${figure(value, Number.isInteger(value) ? 0 : 2)}${unit}`
    const verdict = smoke ? 'not judged' : met(goal) ? 'reached' : 'MISSED'
    return [name, `${sense} ${bound}${unit}`, shown, verdict]
  })
  return [`### ${title}`, '', ...table([['goal', 'bound', 'measured', ''], ...rows])].join('\n')
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  )
  const line = (row: readonly string[]) =>
    `| ${widths.map((width, column) => (row[column] ?? '').padEnd(width)).join(' | ')} |`
  const [head = [], ...rest] = rows
  return [
    line(head),
    `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`,
    ...rest.map(line),
  ]
}

/** How the ratios of this run stand to the baseline, in words. */
export function compared({ sections }: Report, baseline: Baseline): string {
  const lines = sections
    .flatMap((section) => Object.entries(section.ratios))
    .map(([name, { median }]) => {
      const before = baseline[name]
      const beside = before === undefined ? 'no baseline' : `baseline ${figure(before, 2)}`
      return `${name}: ${figure(median, 2)} (${beside})`
    })
  return ['', 'Ratios', ...lines.map((line) => `- ${line}`), ''].join('\n')
}
