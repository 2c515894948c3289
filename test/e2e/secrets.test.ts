/** `hardshell config set | diff` and `hardshell secrets …` as a person runs them: processes, files, exit codes. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  existsSync,
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
import { parseJson5 } from '../../src/config/json5.ts'
import { goodToken } from '../support/config-load.ts'
import { filesBelow } from '../support/search.ts'
import { plant } from '../support/secrets.ts'

const entry = new URL('../../src/main.ts', import.meta.url).pathname
const secret = plant('agent token', 'the secret', 'planted-Secret-7f3a91-of-the-agent')
const passphrase = plant('passphrase', 'the passphrase', 'correct horse battery staple')

interface Home {
  readonly home: string
  readonly file: string
  run(args: string, input?: string, env?: Record<string, string>): Outcome
  text(): string
}

interface Outcome {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

function withHome(config: string, use: (home: Home) => void): void {
  const home = mkdtempSync(join(tmpdir(), 'hardshell-secrets-'))
  const file = join(home, 'config.json5')
  writeFileSync(file, config, { mode: 0o600 })
  try {
    use({
      home,
      file,
      text: () => readFileSync(file, 'utf8'),
      run: (args, input = '', env = {}) => {
        const { status, stdout, stderr } = spawnSync(
          process.execPath,
          [entry, ...args.split(' ')],
          {
            env: { HARDSHELL_HOME: home, HARDSHELL_TOKEN: goodToken, ...env },
            encoding: 'utf8',
            input,
            timeout: 60_000,
          },
        )
        return { code: status, out: stdout, err: stderr }
      },
    })
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
}

const keyFile = (home: string) => join(home, 'keys', 'secrets.key')
/** The files of a home in which the secret can be read. */
const showing = (home: string) =>
  filesBelow(home).filter((file) => readFileSync(file, 'latin1').includes(secret))
const backups = (home: string) => readdirSync(home).filter((name) => name.includes('.backup-'))

const commented = `// My agent
{
  gateway: { port: 8080 }, // the usual
  agent: {
    upstream: "http://127.0.0.1:18789", /* here */
  },
}
`

test('a secret is read from standard input, sealed, and loads; the rest of the file is untouched', () => {
  withHome(commented, ({ home, file, run, text }) => {
    const { code, out, err } = run('config set agent.token', `${secret}\n`)
    assert.equal(code, 0, err)
    assert.equal(statSync(keyFile(home)).mode & 0o777, 0o600)
    assert.match(err, /made the key/)
    const sealed = /\n    token: \{ encrypted: "([\w.-]+)" \},/.exec(text())
    assert.ok(sealed !== null, text())
    assert.equal(text().replace(sealed[0], ''), commented)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.deepEqual(backups(home), ['config.json5.backup-0001'])
    const copy = join(home, 'config.json5.backup-0001')
    assert.equal(readFileSync(copy, 'utf8'), commented)
    assert.equal(statSync(copy).mode & 0o777, 0o600)
    assert.ok(![out, err, text()].some((said) => said.includes(secret)))
    const shown = run('config show --json')
    assert.equal(shown.code, 0, shown.err)
    assert.ok(!shown.out.includes(secret))
    assert.match(shown.out, /"path": "agent\.token",\s+"from": "sealed"/)
    // The value is the one that was given: the gateway refuses it as its own token.
    const same = run('config check --json', '', { HARDSHELL_TOKEN: secret })
    assert.match(same.out, /TOKEN_IS_AGENTS/)
  })
})

test('a secret as an argument is bad usage and nothing is written', () => {
  withHome(commented, ({ home, run, text }) => {
    const { code, err } = run(`config set agent.token ${secret}`)
    assert.equal(code, 2)
    assert.match(err, /agent\.token is secret/)
    assert.ok(!err.includes(secret))
    assert.equal(text(), commented)
    assert.deepEqual(backups(home), [])
  })
})

test('a value that is not secret may be an argument, and only its bytes change', () => {
  withHome(commented, ({ run, text }) => {
    assert.equal(run('config set gateway.port 9090').code, 0)
    assert.equal(text(), commented.replace('8080', '9090'))
    assert.equal(run('config set security.maxRequestSize 5MB').code, 0)
    assert.equal(run('config get security.maxRequestSize').out, '5MB\n')
    assert.equal(run('config set gateway.publicOrigins ["https://bot.example.org"]').code, 0)
    const diff = run('config diff')
    assert.equal(diff.code, 0, diff.err)
    assert.match(diff.out, /^gateway\.port: 8080 → 9090$/m)
    assert.match(diff.out, /^gateway\.auth\.token: not set → "\*\*\*"$/m)
    assert.doesNotMatch(diff.out, /agent\.upstream/)
  })
})

test('a name with dots in it is spelled as the problems spell it', () => {
  withHome('{ channels: { telegram: { accounts: { "my.bot": {} } } } }', ({ run, text }) => {
    const key = 'channels.telegram.accounts["my.bot"].dm.policy'
    const { code, err } = run(`config set ${key} allowlist`)
    assert.equal(code, 0, err)
    assert.deepEqual(parseJson5(text()).value, {
      channels: { telegram: { accounts: { 'my.bot': { dm: { policy: 'allowlist' } } } } },
    })
    assert.equal(run(`config get ${key}`).out, 'allowlist\n')
    for (const wrong of ['channels["', 'channels["\\q"].dm.policy', 'channels.telegram["x"]']) {
      assert.equal(run(`config set ${wrong} allowlist`).code, 2, wrong)
    }
  })
})

test('diff against another file tells changed secrets apart and shows none', () => {
  withHome(commented, ({ home, run }) => {
    const other = join(home, 'other.json5')
    writeFileSync(other, `{ agent: { token: "${secret}" }, gateway: { port: 1 } }`, { mode: 0o600 })
    assert.equal(run('config set agent.token', 'another-secret').code, 0)
    const { code, out, err } = run(`config diff ${other}`)
    assert.equal(code, 0, err)
    assert.equal(out, 'agent.token: "***" → "***"\ngateway.port: 1 → 8080\n')
    assert.equal(run('config set agent.token', secret).code, 0)
    assert.equal(run(`config diff ${other} --json`).out.includes('agent.token'), false)
  })
})

test('a write that would break the configuration is refused whole, with the remedy', () => {
  withHome(commented, ({ home, run, text }) => {
    const cases: readonly [string, string, RegExp][] = [
      ['gateway.port 99999', '', /gateway\.port .*65535.* Nothing was changed/],
      ['gateway.bind 0.0.0.0', '', /would listen on every network/],
      ['gateway.prot 1', '', /did you mean gateway\.port\?/],
      ['agent.token', goodToken, /same as the agent's own token/],
      ['gateway.auth.token', 'short', /fewer than 32/],
    ]
    for (const [args, input, said] of cases) {
      const { code, err } = run(`config set ${args}`, input)
      assert.notEqual(code, 0, args)
      assert.match(err, said)
      assert.equal(err.trim().split('\n').length, 1, err)
      assert.equal(text(), commented)
    }
    assert.deepEqual(backups(home), [])
    assert.equal(existsSync(keyFile(home)), false)
  })
})

test('a file with problems can be mended one by one', () => {
  withHome('{ gateway: { port: 0.5, bind: "0.0.0.0" } }', ({ run, text }) => {
    const first = run('config set gateway.port 8080')
    assert.equal(first.code, 0, first.err)
    assert.match(first.err, /still wrong: gateway\.bind/)
    assert.equal(run('config set gateway.bind 127.0.0.1').code, 0)
    assert.equal(text(), '{ gateway: { port: 8080, bind: "127.0.0.1" } }')
    assert.equal(run('config check').code, 0)
  })
})

test('plain secrets are reported until the first write seals them', () => {
  const before = `{ agent: { token: "${secret}" /* mine */ } }`
  withHome(before, ({ home, run, text }) => {
    assert.match(run('config check').out, /WARNING agent\.token is a secret in plain text/)
    const { code, err } = run('config set gateway.port 9090')
    assert.equal(code, 0, err)
    assert.match(err, /sealed too, as it was plain text: agent\.token/)
    assert.ok(!text().includes(secret))
    assert.match(text(), /token: \{ encrypted: "[\w.-]+" \} \/\* mine \*\//)
    const checked = run('config check')
    assert.equal(checked.code, 0, checked.err)
    assert.doesNotMatch(checked.out, /plain text/)
    // The copy from before shows the secret no more than the file does, and is still all there.
    assert.deepEqual(showing(home), [])
    const copy = join(home, 'config.json5.backup-0001')
    assert.equal(statSync(copy).mode & 0o777, 0o600)
    const back = run(`security rollback ${copy}`)
    assert.equal(back.code, 0, back.err)
    assert.match(back.out, /^restored .*; what stood there is in .*backup-0002\nit shows secrets/)
    assert.equal(text(), before)
    assert.match(run(`security rollback ${copy}`).out, /says so already; nothing was changed/)
    assert.equal(run('secrets init --seal').code, 0)
    assert.deepEqual(showing(home), [])
  })
})

test('copies that show secrets are found by the audit, and sealed by init, --fix and doctor --fix', () => {
  for (const mend of ['secrets init', 'security audit --fix', 'doctor --fix']) {
    withHome('{ agent: { upstream: "http://127.0.0.1:9" } }', ({ home, run }) => {
      const copy = join(home, 'config.json5.backup-0001')
      const plain = `// old\n{ agent: { token: "${secret}" } }`
      writeFileSync(copy, plain, { mode: 0o600 })
      assert.match(run('security audit').out, /backup-0001 shows secrets in plain text/)
      assert.deepEqual(showing(home), [copy])
      const mended = run(mend)
      assert.match(`${mended.out}${mended.err}`, /seal.* .*backup-0001/)
      assert.deepEqual(showing(home), [], mend)
      assert.doesNotMatch(run('security audit').out, /backup-0001/)
      assert.equal(run('secrets rotate-key').code, 0)
      assert.equal(run(`security rollback ${copy}`).code, 0)
      assert.equal(readFileSync(join(home, 'config.json5'), 'utf8'), plain)
    })
  }
})

test('a lost key comes back from its backup, and then sealed copies open too', () => {
  withHome(`{ agent: { token: "${secret}" } }`, ({ home, run, text }) => {
    const before = text()
    assert.equal(run('config set gateway.port 9090').code, 0)
    const kept = join(home, 'keys.backup')
    assert.equal(run(`secrets backup ${kept}`, passphrase).code, 0)
    rmSync(keyFile(home))
    const copy = join(home, 'config.json5.backup-0001')
    const closed = run(`security rollback ${copy}`)
    assert.equal(closed.code, 1)
    assert.equal(closed.err.trim().split('\n').length, 1)
    assert.match(closed.err, /cannot be opened: it was sealed with key .* does not exist/)
    assert.equal(run(`secrets restore ${kept}`, passphrase).code, 0)
    assert.equal(run(`security rollback ${copy}`).code, 0)
    assert.equal(text(), before)
  })
})

test('what comes from a variable or a file is not sealed over unless asked', () => {
  const before = '{ agent: { token: "${AGENT_TOKEN}" } }'
  withHome(before, ({ run, text }) => {
    const env = { AGENT_TOKEN: 'agent-one' }
    const refused = run('config set agent.token', secret, env)
    assert.equal(refused.code, 1)
    assert.match(refused.err, /agent\.token comes from \$\{AGENT_TOKEN\}: .*--replace/)
    assert.equal(text(), before)
    assert.equal(
      run('config set agent.token --replace', '${OTHER}', { ...env, OTHER: 'x' }).code,
      0,
    )
    assert.equal(text(), '{ agent: { token: "${OTHER}" } }')
    assert.equal(run('config set agent.token --replace', secret, { OTHER: 'x' }).code, 0)
    assert.match(text(), /encrypted/)
  })
})

test('a read-only file stays as it is, with one line', () => {
  withHome(commented, ({ home, file, run, text }) => {
    chmodSync(file, 0o400)
    const { code, err } = run('config set gateway.port 9090')
    assert.equal(code, 1)
    assert.match(err, /config\.json5 is read-only, so it stays as it is/)
    assert.equal(err.trim().split('\n').length, 1)
    assert.equal(text(), commented)
    assert.deepEqual(backups(home), [])
  })
})

test('copies of the file are numbered and bounded', () => {
  withHome(commented, ({ home, run }) => {
    for (let number = 1; number <= 12; number += 1) {
      writeFileSync(join(home, `config.json5.backup-${String(number).padStart(4, '0')}`), 'old')
    }
    assert.equal(run('config set gateway.port 9090').code, 0)
    const names = backups(home).toSorted()
    assert.equal(names.length, 10)
    assert.equal(names[0], 'config.json5.backup-0004')
    assert.equal(names.at(-1), 'config.json5.backup-0013')
  })
})

test('without its key, or with another, a sealed file is one line and nothing is overwritten', () => {
  withHome(commented, ({ home, file, run, text }) => {
    assert.equal(run('config set agent.token', secret).code, 0)
    assert.equal(run('config set agent.env.API_KEY', 'x').code, 1, 'agent.env needs agent.image')
    const sealed = text()
    const key = readFileSync(keyFile(home), 'utf8')
    rmSync(keyFile(home))
    for (const args of ['config check', 'config set gateway.port 1', 'secrets init', 'serve']) {
      const { code, err } = run(args)
      assert.equal(code, 1, args)
      assert.equal(err.trim().split('\n').length, 1, err)
      assert.ok(
        err.includes(file) && err.includes(keyFile(home)) && err.includes('agent.token'),
        err,
      )
      assert.equal(text(), sealed)
      assert.equal(existsSync(keyFile(home)), false)
    }
    writeFileSync(keyFile(home), `${'A'.repeat(43)}\n`, { mode: 0o600 })
    const wrong = run('config check')
    assert.equal(wrong.code, 1)
    assert.match(
      wrong.err,
      /agent\.token cannot be opened: it was sealed with key [0-9a-f]{16}, but/,
    )
    assert.equal(readFileSync(keyFile(home), 'utf8'), `${'A'.repeat(43)}\n`)
    rmSync(keyFile(home))
    const byVariable = run('config check', '', { HARDSHELL_SECRETS_KEY: key.trim() })
    assert.equal(byVariable.code, 0, byVariable.err)
  })
})

test('init makes a key once, and --seal seals what is plain', () => {
  withHome(`{ agent: { token: "${secret}" } }`, ({ home, run, text }) => {
    assert.equal(run('secrets init').code, 0)
    const key = readFileSync(keyFile(home), 'utf8')
    assert.ok(text().includes(secret))
    const again = run('secrets init --seal')
    assert.equal(again.code, 0, again.err)
    assert.match(again.out, /there is a key already.*\nsealed agent\.token/)
    assert.ok(!text().includes(secret))
    assert.equal(readFileSync(keyFile(home), 'utf8'), key)
  })
})

test('rotation gives everything a new key, and the configuration still loads', () => {
  withHome(commented, ({ home, run, text }) => {
    assert.equal(run('secrets rotate-key').code, 1)
    assert.equal(run('config set agent.token', secret).code, 0)
    const [before, key] = [text(), readFileSync(keyFile(home), 'utf8')]
    const { code, out, err } = run('secrets rotate-key')
    assert.equal(code, 0, err)
    assert.match(out, /1 sealed values were sealed anew/)
    assert.notEqual(readFileSync(keyFile(home), 'utf8'), key)
    assert.notEqual(text(), before)
    assert.equal(run('config check').code, 0)
    assert.match(run('config check --json', '', { HARDSHELL_TOKEN: secret }).out, /TOKEN_IS_AGENTS/)
    const elsewhere = run('secrets rotate-key', '', { HARDSHELL_SECRETS_KEY: key.trim() })
    assert.match(elsewhere.err, /the key comes from HARDSHELL_SECRETS_KEY/)
  })
})

test('a backup restores a lost key, never over another one, and only for its passphrase', () => {
  withHome(commented, ({ home, run }) => {
    assert.equal(run('config set agent.token', secret).code, 0)
    const file = join(home, 'key.backup')
    assert.match(run(`secrets backup ${file}`, 'too short').err, /the passphrase has 9 characters/)
    assert.equal(existsSync(file), false)
    const made = run(`secrets backup ${file}`, passphrase)
    assert.equal(made.code, 0, made.err)
    assert.equal(statSync(file).mode & 0o777, 0o600)
    const key = readFileSync(keyFile(home), 'utf8')
    assert.ok(!readFileSync(file, 'utf8').includes(key.trim()))
    assert.equal(run(`secrets backup ${file}`, passphrase).code, 1)
    rmSync(keyFile(home))
    const wrong = run(`secrets restore ${file}`, `${passphrase}!`)
    assert.equal(wrong.code, 1)
    assert.match(wrong.err, /passphrase is wrong/)
    assert.equal(existsSync(keyFile(home)), false)
    const { code, err } = run(`secrets restore ${file}`, passphrase)
    assert.equal(code, 0, err)
    assert.equal(readFileSync(keyFile(home), 'utf8'), key)
    assert.equal(run('config check').code, 0)
    writeFileSync(keyFile(home), `${'A'.repeat(43)}\n`, { mode: 0o600 })
    assert.match(run(`secrets restore ${file}`, passphrase).err, /holds another key/)
    assert.equal(readFileSync(keyFile(home), 'utf8'), `${'A'.repeat(43)}\n`)
  })
})
