/** The configuration fragments of the two documents that the project started from, letter for letter. */
import assert from 'node:assert/strict'
import { readFileSync, readdirSync } from 'node:fs'
import { test } from 'node:test'
import { codesOf, goodToken, load } from '../support/config-load.ts'

const folder = new URL('../fixtures/seeds/', import.meta.url)
const fragment = (name: string) => readFileSync(new URL(`${name}.json`, folder), 'utf8')
const team = { TEAM_EMAILS: 'a@example.com,b@example.com', MONITORING_URL: 'https://m.example' }
const env = { MOLTBOT_TOKEN: goodToken, ...team }

test('the minimal template loads as it is printed', () => {
  const { config, notices, secretSources } = load(fragment('template-minimal'), env)
  assert.equal(config.gateway.bind, '127.0.0.1')
  assert.equal(config.gateway.port, 8080)
  assert.equal(config.gateway.auth.token, goodToken)
  assert.deepEqual(config.gateway.dmPolicies, { enabled: true, allowlist: [], denyByDefault: true })
  assert.equal(config.security.maxRequestSize, 10 * 1024 ** 2)
  assert.equal(config.security.rateLimiting.requestsPerMinute, 60)
  assert.equal(config.security.followSymlinks, false)
  assert.equal(config.plugins.trustLevel, 'verified-only')
  assert.deepEqual(
    notices.map(({ level }) => level),
    ['INFO', 'INFO'],
  )
  assert.deepEqual(secretSources, [
    { path: 'gateway.auth.token', from: 'variable', name: 'MOLTBOT_TOKEN' },
  ])
})

test('the minimal template without its variable says which one is missing', () => {
  assert.deepEqual(codesOf(fragment('template-minimal'), {}), ['gateway.auth.token VARIABLE_UNSET'])
})

test('fragments whose capabilities exist load as they are printed', () => {
  for (const name of [
    'follow-symlinks',
    'bind-local',
    'bind-lan',
    'template-minimal',
    'sandbox-off',
    'control-ui',
    'dm-policies',
    'group-policies',
    'policy-after',
  ]) {
    assert.doesNotThrow(() => load(fragment(name), env), name)
  }
})

test('the printed example tokens are refused by name', () => {
  assert.deepEqual(codesOf(fragment('token'), {}), ['gateway.auth.token TOKEN_EXAMPLE'])
  assert.deepEqual(codesOf(fragment('token-migrated'), {}), ['gateway.auth.token TOKEN_EXAMPLE'])
  const variable = { CLAWDBOT_GATEWAY_TOKEN: 'your-32-character-token-here-abcdefgh' }
  assert.deepEqual(codesOf('{}', variable), ['gateway.auth.token TOKEN_EXAMPLE'])
})

test('the elided password hash is refused as what it is', () => {
  assert.deepEqual(codesOf(fragment('password'), {}), ['gateway.auth.passwordHash PASSWORD_HASH'])
})

test('fragments of later capabilities are refused as not available, and for nothing else', () => {
  const expected = {
    'template-team': ['monitoring.enabled', 'monitoring.endpoint'],
  }
  for (const [name, paths] of Object.entries(expected)) {
    assert.deepEqual(
      codesOf(fragment(name), env),
      paths.map((path) => `${path} NOT_AVAILABLE`),
      name,
    )
  }
})

test('a list of plugins without a folder loads, with a notice that it has no effect', () => {
  const { config, notices } = load(fragment('plugins'), env)
  assert.ok(config.plugins.enabled.length > 0 && config.plugins.disabled.length > 0)
  assert.ok(notices.some(({ code }) => code === 'PLUGINS_UNUSED'))
})

test('the "before" of the migration is refused with the migration', () => {
  const codes = codesOf(fragment('policy-before'), env)
  assert.ok(codes.includes('channels.telegram.dm.policy POLICY_OPEN'))
  assert.ok(codes.includes('channels.telegram.dm.allowFrom[0] WILDCARD'))
  assert.ok(codes.every((code) => /POLICY_OPEN|WILDCARD|NOT_AVAILABLE/.test(code)))
})

test('no fragment has a key that nobody knows', () => {
  const names = readdirSync(folder)
  assert.equal(names.length, 15)
  for (const name of names) {
    let codes: readonly string[] = []
    try {
      load(fragment(name.replace('.json', '')), env)
    } catch {
      codes = codesOf(fragment(name.replace('.json', '')), env)
    }
    assert.ok(!codes.some((code) => code.endsWith('UNKNOWN_KEY')), name)
  }
})
