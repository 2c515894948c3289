/** Answers to strangers on Signal by calls of signal-cli: one for each, again when it is busy, none where policy says so. */
import assert from 'node:assert/strict'
import { get } from 'node:http'
import { test, type TestContext } from 'node:test'

import { envelopeOf, startSignalDaemon, wordsOf, type Person } from '../support/signal-cli.ts'
import { freePort } from '../support/ports.ts'
import { eventually, sidecarFor } from '../support/sidecar.ts'

const own = '+15550000000'
const agentToken = 'k7Qp2vXz9LmN4rTb8WcY6dHf3sJg1AeU'
const owner: Person = { number: '+15551230001', uuid: '11111111-1111-4111-8111-111111111111' }
const stranger = (nth: number): Person => ({
  number: `+1555999000${nth}`,
  uuid: `99999999-9999-4999-8999-99999999999${nth}`,
})

/** A daemon, Hardshell, and a bot that only listens. */
async function place(t: TestContext, policy: object = {}) {
  const daemon = await startSignalDaemon(own)
  t.after(() => daemon.stop())
  const port = await freePort()
  const side = await sidecarFor(t, {
    config: {
      channels: {
        signal: {
          listen: `127.0.0.1:${port}`,
          agentToken,
          apiRoot: daemon.url,
          botIds: [own],
          allowFrom: [`uuid:${owner.uuid}`],
          ...policy,
        },
      },
    },
  })
  let text = ''
  const stream = get(`http://127.0.0.1:${port}/${agentToken}/api/v1/events`, (answer) => {
    answer.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
    answer.on('error', () => undefined)
  })
  stream.on('error', () => undefined)
  t.after(() => stream.destroy())
  await eventually(() => daemon.streams.length === 1, 'the bot listens')
  const events = (event: string) => side.records().filter((one) => one['event'] === event)
  return {
    daemon,
    side,
    events,
    /** All that was said before has been judged. */
    judged: async () => {
      const before = text.length
      daemon.say(owner, 'mark')
      await eventually(() => text.slice(before).includes('mark'), 'the owner is heard')
      assert.ok(!text.includes('let me in'))
    },
    sends: () => daemon.calls.filter(({ method }) => method === 'send'),
  }
}

test('a stranger leads to exactly one call of send, for this account and that person', async (t) => {
  const { daemon, events, judged, sends } = await place(t)
  daemon.say(stranger(1), 'let me in')
  await eventually(() => events('reply.sent').length === 1, 'the stranger is answered')
  daemon.say(stranger(1), 'let me in, please')
  await judged()
  const [only, ...more] = sends()
  assert.equal(more.length, 0)
  const { message, ...params } = only?.params ?? {}
  assert.deepEqual(params, { recipient: [stranger(1).uuid], account: own })
  assert.match(String(message), /^Pairing code: [A-HJ-NP-Z2-9]{8}\n/)
  assert.deepEqual([...new Set(daemon.requests)], ['GET /api/v1/events', 'POST /api/v1/rpc'])
})

test('a daemon that is busy is asked again, and one that says no is not', async (t) => {
  const { daemon, events, sends } = await place(t)
  daemon.answers.push(503, 'rate limited', 'ok')
  daemon.say(stranger(1), 'let me in')
  await eventually(() => events('reply.sent').length === 1, 'the stranger is answered', 15_000)
  assert.equal(daemon.requests.filter((one) => one.startsWith('POST')).length, 3)
  assert.equal(sends().length, 2, 'the daemon took two of the three')
  daemon.answers.push('internal error')
  daemon.say(stranger(2), 'let me in')
  await eventually(() => events('reply.failed').length === 1, 'the call has failed')
  assert.equal(events('reply.failed')[0]?.['because'], 'signal-cli says -32603')
  assert.equal(sends().length, 3)
})

test('strangers are answered so often in an hour and no more', async (t) => {
  const { daemon, events, judged, sends } = await place(t, { repliesPerHour: 2 })
  for (const nth of [1, 2, 3, 4]) daemon.say(stranger(nth), 'let me in')
  await judged()
  await eventually(() => events('reply.sent').length === 2, 'two are answered')
  assert.equal(sends().length, 2)
  assert.equal(events('pairing.requested').length, 4)
})

for (const policy of [
  { dm: { policy: 'allowlist' } },
  { dm: { policy: 'disabled' }, groups: { 'R3JvdXBJZExhYg==': { requireMention: false } } },
  { reply: 'silent' },
]) {
  test(`nobody is answered under ${JSON.stringify(policy)}`, async (t) => {
    const { daemon, sends, events } = await place(t, policy)
    daemon.say(stranger(1), 'let me in')
    const groupInfo = { groupId: 'R3JvdXBJZExhYg==', type: 'DELIVER' }
    daemon.receive(envelopeOf(stranger(1), wordsOf('let me in', { groupInfo })))
    await eventually(
      () => events('message.withheld').length + events('pairing.requested').length === 2,
      'both are judged',
    )
    assert.deepEqual(sends(), [])
  })
}
