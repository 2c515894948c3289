/** The pairing book: codes, their bounds on both sides, single use, and the pause after wrong codes. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { Failure } from '../../src/errors.ts'
import { PairingBook, usualBounds } from '../../src/senders/book.ts'
import { makeCode, readCode } from '../../src/senders/code.ts'
import { memoryStore, openBooks, TestClock } from '../support/people.ts'

const telegram = { channel: 'telegram', account: 'default' }
const minute = 60_000
const hour = 60 * minute

async function issued(book: PairingBook, sender: string, place = telegram): Promise<string> {
  const asked = await book.ask(place, sender, { chat: sender })
  assert.equal(asked.kind, 'issued', sender)
  return asked.kind === 'issued' ? asked.request.code : ''
}

const failsWith = (code: string) => (thrown: unknown) =>
  thrown instanceof Failure && thrown.code === code

test('a code has eight characters that cannot be mistaken for each other', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 8, maxLength: 8 }), (bytes) => {
      const code = makeCode(() => Buffer.from(bytes))
      assert.match(code, /^[A-HJ-NP-Z2-9]{8}$/)
      assert.equal(readCode(code), code)
      assert.equal(readCode(` ${code.slice(0, 4).toLowerCase()}-${code.slice(4)} `), code)
    }),
  )
})

test('every character of the alphabet is as likely as every other', () => {
  const counts = new Map<string, number>()
  for (let byte = 0; byte < 256; byte += 1) {
    const letter = makeCode(() => Buffer.alloc(8, byte)).charAt(0)
    counts.set(letter, (counts.get(letter) ?? 0) + 1)
  }
  assert.equal(counts.size, 32)
  assert.deepEqual([...new Set(counts.values())], [8])
})

test('what is no code is none', () => {
  for (const typed of [
    '',
    'ABCDEFG',
    'ABCDEFGHJ',
    'ABCDEFG0',
    'ABCDEFGI',
    'ABCDEFGÄ',
    'ABCD.FGH',
  ]) {
    assert.equal(readCode(typed), undefined, typed)
  }
})

test('a sender has one code, and asking again gives no second one', async () => {
  const { book } = await openBooks(new TestClock())
  await issued(book, '5')
  assert.deepEqual(await book.ask(telegram, '5', {}), { kind: 'pending' })
  assert.equal(book.pending().length, 1)
})

test('two messages of one stranger at the same moment make one code', async () => {
  const { book } = await openBooks(new TestClock())
  const asked = await Promise.all([book.ask(telegram, '5', {}), book.ask(telegram, '5', {})])
  assert.deepEqual(asked.map(({ kind }) => kind).sort(), ['issued', 'pending'])
})

test('a code lives for an hour, to the millisecond', async () => {
  const clock = new TestClock()
  const { book } = await openBooks(clock)
  const code = await issued(book, '5')
  clock.pass(hour - 1)
  assert.equal(book.pending().length, 1)
  clock.pass(1)
  assert.equal(book.pending().length, 0)
  await assert.rejects(book.take('telegram', code), failsWith('PAIRING_UNKNOWN'))
})

test('a code is good once, whoever tries at the same time', async () => {
  const clock = new TestClock()
  const store = memoryStore(clock)
  const one = await openBooks(clock, {}, store)
  const code = await issued(one.book, '5')
  const two = await openBooks(clock, {}, store)
  const tries = await Promise.allSettled([
    one.book.take('telegram', code),
    two.book.take('telegram', code),
    one.book.take('telegram', code),
  ])
  assert.equal(tries.filter(({ status }) => status === 'fulfilled').length, 1)
})

test('a code belongs to its channel, account and sender', async () => {
  const { book } = await openBooks(new TestClock())
  const code = await issued(book, '5', { channel: 'telegram', account: 'work' })
  await assert.rejects(book.take('slack', code), failsWith('PAIRING_UNKNOWN'))
  const { sender, account, channel } = await book.take('telegram', code)
  assert.deepEqual(
    { sender, account, channel },
    { sender: '5', account: 'work', channel: 'telegram' },
  )
})

test('the tenth new request of an hour is served, the eleventh is not, and the hour slides', async () => {
  const clock = new TestClock()
  const { book } = await openBooks(clock)
  for (let sender = 0; sender < usualBounds.perHour; sender += 1) {
    await issued(book, String(sender))
    clock.pass(minute)
  }
  const full = await book.ask(telegram, 'eleventh', {})
  assert.deepEqual(full, { kind: 'full', because: '10 new requests in an hour', first: true })
  const again = await book.ask(telegram, 'twelfth', {})
  assert.deepEqual(again.kind === 'full' && again.first, false)
  // The first one is an hour old: exactly one place is free.
  clock.pass(hour - usualBounds.perHour * minute)
  await issued(book, 'eleventh')
  assert.equal((await book.ask(telegram, 'twelfth', {})).kind, 'full')
})

test('the hundredth pending request is served and the next is not', async () => {
  const { book } = await openBooks(new TestClock(), { perHour: 1000 })
  for (let sender = 0; sender < usualBounds.pendingMax; sender += 1) {
    await issued(book, String(sender))
  }
  const full = await book.ask(telegram, 'one more', {})
  assert.equal(full.kind === 'full' && full.because, '100 requests are pending')
  assert.equal(book.pending().length, 100)
  // Whoever has asked before is not pushed out.
  assert.deepEqual(await book.ask(telegram, '0', {}), { kind: 'pending' })
})

test('a flood on one account takes nothing from another', async () => {
  const { book } = await openBooks(new TestClock())
  for (let sender = 0; sender < 50; sender += 1) await book.ask(telegram, String(sender), {})
  await issued(book, '5', { channel: 'telegram', account: 'work' })
  await issued(book, '5', { channel: 'slack', account: 'default' })
})

test('the bounds hold between two processes on one store', async () => {
  const clock = new TestClock()
  const store = memoryStore(clock)
  const one = await openBooks(clock, {}, store)
  const two = await openBooks(clock, {}, store)
  const asked = await Promise.all(
    Array.from({ length: 30 }, (_, i) => (i % 2 === 0 ? one : two).book.ask(telegram, `s${i}`, {})),
  )
  assert.equal(asked.filter(({ kind }) => kind === 'issued').length, usualBounds.perHour)
})

test('requests survive a restart, and so does the count of the hour', async () => {
  const clock = new TestClock()
  const store = memoryStore(clock)
  const before = await openBooks(clock, {}, store)
  const code = await issued(before.book, '0')
  for (let sender = 1; sender < 10; sender += 1) await issued(before.book, String(sender))
  const after = await openBooks(clock, {}, store)
  assert.equal(after.book.pending().length, 10)
  assert.equal((await after.book.ask(telegram, 'new', {})).kind, 'full')
  assert.equal((await after.book.take('telegram', code)).sender, '0')
})

test('five wrong codes pause approvals for five minutes, even of the right one', async () => {
  const clock = new TestClock()
  const { book } = await openBooks(clock)
  const code = await issued(book, '5')
  for (let tried = 0; tried < 5; tried += 1) {
    await assert.rejects(book.take('telegram', 'ABCDEFGH'), failsWith('PAIRING_UNKNOWN'))
  }
  await assert.rejects(book.take('telegram', code), failsWith('PAIRING_PAUSED'))
  clock.pass(5 * minute - 1)
  await assert.rejects(book.take('telegram', code), failsWith('PAIRING_PAUSED'))
  clock.pass(1)
  assert.equal((await book.take('telegram', code)).sender, '5')
})

test('four wrong codes pause nothing, and a right one forgives them', async () => {
  const { book } = await openBooks(new TestClock())
  for (const sender of ['5', '6']) {
    const code = await issued(book, sender)
    for (let tried = 0; tried < 4; tried += 1) {
      await assert.rejects(book.take('telegram', 'ABCDEFGH'), failsWith('PAIRING_UNKNOWN'))
    }
    assert.equal((await book.take('telegram', code)).sender, sender)
  }
})

test('the pause is of one channel, and holds after a restart', async () => {
  const clock = new TestClock()
  const { book, store } = await openBooks(clock)
  const code = await issued(book, '5', { channel: 'slack', account: 'default' })
  for (let tried = 0; tried < 5; tried += 1) {
    await assert.rejects(book.take('telegram', 'ABCDEFGH'), failsWith('PAIRING_UNKNOWN'))
  }
  const after = await openBooks(clock, {}, store)
  await assert.rejects(after.book.take('telegram', code), failsWith('PAIRING_PAUSED'))
  assert.equal((await after.book.take('slack', code)).sender, '5')
})

test('what is no code is bad usage and counts as no attempt', async () => {
  const { book } = await openBooks(new TestClock())
  const code = await issued(book, '5')
  for (let tried = 0; tried < 20; tried += 1) {
    await assert.rejects(book.take('telegram', 'hello'), failsWith('PAIRING_CODE'))
  }
  assert.equal((await book.take('telegram', code)).sender, '5')
})

test('nobody has a code that the store does not know', async () => {
  const clock = new TestClock()
  const { book, store } = await openBooks(clock)
  await store.close()
  await assert.rejects(book.ask(telegram, '5', {}))
  assert.equal(book.pending().length, 0)
})

test('an entry of the store that is not a page is a failure, never an empty book', async () => {
  const clock = new TestClock()
  for (const value of ['[]', '{}', '{"requests":[{}],"made":[]}', '{"requests":[],"made":["x"]}']) {
    const store = memoryStore(clock)
    await store.put('pairing/telegram/default', value)
    await assert.rejects(openBooks(clock, {}, store), failsWith('STORE_BROKEN'), value)
  }
})

test('any sender id that a service can send can ask, and comes back as it was', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.string({ unit: 'binary', minLength: 1, maxLength: 300 }),
      async (sender) => {
        fc.pre(sender.isWellFormed())
        const { book } = await openBooks(new TestClock())
        const code = await issued(book, sender)
        assert.equal((await book.take('telegram', code)).sender, sender)
      },
    ),
    { numRuns: 50 },
  )
})

test('codes of the real random source do not repeat among the pending', async () => {
  const clock = new TestClock()
  const bounds = { ...usualBounds, perHour: 1000 }
  const store = memoryStore(clock)
  const book = await PairingBook.open({ store, now: clock.now, random: randomBytes, bounds })
  const codes = new Set<string>()
  for (let sender = 0; sender < 100; sender += 1) codes.add(await issued(book, String(sender)))
  assert.equal(codes.size, 100)
})

test('a random source that repeats itself still gives everybody a code of their own', async () => {
  const clock = new TestClock()
  let calls = 0
  const random = (size: number) => Buffer.alloc(size, Math.floor(calls++ / 3))
  const store = memoryStore(clock)
  const book = await PairingBook.open({ store, now: clock.now, random, bounds: usualBounds })
  assert.notEqual(await issued(book, '1'), await issued(book, '2'))
})
