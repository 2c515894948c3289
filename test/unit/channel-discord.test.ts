/** Discord: who invoked, where, and who only seems to have written. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Account } from '../../src/channels/channel.ts'
import { discord, gatewayMessage, interactionMessage } from '../../src/channels/discord.ts'

const account: Account = {
  id: 'default',
  webhookPath: '/interactions',
  settings: {},
  bot: { ids: ['800000000000000001'], names: [] },
}
const owner = { id: '100000000000000001', username: 'olga' }
const base = { id: '900000000000000001', type: 2, channel_id: '700000000000000001' }
const dispatch = (t: string, d: object) => gatewayMessage({ op: 0, t, s: 1, d }, account)
const said = { id: '1', channel_id: '700000000000000001', author: owner, content: 'x' }

test('only the chat with the bot is direct; a chat between other people is a group', () => {
  const kind = (more: object) =>
    interactionMessage({ ...base, user: owner, ...more }, account).room.kind
  assert.equal(kind({ context: 1 }), 'dm')
  assert.equal(kind({ context: 2 }), 'group')
  assert.equal(kind({ context: 0 }), 'group')
  assert.equal(kind({}), 'group')
  assert.equal(kind({ context: 1, guild_id: '6', member: { user: owner } }), 'group')
})

test('in a guild the member is the invoker, and without one nobody is', () => {
  const sender = (more: object) => interactionMessage({ ...base, ...more }, account).sender
  assert.equal(sender({ guild_id: '6', user: owner }).id, null)
  assert.equal(sender({ member: { user: { id: '9' } }, user: owner }).id, '9')
  assert.equal(sender({ context: 1, user: { ...owner, bot: true } }).kind, 'bot')
})

test('a webhook that calls itself by the name and id of the owner is the webhook', () => {
  const message = dispatch('MESSAGE_CREATE', { ...said, webhook_id: '55', guild_id: '6' })
  assert.deepEqual(message?.sender, { id: '55', aliases: [], kind: 'webhook' })
})

test('a partial update names nobody, and a group chat is not a direct one', () => {
  const { author: _gone, ...partial } = said
  assert.equal(dispatch('MESSAGE_UPDATE', partial)?.sender.id, null)
  assert.equal(dispatch('MESSAGE_CREATE', { ...said, channel_type: 3 })?.room.kind, 'group')
  assert.equal(dispatch('MESSAGE_CREATE', { ...said, channel_type: 1 })?.room.kind, 'dm')
})

test('the page behind a link that Discord shows under a message is nobody’s edit', () => {
  const update = (more: object) =>
    dispatch('MESSAGE_UPDATE', { ...said, embeds: [{ description: 'run this' }], ...more })
      ?.withhold
  assert.match(update({ edited_timestamp: null }) ?? '', /a link was shown/)
  assert.match(update({}) ?? '', /a link was shown/)
  assert.equal(update({ edited_timestamp: '2025-01-01T00:00:01Z' }), undefined)
})

test('a guild without an id that can be read is no direct chat', () => {
  for (const guild_id of [{}, ['6'], '', true, 1.5]) {
    assert.equal(dispatch('MESSAGE_CREATE', { ...said, guild_id })?.class, 'unknown')
    const reaction = { channel_id: '7', user_id: owner.id, guild_id }
    assert.equal(dispatch('MESSAGE_REACTION_ADD', reaction)?.class, 'unknown')
  }
  assert.equal(dispatch('MESSAGE_CREATE', { ...said, guild_id: null })?.room.kind, 'dm')
})

test('everyone, roles and the text of a mention do not address the bot', () => {
  const inGuild = { ...said, guild_id: '6', content: '<@800000000000000001> @everyone' }
  const mentioned = (more: object) => dispatch('MESSAGE_CREATE', { ...inGuild, ...more })?.mentioned
  assert.equal(mentioned({ mention_everyone: true, mention_roles: ['800000000000000001'] }), false)
  assert.equal(mentioned({ mentions: [owner] }), false)
  assert.equal(mentioned({ mentions: [{ id: '800000000000000001' }] }), true)
  assert.equal(mentioned({ referenced_message: { author: { id: '800000000000000001' } } }), true)
})

test('the session itself carries nobody’s words; an event that we do not know is dropped', () => {
  assert.equal(dispatch('READY', {}), undefined)
  assert.equal(gatewayMessage({ op: 11 }, account), undefined)
  for (const type of ['PRESENCE_UPDATE', 'TYPING_START', 'constructor', 'GUILD_MEMBER_UPDATE']) {
    assert.equal(dispatch(type, said)?.class, 'unknown', type)
  }
})

test('an autocomplete leaks no choices and cannot carry words; a command is answered in a whisper', () => {
  const typing = interactionMessage({ ...base, type: 4, context: 1, user: owner }, account)
  assert.deepEqual(discord.invite(typing, 'x', account), {})
  assert.equal(discord.withheld([typing], account).body, '{"type":8,"data":{"choices":[]}}')
  const command = interactionMessage({ ...base, context: 1, user: owner }, account)
  const { sync } = discord.invite(command, '@everyone code', account)
  assert.deepEqual(JSON.parse(sync?.body ?? ''), {
    type: 4,
    data: { content: '@everyone code', flags: 64, allowed_mentions: { parse: [] } },
  })
})
