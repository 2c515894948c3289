/** What the tokens promise on every store: who comes in, and what ends that. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { Failure } from '../../src/errors.ts'
import { readRecord } from '../../src/identity/token-record.ts'
import type { TokenEvent } from '../../src/identity/token-table.ts'
import { TokenBook, type NewToken, type TokenBookDeps } from '../../src/identity/tokens.ts'
import type { Store } from '../../src/store/store.ts'

/** Opens an empty store that goes by a clock. Who opens it closes it, after the suite. */
export type OpenStore = (now: () => number) => Store | Promise<Store>

export const day = 86_400_000
export const plain: NewToken = { scopes: ['operate'], paths: [], networks: [] }
export const configured = 'a configured token: its text does not matter here'

/** A book over an empty store, and everything that it tells. */
export async function setUpTokens(
  openStore: OpenStore,
  changes: Partial<TokenBookDeps> & { readonly wrap?: (store: Store) => Store } = {},
) {
  const clock = { ms: 1_800_000_000_000 }
  const now = () => clock.ms
  const real = await openStore(now)
  const { wrap = (same: Store) => same, ...deps } = changes
  const store = wrap(real)
  const troubles: Failure[] = []
  const events: TokenEvent[] = []
  const open = async (more: Partial<TokenBookDeps> = {}) => {
    const onTrouble = (failure: Failure) => void troubles.push(failure)
    const book = await TokenBook.open({ store, now, onTrouble, ...deps, ...more })
    book.onEvent((event) => events.push(event))
    return book
  }
  return { clock, store, real, troubles, events, open, book: await open() }
}

/** The name behind a token, or why nobody is. */
export const who = (book: TokenBook, value: string): string => {
  const proof = book.lookUp(value)
  return proof.kind === 'valid' ? proof.identity.name : proof.kind
}

/** Runs the suite on a kind of store. */
export function tokenContract(kind: string, openStore: OpenStore): void {
  const name = (title: string) => `${kind}: ${title}`
  const setUp = (changes: Parameters<typeof setUpTokens>[1] = {}) => setUpTokens(openStore, changes)

  void test(
    name('a new token is good at once, also after a restart, and its text is nowhere in the store'),
    async () => {
      const { book, open, store } = await setUp()
      const { token, view } = await book.create({
        ...plain,
        name: 'phone',
        paths: ['/api'],
        networks: ['10.0.0.0/8'],
      })
      assert.equal(who(book, token), 'phone')
      assert.equal(who(await open(), token), 'phone')
      assert.deepEqual(book.lookUp(token), {
        kind: 'valid',
        identity: {
          id: `token:${view.id}`,
          name: 'phone',
          scopes: ['operate'],
          paths: ['/api'],
          networks: ['10.0.0.0/8'],
        },
      })
      const secret = token.slice(-49)
      const everything = JSON.stringify([await store.list(''), book.list()])
      assert.ok(!everything.includes(secret))
      assert.ok(!everything.includes(secret.slice(0, 12)))
    },
  )

  void test(name('the fingerprint is what sha256sum shows first'), async () => {
    const { book } = await setUp()
    const { token, view } = await book.create(plain)
    assert.equal(view.fingerprint, createHash('sha256').update(token).digest('hex').slice(0, 8))
    assert.equal(book.list()[0]?.fingerprint, view.fingerprint)
  })

  void test(name('a token that differs by one character is unknown'), async () => {
    const { book } = await setUp()
    const { token } = await book.create(plain)
    for (const wrong of [
      token.slice(0, -1),
      `${token}0`,
      token.toLowerCase(),
      token.toUpperCase(),
      '',
    ]) {
      assert.equal(who(book, wrong), 'wrong')
    }
  })

  void test(
    name('a token is good until the millisecond in which it expires, and its end is told once'),
    async () => {
      const { book, clock, events } = await setUp()
      const { token, view } = await book.create({ ...plain, expiresAt: clock.ms + day })
      clock.ms += day - 1
      book.tick()
      assert.equal(who(book, token), view.name)
      assert.equal(book.isGood(`token:${view.id}`), true)
      assert.deepEqual(events, [])
      clock.ms += 1
      assert.equal(who(book, token), 'wrong')
      assert.equal(book.isGood(`token:${view.id}`), false)
      book.tick()
      book.tick()
      assert.deepEqual(
        events.map(({ event }) => event),
        ['token.expired'],
      )
      assert.equal(book.list()[0]?.status, 'expired')
    },
  )

  void test(
    name('a revoked token is refused at once and for good, and its sockets are told to end'),
    async () => {
      const { book, open, events } = await setUp()
      const { token, view } = await book.create({ ...plain, name: 'phone' })
      const ended: string[] = []
      const stop = book.onRevoked((identityId, end) => ended.push(`${identityId} ${end}`))
      const revoked = await book.revoke('phone')
      assert.equal(revoked.status, 'revoked')
      assert.equal(who(book, token), 'wrong')
      assert.deepEqual(ended, [`token:${view.id} revoked`])
      const again = await book.revoke(view.id)
      assert.equal(again.revokedAt, revoked.revokedAt)
      assert.equal(events.length, 1)
      assert.equal(who(await open(), token), 'wrong')
      stop()
    },
  )

  void test(
    name('a token is revoked by id or by name, and an unknown one is an answer with a remedy'),
    async () => {
      const { book } = await setUp()
      const { token, view } = await book.create(plain)
      await assert.rejects(book.revoke('nobody'), { code: 'TOKEN_UNKNOWN' })
      await book.revoke(view.id)
      assert.equal(who(book, token), 'wrong')
    },
  )

  void test(name('a name belongs to one good token at a time'), async () => {
    const { book } = await setUp()
    const first = await book.create({ ...plain, name: 'phone' })
    await assert.rejects(book.create({ ...plain, name: 'phone' }), { code: 'TOKEN_NAME_TAKEN' })
    await assert.rejects(book.create({ ...plain, name: 'default' }), { code: 'TOKEN_NAME_TAKEN' })
    await book.revoke('phone')
    const second = await book.create({ ...plain, name: 'phone' })
    await book.revoke('phone')
    assert.equal(who(book, first.token), 'wrong')
    assert.equal(who(book, second.token), 'wrong')
  })

  void test(name('two tokens made at once under one name leave one of them'), async () => {
    const { book } = await setUp()
    const made = await Promise.allSettled([
      book.create({ ...plain, name: 'phone' }),
      book.create({ ...plain, name: 'phone' }),
    ])
    assert.deepEqual(made.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
  })

  void test(
    name('the configured token is named default, may operate, and is as old as its first day'),
    async () => {
      const { book, clock, open, events } = await setUp()
      const view = await book.configure(configured)
      assert.deepEqual([view?.name, view?.status, view?.createdAt], ['default', 'good', clock.ms])
      assert.deepEqual(book.lookUp(configured), {
        kind: 'valid',
        identity: {
          id: `token:${view?.id}`,
          name: 'default',
          scopes: ['operate'],
          paths: [],
          networks: [],
        },
      })
      assert.deepEqual(
        events.map(({ event }) => event),
        ['token.first-seen'],
      )
      clock.ms += 30 * day
      const later = await open()
      assert.equal((await later.configure(configured))?.createdAt, view?.createdAt)
      assert.equal(events.length, 1)
    },
  )

  void test(
    name('a configured token that was seen earlier elsewhere is that old, and never younger'),
    async () => {
      const { book, clock } = await setUp()
      const earlier = clock.ms - 20 * day
      assert.equal((await book.configure(configured, { firstSeenAt: earlier }))?.createdAt, earlier)
      assert.equal((await book.configure(configured))?.createdAt, earlier)
      const future = { firstSeenAt: clock.ms + day }
      assert.equal((await book.configure(`${configured}2`, future))?.createdAt, clock.ms)
    },
  )

  void test(
    name('a changed configured token replaces the old one, whose age is kept for its return'),
    async () => {
      const { book, clock, events } = await setUp()
      const first = await book.configure(configured)
      clock.ms += day
      const second = await book.configure('another configured token')
      assert.equal(who(book, configured), 'wrong')
      assert.equal(who(book, 'another configured token'), 'default')
      assert.equal(book.isGood(`token:${first?.id}`), false)
      assert.deepEqual(
        events.map(({ event, identityId }) => `${event} ${identityId}`),
        [
          `token.first-seen token:${first?.id}`,
          `token.first-seen token:${second?.id}`,
          `token.replaced token:${first?.id}`,
        ],
      )
      clock.ms += day
      assert.equal((await book.configure(configured))?.createdAt, first?.createdAt)
      assert.equal(who(book, configured), 'default')
      assert.equal(who(book, 'another configured token'), 'wrong')
    },
  )

  void test(name('a configured token that left the configuration is refused'), async () => {
    const { book, open } = await setUp()
    await book.configure(configured)
    assert.equal(await book.configure(undefined), undefined)
    assert.equal(who(book, configured), 'wrong')
    assert.equal(who(await open(), configured), 'wrong')
  })

  void test(
    name('a configured token that is only in the store is not good for a process that has another'),
    async () => {
      const { book, open } = await setUp()
      await book.configure(configured)
      assert.equal(who(await open(), configured), 'wrong')
    },
  )

  void test(
    name('a revoked configured token stays refused when the server starts with it again'),
    async () => {
      const { book, open, troubles } = await setUp()
      await book.configure(configured)
      await book.revoke('default')
      assert.equal(who(book, configured), 'wrong')
      const later = await open()
      assert.equal((await later.configure(configured))?.status, 'revoked')
      assert.equal(who(later, configured), 'wrong')
      assert.deepEqual(
        troubles.map(({ code }) => code),
        ['TOKEN_REVOKED'],
      )
    },
  )

  void test(
    name(
      'two who rotate one name at once: one gets the successor, the other is told who was first',
    ),
    async () => {
      const { book, clock } = await setUp()
      const { view } = await book.create({ ...plain, name: 'phone' })
      const began = clock.ms
      clock.ms += 100
      const first = await book.rotate('phone', began)
      await assert.rejects(book.rotate('phone', began + 50), ({ code, message }: Failure) => {
        return code === 'TOKEN_ROTATED' && message.includes(first.view.id)
      })
      assert.equal(book.list().length, 2)
      // Whoever begins afterwards means the new one, and by its id it can be meant at any time.
      const second = await book.rotate('phone', clock.ms)
      clock.ms += 100
      const third = await book.rotate(second.view.id, began)
      assert.deepEqual(
        [first, second, third].map(({ previous }) => previous.id),
        [view.id, first.view.id, second.view.id],
      )
    },
  )

  void test(
    name('of several ended tokens of one name the newest is meant, whatever their ids'),
    async () => {
      for (const order of [
        [200, 100],
        [100, 200],
      ]) {
        const bytes = order.flatMap((byte) => [byte, byte])
        const random = (count: number) => new Uint8Array(count).fill(bytes.shift() ?? 0)
        const { book, clock } = await setUp({ random })
        await book.create({ ...plain, name: 'phone' })
        clock.ms += day
        const { view } = await book.rotate('phone')
        await book.revoke('phone')
        await assert.rejects(book.rotate('phone'), ({ code, message }: Failure) => {
          return code === 'TOKEN_ENDED' && message.includes(view.id)
        })
        assert.equal((await book.revoke('phone')).id, view.id)
      }
    },
  )

  void test(
    name('what another process revoked, made or removed counts after the next reading'),
    async () => {
      const { book, open, store, events } = await setUp()
      const one = await book.create({ ...plain, name: 'one' })
      const two = await book.create({ ...plain, name: 'two' })
      const other = await open()
      await other.revoke('one')
      const three = await other.create({ ...plain, name: 'three' })
      await store.remove(`token/${two.view.id}`)
      events.length = 0
      await book.refresh()
      assert.equal(who(book, one.token), 'wrong')
      assert.equal(who(book, two.token), 'wrong')
      assert.equal(who(book, three.token), 'three')
      assert.deepEqual(events.map(({ event, name }) => `${event} ${name}`).sort(), [
        'token.revoked one',
        'token.revoked two',
      ])
    },
  )

  void test(
    name('a revocation that another process made is never undone by a write of this one'),
    async () => {
      const { book, open } = await setUp()
      await book.configure(configured)
      const other = await open()
      await Promise.all([other.revoke('default'), book.configure('another configured token')])
      assert.equal((await book.configure(configured))?.status, 'revoked')
      assert.equal(who(book, configured), 'wrong')
    },
  )

  void test(name('the last use is written down lazily, and shown at once'), async () => {
    const { book, clock, open, store } = await setUp()
    const { token } = await book.create({ ...plain, name: 'phone' })
    assert.equal(book.list()[0]?.lastUsedAt, undefined)
    clock.ms += 1000
    book.lookUp(token)
    assert.equal(book.list()[0]?.lastUsedAt, clock.ms)
    assert.deepEqual(await store.list('token-used/'), [])
    await book.flush()
    const [written] = await store.list('token-used/')
    assert.equal(written?.value, String(clock.ms))
    await book.flush()
    assert.equal((await store.list('token-used/'))[0]?.version, written?.version, 'nothing new')
    assert.equal((await open()).list()[0]?.lastUsedAt, clock.ms)
    clock.ms += 1000
    book.lookUp(token)
    await book.close()
    assert.equal((await open()).list()[0]?.lastUsedAt, clock.ms, 'closing writes it down')
  })

  void test(
    name('the first beat after a minute writes last uses down, and the beats before do not'),
    async () => {
      const { book, clock, store } = await setUp()
      const { token } = await book.create(plain)
      book.start()
      book.lookUp(token)
      clock.ms += 59_999
      book.tick()
      await book.refresh()
      assert.equal((await store.list('token-used/')).length, 0)
      clock.ms += 1
      book.tick()
      await book.refresh()
      assert.equal((await store.list('token-used/')).length, 1)
      await book.close()
    },
  )

  void test(
    name('while the store cannot be read nobody comes in, and everybody does again afterwards'),
    async () => {
      const broken = { now: false }
      const wrap = (real: Store): Store => ({
        get: (key) => real.get(key),
        put: (key, value, options) => real.put(key, value, options),
        putAll: (writes) => real.putAll(writes),
        compareAndSwap: (key, version, value) => real.compareAndSwap(key, version, value),
        take: (key) => real.take(key),
        remove: (key) => real.remove(key),
        list: (prefix) => (broken.now ? Promise.reject(new Error('disk gone')) : real.list(prefix)),
        watch: (changed) => real.watch(changed),
        close: () => real.close(),
      })
      const { book, troubles } = await setUp({ wrap })
      const { token, view } = await book.create(plain)
      broken.now = true
      await book.refresh()
      await book.refresh()
      assert.throws(() => book.lookUp(token), { code: 'TOKENS_FAILED' })
      assert.equal(book.isGood(`token:${view.id}`), false)
      assert.equal(troubles.length, 1, 'told once')
      broken.now = false
      book.tick()
      await book.refresh()
      assert.equal(who(book, token), view.name)
    },
  )

  void test(
    name('a stored row that makes no sense is ignored and reported, and the others stay good'),
    async () => {
      const { book, store, troubles } = await setUp()
      const { token, view } = await book.create(plain)
      const good = (await store.get(`token/${view.id}`))?.value ?? ''
      await store.put('token/broken', '{')
      await store.put('token/other', good)
      await store.put(
        'token/scope',
        good.replace('operate', 'everything').replace(view.id, 'scope'),
      )
      await book.refresh()
      assert.equal(who(book, token), view.name)
      assert.deepEqual(
        troubles.map(({ code }) => code),
        Array(3).fill('TOKEN_UNREADABLE'),
      )
      assert.equal(typeof readRecord(good.replace(/"createdAt":\d+/, '"createdAt":"x"')), 'string')
    },
  )

  void test(name('at the bound an ended token makes room, and good ones never do'), async () => {
    const { book, clock } = await setUp({ tokensMax: 3 })
    await book.configure(configured)
    const one = await book.create({ ...plain, name: 'one' })
    await book.create({ ...plain, name: 'two' })
    await assert.rejects(book.create({ ...plain, name: 'three' }), { code: 'TOKENS_FULL' })
    await book.revoke('default')
    await assert.rejects(book.create({ ...plain, name: 'three' }), { code: 'TOKENS_FULL' })
    clock.ms += 1000
    await book.revoke('one')
    await book.create({ ...plain, name: 'three' })
    assert.deepEqual(
      book
        .list()
        .map(({ name }) => name)
        .sort(),
      ['default', 'three', 'two'],
    )
    assert.equal(who(book, one.token), 'wrong')
  })

  void test(
    name('a listener that fails does not keep others from closing their sockets'),
    async () => {
      const { book, troubles } = await setUp()
      await book.create({ ...plain, name: 'phone' })
      let closed = 0
      book.onRevoked(() => {
        throw new Error('a socket did not end')
      })
      book.onRevoked(() => {
        closed += 1
      })
      await book.revoke('phone')
      assert.equal(closed, 1)
      assert.equal(troubles.length, 1)
    },
  )
}
