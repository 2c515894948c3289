/** `hardshell config …` as a person runs it: a process, files, exit codes. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { goodToken } from '../support/config-load.ts'
import { plant } from '../support/secrets.ts'

const entry = new URL('../../src/main.ts', import.meta.url).pathname

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs the command line in a home of its own that holds `config`. */
function withHome(
  config: string | undefined,
  use: (run: (args: string, env?: Record<string, string>) => Outcome, home: string) => void,
): void {
  const home = mkdtempSync(join(tmpdir(), 'hardshell-cli-'))
  try {
    if (config !== undefined) writeFileSync(join(home, 'config.json5'), config, { mode: 0o600 })
    use((args, env = {}) => {
      const { status, stdout, stderr } = spawnSync(process.execPath, [entry, ...args.split(' ')], {
        env: { HARDSHELL_HOME: home, HARDSHELL_TOKEN: goodToken, ...env },
        encoding: 'utf8',
        timeout: 60_000,
      })
      return { code: status, out: stdout, err: stderr }
    }, home)
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

const json = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>

test('a good configuration is called good, with its notices', () => {
  withHome('{ gateway: { controlUi: { allowInsecureAuth: true } } }', (run, home) => {
    const { code, out, err } = run('config check')
    assert.equal(code, 0, err)
    assert.ok(out.startsWith(`${join(home, 'config.json5')}: good`))
    assert.match(out, /^CRITICAL gateway\.controlUi\.allowInsecureAuth/m)
    const told = json(run('config check --json').out)
    assert.equal(told['ok'], true)
    assert.match(String(told['hash']), /^[0-9a-f]{64}$/)
  })
})

test('a bad configuration exits with 1 and tells every problem, as text and as JSON', () => {
  withHome('{ gateway: { prot: 1, bind: "0.0.0.0" }, state: { redis: "x" } }', (run) => {
    const { code, err } = run('config check')
    assert.equal(code, 1)
    assert.match(err, /3 problems/)
    assert.match(err, /gateway\.prot is not a known key\. Did you mean gateway\.port\?/)
    const told = json(run('config check --json').out)
    const problems = told['problems'] as readonly { code: string; path: string }[]
    assert.deepEqual(
      problems.map(({ path, code: each }) => `${path} ${each}`),
      ['gateway.bind BIND_ALL', 'gateway.prot UNKNOWN_KEY', 'state.redis NOT_AVAILABLE'],
    )
  })
})

test('a wrong file mode is one line with the command that mends it, and check changes nothing', () => {
  withHome('{}', (run, home) => {
    const file = join(home, 'config.json5')
    chmodSync(file, 0o644)
    const { code, err } = run('config check')
    assert.equal(code, 1)
    assert.equal(err.trim().split('\n').length, 1)
    assert.ok(err.includes(`chmod 600 ${file}`))
    assert.equal(statSync(file).mode & 0o777, 0o644)
  })
})

test('a configuration that is a link is refused', () => {
  withHome('{}', (run, home) => {
    symlinkSync(join(home, 'config.json5'), join(home, 'link.json5'))
    const { code, err } = run(`config check --config ${join(home, 'link.json5')}`)
    assert.equal(code, 1)
    assert.match(err, /is a symbolic link/)
  })
})

test('show prints what is in force and no secret', () => {
  const agentSecret = plant('agent token', 'agentSecret', 'agent-secret-that-stays-hidden')
  withHome(`{ agent: { token: '${agentSecret}' } }`, (run) => {
    for (const args of ['config show', 'config show --json', 'config get agent']) {
      const { code, out, err } = run(args)
      assert.equal(code, 0, err)
      assert.ok(!out.includes(goodToken) && !out.includes(agentSecret), args)
      assert.ok(out.includes('***'), args)
    }
    const shown = json(run('config show --json').out)
    assert.deepEqual(shown['secretSources'], [
      { path: 'agent.token', from: 'config' },
      { path: 'gateway.auth.token', from: 'environment', name: 'HARDSHELL_TOKEN' },
    ])
  })
})

test('show --pipeline prints the gates in their order', () => {
  withHome(undefined, (run) => {
    const { out } = run('config show --pipeline --json')
    const { gates } = json(out) as { gates: readonly string[] }
    assert.deepEqual(gates.slice(0, 3), ['lockdown', 'shape', 'path'])
    assert.match(run('config show --pipeline').out, /^1\. lockdown\n2\. shape\n/)
  })
})

test('get prints one value, and says whether a key is unset, unknown or of a later version', () => {
  withHome('{ security: { maxRequestSize: "5MB" } }', (run) => {
    assert.equal(run('config get security.maxRequestSize').out, '5MB\n')
    assert.deepEqual(json(run('config get gateway.port --json').out), {
      key: 'gateway.port',
      value: 8080,
    })
    assert.equal(run('config get agent.image').code, 1)
    const unknown = run('config get gateway.prot')
    assert.equal(unknown.code, 2)
    assert.match(unknown.err, /did you mean gateway\.port\?/)
    const later = run('config get state.redis')
    assert.equal(later.code, 1)
    assert.match(later.err, /not available in this version/)
  })
})

test('schema prints a JSON Schema', () => {
  withHome(undefined, (run) => {
    const schema = json(run('config schema').out)
    assert.equal(schema['$schema'], 'https://json-schema.org/draft/2020-12/schema')
  })
})

test('the generated pages and example files are in step with the tables', () => {
  withHome(undefined, (run) => {
    const { code, err } = run('config docs --check')
    assert.equal(code, 0, err)
  })
})

test('a file that was named and does not exist is one line', () => {
  withHome(undefined, (run) => {
    const { code, err } = run('config check', { HARDSHELL_CONFIG: '/nonexistent/config.json5' })
    assert.equal(code, 1)
    assert.match(err, /^\/nonexistent\/config\.json5: does not exist\. Name another/)
  })
})
