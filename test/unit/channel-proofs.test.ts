/** The rule of each service, beyond one sample: what proves a request and what does not. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { bluebubbles } from '../../src/channels/bluebubbles.ts'
import type { Account, Channel, TrustedKey, WebhookRequest } from '../../src/channels/channel.ts'
import { settingProblems } from '../../src/channels/channel.ts'
import { generic } from '../../src/channels/generic.ts'
import { mattermost } from '../../src/channels/mattermost.ts'
import { msteams } from '../../src/channels/msteams.ts'
import { nextcloudTalk } from '../../src/channels/nextcloud-talk.ts'
import { digest, fresh, proven, sameSecret } from '../../src/channels/proof.ts'
import { signal, streamMessage } from '../../src/channels/signal.ts'
import { slack } from '../../src/channels/slack.ts'
import { twilio } from '../../src/channels/twilio.ts'
import { zalo } from '../../src/channels/zalo.ts'
import type { Fixture, Sample } from '../support/channels.ts'
import { accountFor, changed, fixture, requestOf, withHeader } from '../support/channels.ts'

const json = 'application/json'
const form = 'application/x-www-form-urlencoded'
const now = 1_764_000_000_000

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

const ok = async (
  channel: Channel,
  of: WebhookRequest,
  account: Account,
  keys: readonly TrustedKey[] = [],
  at = now,
) => (await proven(channel, of, account, keys, at)).ok

test('secrets are equal only when both are there and the same', () => {
  assert.equal(sameSecret('a', 'a'), true)
  for (const [one, two] of [
    ['a', 'b'],
    ['', ''],
    ['a', ''],
    ['', 'a'],
    ['a', 'aa'],
  ] as const) {
    assert.equal(sameSecret(one, two), false)
  }
  assert.equal(sameSecret(undefined, 'a'), false)
})

test('a signed time is whole seconds in digits inside the window', () => {
  assert.equal(fresh('1764000000', now, 0), true)
  assert.equal(fresh('1764000300', now, 300_000), true)
  assert.equal(fresh('1763999700', now, 300_000), true)
  for (const time of [
    '1764000301',
    '1763999699',
    '1764000000.5',
    '+1764000000',
    '0x1',
    ' 1764000000',
    '',
    'NaN',
    '1e9',
    '-1',
    undefined,
  ]) {
    assert.equal(fresh(time, now, 300_000), false, time)
  }
})

// Twilio: the address is part of what is signed.

const authToken = 'h5twilioauthtoken0123456789abcdef'
const sms = 'MessageSid=SM1&From=%2B15551230001&To=%2B15550000000&Body=a+b%26c'
const twilioMac = (url: string, fields = '') =>
  createHmac('sha1', authToken)
    .update(url + fields)
    .digest('base64')
const sorted = 'Bodya b&cFrom+15551230001MessageSidSM1To+15550000000'

test('Twilio signs the public address with or without its port, and the query as it came', async () => {
  const prove = (publicWebhookUrl: string, signedUrl: string, query = '') =>
    ok(
      twilio,
      post(form, sms, { 'X-Twilio-Signature': twilioMac(signedUrl, sorted) }, query),
      accountOf({ authToken, publicWebhookUrl }),
    )
  const url = 'https://gw.example.com/webhooks/sms'
  const withPort = 'https://gw.example.com:443/webhooks/sms'
  assert.equal(await prove(url, url), true)
  assert.equal(await prove(url, withPort), true)
  assert.equal(await prove(withPort, url), true)
  assert.equal(await prove('https://gw.example.com:8443/x', 'https://gw.example.com:8443/x'), true)
  assert.equal(await prove(url, `${url}?a=%20b`, 'a=%20b'), true)
  assert.equal(await prove(url, `${url}?a=1`, 'a=2'), false)
  assert.equal(await prove(url, `${url}?a=1`), false)
  assert.equal(await prove(url, url, 'a=1'), false)
  assert.equal(await prove(url, `${url}/`), false)
  assert.equal(await prove(url, 'http://gw.example.com/webhooks/sms'), false)
  assert.equal(await prove(url, 'https://127.0.0.1/webhooks/sms'), false)
  // Over HTTPS it leaves any port out for some products and keeps it for others.
  assert.equal(await prove('https://gw.example.com:8443/x', 'https://gw.example.com/x'), true)
  assert.equal(await prove('https://gw.example.com:8443/x', 'https://gw.example.com:443/x'), false)
  assert.equal(await prove('https://gw.example.com:8443/x', 'https://gw.example.com:8444/x'), false)
  assert.equal(await prove('http://gw.example.com:8080/x', 'http://gw.example.com:8080/x'), true)
  assert.equal(await prove('http://gw.example.com:8080/x', 'http://gw.example.com/x'), true)
  assert.equal(await prove(url, 'https://gw.example.com:8443/webhooks/sms'), false)
})

test('Twilio binds JSON by a digest in the signed query, and it is never a message', async () => {
  const url = 'https://gw.example.com/webhooks/sms'
  const account = accountOf({ authToken, publicWebhookUrl: url })
  const body = '{"From":"+15551230001"}'
  const query = `bodySHA256=${digest(body)}`
  const request = post(json, body, { 'X-Twilio-Signature': twilioMac(`${url}?${query}`) }, query)
  assert.equal(await ok(twilio, request, account), true)
  assert.equal(
    await ok(twilio, changed(request, { body: Buffer.from(`${body} `) }), account),
    false,
  )
  assert.equal(
    await ok(
      twilio,
      withHeader({ ...request, query: '' }, 'X-Twilio-Signature', twilioMac(url)),
      account,
    ),
    false,
  )
  assert.equal(twilio.messages(request, account)[0]?.class, 'unknown')
})

test('a Twilio form with a field twice is refused, and a name in letters is nobody', async () => {
  const url = 'https://gw.example.com/webhooks/sms'
  const account = accountOf({ authToken, publicWebhookUrl: url })
  const twice = post(form, `${sms}&From=%2B15551230001`, {
    'X-Twilio-Signature': twilioMac(url, sorted),
  })
  assert.equal(await ok(twilio, twice, account), false)
  const from = (value: string) =>
    twilio.messages(post(form, `MessageSid=S&Body=x&From=${encodeURIComponent(value)}`), account)[0]
      ?.sender.kind
  assert.equal(from('MyBank'), 'service')
  assert.equal(from('12345'), 'service')
  assert.equal(from('whatsapp:+15551230001'), 'user')
  assert.equal(from(''), 'unknown')
})

test('a Twilio status passes only without words, and a received one is no status', () => {
  const account = accountOf({ authToken, publicWebhookUrl: 'https://x.example/' })
  const classOf = (body: string) => twilio.messages(post(form, body), account)[0]?.class
  assert.equal(classOf('MessageSid=S&MessageStatus=delivered&From=%2B1555&To=%2B1666'), 'status')
  assert.equal(classOf('MessageSid=S&MessageStatus=delivered&Body=go&From=%2B1555'), 'unknown')
  assert.equal(classOf('MessageSid=S&MessageStatus=received&From=%2B1555'), 'unknown')
  assert.equal(classOf('MessageSid=S&SmsStatus=received&Body=x&From=%2B15551230001'), 'message')
})

test('TwiML carries any text without becoming markup', () => {
  const [message] = twilio.messages(
    post(form, 'MessageSid=S&Body=x&From=%2B15551230001'),
    accountOf({}),
  )
  assert.ok(message !== undefined)
  const out = twilio.invite(message, '<Dial>&\u0007 "code"', accountOf({}))
  assert.equal(
    out.sync?.body,
    '<?xml version="1.0" encoding="UTF-8"?><Response><Message>&lt;Dial&gt;&amp; "code"</Message></Response>',
  )
  assert.equal(
    twilio.withheld([message], accountOf({})).body,
    '<?xml version="1.0" encoding="UTF-8"?><Response></Response>',
  )
})

const first = (of: Fixture): Sample => of.vectors[0] ?? assert.fail('no sample')

// Shared secrets.

test('bluebubbles: every password that is sent must be right, wherever it stands', async () => {
  const account = accountOf({ password: 'h5-bb-password' })
  const prove = (query: string, headers: Record<string, string> = {}) =>
    ok(bluebubbles, post(json, '{}', headers, query), account)
  assert.equal(await prove('password=h5-bb-password'), true)
  assert.equal(await prove('guid=h5-bb-password'), true)
  assert.equal(await prove('', { 'X-Password': 'h5-bb-password' }), true)
  assert.equal(await prove('password=h5-bb-password&guid=x'), false)
  assert.equal(await prove('password=h5-bb-password', { 'x-password': 'x' }), false)
  assert.equal(await prove('password=h5-bb-password&password=h5-bb-password'), false)
  assert.equal(await prove('password='), false)
  assert.equal(await prove(''), false)
})

test('bluebubbles: an event that does not say whose it is, or of two chats, reaches nobody', () => {
  const read = (data: object) =>
    bluebubbles.messages(
      post(json, JSON.stringify({ type: 'new-message', data: { guid: 'g', ...data } })),
      accountOf({}),
    )[0]
  const handle = { address: '+15551230001' }
  const chats = [{ guid: 'iMessage;-;+15551230001' }]
  assert.equal(read({ handle, chats, isFromMe: true })?.sender.kind, 'self')
  assert.equal(read({ handle, chats })?.sender.kind, 'unknown')
  assert.equal(read({ handle, chats: [...chats, ...chats], isFromMe: false })?.room.kind, 'unknown')
  assert.equal(
    read({ handle, chats, isFromMe: false, associatedMessageType: 2000 })?.class,
    'reaction',
  )
})

test('mattermost: a token in the header must agree with the one in the body', async () => {
  const token = 'xr3j5x3p4pfk7kk6ck7b4e6ghh'
  const account = accountOf({ token })
  const prove = (headers: Record<string, string>) =>
    ok(mattermost, post(form, `token=${token}&post_id=p`, headers), account)
  assert.equal(await prove({}), true)
  assert.equal(await prove({ Authorization: `Token ${token}` }), true)
  assert.equal(await prove({ Authorization: 'Token x' }), false)
  assert.equal(await prove({ Authorization: `Bearer ${token}` }), false)
  assert.equal(await ok(mattermost, post(form, `token=x&token=${token}`), account), false)
  assert.equal(await ok(mattermost, post(json, `{"token":["${token}"]}`), account), false)
})

test('mattermost: a channel whose name only looks direct is a group', () => {
  const user = 'rnina9994bde8mua79zqcg5hmo'
  const other = 'zzmallory99999999999999999'
  const kind = (name: string) =>
    mattermost.messages(
      post(
        json,
        JSON.stringify({
          token: 't',
          post_id: 'p',
          channel_id: 'c',
          user_id: user,
          channel_name: name,
        }),
      ),
      accountOf({}),
    )[0]?.room.kind
  assert.equal(kind(`${user}__${other}`), 'dm')
  assert.equal(kind(`${other}__${user}`), 'dm')
  assert.equal(kind(`${other}__${other}`), 'group')
  assert.equal(kind(`${user}__x`), 'group')
  assert.equal(kind(`${user}__${other}__${user}`), 'group')
})

test('nextcloud-talk: a short random or another backend is refused', async () => {
  const of = fixture('nextcloud-talk')
  const account = accountFor('nextcloud-talk', of, first(of))
  const request = requestOf(of, first(of))
  const backed = (backend: string) => ({ ...account, settings: { ...account.settings, backend } })
  assert.equal(await ok(nextcloudTalk, request, backed('https://cloud.example.com')), true)
  assert.equal(await ok(nextcloudTalk, request, backed('https://other.example')), false)
  assert.equal(
    await ok(
      nextcloudTalk,
      withHeader(request, 'X-Nextcloud-Talk-Backend'),
      backed('https://cloud.example.com'),
    ),
    false,
  )
  const random = 'a'.repeat(31)
  const mac = createHmac('sha256', account.settings['botSecret'] ?? '')
    .update(random)
    .update(request.body)
    .digest('hex')
  const short = withHeader(
    withHeader(request, 'X-Nextcloud-Talk-Random', random),
    'X-Nextcloud-Talk-Signature',
    mac,
  )
  assert.equal(await ok(nextcloudTalk, short, account), false)
})

test('zalo: an event in the wrapper of getUpdates is read, and two events in one body are not', () => {
  const event = {
    event_name: 'message.text.received',
    message: {
      message_id: 'm',
      from: { id: 'aaaaaaaa' },
      chat: { id: 'aaaaaaaa', chat_type: 'PRIVATE' },
    },
  }
  const read = (body: object) => zalo.messages(post(json, JSON.stringify(body)), accountOf({}))[0]
  assert.equal(read({ ok: true, result: event })?.sender.id, 'aaaaaaaa')
  assert.equal(read({ ...event, result: event })?.class, 'unknown')
  assert.equal(read({ event_name: 'user.follow', message: event.message })?.class, 'unknown')
})

test('generic: a bearer token or a header is a proof only where it is configured', async () => {
  const secret = 'generic-secret-0123456789'
  const bearer = accountOf({ secret, proof: 'bearer' })
  const named = accountOf({ secret, proof: 'header', secretHeader: 'X-My-Secret' })
  assert.equal(
    await ok(generic, post(json, '{}', { Authorization: `Bearer ${secret}` }), bearer),
    true,
  )
  assert.equal(
    await ok(generic, post(json, '{}', { Authorization: `Bearer ${secret}x` }), bearer),
    false,
  )
  assert.equal(await ok(generic, post(json, '{}', { 'x-my-secret': secret }), named), true)
  assert.equal(await ok(generic, post(json, '{}', { 'x-my-secret': secret }), bearer), false)
  assert.equal(
    await ok(generic, post(json, '{}', { Authorization: `Bearer ${secret}` }), named),
    false,
  )
  assert.equal(
    await ok(generic, post(json, '{}', {}), accountOf({ secret, proof: 'header' })),
    false,
  )
  assert.equal(
    await ok(
      generic,
      post(json, '{}', { 'x-my-secret': secret }),
      accountOf({ secret, proof: 'none' }),
    ),
    false,
  )
})

test('generic: a list of signatures is good with one of ours in it', async () => {
  const of = fixture('generic-json')
  const account = accountFor('generic-json', of, first(of))
  const request = requestOf(of, first(of))
  const mine = first(of).request?.headers['webhook-signature'] ?? ''
  const prove = (value: string) =>
    ok(generic, withHeader(request, 'webhook-signature', value), account)
  assert.equal(await prove(`v1,AAAA v1a,BBBB ${mine}`), true)
  assert.equal(await prove(`v1,AAAA, ${mine}`), false)
  assert.equal(await prove(mine.replace('v1,', 'v2,')), false)
  assert.equal(await prove(Array.from({ length: 21 }, () => mine).join(' ')), false)
})

test('signal: nothing that calls itself a webhook is believed, and events are read from their data lines', async () => {
  const account = { ...accountOf({}), bot: { ids: ['+15550000000'], names: [] } }
  assert.equal(await ok(signal, post(json, '{}'), account), false)
  assert.equal(streamMessage('{"a":1,"a":2}', account).class, 'unknown')
  const envelope = { sourceNumber: '+15551230001', timestamp: 1, dataMessage: { message: 'x' } }
  assert.equal(streamMessage(JSON.stringify({ envelope }), account).sender.id, '+15551230001')
  const both = { envelope: { ...envelope, typingMessage: {} } }
  assert.equal(streamMessage(JSON.stringify(both), account).class, 'unknown')
})

test('signal: what nobody knows beside a sign of typing does not slip through with it', () => {
  const account = { ...accountOf({}), bot: { ids: ['+15550000000'], names: [] } }
  const told = (more: object) =>
    streamMessage(
      JSON.stringify({ envelope: { timestamp: 1, typingMessage: {}, ...more } }),
      account,
    )
  assert.equal(told({}).class, 'status')
  for (const more of [{ newMessage: { message: 'x' } }, { words: ['x'] }, { dataMessage: {} }]) {
    assert.equal(told(more).class, 'unknown')
  }
})

test('signal: a group without an id is not a direct chat, and deeds without words ask for nothing', () => {
  const account = { ...accountOf({}), bot: { ids: ['+15550000000'], names: [] } }
  const said = (dataMessage: object) => {
    const envelope = { sourceNumber: '+15551230001', timestamp: 1, dataMessage }
    return streamMessage(JSON.stringify({ envelope }), account)
  }
  assert.equal(said({ message: 'x', groupInfo: {} }).class, 'unknown')
  assert.equal(said({ message: 'x', groupV2: 'y' }).class, 'unknown')
  assert.equal(
    said({ message: null, expiresInSeconds: 60, isExpirationUpdate: true }).class,
    'edit',
  )
  assert.equal(said({ message: null, remoteDelete: { timestamp: 1 } }).class, 'edit')
  assert.equal(said({ message: null, attachments: [{ id: 'a' }] }).class, 'message')
  assert.equal(said({ message: 'x' }).class, 'message')
})

test('signal: a sender who gives many messages one time is charged for each of them', () => {
  const account = { ...accountOf({}), bot: { ids: ['+15550000000'], names: [] } }
  const said = (message: string) => {
    const envelope = { sourceNumber: '+15551230001', timestamp: 1, dataMessage: { message } }
    return streamMessage(JSON.stringify({ envelope }), account).dedupeKey
  }
  assert.notEqual(said('one'), said('two'))
  assert.equal(said('one'), said('one'))
})

test('signal: the bot is meant by its number or account id, in a mention or in what is quoted', () => {
  const own = 'AAAAAAAA-1111-4111-8111-111111111111'
  const ids = ['+15550000000', `uuid:${own.toLowerCase()}`]
  const account = { ...accountOf({}), bot: { ids, names: [] } }
  const said = (more: object) => {
    const dataMessage = { message: 'x', groupInfo: { groupId: 'R3JvdXBJZExhYg==' }, ...more }
    const envelope = { sourceNumber: '+15551230001', timestamp: 1, dataMessage }
    return streamMessage(JSON.stringify({ envelope }), account).mentioned
  }
  assert.equal(said({}), false)
  assert.equal(said({ mentions: [{ uuid: own }] }), true)
  assert.equal(said({ mentions: [{ number: '+15550000000' }] }), true)
  assert.equal(said({ mentions: [{ number: '+15550000001', name: '+15550000000' }] }), false)
  assert.equal(said({ quote: { authorUuid: own } }), true)
  assert.equal(said({ quote: { author: '+15550000001', text: own } }), false)
})

test('settings that cannot work are lines that never show the value', () => {
  const wrong: readonly [Channel, Record<string, string>][] = [
    [twilio, { authToken: 'short-value', publicWebhookUrl: 'gw.example.com' }],
    [twilio, { authToken: 'short-value', publicWebhookUrl: 'https://a:b@gw.example.com/x' }],
    [slack, { signingSecret: 'short-value' }],
    [msteams, { appId: 'short-value', tenantId: 'x' }],
    [generic, { secret: 'short-value', proof: 'open', secretHeader: 'a b' }],
  ]
  for (const [channel, settings] of wrong) {
    const lines = settingProblems(channel, accountOf(settings))
    assert.equal(lines.length, Object.keys(settings).length, lines.join('\n'))
    assert.ok(!lines.join('\n').includes('short-value'))
    for (const line of lines) assert.ok(line.startsWith(`channels.${channel.name}.`))
  }
})
