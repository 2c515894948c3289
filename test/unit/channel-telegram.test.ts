/** Telegram: no key of any update type lets a stranger through, whoever else the update names. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Account } from '../../src/channels/channel.ts'
import { polledUpdates, telegram, updateMessage, updateTypes } from '../../src/channels/telegram.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { PolicySettings } from '../../src/senders/policy.ts'

const bot = { id: 7_000_000_001, is_bot: true, first_name: 'Guard', username: 'example_guard_bot' }
const owner = { id: 111_111_111, is_bot: false, first_name: 'Olga', username: 'owner_ok' }
/** Names what the owner is called, but is somebody else. */
const stranger = { id: 999_000_111, is_bot: false, first_name: 'Olga', username: 'owner_ok' }
const served = { id: -1_002_000_000_001, type: 'supergroup', title: 'Ops' }

const account: Account = {
  id: 'default',
  webhookPath: '/telegram-webhook',
  settings: { webhookSecret: 'h5_TestSecret-0123456789abcdef' },
  bot: { ids: [String(bot.id)], names: [bot.username] },
}

const settings: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: new Set([String(owner.id)]),
  groupPolicy: 'allowlist',
  groups: new Map([[String(served.id), { requireMention: false }]]),
  gatewayAllowlist: new Set<string>(),
  gatewayGroups: new Set<string>(),
}
const known = { listed: new Set<string>(), paired: new Set<string>() }
const verdictOf = (update: unknown) => judgeMessage(updateMessage(update, account), settings, known)

/** Every key of `Update` in the Bot API as of May 2026. */
const documented = [
  'message',
  'edited_message',
  'channel_post',
  'edited_channel_post',
  'business_connection',
  'business_message',
  'edited_business_message',
  'deleted_business_messages',
  'guest_message',
  'stopped_message_generation',
  'message_reaction',
  'message_reaction_count',
  'inline_query',
  'chosen_inline_result',
  'callback_query',
  'shipping_query',
  'pre_checkout_query',
  'purchased_paid_media',
  'poll',
  'poll_answer',
  'my_chat_member',
  'chat_member',
  'chat_join_request',
  'chat_boost',
  'removed_chat_boost',
  'managed_bot',
  'subscription',
]

test('every documented update type is read, and no other', () => {
  assert.deepEqual([...updateTypes].sort(), [...documented].sort())
})

/** Whom an update can name as the one who did it: strangers, strangers behind chats, nobody, and malformed ones. */
const anonymousAdmin = { id: 1_087_968_824, is_bot: true, first_name: 'Group' }
const channelBot = { id: 136_817_688, is_bot: true, first_name: 'Channel' }
const linked = { id: 777_000, is_bot: false, first_name: 'Telegram' }
const authors: readonly unknown[] = [
  stranger,
  { ...stranger, is_bot: true },
  anonymousAdmin,
  channelBot,
  linked,
  { ...owner, id: String(stranger.id) },
  { ...owner, id: [owner.id] },
  { ...owner, id: { id: owner.id } },
  { ...owner, id: owner.id + 0.5 },
  { username: owner.username },
  null,
  undefined,
]
const chats: readonly unknown[] = [
  { id: stranger.id, type: 'private' },
  // The owner's own chat: a stranger cannot write there, and still the author decides.
  { id: owner.id, type: 'private', username: owner.username },
  served,
  { ...served, id: -1_002_000_000_099 },
  { id: served.id, type: 'channel' },
  { id: served.id },
  { type: 'private' },
  null,
  undefined,
]
const chatsBehind: readonly unknown[] = [
  undefined,
  { id: served.id, type: 'supergroup' },
  { id: -1_003_000_000_001, type: 'channel' },
  { id: owner.id, type: 'private' },
]

/** Places where an update may name the owner without the owner having done anything. */
const decoy = fc.record(
  {
    reply_to_message: fc.constant({ message_id: 1, from: owner, chat: served, date: 1 }),
    forward_origin: fc.constant({ type: 'user', sender_user: owner, date: 1 }),
    forward_from: fc.constant(owner),
    via_bot: fc.constant(owner),
    sender_business_bot: fc.constant(owner),
    guest_bot_caller_user: fc.constant(owner),
    receiver_user: fc.constant(owner),
    new_chat_members: fc.constant([owner]),
    left_chat_member: fc.constant(owner),
    contact: fc.constant({ user_id: owner.id, phone_number: '1', first_name: 'O' }),
    author_signature: fc.constant(owner.username),
    sender_tag: fc.constant(String(owner.id)),
    entities: fc.constant([
      { type: 'text_mention', offset: 0, length: 4, user: owner },
      { type: 'mention', offset: 0, length: 18 },
      { type: 'bot_command', offset: 0, length: 18 },
    ]),
    text: fc.constantFrom('@example_guard_bot go', '/start@example_guard_bot', String(owner.id)),
    user_id: fc.constant(owner.id),
    from_user: fc.constant(owner),
    sender_id: fc.constant(owner.id),
    guest_query_id: fc.constant('g'),
    business_connection_id: fc.constant('b'),
  },
  { requiredKeys: [] },
)

/** The one who acts, under the name that each update type gives it; the owner stands in every other place. */
const actorKey: Readonly<Record<string, string>> = {
  business_connection: 'user',
  managed_bot: 'user',
  subscription: 'user',
  message_reaction: 'user',
  poll_answer: 'user',
}

interface Parts {
  readonly who: unknown
  readonly where: unknown
  readonly behind: unknown
  readonly voter: unknown
  readonly rest: object
}

const bodyOf = (type: string, { who, where, behind, voter, rest }: Parts) => ({
  // Decoys first: the real author below has the last word on the keys that decide.
  ...rest,
  id: '4382',
  date: 1_764_000_000,
  chat: type === 'stopped_message_generation' ? notOwner(where) : where,
  user_chat_id: owner.id,
  bot: owner,
  message: { message_id: 2, from: owner, chat: where, sender_chat: owner },
  boost: { source: { source: 'premium', user: owner } },
  old_chat_member: { user: owner, status: 'left' },
  new_chat_member: { user: owner, status: 'member' },
  [actorKey[type] === undefined ? 'user' : 'from']: owner,
  [actorKey[type] ?? 'from']: who,
  ...(behind !== undefined && { sender_chat: behind }),
  ...(voter !== undefined && { voter_chat: voter, actor_chat: voter }),
})

const body = (type: string) =>
  fc
    .record({
      who: fc.constantFrom(...authors),
      where: fc.constantFrom(...chats),
      behind: fc.constantFrom(...chatsBehind),
      voter: fc.constantFrom(...chatsBehind),
      rest: decoy,
    })
    .map((parts) => bodyOf(type, parts))

/** There the chat is the person: only a private chat of a stranger is a stranger. */
const notOwner = (where: unknown) =>
  typeof where === 'object' && where !== null && 'id' in where && where.id === owner.id
    ? null
    : where

test('a stranger in any position of any update type, beside the owner in every other, never speaks', () => {
  for (const type of [...documented, 'hologram_message', 'constructor', 'toString']) {
    fc.assert(
      fc.property(body(type), (inner) => {
        const found = verdictOf({ update_id: 5, [type]: inner })
        assert.notEqual(found.verdict, 'speak', JSON.stringify({ [type]: inner }))
        if (found.verdict === 'pair') assert.ok(['message'].includes(type), type)
      }),
      { numRuns: 150 },
    )
  }
})

/** Each way to take one of each. */
const product = <A, B>(some: readonly A[], others: readonly B[]) =>
  some.flatMap((a) => others.map((b) => [a, b] as const))

test('no author in any chat, behind any other chat, speaks by any update type', () => {
  const decoys = [
    {},
    { via_bot: owner, forward_from: owner, user_id: owner.id, sender_id: owner.id },
    { guest_query_id: 'g' },
    { business_connection_id: 'b' },
  ]
  const places = product(product(authors, chats), product(chatsBehind, chatsBehind))
  const pairing = new Set<string>()
  for (const type of [...documented, 'hologram_message', 'constructor']) {
    for (const [[[who, where], [behind, voter]], rest] of product(places, decoys)) {
      const inner = bodyOf(type, { who, where, behind, voter, rest })
      const { verdict } = verdictOf({ update_id: 5, [type]: inner })
      if (verdict === 'speak') assert.fail(JSON.stringify({ [type]: inner }))
      if (verdict === 'pair') pairing.add(type)
    }
  }
  assert.deepEqual([...pairing], ['message'])
})

test('only a message in a private chat asks a stranger to pair, whatever type the update has', () => {
  const direct = { id: stranger.id, type: 'private' }
  const said = { message_id: 1, id: '1', from: stranger, user: stranger, chat: direct, date: 1 }
  const asked = [...documented, 'hologram_message'].filter(
    (type) => verdictOf({ update_id: 5, [type]: { ...said, text: 'x' } }).verdict === 'pair',
  )
  assert.deepEqual(asked, ['message'])
})

test('two update types in one update, in any order, never speak', () => {
  const said = {
    message_id: 1,
    from: owner,
    chat: { id: owner.id, type: 'private' },
    date: 1,
    text: 'x',
  }
  for (const one of documented) {
    for (const two of documented) {
      if (one === two) continue
      assert.equal(verdictOf({ update_id: 5, [one]: said, [two]: said }).verdict, 'ignore')
    }
  }
})

test('the owner is heard by each type that a person can send from a room or chat they may use', () => {
  const direct = { id: owner.id, type: 'private' }
  const said = { message_id: 1, from: owner, chat: direct, date: 1, text: 'x' }
  const heard: Record<string, unknown> = {
    message: said,
    edited_message: said,
    callback_query: { id: '1', from: owner, message: { from: bot, chat: served } },
    inline_query: { id: '1', from: owner, query: 'x' },
    chosen_inline_result: { result_id: '1', from: owner, query: 'x' },
    shipping_query: { id: '1', from: owner },
    pre_checkout_query: { id: '1', from: owner },
    purchased_paid_media: { from: owner, paid_media_payload: 'x' },
    message_reaction: { chat: served, user: owner, message_id: 1 },
    poll_answer: { poll_id: '1', user: owner, option_ids: [] },
    my_chat_member: { chat: served, from: owner, date: 1 },
    chat_member: { chat: served, from: owner, date: 1 },
    chat_join_request: { chat: served, from: owner, date: 1 },
    business_connection: { id: 'b', user: owner, user_chat_id: owner.id },
    managed_bot: { user: owner, bot },
    subscription: { user: owner },
    stopped_message_generation: { chat: direct, draft_id: 1 },
    guest_message: { ...said, chat: served, guest_query_id: 'g' },
  }
  const channel = { id: -1_003_000_000_001, type: 'channel' }
  const post = { message_id: 1, chat: channel, sender_chat: channel, date: 1, text: 'x' }
  // What names nobody, or is no chat with the agent, is not for the owner either.
  const silent: Record<string, unknown> = {
    channel_post: post,
    edited_channel_post: post,
    business_message: said,
    edited_business_message: said,
    deleted_business_messages: { business_connection_id: 'b', chat: direct, message_ids: [1] },
    message_reaction_count: { chat: served, message_id: 1, reactions: [] },
    poll: { id: 'p', question: 'q', options: [] },
    chat_boost: { chat: served, boost: { source: { user: owner } } },
    removed_chat_boost: { chat: served, source: { user: owner } },
  }
  assert.deepEqual([...Object.keys(heard), ...Object.keys(silent)].sort(), [...documented].sort())
  for (const [type, inner] of Object.entries(heard)) {
    const found = verdictOf({ update_id: 5, [type]: inner })
    assert.equal(found.verdict, 'speak', `${type}: ${found.because}`)
  }
  for (const [type, inner] of Object.entries(silent)) {
    assert.equal(verdictOf({ update_id: 5, [type]: inner }).verdict, 'ignore', type)
  }
})

const inRoom = (parts: object) => ({
  update_id: 5,
  message: { message_id: 1, from: owner, chat: served, date: 1, ...parts },
})

const mentioned = (parts: object) => updateMessage(inRoom(parts), account).mentioned

test('only an entity, a command with the name, or a reply to the bot addresses it', () => {
  const at = { type: 'mention', offset: 0, length: 18 }
  assert.equal(mentioned({ text: '@example_guard_bot x', entities: [at] }), true)
  // Offsets count UTF-16 units: an emoji is two.
  assert.equal(mentioned({ text: '😀 @example_guard_bot', entities: [{ ...at, offset: 3 }] }), true)
  assert.equal(
    mentioned({ text: '😀 @example_guard_bot', entities: [{ ...at, offset: 2 }] }),
    false,
  )
  assert.equal(mentioned({ text: '@example_guard_bot x' }), false)
  assert.equal(
    mentioned({ text: '@example_guard_bot', entities: [{ ...at, type: 'code' }] }),
    false,
  )
  assert.equal(mentioned({ text: '@example_guard_bot2', entities: [{ ...at, length: 19 }] }), false)
  assert.equal(
    mentioned({
      text: 'x @example_guard_bot',
      entities: [{ ...at, type: 'bot_command', offset: 2 }],
    }),
    false,
  )
  assert.equal(
    mentioned({
      text: '/run@example_guard_bot',
      entities: [{ ...at, type: 'bot_command', length: 22 }],
    }),
    true,
  )
  assert.equal(mentioned({ text: 'x', caption_entities: [at] }), false)
  assert.equal(mentioned({ reply_to_message: { from: bot } }), true)
  assert.equal(mentioned({ reply_to_message: { from: owner } }), false)
  // In a topic that the bot opened everything stands under its notice.
  const opened = { from: bot, forum_topic_created: { name: 'x' } }
  assert.equal(mentioned({ message_thread_id: 9, reply_to_message: opened }), false)
  assert.equal(mentioned({ text: 'x', entities: [{ type: 'text_mention', user: owner }] }), false)
})

test('a letter that only looks like one of the name, or becomes one in lower case, is no mention', () => {
  const named = { ...account, bot: { ids: ['7'], names: ['hacker_bot'] } }
  const addressed = (text: string, type: string) =>
    updateMessage(inRoom({ text, entities: [{ type, offset: 0, length: text.length }] }), named)
      .mentioned
  assert.equal(addressed('@Hacker_BOT', 'mention'), true)
  assert.equal(addressed('/run@Hacker_BOT', 'bot_command'), true)
  // The Kelvin sign, a Cyrillic letter, a full-width letter, a space that has no width.
  for (const letter of ['\u212a', '\u043a', '\uff4b', 'k\u200b']) {
    assert.equal(addressed(`@hac${letter}er_bot`, 'mention'), false, letter)
    assert.equal(addressed(`/run@hac${letter}er_bot`, 'bot_command'), false, letter)
  }
})

test('the ids that Telegram lends to chats name nobody, even where a list has them', () => {
  for (const from of [anonymousAdmin, channelBot, linked]) {
    const update = inRoom({ from, text: 'x' })
    assert.equal(updateMessage(update, account).sender.kind, 'service')
    const listed = { ...settings, allowFrom: new Set([String(from.id)]) }
    assert.equal(judgeMessage(updateMessage(update, account), listed, known).verdict, 'ignore')
  }
})

test('a topic of a forum is part of its group', () => {
  const { room } = updateMessage(inRoom({ message_thread_id: 9, text: 'x' }), account)
  assert.deepEqual(room, { id: String(served.id), kind: 'group', threadId: '9' })
})

test('a message that a private chat only seems to hold is withheld from everybody', () => {
  const direct = { id: owner.id, type: 'private' }
  for (const foreign of [{ guest_query_id: 'g' }, { business_connection_id: 'b' }]) {
    assert.equal(verdictOf(inRoom({ chat: direct, text: 'x', ...foreign })).verdict, 'ignore')
  }
})

test('a stranger is answered in the response, a button without a room by its own answer', () => {
  const direct = { id: stranger.id, type: 'private' }
  const message = updateMessage(inRoom({ from: stranger, chat: direct, text: 'x' }), account)
  const out = telegram.invite(message, 'Your code is ABCD2345', account)
  assert.deepEqual(JSON.parse(out.sync?.body ?? ''), {
    method: 'sendMessage',
    chat_id: String(stranger.id),
    text: 'Your code is ABCD2345',
  })
  assert.equal(out.api?.url, 'https://api.telegram.org/bot{credential}/sendMessage')
  const pressed = updateMessage(
    { update_id: 6, callback_query: { id: '77', from: stranger } },
    account,
  )
  assert.match(telegram.withheld([pressed], account).body, /"answerCallbackQuery"/)
  assert.equal(telegram.withheld([message], account).body, '')
})

test('an answer of getUpdates is thinned without touching the updates that stay', () => {
  const update = (n: number, text: string) => ({ ...inRoom({ text }), update_id: n })
  const big =
    '{"update_id":3,"message":{"message_id":1,"date":1,"from":{"id":1},"chat":{"id":1,"type":"private"},"x":12345678901234567890}}'
  const text = `{"ok":true,"result":[${JSON.stringify(update(1, 'a'))},${JSON.stringify(update(2, 'b'))},${big}]}`
  const polled = polledUpdates(Buffer.from(text), account)
  assert.ok(polled.ok)
  assert.deepEqual(polled.value.updateIds, [1, 2, 3])
  assert.equal(polled.value.without(new Set([0, 1])), `{"ok":true,"result":[${big}]}`)
  assert.equal(polled.value.without(new Set([0, 1, 2])), '{"ok":true,"result":[]}')
})

test('an answer of getUpdates that cannot be filtered is not read', () => {
  for (const text of [
    '{"ok":false,"error_code":409}',
    '{"ok":true,"result":{}}',
    '{"ok":true,"result":[{"message":{}}]}',
    '{"ok":true,"result":[{"update_id":"1"}]}',
    '{"ok":true,"ok":true,"result":[]}',
    'x',
  ]) {
    assert.equal(polledUpdates(Buffer.from(text), account).ok, false, text)
  }
})
