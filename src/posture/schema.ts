/** The shape of `security audit --json`, as a JSON Schema: docs/security-audit.schema.json is made from it. */
import { groups, severities } from './check.ts'

const text = (description: string) => ({ type: 'string', description })
const moment = (description: string) => ({ type: 'string', format: 'date-time', description })
const list = (items: object, description: string) => ({ type: 'array', items, description })
const count = { type: 'integer', minimum: 0 }
const severity = { type: 'string', enum: severities }
const grade = { type: 'string', enum: ['A', 'B', 'C', 'D', 'F'] }
const score = { type: 'integer', minimum: 0, maximum: 100 }
const ids = (description: string) => list({ type: 'string' }, description)

/** An object with these members; those in `optional` may be absent. More may come in a later version. */
const object = (properties: Readonly<Record<string, object>>, ...optional: readonly string[]) => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
})

const finding = object(
  {
    found: text('What is wrong, in one clause.'),
    remedy: text('What mends it.'),
    file: text('The file that it is about.'),
    fix: {
      description: 'What --fix does about it; absent where it does nothing.',
      ...object(
        { kind: text('Like "chmod".'), path: text('Of what.'), mode: count },
        'path',
        'mode',
      ),
    },
  },
  'file',
  'fix',
)

const result = object(
  {
    id: text('The stable name of the check.'),
    severity,
    group: { type: 'string', enum: groups },
    title: text('What should hold.'),
    status: { type: 'string', enum: ['pass', 'finding', 'suppressed', 'not measured'] },
    cost: { ...count, description: 'Points that it takes off the score.' },
    findings: list(finding, 'Empty unless the status is "finding" or "suppressed".'),
    because: text('Why it was not measured.'),
    suppression: object({
      reason: text('Why the finding is expected.'),
      until: moment('When the suppression ends.'),
    }),
  },
  'because',
  'suppression',
)

const past = object({
  time: moment('When that audit was made.'),
  score,
  grade,
  findings: ids('The checks with findings then.'),
})

/** JSON Schema (Draft 7). Members may be added; none is renamed, removed or given another meaning. */
export const reportSchema = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  title: 'The output of "hardshell security audit --json"',
  ...object(
    {
      time: moment('When the audit was made.'),
      home: text('The folder of Hardshell.'),
      score,
      grade,
      counts: {
        description: 'Checks with findings by severity, and all others by their status.',
        ...object(
          Object.fromEntries(
            [...severities, 'pass', 'not measured', 'suppressed'].map((name) => [name, count]),
          ),
        ),
      },
      results: list(result, 'Every check, in the order of the page.'),
      minScore: { ...score, description: 'The exit code is 1 below it.' },
      change: {
        description:
          'With --since: against the last audit before that day; absent if there is none.',
        ...object({
          before: past,
          added: ids('Checks that have findings now and had none then.'),
          gone: ids('Checks that had findings then and have none now.'),
        }),
      },
      plan: list({ type: 'string' }, 'With --fix: what was mended, one line each.'),
      backup: text('With --fix: the folder with what was there before, files sealed.'),
      token: text('With --fix: the new token, shown this once.'),
      keyMade: text('With --fix: the file of a key that was made to seal what is kept.'),
    },
    'change',
    'plan',
    'backup',
    'token',
    'keyMade',
  ),
}
