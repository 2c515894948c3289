/** Who may speak, for every combination of what the policy looks at, against the table of docs/channels/README.md. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Message, MessageClass, Room, SenderKind } from '../../src/channels/channel.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { Known, PolicySettings, RoomSettings, Verdict } from '../../src/senders/policy.ts'

const classes: readonly MessageClass[] = [
  'message',
  'edit',
  'command',
  'interaction',
  'reaction',
  'membership',
  'status',
  'system',
  'probe',
  'unknown',
]
const kinds: readonly SenderKind[] = [
  'user',
  'bot',
  'self',
  'channel',
  'anonymous',
  'webhook',
  'service',
  'system',
  'unknown',
]

/** Each sender is named after the one list that has them. */
const ids = ['direct', 'gateway', 'added', 'paired', 'groups', 'place', 'nobody', null] as const
type Id = (typeof ids)[number]

const rooms: Readonly<Record<string, Room>> = {
  dm: { id: 'chat', kind: 'dm' },
  'dm without an id': { id: null, kind: 'dm' },
  'no room': { id: null, kind: 'unknown' },
  'a room of unknown kind': { id: 'served', kind: 'unknown' },
  'a group without an id': { id: null, kind: 'group' },
  served: { id: 'served', kind: 'group' },
  'served channel': { id: 'served', kind: 'channel' },
  'a thread of it': { id: 'thread', parentId: 'served', kind: 'group' },
  'its closed topic': { id: 'served', threadId: 'closed', kind: 'group' },
  'its own topic': { id: 'served', threadId: 'own', kind: 'group' },
  'switched off': { id: 'off', kind: 'group' },
  'of the gateway': { id: 'shared', kind: 'group' },
  'of the gateway, switched off': { id: 'sharedOff', kind: 'group' },
  elsewhere: { id: 'elsewhere', kind: 'group' },
}
/** Rooms with people of their own. */
const withOwnList = new Set(['its own topic'])
const notServed = new Set([
  'a group without an id',
  'its closed topic',
  'switched off',
  'of the gateway, switched off',
  'elsewhere',
])

const groups = new Map<string, RoomSettings>([
  [
    'served',
    {
      topics: new Map<string, RoomSettings>([
        ['closed', { enabled: false }],
        ['own', { allowFrom: new Set(['place']) }],
      ]),
    },
  ],
  ['off', { enabled: false }],
  ['sharedOff', { enabled: false }],
])
const known: Known = { listed: new Set(['added']), paired: new Set(['paired']) }
const base: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: new Set(['direct']),
  groupPolicy: 'allowlist',
  groups,
  gatewayAllowlist: new Set(['gateway']),
  gatewayGroups: new Set(['shared', 'sharedOff']),
}

interface Case {
  readonly of: MessageClass
  readonly kind: SenderKind
  readonly id: Id
  readonly alias: boolean
  readonly room: string
  readonly mentioned: boolean | 'unknown'
  readonly dmPolicy: PolicySettings['dmPolicy']
  readonly groupPolicy: PolicySettings['groupPolicy']
  readonly groupList: boolean
}

/** The table, line by line. */
function expected(at: Case): Verdict['verdict'] {
  const names = at.alias ? [at.id, 'direct'] : [at.id]
  const on = (...lists: readonly string[]) =>
    names.some((one) => one !== null && lists.includes(one))
  if (['system', 'probe', 'unknown'].includes(at.of) || at.kind === 'self') return 'ignore'
  if (at.of === 'status' && at.id === null && at.kind === 'system') return 'speak'
  if (at.id === null || !['user', 'bot', 'webhook'].includes(at.kind)) return 'ignore'
  const direct = at.room.startsWith('dm')
  if (direct || at.room === 'no room') {
    if (at.dmPolicy === 'disabled' || (!direct && at.of !== 'interaction')) return 'ignore'
    if (on('direct', 'gateway', 'added')) return 'speak'
    if (at.dmPolicy === 'allowlist') return 'ignore'
    if (on('paired')) return 'speak'
    const asks = direct && at.kind === 'user' && (at.of === 'message' || at.of === 'command')
    return asks ? 'pair' : 'ignore'
  }
  if (at.room === 'a room of unknown kind' || at.groupPolicy === 'disabled') return 'ignore'
  if (notServed.has(at.room)) return 'ignore'
  const listed = withOwnList.has(at.room)
    ? on('place')
    : at.groupList
      ? on('groups')
      : on('direct', 'gateway', 'added')
  if (!listed) return 'ignore'
  const gated = at.of === 'message' || at.of === 'edit' || at.of === 'command'
  return gated && at.mentioned !== true ? 'ignore' : 'speak'
}

function* every(): Generator<Case> {
  for (const of of classes)
    for (const kind of kinds)
      for (const id of ids)
        for (const alias of [false, true])
          for (const room of Object.keys(rooms))
            for (const mentioned of [true, false, 'unknown'] as const)
              for (const dmPolicy of ['pairing', 'allowlist', 'disabled'] as const)
                for (const groupPolicy of ['allowlist', 'disabled'] as const)
                  for (const groupList of [false, true])
                    yield { of, kind, id, alias, room, mentioned, dmPolicy, groupPolicy, groupList }
}

function judged(at: Case, parts: Partial<Message> = {}): Verdict {
  const message: Message = {
    channel: 'test',
    account: 'default',
    eventType: 'test',
    class: at.of,
    sender: { id: at.id, aliases: at.alias ? ['direct'] : [], handle: 'direct', kind: at.kind },
    room: rooms[at.room] ?? assert.fail(at.room),
    mentioned: at.mentioned,
    dedupeKey: '1',
    deliveryKey: '1',
    index: 0,
    replyTo: {},
    ...parts,
  }
  const { dmPolicy, groupPolicy, groupList } = at
  const groupAllowFrom = groupList ? { groupAllowFrom: new Set(['groups']) } : {}
  return judgeMessage(message, { ...base, dmPolicy, groupPolicy, ...groupAllowFrom }, known)
}

test('every message, sender, room and policy has the verdict of the table, and a withheld one never passes', () => {
  let cases = 0
  for (const at of every()) {
    cases += 1
    const { verdict, because } = judged(at)
    if (verdict !== expected(at)) assert.fail(`${JSON.stringify(at)}: ${verdict}, ${because}`)
    if (judged(at, { withhold: 'why' }).verdict !== 'ignore') assert.fail(JSON.stringify(at))
  }
  assert.equal(cases, 10 * 9 * 8 * 2 * 14 * 3 * 3 * 2 * 2)
})

test('the nearest place that says anything about mentions wins, for every combination of places', () => {
  const says = [undefined, true, false] as const
  for (const topic of says)
    for (const group of says)
      for (const channel of says)
        for (const gateway of says)
          for (const of of classes) {
            const given = (value: boolean | undefined) =>
              value === undefined ? {} : { requireMention: value }
            const topics = new Map([['7', given(topic)]])
            const settings: PolicySettings = {
              ...base,
              ...given(channel),
              ...(gateway === undefined ? {} : { mentionGating: gateway }),
              groups: new Map([['served', { ...given(group), topics }]]),
            }
            const needed = topic ?? group ?? channel ?? gateway ?? true
            const gated = ['message', 'edit', 'command'].includes(of)
            const never = ['system', 'probe', 'unknown'].includes(of)
            const { verdict } = judgeMessage(
              {
                channel: 'test',
                account: 'default',
                eventType: 'test',
                class: of,
                sender: { id: 'direct', aliases: [], kind: 'user' },
                room: { id: 'served', threadId: '7', kind: 'group' },
                mentioned: false,
                dedupeKey: '1',
                deliveryKey: '1',
                index: 0,
                replyTo: {},
              },
              settings,
              known,
            )
            const wanted = never || (needed && gated) ? 'ignore' : 'speak'
            assert.equal(verdict, wanted, JSON.stringify({ topic, group, channel, gateway, of }))
          }
})
