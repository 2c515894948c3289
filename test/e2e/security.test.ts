import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { test, type TestContext } from 'node:test'
import { openCopy } from '../../src/config/copies.ts'
import type { Report } from '../../src/posture/report.ts'
import { findKeys } from '../../src/secrets/key.ts'
import { makeCareless, planted } from '../fixtures/careless/make.ts'
import { mendCareless } from '../fixtures/careless/mend.ts'
import { startAgent } from '../support/agent.ts'
import { entry, hardshell, removeAfter, start } from '../support/program.ts'
import { reportFaults, sarifFaults } from '../support/schemas.ts'
import { filesBelow } from '../support/search.ts'
import { plant } from '../support/secrets.ts'

function userFolder(t: TestContext): string {
  const user = mkdtempSync(join(tmpdir(), 'hs-user-'))
  removeAfter(t, user)
  return user
}

async function audit(t: TestContext, user: string, ...options: string[]) {
  const run = await hardshell(t, ['security', 'audit', '--json', ...options], { HOME: user })
  const report = JSON.parse(run.text) as Report & {
    readonly plan?: readonly string[]
    readonly backup?: string
    readonly token?: string
    readonly keyMade?: string
    readonly change?: { readonly added: readonly string[]; readonly gone: readonly string[] }
  }
  assert.deepEqual(reportFaults(report), [])
  const findings = report.results.filter(({ status }) => status === 'finding').map(({ id }) => id)
  return { ...run, report, findings }
}

plant('gateway token', 'of the careless installation', 'hunter2')

const of = ({ results }: Report, id: string) => results.find((one) => one.id === id)

test('a careless installation shows every planted fault and scores under 40', async (t) => {
  const user = userFolder(t)
  makeCareless(user)
  const { code, report, findings, text } = await audit(t, user)
  assert.deepEqual(
    planted.filter((id) => !findings.includes(id)),
    [],
  )
  assert.ok(report.score < 40, String(report.score))
  assert.equal(report.grade, 'F')
  assert.equal(code, 1)
  assert.equal(text.includes('hunter2'), false)
})

test('a configuration that cannot be read is no reason for a good score', async (t) => {
  const user = userFolder(t)
  const home = join(user, '.hardshell')
  assert.equal((await hardshell(t, ['init'], { HOME: user })).code, 0)
  const file = join(home, 'config.json5')
  for (const spoil of [
    () => writeFileSync(file, '{ gateway: '),
    () => {
      rmSync(file)
      mkdirSync(file, { mode: 0o700 })
    },
  ]) {
    spoil()
    const { code, report } = await audit(t, user)
    assert.equal(code, 1)
    assert.ok(report.score < 50, String(report.score))
    assert.equal(of(report, 'configuration.unreadable')?.status, 'finding')
  }
})

test("what the agent's file includes, and what older agents called otherwise, is looked at too", async (t) => {
  const user = userFolder(t)
  const folder = join(user, '.clawdbot')
  mkdirSync(folder, { mode: 0o700 })
  const write = (name: string, text: string) =>
    writeFileSync(join(folder, name), text, { mode: 0o600 })
  write(
    'clawdbot.json',
    '{ $include: "flags.json", telegram: { dmPolicy: "open" }, gateway: { token: "short" } }',
  )
  write('flags.json', '{ gateway: { bind: "lan", controlUi: { allowInsecureAuth: true } } }')
  const expected = ['agent.insecure-auth', 'agent.bind', 'agent.dm-open', 'agent.token-weak']
  const { findings } = await audit(t, user)
  assert.deepEqual(
    expected.filter((id) => !findings.includes(id)),
    [],
  )
  // One that cannot be read does not hide the rest.
  rmSync(join(folder, 'flags.json'))
  symlinkSync('clawdbot.json', join(folder, 'flags.json'))
  assert.ok((await audit(t, user)).findings.includes('agent.dm-open'))
})

test('--fix and the printed remedies bring the careless installation to 85 or more', async (t) => {
  const user = userFolder(t)
  const home = join(user, '.hardshell')
  makeCareless(user)
  const before = readFileSync(join(home, 'config.json5'), 'utf8')
  const fixed = await audit(t, user, '--fix')
  const { plan = [], backup = '', token = '' } = fixed.report
  assert.ok(plan.length >= 8, plan.join('\n'))
  assert.ok(token.length >= 43)
  assert.equal(readFileSync(join(home, 'keys', 'gateway.token'), 'utf8'), `${token}\n`)
  assert.equal(fixed.report.keyMade, join(home, 'keys', 'secrets.key'))
  const keys = findKeys(home, {})
  assert.equal(openCopy(join(backup, 'config.json5'), keys).toString('utf8'), before)
  const showing = filesBelow(home).filter((file) => readFileSync(file, 'utf8').includes('hunter2'))
  assert.deepEqual(showing, [])
  assert.deepEqual(
    fixed.findings.filter((id) => /^files\.(?!link)|^credentials\.token/.test(id)),
    [],
  )
  for (const path of ['config.json5', 'state.db', 'keys/audit.key', 'keys/gateway.token']) {
    assert.equal(statSync(join(home, path)).mode & 0o777, 0o600, path)
  }
  const again = await audit(t, user, '--fix')
  assert.deepEqual(again.report.plan, [])
  assert.equal(again.report.token, undefined)
  assert.equal(readdirSync(join(home, 'backups')).length, 1)
  // Some faults can be seen only when others are gone, so people run it more than once too.
  let now = again
  for (let round = 0; round < 3 && now.report.score < 85; round += 1) {
    mendCareless(user, now.findings)
    now = await audit(t, user)
  }
  assert.ok(now.report.score >= 85, `${now.report.score}: ${now.findings.join(' ')}`)
  assert.equal(now.code, 0)
  const check = await hardshell(t, ['config', 'check'], { HOME: user })
  assert.equal(check.code, 0, check.text)
})

test('a refused token in its file is replaced there; one from a variable is left to its owner', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init', '--image', 'my-bot:1'], { HOME: user })
  const home = join(user, '.hardshell')
  const tokenFile = join(home, 'keys', 'gateway.token')
  const config = readFileSync(join(home, 'config.json5'), 'utf8')
  writeFileSync(tokenFile, 'your-secure-random-token-here\n', { mode: 0o600 })
  const { report, findings } = await audit(t, user, '--fix')
  assert.equal(readFileSync(tokenFile, 'utf8'), `${report.token}\n`)
  assert.equal(readFileSync(join(home, 'config.json5'), 'utf8'), config)
  assert.equal(findings.includes('credentials.token-example'), false)
  const other = userFolder(t)
  await hardshell(t, ['init', '--image', 'my-bot:1'], { HOME: other })
  const file = join(other, '.hardshell', 'config.json5')
  const named = readFileSync(file, 'utf8').replace(/tokenFile: .*/, 'token: "${MOLTBOT_TOKEN}",')
  writeFileSync(file, named)
  const env = { HOME: other, MOLTBOT_TOKEN: 'hunter2hunter2' }
  const { text } = await hardshell(t, ['security', 'audit', '--fix', '--json'], env)
  const left = JSON.parse(text) as Report & { readonly plan: readonly string[] }
  assert.equal(of(left, 'credentials.token-short')?.status, 'finding')
  assert.deepEqual(left.plan, [])
  assert.equal(readFileSync(file, 'utf8'), named)
  assert.equal(text.includes('hunter2'), false)
})

test('a name that is a command stands quoted in the remedy', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init', '--image', 'my-bot:1'], { HOME: user })
  writeFileSync(join(user, '.hardshell', 'a;touch b'), '', { mode: 0o644 })
  const { report } = await audit(t, user)
  const [found] = of(report, 'files.other-mode')?.findings ?? []
  assert.match(found?.remedy ?? '', /^Run: chmod 600 '[^']*a;touch b'$/)
})

test('the exit code tells whether the score that was asked for is reached', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init', '--upstream', 'http://127.0.0.1:1'], { HOME: user })
  const { report, code } = await audit(t, user)
  assert.equal(code, 0)
  assert.equal((await audit(t, user, '--min-score', String(report.score + 1))).code, 1)
  assert.equal((await audit(t, user, '--min-score', String(report.score))).code, 0)
})

test('a look changes no mode and no file but the history and the compiled code of its own', async (t) => {
  const user = userFolder(t)
  makeCareless(user)
  const home = join(user, '.hardshell')
  const list = () =>
    readdirSync(home, { recursive: true, encoding: 'utf8' })
      .filter((name) => !/^(?:history\.jsonl$|cache(?:\/|$))/.test(name))
      .toSorted()
      .map((name) => `${name} ${statSync(join(home, name)).mode.toString(8)}`)
  const before = list()
  await audit(t, user)
  assert.deepEqual(list(), before)
})

test('an expected finding is shown with its reason and costs nothing; a CRITICAL one cannot be', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init', '--upstream', 'http://127.0.0.1:1'], { HOME: user })
  const home = join(user, '.hardshell')
  const until = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10)
  const suppress = (id: string) =>
    writeFileSync(
      join(home, 'audit-suppressions.json5'),
      `{ suppressions: [{ id: "${id}", reason: "the vendor's own sandbox", until: "${until}" }] }`,
      { mode: 0o600 },
    )
  suppress('sandbox.not-applied')
  const { report } = await audit(t, user)
  assert.equal(of(report, 'sandbox.not-applied')?.status, 'suppressed')
  assert.equal(report.score, 100)
  suppress('no.such-check')
  const wrong = await audit(t, user)
  assert.deepEqual(wrong.findings.includes('configuration.suppressions'), true)
  assert.equal(of(wrong.report, 'sandbox.not-applied')?.status, 'finding')
})

test('what changed since a day is told against the last audit before it', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init', '--image', 'my-bot:1'], { HOME: user })
  await audit(t, user)
  writeFileSync(join(user, '.hardshell', 'left.txt'), '', { mode: 0o644 })
  const { report } = await audit(t, user, '--since', '2020-01-01')
  assert.deepEqual(report.change?.added, ['files.other-mode'])
  assert.deepEqual(report.change?.gone, [])
})

test('--deep asks the running sidecar: no token, a wrong one and a foreign Host are refused', async (t) => {
  const agent = await startAgent()
  t.after(() => agent.stop())
  const user = userFolder(t)
  await hardshell(t, ['init', '--upstream', agent.url], { HOME: user })
  const home = join(user, '.hardshell')
  const file = join(home, 'config.json5')
  writeFileSync(file, readFileSync(file, 'utf8').replace('port: 8080', 'port: 0'))
  const program = start(t, [entry, 'serve'], { HOME: user })
  await program.said(/listens on http:/)
  const { report } = await audit(t, user, '--deep')
  for (const name of ['without-token', 'wrong-token', 'foreign-host']) {
    assert.equal(of(report, `exposure.answers-${name}`)?.status, 'pass', name)
  }
  for (const id of ['audit.failing', 'audit.broken', 'configuration.stale', 'files.socket-mode']) {
    assert.equal(of(report, id)?.status, 'pass', id)
  }
  assert.equal(of(report, 'agent.answers-directly')?.status, 'finding')
  // The one request that reached it went around us on purpose, and had no credential.
  assert.deepEqual(
    agent.seen.map(({ headers }) => headers['authorization']),
    [undefined],
  )
})

test('SARIF is valid by the schema of the standard: careless, sound, with suppressions, live', async (t) => {
  const careless = userFolder(t)
  makeCareless(careless)
  const sound = userFolder(t)
  await hardshell(t, ['init', '--image', 'my-bot:1'], { HOME: sound })
  const expected = userFolder(t)
  await hardshell(t, ['init', '--upstream', 'http://127.0.0.1:1'], { HOME: expected })
  const until = new Date(Date.now() + 30 * 86_400_000).toISOString().slice(0, 10)
  writeFileSync(
    join(expected, '.hardshell', 'audit-suppressions.json5'),
    `{ suppressions: [{ id: "sandbox.not-applied", reason: "a reason", until: "${until}" }] }`,
    { mode: 0o600 },
  )
  const nothing = userFolder(t)
  for (const [user, ...options] of [
    [careless],
    [careless, '--fix'],
    [sound],
    [sound, '--deep'],
    [expected],
    [nothing],
  ] as const) {
    // What --fix says of the new token goes to standard error, so that the log on standard output stays one document.
    const argv = [entry, 'security', 'audit', '--sarif', ...options]
    const { stdout } = await promisify(execFile)(process.execPath, argv, {
      env: { PATH: process.env['PATH'], HOME: user },
    }).catch((failed: { stdout: string }) => failed)
    const log: unknown = JSON.parse(stdout)
    assert.deepEqual(sarifFaults(log), [], options.join(' '))
    assert.equal(stdout.includes('"suppressions"'), user === expected)
  }
})

test('SARIF names every check as a rule and every finding as a result', async (t) => {
  const user = userFolder(t)
  makeCareless(user)
  const { text } = await hardshell(t, ['security', 'audit', '--sarif'], { HOME: user })
  const log = JSON.parse(text) as {
    readonly version: string
    readonly runs: readonly {
      readonly tool: { readonly driver: { readonly rules: readonly { readonly id: string }[] } }
      readonly results: readonly { readonly ruleId: string; readonly ruleIndex: number }[]
    }[]
  }
  assert.equal(log.version, '2.1.0')
  const [run] = log.runs
  const rules = run?.tool.driver.rules ?? []
  const results = run?.results ?? []
  for (const { ruleId, ruleIndex } of results) assert.equal(rules[ruleIndex]?.id, ruleId)
  const named = new Set(results.map(({ ruleId }) => ruleId))
  assert.deepEqual(
    planted.filter((id) => !named.has(id)),
    [],
  )
})

test('wrong options are bad usage', async (t) => {
  const user = userFolder(t)
  for (const options of [
    ['--min-score', '101'],
    ['--min-score', 'high'],
    ['--since', 'soon'],
  ]) {
    const { code, text } = await hardshell(t, ['security', 'audit', ...options], { HOME: user })
    assert.equal(code, 2, text)
  }
})
