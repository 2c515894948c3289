/** SARIF and JSON of the security audit against their schemas. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { PostureContext } from '../../src/posture/context.ts'
import { reportOf } from '../../src/posture/report.ts'
import { sarifOf } from '../../src/posture/sarif.ts'
import { contextWith, fileWith, now } from '../support/posture.ts'
import { reportFaults, sarifFaults } from '../support/schemas.ts'

interface Written {
  readonly runs: readonly { readonly results: readonly Readonly<Record<string, unknown>>[] }[]
}

const sent = (value: unknown): unknown => JSON.parse(JSON.stringify(value))
const logOf = (over: Partial<PostureContext>) =>
  sent(sarifOf(reportOf(contextWith(over)), '1.2.3')) as Written
const jsonOf = (over: Partial<PostureContext>) =>
  sent({ ...reportOf(contextWith(over)), minScore: 85 }) as Record<string, unknown>

/** Findings, one of them expected, and checks that could not look. */
const spoiled: Partial<PostureContext> = {
  files: [
    fileWith({ role: 'key', mode: 0o644 }),
    fileWith({ role: 'home', mode: 0o755, path: '/home/a b/%20#?' }),
  ],
  suppressions: [{ id: 'files.home-mode', reason: 'a test of ours', until: now + 1 }],
  audit: { unmeasured: 'a reason' },
}

test('logs of a sound and of a spoiled installation are valid SARIF 2.1.0', () => {
  const sound = logOf({})
  assert.deepEqual(sarifFaults(sound), [])
  assert.deepEqual(sound.runs[0]?.results, [])
  const log = logOf(spoiled)
  assert.deepEqual(sarifFaults(log), [])
  const results = log.runs[0]?.results ?? []
  assert.ok(results.some(({ kind }) => kind === 'open'))
  assert.ok(results.some((each) => 'suppressions' in each))
  // A result that is no failure has no level (SARIF §3.27.10).
  for (const { kind, level } of results) assert.equal(level === 'none', kind !== 'fail')
})

test('whatever a file is called, the log stays valid', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 40 }), (name) => {
      const path = `/home/me/.hardshell/keys/${name.replaceAll(/[\0/]/g, '_')}`
      const log = logOf({ files: [fileWith({ role: 'key', mode: 0o644, path })] })
      assert.deepEqual(sarifFaults(log), [])
    }),
  )
})

/** `value` with the member at `path` replaced, or taken out where there is no replacement. */
function broken(value: unknown, path: string, ...by: readonly unknown[]): unknown {
  const copy = structuredClone(value)
  const steps = path.split('.')
  const last = steps.pop() ?? ''
  const at = steps.reduce<Record<string, unknown>>(
    (there, step) => there[step] as Record<string, unknown>,
    copy as Record<string, unknown>,
  )
  if (by.length === 0) delete at[last]
  else at[last] = by[0]
  return copy
}

test('a log with any one fault is found invalid, so that the schema is really applied', () => {
  const log = logOf(spoiled)
  const first = log.runs[0]?.results.findIndex((each) => 'locations' in each) ?? -1
  const expected = log.runs[0]?.results.findIndex((each) => 'suppressions' in each) ?? -1
  const result = `runs.0.results.${first}`
  const uri = `${result}.locations.0.physicalLocation.artifactLocation.uri`
  for (const [path, ...by] of [
    ['version'],
    ['version', '2.2.0'],
    ['runs.0.tool'],
    ['runs.0.tool.driver.name'],
    ['runs.0.tool.driver.rules.0.id'],
    ['runs.0.tool.driver.rules.0.severity', 'HIGH'],
    ['runs.0.tool.driver.rules.0.defaultConfiguration.level', 'fatal'],
    ['runs.0.invocations.0.executionSuccessful'],
    ['runs.0.invocations.0.endTimeUtc', 'yesterday'],
    ['runs.0.columnKind', 'bytes'],
    ['runs.0.score', 90],
    [`${result}.message`],
    [`${result}.message`, 'a text'],
    [`${result}.kind`, 'suppressed'],
    [`${result}.level`, 'HIGH'],
    [`${result}.ruleIndex`, -2],
    [uri, 'file:///home/a b'],
    [`runs.0.results.${expected}.suppressions.0.kind`],
    [`runs.0.results.${expected}.suppressions.0.status`, 'accepted'],
  ] as const) {
    assert.notDeepEqual(sarifFaults(broken(log, path, ...by)), [], path)
  }
})

test('the JSON of a report has the shape that is documented, and nothing beside it', () => {
  assert.deepEqual(reportFaults(jsonOf({})), [])
  const json = jsonOf(spoiled)
  assert.deepEqual(reportFaults(json), [])
  for (const [path, ...by] of [
    ['score'],
    ['score', 101],
    ['grade', 'E'],
    ['time', 'now'],
    ['minScore'],
    ['counts.HIGH'],
    ['counts.EXTREME', 1],
    ['results.0.status', 'fine'],
    ['results.0.cost'],
    ['results.0.more', 1],
    ['plan', 'chmod'],
  ] as const) {
    assert.notDeepEqual(reportFaults(broken(json, path, ...by)), [], path)
  }
})
