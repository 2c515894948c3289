/** What the owner can do about people, by the command line or the socket: checked inputs, plain answers. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Failure } from '../../src/errors.ts'
import {
  peopleOperations,
  type ConfiguredAccount,
  type PeopleContext,
} from '../../src/senders/operations.ts'
import type { PeopleRecord } from '../../src/senders/people.ts'
import { openBooks, TestClock } from '../support/people.ts'

const day = 24 * 3_600_000
const place = { channel: 'telegram', account: 'default' }
const configured: readonly ConfiguredAccount[] = [
  { ...place, listed: [{ sender: '1', where: 'channels.telegram.allowFrom' }] },
  { channel: 'slack', account: 'work', listed: [] },
  { channel: 'slack', account: 'home', listed: [] },
]

async function operating(more: Partial<PeopleContext> = {}) {
  const clock = new TestClock()
  const { list, book } = await openBooks(clock)
  const records: PeopleRecord[] = []
  const said: unknown[] = []
  const operations = peopleOperations({
    list,
    book,
    accounts: configured,
    now: clock.now,
    evidence: { append: (record) => void records.push(record) },
    say: (...args) => {
      said.push(args)
      return true
    },
    ...more,
  })
  const run = async (name: string, input?: unknown): Promise<Record<string, unknown>> => {
    const operation = operations[name]
    if (operation === undefined) throw new Error(name)
    return (await operation(input)) as Record<string, unknown>
  }
  const ask = async (sender: string, at = place) => {
    const asked = await book.ask(at, sender, { chat: sender })
    return asked.kind === 'issued' ? asked.request.code : ''
  }
  return { clock, list, book, records, said, run, ask }
}

const failing = (code: string, exitCode: 1 | 2) => (thrown: unknown) =>
  thrown instanceof Failure && thrown.code === code && thrown.exitCode === exitCode

test('an approval lets one sender in, once, and says so in the log without the code', async () => {
  const { run, ask, list, records } = await operating()
  const code = await ask('7')
  assert.deepEqual(await run('pairing.approve', { channel: 'telegram', code }), {
    ...place,
    sender: '7',
    notified: false,
  })
  assert.ok(list.known(place).paired.has('7'))
  await assert.rejects(
    run('pairing.approve', { channel: 'telegram', code }),
    failing('PAIRING_UNKNOWN', 1),
  )
  assert.deepEqual(
    records.map(({ event, sender }) => [event, sender]),
    [
      ['pairing.approved', 'telegram:7'],
      ['pairing.refused', undefined],
    ],
  )
  assert.ok(!JSON.stringify(records).includes(code))
})

test('a list of requests shows codes and no addresses', async () => {
  const { run, ask } = await operating()
  const code = await ask('7')
  const { requests } = await run('pairing.list')
  assert.ok(JSON.stringify(requests).includes(code))
  assert.ok(!JSON.stringify(requests).includes('replyTo'))
  assert.deepEqual(await run('pairing.list', { channel: 'slack' }), { requests: [] })
})

test('the sender is told when the owner asks for it', async () => {
  const { run, ask, said } = await operating()
  await run('pairing.approve', { channel: 'telegram', code: await ask('7'), notify: true })
  assert.deepEqual(said, [[place, '7', 'You have been let in. Say it again.', { chat: '7' }]])
})

test('a denied request is gone and nobody is in', async () => {
  const { run, ask, list, book } = await operating()
  const code = await ask('7')
  await run('pairing.deny', { channel: 'telegram', code })
  assert.equal(book.pending().length, 0)
  assert.ok(!list.known(place).paired.has('7'))
})

test('a pairing is revoked by any spelling of the id, with a request that waits', async () => {
  const { run, ask, list, book } = await operating()
  await run('pairing.approve', { channel: 'telegram', code: await ask('7') })
  await run('pairing.revoke', { channel: 'telegram', sender: 'tg:7' })
  assert.ok(!list.known(place).paired.has('7'))
  await ask('8')
  await run('pairing.revoke', { channel: 'telegram', sender: '8' })
  assert.equal(book.pending().length, 0)
  await assert.rejects(
    run('pairing.revoke', { channel: 'telegram', sender: '7' }),
    failing('SENDER_UNKNOWN', 1),
  )
})

test('whoever was let in can be taken out, whatever the id looks like', async () => {
  const odd = [
    ...['Anna Maria', '*', ' 7', '7 ', '@olga', 'telegram:7', 'tg:7', 'accessGroup:7', 'a\\u0062'],
    'o\u202elga',
    '\u009b2J',
    'о\u043bga',
  ]
  for (const verb of ['pairing.revoke', 'allowlist.remove']) {
    for (const sender of odd) {
      const { run, ask, list, book } = await operating()
      await run('pairing.approve', { channel: 'telegram', code: await ask(sender) })
      // Another one, whom an entry of the same spelling would mean.
      await list.admit({ ...place, sender: '7', kind: 'paired', since: 0 })
      await run(verb, { channel: 'telegram', sender })
      assert.ok(!list.known(place).paired.has(sender), `${verb} ${sender}`)
      assert.ok(list.known(place).paired.has('7'), `${verb} ${sender}`)
      await ask(sender)
      await run(verb, { channel: 'telegram', sender })
      assert.equal(book.pending().length, 0)
    }
  }
})

test('a sender is also meant by the escapes with which a list shows what is not plain', async () => {
  const { run, ask, list } = await operating()
  const sender = 'o\u202elga'
  await run('pairing.approve', { channel: 'telegram', code: await ask(sender) })
  await run('pairing.revoke', { channel: 'telegram', sender: 'o\\u202elga' })
  assert.ok(!list.known(place).paired.has(sender))
})

test('what the owner added is not a pairing: revoke refuses it and approve keeps it', async () => {
  const { run, ask, list } = await operating()
  const code = await ask('7')
  await list.admit({ ...place, sender: '7', kind: 'listed', since: 0, note: 'Olga' })
  await run('pairing.approve', { channel: 'telegram', code })
  assert.equal(list.find(place, '7')?.note, 'Olga')
  await assert.rejects(
    run('pairing.revoke', { channel: 'telegram', sender: '7' }),
    failing('SENDER_LISTED', 1),
  )
})

test('a sender is added until removed, or for a time, and a request of theirs is dropped', async () => {
  const { run, ask, list, book, clock } = await operating()
  await ask('7')
  const view = await run('allowlist.add', {
    channel: 'telegram',
    sender: 'telegram:7',
    expiresInMs: day,
    note: 'on call',
  })
  assert.equal(view['expiresAt'], clock.now() + day)
  assert.equal(book.pending().length, 0)
  assert.ok(list.known(place).listed.has('7'))
  clock.pass(day)
  assert.ok(!list.known(place).listed.has('7'))
})

test('a handle, an unknown channel or account, and a time out of bounds are bad usage', async () => {
  const { run } = await operating()
  const cases: readonly (readonly [object, string])[] = [
    [{ channel: 'telegram', sender: '@olga' }, 'SENDER_ID'],
    [{ channel: 'telegram', sender: '*' }, 'SENDER_ID'],
    [{ channel: 'telegramm', sender: '7' }, 'CHANNEL_UNKNOWN'],
    [{ channel: 'discord', sender: '1'.repeat(18) }, 'CHANNEL_UNCONFIGURED'],
    [{ channel: 'slack', sender: 'U0ABC' }, 'ACCOUNT_NEEDED'],
    [{ channel: 'slack', sender: 'U0ABC', account: 'hom' }, 'ACCOUNT_UNKNOWN'],
    [{ channel: 'telegram', sender: '7', expiresInMs: 0 }, 'PEOPLE_INPUT'],
    [{ channel: 'telegram', sender: '7', expiresInMs: 1e15 }, 'PEOPLE_INPUT'],
    [{ channel: 'telegram', sender: '' }, 'PEOPLE_INPUT'],
    [{ channel: 7, sender: '7' }, 'PEOPLE_INPUT'],
    [{ channel: 'telegram', sender: '7', more: 1 }, 'PEOPLE_INPUT'],
  ]
  for (const [input, code] of cases) {
    await assert.rejects(run('allowlist.add', input), failing(code, 2), JSON.stringify(input))
  }
})

test('whoever is taken off is out at once, paired or added, and told apart from the file', async () => {
  const { run, ask, list } = await operating()
  await run('pairing.approve', { channel: 'telegram', code: await ask('7') })
  const gone = await run('allowlist.remove', { channel: 'telegram', sender: '7' })
  assert.deepEqual([gone['removed'], gone['stillListed']], [[place], []])
  assert.ok(!list.known(place).paired.has('7'))
  const still = await run('allowlist.remove', { channel: 'telegram', sender: '1' })
  assert.deepEqual([still['removed'], still['stillListed']], [[], ['channels.telegram.allowFrom']])
  await assert.rejects(
    run('allowlist.remove', { channel: 'telegram', sender: '99' }),
    failing('SENDER_UNKNOWN', 1),
  )
})

test('lists name where each entry comes from and when it was last used', async () => {
  const { run, ask, list, clock } = await operating()
  await run('pairing.approve', { channel: 'telegram', code: await ask('7') })
  await run('allowlist.add', { channel: 'slack', account: 'work', sender: 'U0ABC' })
  list.spoke(place, '1')
  const { senders } = (await run('allowlist.list')) as unknown as {
    senders: { sender: string; from: string; lastSpoke?: number }[]
  }
  assert.deepEqual(
    senders.map(({ sender, from, lastSpoke }) => [sender, from, lastSpoke]),
    [
      ['U0ABC', 'allowlist add', undefined],
      ['1', 'channels.telegram.allowFrom', clock.now()],
      ['7', 'pairing', undefined],
    ],
  )
})

test('a review finds what is unused, expired, or of an account that is gone', async () => {
  const { run, list, clock } = await operating()
  const since = clock.now()
  await list.admit({ ...place, sender: '7', kind: 'paired', since })
  await list.admit({ ...place, sender: '8', kind: 'listed', since, expiresAt: since + day })
  await list.admit({
    channel: 'zalo',
    account: 'default',
    sender: 'abcdefgh',
    kind: 'paired',
    since,
  })
  list.spoke(place, '1')
  const found = async (unusedMs?: number) =>
    (
      (await run('allowlist.review', unusedMs === undefined ? {} : { unusedMs })) as unknown as {
        findings: { sender: string; why: string }[]
      }
    ).findings.map(({ sender, why }) => `${sender} ${why}`)
  assert.deepEqual(await found(), ['abcdefgh unknown'])
  clock.pass(30 * day - 1)
  assert.deepEqual(await found(), ['8 expired', 'abcdefgh unknown'])
  clock.pass(1)
  assert.deepEqual(await found(), ['1 unused', '7 unused', '8 expired', 'abcdefgh unknown'])
  assert.deepEqual(await found(31 * day), ['8 expired', 'abcdefgh unknown'])
})

test('without a configuration the lists of the store can still be kept', async () => {
  const { run, list } = await operating({ accounts: undefined, say: undefined })
  await run('allowlist.add', { channel: 'telegram', sender: '7' })
  assert.ok(list.known(place).listed.has('7'))
  const gone = await run('allowlist.remove', { channel: 'telegram', sender: '7' })
  assert.deepEqual(gone['removed'], [place])
})
