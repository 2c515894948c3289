/** `hardshell security migrate | rollback` as a person runs them: processes, files, exit codes. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { hardshell, homeWith, start } from '../support/program.ts'
import { plant } from '../support/secrets.ts'
import { newToken } from '../support/sidecar.ts'

const entry = new URL('../../src/main.ts', import.meta.url).pathname
const fixture = new URL('../fixtures/migrate/openclaw.json5', import.meta.url).pathname
const olderFixture = new URL('../fixtures/migrate/older.json5', import.meta.url).pathname
for (const [secret] of readFileSync(fixture, 'utf8').matchAll(/[\w:-]*planted-[\w-]+/g)) {
  plant('channel credential', 'in openclaw.json5', secret)
}

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A user with the agent's file where the agent keeps it, and with nothing of ours yet. */
function withUser(
  use: (user: {
    readonly home: string
    readonly source: string
    run(args: string): Outcome
  }) => void,
): void {
  const user = mkdtempSync(join(tmpdir(), 'hardshell-migrate-'))
  const source = join(user, '.openclaw', 'openclaw.json')
  mkdirSync(join(user, '.openclaw'), { mode: 0o755 })
  copyFileSync(fixture, source)
  try {
    use({
      home: join(user, '.hardshell'),
      source,
      run: (args) => {
        const { status, stdout, stderr } = spawnSync(
          process.execPath,
          [entry, ...args.split(' ')],
          { env: { HOME: user }, encoding: 'utf8', timeout: 60_000 },
        )
        return { code: status, out: stdout, err: stderr }
      },
    })
  } finally {
    rmSync(user, { recursive: true, force: true })
  }
}

const filesBelow = (folder: string) =>
  readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((found) => found.isFile())
    .map((found) => join(found.parentPath, found.name))

test('a dry run prints the difference and the boxes, and writes nothing', () => {
  withUser(({ home, source, run }) => {
    const { code, out, err } = run('security migrate --dry-run')
    assert.equal(code, 0, err)
    assert.match(out, /^\+ agent\.upstream: "http:\/\/127\.0\.0\.1:18790"$/m)
    assert.match(out, /^\+ agent\.token: \*\*\*$/m)
    assert.match(out, /^\[ \] Run the migration: this is a dry run$/m)
    assert.match(out, /^\[\?\] The score is 85 or more: not measured in a dry run/m)
    assert.doesNotMatch(`${out}${err}`, /planted/)
    assert.equal(existsSync(home), false)
    assert.equal(readFileSync(source, 'utf8'), readFileSync(fixture, 'utf8'))
  })
})

test('a bare migration makes a configuration that loads; the same again does nothing; rollback undoes it', () => {
  withUser(({ home, source, run }) => {
    const { code, out, err } = run('security migrate')
    assert.equal(code, 0, err)
    const token = out.trimEnd().split('\n').at(-1) ?? ''
    assert.match(token, /^[\w-]{43}$/)
    assert.equal(readFileSync(join(home, 'keys', 'gateway.token'), 'utf8'), `${token}\n`)
    assert.match(out, /^\[x\] Backup your config: .*migrations/m)
    assert.match(out, /^\[x\] Strong gateway token/m)
    assert.match(out, /^\[ \] Test the start: it does not run/m)
    assert.match(out, /^\[ \] Run the security audit: none since/m)
    assert.match(out, /^\[ \] The score is 85 or more: it is \d+ \(\w\)/m)
    for (const file of filesBelow(home)) {
      assert.doesNotMatch(readFileSync(file, 'latin1'), /planted/, file)
      assert.equal(statSync(file).mode & 0o777, 0o600, file)
    }
    assert.doesNotMatch(`${out}${err}`, /planted/)
    assert.equal(statSync(source).mode & 0o777, 0o600)
    assert.equal(readFileSync(source, 'utf8'), readFileSync(fixture, 'utf8'))
    assert.equal(run('config check').code, 0)

    const file = join(home, 'config.json5')
    const after = readFileSync(file, 'utf8')
    const again = run('security migrate')
    assert.equal(again.code, 0, again.err)
    assert.match(again.out, /nothing had to change/)
    run('security audit --min-score 0')
    assert.match(
      run('security migrate').out,
      /^\[x\] Run the security audit: the last one was at 2/m,
    )
    assert.equal(readFileSync(file, 'utf8'), after)

    const back = run('security rollback')
    assert.equal(back.code, 0, back.err)
    assert.equal(existsSync(file), false)
    assert.equal(existsSync(join(home, 'keys', 'gateway.token')), false)
    assert.equal(run('security rollback').code, 1)
  })
})

test('after a migration of an older file of ours no file of the home shows what it showed, until a rollback', () => {
  withUser(({ home, run }) => {
    const older = readFileSync(olderFixture, 'utf8')
    const file = join(home, 'config.json5')
    mkdirSync(join(home, 'keys'), { recursive: true, mode: 0o700 })
    writeFileSync(file, older, { mode: 0o600 })
    const showing = () =>
      filesBelow(home).filter((path) => /planted-/.test(readFileSync(path, 'latin1')))
    assert.deepEqual(showing(), [file])
    for (const command of ['security migrate', 'secrets init', 'config set gateway.port 9191']) {
      const { code, err } = run(command)
      assert.equal(code, 0, err)
      assert.deepEqual(showing(), [], command)
    }
    assert.equal(run('secrets rotate-key').code, 0)
    assert.equal(run('security rollback').code, 0)
    assert.equal(readFileSync(file, 'utf8'), older)
    assert.deepEqual(showing(), [file])
    assert.equal(run('secrets init --seal').code, 0)
    assert.deepEqual(showing(), [])
  })
})

test('the report as JSON has the boxes and the changes, and the token once', () => {
  withUser(({ run }) => {
    const first = JSON.parse(run('security migrate --json').out) as Record<string, unknown>
    assert.match(String(first['token']), /^[\w-]{43}$/)
    assert.equal((first['checklist'] as readonly unknown[]).length, 10)
    assert.deepEqual(first['sealed'], ['agent.token', 'channels.telegram.botToken'])
    const second = JSON.parse(run('security migrate --json').out) as Record<string, unknown>
    assert.equal('token' in second, false)
    assert.equal('backup' in second, false)
  })
})

test('without anything to read, and with a file that is not there, it is one line', () => {
  withUser(({ source, run }) => {
    assert.match(run('security migrate --from /nonexistent/x.json').err, /does not exist/)
    rmSync(source)
    const { code, err } = run('security migrate')
    assert.equal(code, 1)
    assert.equal(err.trim().split('\n').length, 1)
    assert.match(err, /name one with --from/)
  })
})

test('the boxes see that it runs with this configuration, who used the token, and what it scores', async (t) => {
  const home = homeWith(t, {
    gateway: { port: 0, auth: { tokenFile: 'keys/gateway.token' } },
    agent: { upstream: 'http://127.0.0.1:9' },
  })
  mkdirSync(join(home, 'keys'), { mode: 0o700 })
  const token = newToken()
  writeFileSync(join(home, 'keys', 'gateway.token'), `${token}\n`, { mode: 0o600 })
  const env = { HARDSHELL_HOME: home, HOME: home }
  const program = start(t, [entry, 'serve'], env)
  const [, url = ''] = await program.said(/listens on (http:\S+)/)
  await fetch(`${url}/x`, { headers: { authorization: `Bearer ${token}` } })
  const boxes = async () => (await hardshell(t, ['security', 'migrate'], env)).text
  const running = await boxes()
  assert.match(running, /^\[x\] Test the start: it runs with this configuration$/m)
  assert.match(running, /^\[x\] Update all clients/m)
  assert.match(running, /^\[x\] The score is 85 or more: it is \d+ \([AB]\)/m)
  await hardshell(t, ['config', 'set', 'security.maxRequestSize', '5MB'], env)
  assert.match(await boxes(), /^\[ \] Test the start: what runs has the configuration from before/m)
})
