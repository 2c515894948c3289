/** Migration: what becomes of each careless setting, the same again changes nothing, and the way back. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { openCopy, plainCopies } from '../../src/config/copies.ts'
import { loadConfig } from '../../src/config/load.ts'
import {
  applyMigration,
  mendModes,
  placesFor,
  planMigration,
  rollBack,
} from '../../src/config/migration.ts'
import type { Done, Plan } from '../../src/config/migration.ts'
import { pathSteps } from '../../src/config/paths.ts'
import { findKeys } from '../../src/secrets/key.ts'
import { goodToken, inFolder } from '../support/config-load.ts'

const fixture = (name: string) =>
  readFileSync(new URL(`../fixtures/migrate/${name}`, import.meta.url), 'utf8')

interface Place {
  readonly home: string
  readonly file: string
  readonly env: Readonly<Record<string, string>>
  /** Runs a migration of this text, beside ours; undefined brings ours up to date. */
  run(source?: string): Plan & Done
  text(): string
}

function place(use: (place: Place) => void): void {
  inFolder((folder) => {
    const home = join(folder, 'home')
    const env = { HARDSHELL_HOME: home, HOME: folder }
    const file = join(home, 'config.json5')
    const run = (source?: string): Plan & Done => {
      const from = join(folder, 'agent.json')
      if (source !== undefined) writeFileSync(from, source, { mode: 0o644 })
      const places = placesFor(env, source === undefined ? {} : { from })
      mendModes(places)
      const plan = planMigration(places, env, randomBytes)
      return { ...plan, ...applyMigration(plan, env, randomBytes) }
    }
    use({ home, file, env, run, text: () => readFileSync(file, 'utf8') })
  })
}

function withOurs(text: string, use: (place: Place) => void): void {
  place((one) => {
    mkdirSync(one.home, { mode: 0o755 })
    writeFileSync(one.file, text, { mode: 0o644 })
    use(one)
  })
}

test("the agent's own file becomes a configuration that guards it", () => {
  place(({ home, env, run, text }) => {
    const { token } = run(fixture('openclaw.json5'))
    const { config, notices } = loadConfig({ env })
    assert.equal(config.gateway.bind, '127.0.0.1')
    assert.equal(config.gateway.port, 8080)
    assert.equal(config.gateway.auth.token, token)
    assert.equal(config.agent.upstream, 'http://127.0.0.1:18790')
    assert.equal(config.agent.token, 'planted-agent-token-0a1b')
    assert.deepEqual(config.owners, ['telegram:777'])
    assert.deepEqual(Object.keys(config.channels), ['telegram'])
    const telegram = config.channels['telegram']
    assert.equal(telegram?.dm.policy, 'pairing')
    assert.equal(telegram.groupPolicy, 'allowlist')
    assert.deepEqual(telegram.allowFrom, ['777', 'tg:778'])
    assert.deepEqual(Object.keys(telegram.groups), ['-1001234567890'])
    assert.doesNotMatch(text(), /planted/)
    assert.deepEqual(
      notices.filter(({ code, level }) => code === 'PLAIN_SECRET' || level === 'CRITICAL'),
      [],
    )
    for (const path of ['config.json5', 'keys/gateway.token', 'keys/secrets.key']) {
      assert.equal(statSync(join(home, path)).mode & 0o777, 0o600, path)
    }
    assert.equal(statSync(home).mode & 0o777, 0o700)
    assert.equal(statSync(join(home, '..', 'agent.json')).mode & 0o777, 0o600)
  })
})

test('an older file of ours is mended in place: comments stay, faults go', () => {
  withOurs(fixture('older.json5'), ({ env, run, text }) => {
    const { token, migrated } = run()
    const { config } = loadConfig({ env })
    assert.equal(config.gateway.bind, '127.0.0.1')
    assert.equal(config.gateway.auth.token, token)
    assert.equal(config.gateway.dmPolicies.denyByDefault, true)
    assert.deepEqual(config.gateway.dmPolicies.allowlist, [])
    assert.equal(config.channels['telegram']?.dm.policy, 'pairing')
    assert.equal(config.security.maxRequestSize, 5 * 1024 ** 2)
    for (const kept of ['// An older file', '// everywhere', '/* the agent */', '// the seed']) {
      assert.ok(text().includes(kept), kept)
    }
    assert.doesNotMatch(text(), /planted|unknownKey|controlUi|open/)
    assert.ok(migrated.changes.some(({ path }) => path === 'security.unknownKey'))
  })
})

test('a good token stays, and so does one that comes from a variable that is not set here', () => {
  withOurs(`{ gateway: { auth: { token: "${goodToken}" } } }`, ({ env, run, text }) => {
    assert.equal(run().token, undefined)
    assert.equal(loadConfig({ env }).config.gateway.auth.token, goodToken)
    assert.match(text(), /encrypted/)
  })
  const template = readFileSync(
    new URL('../fixtures/seeds/template-minimal.json', import.meta.url),
    'utf8',
  )
  withOurs(template, ({ run, text }) => {
    const { backup, token } = run()
    assert.equal(backup, undefined)
    assert.equal(token, undefined)
    assert.equal(text(), template)
  })
})

test("the seed's fragment from before becomes its fragment from after", () => {
  const seed = (name: string) =>
    readFileSync(new URL(`../fixtures/seeds/${name}.json`, import.meta.url), 'utf8')
  place(({ env, run }) => {
    run(seed('policy-before'))
    const { config } = loadConfig({ env })
    assert.equal(config.channels['telegram']?.dm.policy, 'pairing')
    assert.deepEqual(config.channels['telegram'].allowFrom, [])
  })
})

test('what our file says already wins, and people who were removed stay removed', () => {
  const ours = `{ gateway: { auth: { token: "${goodToken}" } }, agent: { upstream: "http://127.0.0.1:9" },
    channels: { telegram: { allowFrom: ["1"] } } }`
  withOurs(ours, ({ env, run }) => {
    run(fixture('openclaw.json5'))
    const { config } = loadConfig({ env })
    assert.equal(config.agent.upstream, 'http://127.0.0.1:9')
    assert.equal(config.gateway.auth.token, goodToken)
    assert.deepEqual(config.channels['telegram']?.allowFrom, ['1'])
    assert.equal(config.agent.token, 'planted-agent-token-0a1b')
  })
})

test('senders whom the agent had approved are taken over from its store', () => {
  place(({ home, env, run }) => {
    const credentials = join(home, '..', 'credentials')
    mkdirSync(credentials)
    const store = { version: 1, allowFrom: ['777', '900', '*'] }
    writeFileSync(join(credentials, 'telegram-allowFrom.json'), JSON.stringify(store))
    run(fixture('openclaw.json5'))
    const { config } = loadConfig({ env })
    assert.deepEqual(config.channels['telegram']?.allowFrom, ['777', 'tg:778', '900'])
  })
})

test('a bare migration looks where the agents keep their files, in that order', () => {
  inFolder((folder) => {
    const env = { HARDSHELL_HOME: join(folder, 'home'), HOME: folder }
    assert.throws(() => placesFor(env, {}), /\.moltbot\/moltbot\.json, .*name one with --from/)
    for (const place of [
      '.openclaw/openclaw.json',
      '.clawdbot/clawdbot.json',
      '.config/moltbot/config.json',
      '.moltbot/moltbot.json',
    ]) {
      const file = join(folder, place)
      mkdirSync(join(file, '..'), { recursive: true })
      writeFileSync(file, '{}')
      assert.equal(placesFor(env, {}).from, file)
    }
  })
})

test('a link, a lost key and a broken file stop a migration before anything changes', () => {
  place(({ home, env, run }) => {
    const link = join(home, '..', 'link.json')
    symlinkSync('/etc/hostname', link)
    const places = placesFor(env, { from: link })
    assert.throws(() => planMigration(places, env, randomBytes), /is a symbolic link/)
    assert.throws(() => run('{ gateway: '), /is not JSON5/)
    assert.equal(existsSync(join(home, 'config.json5')), false)
  })
  const sealed = '{ agent: { token: { encrypted: "eyJhbGciOiJkaXIifQ....x" } } }'
  withOurs(sealed, ({ home, run, text }) => {
    assert.throws(() => run(), /SEALED|not a sealed value|cannot be opened/)
    assert.equal(text(), sealed)
    assert.equal(existsSync(join(home, 'migrations')), false)
  })
})

test('rollback brings back every byte, or nothing where nothing was', () => {
  withOurs(fixture('older.json5'), ({ home, env, run, text }) => {
    run()
    const after = text()
    const { restored, kept } = rollBack(env, randomBytes)
    assert.equal(text(), fixture('older.json5'))
    assert.equal(existsSync(join(home, 'keys', 'gateway.token')), false)
    assert.equal(restored.length, 2)
    const undone = join(kept, 'undone-0')
    assert.doesNotMatch(readFileSync(undone, 'utf8'), /gateway/)
    assert.equal(openCopy(undone, findKeys(home, env)).toString('utf8'), after)
    assert.throws(() => rollBack(env, randomBytes), /no migration .* is left to undo/)
  })
  place(({ home, env, file, run }) => {
    run(fixture('openclaw.json5'))
    rollBack(env, randomBytes)
    assert.equal(existsSync(file), false)
    assert.deepEqual(readdirSync(join(home, 'keys')), ['secrets.key'])
  })
})

test('spelled paths read back as steps', () => {
  assert.deepEqual(pathSteps('channels.telegram.allowFrom[2]'), [
    'channels',
    'telegram',
    'allowFrom',
    2,
  ])
  assert.deepEqual(pathSteps('a.groups["x.y\\"z"].b'), ['a', 'groups', 'x.y"z', 'b'])
})

const entries = fc.array(
  fc.constantFrom('*', '777', 'tg:5', '@handle', 'telegram:12', 8, 'a@example.org', ''),
  { maxLength: 4 },
)
const policy = fc.constantFrom('open', 'pairing', 'allowlist', 'disabled', 'nonsense')
const maybe = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined, freq: 2 })
const channel = fc.record({
  botToken: maybe(fc.constantFrom('123456:planted-AAAAAAAAAAAAAAAAAAAAAAAAAAA', '${BOT}', 'x')),
  webhookPath: maybe(fc.constantFrom('/hook', 'hook')),
  dmPolicy: maybe(policy),
  dm: maybe(fc.record({ policy: maybe(policy), allowFrom: maybe(entries) })),
  allowFrom: maybe(entries),
  groupPolicy: maybe(policy),
  groups: maybe(fc.dictionary(fc.constantFrom('*', '-1001', 'room'), fc.constant({}))),
  unknown: maybe(fc.boolean()),
})
const careless = fc.record({
  gateway: maybe(
    fc.record({
      bind: maybe(fc.constantFrom('0.0.0.0', 'lan', 'loopback', '127.0.0.1', 'x')),
      port: maybe(fc.constantFrom(8080, 18_789, 0, -1)),
      auth: maybe(
        fc.record({
          mode: maybe(fc.constantFrom('token', 'password', 'none')),
          token: maybe(fc.constantFrom('short', goodToken, '${TOKEN}', 'your-token')),
          password: maybe(fc.constant('hunter2')),
          tokenFile: maybe(fc.constantFrom('keys/none', '/nonexistent')),
          passwordHash: maybe(fc.constant('$argon2id$v=19$m=65536,t=3,p=4$...')),
        }),
      ),
      dmPolicies: maybe(
        fc.record({ allowlist: maybe(entries), denyByDefault: maybe(fc.boolean()) }),
      ),
      controlUi: maybe(fc.constant({ allowInsecureAuth: true })),
    }),
  ),
  channels: maybe(fc.dictionary(fc.constantFrom('telegram', 'slack', 'nobody'), channel)),
  agent: maybe(
    fc.record({ token: maybe(fc.constantFrom('t', goodToken)), image: maybe(fc.constant('a:1')) }),
  ),
  security: maybe(fc.record({ maxRequestSize: maybe(fc.constantFrom('1MB', 5)) })),
})
const asText = (value: unknown) => JSON.stringify(value, undefined, 2)

test('whatever a file says, its migration loads, and the same again changes nothing', () => {
  fc.assert(
    fc.property(careless, maybe(careless), (source, ours) => {
      place(({ home, file, env, run, text }) => {
        if (ours !== undefined) {
          mkdirSync(home, { mode: 0o700 })
          writeFileSync(file, asText(ours), { mode: 0o600 })
        }
        run(asText(source))
        const given = { ...env, TOKEN: 'Zb8wKq3nTy6RvXe2Hd9McGf5Ls7JpUa4', BOT: '1:b' }
        const { config, notices } = loadConfig({ env: given })
        assert.notEqual(config.gateway.bind, '0.0.0.0')
        assert.ok(!notices.some(({ code }) => code === 'PLAIN_SECRET'))
        const after = text()
        const again = run(asText(source))
        assert.equal(text(), after)
        assert.equal(again.backup, undefined)
        assert.equal(again.token, undefined)
        assert.equal(run().backup, undefined)
        assert.equal(text(), after)
      })
    }),
    { numRuns: 60 },
  )
})

test('whatever a file says, a rollback restores it byte for byte', () => {
  fc.assert(
    fc.property(careless, (ours) => {
      withOurs(asText(ours), ({ home, file, env, run, text }) => {
        const { backup } = run()
        assert.deepEqual(plainCopies(home, file), [])
        if (backup === undefined) assert.throws(() => rollBack(env, randomBytes))
        else rollBack(env, randomBytes)
        assert.equal(text(), asText(ours))
      })
    }),
    { numRuns: 30 },
  )
})
