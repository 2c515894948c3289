import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import fc from 'fast-check'
import { days } from '../../src/limits.ts'
import { severities, type Severity } from '../../src/posture/check.ts'
import { checks } from '../../src/posture/checks.ts'
import { changeSince, readHistory, remember } from '../../src/posture/history.ts'
import { strayFields } from '../../src/posture/pod.ts'
import { parseSockets } from '../../src/posture/probe.ts'
import { reportOf, textOf } from '../../src/posture/report.ts'
import { compareVersions } from '../../src/posture/checks-rest.ts'
import { sarifOf } from '../../src/posture/sarif.ts'
import { gradeOf, scoreOf } from '../../src/posture/score.ts'
import { readSuppressions } from '../../src/posture/suppressions.ts'
import { configWith, contextWith, fileWith, now } from '../support/posture.ts'

const homeFor = (t: TestContext) => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  return home
}

test('the score is 100 less the weights, and at most 49 with a CRITICAL', () => {
  const score = (...fired: readonly Severity[]) => scoreOf(fired.map((severity) => ({ severity })))
  assert.equal(score(), 100)
  assert.equal(score('HIGH'), 90)
  assert.equal(score('MEDIUM', 'LOW', 'INFO'), 95)
  assert.equal(score('CRITICAL'), 49)
  assert.equal(score('CRITICAL', 'CRITICAL', 'CRITICAL'), 25)
  assert.equal(score(...severities.flatMap((one) => Array<typeof one>(9).fill(one))), 0)
})

test('what cannot be seen costs as the next lower severity, and is never CRITICAL', () => {
  const unseen = (severity: Severity) => 100 - scoreOf([{ severity, unseen: true }])
  assert.deepEqual((['HIGH', 'MEDIUM', 'LOW', 'INFO'] as const).map(unseen), [4, 1, 0, 0])
  const marked = checks.filter((check) => check.unseen === true)
  assert.deepEqual(
    marked.map(({ id, severity }) => `${severity} ${id}`),
    ['HIGH sandbox.not-applied'],
  )
})

test('the report says what each finding costs, so that anyone can add up the score', () => {
  const agent = { image: undefined, upstream: 'http://127.0.0.1:9' }
  const files = [fileWith({ role: 'home', mode: 0o755 })]
  const report = reportOf(contextWith({ config: configWith({ agent }), files }))
  const costs = report.results.filter(({ cost }) => cost > 0).map(({ id, cost }) => [id, cost])
  assert.deepEqual(costs, [
    ['files.home-mode', 10],
    ['sandbox.not-applied', 4],
  ])
  assert.equal(report.score, 86)
  assert.match(textOf(report), /^HIGH sandbox\.not-applied \(costs 4\)$/m)
  assert.match(textOf(report), /^HIGH files\.home-mode$/m)
})

test('one more finding never raises the score', () => {
  const severity = fc.record({
    severity: fc.constantFrom(...severities),
    unseen: fc.boolean(),
  })
  fc.assert(
    fc.property(fc.array(severity), severity, (fired, more) => {
      assert.ok(scoreOf([...fired, more]) <= scoreOf(fired))
    }),
  )
})

test('grades change at 95, 85, 70 and 50, and nothing with a HIGH finding is an A', () => {
  const grades = [100, 95, 94, 85, 84, 70, 69, 50, 49, 0].map((score) => gradeOf(score, []))
  assert.equal(grades.join(''), 'AABBCCDDFF')
  assert.equal(gradeOf(96, [{ severity: 'HIGH', unseen: true }]), 'B')
  assert.equal(gradeOf(96, [{ severity: 'MEDIUM' }]), 'A')
})

test('a sound installation scores 100, and its report has every answer', () => {
  const report = reportOf(contextWith())
  assert.equal(report.score, 100)
  assert.equal(report.counts.pass, report.results.length)
  assert.match(textOf(report), /^score 100 of 100, grade A\n/)
})

test('what was not measured stands in the report with its reason', () => {
  const report = reportOf(contextWith({ engine: { unmeasured: 'there is no container engine' } }))
  assert.ok(report.counts['not measured'] > 0)
  assert.match(textOf(report), /not measured, which does not mean fine:\n {2}there is no container/)
})

test('a suppression ends on its day', () => {
  const expected = { id: 'files.home-mode', reason: 'a test of ours', until: now + 1 }
  const files = [fileWith({ role: 'home', mode: 0o755 })]
  const status = (until: number) =>
    reportOf(contextWith({ files, suppressions: [{ ...expected, until }] })).results.find(
      ({ id }) => id === expected.id,
    )?.status
  assert.equal(status(now + 1), 'suppressed')
  assert.equal(status(now), 'finding')
})

test('a CRITICAL finding cannot be suppressed', () => {
  const files = [fileWith({ role: 'key', mode: 0o644 })]
  const suppressions = [{ id: 'files.key-mode', reason: 'a test of ours', until: now + 1 }]
  const report = reportOf(contextWith({ files, suppressions }))
  assert.equal(report.counts.CRITICAL, 1)
  assert.equal(report.score, 49)
})

test('suppressions need a known check, a reason, and a day within a year', (t) => {
  const home = homeFor(t)
  const known = new Set(['a.check'])
  const entry = { id: 'a.check', reason: 'because of the vendor', until: '2027-01-31' }
  const read = (text: string) => {
    writeFileSync(join(home, 'audit-suppressions.json5'), text, { mode: 0o600 })
    return readSuppressions(home, now, known)
  }
  const one = (over: object) => read(JSON.stringify({ suppressions: [{ ...entry, ...over }] }))
  assert.deepEqual(readSuppressions(join(home, 'none'), now, known).suppressions, [])
  assert.equal(one({}).suppressions[0]?.until, Date.UTC(2027, 0, 31))
  for (const [over, why] of [
    [{ id: 'no.check' }, /names no check/],
    [{ reason: 'short' }, /no reason/],
    [{ until: 'never' }, /no day/],
    [{ until: '2027-11-23' }, /longer than a year/],
  ] as const) {
    assert.match(one(over).fault ?? '', why)
    assert.deepEqual(one(over).suppressions, [])
  }
  assert.equal(one({ until: '2027-11-22' }).fault, undefined)
  assert.match(read('[]').fault ?? '', /suppressions/)
  assert.match(read('{').fault ?? '', /suppressions/)
})

test('a file of suppressions that others may write does not count', (t) => {
  const home = homeFor(t)
  const file = join(home, 'audit-suppressions.json5')
  writeFileSync(file, '{ suppressions: [] }')
  chmodSync(file, 0o622)
  assert.match(readSuppressions(home, now, new Set()).fault ?? '', /FILE_MODE/)
})

test('the history keeps the newest 500 audits and leaves out lines that are none', (t) => {
  const home = homeFor(t)
  const report = reportOf(contextWith())
  const line = `${JSON.stringify({ time: report.time, score: 1, grade: 'F', findings: [] })}\n`
  writeFileSync(join(home, 'history.jsonl'), `${line.repeat(500)}no line\n`, { mode: 0o600 })
  remember(home, report)
  const history = readHistory(home)
  assert.equal(history.length, 500)
  assert.equal(history.at(-1)?.score, 100)
  assert.equal(history.at(-2)?.score, 1)
})

test('a change is told against the newest audit before the day, or the oldest there is', () => {
  const past = (day: number, ...findings: string[]) => ({
    time: new Date(now - days(day)).toISOString(),
    score: 90,
    grade: 'B',
    findings,
  })
  const history = [past(9, 'a.one'), past(5, 'files.home-mode'), past(1)]
  const report = reportOf(contextWith({ files: [fileWith({ role: 'run', mode: 0o755 })] }))
  const since = changeSince(history, report, now - days(5))
  assert.deepEqual(since?.gone, ['files.home-mode'])
  assert.deepEqual(since?.added, ['files.run-mode'])
  assert.deepEqual(changeSince(history, report, 0)?.gone, ['a.one'])
  assert.equal(changeSince([], report, now), undefined)
})

test('versions compare number by number', () => {
  assert.equal(compareVersions('1.9.0', '1.41.0'), -1)
  assert.equal(compareVersions('1.2.8', '1.2.8'), 0)
  assert.equal(compareVersions('24.13', '24.12.9'), 1)
  assert.equal(compareVersions('1.3.0-rc.1', '1.3.0'), 0)
})

test('the tables of the kernel give listening sockets with their addresses', () => {
  const head = '  sl  local_address rem_address   st\n'
  const row = (local: string, state: string) => `   0: ${local} 00000000:0000 ${state} 00000000\n`
  const table =
    head +
    row('0100007F:1F90', '0A') +
    row('00000000:4965', '0A') +
    row('0100007F:1F91', '01') +
    row('00000000000000000000000001000000:0050', '0A') +
    row('00000000000000000000000000000000:0051', '0A') +
    row('0000000000000000FFFF00000100007F:0052', '0A') +
    row('000080FE00000000FF00000001000000:0053', '0A')
  assert.deepEqual(parseSockets(table), [
    { address: '127.0.0.1', port: 8080 },
    { address: '0.0.0.0', port: 18_789 },
    { address: '::1', port: 80 },
    { address: '::', port: 81 },
    { address: '127.0.0.1', port: 82 },
    { address: 'fe80:0:0:0:0:ff:0:1', port: 83 },
  ])
})

const cell = (over: object = {}, config: object = {}) => ({
  Image: 'sha256:aa',
  Config: { User: '1000:1000', Labels: { 'io.hardshell.role': 'agent' }, ...config },
  Mounts: [],
  HostConfig: {
    Privileged: false,
    ReadonlyRootfs: true,
    CapDrop: ['ALL'],
    CapAdd: null,
    SecurityOpt: ['no-new-privileges:true', 'seccomp={}'],
    NetworkMode: 'container:1',
    PortBindings: {},
    PidMode: '',
    IpcMode: 'private',
    Memory: 2 * 1024 ** 3,
    PidsLimit: 256,
    NanoCpus: 2e9,
    ...over,
  },
})

test('a container that is what a cell must be has no stray field, and each loosening is named', () => {
  const look = (inspected: unknown) =>
    strayFields(inspected, configWith(), '/home/me/.hardshell', 'sha256:aa')
  assert.deepEqual(look(cell()), [])
  for (const [over, name] of [
    [{ Privileged: true }, 'Privileged'],
    [{ ReadonlyRootfs: false }, 'ReadonlyRootfs'],
    [{ CapDrop: [] }, 'CapDrop'],
    [{ CapAdd: ['NET_ADMIN'] }, 'CapAdd'],
    [{ SecurityOpt: ['seccomp={}'] }, 'NoNewPrivileges'],
    [{ SecurityOpt: ['no-new-privileges', 'seccomp=unconfined'] }, 'Seccomp'],
    [{ NetworkMode: 'bridge' }, 'NetworkMode'],
    [{ PortBindings: { '80/tcp': [] } }, 'PortBindings'],
    [{ PidMode: 'host' }, 'PidMode'],
    [{ IpcMode: 'host' }, 'IpcMode'],
    [{ UsernsMode: 'host' }, 'UsernsMode'],
    [{ Devices: [{}] }, 'Devices'],
    [{ Binds: ['/:/host'] }, 'Binds'],
    [{ Memory: 0 }, 'Memory'],
    [{ NanoCpus: 0 }, 'NanoCpus'],
    [{ PidsLimit: 257 }, 'PidsLimit'],
  ] as const) {
    assert.deepEqual(look(cell(over)), [name])
  }
  assert.deepEqual(look(cell({}, { User: 'root' })), ['User'])
  assert.deepEqual(look({ ...cell(), Image: 'sha256:bb' }), ['Image'])
  const mounted = { Source: '/var/run/docker.sock', RW: true }
  assert.deepEqual(look({ ...cell(), Mounts: [mounted] }), ['Mounts'])
  assert.ok(look(undefined).length >= 8)
})

test('SARIF has one rule for each check, levels by severity, and places by URI', () => {
  const files = [fileWith({ role: 'key', path: '/home/me/my keys/a.key', mode: 0o644 })]
  const blind = { unmeasured: 'a reason' }
  const report = reportOf(contextWith({ files, audit: blind }))
  const log = JSON.parse(JSON.stringify(sarifOf(report, '1.2.3'))) as {
    readonly runs: readonly {
      readonly tool: { readonly driver: { readonly rules: readonly { readonly id: string }[] } }
      readonly results: readonly Readonly<Record<string, unknown>>[]
    }[]
  }
  const [run] = log.runs
  assert.equal(run?.tool.driver.rules.length, report.results.length)
  const key = run?.results.find(({ ruleId }) => ruleId === 'files.key-mode')
  assert.equal(key?.['level'], 'error')
  assert.match(JSON.stringify(key?.['locations']), /file:\/\/\/home\/me\/my%20keys\/a\.key/)
  const open = run?.results.find(({ ruleId }) => ruleId === 'audit.broken')
  assert.equal(open?.['kind'], 'open')
  assert.equal(open?.['level'], 'none')
})
