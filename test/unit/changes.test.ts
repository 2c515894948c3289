import assert from 'node:assert/strict'
import { test } from 'node:test'
import { betweenRecords, changeEntry, type ChangeNote } from '../../src/admin/changes.ts'
import { Failure } from '../../src/errors.ts'

const change = { operation: 'config set', about: 'gateway.port', uid: 1000 }
const full = new Failure('AUDIT_UNWRITABLE', 'the audit log cannot be written (ENOSPC)')

/** A log that takes the stages it is told to, and what it has taken. */
function logOf(...stages: readonly ChangeNote['stage'][]) {
  const taken: string[] = []
  const note = (one: ChangeNote): Promise<void> => {
    if (!stages.includes(one.stage)) return Promise.reject(full)
    taken.push(one.stage)
    return Promise.resolve()
  }
  return { taken, note }
}

test('a change that cannot be recorded before is not made', async () => {
  let made = false
  const { note } = logOf()
  const make = () => {
    made = true
    return Promise.resolve({ value: 1 })
  }
  await assert.rejects(betweenRecords(change, note, make), {
    code: 'AUDIT_UNWRITABLE',
    message: /ENOSPC\)\. Nothing was changed\.$/,
  })
  assert.equal(made, false)
})

test('a change whose outcome cannot be recorded says that it was carried out', async () => {
  const { note, taken } = logOf('begun')
  await assert.rejects(
    betweenRecords(change, note, () => Promise.resolve({ value: 1 })),
    {
      code: 'AUDIT_UNWRITABLE',
      message: /"config set" was carried out; the log has only that it began\.$/,
    },
  )
  assert.deepEqual(taken, ['begun'])
})

test('what made a change fail is told, whether or not that can be recorded', async () => {
  const wrong = new Failure('BOUNDS', 'the port is too large', { exitCode: 2 })
  const both = logOf('begun', 'failed')
  await assert.rejects(
    betweenRecords(change, both.note, () => Promise.reject(wrong)),
    wrong,
  )
  assert.deepEqual(both.taken, ['begun', 'failed'])
  const one = logOf('begun')
  await assert.rejects(
    betweenRecords(change, one.note, () => Promise.reject(wrong)),
    {
      code: 'BOUNDS',
      exitCode: 2,
      message: /too large\. And the audit log could not record it: .*ENOSPC/,
    },
  )
})

test('a record of a change names who, what and the configuration, and is of no other kind', () => {
  assert.deepEqual(changeEntry({ ...change, stage: 'failed', code: 'BOUNDS', config: 'ab' }), {
    event: 'change.failed',
    identity: 'uid 1000',
    because: 'config set: gateway.port',
    code: 'BOUNDS',
    config: 'ab',
  })
})
