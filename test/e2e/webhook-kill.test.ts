/** What reached the agent before a SIGKILL does not reach it again. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'

import { startAgent } from '../support/agent.ts'
import { entry, homeWith, start } from '../support/program.ts'
import { post, publicHost, telegram } from '../support/webhooks.ts'

test('a delivery that reached the agent is refused after the sidecar was killed under load', async (t) => {
  const agent = await startAgent()
  t.after(() => agent.stop())
  const home = homeWith(t, {
    gateway: {
      port: 0,
      publicOrigins: [`https://${publicHost}`],
      auth: { token: 'k3Vd8Qm1Zs6Xw0Pf5Lr9Tb2Yh7Nc4Gj!' },
    },
    agent: { upstream: agent.url },
    channels: {
      telegram: {
        ...telegram.settings('http://127.0.0.1:9'),
        webhookPath: telegram.path,
        allowFrom: [telegram.owner],
        requestsPerMinute: 100_000,
        messagesPerMinute: 100_000,
        messagesPerDay: 100_000,
      },
    },
  })
  const serve = async () => {
    const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
    const [, port] = await program.said(/hardshell listens on http:\/\/127\.0\.0\.1:(\d+)/)
    return { program, port: Number(port) }
  }
  const write = (key: number) => telegram.write({ from: telegram.owner, words: 'go', key })

  const first = await serve()
  let key = 0
  const sender = async () => {
    while (first.program.child.signalCode === null && key < 5000) {
      key += 1
      // The kill cuts what is under way.
      const cut = await post(first.port, write(key)).then(
        () => false,
        () => true,
      )
      if (cut) return
      if (agent.seen.length > 300) first.program.child.kill('SIGKILL')
    }
  }
  await Promise.all([...Array.from({ length: 16 }, sender), once(first.program.child, 'exit')])
  const idOf = (body: Buffer) => Number(/"update_id":(\d+)/.exec(body.toString())?.[1])
  const before = agent.seen.splice(0).map(({ body }) => idOf(body))
  assert.ok(before.length > 300, join('only', String(before.length)))

  const second = await serve()
  for (const one of before) assert.equal((await post(second.port, write(one))).status, 200)
  assert.deepEqual(agent.seen, [])
  assert.equal((await post(second.port, write(1_000_000))).status, 200)
  assert.equal(agent.seen.length, 1)
})
