import assert from 'node:assert/strict'
import { test } from 'node:test'
import { exampleText, examples } from '../../src/config/examples.ts'
import { jsonSchema } from '../../src/config/json-schema.ts'
import { configurationPage, errorsPage } from '../../src/config/pages.ts'
import { problemMeanings } from '../../src/config/problems.ts'
import { spellings } from '../../src/config/schema.ts'
import { isAvailable, rowsByPath } from '../../src/config/tree.ts'
import { refusals } from '../../src/errors.ts'
import { codesOf, load, nested } from '../support/config-load.ts'

const rows = [...rowsByPath]
const concrete = (path: string) => path.replaceAll('*', 'telegram')

test('every key says what it does in a sentence', () => {
  for (const [path, { doc }] of rows) assert.match(doc, /^[A-Z].{10,}\.$/, path)
})

test('every default is inside the bounds of its key', () => {
  for (const [path, { default: fallback, reader }] of rows) {
    if (fallback === undefined) continue
    const reading = reader.read(reader.write(fallback))
    assert.ok(reading.ok, path)
    assert.deepEqual(reader.write(reading.value), reader.write(fallback), path)
  }
})

test('every key whose capability comes later is refused as not available, whatever its value', () => {
  const later = rows.filter(([, row]) => !isAvailable(row))
  assert.ok(later.length > 0)
  for (const [path, { default: fallback, reader }] of later) {
    const key = concrete(path)
    const value = fallback === undefined ? 'x' : reader.write(fallback)
    assert.deepEqual(codesOf(nested(key, value)), [`${key} NOT_AVAILABLE`])
  }
})

test('values whose capability comes later are refused, and their neighbours load', () => {
  const refused: readonly (readonly [string, unknown])[] = [
    ['agent.protocol', 'openclaw'],
    ['agents.defaults.sandbox.mode', 'non-main'],
    ['agents.defaults.sandbox.mode', 'all'],
    ['agents.defaults.sandbox.driver', 'runc'],
    ['agents.defaults.sandbox.driver', 'bubblewrap'],
    ['egress.mode', 'allowlist'],
  ]
  for (const [path, value] of refused) {
    assert.deepEqual(codesOf(nested(path, value)), [`${path} NOT_AVAILABLE`], path)
  }
  const accepted: readonly (readonly [string, unknown])[] = [
    ['gateway.auth.mode', 'token'],
    ['gateway.dmPolicies.allowlist', ['user@example.com']],
    ['security.followSymlinks', false],
    ['security.followSymlinks', true],
    ['agent.protocol', 'http'],
    ['agents.defaults.sandbox.driver', 'docker'],
    ['egress.mode', 'deny'],
  ]
  for (const [path, value] of accepted) assert.doesNotThrow(() => load(nested(path, value)), path)
})

test('a capability becomes available by removing one field of its row', () => {
  for (const [path, row] of rows) {
    if (isAvailable(row)) continue
    const { since, ...rest } = row
    assert.ok(since !== undefined, path)
    assert.ok(isAvailable(rest), path)
  }
})

test('every secret key takes a file, and the schema for editors says so', () => {
  const secrets = rows.filter(([, row]) => row.secret === true && isAvailable(row))
  const paths = secrets.map(([path]) => path).filter((path) => !path.startsWith('channels.'))
  assert.deepEqual(paths, [
    'gateway.auth.token',
    'gateway.auth.passwordHash',
    'agent.env',
    'agent.token',
  ])
  const text = JSON.stringify(jsonSchema())
  assert.equal(text.split('"required":["file"]').length - 1, secrets.length)
})

test('the schema for editors knows every key and forbids all others', () => {
  const schema = jsonSchema()
  const at = (path: string) =>
    path.split('.').reduce<unknown>((node, name) => {
      const object = node as { properties: Record<string, unknown>; additionalProperties: unknown }
      return name === '*' ? object.additionalProperties : object.properties[name]
    }, schema) as Record<string, unknown>
  for (const [path, row] of rows) {
    assert.ok(String(at(path)['description']).startsWith(row.doc), path)
    assert.equal('not' in at(path), !isAvailable(row), path)
  }
  assert.equal(at('gateway')['additionalProperties'], false)
  assert.deepEqual(at('gateway.auth.mode')['anyOf'], [
    { type: 'string', enum: ['token', 'password', 'jwt'] },
    { type: 'string', pattern: '\\$\\{[A-Za-z_][A-Za-z0-9_]*\\}' },
  ])
})

test('another spelling always leads to a key that exists', () => {
  for (const [from, to] of Object.entries(spellings)) {
    assert.ok(rowsByPath.has(to), to)
    assert.ok(!rowsByPath.has(from), from)
  }
})

test('the pages name every key, refusal and problem', () => {
  const page = configurationPage()
  for (const [path] of rows) assert.ok(page.includes(`| \`${path}\` |`), path)
  const errors = errorsPage()
  for (const code of [...Object.keys(refusals), ...Object.keys(problemMeanings)]) {
    assert.ok(errors.includes(`| \`${code}\` |`), code)
  }
})

test('the minimal example file loads, and the team file lacks only what comes later', () => {
  const token = { MOLTBOT_TOKEN: 'kT7vQx2mZp9LwRf4Hs8NcYb3Ud6JgEa5' }
  const [minimal, team] = Object.values(examples).map(exampleText)
  assert.equal(load(minimal ?? '', token).config.security.maxRequestSize, 10 * 1024 ** 2)
  const codes = codesOf(team ?? '', { ...token, TEAM_EMAILS: 'a@example.com' })
  assert.ok(codes.length > 0)
  assert.deepEqual(
    codes.filter((code) => !code.endsWith(' NOT_AVAILABLE')),
    [],
  )
})
