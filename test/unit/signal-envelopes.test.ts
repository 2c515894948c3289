/** Whatever an envelope of Signal holds: a stranger's words reach nobody, and so does what nobody can name. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { streamMessage } from '../../src/channels/signal.ts'
import { judgeMessage, type PolicySettings } from '../../src/senders/policy.ts'
import { accountWith } from '../support/people.ts'

const own = '+15550000000'
const owner = 'uuid:11111111-1111-4111-8111-111111111111'
const group = 'R3JvdXBJZExhYg=='
const account = { ...accountWith({}), bot: { ids: [own], names: [] } }
const nobody = new Set<string>()
const policy: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: new Set([owner]),
  groupPolicy: 'allowlist',
  groups: new Map([[group, { requireMention: false }]]),
  gatewayAllowlist: nobody,
  gatewayGroups: nobody,
}
const judged = (event: unknown) =>
  judgeMessage(streamMessage(JSON.stringify(event), account), policy, {
    listed: nobody,
    paired: nobody,
  })

const parts = [
  'dataMessage',
  'editMessage',
  'syncMessage',
  'callMessage',
  'storyMessage',
  'typingMessage',
  'receiptMessage',
  'pniMessage',
  'message',
]
const keys = [
  ...['message', 'dataMessage', 'groupInfo', 'groupV2', 'groupId', 'id', 'reaction', 'sticker'],
  ...['attachments', 'contacts', 'quote', 'author', 'mentions', 'number', 'uuid', 'sourceUuid'],
  ...['sentMessage', 'destination', 'remoteDelete', 'pollCreate', 'envelope', 'account'],
]
const leaf = fc.oneof(
  fc.string({ maxLength: 8 }),
  fc.constantFrom(own, owner, owner.slice(5), group, null, true, 0, 1),
)
const { content } = fc.letrec<{ content: unknown }>((tie) => ({
  content: fc.oneof(
    { maxDepth: 4 },
    leaf,
    fc.array(tie('content'), { maxLength: 3 }),
    fc.dictionary(fc.constantFrom(...keys), tie('content'), { maxKeys: 5 }),
  ),
}))
const stranger = fc.record(
  {
    source: fc.constantFrom(own, owner, '+15559990002'),
    sourceNumber: fc.constantFrom('+15559990002', null, 7, ''),
    sourceUuid: fc.constantFrom('99999999-9999-4999-8999-999999999999', 'x', null, owner),
    sourceName: fc.constantFrom('N', owner, own),
    timestamp: fc.constantFrom(1_764_000_000_000, 0, 'x'),
  },
  { requiredKeys: [] },
)
const inParts = fc.dictionary(fc.constantFrom(...parts), content, { maxKeys: 3 })

test('no envelope of a stranger speaks, but a sign of typing or reading that stands alone', () => {
  fc.assert(
    fc.property(stranger, inParts, (who, said) => {
      const envelope = { ...who, ...said }
      const { verdict } = judged({ envelope, account: own })
      if (verdict !== 'speak') return
      const objects = Object.entries(envelope).filter(
        ([, value]) => typeof value === 'object' && value !== null,
      )
      assert.equal(objects.length, 1)
      assert.ok(['typingMessage', 'receiptMessage'].includes(objects[0]?.[0] ?? ''))
    }),
    { numRuns: 3000 },
  )
})

test('whoever is asked to pair wrote words in a direct chat', () => {
  fc.assert(
    fc.property(stranger, inParts, (who, said) => {
      const envelope = { ...who, ...said }
      const { verdict } = judged({ envelope, account: own })
      if (verdict !== 'pair') return
      assert.equal(
        streamMessage(JSON.stringify({ envelope, account: own }), account).eventType,
        'dataMessage',
      )
    }),
    { numRuns: 3000 },
  )
})

test('the owner is heard with any words, in a direct chat and in a served group', () => {
  const from = { sourceUuid: owner.slice(5), sourceNumber: '+15551230001', timestamp: 1 }
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.boolean(), (message, grouped) => {
      const groupInfo = grouped ? { groupInfo: { groupId: group, type: 'DELIVER' } } : {}
      const envelope = { ...from, dataMessage: { message, ...groupInfo } }
      assert.equal(judged({ envelope, account: own }).verdict, 'speak')
    }),
  )
})

test('what is no event at all is withheld', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.equal(judged(value).verdict, 'ignore')
    }),
  )
})
