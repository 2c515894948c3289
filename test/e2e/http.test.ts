import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { recordsOf, startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar()
})
after(async () => {
  await side.stop()
})

const call = (path: string, init: RequestInit = {}) =>
  fetch(`${side.url}${path}`, { ...init, headers: side.auth })

test('without a token nothing passes, with it everything does', async () => {
  const none = await fetch(`${side.url}/x`)
  assert.equal(none.status, 401)
  assert.match(none.headers.get('www-authenticate') ?? '', /^Bearer/)
  const wrong = await fetch(`${side.url}/x`, { headers: { Authorization: 'Bearer wrong-token' } })
  assert.equal(wrong.status, 401)
  assert.equal(side.agent.seen.length, 0)
  const right = await call('/x?y=1')
  assert.equal(right.status, 200)
  assert.equal(side.agent.seen.length, 1)
  assert.equal(side.agent.seen[0]?.url, '/x?y=1')
  assert.equal(side.agent.seen[0]?.headers.authorization, undefined)
})

test('a body arrives byte for byte', async () => {
  const text = 'x'.repeat(1000)
  const answer = await call('/post', { method: 'POST', body: text })
  const said = (await answer.json()) as { body: string }
  assert.equal(said.body, text)
})

test('the health path answers itself, behind the same token', async () => {
  assert.equal((await fetch(`${side.url}/health`)).status, 401)
  const before = side.agent.seen.length
  const answer = await call('/health')
  assert.equal(answer.status, 200)
  const lack = 'The agent runs outside of Hardshell: no sandbox of ours is applied.'
  assert.deepEqual(await answer.json(), {
    status: 'ok',
    agent: 'ready',
    driver: 'external',
    lacks: [lack],
  })
  assert.equal(side.agent.seen.length, before)
  const started = recordsOf(side.home).find(({ event }) => event === 'sidecar.started')
  assert.equal(started?.['because'], `agent by external; ${lack}`)
})
