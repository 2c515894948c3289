/** Files of agents as people have them: of several parts, of older versions, with references in place of secrets. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { applyMigration, placesFor, planMigration } from '../../src/config/migration.ts'
import type { Done, Plan } from '../../src/config/migration.ts'
import { inFolder } from '../support/config-load.ts'

interface Agent {
  readonly home: string
  /** The folder of the agent's files. */
  readonly folder: string
  /** Loads what the migration wrote, with these variables. */
  load(more?: Readonly<Record<string, string>>): ReturnType<typeof loadConfig>['config']
  run(): Plan & Done
}

/** An agent whose folder has these files, objects as JSON; `agent.json` is the one that is migrated. */
function withAgent(files: Readonly<Record<string, unknown>>, use: (agent: Agent) => void): void {
  inFolder((root) => {
    const [home, folder] = [join(root, 'home'), join(root, 'agent')]
    for (const [name, content] of Object.entries(files)) {
      const path = join(folder, name)
      mkdirSync(dirname(path), { recursive: true })
      const text = typeof content === 'string' ? content : JSON.stringify(content)
      writeFileSync(path, text, { mode: 0o600 })
    }
    const env = { HARDSHELL_HOME: home, HOME: root }
    const run = () => {
      const places = placesFor(env, { from: join(folder, 'agent.json') })
      const plan = planMigration(places, env, randomBytes)
      mkdirSync(join(home, 'keys'), { recursive: true, mode: 0o700 })
      return { ...plan, ...applyMigration(plan, env, randomBytes) }
    }
    use({ home, folder, run, load: (more = {}) => loadConfig({ env: { ...env, ...more } }).config })
  })
}

const said = ({ migrated }: Plan) => migrated.changes.map(({ path, say }) => `${path} ${say}`)

test('what a file includes is read with it: objects merge, lists follow one another, the file itself wins', () => {
  const files = {
    'agent.json': `{
      $include: ["./parts/one.json5", "parts/two.json5"],
      gateway: { port: 18790 },
      channels: { telegram: { $include: "parts/telegram.json5", allowFrom: ["3"] } },
    }`,
    'parts/one.json5': '{ gateway: { port: 1, auth: { token: "planted-included-token-1" } }, }',
    'parts/two.json5':
      '// two\n{ $include: "deeper.json5", channels: { slack: { allowFrom: ["U012AB3CD"] } } }',
    'parts/deeper.json5': '{ commands: { ownerAllowFrom: ["telegram:7"] } }',
    'parts/telegram.json5': '{ allowFrom: ["1", 2], dmPolicy: "open" }',
  }
  withAgent(files, ({ run, load }) => {
    run()
    const { agent, channels, owners } = load()
    assert.equal(agent.upstream, 'http://127.0.0.1:18790')
    assert.equal(agent.token, 'planted-included-token-1')
    assert.deepEqual(channels['telegram']?.allowFrom, ['1', '2', '3'])
    assert.equal(channels['telegram'].dm.policy, 'pairing')
    assert.deepEqual(channels['slack']?.allowFrom, ['U012AB3CD'])
    assert.deepEqual(owners, ['telegram:7'])
    assert.equal(run().backup, undefined)
  })
})

test('an included file that is missing, broken, a link, of another user or in a circle stops everything', () => {
  const agent = { $include: 'part.json', gateway: { port: 18790 } }
  const stops = (part: string | undefined, spoil: (path: string) => void, expected: RegExp) =>
    withAgent(
      { 'agent.json': agent, ...(part === undefined ? {} : { 'part.json': part }) },
      (one) => {
        spoil(join(one.folder, 'part.json'))
        assert.throws(() => one.run(), expected)
        assert.equal(existsSync(join(one.home, 'config.json5')), false)
      },
    )
  const same = () => undefined
  stops(undefined, same, /part\.json does not exist: name another with \$include/)
  stops('{ gateway: ', same, /part\.json: .*is not JSON5/)
  stops(undefined, (path) => symlinkSync('/etc/hostname', path), /is a symbolic link/)
  stops('{}', (path) => chownSync(path, 4711, 4711), /belongs to user 4711/)
  stops('{}', (path) => chmodSync(path, 0o646), /can be written by everybody/)
  stops('{ $include: "agent.json" }', same, /agent\.json includes itself/)
  const deep = Object.fromEntries(
    Array.from({ length: 12 }, (_, index) => [`${index}.json`, { $include: `${index + 1}.json` }]),
  )
  withAgent({ ...deep, '12.json': {}, 'agent.json': { $include: '0.json' } }, ({ run }) => {
    assert.throws(() => run(), /one of too many included files/)
  })
  const wide = Array.from({ length: 101 }, () => 'part.json')
  withAgent({ 'agent.json': { $include: wide }, 'part.json': {} }, ({ run }) => {
    assert.throws(() => run(), /one of too many included files/)
  })
})

test('a file of an older agent keeps its channels, its people and its token', () => {
  const older = {
    identity: { name: 'bot' },
    routing: { allowFrom: ['+15551112222'] },
    telegram: { botToken: '222222:planted-older-bot-token-BBBBBBBBBBBBBBBB', allowFrom: [123] },
    discord: { dm: { policy: 'open', allowFrom: ['*'] } },
    gateway: { token: 'planted-older-token', bind: '0.0.0.0' },
  }
  withAgent({ 'agent.json': older }, ({ run, load }) => {
    const done = run()
    const { agent, channels, gateway } = load()
    assert.equal(agent.token, 'planted-older-token')
    assert.equal(gateway.bind, '127.0.0.1')
    assert.deepEqual(channels['telegram']?.allowFrom, ['123'])
    assert.equal(channels['telegram'].botToken, older.telegram.botToken)
    assert.deepEqual(channels['whatsapp']?.allowFrom, ['+15551112222'])
    assert.equal(channels['discord']?.dm.policy, 'pairing')
    assert.ok(said(done).includes('channels.telegram is what an older agent calls telegram'))
  })
})

test('references to secrets become ours, and what the file gives to a variable is sealed', () => {
  const botToken = '333333:planted-given-bot-token-CCCCCCCCCCCCCCCC'
  const file = {
    env: { vars: { WORK_BOT: botToken }, SHORT: '' },
    gateway: { auth: { token: { source: 'env', provider: 'default', id: 'AGENT_TOKEN' } } },
    channels: {
      telegram: {
        botToken: { source: 'env', provider: 'default', id: 'HOME_BOT' },
        accounts: { work: { botToken: '${WORK_BOT}' }, third: { tokenFile: '/run/secrets/third' } },
      },
      slack: { botToken: { source: 'exec', provider: 'vault', id: 'slack' } },
    },
  }
  withAgent({ 'agent.json': file }, ({ home, run }) => {
    const done = run()
    const text = readFileSync(join(home, 'config.json5'), 'utf8')
    assert.match(text, /token: "\$\{AGENT_TOKEN\}"/)
    assert.match(text, /botToken: "\$\{HOME_BOT\}"/)
    assert.match(text, /work: \{\s+botToken: \{ encrypted: /)
    assert.match(text, /third: \{\s+botToken: \{\s+file: "\/run\/secrets\/third"/)
    assert.doesNotMatch(text, /planted/)
    const told = said(done)
    const given = "is what the agent's file gives to WORK_BOT"
    assert.ok(told.includes(`channels.telegram.accounts.work.botToken ${given}`), told.join('\n'))
    assert.ok(told.some((line) => line.startsWith('channels.slack.botToken was left out')))
    assert.ok(told.every((line) => !line.includes('planted')))
  })
})

test('senders approved for an account join that account, and those without a place are told', () => {
  const store = (...allowFrom: readonly string[]) => ({ version: 1, allowFrom })
  const files = {
    'agent.json': { channels: { telegram: { accounts: { work: {} } } } },
    'credentials/telegram-allowFrom.json': store('1'),
    'credentials/telegram-default-allowFrom.json': store('2', '*'),
    'credentials/telegram-work-allowFrom.json': store('3'),
    'credentials/telegram-gone-allowFrom.json': store('4'),
    'credentials/whatsapp-allowFrom.json': store('+15550001111', '+15550002222'),
    'credentials/telegram-pairing.json': { version: 1, requests: [{ id: '5', code: 'ABCDEFGH' }] },
  }
  withAgent(files, ({ run, load }) => {
    const told = said(run())
    const { channels } = load()
    assert.deepEqual(channels['telegram']?.allowFrom, ['1', '2'])
    assert.deepEqual(channels['telegram'].accounts['work']?.allowFrom, ['3'])
    const left = told.filter((line) => line.includes('no such channel or account'))
    assert.deepEqual(
      left.map((line) => line.split(' ')[0]),
      ['telegram-gone-allowFrom.json', 'whatsapp-allowFrom.json'],
    )
  })
})

test('people of a room are listed by text, and a room that anybody speaks in is closed', () => {
  const groups = {
    '-1001': { allowFrom: [7, 'telegram:8'], topics: { '5': { allowFrom: [9] } } },
    '-1002': { allowFrom: ['*'] },
  }
  withAgent({ 'agent.json': { channels: { telegram: { groups } } } }, ({ run, load }) => {
    run()
    const rooms = load().channels['telegram']?.groups
    assert.deepEqual(rooms?.['-1001']?.allowFrom, ['7', 'telegram:8'])
    // Without a list of its own: those of the channel, who are nobody yet.
    assert.deepEqual(Object.keys(rooms), ['-1001', '-1002'])
    assert.equal(rooms['-1002']?.allowFrom, undefined)
  })
})

test('a store of approved senders that somebody else can write lets nobody in', () => {
  const files = {
    'agent.json': { channels: { telegram: {} } },
    'credentials/telegram-allowFrom.json': { version: 1, allowFrom: ['1'] },
  }
  withAgent(files, ({ home, folder, run }) => {
    chownSync(join(folder, 'credentials', 'telegram-allowFrom.json'), 4711, 4711)
    assert.throws(() => run(), /belongs to user 4711/)
    assert.equal(existsSync(join(home, 'config.json5')), false)
  })
})
