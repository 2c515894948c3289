/** Who was let in, what survives, what does not, and how fast it is to ask. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../src/errors.ts'
import { SenderList, type Admitted } from '../../src/senders/list.ts'
import { senderKey } from '../../src/senders/place.ts'
import { memoryStore, openBooks, TestClock } from '../support/people.ts'

const place = { channel: 'telegram', account: 'default' }
const paired = (sender: string): Admitted => ({ ...place, sender, kind: 'paired', since: 1 })

test('who was let in is still in after a restart', async () => {
  const clock = new TestClock()
  const { list, store } = await openBooks(clock)
  await list.admit(paired('7'))
  await list.admit({ ...place, sender: '8', kind: 'listed', since: 1, note: 'Olga' })
  const again = await SenderList.open({ store, now: clock.now })
  assert.ok(again.known(place).paired.has('7') && !again.known(place).listed.has('7'))
  assert.ok(again.known(place).listed.has('8') && !again.known(place).paired.has('8'))
  assert.equal(again.find(place, '8')?.note, 'Olga')
})

test('a sender of one account is nobody on another', async () => {
  const { list } = await openBooks(new TestClock())
  await list.admit(paired('7'))
  for (const other of [
    { channel: 'telegram', account: 'work' },
    { channel: 'slack', account: 'default' },
  ]) {
    assert.ok(!list.known(other).paired.has('7'))
  }
})

test('ids are compared exactly', async () => {
  const { list } = await openBooks(new TestClock())
  await list.admit(paired('abc'))
  for (const other of ['ABC', 'abc ', ' abc', 'ab', 'abcd', 'аbc', 'abc\u200b', '__proto__']) {
    assert.ok(!list.known(place).paired.has(other), other)
  }
})

test('a change by another process is seen', async () => {
  const clock = new TestClock()
  const { list, store } = await openBooks(clock)
  const other = await SenderList.open({ store, now: clock.now })
  await other.admit(paired('7'))
  assert.ok(!list.known(place).paired.has('7'))
  await list.refresh()
  assert.ok(list.known(place).paired.has('7'))
  await other.remove(place, '7')
  await list.refresh()
  assert.ok(!list.known(place).paired.has('7'))
})

test('who leaves the configured list loses an old pairing with it', async () => {
  const { list } = await openBooks(new TestClock())
  await list.admit(paired('7'))
  await list.admit({ ...place, sender: '9', kind: 'listed', since: 1 })
  assert.deepEqual(await list.settle(place, ['7', '8', '9']), [])
  assert.ok(list.known(place).paired.has('7'))
  assert.deepEqual(await list.settle(place, ['8']), ['7'])
  assert.ok(!list.known(place).paired.has('7'))
  // What the owner added on the command line is not a pairing.
  assert.ok(list.known(place).listed.has('9'))
})

test('a pairing of somebody who never was in the configuration stays', async () => {
  const { list } = await openBooks(new TestClock())
  await list.admit(paired('7'))
  for (const listed of [['1'], [], ['2', '3']])
    assert.deepEqual(await list.settle(place, listed), [])
  assert.ok(list.known(place).paired.has('7'))
})

test('when somebody spoke is known at once and written down later', async () => {
  const clock = new TestClock()
  const { list, store } = await openBooks(clock)
  list.spoke(place, '7')
  assert.equal(list.lastSpoke(place, '7'), clock.now())
  assert.equal((await store.list('spoke/')).length, 0)
  await list.flush()
  const again = await SenderList.open({ store, now: clock.now })
  assert.equal(again.lastSpoke(place, '7'), clock.now())
})

test('last words that cannot be written are kept for the next time', async () => {
  const clock = new TestClock()
  const store = memoryStore(clock)
  let broken = true
  const failing = {
    get: store.get.bind(store),
    put: store.put.bind(store),
    take: store.take.bind(store),
    remove: store.remove.bind(store),
    list: store.list.bind(store),
    compareAndSwap: store.compareAndSwap.bind(store),
    watch: store.watch.bind(store),
    close: store.close.bind(store),
    putAll: (writes: Parameters<typeof store.putAll>[0]) =>
      broken ? Promise.reject(new Failure('STORE_FAILED', 'full')) : store.putAll(writes),
  }
  const troubles: string[] = []
  const onTrouble = (failure: Failure) => void troubles.push(failure.code)
  const list = await SenderList.open({ store: failing, now: clock.now, onTrouble })
  list.spoke(place, '7')
  await list.flush()
  assert.deepEqual(troubles, ['STORE_FAILED'])
  broken = false
  await list.flush()
  assert.equal((await store.list('spoke/')).length, 1)
})

test('an entry that names another sender than its key is refused', async () => {
  const clock = new TestClock()
  const store = memoryStore(clock)
  await store.put(`sender/telegram/default/${senderKey('8')}`, JSON.stringify(paired('7')))
  await assert.rejects(
    SenderList.open({ store, now: clock.now }),
    (thrown) => thrown instanceof Failure && thrown.code === 'STORE_BROKEN',
  )
})

test('asking among a hundred thousand costs about what asking among a hundred does', async () => {
  const clock = new TestClock()
  const timed = async (size: number): Promise<number> => {
    const store = memoryStore(clock)
    const senders = Array.from({ length: size }, (_, i) => `sender-${i}`)
    await store.putAll(
      senders.map((sender) => ({
        key: `sender/telegram/default/${senderKey(sender)}`,
        value: JSON.stringify(paired(sender)),
      })),
    )
    const list = await SenderList.open({ store, now: clock.now })
    const known = list.known(place)
    const asked = senders.slice(-100)
    let best = Infinity
    for (let round = 0; round < 30; round += 1) {
      const from = performance.now()
      for (let i = 0; i < 2000; i += 1) {
        assert.ok(known.paired.has(asked[i % 100] ?? '') !== known.paired.has(`stranger-${i}`))
      }
      best = Math.min(best, performance.now() - from)
    }
    return best
  }
  const few = await timed(100)
  const many = await timed(100_000)
  // The goal is 1.5; a busy machine needs room, and a walk over the list would be a thousand.
  assert.ok(many / few < 5, `${many} ms against ${few} ms`)
})
