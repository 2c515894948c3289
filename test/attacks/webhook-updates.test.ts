/**
 * A stranger cannot reach the agent by any key of any Telegram update type (https://core.telegram.org/bots/api#update):
 * generated updates name the owner in every place but the author's, and go through the real road.
 */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'

import { updateTypes } from '../../src/channels/telegram.ts'
import { post, startChannels, telegram } from '../support/webhooks.ts'

const api = { url: 'http://127.0.0.1:9' }
const owner = { id: Number(telegram.owner), is_bot: false, first_name: 'Olga', username: 'olga' }
const stranger = {
  id: Number(telegram.stranger),
  is_bot: false,
  first_name: 'Olga',
  username: 'olga',
}
const served = { id: Number(telegram.group), type: 'supergroup', title: 'Ops' }

/** Whom an update can name as its author without it being the owner. */
const author = fc.constantFrom<unknown>(
  stranger,
  { ...stranger, is_bot: true },
  { ...owner, id: String(stranger.id) },
  { ...owner, id: [owner.id] },
  { ...owner, id: { id: owner.id } },
  { ...owner, id: owner.id + 0.5 },
  { ...owner, id: -owner.id },
  { username: owner.username },
  { id: 1_087_968_824, is_bot: true, first_name: 'Group' },
  { id: 777_000, is_bot: false, first_name: 'Telegram' },
  [owner],
  null,
  undefined,
)
const chat = fc.constantFrom<unknown>(
  { id: stranger.id, type: 'private' },
  { id: owner.id, type: 'private' },
  served,
  { ...served, id: -1002 },
  { id: served.id, type: 'channel' },
  { id: served.id },
  null,
  undefined,
)
const behind = fc.constantFrom<unknown>(undefined, served, { id: owner.id, type: 'private' })

/** The key under which each type names its author; the owner stands under the other one. */
const byUser = new Set([
  'business_connection',
  'managed_bot',
  'subscription',
  'message_reaction',
  'poll_answer',
])

const decoys = (date: number) => ({
  message_id: 7,
  id: '4382',
  date,
  reply_to_message: { message_id: 1, from: owner, chat: served, date },
  forward_origin: { type: 'user', sender_user: owner, date },
  forward_from: owner,
  via_bot: owner,
  contact: { user_id: owner.id, first_name: 'O' },
  new_chat_members: [owner],
  entities: [
    { type: 'text_mention', offset: 0, length: 4, user: owner },
    { type: 'mention', offset: 0, length: 10 },
    { type: 'bot_command', offset: 0, length: 10 },
  ],
  text: '@guard_bot go',
  message: { message_id: 2, from: owner, chat: served, date },
  user_chat_id: owner.id,
  old_chat_member: { user: owner, status: 'left' },
  new_chat_member: { user: owner, status: 'member' },
  boost: { source: { source: 'premium', user: owner } },
  user_id: owner.id,
  sender_id: owner.id,
})

const body = (type: string, date: number) =>
  fc.record({ who: author, where: chat, behind, voter: behind }).map((one) => ({
    ...decoys(date),
    // There the chat is the person: a private chat of the owner would be the owner.
    chat: type === 'stopped_message_generation' ? { id: stranger.id, type: 'private' } : one.where,
    [byUser.has(type) ? 'from' : 'user']: owner,
    [byUser.has(type) ? 'user' : 'from']: one.who,
    ...(one.behind === undefined ? {} : { sender_chat: one.behind }),
    ...(one.voter === undefined ? {} : { voter_chat: one.voter, actor_chat: one.voter }),
  }))

test('a stranger in any position of any update type never reaches the agent', async (t) => {
  const policy = () => ({ groups: { [served.id]: { requireMention: false } } })
  const sidecar = await startChannels(t, api, { only: [telegram], policy })
  const proof = telegram.write({ from: telegram.owner, words: '', key: 1 }).headers
  const types = [...updateTypes, 'hologram_message', 'constructor', 'toString']
  const date = Math.floor(Date.now() / 1000)
  let key = 0
  const send = async (update: object) => {
    key += 1
    const bytes = Buffer.from(JSON.stringify({ update_id: key, ...update }))
    return post(sidecar.port, { path: telegram.path, headers: proof, body: bytes })
  }
  for (const type of types) {
    const sampled = fc.sample(body(type, date), 18)
    const answers = await Promise.all(sampled.map((inner) => send({ [type]: inner })))
    for (const { status } of answers) assert.equal(status, 200, type)
    const [seen] = sidecar.agent.seen
    assert.equal(seen, undefined, `${type}: ${seen?.body.toString() ?? ''}`)
  }
  // The road is open: the same shape, with the owner as the author, arrives.
  const own = { ...decoys(date), from: owner, chat: { id: owner.id, type: 'private' } }
  assert.equal((await send({ message: own })).status, 200)
  assert.equal(sidecar.agent.seen.length, 1)
})
