import assert from 'node:assert/strict'
import { test } from 'node:test'

import fc from 'fast-check'

import { allow, deny, type Decision, type Gate } from '../../src/gates/gate.ts'
import { judge, type Verdict } from '../../src/proxy/pipeline.ts'
import { someFacts } from '../support/request.ts'

const settings = { gateTimeMs: 20 }
const gate = (decide: Gate['decide'], name = 'one'): Gate => ({ name, decide })
const asked = (gates: readonly Gate[]): Promise<Verdict> =>
  Promise.resolve(judge(gates, someFacts(), settings))

type Kind = 'yes' | 'later yes' | 'no' | 'later no' | 'throws' | 'rejects' | 'hangs' | 'silent'

const kinds: Record<Kind, Gate['decide']> = {
  yes: () => allow,
  'later yes': () => Promise.resolve(allow),
  no: () => deny('PATH_DENIED', 'no'),
  'later no': () => Promise.resolve(deny('PATH_DENIED', 'no')),
  throws: () => {
    throw new Error('broken')
  },
  rejects: () => Promise.reject(new Error('broken')),
  hangs: () => new Promise<Decision>(() => undefined),
  silent: () => undefined as unknown as Decision,
}

test('a request passes only when every gate says yes', async () => {
  const kind = fc.constantFrom(...(Object.keys(kinds) as Kind[]).filter((name) => name !== 'hangs'))
  await fc.assert(
    fc.asyncProperty(fc.array(kind, { maxLength: 8 }), async (list) => {
      const verdict = await asked(list.map((name) => gate(kinds[name])))
      const all = list.every((name) => name === 'yes' || name === 'later yes')
      assert.equal(verdict.decision.allow, all)
    }),
  )
})

test('a gate that throws, rejects, says nothing or takes too long is a no', async () => {
  for (const name of ['throws', 'rejects', 'silent', 'hangs'] as const) {
    const { decision, gate: who } = await asked([gate(kinds.yes), gate(kinds[name], name)])
    assert.equal(decision.allow, false)
    assert.equal(decision.allow ? '' : decision.code, 'GATE_FAILED')
    assert.equal(who, name)
  }
})

test('the first no ends it: later gates are not asked', async () => {
  let later = 0
  const count = gate(() => {
    later += 1
    return allow
  })
  await asked([gate(kinds.no), count])
  await asked([gate(kinds['later no']), count])
  await asked([gate(kinds.throws), count])
  assert.equal(later, 0)
})

test('gates that answer at once make no promise', () => {
  assert.ok(!(judge([gate(kinds.yes), gate(kinds.yes)], someFacts(), settings) instanceof Promise))
})

test('later gates see the identity that an earlier one found, and headers add up', async () => {
  const identity = { id: 'token:a', name: 'a', scopes: ['read'], paths: [] } as const
  const seen: string[] = []
  const verdict = await asked([
    gate(() => ({ allow: true, identity, headers: ['A', '1'] })),
    gate((_facts, who) => {
      seen.push(who.name)
      return { allow: true, headers: ['B', '2'] }
    }),
    gate(() => deny('RATE_LIMITED', 'often', ['Retry-After', '3'])),
  ])
  assert.deepEqual(seen, ['a'])
  assert.equal(verdict.identity.name, 'a')
  assert.deepEqual(verdict.headers, ['A', '1', 'B', '2', 'Retry-After', '3'])
})
