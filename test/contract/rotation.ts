/** What rotation promises on every store: overlap, one winner, no way back, and a token that works after any crash. */
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { Failure } from '../../src/errors.ts'
import type { Proof } from '../../src/identity/proof.ts'
import { rotationOf } from '../../src/identity/token-life.ts'
import { configured, day, plain, setUpTokens, who, type OpenStore } from './tokens.ts'

const hour = 3_600_000
/** 30 days and a day of grace, as by default. */
const rotation = rotationOf(30 * day)
const grace = rotation.graceMs

const sunset = (proof: Proof) => (proof.kind === 'valid' ? proof.headers : proof.kind)
const codes = (results: readonly PromiseSettledResult<unknown>[]) =>
  results.map((one) => (one.status === 'fulfilled' ? 'done' : (one.reason as Failure).code)).sort()

/** Runs the suite on a kind of store. */
export function rotationContract(kind: string, openStore: OpenStore): void {
  const name = (title: string) => `${kind}: ${title}`
  const setUp = (changes: Parameters<typeof setUpTokens>[1] = {}) =>
    setUpTokens(openStore, { rotation, ...changes })

  void test(
    name('old and new token are both good until the millisecond in which the grace ends'),
    async () => {
      const { book, clock, events, open } = await setUp()
      const old = await book.create({ ...plain, name: 'phone' })
      const { token, view, previous } = await book.rotate('phone')
      assert.notEqual(token, old.token)
      assert.deepEqual([previous.id, previous.endsAt], [old.view.id, clock.ms + grace])
      assert.deepEqual([previous.successorId, view.name], [view.id, 'phone'])
      clock.ms += grace - 1
      book.tick()
      assert.deepEqual([who(book, old.token), who(book, token)], ['phone', 'phone'])
      assert.deepEqual(
        events.map(({ event }) => event),
        ['token.rotated'],
      )
      clock.ms += 1
      assert.deepEqual([who(book, old.token), who(book, token)], ['wrong', 'phone'])
      assert.equal(book.isGood(`token:${old.view.id}`), false)
      book.tick()
      book.tick()
      assert.deepEqual(
        events.map(({ event, identityId }) => `${event} ${identityId}`),
        [`token.rotated token:${old.view.id}`, `token.retired token:${old.view.id}`],
      )
      const later = await open()
      assert.deepEqual([who(later, old.token), who(later, token)], ['wrong', 'phone'])
    },
  )

  void test(
    name('a token retired at once is refused at once, and its sockets are told to end'),
    async () => {
      const { book, open } = await setUp()
      const old = await book.create({ ...plain, name: 'phone' })
      const ended: string[] = []
      book.onRevoked((identityId, end) => ended.push(`${identityId} ${end}`))
      const { token } = await book.rotate('phone')
      const retired = await book.retire(old.view.id)
      assert.equal(retired.status, 'retired')
      assert.deepEqual(ended, [`token:${old.view.id} retired`])
      assert.deepEqual([who(book, old.token), who(book, token)], ['wrong', 'phone'])
      assert.equal((await book.retire(old.view.id)).endsAt, retired.endsAt, 'twice is once')
      assert.equal(who(await open(), old.token), 'wrong')
      await assert.rejects(book.retire('phone'), { code: 'TOKEN_NOT_ROTATED' })
      await assert.rejects(book.retire('nobody'), { code: 'TOKEN_UNKNOWN' })
    },
  )

  void test(
    name('a successor may do what its predecessor may, for no longer, and its text is nowhere'),
    async () => {
      const { book, clock, store } = await setUp()
      const rights = { scopes: ['read'], paths: ['/api'], networks: ['10.0.0.0/8'] } as const
      const expiresAt = clock.ms + 40 * day
      const old = await book.create({ ...rights, name: 'phone', expiresAt })
      const { token, view } = await book.rotate(old.view.id)
      const { scopes, paths, networks } = view
      assert.deepEqual(
        { scopes, paths, networks, expiresAt: view.expiresAt },
        { ...rights, expiresAt },
      )
      assert.equal(view.fingerprint, createHash('sha256').update(token).digest('hex').slice(0, 8))
      const secret = token.slice(-49)
      assert.ok(!JSON.stringify([await store.list(''), book.list()]).includes(secret))
    },
  )

  void test(name('two rotations at once in one process give one successor'), async () => {
    const { book, store } = await setUp()
    const { view } = await book.create({ ...plain, name: 'phone' })
    const made = await Promise.allSettled([book.rotate(view.id), book.rotate(view.id)])
    assert.deepEqual(codes(made), ['TOKEN_ROTATED', 'done'])
    assert.equal((await store.list('token/')).length, 2)
  })

  void test(
    name('rotations at once in many processes give one successor, and nothing of the others stays'),
    async () => {
      const { book, open, store } = await setUp()
      const { token, view } = await book.create({ ...plain, name: 'phone' })
      const books = await Promise.all(Array.from({ length: 5 }, () => open()))
      const made = await Promise.allSettled(books.map((each) => each.rotate(view.id)))
      assert.deepEqual(codes(made), [...Array<string>(4).fill('TOKEN_ROTATED'), 'done'])
      const won = made.flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []))[0]
      await book.refresh()
      assert.deepEqual([who(book, token), who(book, won?.token ?? '')], ['phone', 'phone'])
      assert.equal((await store.list('token/')).length, 2)
      assert.match(
        String((made.find(({ status }) => status === 'rejected') as PromiseRejectedResult).reason),
        new RegExp(won?.view.id ?? '-'),
      )
    },
  )

  void test(
    name('a rotation and a revocation at once never leave a good token that was not shown'),
    async () => {
      const { book, open } = await setUp()
      const { view } = await book.create({ ...plain, name: 'phone' })
      const other = await open()
      const [rotated] = await Promise.allSettled([book.rotate(view.id), other.revoke('phone')])
      await book.refresh()
      const good = book.list().filter(({ status }) => status === 'good')
      if (rotated.status === 'rejected') assert.deepEqual(good, [])
      else assert.ok(good.every(({ id }) => id === rotated.value.view.id))
      assert.equal(book.list().find(({ id }) => id === view.id)?.status, 'revoked')
    },
  )

  void test(name('a client fetches its successor from the day it is due, and once'), async () => {
    const { book, clock } = await setUp()
    const old = await book.create({ ...plain, name: 'phone' })
    const identityId = `token:${old.view.id}`
    clock.ms += 30 * day - 1
    await assert.rejects(book.renew(identityId), { code: 'TOKEN_NOT_DUE' })
    clock.ms += 1
    const { token, previous } = await book.renew(identityId)
    assert.equal(previous.endsAt, clock.ms + grace)
    assert.deepEqual([who(book, old.token), who(book, token)], ['phone', 'phone'])
    await assert.rejects(book.renew(identityId), { code: 'TOKEN_ROTATED' })
    clock.ms += grace
    assert.deepEqual([who(book, old.token), who(book, token)], ['wrong', 'phone'])
    await assert.rejects(book.renew(identityId), { code: 'TOKEN_ROTATED' })
  })

  void test(
    name('a token past its age and grace is good for fetching its successor and for nothing else'),
    async () => {
      const { book, clock, events } = await setUp()
      const old = await book.create({ ...plain, name: 'phone' })
      const identityId = `token:${old.view.id}`
      clock.ms += 30 * day + grace - 1
      assert.equal(who(book, old.token), 'phone')
      clock.ms += 1
      book.tick()
      assert.ok(events.some(({ event }) => event === 'token.aged'))
      assert.equal(who(book, old.token), 'wrong')
      assert.equal(book.isGood(identityId), false)
      assert.equal(book.lookUp(old.token, true).kind, 'valid')
      clock.ms += 30 * day - 1
      assert.equal(book.lookUp(old.token, true).kind, 'valid')
      const { token, previous } = await book.renew(identityId)
      assert.equal(who(book, token), 'phone')
      // It has ended: the rotation gives it no new grace.
      assert.equal(previous.status, 'retired')
      assert.equal(who(book, old.token), 'wrong')
      assert.equal(book.lookUp(old.token, true).kind, 'wrong')
    },
  )

  void test(
    name('a token past twice its age is good for nothing, and the owner can still rotate it'),
    async () => {
      const { book, clock } = await setUp()
      const old = await book.create({ ...plain, name: 'phone' })
      clock.ms += 60 * day + grace
      assert.equal(book.lookUp(old.token, true).kind, 'wrong')
      await assert.rejects(book.renew(`token:${old.view.id}`), { code: 'TOKEN_ENDED' })
      const { token } = await book.rotate('phone')
      assert.deepEqual([who(book, token), who(book, old.token)], ['phone', 'wrong'])
    },
  )

  void test(name('what has ended or is not ours to renew has no successor'), async () => {
    const { book, clock } = await setUp()
    await book.configure(configured)
    await assert.rejects(book.rotate('default'), { code: 'TOKEN_CONFIGURED' })
    await assert.rejects(book.rotate('nobody'), { code: 'TOKEN_UNKNOWN' })
    await assert.rejects(book.renew('jwt:somebody'), { code: 'TOKEN_UNKNOWN' })
    const revoked = await book.create({ ...plain, name: 'one' })
    await book.revoke('one')
    await assert.rejects(book.rotate(revoked.view.id), { code: 'TOKEN_ENDED' })
    const expired = await book.create({ ...plain, name: 'two', expiresAt: clock.ms + day })
    clock.ms += day
    await assert.rejects(book.rotate(expired.view.id), { code: 'TOKEN_ENDED' })
  })

  void test(
    name('a name means the newest token; revoking it ends both, revoking an id that one'),
    async () => {
      const { book } = await setUp()
      const first = await book.create({ ...plain, name: 'phone' })
      const second = await book.rotate('phone')
      const third = await book.rotate('phone')
      assert.equal(third.previous.id, second.view.id)
      await book.revoke(second.view.id)
      const states = () => [first, second, third].map(({ token }) => who(book, token))
      assert.deepEqual(states(), ['phone', 'wrong', 'phone'])
      assert.equal((await book.revoke('phone')).id, third.view.id)
      assert.deepEqual(states(), ['wrong', 'wrong', 'wrong'])
    },
  )

  void test(
    name(
      'answers to a token say when it ends from 80 % of its age on, and answers to others do not',
    ),
    async () => {
      const { book, clock } = await setUp()
      await book.configure(configured)
      const start = clock.ms
      const ends = new Date(start + 30 * day + grace).toUTCString()
      clock.ms = start + 24 * day - 1
      const { token, view } = await book.create(plain)
      assert.equal(sunset(book.lookUp(configured)), undefined)
      clock.ms += 1
      assert.deepEqual(sunset(book.lookUp(configured)), ['Sunset', ends])
      assert.equal(sunset(book.lookUp(token)), undefined)
      const { previous } = await book.rotate(view.id)
      assert.deepEqual(sunset(book.lookUp(token)), [
        'Sunset',
        new Date(previous.endsAt ?? 0).toUTCString(),
      ])
    },
  )

  void test(
    name('each share of the age is told once, over restarts and beside another sidecar'),
    async () => {
      const { book, clock, events, open } = await setUp()
      await book.configure(configured)
      const { view } = await book.create({
        ...plain,
        name: 'short',
        expiresAt: clock.ms + 29 * day,
      })
      const start = clock.ms
      const other = await open()
      await other.configure(configured)
      const told = async (at: number) => {
        clock.ms = start + at
        events.length = 0
        for (const each of [book, other, book]) {
          each.tick()
          await each.refresh()
          await new Promise((resolve) => setImmediate(resolve))
        }
        return events.flatMap(({ event, detail }) =>
          event === 'token.ageing' ? [detail?.slice(0, 5)] : [],
        )
      }
      assert.deepEqual(await told(24 * day - 1), [])
      assert.deepEqual(await told(24 * day), ['80 % '])
      assert.deepEqual(await told(28.5 * day), ['95 % '])
      const restarted = await open()
      await restarted.configure(configured)
      restarted.tick()
      assert.deepEqual(await told(28.6 * day), [])
      assert.deepEqual(await told(30 * day), ['100 %'])
      assert.deepEqual(await told(30 * day + grace), [])
      assert.equal(book.list().find(({ id }) => id === view.id)?.dueAt, undefined, 'expires before')
    },
  )

  void test(
    name('a token that nobody rotated for long is told its highest share alone'),
    async () => {
      const { book, clock, events } = await setUp()
      await book.configure(configured)
      clock.ms += 29 * day
      book.tick()
      await book.refresh()
      await new Promise((resolve) => setImmediate(resolve))
      const told = events.flatMap(({ event, detail }) => (event === 'token.ageing' ? [detail] : []))
      assert.equal(told.length, 1)
      assert.match(told[0] ?? '', /^95 % of its age, due 20/)
    },
  )

  void test(
    name(
      'a configured token past its age and grace is refused, also after a restart, and not revived',
    ),
    async () => {
      const { book, clock, open } = await setUp()
      await book.configure(configured)
      clock.ms += 30 * day + grace - 1
      assert.equal(who(book, configured), 'default')
      clock.ms += 1
      assert.equal(who(book, configured), 'wrong')
      assert.equal(book.lookUp(configured, true).kind, 'wrong', 'it has no successor to fetch')
      const later = await open()
      assert.equal((await later.configure(configured))?.status, 'aged')
      assert.equal(who(later, configured), 'wrong')
      await later.configure('another configured token')
      assert.equal(who(later, configured), 'wrong')
    },
  )

  void test(
    name(
      'a replaced configured token stays good for the grace, and its age goes on if it comes back',
    ),
    async () => {
      const { book, clock, events } = await setUp()
      const first = await book.configure(configured)
      clock.ms += 10 * day
      await book.configure('another configured token')
      const both = () => [who(book, configured), who(book, 'another configured token')]
      clock.ms += grace - 1
      book.tick()
      assert.deepEqual(both(), ['default', 'default'])
      clock.ms += 1
      book.tick()
      assert.deepEqual(both(), ['wrong', 'default'])
      assert.deepEqual(
        events.map(({ event }) => event),
        ['token.first-seen', 'token.first-seen', 'token.replaced'],
      )
      await book.configure(configured)
      assert.deepEqual(both(), ['default', 'default'])
      const back = book.list().find(({ id }) => id === first?.id)
      assert.deepEqual(
        [back?.createdAt, back?.endsAt],
        [first?.createdAt, (first?.createdAt ?? 0) + 30 * day + grace],
      )
    },
  )

  void test(
    name('a configured token that would be refused does not take the place of a good one'),
    async () => {
      const { book, clock } = await setUp()
      await book.configure(configured)
      await book.revoke('default')
      await book.configure('the second')
      await assert.rejects(book.configure(configured, { mustBeGood: true }), {
        code: 'TOKEN_REVOKED',
      })
      clock.ms += 31 * day
      await book.configure('the third')
      await assert.rejects(book.configure('the second', { mustBeGood: true }), {
        code: 'TOKEN_AGED',
      })
      assert.deepEqual(
        [configured, 'the second', 'the third'].map((token) => book.isConfigured(token)),
        [false, false, true],
      )
      assert.equal(who(book, 'the third'), 'default')
    },
  )

  void test(
    name('a configured token that the store forgot is as old as others remember'),
    async () => {
      const asked: string[] = []
      const remembered = { ms: 0 }
      const firstSeenOf = (fingerprint: string) => {
        asked.push(fingerprint)
        return Promise.resolve({ firstSeenAt: remembered.ms })
      }
      const { book, clock, store } = await setUp({ firstSeenOf })
      remembered.ms = clock.ms - 20 * day
      const view = await book.configure(configured)
      assert.deepEqual([asked, view?.createdAt], [[view?.fingerprint], remembered.ms])
      await book.configure(configured)
      assert.equal(asked.length, 1, 'the store knows it now')
      remembered.ms = clock.ms + day
      await store.remove(`token/${view?.id}`)
      assert.equal(
        (await book.configure(configured))?.createdAt,
        clock.ms,
        'never younger than now',
      )
    },
  )

  void test(
    name('a configured token that others remember as ended is no better for being forgotten here'),
    async () => {
      const { book, clock, events } = await setUp({
        firstSeenOf: async (fingerprint) =>
          Promise.resolve(
            new Map([
              ['19a69e73', { firstSeenAt: clock.ms - 40 * day }],
              ['ebe9091c', { firstSeenAt: clock.ms - day, revokedAt: clock.ms - 1 }],
            ]).get(fingerprint),
          ),
      })
      await book.configure(configured)
      for (const [text, code] of [
        ['an old one', 'TOKEN_AGED'],
        ['a revoked one', 'TOKEN_REVOKED'],
      ] as const) {
        await assert.rejects(book.configure(text, { mustBeGood: true }), { code })
        assert.deepEqual([who(book, text), who(book, configured)], ['wrong', 'default'], text)
      }
      events.length = 0
      assert.equal((await book.configure('a revoked one'))?.status, 'revoked')
      assert.equal(who(book, 'a revoked one'), 'wrong')
      // Said again, so that the newest files of the log have it.
      const told = events.find(({ fingerprint }) => fingerprint === 'ebe9091c')
      assert.deepEqual([told?.event, told?.detail], ['token.revoked', undefined])
    },
  )

  void test(
    name('a shorter grace counts at once, and a longer one brings nothing back'),
    async () => {
      const { book, clock, open } = await setUp()
      const { token } = await book.create({ ...plain, name: 'phone' })
      await book.rotate('phone')
      clock.ms += hour
      assert.equal(who(await open({ rotation: rotationOf(30 * day, hour) }), token), 'wrong')
      assert.equal(who(await open({ rotation: rotationOf(30 * day, hour + 1) }), token), 'phone')
      clock.ms += grace - hour
      assert.equal(who(await open({ rotation: rotationOf(30 * day, 10 * day) }), token), 'wrong')
    },
  )

  void test(
    name('what a crash leaves between the writes counts for nothing and goes after an hour'),
    async () => {
      const { book, clock, store, open } = await setUp()
      const { token, view } = await book.create({ ...plain, name: 'phone' })
      const record = JSON.parse((await store.get(`token/${view.id}`))?.value ?? '') as object
      const left = {
        ...record,
        id: 'leftover',
        digest: 'x',
        predecessorId: view.id,
        createdAt: clock.ms,
      }
      await store.put('token/leftover', JSON.stringify(left))
      const later = await open()
      assert.deepEqual(
        later.list().map(({ id }) => id),
        [view.id],
      )
      assert.equal(later.isGood('token:leftover'), false)
      assert.equal(who(later, token), 'phone')
      await later.rotate('phone')
      assert.notEqual(await store.get('token/leftover'), undefined, 'it may be under way elsewhere')
      clock.ms += hour + 1
      await later.rotate('phone')
      assert.equal(await store.get('token/leftover'), undefined)
    },
  )

  void test(
    name('at the bound of tokens a rotation still goes on, and ended ones make room'),
    async () => {
      const { book, clock } = await setUp({ tokensMax: 2 })
      await book.create({ ...plain, name: 'one' })
      await book.create({ ...plain, name: 'two' })
      await book.rotate('one')
      assert.equal(book.list().length, 3)
      clock.ms += grace
      await book.rotate('two')
      assert.deepEqual(
        book
          .list()
          .map(({ name: each }) => each)
          .sort(),
        ['one', 'two', 'two'],
      )
    },
  )

  void test(
    name(
      'a token past its age does not make room while its client may still come for the successor',
    ),
    async () => {
      const { book, clock } = await setUp({ tokensMax: 1 })
      const { token } = await book.create({ ...plain, name: 'one' })
      clock.ms += 31 * day
      await assert.rejects(book.create(plain), { code: 'TOKENS_FULL' })
      assert.equal(book.lookUp(token, true).kind, 'valid')
      clock.ms += 30 * day
      await book.create(plain)
      assert.equal(book.list().length, 1)
    },
  )
}
