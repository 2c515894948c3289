/** Who may speak: the precedence as a table, and rules that hold for every message. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Message, MessageClass, Room, Sender } from '../../src/channels/channel.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { Known, PolicySettings, RoomSettings, Verdict } from '../../src/senders/policy.ts'

const owner: Sender = { id: 'owner', aliases: [], kind: 'user' }
const stranger: Sender = { id: 'stranger', aliases: [], kind: 'user' }
const paired: Sender = { id: 'paired', aliases: [], kind: 'user' }
const added: Sender = { id: 'added', aliases: [], kind: 'user' }
const gateway: Sender = { id: 'gateway', aliases: [], kind: 'user' }
const dm = (id: string): Room => ({ id, kind: 'dm' })
const group: Room = { id: 'room', kind: 'group' }
const elsewhere: Room = { id: 'elsewhere', kind: 'group' }
const nowhere: Room = { id: null, kind: 'unknown' }

const base: Message = {
  channel: 'test',
  account: 'default',
  eventType: 'message',
  class: 'message',
  sender: owner,
  room: dm('owner'),
  mentioned: true,
  dedupeKey: '1',
  deliveryKey: '1',
  index: 0,
  replyTo: {},
}

const settings: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: new Set(['owner']),
  groupPolicy: 'allowlist',
  groups: new Map<string, RoomSettings>([['room', {}]]),
  gatewayAllowlist: new Set(['gateway']),
  gatewayGroups: new Set<string>(['gatewayRoom']),
}

const known: Known = { listed: new Set(['added']), paired: new Set(['paired']) }

type Row = readonly [
  says: string,
  message: Partial<Message>,
  settings: Partial<PolicySettings>,
  verdict: Verdict['verdict'],
]

const classes = (
  verdict: Verdict['verdict'],
  of: readonly MessageClass[],
  message: Partial<Message>,
  changes: Partial<PolicySettings> = {},
): readonly Row[] =>
  of.map((one) => [
    `${one} of ${message.sender?.id ?? 'owner'}`,
    { ...message, class: one },
    changes,
    verdict,
  ])

const inDm = { room: dm('x') }
const inGroup = { room: group, mentioned: false } as const

const table: readonly Row[] = [
  // What never goes on, whoever wrote it.
  ...classes('ignore', ['unknown', 'system', 'probe'], inDm),
  ['a message that the adapter withholds', { withhold: 'why' }, {}, 'ignore'],
  [
    'a status that the adapter withholds',
    { class: 'status', sender: { id: null, aliases: [], kind: 'system' }, withhold: 'why' },
    {},
    'ignore',
  ],
  ["the agent's own message", { sender: { ...owner, kind: 'self' } }, {}, 'ignore'],
  ['no sender', { sender: { id: null, aliases: ['owner'], kind: 'user' } }, {}, 'ignore'],
  [
    'a delivery report',
    { class: 'status', sender: { id: null, aliases: [], kind: 'system' }, room: nowhere },
    {},
    'speak',
  ],
  [
    'a delivery report while all is disabled',
    { class: 'status', sender: { id: null, aliases: [], kind: 'system' } },
    { dmPolicy: 'disabled', groupPolicy: 'disabled' },
    'speak',
  ],
  ['a status of a stranger', { class: 'status', sender: stranger }, {}, 'ignore'],
  ...(['anonymous', 'channel', 'service', 'system', 'unknown'] as const).map((kind): Row => [
    `a listed id of kind ${kind}`,
    { sender: { ...owner, kind } },
    {},
    'ignore',
  ]),
  // Direct chats.
  ...classes(
    'speak',
    ['message', 'edit', 'command', 'interaction', 'reaction', 'membership'],
    inDm,
  ),
  ...classes('pair', ['message', 'command'], { ...inDm, sender: stranger }),
  ...classes('ignore', ['edit', 'interaction', 'reaction', 'membership', 'status'], {
    ...inDm,
    sender: stranger,
  }),
  ...classes(
    'ignore',
    ['message', 'command'],
    { ...inDm, sender: stranger },
    { dmPolicy: 'allowlist' },
  ),
  ...classes(
    'ignore',
    ['message', 'command'],
    { ...inDm, sender: stranger },
    { dmPolicy: 'disabled' },
  ),
  ['the owner while direct chats are disabled', inDm, { dmPolicy: 'disabled' }, 'ignore'],
  ['the owner under allowlist', inDm, { dmPolicy: 'allowlist' }, 'speak'],
  ['a stranger beside a list is still offered a code', { ...inDm, sender: stranger }, {}, 'pair'],
  [
    'a stranger with an empty list',
    { ...inDm, sender: stranger },
    { allowFrom: new Set<string>() },
    'pair',
  ],
  ['a paired sender', { ...inDm, sender: paired }, {}, 'speak'],
  [
    'a paired sender once the policy is allowlist',
    { ...inDm, sender: paired },
    { dmPolicy: 'allowlist' },
    'ignore',
  ],
  ['a sender added by the owner', { ...inDm, sender: added }, { dmPolicy: 'allowlist' }, 'speak'],
  [
    'a sender of the gateway list',
    { ...inDm, sender: gateway },
    { dmPolicy: 'allowlist' },
    'speak',
  ],
  [
    'a sender of a gateway list that is off',
    { ...inDm, sender: gateway },
    { gatewayAllowlist: new Set<string>() },
    'pair',
  ],
  ['a bot that is a stranger', { ...inDm, sender: { ...stranger, kind: 'bot' } }, {}, 'ignore'],
  [
    'a webhook that is a stranger',
    { ...inDm, sender: { ...stranger, kind: 'webhook' } },
    {},
    'ignore',
  ],
  ['a bot that is listed by its id', { ...inDm, sender: { ...owner, kind: 'bot' } }, {}, 'speak'],
  [
    'a sender known by an alias',
    { ...inDm, sender: { id: 'new', aliases: ['owner'], kind: 'user' } },
    {},
    'speak',
  ],
  [
    'a sender whose handle is listed',
    { ...inDm, sender: { ...stranger, handle: 'owner' } },
    {},
    'pair',
  ],
  ['a sender whose id differs in case', { ...inDm, sender: { ...owner, id: 'Owner' } }, {}, 'pair'],
  // No room at all.
  ['a modal of the owner', { class: 'interaction', room: nowhere }, {}, 'speak'],
  [
    'a modal of a paired sender',
    { class: 'interaction', room: nowhere, sender: paired },
    {},
    'speak',
  ],
  [
    'a modal of a stranger',
    { class: 'interaction', room: nowhere, sender: stranger },
    {},
    'ignore',
  ],
  [
    'a modal while direct chats are disabled',
    { class: 'interaction', room: nowhere },
    { dmPolicy: 'disabled' },
    'ignore',
  ],
  ['a message of the owner without a room', { room: nowhere }, {}, 'ignore'],
  [
    'a button in a room of unknown kind',
    { class: 'interaction', room: { id: 'x', kind: 'unknown' } },
    {},
    'ignore',
  ],
  // Groups: policy, then room, then sender, then mention.
  ['an addressed message of the owner', { room: group }, {}, 'speak'],
  ['the owner while groups are disabled', { room: group }, { groupPolicy: 'disabled' }, 'ignore'],
  ['a group that is not served', { room: elsewhere }, {}, 'ignore'],
  ['any group when none is listed', { room: group }, { groups: new Map() }, 'ignore'],
  [
    'a group that is switched off',
    { room: group },
    { groups: new Map([['room', { enabled: false }]]) },
    'ignore',
  ],
  ['a channel that is not served', { room: { id: 'elsewhere', kind: 'channel' } }, {}, 'ignore'],
  ['a group of the gateway list', { room: { id: 'gatewayRoom', kind: 'group' } }, {}, 'speak'],
  [
    'a gateway group that the channel switches off',
    { room: { id: 'gatewayRoom', kind: 'group' } },
    { groups: new Map([['gatewayRoom', { enabled: false }]]) },
    'ignore',
  ],
  [
    'a thread of a served group',
    { room: { id: 'thread', parentId: 'room', kind: 'group' } },
    {},
    'speak',
  ],
  [
    'a thread of another group',
    { room: { id: 'thread', parentId: 'other', kind: 'group' } },
    {},
    'ignore',
  ],
  [
    'a group named "*" is no wildcard',
    { room: elsewhere },
    { groups: new Map([['*', {}]]) },
    'ignore',
  ],
  ['a stranger in a served group', { room: group, sender: stranger }, {}, 'ignore'],
  [
    'a stranger is never offered a code in a group',
    { room: group, sender: stranger, class: 'command' },
    {},
    'ignore',
  ],
  ['a paired sender in a group', { room: group, sender: paired }, {}, 'ignore'],
  ['a sender added by the owner in a group', { room: group, sender: added }, {}, 'speak'],
  [
    'the group list alone decides once it is set',
    { room: group },
    { groupAllowFrom: new Set(['other']) },
    'ignore',
  ],
  [
    'an empty group list lets nobody in',
    { room: group },
    { groupAllowFrom: new Set<string>() },
    'ignore',
  ],
  [
    'a sender of the group list who is not in the direct one',
    { room: group, sender: stranger },
    { groupAllowFrom: new Set(['stranger']) },
    'speak',
  ],
  [
    'the list of the group goes before the list of groups',
    { room: group },
    {
      groupAllowFrom: new Set(['owner']),
      groups: new Map([['room', { allowFrom: new Set(['other']) }]]),
    },
    'ignore',
  ],
  [
    'a sender of the list of one group',
    { room: group, sender: stranger },
    { groups: new Map([['room', { allowFrom: new Set(['stranger']) }]]) },
    'speak',
  ],
  ...classes('ignore', ['message', 'edit', 'command'], inGroup),
  ...classes('speak', ['interaction', 'reaction', 'membership'], inGroup),
  ...classes('ignore', ['interaction', 'reaction', 'membership'], { ...inGroup, sender: stranger }),
  ['a mention that cannot be seen', { room: group, mentioned: 'unknown' }, {}, 'ignore'],
  ['the channel does without mentions', inGroup, { requireMention: false }, 'speak'],
  ['the gateway does without mentions', inGroup, { mentionGating: false }, 'speak'],
  ['the gateway asks for mentions', inGroup, { mentionGating: true }, 'ignore'],
  [
    'the channel asks for mentions and the gateway does not',
    inGroup,
    { requireMention: true, mentionGating: false },
    'ignore',
  ],
  [
    'the channel does without and the gateway asks',
    inGroup,
    { requireMention: false, mentionGating: true },
    'speak',
  ],
  [
    'the group asks and the channel does not',
    inGroup,
    { requireMention: false, groups: new Map([['room', { requireMention: true }]]) },
    'ignore',
  ],
  [
    'the group does without and the channel asks',
    inGroup,
    { requireMention: true, groups: new Map([['room', { requireMention: false }]]) },
    'speak',
  ],
  [
    'the topic does without and the group asks',
    { room: { ...group, threadId: '7' }, mentioned: false },
    {
      groups: new Map([
        ['room', { requireMention: true, topics: new Map([['7', { requireMention: false }]]) }],
      ]),
    },
    'speak',
  ],
  [
    'another topic',
    { room: { ...group, threadId: '8' }, mentioned: false },
    { groups: new Map([['room', { topics: new Map([['7', { requireMention: false }]]) }]]) },
    'ignore',
  ],
  [
    'a topic that is switched off',
    { room: { ...group, threadId: '7' } },
    { groups: new Map([['room', { topics: new Map([['7', { enabled: false }]]) }]]) },
    'ignore',
  ],
  [
    'groups go on while direct chats are disabled',
    { room: group },
    { dmPolicy: 'disabled' },
    'speak',
  ],
  ['direct chats go on while groups are disabled', inDm, { groupPolicy: 'disabled' }, 'speak'],
]

for (const [says, message, changes, verdict] of table) {
  const where = message.room === undefined ? '' : ` in ${message.room.kind}`
  const under = Object.keys(changes).join(', ')
  test(`${says}${where}${under === '' ? '' : ` with ${under} set`}: ${verdict}`, () => {
    const found = judgeMessage({ ...base, ...message }, { ...settings, ...changes }, known)
    assert.equal(found.verdict, verdict, found.because)
    assert.ok(found.because.length > 0)
  })
}

test('the verdict names the id or alias by which a sender was let in', () => {
  const message = { ...base, sender: { id: 'new', aliases: ['x', 'owner'], kind: 'user' } as const }
  assert.equal(judgeMessage(message, settings, known).as, 'owner')
  assert.equal(judgeMessage(base, settings, known).as, 'owner')
})

test('adding nobody to any list never lets anybody in, and listing one sender lets in no other', () => {
  fc.assert(
    fc.property(
      fc.string({ minLength: 1 }),
      fc.string({ minLength: 1 }),
      fc.boolean(),
      (listed, other, inRoom) => {
        fc.pre(listed !== other)
        const message: Message = {
          ...base,
          sender: { id: other, aliases: [], kind: 'user' },
          room: inRoom ? group : dm(other),
        }
        const only = {
          ...settings,
          allowFrom: new Set([listed]),
          gatewayAllowlist: new Set<string>(),
        }
        const none = { listed: new Set<string>(), paired: new Set<string>() }
        assert.notEqual(judgeMessage(message, only, none).verdict, 'speak')
      },
    ),
    { numRuns: 300 },
  )
})
