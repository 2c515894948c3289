import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { AuditEntry } from '../../src/audit/record.ts'
import { tokenOperations } from '../../src/identity/operations.ts'
import { TokenBook } from '../../src/identity/tokens.ts'
import { openSqlite } from '../../src/store/sqlite.ts'

const now = () => 1_800_000_000_000

async function setUp() {
  const tokens = await TokenBook.open({ store: openSqlite(':memory:', { now }), now })
  const audited: AuditEntry[] = []
  const audit = { append: (entry: AuditEntry) => void audited.push(entry), failing: undefined }
  const operations = tokenOperations({ tokens, now, audit })
  const call = async (name: string, input?: unknown) => {
    const operation = operations[name]
    assert.ok(operation !== undefined)
    return (await operation(input)) as Record<string, unknown>
  }
  return { tokens, call, audited }
}

test('a token made without wishes may operate, everywhere, until it is revoked', async () => {
  const { call, tokens, audited } = await setUp()
  const { token, view } = await call('token.new')
  assert.equal(tokens.lookUp(String(token)).kind, 'valid')
  const { id, name, fingerprint } = view as Record<string, string>
  assert.deepEqual(view, {
    id,
    name: `token-${id}`,
    kind: 'managed',
    fingerprint,
    status: 'good',
    scopes: ['operate'],
    paths: [],
    networks: [],
    createdAt: now(),
  })
  assert.equal(name, audited[0]?.identity)
  assert.ok(!JSON.stringify(audited).includes(String(token)))
})

test('wishes are kept, in one spelling', async () => {
  const { call } = await setUp()
  const { view } = await call('token.new', {
    name: 'phone@home',
    scopes: ['read', 'chat', 'read'],
    paths: ['/api', '/'],
    networks: ['10.1.2.3/8', '::1'],
    expiresInMs: 86_400_000,
  })
  const { scopes, paths, networks, expiresAt } = view as Record<string, unknown>
  assert.deepEqual(
    [scopes, paths, networks, expiresAt],
    [['read', 'chat'], ['/api', '/'], ['10.0.0.0/8', '::1/128'], now() + 86_400_000],
  )
})

test('every wrong wish is refused with the option to mend, and makes no token', async () => {
  const { call, tokens } = await setUp()
  const many = (of: string) => Array.from({ length: 33 }, () => of)
  for (const input of [
    'text',
    [],
    { unknown: 1 },
    { name: '' },
    { name: 'x'.repeat(65) },
    { name: 'a b' },
    { name: 'a\nb' },
    { name: 'hsk_x' },
    { name: 5 },
    { scopes: 'operate' },
    { scopes: ['root'] },
    { scopes: many('read') },
    { paths: ['api'] },
    { paths: ['/a/../b'] },
    { paths: ['/a//b'] },
    { paths: ['/a?b'] },
    { paths: ['/a%2Fb'] },
    { paths: ['/ä'] },
    { paths: [`/${'x'.repeat(1024)}`] },
    { paths: many('/a') },
    { networks: ['10.0.0.0/33'] },
    { networks: ['*'] },
    { networks: many('::1') },
    { expiresInMs: 59_999 },
    { expiresInMs: 3660 * 86_400_000 + 1 },
    { expiresInMs: 1.5 },
    { expiresInMs: '30d' },
  ]) {
    await assert.rejects(
      call('token.new', input),
      { code: 'TOKEN_INPUT', exitCode: 2 },
      JSON.stringify(input),
    )
  }
  assert.equal(tokens.list().length, 0)
})

test('the bounds themselves are allowed', async () => {
  const { call } = await setUp()
  for (const input of [
    { name: 'x'.repeat(64) },
    { expiresInMs: 60_000 },
    { expiresInMs: 3660 * 86_400_000 },
    { paths: [`/${'x'.repeat(1023)}`] },
    { networks: Array.from({ length: 32 }, (_, at) => `10.0.0.${at}`) },
  ]) {
    await call('token.new', input)
  }
})

test('a token in place of its id is refused without being repeated', async () => {
  const { call } = await setUp()
  const { token } = await call('token.new')
  await assert.rejects(call('token.revoke', { token }), (failure: Error) => {
    assert.ok(!failure.message.includes(String(token)))
    return true
  })
  for (const input of [undefined, {}, { token: '' }, { token: 5 }, { token: 'x'.repeat(129) }]) {
    await assert.rejects(call('token.revoke', input), { code: 'TOKEN_INPUT' })
  }
})

test('a list shows what was made and what was revoked', async () => {
  const { call } = await setUp()
  await call('token.new', { name: 'one' })
  await call('token.new', { name: 'two' })
  await call('token.revoke', { token: 'one' })
  const { tokens } = await call('token.list')
  assert.deepEqual(
    (tokens as { name: string; status: string }[]).map(({ name, status }) => `${name} ${status}`),
    ['one revoked', 'two good'],
  )
})

test('a rotation is done by id or name, and its answer is the only place of the new token', async () => {
  const { call, tokens, audited } = await setUp()
  const made = await call('token.new', { name: 'phone' })
  const { token, view, previous } = await call('token.rotate', { token: 'phone' })
  assert.equal(tokens.lookUp(String(token)).kind, 'valid')
  const { id } = previous as { id: string }
  assert.equal(id, (made['view'] as { id: string }).id)
  assert.equal((view as { name: string }).name, 'phone')
  assert.equal((await call('token.retire', { token: id }))['status'], 'retired')
  assert.ok(!JSON.stringify([audited, tokens.list()]).includes(String(token)))
  for (const name of ['token.rotate', 'token.retire']) {
    await assert.rejects(call(name, { token }), { code: 'TOKEN_INPUT', exitCode: 2 })
    await assert.rejects(call(name, { token: 'phone', now: true }), { code: 'TOKEN_INPUT' })
    await assert.rejects(call(name, {}), { code: 'TOKEN_INPUT' })
  }
})

test('a token is inspected by its hash, so that it never travels', async () => {
  const { call } = await setUp()
  const { token } = await call('token.new', { name: 'phone' })
  const digestOf = (text: string) => createHash('sha256').update(text).digest('base64')
  const known = await call('token.inspect', { digest: digestOf(String(token)) })
  assert.equal((known['view'] as { name: string }).name, 'phone')
  assert.equal(known['now'], now())
  const unknown = await call('token.inspect', { digest: digestOf('something else') })
  assert.deepEqual(unknown, { now: now() })
  for (const digest of [undefined, '', token, 'x'.repeat(44), `${'A'.repeat(43)}=x`, 5]) {
    await assert.rejects(call('token.inspect', { digest }), { code: 'TOKEN_INPUT' })
  }
})
