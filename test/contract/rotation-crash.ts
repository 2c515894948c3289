/** What rotation promises when everything goes wrong: a token that works after any crash, and no way back. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '../../src/errors.ts'
import { rotationOf } from '../../src/identity/token-life.ts'
import type { TokenBook } from '../../src/identity/tokens.ts'
import type { Store } from '../../src/store/store.ts'
import { configured, day, plain, setUpTokens, who, type OpenStore } from './tokens.ts'

const rotation = rotationOf(30 * day)

/** A store that lives for so many writes. `late`: the last one is written, and then the crash keeps its answer. */
function dying(real: Store, fuse: { writes: number; late: boolean }): Store {
  const dead = () => new Failure('STORE_FAILED', 'the process was killed')
  const reads = <T>(read: () => Promise<T>): Promise<T> =>
    fuse.writes > 0 ? read() : Promise.reject(dead())
  const writes = async <T>(write: () => Promise<T>): Promise<T> => {
    if (fuse.writes <= 0) throw dead()
    fuse.writes -= 1
    const result = await write()
    if (fuse.late && fuse.writes === 0) throw dead()
    return result
  }
  return {
    get: (key) => reads(() => real.get(key)),
    list: (prefix) => reads(() => real.list(prefix)),
    put: (key, value, options) => writes(() => real.put(key, value, options)),
    putAll: (all) => writes(() => real.putAll(all)),
    compareAndSwap: (key, version, value, options) =>
      writes(() => real.compareAndSwap(key, version, value, options)),
    take: (key) => writes(() => real.take(key)),
    remove: (key) => writes(() => real.remove(key)),
    watch: (changed) => real.watch(changed),
    close: () => real.close(),
  }
}

/** Runs the suite on a kind of store. */
export function crashContract(kind: string, openStore: OpenStore): void {
  const name = (title: string) => `${kind}: ${title}`
  const setUp = (changes: Parameters<typeof setUpTokens>[1] = {}) =>
    setUpTokens(openStore, { rotation, ...changes })

  /** Crashes after each write in turn until there is none left to crash after; says how many there were. */
  async function crashAfterEach(
    body: (parts: {
      readonly book: TokenBook
      /** Sets the fuse: the book works up to here. */
      readonly light: () => void
      readonly after: () => Promise<TokenBook>
      readonly clock: { ms: number }
    }) => Promise<void>,
  ): Promise<number> {
    for (const late of [false, true]) {
      for (let writes = 1; ; writes += 1) {
        const fuse = { writes: Infinity, late }
        const { book, real, clock, open } = await setUp({ wrap: (store) => dying(store, fuse) })
        const light = () => void (fuse.writes = writes)
        const after = () => open({ store: real })
        await body({ book, light, after, clock })
        if (fuse.writes > 0) {
          if (late) return writes - 1
          break
        }
      }
    }
    return 0
  }

  void test(name('a crash after any write of a rotation leaves a token that works'), async () => {
    const writes = await crashAfterEach(async ({ book, light, after }) => {
      const old = await book.create({ ...plain, name: 'phone' })
      light()
      const known = [old.token]
      await book.rotate('phone').then(
        ({ token }) => known.unshift(token),
        () => undefined,
      )
      const later = await after()
      // The old one has its grace whatever was written; a new one that was shown works.
      for (const token of known) assert.equal(who(later, token), 'phone')
      // And the owner has a way on, also where the new one was written but never shown.
      const { token } = await later.rotate('phone')
      assert.equal(who(later, token), 'phone')
    })
    assert.equal(writes, 2)
  })

  void test(
    name('a crash after any write of a rotation without grace leaves a token that works'),
    async () => {
      const writes = await crashAfterEach(async ({ book, light, after }) => {
        const old = await book.create({ ...plain, name: 'phone' })
        light()
        const known = [old.token]
        try {
          const { token, previous } = await book.rotate('phone')
          known.unshift(token)
          await book.retire(previous.id)
        } catch (thrown) {
          assert.ok(thrown instanceof Failure)
        }
        const later = await after()
        assert.equal(who(later, known[0] ?? ''), 'phone')
      })
      assert.equal(writes, 3)
    },
  )

  void test(
    name('a crash after any write while a client renews its token leaves one that works'),
    async () => {
      const writes = await crashAfterEach(async ({ book, light, after, clock }) => {
        const old = await book.create({ ...plain, name: 'phone' })
        clock.ms += 30 * day
        light()
        const known = [old.token]
        await book.renew(`token:${old.view.id}`).then(
          ({ token }) => known.unshift(token),
          () => undefined,
        )
        const later = await after()
        for (const token of known) assert.equal(who(later, token), 'phone')
      })
      assert.equal(writes, 2)
    },
  )

  void test(
    name('a crash after any write while the configured token changes leaves both that work'),
    async () => {
      const writes = await crashAfterEach(async ({ book, light, after }) => {
        await book.configure(configured)
        light()
        await book.configure('another configured token').catch((thrown: unknown) => {
          assert.ok(thrown instanceof Failure)
        })
        const later = await after()
        await later.configure('another configured token')
        assert.equal(who(later, 'another configured token'), 'default')
        assert.equal(who(later, configured), 'default')
      })
      assert.equal(writes, 2)
    },
  )

  void test(
    name('a rotation whose last reading fails is told, and nobody comes in until one succeeds'),
    async () => {
      const fuse = { writes: Infinity, late: false }
      const { book, troubles } = await setUp({ wrap: (store) => dying(store, fuse) })
      await book.create({ ...plain, name: 'phone' })
      fuse.writes = 2
      const { token } = await book.rotate('phone')
      assert.throws(() => book.lookUp(token), { code: 'STORE_FAILED' })
      assert.deepEqual(
        troubles.map(({ code }) => code),
        ['STORE_FAILED'],
      )
      fuse.writes = Infinity
      await book.refresh()
      assert.equal(who(book, token), 'phone')
    },
  )

  void test(name('no token that has ended is ever good again, whatever happens'), async () => {
    const step = fc.oneof(
      fc.constantFrom('rotate', 'renew', 'retire', 'revoke', 'create', 'configure', 'restart'),
      fc.integer({ min: 1, max: 20 * day }),
    )
    await fc.assert(
      fc.asyncProperty(fc.array(fc.tuple(step, fc.nat(9)), { maxLength: 20 }), async (steps) => {
        const { book: first, clock, open } = await setUp({ rotation: rotationOf(30 * day) })
        let book: TokenBook = first
        const texts = [configured]
        let present = configured
        const ended = new Set<string>()
        await book.configure(configured)
        for (const [what, which] of steps) {
          const ids = book.list().map(({ id }) => id)
          const id = ids[which % ids.length] ?? ''
          if (typeof what === 'number') clock.ms += what
          else if (what === 'create') texts.push((await book.create(plain)).token)
          else if (what === 'restart') {
            book = await open()
            await book.configure(present)
          } else if (what === 'configure') {
            present = which < 5 ? configured : `configured token number ${which}`
            if (!texts.includes(present)) texts.push(present)
            // The one exception: who puts a replaced token back means it.
            ended.delete(present)
            await book.configure(present)
          } else {
            try {
              if (what === 'rotate') texts.push((await book.rotate(id)).token)
              else if (what === 'renew') texts.push((await book.renew(`token:${id}`)).token)
              else if (what === 'retire') await book.retire(id)
              else await book.revoke(id)
            } catch (thrown) {
              assert.match((thrown as Failure).code, /^TOKEN_/)
            }
          }
          for (const text of texts) {
            const good = book.lookUp(text).kind === 'valid'
            if (!good) ended.add(text)
            else assert.ok(!ended.has(text), `${texts.indexOf(text)} is good again`)
          }
        }
      }),
      { numRuns: 60 },
    )
  })
}
