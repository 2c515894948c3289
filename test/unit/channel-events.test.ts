/** What single events of services mean: which are one event brought twice, which are another, and which nobody knows. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import type { Account, Channel, WebhookRequest } from '../../src/channels/channel.ts'
import { bluebubbles } from '../../src/channels/bluebubbles.ts'
import { matrix } from '../../src/channels/matrix.ts'
import { mattermost } from '../../src/channels/mattermost.ts'
import { msteams } from '../../src/channels/msteams.ts'
import { nextcloudTalk } from '../../src/channels/nextcloud-talk.ts'
import { zalo } from '../../src/channels/zalo.ts'

const account = (ids: readonly string[] = [], settings: Record<string, string> = {}): Account => ({
  id: 'default',
  webhookPath: '/hook',
  settings,
  bot: { ids, names: [] },
})

const sent = (value: unknown, parts: Partial<WebhookRequest> = {}): WebhookRequest => ({
  method: 'POST',
  path: '/hook',
  query: '',
  headers: ['Content-Type', 'application/json'],
  body: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
  ...parts,
})

const only = (channel: Channel, of: Account, value: unknown) => {
  const [first, ...more] = channel.messages(sent(value), of)
  assert.ok(first !== undefined && more.length === 0)
  return first
}

// Microsoft Teams.

const tenant = '99999999-aaaa-bbbb-cccc-dddddddddddd'
const teams = account([], { appId: '00000000-1111-2222-3333-444444444444', tenantId: tenant })
const activity = (parts: object) => ({
  type: 'messageUpdate',
  id: '1764000001',
  timestamp: '2025-11-24T16:00:00.000Z',
  serviceUrl: 'https://smba.trafficmanager.net/teams/',
  channelId: 'msteams',
  from: { id: '29:a', aadObjectId: 'a0000000-0000-4000-8000-000000000001' },
  conversation: { id: 'a:001', conversationType: 'personal', tenantId: tenant },
  recipient: { id: '28:00000000-1111-2222-3333-444444444444' },
  channelData: { tenant: { id: tenant } },
  text: 'one',
  ...parts,
})
const teamsKey = (parts: object) => only(msteams, teams, activity(parts)).deliveryKey

test('msteams: a message that is edited twice is two edits, and one that is brought twice is one', () => {
  for (const type of ['messageUpdate', 'messageDelete', 'messageReaction', 'invoke']) {
    const first = teamsKey({ type })
    assert.equal(teamsKey({ type }), first, type)
    assert.notEqual(teamsKey({ type, timestamp: '2025-11-24T16:01:00.000Z' }), first, type)
    assert.notEqual(teamsKey({ type, text: 'two' }), first, type)
  }
  const said = { type: 'message' }
  assert.equal(teamsKey({ ...said, timestamp: '2025-11-24T16:01:00.000Z' }), teamsKey(said))
  assert.notEqual(teamsKey({ ...said, id: '1764000002' }), teamsKey(said))
})

test('msteams: activities without an id are not one activity', () => {
  for (const type of ['message', 'conversationUpdate', 'installationUpdate', 'invoke']) {
    assert.notEqual(
      teamsKey({ type, id: undefined, text: 'two' }),
      teamsKey({ type, id: undefined }),
      type,
    )
  }
})

// Matrix.

const guard = '@guard:hs.test'
const home = { ...account([guard]), webhookPath: '/' }
const transaction = (value: unknown) =>
  sent(value, { method: 'PUT', path: '/_matrix/app/v1/transactions/7' })
const event = (parts: object) => ({
  type: 'm.room.message',
  room_id: '!ops:hs.test',
  sender: '@olga:hs.test',
  event_id: '$1',
  content: { body: 'x' },
  ...parts,
})

test('matrix: counts of keys and lists of devices go on by themselves, and beside a stranger who does not', () => {
  const counts = {
    device_lists: { changed: ['@olga:hs.test'] },
    device_one_time_keys_count: { [guard]: { DEVICE: { signed_curve25519: 3 } } },
  }
  for (const events of [[], [event({ sender: '@mallory:evil.test' })]]) {
    const request = transaction({ events, ...counts })
    const messages = matrix.messages(request, home)
    const reports = messages.filter(
      ({ class: of, sender }) => of === 'status' && sender.id === null,
    )
    assert.equal(reports.length, 2)
    assert.ok(
      reports.every(({ sender, withhold }) => sender.kind === 'system' && withhold === undefined),
    )
    assert.equal(new Set(messages.map(({ deliveryKey }) => deliveryKey)).size, messages.length)
    const refused = new Set(messages.flatMap((one) => (reports.includes(one) ? [] : [one.index])))
    const thin = matrix.without(request, home, refused)
    assert.ok(thin.ok)
    assert.deepEqual(JSON.parse(thin.body), { events: [], ...counts })
  }
})

test('matrix: an event of an unknown type is nobody’s words, and one that sets the state of a room is known', () => {
  const classOf = (parts: object) =>
    matrix.messages(transaction({ events: [event(parts)] }), home)[0]?.class
  for (const type of ['com.example.command', 'm.call.invite', 'm.message', 'toString', '']) {
    assert.equal(classOf({ type }), 'unknown', type)
    assert.equal(classOf({ type, state_key: 7 }), 'unknown', type)
  }
  for (const type of ['m.room.topic', 'com.example.settings', 'm.room.member']) {
    assert.equal(classOf({ type, state_key: '' }), 'membership', type)
  }
  assert.equal(classOf({ type: 'm.room.redaction' }), 'reaction')
  assert.equal(classOf({ type: 'm.poll.end' }), 'interaction')
})

// Nextcloud Talk.

test('nextcloud-talk: an account of the same name on another server is another one', () => {
  const mention = (parameter: object) =>
    only(nextcloudTalk, account(['guard']), {
      type: 'Create',
      actor: { type: 'Person', id: 'users/olga' },
      object: {
        type: 'Note',
        id: '1',
        name: 'message',
        content: JSON.stringify({ message: 'hi {m}', parameters: { m: parameter } }),
      },
      target: { type: 'Collection', id: 'n3xtc10ud' },
    }).mentioned
  assert.equal(mention({ type: 'user', id: 'guard', name: 'Guard' }), true)
  assert.equal(mention({ type: 'user', id: 'guard', server: 'https://evil.example' }), false)
  assert.equal(mention({ type: 'user', id: 'guard', server: '' }), true)
  assert.equal(mention({ type: 'user', id: 'guard', server: ['x'] }), false)
  assert.equal(mention({ type: 'call', id: 'guard' }), false)
  assert.equal(mention({ type: 'user', id: 'olga', name: 'guard' }), false)
})

// Zalo.

test('zalo: only a message that was received is one', () => {
  const classOf = (event_name: string) =>
    only(zalo, account(), {
      event_name,
      message: {
        message_id: 'm',
        from: { id: 'aaaaaaaa' },
        chat: { id: 'aaaaaaaa', chat_type: 'PRIVATE' },
      },
    }).class
  for (const kind of ['text', 'image', 'sticker', 'unsupported']) {
    assert.equal(classOf(`message.${kind}.received`), 'message', kind)
  }
  for (const name of ['message.', 'message.text.sent', 'message.text', 'message.x.received.y']) {
    assert.equal(classOf(name), 'unknown', name)
  }
})

// BlueBubbles.

test('bluebubbles: a business, a short number and a name in letters are no person', () => {
  const kindOf = (address: string) =>
    only(bluebubbles, account(), {
      type: 'new-message',
      data: {
        guid: 'g',
        handle: { address },
        isFromMe: false,
        chats: [{ guid: `iMessage;-;${address}` }],
      },
    }).sender.kind
  for (const address of ['+15551230001', 'olga@example.com', 'Olga@Example.com']) {
    assert.equal(kindOf(address), 'user', address)
  }
  for (const address of ['12345', 'MyBank', 'urn:biz:00000000', '+12', 'olga']) {
    assert.equal(kindOf(address), 'service', address)
  }
})

// Mattermost.

test('mattermost: the time is in seconds in a form and in milliseconds in JSON', () => {
  const at = (timestamp: unknown) =>
    only(mattermost, account(), { post_id: 'p', user_id: 'u', channel_id: 'c', timestamp }).at
  assert.equal(at('1764000000'), 1_764_000_000_000)
  assert.equal(at(1_764_000_000_123), 1_764_000_000_123)
  assert.equal(at(0), undefined)
})
