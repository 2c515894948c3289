import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import type { Failure } from '../../src/errors.ts'
import {
  isSessionSecret,
  SessionBook,
  sessionOperations,
  type SessionEvent,
} from '../../src/identity/sessions.ts'
import { openSqlite } from '../../src/store/sqlite.ts'
import type { Store } from '../../src/store/store.ts'

const hour = 3_600_000
const day = 24 * hour

async function setUp(changes: { store?: Store; sessionsMax?: number } = {}) {
  const clock = { ms: 1_800_000_000_000 }
  const now = () => clock.ms
  const store = changes.store ?? openSqlite(':memory:', { now })
  const events: SessionEvent[] = []
  const troubles: Failure[] = []
  const live = new Set<string>()
  const open = async (password = 'a') => {
    const book = await SessionBook.open({
      store,
      now,
      password,
      isLive: (identityId) => live.has(identityId),
      onTrouble: (failure) => troubles.push(failure),
      ...(changes.sessionsMax === undefined ? {} : { sessionsMax: changes.sessionsMax }),
    })
    book.onEvent((event) => events.push(event))
    return book
  }
  return { clock, store, events, troubles, live, open, book: await open() }
}

const kinds = (book: SessionBook, ...secrets: readonly string[]) =>
  secrets.map((secret) => book.lookUp(secret).kind)

test('a session is good at once and after a restart, and its secret is nowhere in the store', async () => {
  const { book, open, store } = await setUp()
  const { secret, identity, expiresAt } = await book.make('browser')
  assert.ok(isSessionSecret(secret))
  assert.deepEqual(book.lookUp(secret), { kind: 'valid', identity })
  assert.deepEqual(identity.scopes, ['operate'])
  assert.equal(expiresAt, 1_800_000_000_000 + 7 * day)
  assert.ok(book.isGood(identity.id))
  assert.deepEqual(kinds(await open(), secret), ['valid'])
  const stored = JSON.stringify(await store.list('session'))
  assert.ok(!stored.includes(secret) && !stored.includes(secret.slice(4)))
})

test('a secret that nobody was given proves nothing, and is no guess that anybody could make', async () => {
  const { book } = await setUp()
  const { secret } = await book.make('browser')
  for (const other of [`${secret}x`, secret.slice(0, -1), 'hss_', '']) {
    const proof = book.lookUp(other)
    assert.deepEqual([proof.kind, 'guess' in proof && proof.guess], ['wrong', false])
  }
})

test('a browser session ends after 12 idle hours and after 7 days at the latest', async () => {
  const { book, clock, events } = await setUp()
  const { secret, identity } = await book.make('browser')
  clock.ms += 12 * hour - 1
  assert.deepEqual(kinds(book, secret), ['valid'])
  clock.ms += 12 * hour
  assert.deepEqual(kinds(book, secret), ['wrong'])
  book.tick()
  assert.deepEqual(events.at(-1), { event: 'session.expired', identityId: identity.id })

  const busy = await book.make('browser')
  for (let half = 0; half < 20; half += 1) {
    assert.deepEqual(kinds(book, busy.secret), ['valid'], `half day ${half}`)
    clock.ms += 8 * hour
  }
  assert.deepEqual(kinds(book, busy.secret), ['valid'])
  clock.ms = busy.expiresAt - 1
  assert.deepEqual(kinds(book, busy.secret), ['valid'])
  clock.ms += 1
  assert.deepEqual(kinds(book, busy.secret), ['wrong'])
  assert.ok(!book.isGood(busy.identity.id))
})

test('the token of a program lives one hour, used or not', async () => {
  const { book, clock } = await setUp()
  const { secret, expiresAt } = await book.make('client')
  assert.equal(expiresAt, clock.ms + hour)
  clock.ms += hour - 1
  assert.deepEqual(kinds(book, secret), ['valid'])
  clock.ms += 1
  assert.deepEqual(kinds(book, secret), ['wrong'])
})

test('an open socket keeps its session from being idle, but not from growing old', async () => {
  const { book, clock, live } = await setUp()
  const { secret, identity, expiresAt } = await book.make('browser')
  live.add(identity.id)
  for (; clock.ms < expiresAt - hour; clock.ms += hour) book.tick()
  assert.deepEqual(kinds(book, secret), ['valid'])
  clock.ms = expiresAt
  book.tick()
  assert.deepEqual(kinds(book, secret), ['wrong'])
  assert.equal(book.size, 0)
})

test('what was used last is known after a restart', async () => {
  const { book, clock, open } = await setUp()
  const { secret } = await book.make('browser')
  clock.ms += 11 * hour
  assert.deepEqual(kinds(book, secret), ['valid'])
  await book.close()
  clock.ms += 11 * hour
  assert.deepEqual(kinds(await open(), secret), ['valid'])
})

test('ending a session is told once and leaves nothing of it behind', async () => {
  const { book, store, events } = await setUp()
  const { secret, identity } = await book.make('browser')
  const other = await book.make('client')
  book.lookUp(secret)
  await book.flush()
  assert.equal(await book.end(identity.id, 'logout'), true)
  assert.equal(await book.end(identity.id, 'logout'), false)
  assert.deepEqual(kinds(book, secret, other.secret), ['wrong', 'valid'])
  const named = (await store.list('session')).filter(({ key }) =>
    key.endsWith(identity.id.slice(8)),
  )
  assert.deepEqual(named, [])
  assert.deepEqual(
    events.map(({ event }) => event),
    ['session.created', 'session.created', 'session.logout'],
  )
})

test('ending all ends those of other processes too, and says how many', async () => {
  const { book, open, events } = await setUp()
  const beside = await open()
  const first = await book.make('browser')
  const second = await beside.make('client')
  events.length = 0
  const { 'auth.logoutAll': logoutAll } = sessionOperations(() => book.endAll())
  assert.deepEqual(await logoutAll(undefined), { ended: 2 })
  assert.deepEqual(kinds(book, first.secret, second.secret), ['wrong', 'wrong'])
  await beside.refresh()
  assert.deepEqual(kinds(beside, first.secret, second.secret), ['wrong', 'wrong'])
  assert.ok(events.every(({ event }) => event === 'session.revoked'))
})

test('sessions of another password open nothing, also when that password comes back', async () => {
  const { book, open } = await setUp()
  const { secret } = await book.make('browser')
  assert.deepEqual(kinds(await open('b'), secret), ['wrong'])
  assert.deepEqual(kinds(await open('a'), secret), ['wrong'])
})

test('beyond the bound the session that expires first makes room', async () => {
  const { book, clock, events } = await setUp({ sessionsMax: 3 })
  const browser = await book.make('browser')
  clock.ms += 1
  const client = await book.make('client')
  clock.ms += 1
  const next = await book.make('client')
  assert.equal(book.size, 3)
  const last = await book.make('client')
  assert.equal(book.size, 3)
  const secrets = [browser, client, next, last].map(({ secret }) => secret)
  assert.deepEqual(kinds(book, ...secrets), ['valid', 'wrong', 'valid', 'valid'])
  assert.ok(
    events.some(
      ({ event, identityId }) => event === 'session.replaced' && identityId === client.identity.id,
    ),
  )
})

test('while the store cannot be read nobody comes in, and afterwards everybody does', async () => {
  const inner = openSqlite(':memory:', { now: () => 1_800_000_000_000 })
  let broken = false
  const store: Store = {
    get: (key) => inner.get(key),
    put: (key, value, options) => inner.put(key, value, options),
    putAll: (writes) => inner.putAll(writes),
    compareAndSwap: (...all) => inner.compareAndSwap(...all),
    take: (key) => inner.take(key),
    remove: (key) => inner.remove(key),
    list: (prefix) => (broken ? Promise.reject(new Error('disk gone')) : inner.list(prefix)),
    watch: (changed) => inner.watch(changed),
    close: () => inner.close(),
  }
  const { book, troubles } = await setUp({ store })
  const { secret, identity } = await book.make('browser')
  broken = true
  await book.refresh()
  await book.refresh()
  assert.throws(() => book.lookUp(secret), /disk gone/)
  assert.equal(book.isGood(identity.id), false)
  assert.equal(troubles.length, 1)
  broken = false
  await book.refresh()
  assert.deepEqual(kinds(book, secret), ['valid'])
})

test('a record that is none is thrown away, and the others stay', async () => {
  const { book, store, open } = await setUp()
  const { secret } = await book.make('browser')
  await store.put('session/x', 'not JSON')
  await store.put('session/y', '{"id":"z"}')
  assert.deepEqual(kinds(await open(), secret), ['valid'])
  assert.equal((await store.list('session/')).length, 1)
})

test('a listener that fails does not keep the next from closing its sockets', async () => {
  const { book, events, troubles } = await setUp()
  const { identity } = await book.make('browser')
  const heard: string[] = []
  book.onEvent(() => {
    throw new Error('no')
  })
  const stop = book.onEvent(({ event }) => heard.push(event))
  await book.end(identity.id, 'logout')
  stop()
  assert.deepEqual(heard, ['session.logout'])
  assert.equal(events.length, 2)
  assert.equal(troubles.length, 1)
})

test('the file of the store never holds a secret, not even in its log', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'hs-'))
  const path = join(folder, 'state.db')
  const store = openSqlite(path, { now: () => 1_800_000_000_000 })
  try {
    const { book } = await setUp({ store })
    const { secret } = await book.make('browser')
    const bytes = [path, `${path}-wal`].map((file) => readFileSync(file, 'latin1')).join('')
    assert.ok(bytes.includes('session/'))
    assert.ok(!bytes.includes(secret.slice(4)))
  } finally {
    await store.close()
    rmSync(folder, { recursive: true, force: true })
  }
})
