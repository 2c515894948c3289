/** Credentials in places where a log would keep them: CWE-532, RFC 6750 §5.3. */
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'

import { makeToken } from '../../src/identity/token-text.ts'
import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
before(async () => {
  side = await startSidecar()
})
after(() => side.stop())

const managed = makeToken((count) => new Uint8Array(count).fill(7)).token
const session = `hss_${'A1_-'.repeat(10)}xyz`

test('a token of ours in a path is refused and stands in no record', async () => {
  for (const credential of [managed, session]) {
    for (const path of [`/${credential}`, `/bot${credential}/send`, `/x;t=${credential}`]) {
      side.agent.seen.length = 0
      const answer = await exchange(side.port, [
        head(
          `GET ${path} HTTP/1.1`,
          'Host: localhost',
          `Authorization: Bearer ${side.token}`,
          'Connection: close',
        ),
      ])
      assert.equal(answer.status, 401, path)
      assert.equal(side.agent.seen.length, 0, 'the agent received nothing')
    }
  }
  const records = JSON.stringify(side.records())
  assert.match(records, /"path":"\/bothsk_…\/send"/)
  assert.ok(!records.includes(managed.slice(0, 30)))
  assert.ok(!records.includes(session.slice(0, 30)))
  assert.ok(!JSON.stringify(side.logged).includes(managed.slice(0, 30)))
})

test('a record says nothing of the query, whatever is wrong with the request', async () => {
  for (const line of [
    'GET /q?secret=in-the-query HTTP/1.1',
    'TRACE /q?secret=in-the-query HTTP/1.1',
  ]) {
    await exchange(side.port, [head(line, 'Host: foreign.example', 'Connection: close')])
  }
  assert.ok(!JSON.stringify(side.records()).includes('in-the-query'))
})

test('a path that only looks a little like a token goes on', async () => {
  const answer = await exchange(side.port, [
    head(
      'GET /files/hsk_notes.txt HTTP/1.1',
      'Host: localhost',
      `Authorization: Bearer ${side.token}`,
      'Connection: close',
    ),
  ])
  assert.equal(answer.status, 200)
})
