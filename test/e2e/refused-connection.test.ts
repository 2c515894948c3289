import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { exchange } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar()
})
after(async () => {
  await side.stop()
})

const stranger = 'GET /stranger HTTP/1.1\r\nHost: localhost\r\n\r\n'
const owner = () =>
  `GET /owner HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${side.token}\r\n\r\n`

test('a refused request without a body leaves its connection open for the next one', async () => {
  side.agent.seen.length = 0
  const until = (text: string) => text.includes('200 OK')
  const answer = await exchange(side.port, [stranger, 100, owner()], { until })
  assert.deepEqual(answer.statuses, [401, 200])
  assert.doesNotMatch(answer.text, /connection: close/i)
  assert.deepEqual(
    side.agent.seen.map(({ url }) => url),
    ['/owner'],
  )
})

test('pipelined requests are judged one by one', async () => {
  side.agent.seen.length = 0
  const until = (text: string) => text.includes('200 OK')
  const answer = await exchange(side.port, [`${stranger}${owner()}`], { until })
  assert.deepEqual(answer.statuses, [401, 200])
  assert.deepEqual(
    side.agent.seen.map(({ url }) => url),
    ['/owner'],
  )
})

test('a refused request whose body is still on its way ends its connection, and the rest is no request', async () => {
  side.agent.seen.length = 0
  const smuggled = owner()
  const head = `POST /stranger HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${smuggled.length + 5}\r\n\r\n`
  const answer = await exchange(side.port, [head, 100, smuggled, 100, owner()])
  assert.deepEqual(answer.statuses, [401])
  assert.match(answer.text, /connection: close/i)
  assert.equal(answer.closed, true)
  assert.equal(side.agent.seen.length, 0)
})
