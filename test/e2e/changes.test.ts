/** What an operator changes on the command line is in the audit log: before it is made, and what came of it. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { recordChange } from '../../src/admin/ledger.ts'
import { openAudit } from '../../src/audit/log.ts'
import { KiB } from '../../src/limits.ts'
import { cli } from '../support/cli.ts'
import { recordsOf, sidecarFor, startSidecar } from '../support/sidecar.ts'

const password = 'planted-secret-8731-of-the-agent'

const uid = `uid ${process.getuid?.() ?? 0}`

/** A home as `init` makes it. */
async function freshHome(t: TestContext): Promise<string> {
  const home = mkdtempSync(join(tmpdir(), 'hardshell-changes-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const { code, err } = await cli(home, ['init', '--image', 'bot:1'])
  assert.equal(code, 0, err)
  assert.deepEqual(changesIn(home), [
    `change.begun init: ${home}`,
    'change.made init: a configuration, a token and a key',
  ])
  return home
}

/** The changes that the log has from a place on, each as `event because [code]`. */
const changesIn = (home: string, from = 0) =>
  recordsOf(home)
    .slice(from)
    .filter(({ event }) => String(event).startsWith('change.'))
    .map(({ event, because, code, identity }) => {
      assert.equal(identity, uid)
      const what = String(because).replace(/; config before [0-9a-f]{16}$/, '')
      return `${String(event)} ${what}${typeof code === 'string' ? ` [${code}]` : ''}`
    })

/** The events that are no change of their own, from a place on. */
const eventsIn = (home: string, from = 0) =>
  recordsOf(home)
    .slice(from)
    .map(({ event }) => String(event))
    .filter((event) => !event.startsWith('change.'))

async function verified(home: string): Promise<void> {
  const { code, out, err } = await cli(home, ['audit', 'verify', '--json'])
  assert.equal(code, 0, `${out}${err}`)
  const { checkpoints } = JSON.parse(out) as { checkpoints: { unsigned: number } }
  assert.equal(checkpoints.unsigned, 0, 'the newest records are signed too')
}

test('each command that changes the configuration, keys or files leaves its two records', async (t) => {
  const home = await freshHome(t)
  const seen = async (...argv: readonly string[]) => {
    const from = recordsOf(home).length
    await cli(home, argv, password)
    return changesIn(home, from)
  }
  assert.deepEqual(await seen('config', 'set', 'gateway.port', '8123'), [
    'change.begun config set: gateway.port',
    'change.made config set: gateway.port',
  ])
  assert.deepEqual(await seen('config', 'set', 'gateway.port', '8123'), [
    'change.begun config set: gateway.port',
    'change.made config set: nothing had to change',
  ])
  assert.deepEqual(await seen('config', 'set', 'agent.env.API_KEY'), [
    'change.begun config set: agent.env.API_KEY',
    'change.made config set: agent.env.API_KEY',
  ])
  assert.deepEqual(await seen('config', 'set', 'gateway.port', '1000000'), [
    'change.begun config set: gateway.port',
    'change.failed config set: gateway.port [BOUNDS]',
  ])
  const rotated = await seen('secrets', 'rotate-key')
  assert.equal(rotated[0], 'change.begun secrets rotate-key')
  assert.match(
    rotated[1] ?? '',
    /^change\.made secrets rotate-key: key [0-9a-f]{16} gave way to [0-9a-f]{16}; sealed anew agent\.env\.API_KEY$/,
  )
  const copy = join(home, 'keys.backup')
  assert.match(
    (await seen('secrets', 'backup', copy)).join('\n'),
    /\nchange\.made secrets backup: key /,
  )
  assert.match(
    (await seen('secrets', 'restore', copy)).join('\n'),
    /\nchange\.made secrets restore: /,
  )
  assert.deepEqual(await seen('secrets', 'init', '--seal'), [
    'change.begun secrets init',
    'change.made secrets init: nothing had to change',
  ])
  assert.deepEqual(await seen('secrets', 'init'), [], 'a look at the key changes nothing')

  const other = join(home, 'other.json5')
  writeFileSync(
    other,
    '{ gateway: { port: 18789 }, channels: { telegram: { dmPolicy: "open" } } }',
    {
      mode: 0o600,
    },
  )
  assert.deepEqual(await seen('security', 'migrate', '--from', other, '--dry-run'), [])
  const migrated = await seen('security', 'migrate', '--from', other)
  assert.equal(migrated[0], `change.begun security migrate: ${other}`)
  assert.match(migrated[1] ?? '', /^change\.made security migrate: .*channels\.telegram/)
  assert.deepEqual(await seen('security', 'rollback'), [
    'change.begun security rollback',
    `change.made security rollback: ${join(home, 'config.json5')}`,
  ])

  chmodSync(join(home, 'config.json5'), 0o644)
  const step = `chmod 600 ${join(home, 'config.json5')} (now 644)`
  assert.deepEqual(await seen('security', 'audit', '--fix'), [
    `change.begun security audit --fix: ${step}`,
    `change.made security audit --fix: ${step}`,
  ])
  chmodSync(join(home, 'config.json5'), 0o644)
  assert.deepEqual(await seen('doctor', '--fix'), [
    `change.begun doctor --fix: ${step}`,
    `change.made doctor --fix: ${step}`,
  ])

  const plugins = join(home, 'my-plugins')
  mkdirSync(join(plugins, 'git'), { recursive: true, mode: 0o755 })
  writeFileSync(join(plugins, 'git', 'index.js'), '// git\n')
  await cli(home, ['config', 'set', 'plugins.dir', plugins])
  const trusted = await seen('plugins', 'trust', 'git')
  assert.equal(trusted[0], 'change.begun plugins trust: git')
  assert.match(trusted[1] ?? '', /^change\.made plugins trust: git, sha-256 [0-9a-f]{16}$/)
  await verified(home)
  for (const record of recordsOf(home)) assert.ok(!JSON.stringify(record).includes(password))
})

test('the records of a change name the configuration before and after it', async (t) => {
  const home = await freshHome(t)
  const hash = async () =>
    (JSON.parse((await cli(home, ['config', 'check', '--json'])).out) as { hash: string }).hash
  const before = await hash()
  await cli(home, ['config', 'set', 'gateway.port', '8124'])
  const [begun, made] = recordsOf(home).slice(-2)
  assert.equal(begun?.['config'], before)
  assert.equal(made?.['config'], await hash())
  assert.notEqual(made?.['config'], before)
  assert.ok(String(made?.['because']).endsWith(`; config before ${before.slice(0, 16)}`))
})

test('tokens and people that are changed while nothing runs are recorded as by the sidecar', async (t) => {
  const home = await freshHome(t)
  const seen = async (...argv: readonly string[]) => {
    const from = recordsOf(home).length
    const { err } = await cli(home, argv)
    return [changesIn(home, from), eventsIn(home, from), err]
  }
  const both = (operation: string) => [`change.begun ${operation}`, `change.made ${operation}`]
  const only = async (events: readonly string[], ...argv: readonly string[]) => {
    const [changes, found, err] = await seen(...argv)
    assert.deepEqual([changes, found], [both(argv.slice(0, 2).join(' ')), events], String(err))
  }
  await cli(home, ['config', 'set', 'channels.telegram.dmPolicy', 'pairing'])
  await only(['token.created'], 'token', 'new', '--name', 'phone')
  await only(['token.rotated'], 'token', 'rotate', 'phone')
  await only(['token.created'], 'token', 'new', '--name', 'old')
  await only(['token.revoked'], 'token', 'revoke', 'old')
  await only(['sender.added'], 'allowlist', 'add', 'telegram', '12345')
  await only(['sender.removed'], 'allowlist', 'remove', 'telegram', '12345')
  const failed = await seen('pairing', 'approve', 'telegram', 'ABCDEFGH')
  assert.deepEqual(failed[0], [
    'change.begun pairing approve',
    'change.failed pairing approve [PAIRING_UNKNOWN]',
  ])
  assert.ok(!JSON.stringify(recordsOf(home)).includes('ABCDEFGH'))
  const looks = [
    ['token', 'list'],
    ['allowlist', 'list'],
    ['pairing', 'list'],
    ['config', 'show'],
    ['security', 'audit'],
  ]
  for (const argv of looks) assert.deepEqual((await seen(...argv)).slice(0, 2), [[], []])
  await verified(home)
})

test('while a sidecar runs it takes the records into its own log', async (t) => {
  const side = await sidecarFor(t)
  const { home } = side
  const file = join(home, 'config.json')
  for (const argv of [
    ['config', 'set', 'security.maxRequestSize', '5MB'],
    ['token', 'new', '--name', 'phone'],
  ]) {
    const { code, err } = await cli(home, argv)
    assert.equal(code, 0, err)
  }
  assert.match(readFileSync(file, 'utf8'), /5MB/)
  const changes = changesIn(home)
  assert.deepEqual(changes.slice(0, 2), [
    'change.begun config set: security.maxRequestSize',
    changes[1],
  ])
  assert.match(changes[1] ?? '', /^change\.made config set: security\.maxRequestSize/)
  assert.deepEqual(changes.slice(2), ['change.begun token new', 'change.made token new'])
  const { code, out } = await cli(home, ['audit', 'verify'])
  assert.equal(code, 0, out)
})

test('many commands at once write one chain, and each of them its records', async (t) => {
  const home = await freshHome(t)
  const from = recordsOf(home).length
  const names = ['a', 'b', 'c', 'd', 'e', 'f']
  const ran = await Promise.all(
    names.flatMap((name, at) => [
      cli(home, ['token', 'new', '--name', name]),
      cli(home, ['config', 'set', 'gateway.port', String(9000 + at)]),
    ]),
  )
  for (const { code, err } of ran) assert.equal(code, 0, err)
  const count = (event: string) =>
    recordsOf(home)
      .slice(from)
      .filter((record) => record['event'] === event).length
  assert.deepEqual([count('change.begun'), count('change.made')], [12, 12])
  assert.equal(count('audit.chain-broken'), 0)
  await verified(home)
})

/** Another writer of the log of a home, for a while. */
const holding = (home: string) =>
  openAudit({
    dir: join(home, 'audit'),
    sync: 'batch',
    rotateBytes: KiB(64),
    keepFiles: 10,
    now: () => Date.now(),
  })

test('a command waits for whoever writes the log, and so does a sidecar that starts', async (t) => {
  const home = await freshHome(t)
  const first = holding(home)
  const waiting = cli(home, ['config', 'set', 'gateway.port', '8125'])
  setTimeout(() => void first.close(), 700)
  const { code, err } = await waiting
  assert.equal(code, 0, err)
  await verified(home)

  const other = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(other, { recursive: true, force: true }))
  const second = holding(other)
  setTimeout(() => void second.close(), 300)
  const side = await startSidecar({ home: other })
  await side.stop()
})

test('a sidecar that ends in the middle of a change leaves the second record to the command', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const side = await startSidecar({ home })
  const env = { HARDSHELL_HOME: home }
  const value = await recordChange(
    env,
    { operation: 'config set', about: 'some.key' },
    async () => {
      await side.stop()
      return { value: 7, about: 'some.key' }
    },
  )
  assert.equal(value, 7)
  const events = recordsOf(home).map(({ event }) => event)
  assert.deepEqual(
    events.filter((event) => String(event).startsWith('change.') || event === 'sidecar.stopped'),
    ['change.begun', 'sidecar.stopped', 'change.made'],
  )
  await verified(home)
})

test('without room for its record a change is refused, and nothing is changed', async (t) => {
  const home = await freshHome(t)
  const audit = join(home, 'audit')
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8k,mode=0700', 'hardshell-test', audit])
  try {
    writeFileSync(join(audit, 'audit.lock'), '', { mode: 0o600 })
    writeFileSync(join(audit, 'audit-0000000000000001.jsonl'), '', { mode: 0o600 })
    writeFileSync(join(audit, 'ballast'), Buffer.alloc(8 * 1024), { mode: 0o600 })
    const before = readFileSync(join(home, 'config.json5'), 'utf8')
    for (const argv of [
      ['config', 'set', 'gateway.port', '8126'],
      ['token', 'new', '--name', 'phone'],
      ['secrets', 'rotate-key'],
    ]) {
      const { code, err, out } = await cli(home, argv)
      assert.equal(code, 1, argv.join(' '))
      assert.equal(out, '')
      assert.match(err, /cannot be written.*Nothing was changed\. \[AUDIT_UNWRITABLE\]/)
    }
    assert.equal(readFileSync(join(home, 'config.json5'), 'utf8'), before)
    const tokens = await cli(home, ['token', 'list', '--json'])
    assert.ok(!tokens.out.includes('phone'))
  } finally {
    execFileSync('umount', ['-l', audit])
  }
})

test('where the configuration wants no log, none is begun', async (t) => {
  const home = await freshHome(t)
  await cli(home, ['config', 'set', 'security.auditLogging', 'false'])
  const before = recordsOf(home).length
  assert.equal((await cli(home, ['config', 'set', 'gateway.port', '8127'])).code, 0)
  assert.equal((await cli(home, ['token', 'new'])).code, 0)
  assert.equal(recordsOf(home).length, before)
})

test('a note that is not of the right form is refused by the running sidecar', async (t) => {
  const { home, records } = await sidecarFor(t)
  const { overSocket } = await import('../../src/admin/client.ts')
  const env = { HARDSHELL_HOME: home }
  const good = { stage: 'begun', operation: 'config set', about: 'gateway.port' }
  for (const bad of [
    undefined,
    {},
    { ...good, stage: 'request.allowed' },
    { ...good, operation: 'Config\nset' },
    { ...good, about: 'x'.repeat(1025) },
    { ...good, code: 'lower' },
    { ...good, config: 'ab' },
    { ...good, event: 'audit.rotated' },
  ]) {
    await assert.rejects(overSocket(env, 'change.note', bad), { code: 'CHANGE_INPUT' })
  }
  await overSocket(env, 'change.note', good)
  assert.equal(records().filter(({ event }) => event === 'change.begun').length, 1)
})
