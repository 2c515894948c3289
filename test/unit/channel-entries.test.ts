/** Entries of lists: stable ids in every usual spelling, and nothing that can change hands. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { channels, gatewayEntries, normaliseEntry, normaliseRoom } from '../../src/channels/all.ts'
import { channelOf } from '../support/channels.ts'

type Row = readonly [channel: string, entry: string, id: string]

const good: readonly Row[] = [
  ['telegram', '111111111', '111111111'],
  ['telegram', 'telegram:111111111', '111111111'],
  ['telegram', 'tg:111111111', '111111111'],
  ['telegram', 'TG:111111111', '111111111'],
  ['slack', 'U0OWNER001', 'U0OWNER001'],
  ['slack', 'slack:U0OWNER001', 'U0OWNER001'],
  ['slack', 'T0OTHER:U0OWNER001', 'T0OTHER:U0OWNER001'],
  ['discord', 'discord:100000000000000001', '100000000000000001'],
  ['whatsapp', '+15551230001', '15551230001'],
  ['whatsapp', 'whatsapp:+15551230001', '15551230001'],
  ['whatsapp', 'US.13491208655302741918', 'US.13491208655302741918'],
  ['messenger', '15551230001', '15551230001'],
  ['line', 'line:U11111111111111111111111111111111', 'U11111111111111111111111111111111'],
  ['googlechat', '111111111111111111111', 'users/111111111111111111111'],
  ['googlechat', 'users/111111111111111111111', 'users/111111111111111111111'],
  ['msteams', 'A0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000001'],
  ['twilio', '+15551230001', '+15551230001'],
  ['twilio', 'sms:+15551230001', '+15551230001'],
  ['twilio', 'twilio-sms:+15551230001', '+15551230001'],
  ['twilio', 'whatsapp:+15551230001', 'whatsapp:+15551230001'],
  ['matrix', '@olga:hs.test', '@olga:hs.test'],
  ['matrix', 'matrix:@olga:hs.test', '@olga:hs.test'],
  ['mattermost', 'rnina9994bde8mua79zqcg5hmo', 'rnina9994bde8mua79zqcg5hmo'],
  ['nextcloud-talk', 'olga', 'users/olga'],
  ['nextcloud-talk', 'users/olga', 'users/olga'],
  ['nextcloud-talk', 'users/Olga Maria', 'users/Olga Maria'],
  ['nextcloud-talk', 'federated_users/olga@b.example', 'federated_users/olga@b.example'],
  ['zalo', 'zalo:6ede9afa66b88fe6d6a9', '6ede9afa66b88fe6d6a9'],
  ['bluebubbles', 'Olga@Example.com', 'olga@example.com'],
  ['bluebubbles', '+15551230001', '+15551230001'],
  ['signal', 'signal:+15551230001', '+15551230001'],
  ['signal', '11111111-1111-4111-8111-111111111111', 'uuid:11111111-1111-4111-8111-111111111111'],
  [
    'signal',
    'uuid:11111111-1111-4111-8111-111111111111',
    'uuid:11111111-1111-4111-8111-111111111111',
  ],
  ['generic', 'u-1', 'u-1'],
]

for (const [channel, entry, id] of good) {
  test(`${channel}: the entry ${entry} means ${id}`, () => {
    assert.deepEqual(normaliseEntry(channel, entry), { id })
    // Reading what was read before changes nothing.
    assert.deepEqual(normaliseEntry(channel, id), { id })
  })
}

const handles: readonly [string, string, RegExp][] = [
  ['telegram', '@owner_ok', /a handle.*numeric user id/],
  ['telegram', 'owner_ok', /not a stable id/],
  ['telegram', '-1002000000001', /not a stable id/],
  ['telegram', '0111', /not a stable id/],
  ['telegram', 'olga@example.com', /an e-mail address/],
  ['slack', '@olga', /a handle.*Copy member ID/],
  ['slack', 'olga', /not a stable id/],
  ['discord', 'olga#1234', /not a stable id.*Copy User ID/],
  ['whatsapp', 'Olga', /not a stable id/],
  ['line', 'u11111111111111111111111111111111', /not a stable id/],
  ['googlechat', 'users/olga@example.com', /an e-mail address/],
  ['msteams', 'olga@example.com', /an e-mail address.*Entra/],
  ['msteams', '29:gUZyAJB-yjBWxTaSr', /not a stable id/],
  ['twilio', '5551230001', /not a stable id.*country code/],
  ['matrix', '@olga', /a handle.*with its server/],
  ['mattermost', '@olga', /a handle/],
  ['nextcloud-talk', 'guests/0a1b2c', /not a stable id/],
  ['signal', 'olga.01', /not a stable id/],
  // Letters of another alphabet, an invisible one, and wide digits.
  ['matrix', '@\u043elga:hs.test', /only looks like.*with its server/],
  ['matrix', '@olga\u200b:hs.test', /only looks like/],
  ['nextcloud-talk', 'users/\u043elga', /only looks like/],
  ['bluebubbles', '\u043elga@example.com', /only looks like/],
  ['generic', 'u-\uff11', /only looks like/],
  ['twilio', '\uff0b15551230001', /only looks like/],
]

for (const [channel, entry, problem] of handles) {
  test(`${channel}: the entry ${entry} is refused with the way to the id`, () => {
    const found = normaliseEntry(channel, entry)
    assert.ok('problem' in found)
    assert.match(found.problem, problem)
    assert.ok(!found.problem.includes('\n'))
  })
}

test('"*", access groups, empty and padded entries are refused on every channel', () => {
  for (const { name } of channels) {
    for (const entry of ['*', 'accessGroup:staff', '', ' 1', '1 ']) {
      for (const read of [normaliseEntry, normaliseRoom]) {
        assert.ok('problem' in read(name, entry), `${name} ${entry}`)
      }
    }
    const star = normaliseEntry(name, '*')
    assert.match('problem' in star ? star.problem : '', /dm\.policy to "pairing"/)
  }
  assert.ok('problem' in normaliseEntry('icq', '1'))
})

test('a long entry is cut in its problem', () => {
  const found = normaliseEntry('telegram', 'x'.repeat(5000))
  assert.ok('problem' in found && found.problem.length < 300)
})

test('rooms are named by their ids', () => {
  assert.deepEqual(normaliseRoom('telegram', '-1002000000001'), { id: '-1002000000001' })
  assert.deepEqual(normaliseRoom('telegram', 'group:-1002000000001'), { id: '-1002000000001' })
  assert.deepEqual(normaliseRoom('slack', 'channel:C0ALLOWED1'), { id: 'C0ALLOWED1' })
  assert.deepEqual(normaliseRoom('matrix', '!ops:hs.test'), { id: '!ops:hs.test' })
  assert.deepEqual(normaliseRoom('msteams', '19:chan1@thread.tacv2'), {
    id: '19:chan1@thread.tacv2',
  })
  for (const [channel, room] of [
    ['telegram', '@ops'],
    ['slack', '#ops'],
    ['matrix', '#ops:hs.test'],
    ['twilio', '+15551230001'],
  ] as const) {
    assert.ok('problem' in normaliseRoom(channel, room), room)
  }
})

test('an entry of the gateway means a channel only with its prefix', () => {
  const entries = [
    'telegram:111',
    'tg:222',
    '333',
    'slack:U0OWNER001',
    'olga@example.com',
    'user:444',
    'telegram:@olga',
  ]
  assert.deepEqual(gatewayEntries(channelOf('telegram'), entries), ['111', '222'])
  assert.deepEqual(gatewayEntries(channelOf('slack'), entries), ['U0OWNER001'])
  assert.deepEqual(gatewayEntries(channelOf('line'), entries), [])
  // Where an address is the sender's id, it may stand alone.
  assert.deepEqual(gatewayEntries(channelOf('bluebubbles'), entries), ['olga@example.com'])
  const groups = ['engineering', 'telegram:-1002000000001', 'slack:C0ALLOWED1', '-100']
  assert.deepEqual(gatewayEntries(channelOf('telegram'), groups, true), ['-1002000000001'])
  assert.deepEqual(gatewayEntries(channelOf('slack'), groups, true), ['C0ALLOWED1'])
})
