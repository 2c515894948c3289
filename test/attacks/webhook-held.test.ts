/** Many half-sent webhooks at once must not fill the memory (CWE-770): the newest is asked to come again. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'

import { openDesk, TestClock } from '../support/people.ts'
import { exchange } from '../support/raw.ts'
import { openRoad } from '../support/road.ts'
import { telegram } from '../support/webhooks.ts'

const MiB = 1024 ** 2
const secretHeader = 'X-Telegram-Bot-Api-Secret-Token'
const said = (key: number) => ({ from: telegram.owner, words: 'go', key })
const done = (text: string) => text.includes('}')

async function openSmallRoad() {
  const clock = new TestClock()
  clock.ms = Date.now()
  const { settings } = (await openDesk(clock)).desk
  const account = {
    ...settings.account,
    webhookPath: telegram.path,
    settings: { webhookSecret: telegram.write(said(1)).headers[secretHeader] ?? '' },
  }
  const policy = { ...settings.policy, allowFrom: new Set([telegram.owner]) }
  return openRoad({ ...settings, account, policy }, clock, { bodiesBytes: 2 * MiB })
}

function bytesOf(key: number, size: number): Buffer {
  const { body } = telegram.write(said(key))
  return Buffer.concat([body, Buffer.alloc(size - body.length, ' ')])
}

const head = (bytes: number) =>
  [
    `POST ${telegram.path} HTTP/1.1`,
    'Host: localhost',
    ...Object.entries(telegram.write(said(1)).headers).map(([name, value]) => `${name}: ${value}`),
    `Content-Length: ${bytes}`,
    '',
    '',
  ].join('\r\n')

test('bodies that wait for their end fill a bounded room, and it is free again when they end', async (t) => {
  const { port, passed, close } = await openSmallRoad()
  t.after(close)
  const size = MiB - 1000
  const half = (key: number, waitMs: number) => {
    const body = bytesOf(key, size)
    const pieces = [head(size), body.subarray(0, size - 1), waitMs, body.subarray(size - 1)]
    return exchange(port, pieces, { until: done, timeMs: 20_000 })
  }
  const slow = [half(1, 6000), half(2, 6000)]
  await new Promise((resolve) => setTimeout(resolve, 2000))
  const third = await half(3, 0)
  assert.deepEqual([third.status, third.code], [503, 'OVERLOADED'])
  assert.equal(passed.length, 0)
  for (const { status } of await Promise.all(slow)) assert.equal(status, 200)
  const fourth = await half(4, 0)
  assert.equal(fourth.status, 200)
  assert.deepEqual(
    passed.map(({ body }) => body?.length),
    [size, size, size],
  )
})
