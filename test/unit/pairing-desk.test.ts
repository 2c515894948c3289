/** One account at its desk: strangers, answers, budgets, owners, and what takes effect at once. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { channelNamed } from '../../src/channels/all.ts'
import type { Message } from '../../src/channels/channel.ts'
import { accountWith, directMessage, openDesk, settled, TestClock } from '../support/people.ts'

const stranger = (parts: Partial<Message> = {}) => directMessage('7', parts)
const codeIn = (text: string | undefined) => /[A-HJ-NP-Z2-9]{8}/.exec(text ?? '')?.[0]

test('a stranger is told a code once, and the owner hears of it', async () => {
  const { desk, book, told } = await openDesk(new TestClock())
  const first = await desk.hear(stranger())
  assert.equal(first.passes, false)
  assert.equal(first.event, 'pairing.requested')
  const [request] = book.pending()
  assert.equal(codeIn(first.tell), request?.code)
  const second = await desk.hear(stranger())
  assert.deepEqual([second.passes, second.tell], [false, undefined])
  assert.equal(told.length, 1)
  assert.match(told[0]?.message ?? '', /hardshell pairing approve telegram [A-Z2-9]{8}/)
})

test('nobody is answered in groups, for edits, buttons and reactions, and bots never', async () => {
  const { desk, book } = await openDesk(new TestClock())
  const quiet: readonly Partial<Message>[] = [
    { room: { id: '-1001', kind: 'group' } },
    { class: 'edit' },
    { class: 'interaction' },
    { class: 'reaction' },
    { class: 'membership' },
    { sender: { id: '7', aliases: [], kind: 'bot' } },
    { sender: { id: '7', aliases: [], kind: 'webhook' } },
    { sender: { id: '7', aliases: [], kind: 'anonymous' } },
    { sender: { id: null, aliases: [], kind: 'user' } },
    { room: { id: null, kind: 'unknown' }, class: 'interaction' },
  ]
  for (const parts of quiet) {
    const heard = await desk.hear(stranger(parts))
    assert.deepEqual([heard.passes, heard.tell], [false, undefined], JSON.stringify(parts))
  }
  assert.equal(book.pending().length, 0)
})

test('where the policy is "allowlist" or "disabled" nobody is answered', async () => {
  for (const dmPolicy of ['allowlist', 'disabled'] as const) {
    const { desk, book } = await openDesk(new TestClock())
    const closed = { ...desk.settings, policy: { ...desk.settings.policy, dmPolicy } }
    const { desk: strict } = await openDesk(new TestClock(), closed)
    const heard = await strict.hear(stranger())
    assert.deepEqual([heard.passes, heard.tell], [false, undefined])
    assert.equal(book.pending().length, 0)
  }
})

test('the answer is the code, nothing, or the owner’s own words', async () => {
  const words = async (reply: string) =>
    (await (await openDesk(new TestClock(), { reply })).desk.hear(stranger())).tell
  assert.equal(await words('silent'), undefined)
  assert.match((await words('code')) ?? '', /^Pairing code: [A-HJ-NP-Z2-9]{8}\n/)
  assert.match((await words('Say {code} and {code} to Olga')) ?? '', /^Say (\w{8}) and \1 to Olga$/)
})

test('a silent desk still makes a code that the owner can approve', async () => {
  const { desk, book } = await openDesk(new TestClock(), { reply: 'silent' })
  await desk.hear(stranger())
  assert.equal(book.pending().length, 1)
})

test('the answers of an hour are bounded, and the requests are not lost', async () => {
  const clock = new TestClock()
  const { desk, book } = await openDesk(clock, { repliesPerHour: 2 })
  const told = []
  for (const sender of ['7', '8', '9']) told.push((await desk.hear(directMessage(sender))).tell)
  assert.deepEqual(
    told.map((text) => text !== undefined),
    [true, true, false],
  )
  assert.equal(book.pending().length, 3)
  clock.pass(60 * 60_000)
  assert.ok((await desk.hear(directMessage('10'))).tell !== undefined)
})

test('strangers beyond the bound are ignored, and the owner is told once', async () => {
  const { desk, told } = await openDesk(new TestClock(), {}, { perHour: 1 })
  await desk.hear(stranger())
  const full = await desk.hear(directMessage('8'))
  assert.deepEqual([full.passes, full.tell, full.event], [false, undefined, 'pairing.full'])
  assert.equal((await desk.hear(directMessage('9'))).event, 'message.withheld')
  assert.equal(told.filter(({ message }) => /ignored/.test(message)).length, 1)
})

test('the owner reads in the own chat, once an hour, that strangers are ignored', async () => {
  const clock = new TestClock()
  const { desk, asked } = await openDesk(clock, { owners: ['1'] }, { perHour: 1 })
  const notices = async (sender: string) => {
    const before = asked.length
    await desk.hear(directMessage(sender))
    await settled()
    return asked.slice(before).map(({ body }) => {
      const { chat_id: chat, text } = JSON.parse(body ?? '') as { chat_id: string; text: string }
      assert.equal(chat, '1')
      return text
    })
  }
  assert.match((await notices('7')).join(), /^A stranger, 7, asks to be let in/)
  assert.deepEqual(await notices('8'), [
    'Strangers are ignored for now: 1 new requests in an hour. See: hardshell pairing list',
  ])
  assert.deepEqual(await notices('9'), [])
  clock.pass(60 * 60_000)
  assert.match((await notices('10')).join(), /^A stranger, 10, asks/)
  assert.match((await notices('11')).join(), /^Strangers are ignored/)
})

test('who is approved speaks at once, and who is revoked is silent at once', async () => {
  const clock = new TestClock()
  const { desk, list } = await openDesk(clock)
  const place = desk.place
  await desk.hear(stranger())
  await list.admit({ ...place, sender: '7', kind: 'paired', since: clock.now() })
  assert.equal((await desk.hear(stranger())).passes, true)
  await list.remove(place, '7')
  assert.equal((await desk.hear(stranger())).passes, false)
})

test('a paired sender speaks in direct chats and in no group', async () => {
  const clock = new TestClock()
  const { desk: base } = await openDesk(clock)
  const groups = new Map([['-1001', { requireMention: false }]])
  const policy = { ...base.settings.policy, groups }
  const { desk, list } = await openDesk(clock, { policy })
  await list.admit({ ...desk.place, sender: '7', kind: 'paired', since: clock.now() })
  const inGroup = { room: { id: '-1001', kind: 'group' } } as const
  assert.equal((await desk.hear(stranger())).passes, true)
  assert.equal((await desk.hear(stranger(inGroup))).passes, false)
  await list.admit({ ...desk.place, sender: '7', kind: 'listed', since: clock.now() })
  assert.equal((await desk.hear(stranger(inGroup))).passes, true)
})

test('an entry that has expired lets nobody in', async () => {
  const clock = new TestClock()
  const { desk, list } = await openDesk(clock)
  const until = clock.now() + 1000
  await list.admit({ ...desk.place, sender: '7', kind: 'listed', since: 0, expiresAt: until })
  assert.equal((await desk.hear(stranger())).passes, true)
  clock.pass(999)
  assert.equal((await desk.hear(stranger())).passes, true)
  clock.pass(1)
  assert.equal((await desk.hear(stranger())).passes, false)
})

test('who says too much is refused without a word, and says when it was', async () => {
  const { desk } = await openDesk(new TestClock(), { messagesPerMinute: 2 })
  const owner = (key: string) => desk.hear(directMessage('1', { dedupeKey: key }))
  assert.equal((await owner('a')).passes, true)
  assert.equal((await owner('b')).passes, true)
  const over = await owner('c')
  assert.deepEqual([over.passes, over.tell, over.code], [false, undefined, 'RATE_LIMITED'])
})

test('the same words as two events are one message to the budget, and share its fate', async () => {
  const { desk } = await openDesk(new TestClock(), { messagesPerMinute: 1 })
  const owner = (key: string) => desk.hear(directMessage('1', { dedupeKey: key }))
  assert.equal((await owner('same')).passes, true)
  assert.equal((await owner('same')).passes, true)
  assert.equal((await owner('other')).passes, false)
  assert.equal((await owner('other')).passes, false)
})

test('the owner is written to where a sender of the channel is named as owner', async () => {
  const { desk, asked, ends } = await openDesk(new TestClock(), { owners: ['1'] })
  await desk.hear(stranger())
  await settled()
  assert.equal(asked.length, 1)
  assert.equal(asked[0]?.url, 'https://api.telegram.org/bot1:abcdefgh/sendMessage')
  const body = JSON.parse(asked[0]?.body ?? '') as { chat_id: string; text: string }
  assert.equal(body.chat_id, '1')
  assert.match(body.text, /asks to be let in.*hardshell pairing approve telegram/)
  assert.deepEqual(
    ends.map(({ sent, reply }) => [sent, reply.to]),
    [[true, '1']],
  )
})

test('the name that a stranger chose reaches neither the owner nor the log', async () => {
  const { desk, asked, told } = await openDesk(new TestClock(), { owners: ['1'] })
  const sender = { id: '7', aliases: [], kind: 'user', handle: 'click-here-now' } as const
  await desk.hear(stranger({ sender }))
  await settled()
  assert.ok(!JSON.stringify([asked, told]).includes('click-here-now'))
})

test('a channel with one-use addresses says nothing to its owner and fails at nothing', async () => {
  const line = channelNamed('line')
  assert.ok(line !== undefined)
  const account = accountWith({ channelSecret: 's'.repeat(32), channelAccessToken: 't' })
  const { desk, asked } = await openDesk(new TestClock(), {
    channel: line,
    account,
    owners: ['U1'],
  })
  await desk.hear(stranger({ channel: 'line', replyTo: { token: 'once' } }))
  await settled()
  assert.equal(asked.length, 0)
})

test('while the list cannot be read nobody passes', async () => {
  const { desk, list, store } = await openDesk(new TestClock())
  await store.close()
  await list.refresh()
  await assert.rejects(desk.hear(directMessage('1')))
  assert.throws(() => desk.ignores(directMessage('1')))
})
