/** The contract of a check: a row that looks at plain data and says what it found, nothing, or that it could not look. */
import type { PostureContext } from './context.ts'

/** How much a finding matters, gravest first. */
export const severities = ['CRITICAL', 'HIGH', 'MEDIUM', 'LOW', 'INFO'] as const

/** How much a finding matters. */
export type Severity = (typeof severities)[number]

/** Subjects, in the order of the report. */
export const groups = [
  'configuration',
  'credentials',
  'exposure',
  'people',
  'limits',
  'files',
  'secrets',
  'sandbox',
  'agent',
  'plugins',
  'audit',
  'versions',
  'time',
] as const

/** The subject of a check. */
export type Group = (typeof groups)[number]

/** A repair that is safe to make without asking what was meant. */
export type Fix =
  | { readonly kind: 'chmod'; readonly path: string; readonly mode: number }
  | { readonly kind: 'token' }
  | { readonly kind: 'seal'; readonly path: string }

/** One thing that is wrong. Never holds a secret. */
export interface Found {
  /** One clause: "/x/config.json5 has mode 644". */
  readonly found: string
  /** The file that it is about, for tools that show places. */
  readonly file?: string
  /** What mends this very finding; the remedy of the check when absent. */
  readonly remedy?: string
  readonly fix?: Fix
}

/** The check could not look: its own answer, never "fine". */
export interface Unmeasured {
  readonly unmeasured: string
}

/** What a check says: what it found, nothing (an empty list), or why it could not look. */
export type Look = readonly Found[] | Unmeasured

/** One row of the security audit. `look` is pure. */
export interface Check {
  /** `group.what`, stable: suppressions and tools name it. */
  readonly id: string
  readonly severity: Severity
  readonly group: Group
  /** What should hold, as a sentence. */
  readonly title: string
  readonly remedy: string
  /** Its findings say what cannot be seen from here, not that something wrong was seen: they cost one step less. */
  readonly unseen?: boolean
  look(context: PostureContext): Look
}

/** A check without its group, which the file of the group adds. */
export type Row = Omit<Check, 'group'>

/** The rows of one group. */
export function inGroup(group: Group, rows: readonly Row[]): readonly Check[] {
  return rows.map((row) => ({ ...row, group }))
}

/** The answer of a check that could not look. */
export const unmeasured = (why: string): Unmeasured => ({ unmeasured: why })

/** One finding when something is wrong, none otherwise. */
export function when(wrong: boolean, found: string, more: Omit<Found, 'found'> = {}): Look {
  return wrong ? [{ found, ...more }] : []
}

/** A path as one word of a shell command: remedies are copied and pasted, and a name may be chosen to be. */
export function shellWord(path: string): string {
  return /^[\w./@:+,-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`
}

/** Looks at the effective configuration; not measured when there is none that can be read. */
export function ofConfig(
  look: (config: NonNullable<PostureContext['config']>, context: PostureContext) => Look,
): (context: PostureContext) => Look {
  return (context) =>
    context.config === undefined
      ? unmeasured('the configuration cannot be read')
      : look(context.config, context)
}

/** Looks at something that may not have been measured. */
export function ofMeasured<T>(
  pick: (context: PostureContext) => { readonly value: T } | Unmeasured,
  look: (value: T, context: PostureContext) => Look,
): (context: PostureContext) => Look {
  return (context) => {
    const measured = pick(context)
    return 'value' in measured ? look(measured.value, context) : measured
  }
}

/** Looks for problems of the configuration by their codes. */
export function ofProblems(
  ...codes: readonly string[]
): Row['look'] & { codes: readonly string[] } {
  const look = ({ problems, configFile }: PostureContext): Look =>
    problems
      .filter(({ code }) => codes.includes(code))
      .map(({ path, message, remedy }) => ({
        found: `${path === '' ? (configFile ?? 'the configuration') : path} ${message}`,
        remedy,
        ...(configFile === undefined ? {} : { file: configFile }),
      }))
  return Object.assign(look, { codes })
}
