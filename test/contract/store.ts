/** What every store promises; each implementation runs this suite. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import fc from 'fast-check'
import { absent, type Store } from '../../src/store/store.ts'

/** A fresh, empty store and a second connection to the same data; `end` closes both and cleans up. */
export interface Opened {
  readonly store: Store
  readonly other: Store
  /** Wall clock of both stores, ms since the epoch. */
  now(): number
  end(): Promise<void>
}

/**
 * Runs the suite. `advance` makes time pass for the stores of the last `open`.
 */
export function storeContract(
  name: string,
  open: () => Promise<Opened>,
  advance: (ms: number) => Promise<void> | void,
): void {
  const using = (title: string, body: (opened: Opened) => Promise<void>) =>
    test(`${name}: ${title}`, async () => {
      const opened = await open()
      try {
        await body(opened)
      } finally {
        await opened.end()
      }
    })

  void using('what is put can be got, also over another connection', async ({ store, other }) => {
    assert.equal(await store.get('a'), undefined)
    await store.put('a', 'ünï\n"{}"')
    assert.equal((await store.get('a'))?.value, 'ünï\n"{}"')
    assert.equal((await other.get('a'))?.value, 'ünï\n"{}"')
    await store.put('a', '')
    assert.equal((await store.get('a'))?.value, '')
  })

  void using('an entry is gone when its time is over and not a moment earlier', async (opened) => {
    const { store, other } = opened
    const expiresAt = opened.now() + 10_000
    await store.put('a', 'x', { expiresAt })
    await store.put('b', 'x', { expiresAt })
    await advance(9_000)
    assert.equal((await store.get('a'))?.expiresAt, expiresAt)
    assert.equal((await other.list('')).length, 2)
    await advance(1_000)
    assert.equal(await store.get('a'), undefined)
    assert.equal(await store.take('b'), undefined)
    assert.deepEqual(await other.list(''), [])
    assert.equal(await store.compareAndSwap('a', absent, 'new'), true)
    assert.equal((await store.get('a'))?.expiresAt, undefined)
  })

  void using('putting again without an expiry makes an entry stay', async (opened) => {
    const { store } = opened
    await store.put('a', 'x', { expiresAt: opened.now() + 1000 })
    await store.put('a', 'y')
    await advance(2000)
    assert.equal((await store.get('a'))?.value, 'y')
  })

  void using('of many who take one entry exactly one gets it', async ({ store, other }) => {
    await store.put('code', 'x')
    const takers = Array.from({ length: 20 }, (_, at) =>
      (at % 2 === 0 ? store : other).take('code'),
    )
    const taken = (await Promise.all(takers)).filter((entry) => entry !== undefined)
    assert.equal(taken.length, 1)
    assert.equal(await store.get('code'), undefined)
  })

  void using('of many who swap one version exactly one wins', async ({ store, other }) => {
    await store.put('a', 'old')
    const version = (await store.get('a'))?.version ?? -1
    const tries = Array.from({ length: 20 }, (_, at) =>
      (at % 2 === 0 ? store : other).compareAndSwap('a', version, `new ${at}`),
    )
    assert.equal((await Promise.all(tries)).filter((won) => won).length, 1)
    assert.notEqual((await store.get('a'))?.version, version)
  })

  void using('of many who create one key exactly one wins', async ({ store, other }) => {
    const tries = Array.from({ length: 20 }, (_, at) =>
      (at % 2 === 0 ? store : other).compareAndSwap('a', absent, `${at}`),
    )
    assert.equal((await Promise.all(tries)).filter((won) => won).length, 1)
  })

  void using(
    'a version does not come back after an entry was removed and made again',
    async (opened) => {
      const { store } = opened
      await store.put('a', 'x')
      const version = (await store.get('a'))?.version ?? -1
      assert.equal(await store.remove('a'), true)
      assert.equal(await store.remove('a'), false)
      await store.put('a', 'x')
      assert.notEqual((await store.get('a'))?.version, version)
      assert.equal(await store.compareAndSwap('a', version, 'y'), false)
    },
  )

  void using('a list holds exactly the keys with the prefix, in order', async ({ store }) => {
    for (const key of [
      'token/b',
      'token/a',
      'token',
      'token0',
      'Token/a',
      'tokem/x',
      'token/~',
      'z',
    ]) {
      await store.put(key, key)
    }
    assert.deepEqual(
      (await store.list('token/')).map(({ key }) => key),
      ['token/a', 'token/b', 'token/~'],
    )
    assert.equal((await store.list('')).length, 8)
    assert.deepEqual(await store.list('none/'), [])
  })

  void using('a prefix is text, never a pattern', async ({ store }) => {
    const key = fc
      .array(fc.constantFrom('a', 'b', '%', '_', '*', '?', '[', '\\', '/'), {
        minLength: 1,
        maxLength: 4,
      })
      .map((parts) => parts.join(''))
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(key, { maxLength: 8 }), key, async (keys, prefix) => {
        for (const { key: old } of await store.list('')) await store.remove(old)
        for (const each of keys) await store.put(each, 'x')
        const listed = (await store.list(prefix)).map((entry) => entry.key)
        assert.deepEqual(listed, keys.filter((each) => each.startsWith(prefix)).sort())
      }),
      { numRuns: 30 },
    )
  })

  void using('several writes are made all or none', async ({ store }) => {
    await store.putAll([
      { key: 'a', value: '1' },
      { key: 'b', value: '2' },
    ])
    assert.equal((await store.list('')).length, 2)
    const bad = store.putAll([
      { key: 'c', value: '3' },
      { key: 'not a key', value: '4' },
    ])
    await assert.rejects(bad, { code: 'STORE_KEY' })
    assert.equal(await store.get('c'), undefined)
  })

  void using('a key that stores could read differently is refused', async ({ store }) => {
    for (const key of ['', ' ', 'a b', 'ä', 'a\n', 'x'.repeat(513)]) {
      await assert.rejects(store.put(key, 'x'), { code: 'STORE_KEY' }, JSON.stringify(key))
    }
    await store.put('x'.repeat(512), 'x')
  })

  void using('a watcher hears within a second that another connection wrote', async (opened) => {
    const { store, other } = opened
    let heard = 0
    const stop = store.watch(() => {
      heard += 1
    })
    await other.put('a', 'x')
    for (let waited = 0; heard === 0 && waited < 100; waited += 1) await sleep(50)
    assert.equal(heard, 1)
    stop()
    await other.put('a', 'y')
    await sleep(600)
    assert.equal(heard, 1)
  })

  void using('a closed store refuses to answer', async ({ store }) => {
    await store.close()
    await assert.rejects(store.get('a'), { code: 'STORE_FAILED' })
  })
}
