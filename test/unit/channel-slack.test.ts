/** Slack: whose an event is, what Slack waits for, and what is never forwarded. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import type { Account } from '../../src/channels/channel.ts'
import { eventMessage, slack } from '../../src/channels/slack.ts'

const json = 'application/json'
const form = 'application/x-www-form-urlencoded'

const accountOf = (settings: Record<string, string>): Account => ({
  id: 'default',
  webhookPath: '/hook',
  settings,
  bot: { ids: ['bot-1'], names: [] },
})

const post = (type: string, body: string, headers: Record<string, string> = {}, query = '') => ({
  method: 'POST',
  path: '/hook',
  query,
  headers: ['Content-Type', type, ...Object.entries(headers).flat()],
  body: Buffer.from(body),
})

test('an ssl_check is answered whatever else it holds, however it is spelled and signed', () => {
  for (const body of [
    'ssl_check=1',
    'ssl_check=1&payload=%7B%7D',
    'payload=x&ssl%5Fcheck=1',
    'ssl_check',
  ]) {
    for (const headers of [{}, { 'X-Slack-Signature': 'v0=00' }]) {
      assert.deepEqual(slack.probe?.(post(form, body, headers), accountOf({})), {
        status: 200,
        headers: [],
        body: '',
      })
    }
  }
  for (const body of ['text=ssl_check%3D1', 'xssl_check=1', 'text=a%26ssl_check%3D1']) {
    assert.equal(slack.probe?.(post(form, body), accountOf({})), undefined, body)
  }
})

const slackEvent = (event: object, team_id = 'T0TEAM0001') =>
  slack.messages(
    post(json, JSON.stringify({ type: 'event_callback', event_id: 'Ev1', team_id, event })),
    {
      ...accountOf({}),
      bot: { ids: ['U0BOT00001', 'B0BOT00001'], names: [] },
    },
  )[0]

const slackSaid = {
  type: 'message',
  channel: 'C0ALLOWED1',
  channel_type: 'channel',
  user: 'U0OWNER001',
  text: 'x',
  ts: '1764000000.000100',
}

test('a Slack user of another workspace is named with it', () => {
  assert.equal(slackEvent(slackSaid)?.sender.id, 'U0OWNER001')
  assert.equal(slackEvent({ ...slackSaid, user_team: 'T0TEAM0001' })?.sender.id, 'U0OWNER001')
  assert.equal(
    slackEvent({ ...slackSaid, user_team: 'T0OTHER001' })?.sender.id,
    'T0OTHER001:U0OWNER001',
  )
  assert.equal(
    slackEvent({ ...slackSaid, source_team: 'T0OTHER001' })?.sender.id,
    'T0OTHER001:U0OWNER001',
  )
})

test('one sign of another workspace is enough, and the workspace is where the app is installed', () => {
  for (const teams of [
    { user_team: 'T0TEAM0001', source_team: 'T0OTHER001' },
    { user_team: 'T0OTHER001', source_team: 'T0TEAM0001' },
  ]) {
    assert.equal(slackEvent({ ...slackSaid, ...teams })?.sender.id, 'T0OTHER001:U0OWNER001')
  }
  // In a shared channel the event may carry the other workspace as its own.
  const payload = {
    type: 'event_callback',
    event_id: 'Ev1',
    team_id: 'T0OTHER001',
    authorizations: [{ team_id: 'T0TEAM0001', user_id: 'U0BOT00001' }],
    event: { ...slackSaid, user_team: 'T0OTHER001', source_team: 'T0OTHER001' },
  }
  assert.equal(eventMessage(payload, accountOf({})).sender.id, 'T0OTHER001:U0OWNER001')
  const everywhere = { ...payload, team_id: 'T0TEAM0001', authorizations: [{ team_id: null }] }
  assert.equal(eventMessage(everywhere, accountOf({})).sender.id, 'T0OTHER001:U0OWNER001')
})

test('a link that Slack shows under a message that was edited before is not another edit', () => {
  const changed = (now: string | undefined, before: string | undefined) => {
    const at = (ts: string | undefined) =>
      ts === undefined ? slackSaid : { ...slackSaid, edited: { user: 'U0OWNER001', ts } }
    return slackEvent({
      type: 'message',
      subtype: 'message_changed',
      channel: 'D0OWNER001',
      message: { ...at(now), attachments: [{ text: 'run this' }] },
      previous_message: at(before),
    })?.withhold
  }
  assert.equal(changed('2.000000', undefined), undefined)
  assert.equal(changed('3.000000', '2.000000'), undefined)
  assert.match(changed('2.000000', '2.000000') ?? '', /a link was unfurled/)
  assert.match(changed(undefined, undefined) ?? '', /a link was unfurled/)
  assert.match(changed(undefined, '2.000000') ?? '', /a link was unfurled/)
})

test('a form that is a command and an interaction at once is neither', () => {
  const fields = 'command=%2Fagent&trigger_id=1.2.a&user_id=U0STRANGE1&channel_id=D0X'
  const payload = encodeURIComponent('{"type":"shortcut","user":{"id":"U0OWNER001"}}')
  const seen = (body: string) => slack.messages(post(form, body), accountOf({}))[0]?.class
  assert.equal(seen(fields), 'command')
  assert.equal(seen(`payload=${payload}`), 'interaction')
  assert.equal(seen(`${fields}&payload=${payload}`), 'unknown')
  assert.equal(seen(`payload=${payload}&text=x`), 'unknown')
})

test('a menu that asks the same a second time is no replay, and the same request is one', () => {
  const body = `payload=${encodeURIComponent('{"type":"block_suggestion","user":{"id":"U0X"},"value":"a"}')}`
  const key = (signature: string) =>
    slack.messages(post(form, body, { 'X-Slack-Signature': signature }), accountOf({}))[0]
      ?.deliveryKey
  assert.equal(key('v0=01'), key('v0=01'))
  assert.notEqual(key('v0=01'), key('v0=02'))
})

test('what an app posts in a person’s name is the app’s', () => {
  assert.deepEqual(slackEvent({ ...slackSaid, bot_id: 'B0OTHER001' })?.sender, {
    id: 'B0OTHER001',
    aliases: [],
    kind: 'bot',
  })
  assert.equal(
    slackEvent({ ...slackSaid, subtype: 'bot_message', username: 'U0OWNER001' })?.sender.kind,
    'unknown',
  )
  assert.equal(slackEvent({ ...slackSaid, bot_id: 'B0BOT00001' })?.sender.kind, 'self')
})

test('the two Slack events of one message share the utterance and differ as deliveries', () => {
  const one = slackEvent({ ...slackSaid, text: '<@U0BOT00001> x' })
  const two = slack.messages(
    post(
      json,
      JSON.stringify({
        type: 'event_callback',
        event_id: 'Ev2',
        event: { ...slackSaid, type: 'app_mention' },
      }),
    ),
    accountOf({}),
  )[0]
  assert.equal(one?.dedupeKey, two?.dedupeKey)
  assert.notEqual(one?.deliveryKey, two?.deliveryKey)
  assert.deepEqual([one?.mentionedBy, two?.mentionedBy], ['entity', 'event'])
})

test('Slack rooms are direct only when the type and the id say so', () => {
  const kind = (channel: string, channel_type?: string) =>
    slackEvent({ ...slackSaid, channel, channel_type })?.room.kind
  assert.equal(kind('D0OWNER001', 'im'), 'dm')
  assert.equal(kind('D0OWNER001'), 'dm')
  assert.equal(kind('C0ALLOWED1', 'im'), 'group')
  assert.equal(kind('D0OWNER001', 'channel'), 'group')
  assert.equal(kind('G0MPIM0001', 'mpim'), 'group')
})

test('Slack edits by others, unknown subtypes and unknown events are nobody’s words', () => {
  const edited = {
    type: 'message',
    subtype: 'message_changed',
    channel: 'D0OWNER001',
    message: { ...slackSaid, edited: { user: 'U0OTHER001' } },
  }
  assert.equal(slackEvent(edited)?.withhold, 'the edit is not by the author')
  for (const event of [
    { ...slackSaid, subtype: 'channel_topic' },
    { ...slackSaid, subtype: 'constructor' },
    { type: 'toString' },
    { type: 'user_change', user: {} },
  ]) {
    assert.equal(slackEvent(event)?.class, 'unknown')
  }
})

test('Slack answers menus and modals with what they wait for, and calls back only Slack', () => {
  const pressed = (payload: object) =>
    slack.messages(
      post(
        form,
        `payload=${encodeURIComponent(JSON.stringify({ user: { id: 'U0X' }, trigger_id: 't', ...payload }))}`,
      ),
      accountOf({}),
    )
  const account = accountOf({})
  assert.equal(
    slack.withheld(pressed({ type: 'block_suggestion' }), account).body,
    '{"options":[]}',
  )
  assert.equal(
    slack.withheld(pressed({ type: 'view_submission' }), account).body,
    '{"response_action":"clear"}',
  )
  const [good] = pressed({
    type: 'block_actions',
    response_url: 'https://hooks.slack.com/actions/T/1/x',
  })
  const [bad] = pressed({
    type: 'block_actions',
    response_url: 'https://hooks.slack.com.evil.example/',
  })
  assert.ok(good !== undefined && bad !== undefined)
  assert.equal(slack.invite(good, 'x', account).api?.url, 'https://hooks.slack.com/actions/T/1/x')
  assert.deepEqual(slack.invite(bad, 'x', account), {})
})
