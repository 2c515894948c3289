/** The part of the SARIF 2.1.0 schema (OASIS, errata 01) that our logs use: required and allowed members, and enumerations. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { reportOf } from '../../src/posture/report.ts'
import { sarifOf } from '../../src/posture/sarif.ts'
import { contextWith, fileWith, now } from '../support/posture.ts'

type Rule = (value: unknown, at: string) => void
interface Members {
  readonly required: Readonly<Record<string, Rule>>
  readonly optional?: Readonly<Record<string, Rule>>
}

const text: Rule = (value, at) => assert.equal(typeof value, 'string', at)
const yes: Rule = (value, at) => assert.equal(typeof value, 'boolean', at)
const uri: Rule = (value, at) => assert.ok(URL.canParse(String(value)), at)
const index: Rule = (value, at) => assert.ok(Number.isInteger(value) && Number(value) >= 0, at)
const time: Rule = (value, at) => assert.match(String(value), /^\d{4}-\d\d-\d\dT[\d:.]+Z$/, at)
const bag: Rule = (value, at) => assert.equal(typeof value, 'object', at)
const one =
  (...words: readonly string[]): Rule =>
  (value, at) =>
    assert.ok(words.includes(String(value)), `${at} is ${String(value)}`)
const list =
  (rule: Rule): Rule =>
  (value, at) => {
    assert.ok(Array.isArray(value), at)
    for (const [place, item] of value.entries()) rule(item, `${at}[${place}]`)
  }
const object =
  ({ required, optional = {} }: Members): Rule =>
  (value, at) => {
    assert.ok(typeof value === 'object' && value !== null && !Array.isArray(value), at)
    const members = value as Readonly<Record<string, unknown>>
    const known: Readonly<Record<string, Rule>> = { ...required, ...optional }
    for (const name of Object.keys(required)) assert.ok(name in members, `${at} lacks ${name}`)
    for (const [name, member] of Object.entries(members)) {
      const rule = known[name]
      assert.ok(rule !== undefined, `${at} has ${name}, which the schema does not know`)
      rule(member, `${at}.${name}`)
    }
  }

const level = one('none', 'note', 'warning', 'error')
const message = object({ required: { text } })
const location = object({
  required: {
    physicalLocation: object({
      required: { artifactLocation: object({ required: { uri } }) },
    }),
  },
})
const suppression = object({
  required: { kind: one('inSource', 'external') },
  optional: { status: one('accepted', 'underReview', 'rejected'), justification: text },
})
const result = object({
  required: { message },
  optional: {
    ruleId: text,
    ruleIndex: index,
    kind: one('notApplicable', 'pass', 'fail', 'review', 'open', 'informational'),
    level,
    locations: list(location),
    suppressions: list(suppression),
  },
})
const descriptor = object({
  required: { id: text },
  optional: {
    name: text,
    shortDescription: message,
    help: message,
    defaultConfiguration: object({ required: {}, optional: { level } }),
    properties: bag,
  },
})
const driver = object({
  required: { name: text },
  optional: { version: text, semanticVersion: text, rules: list(descriptor) },
})
const log = object({
  required: {
    version: one('2.1.0'),
    runs: list(
      object({
        required: { tool: object({ required: { driver } }) },
        optional: {
          columnKind: one('utf16CodeUnits', 'unicodeCodePoints'),
          invocations: list(
            object({ required: { executionSuccessful: yes }, optional: { endTimeUtc: time } }),
          ),
          results: list(result),
          properties: bag,
        },
      }),
    ),
  },
  optional: { $schema: uri },
})

interface Written {
  readonly runs: readonly { readonly results: readonly Readonly<Record<string, unknown>>[] }[]
}

const written = (over: Parameters<typeof contextWith>[0]) =>
  JSON.parse(JSON.stringify(sarifOf(reportOf(contextWith(over)), '1.2.3'))) as Written

test('a log with findings, suppressions and what was not measured has the members of SARIF 2.1.0', () => {
  const sound = written({})
  log(sound, 'log')
  assert.deepEqual(sound.runs[0]?.results, [])
  const files = [
    fileWith({ role: 'key', mode: 0o644 }),
    fileWith({ role: 'home', mode: 0o755, path: '/home/a b/%20#?' }),
  ]
  const suppressions = [{ id: 'files.home-mode', reason: 'a test of ours', until: now + 1 }]
  const spoiled = written({ files, suppressions, audit: { unmeasured: 'a reason' } })
  log(spoiled, 'log')
  const results = spoiled.runs[0]?.results ?? []
  assert.ok(results.some(({ kind }) => kind === 'open'))
  assert.ok(results.some((each) => 'suppressions' in each))
  // A result that is no failure has no level (SARIF §3.27.10).
  for (const { kind, level: said } of results) assert.equal(said === 'none', kind !== 'fail')
})
