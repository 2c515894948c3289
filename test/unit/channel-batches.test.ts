/** Batches: what is refused is cut out, what stays is as it was, and the service's proof holds again. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import type { Account, Channel, WebhookRequest } from '../../src/channels/channel.ts'
import { line } from '../../src/channels/line.ts'
import { matrix } from '../../src/channels/matrix.ts'
import { instagram, messenger, whatsapp } from '../../src/channels/meta.ts'
import { proven } from '../../src/channels/proof.ts'
import { accountFor, channelFor, fixture, requestOf } from '../support/channels.ts'

const account = (settings: Record<string, string>, ids: readonly string[] = []): Account => ({
  id: 'default',
  webhookPath: '/hook',
  settings,
  bot: { ids, names: [] },
})

const post = (body: string, ...headers: string[]): WebhookRequest => ({
  method: 'POST',
  path: '/hook',
  query: '',
  headers: ['Content-Type', 'application/json', ...headers],
  body: Buffer.from(body),
})

const appSecret = 'h5metaappsecret0123456789abcdef00'
const meta = account({ appSecret, verifyToken: 'h5verify' })
const signed = (body: string) =>
  post(
    body,
    'X-Hub-Signature-256',
    `sha256=${createHmac('sha256', appSecret).update(body).digest('hex')}`,
  )

const said = (from: string, id: string, more: object = {}) => ({
  from,
  id,
  timestamp: '1764000000',
  type: 'text',
  text: { body: 'é' },
  ...more,
})
const contact = (id: string) => ({ profile: { name: 'P' }, wa_id: id })
const change = (value: object) => ({
  field: 'messages',
  value: {
    messaging_product: 'whatsapp',
    metadata: { display_phone_number: '15550000000', phone_number_id: '109' },
    ...value,
  },
})
const wa = (...changes: readonly object[]) =>
  JSON.stringify({ object: 'whatsapp_business_account', entry: [{ id: '1', changes }] })

/** The request without some messages, proven as the bot would prove it. */
async function thinned(channel: Channel, request: WebhookRequest, of: Account, refused: number[]) {
  const out = channel.without(request, of, new Set(refused))
  assert.ok(out.ok)
  const replaced = new Set(
    out.headers.filter((_, i) => i % 2 === 0).map((one) => one.toLowerCase()),
  )
  const kept = request.headers.filter(
    (_, i) => !replaced.has((request.headers[i - (i % 2)] ?? '').toLowerCase()),
  )
  const again = { ...request, headers: [...kept, ...out.headers], body: Buffer.from(out.body) }
  assert.deepEqual(await proven(channel, again, of, [], 1_764_000_000_000), { ok: true })
  return again
}

const ids = (channel: Channel, request: WebhookRequest, of: Account) =>
  channel.messages(request, of).map(({ sender, class: what }) => sender.id ?? what)

test('a WhatsApp batch keeps the listed messages, without the contacts of the others', async () => {
  const request = signed(
    wa(
      change({
        contacts: [contact('2'), contact('1')],
        messages: [said('2', 'b'), said('1', 'a'), said('3', 'c')],
      }),
    ),
  )
  assert.deepEqual(ids(whatsapp, request, meta), ['2', '1', '3'])
  const again = await thinned(whatsapp, request, meta, [0, 2])
  assert.deepEqual(ids(whatsapp, again, meta), ['1'])
  const body = again.body.toString('latin1')
  assert.ok(!body.includes('"2"') && !body.includes('"3"'))
  // Meta signs escaped text, and some SDKs escape before hashing: ASCII is the same for both.
  assert.match(body, /"body":"\\u00e9"/)
})

test('a WhatsApp batch loses changes and entries that nothing is left of', async () => {
  const body = JSON.stringify({
    object: 'whatsapp_business_account',
    entry: [
      { id: '1', changes: [change({ contacts: [contact('9')], messages: [said('9', 'x')] })] },
      {
        id: '2',
        changes: [
          change({ messages: [said('9', 'y')] }),
          change({ contacts: [contact('1')], messages: [said('1', 'z')] }),
        ],
      },
    ],
  })
  const again = await thinned(whatsapp, signed(body), meta, [0, 1])
  const left = JSON.parse(again.body.toString()) as { entry: { id: string; changes: unknown[] }[] }
  assert.deepEqual(
    left.entry.map(({ id, changes }) => [id, changes.length]),
    [['2', 1]],
  )
})

test('a WhatsApp receipt beside a stranger stays, and parts that nobody knows can be cut', async () => {
  const status = { id: 'wamid.x', status: 'read', timestamp: '1', recipient_id: '1' }
  const request = signed(
    wa(
      change({ messages: [said('9', 'x')], statuses: [status] }),
      { field: 'history', value: { messages: [said('1', 'z')] } },
      change({ messages: [said('1', 'w')], calls: [{ from: '9' }] }),
    ),
  )
  assert.deepEqual(ids(whatsapp, request, meta), ['9', 'status', 'unknown', '1', 'unknown'])
  const again = await thinned(whatsapp, request, meta, [0, 2, 4])
  assert.deepEqual(ids(whatsapp, again, meta), ['status', '1'])
  assert.ok(!again.body.includes('calls') && !again.body.includes('history'))
})

test('WhatsApp: the receipts of several people of a group for one message are each a delivery', () => {
  const read = (participant: string) => ({
    ...{ id: 'wamid.x', status: 'read', timestamp: '1', recipient_id: 'g1' },
    ...{ recipient_type: 'group', recipient_participant_id: participant },
  })
  const statuses = [read('1'), read('2'), read('1')]
  const [one, two, again] = whatsapp.messages(signed(wa(change({ statuses }))), meta)
  assert.notEqual(one?.deliveryKey, two?.deliveryKey)
  assert.equal(one?.deliveryKey, again?.deliveryKey)
})

test('numbers and hidden numbers of WhatsApp are the ids, contacts never', () => {
  const request = signed(
    wa(
      change({
        contacts: [contact('1')],
        messages: [
          said('9', 'x', { from_user_id: 'US.123456' }),
          said('', 'y', { from: undefined, from_user_id: 'US.77777' }),
          said('', 'z', { from: undefined }),
        ],
      }),
    ),
  )
  const senders = whatsapp
    .messages(request, meta)
    .map(({ sender }) => [sender.id, ...sender.aliases])
  assert.deepEqual(senders, [['9', 'US.123456'], ['US.77777'], [null]])
})

test('a WhatsApp group is a group, addressed only by a reply to the bot', () => {
  const inGroup = (more: object) => said('1', 'x', { group_id: 'g1', ...more })
  const request = signed(
    wa(
      change({
        messages: [
          inGroup({}),
          inGroup({ context: { from: '15550000000', id: 'q' } }),
          inGroup({ context: { from: '9' } }),
        ],
      }),
    ),
  )
  assert.deepEqual(
    whatsapp.messages(request, meta).map(({ room, mentioned }) => [room.kind, mentioned]),
    [
      ['group', false],
      ['group', true],
      ['group', false],
    ],
  )
})

test('a WhatsApp group without an id that can be read is no direct chat', () => {
  const messages = [{}, [], '', true].map((group_id) => said('1', 'x', { group_id }))
  const seen = whatsapp.messages(signed(wa(change({ messages }))), meta)
  assert.deepEqual(
    seen.map((one) => one.class),
    messages.map(() => 'unknown'),
  )
})

test('Messenger and Instagram: echoes are the bot itself, receipts pass, several events in one are nobody', () => {
  const event = (more: object) => ({
    sender: { id: '501' },
    recipient: { id: '1001' },
    timestamp: 1,
    ...more,
  })
  const request = (object: string, key = 'messaging') =>
    signed(
      JSON.stringify({
        object,
        entry: [
          {
            id: '1001',
            time: 1,
            [key]: [
              event({ message: { mid: 'm1', text: 'x' } }),
              event({ message: { mid: 'm2', text: 'x', is_echo: true } }),
              event({ message: { mid: 'm3', quick_reply: { payload: 'P' } } }),
              event({ delivery: { mids: ['m'] } }),
              event({ message: { mid: 'm4' }, postback: { payload: 'P' } }),
              event({ constructor: { mid: 'm5' } }),
            ],
          },
        ],
      }),
    )
  const seen = (channel: Channel, of: WebhookRequest) =>
    channel.messages(of, meta).map((one) => `${one.class}:${one.sender.kind}`)
  const wanted = [
    'message:user',
    'message:self',
    'interaction:user',
    'status:system',
    'unknown:unknown',
    'unknown:unknown',
  ]
  assert.deepEqual(seen(messenger, request('page')), wanted)
  assert.deepEqual(seen(instagram, request('instagram', 'standby')), wanted)
  assert.deepEqual(seen(messenger, request('instagram')), ['unknown:unknown'])
  assert.deepEqual(seen(whatsapp, request('page')), ['unknown:unknown'])
})

test('Messenger: each reaction to one message and each edit of it is a delivery of its own', () => {
  const keyOf = (time: number, more: object) => {
    const event = { sender: { id: '501' }, recipient: { id: '1001' }, timestamp: time, ...more }
    const body = JSON.stringify({ object: 'page', entry: [{ id: '1001', messaging: [event] }] })
    return messenger.messages(signed(body), meta)[0]?.deliveryKey
  }
  const reacted = (emoji: string) => ({ reaction: { mid: 'm1', action: 'react', emoji } })
  const edited = (text: string) => ({ message_edit: { mid: 'm1', text } })
  for (const [first, second] of [
    [reacted('a'), reacted('b')],
    [edited('a'), edited('b')],
  ] as const) {
    assert.notEqual(keyOf(1, first), keyOf(2, second))
    assert.notEqual(keyOf(1, first), keyOf(2, first))
    assert.equal(keyOf(1, first), keyOf(1, first))
  }
  const said = { message: { mid: 'm1', text: 'x' } }
  assert.equal(keyOf(1, said), keyOf(2, said))
  assert.notEqual(keyOf(1, said), keyOf(1, { message: { mid: 'm1', is_deleted: true } }))
})

test("Meta's challenge is echoed only for our verify token and never forwarded", async () => {
  const get = (query: string): WebhookRequest => ({
    method: 'GET',
    path: '/hook',
    query,
    headers: [],
    body: Buffer.alloc(0),
  })
  const good = 'hub.mode=subscribe&hub.verify_token=h5verify&hub.challenge=1158201444'
  assert.equal(whatsapp.probe?.(get(good), meta)?.body, '1158201444')
  for (const query of [
    good.replace('h5verify', 'x'),
    good.replace('subscribe', 'x'),
    `${good}&hub.challenge=2`,
    good.replace('1158201444', '<b>'),
    'hub.mode=subscribe',
    '',
  ]) {
    assert.equal(whatsapp.probe?.(get(query), meta), undefined, query)
  }
  assert.equal((await proven(whatsapp, get(good), meta, [], 0)).ok, false)
  const bare = { ...meta, settings: { appSecret, verifyToken: '' } }
  assert.equal(whatsapp.probe?.(get(good.replace('h5verify', '')), bare), undefined)
})

const channelSecret = 'c3a1h5linelabsecret0123456789abcd'
const lineAccount = account({ channelSecret }, ['Ubbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'])

test('a LINE batch of several people is thinned and signed anew', async () => {
  const event = (user: string, n: number) => ({
    type: 'message',
    mode: 'active',
    timestamp: 1764000000000,
    source: { type: 'user', userId: `U${user.repeat(32)}` },
    webhookEventId: `01H5${n}`,
    deliveryContext: { isRedelivery: false },
    replyToken: `t${n}`,
    message: { type: 'text', id: `${n}`, text: '/é' },
  })
  const text = JSON.stringify({
    destination: 'Ub',
    events: [event('1', 0), event('9', 1), event('1', 2), { type: 'new thing' }],
  })
  const signature = createHmac('sha256', channelSecret).update(text).digest('base64')
  const request = post(text, 'x-line-signature', signature)
  assert.deepEqual(
    ids(line, request, lineAccount).map((id) => id.slice(0, 2)),
    ['U1', 'U9', 'U1', 'un'],
  )
  const again = await thinned(line, request, lineAccount, [1, 3])
  assert.deepEqual(
    ids(line, again, lineAccount).map((id) => id.slice(0, 2)),
    ['U1', 'U1'],
  )
  const empty = await thinned(line, request, lineAccount, [0, 1, 2, 3])
  assert.deepEqual(line.messages(empty, lineAccount), [])
})

const hsToken = 'h5_hs_token_0123456789abcdef'
const matrixAccount: Account = { ...account({ hsToken }, ['@guard:hs.test']), webhookPath: '/' }
const put = (body: object): WebhookRequest => ({
  method: 'PUT',
  path: '/_matrix/app/v1/transactions/7',
  query: '',
  headers: ['Content-Type', 'application/json', 'Authorization', `Bearer ${hsToken}`],
  body: Buffer.from(JSON.stringify(body)),
})
const spoke = (sender: string, id: string, more: object = {}) => ({
  type: 'm.room.message',
  room_id: '!ops:hs.test',
  sender,
  event_id: id,
  content: { body: 'x' },
  ...more,
})

test('a Matrix transaction is thinned event by event, whatever part the event stands in', async () => {
  const request = put({
    events: [spoke('@a:hs.test', '$1'), spoke('@m:evil.test', '$2'), { type: 'm.room.message' }],
    ephemeral: [
      { type: 'm.typing', room_id: '!r:x', content: { user_ids: ['@m:evil.test'] } },
      { type: 'm.presence', sender: '@m:evil.test', content: { status_msg: 'go' } },
    ],
    to_device: [{ type: 'm.room_key', sender: '@m:evil.test', content: {} }],
    device_lists: { changed: ['@m:evil.test'] },
    'org.example.future': { said: 'go' },
  })
  const classes = matrix
    .messages(request, matrixAccount)
    .map((one) => `${one.class}:${one.sender.id ?? ''}`)
  assert.deepEqual(classes, [
    'message:@a:hs.test',
    'message:@m:evil.test',
    'unknown:',
    'status:',
    'status:@m:evil.test',
    'status:@m:evil.test',
    'status:',
    'unknown:',
  ])
  const again = await thinned(matrix, request, matrixAccount, [1, 2, 4, 5, 7])
  assert.deepEqual(JSON.parse(again.body.toString()), {
    events: [spoke('@a:hs.test', '$1')],
    ephemeral: [{ type: 'm.typing', room_id: '!r:x', content: { user_ids: ['@m:evil.test'] } }],
    to_device: [],
    device_lists: { changed: ['@m:evil.test'] },
  })
})

test('Matrix edits, encrypted messages and senders without a server are seen for what they are', () => {
  const edit = spoke('@a:hs.test', '$1', { content: { 'm.relates_to': { rel_type: 'm.replace' } } })
  const sealed = spoke('@a:hs.test', '$2', { type: 'm.room.encrypted' })
  const request = put({
    events: [edit, sealed, spoke('olga', '$3'), spoke('@guard:hs.test', '$4')],
  })
  const seen = matrix
    .messages(request, matrixAccount)
    .map((one) => [one.class, one.sender.kind, one.mentioned])
  assert.deepEqual(seen, [
    ['edit', 'user', false],
    ['message', 'user', 'unknown'],
    ['message', 'unknown', false],
    ['message', 'self', false],
  ])
})

test('a Matrix invitation of the bot to a direct chat says so, and one of somebody else does not', () => {
  const invite = (state_key: string, is_direct: boolean) =>
    spoke('@a:hs.test', '$1', {
      type: 'm.room.member',
      state_key,
      content: { membership: 'invite', is_direct },
    })
  const request = put({
    events: [
      invite('@guard:hs.test', true),
      invite('@guard:hs.test', false),
      invite('@b:hs.test', true),
    ],
  })
  const found = matrix.messages(request, matrixAccount)
  assert.deepEqual(
    found.map((one) => [one.class, one.replyTo['direct']]),
    [
      ['membership', 'yes'],
      ['membership', undefined],
      ['membership', undefined],
    ],
  )
})

test('a Matrix token in the query must agree with the one in the header', async () => {
  const body = { events: [] }
  const prove = (query: string, ...headers: string[]) =>
    proven(
      matrix,
      { ...put(body), query, headers: ['Content-Type', 'application/json', ...headers] },
      matrixAccount,
      [],
      0,
    )
  const bearer = ['Authorization', `Bearer ${hsToken}`]
  assert.ok((await prove('', ...bearer)).ok)
  assert.ok((await prove(`access_token=${hsToken}`)).ok)
  assert.ok((await prove(`access_token=${hsToken}`, ...bearer)).ok)
  for (const [query, ...headers] of [
    [''],
    ['access_token=x', ...bearer],
    [`access_token=${hsToken}`, 'Authorization', 'Bearer x'],
    [`access_token=${hsToken}&access_token=x`],
    [`access_token=${hsToken}`, 'Authorization', ''],
    ['', ...bearer, ...bearer],
  ] as [string, ...string[]][]) {
    assert.equal((await prove(query, ...headers)).ok, false, `${query} ${headers.join()}`)
  }
})

test('Matrix pings are answered, and a question about a room makes nothing appear', () => {
  const ask = (method: string, path: string) => ({ ...put({}), method, path })
  assert.ok(matrix.carries('POST', '/_matrix/app/v1/ping', matrixAccount))
  assert.ok(matrix.carries('GET', '/_matrix/app/v1/rooms/%23x:hs.test', matrixAccount))
  assert.ok(matrix.carries('PUT', '/transactions/1', matrixAccount))
  for (const path of [
    '/_matrix/app/v1/transactions/1/2',
    '/_matrix/app/v1/transactions/',
    '/_matrix/client/v3/sync',
    '/',
  ]) {
    assert.ok(!matrix.carries('PUT', path, matrixAccount), path)
  }
  const [ping] = matrix.messages(ask('POST', '/_matrix/app/v1/ping'), matrixAccount)
  assert.deepEqual([ping?.class, ping?.answer?.status], ['probe', 200])
  const [asked] = matrix.messages(ask('GET', '/_matrix/app/v1/users/@x:hs.test'), matrixAccount)
  assert.deepEqual([asked?.class, asked?.answer?.status], ['probe', 404])
})

test('a service whose requests hold one message cannot be thinned', () => {
  for (const file of [
    'telegram-webhook',
    'slack-http',
    'discord-interactions',
    'twilio',
    'zalo',
    'bluebubbles',
    'generic-json',
    'msteams',
    'googlechat',
    'mattermost',
    'nextcloud-talk',
  ]) {
    const of = fixture(file)
    const sample = of.vectors[0]
    assert.ok(sample !== undefined)
    const out = channelFor(file, sample).without(
      requestOf(of, sample),
      accountFor(file, of, sample),
      new Set([0]),
    )
    assert.equal(out.ok, false, file)
  }
})
