/** Whoever may speak no more says nothing to the agent, also not what waited for it to start (CWE-367). */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'

import { channelNamed } from '../../src/channels/all.ts'
import { accountWith, openDesk, TestClock } from '../support/people.ts'
import { openRoad, type Road } from '../support/road.ts'
import { eventually } from '../support/sidecar.ts'
import { matrixEvents, matrixToken, post, telegram } from '../support/webhooks.ts'

const telegramPlace = { channel: 'telegram', account: 'default' }

/** A road before an agent that is starting until the test says otherwise. */
async function waitingRoad(t: TestContext, name: string) {
  const clock = new TestClock()
  const { settings } = (await openDesk(clock)).desk
  const channel = channelNamed(name)
  assert.ok(channel !== undefined)
  const waits: ((state: 'ready') => void)[] = []
  let started = false
  const path = name === 'matrix' ? '/' : telegram.path
  const secrets =
    name === 'matrix'
      ? { hsToken: matrixToken }
      : { webhookSecret: telegram.write({ from: '1', words: '', key: 1 }).headers[secretHeader] }
  const account = { ...accountWith(secrets as Record<string, string>), webhookPath: path }
  const directRooms = new Set(['!dm:hs.test'])
  const desk = { ...settings, channel, account: { ...account, directRooms }, listed: [] }
  const road = await openRoad(desk, clock, {
    ready: () => (started ? undefined : new Promise((resolve) => waits.push(resolve))),
  })
  t.after(() => road.close())
  const start = () => {
    started = true
    for (const resolve of waits) resolve('ready')
  }
  return { road, clock, start, waiting: () => eventually(() => waits.length > 0, 'it waits') }
}

const secretHeader = 'X-Telegram-Bot-Api-Secret-Token'
const events = (road: Road) => road.records.map(({ event }) => event)

test('what a paired sender said while the agent starts is withheld when the pairing is revoked meanwhile', async (t) => {
  const { road, clock, start, waiting } = await waitingRoad(t, 'telegram')
  const { list } = road.people
  await list.admit({ ...telegramPlace, sender: '7', kind: 'paired', since: clock.now() })
  const written = telegram.write({ from: '7', words: 'hi', key: 1, at: clock.now() })
  const answer = post(road.port, written)
  await waiting()
  await list.remove(telegramPlace, '7')
  start()
  assert.equal((await answer).status, 200)
  assert.deepEqual(road.passed, [])
  assert.deepEqual(events(road), ['message.allowed', 'message.withheld'])
  assert.equal(road.people.book.pending().length, 0)
})

test('what a sender said while the agent starts is withheld when the entry expires meanwhile', async (t) => {
  const { road, clock, start, waiting } = await waitingRoad(t, 'telegram')
  const until = clock.now() + 1000
  const entry = {
    ...telegramPlace,
    sender: '7',
    kind: 'listed',
    since: 0,
    expiresAt: until,
  } as const
  await road.people.list.admit(entry)
  const answer = post(
    road.port,
    telegram.write({ from: '7', words: 'hi', key: 1, at: clock.now() }),
  )
  await waiting()
  clock.pass(1000)
  start()
  assert.equal((await answer).status, 200)
  assert.deepEqual(road.passed, [])
})

test('of a batch that waits only what those said goes on who may still speak', async (t) => {
  const { road, clock, start, waiting } = await waitingRoad(t, 'matrix')
  const { list } = road.people
  const place = { channel: 'matrix', account: 'default' }
  for (const sender of ['@a:hs.test', '@b:hs.test']) {
    await list.admit({ ...place, sender, kind: 'paired', since: 0 })
  }
  const answer = post(
    road.port,
    matrixEvents('1', ['@a:hs.test', '@b:hs.test', '@c:hs.test'], clock.now()),
    { method: 'PUT' },
  )
  await waiting()
  await list.remove(place, '@a:hs.test')
  start()
  assert.equal((await answer).status, 200)
  assert.equal(road.passed.length, 1)
  const text = road.passed[0]?.body?.toString() ?? ''
  const left = JSON.parse(text) as { events: { sender: string }[] }
  assert.deepEqual(
    left.events.map(({ sender }) => sender),
    ['@b:hs.test'],
  )
})

test('what waited for the agent goes on as it came when nobody was taken out', async (t) => {
  const { road, clock, start, waiting } = await waitingRoad(t, 'telegram')
  const written = telegram.write({ from: '1', words: 'hi', key: 1, at: clock.now() })
  const answer = post(road.port, written)
  await waiting()
  start()
  assert.equal((await answer).status, 200)
  assert.deepEqual(road.passed[0]?.body, written.body)
  assert.deepEqual(events(road), ['message.allowed'])
})
