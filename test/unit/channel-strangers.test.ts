/** Of everything that a service can send, only a stranger's words in a direct chat with the bot ask to be let in. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'

import type { Account, Channel, Message } from '../../src/channels/channel.ts'
import { gatewayMessage, interactionMessage } from '../../src/channels/discord.ts'
import { line } from '../../src/channels/line.ts'
import { instagram, messenger, whatsapp } from '../../src/channels/meta.ts'
import { streamMessage } from '../../src/channels/signal.ts'
import { eventMessage, slack } from '../../src/channels/slack.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { PolicySettings } from '../../src/senders/policy.ts'

const nobody = { has: () => false }
const pairing: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: nobody,
  groupPolicy: 'allowlist',
  groups: new Map([['C0SERVED01', { requireMention: false }]]),
  gatewayAllowlist: nobody,
  gatewayGroups: nobody,
}
const unknowns = { listed: nobody, paired: nobody }
const account: Account = {
  id: 'default',
  webhookPath: '/hook',
  settings: {},
  bot: { ids: ['U0BOT00001', '800000000000000001', '+15550000000'], names: [] },
}
const form = 'application/x-www-form-urlencoded'
const read = (channel: Channel, body: string, type = 'application/json'): readonly Message[] =>
  channel.messages(
    {
      method: 'POST',
      path: '/hook',
      query: '',
      headers: ['Content-Type', type],
      body: Buffer.from(body),
    },
    account,
  )
const verdictOf = (message: Message) => judgeMessage(message, pairing, unknowns).verdict

/** The names of those that end in a verdict; a message that nobody gets is in no list. */
function ending(
  verdict: 'pair' | 'speak',
  all: readonly (readonly [name: string, messages: readonly Message[]])[],
): readonly string[] {
  return all.flatMap(([name, messages]) =>
    messages.some((one) => verdictOf(one) === verdict) ? [name] : [],
  )
}

/** Subtypes of a message that Slack documents. */
const subtypes = [
  'assistant_app_thread bot_add bot_disable bot_enable bot_message bot_remove channel_archive',
  'channel_canvas_updated channel_convert_to_private channel_join channel_leave channel_name',
  'channel_posting_permissions channel_purpose channel_topic channel_unarchive document_mention',
  'ekm_access_denied file_comment file_mention file_share group_archive group_join group_leave',
  'group_name group_purpose group_topic group_unarchive huddle_thread me_message message_changed',
  'message_deleted message_replied pinned_item reminder_add reply_broadcast slackbot_response',
  'thread_broadcast tombstone unpinned_item',
].flatMap((some) => some.split(' '))

test('Slack: a stranger asks with words, and with no other kind of message', () => {
  const inChat = (subtype: string | undefined, user: string) => {
    const said = { user, text: 'x', ts: '1764000000.000100', edited: { user, ts: '2.1' } }
    const event = {
      ...said,
      type: 'message',
      subtype,
      channel: 'D0STRANGE1',
      channel_type: 'im',
      message: said,
      previous_message: { user },
    }
    const payload = { type: 'event_callback', event_id: 'Ev1', team_id: 'T0TEAM', event }
    return [eventMessage(payload, account)]
  }
  const all = [...subtypes, undefined].map(
    (subtype) => [subtype ?? 'none', inChat(subtype, 'U0STRANGE1')] as const,
  )
  assert.deepEqual(ending('pair', all), [
    'file_share',
    'me_message',
    'reply_broadcast',
    'thread_broadcast',
    'none',
  ])
  assert.deepEqual(ending('speak', all), [])
  // Slack's own bot writes as a member, in direct chats too.
  const own = [...subtypes, undefined].map(
    (subtype) => [subtype ?? 'none', inChat(subtype, 'USLACKBOT')] as const,
  )
  assert.deepEqual(ending('pair', own), [])
})

/** Event types of Slack that name somebody. */
const slackEvents = [
  'app_home_opened app_mention app_uninstalled assistant_thread_context_changed',
  'assistant_thread_started channel_created entity_details_requested file_created file_shared',
  'function_executed im_created im_open link_shared member_joined_channel member_left_channel',
  'message_metadata_posted pin_added reaction_added reaction_removed star_added team_join',
  'tokens_revoked user_change user_huddle_changed workflow_step_execute',
].flatMap((some) => some.split(' '))

test('Slack: opening, reacting, sharing and pressing ask for nothing', () => {
  const user = 'U0STRANGE1'
  const channel = 'D0STRANGE1'
  const events = slackEvents.map((type) => {
    const thread = { user_id: user, channel_id: channel }
    const event = {
      ...{ type, user, channel, user_id: user, channel_id: channel },
      ...{ item: { channel }, assistant_thread: thread, inputs: { user_id: user } },
    }
    const payload = { type: 'event_callback', event_id: 'Ev1', team_id: 'T0TEAM', event }
    return [type, [eventMessage(payload, account)]] as const
  })
  assert.deepEqual(ending('pair', events), [])
  assert.deepEqual(ending('speak', events), ['app_uninstalled', 'tokens_revoked'])
  const interactions = [
    'block_actions block_suggestion dialog_cancellation dialog_submission dialog_suggestion',
    'interactive_message message_action shortcut view_closed view_submission workflow_step_edit',
  ].flatMap((some) => some.split(' '))
  const pressed = interactions.map((type) => {
    const payload = { type, user: { id: user }, channel: { id: channel }, trigger_id: '1' }
    const body = `payload=${encodeURIComponent(JSON.stringify(payload))}`
    return [type, read(slack, body, form)] as const
  })
  assert.deepEqual(ending('pair', pressed), [])
  assert.deepEqual(ending('speak', pressed), [])
})

test('Discord: a stranger asks with a command or words in the chat with the bot', () => {
  const user = { id: '200000000000000002' }
  const interactions = [0, 1, 2, 3, 4, 5, 6].flatMap((type) =>
    [undefined, 0, 1, 2].flatMap((context) =>
      [undefined, '6'].map((guild_id) => {
        const who = guild_id === undefined ? { user } : { member: { user } }
        const body = { id: '9', type, context, guild_id, channel_id: '7', ...who }
        const name = `${type} in ${context} of ${guild_id ?? 'none'}`
        return [name, [interactionMessage(body, account)]] as const
      }),
    ),
  )
  assert.deepEqual(ending('pair', interactions), ['2 in 1 of none'])
  assert.deepEqual(ending('speak', interactions), [])
  const types = Array.from({ length: 60 }, (_, type) => type)
  const dispatched = (t: string, more: object) => [
    gatewayMessage({ op: 0, t, d: { id: '9', channel_id: '7', author: user, ...more } }, account) ??
      assert.fail(t),
  ]
  const made = types.map(
    (type) => [type.toString(), dispatched('MESSAGE_CREATE', { type })] as const,
  )
  assert.deepEqual(ending('pair', made), ['0', '19'])
  const others = types.flatMap((type) => [
    [`edit ${type}`, dispatched('MESSAGE_UPDATE', { type, edited_timestamp: '2025' })] as const,
    [
      `system ${type}`,
      dispatched('MESSAGE_CREATE', { type, author: { ...user, system: true } }),
    ] as const,
    [
      `bot ${type}`,
      dispatched('MESSAGE_CREATE', { type, author: { ...user, bot: true } }),
    ] as const,
  ])
  assert.deepEqual(ending('pair', others), [])
  assert.deepEqual(ending('speak', [...made, ...others]), [])
})

test('WhatsApp: a stranger asks with what a person writes or sends, outside of groups', () => {
  const types = [
    'audio button contacts document edit ephemeral group hsm image interactive location order pin',
    'poll reaction referral request_welcome revoke sticker system text unknown unsupported video voice',
  ].flatMap((some) => some.split(' '))
  const sent = (type: string, more: object) => {
    const messages = [{ from: '15559990002', id: 'w1', timestamp: '1764000000', type, ...more }]
    const value = { metadata: { phone_number_id: '1' }, messages }
    const entry = [{ id: '1', changes: [{ field: 'messages', value }] }]
    return read(whatsapp, JSON.stringify({ object: 'whatsapp_business_account', entry }))
  }
  const alone = types.map((type) => [type, sent(type, {})] as const)
  const asking = 'audio contacts document image location sticker text video voice'
  assert.deepEqual(ending('pair', alone), asking.split(' '))
  const grouped = types.map((type) => [type, sent(type, { group_id: 'g1' })] as const)
  assert.deepEqual(ending('pair', grouped), [])
  assert.deepEqual(ending('speak', [...alone, ...grouped]), [])
})

test('Messenger and Instagram: a stranger asks with a message, unless it is taken back or overheard', () => {
  const kinds = [
    'account_linking app_roles call delivery game_play message message_edit messaging_feedback optin',
    'pass_thread_control payment policy_enforcement postback reaction read referral',
    'request_thread_control take_thread_control',
  ].flatMap((some) => some.split(' '))
  const flags = ['none', 'is_echo', 'is_self', 'is_deleted', 'quick_reply']
  for (const [channel, object] of [
    [messenger, 'page'],
    [instagram, 'instagram'],
  ] as const) {
    const all = ['messaging', 'standby', 'changes'].flatMap((list) =>
      kinds.flatMap((kind) =>
        flags.map((flag) => {
          const event = {
            ...{ sender: { id: '5551' }, recipient: { id: '1001' }, timestamp: 1_764_000_000_000 },
            [kind]: { mid: 'm1', ...(flag === 'none' ? {} : { [flag]: true }) },
          }
          const body = JSON.stringify({ object, entry: [{ id: '1001', [list]: [event] }] })
          return [`${list} ${kind} ${flag}`, read(channel, body)] as const
        }),
      ),
    )
    assert.deepEqual(ending('pair', all), ['messaging message none'])
    const receipts = ending('speak', all)
    assert.ok(receipts.length > 0)
    for (const name of receipts) assert.match(name, /^(?:messaging|standby) (?:delivery|read) /)
  }
})

test('LINE: a stranger asks with a message in a chat that is the bot’s', () => {
  const types = [
    'accountLink activated beacon botResumed botSuspended deactivated delivery follow join leave',
    'memberJoined memberLeft membership message module postback things unfollow unsend videoPlayComplete',
  ].flatMap((some) => some.split(' '))
  const all = types.flatMap((type) =>
    ['user', 'group', 'room', 'none'].flatMap((where) =>
      ['active', 'standby'].map((mode) => {
        const ids = { groupId: `C${'c'.repeat(32)}`, roomId: `R${'c'.repeat(32)}` }
        const source = { type: where, userId: `U${'9'.repeat(32)}`, ...ids }
        const event = { type, mode, source, webhookEventId: '1', message: { type: 'text' } }
        return [
          `${type} ${where} ${mode}`,
          read(line, JSON.stringify({ events: [event] })),
        ] as const
      }),
    ),
  )
  assert.deepEqual(ending('pair', all), ['message user active'])
  assert.deepEqual(ending('speak', all), [])
})

test('Signal: a stranger asks with words, a file, a sticker, a contact or a poll', () => {
  const parts = {
    message: 'x',
    attachments: [{ id: 'a' }],
    sticker: { packId: 'p' },
    contacts: [{ name: {} }],
    pollCreate: { question: 'q' },
    reaction: { emoji: 'x' },
    remoteDelete: { timestamp: 1 },
    isExpirationUpdate: true,
    payment: { note: 'n' },
    groupCallUpdate: {},
    pollVote: { options: [0] },
    pollTerminate: {},
    quote: { id: 1 },
    storyContext: {},
    previews: [{}],
  }
  const heard = (of: string, data: object, where: object = {}) => {
    const envelope = {
      sourceUuid: '99999999-9999-4999-8999-999999999999',
      timestamp: 1_764_000_000_000,
      [of]: { ...data, ...where },
    }
    const event = JSON.stringify({ account: '+15550000000', envelope })
    return [streamMessage(event, account)]
  }
  const all = Object.entries(parts)
  const said = all.map(([key, value]) => [key, heard('dataMessage', { [key]: value })] as const)
  const asking = ['message', 'attachments', 'sticker', 'contacts', 'pollCreate']
  assert.deepEqual(ending('pair', said), asking)
  const elsewhere = all.flatMap(([key, value]) => {
    const data = { [key]: value }
    return [
      [`group ${key}`, heard('dataMessage', data, { groupInfo: { groupId: 'R3JvdXA=' } })] as const,
      [`edit ${key}`, heard('editMessage', { dataMessage: data })] as const,
      [`sync ${key}`, heard('syncMessage', { sentMessage: data })] as const,
      [`call ${key}`, heard('callMessage', data)] as const,
      [`story ${key}`, heard('storyMessage', data)] as const,
    ]
  })
  assert.deepEqual(ending('pair', elsewhere), [])
  assert.deepEqual(ending('speak', [...said, ...elsewhere]), [])
})
