/** People who were approved are told by the same services, and nobody else is told anything. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { callAdmin } from '../../src/admin/client.ts'
import { askedServices } from '../support/asked.ts'
import { startService } from '../support/sdk-service.ts'
import { eventually, sidecarFor } from '../support/sidecar.ts'
import { post, publicHost } from '../support/webhooks.ts'

/** A reply token of LINE is good once: there is no other way to the person. */
const speechless = new Set(['line'])

for (const of of askedServices) {
  test(`${of.name}: who was approved is told ${speechless.has(of.name) ? 'nothing' : 'in their own chat'}`, async (t) => {
    const api = await startService(t)
    const side = await sidecarFor(t, {
      config: {
        gateway: { publicOrigins: [`https://${publicHost}`] },
        channels: {
          [of.name]: { webhookPath: of.path, ...of.settings(api.url), allowFrom: [of.owner] },
        },
      },
    })
    const env = { HARDSHELL_HOME: side.home }
    const sent = () => side.records().filter(({ event }) => event === 'reply.sent').length
    for (const nth of [1, 2]) {
      const said = { from: of.stranger(nth), words: 'let me in', key: 600 + nth }
      await post(side.port, of.write(said), { method: of.method })
    }
    await eventually(() => sent() === 2, 'both are answered')
    const { requests } = (await callAdmin(env, 'pairing.list', {})) as {
      readonly requests: readonly { readonly sender: string; readonly code: string }[]
    }
    const { code } = requests.find(({ sender }) => sender === of.stranger(1)) ?? {}
    const input = { channel: of.name, code, notify: true }
    const told = (await callAdmin(env, 'pairing.approve', input)) as { notified: boolean }
    assert.equal(told.notified, !speechless.has(of.name))
    if (speechless.has(of.name)) {
      assert.equal(api.requests.length, 2)
      return
    }
    await eventually(() => sent() === 3, 'the first is told')
    const [first, second, third] = api.requests
    assert.match(third?.body ?? '', /You have been let in/)
    const { path } = of.call(of.stranger(1), 601)
    if (path instanceof RegExp) assert.match(third?.path ?? '', path)
    else assert.equal(third?.path, path)
    // The one who waits is named in neither path nor body, where the other is.
    const where = (one: typeof first) => `${one?.path} ${one?.body}`
    const key = /\d{4}/.exec(of.stranger(2))?.[0] ?? of.stranger(2)
    if (where(second).includes(key) && !where(first).includes(key)) {
      assert.ok(!where(third).includes(key))
    }
  })
}

test('the owner of a service that needs a room to write to is told nothing in the room of a stranger', async (t) => {
  const of = askedServices.find(({ name }) => name === 'matrix')
  assert.ok(of !== undefined)
  const api = await startService(t)
  const side = await sidecarFor(t, {
    config: {
      owners: [`matrix:${of.owner}`],
      channels: {
        matrix: { webhookPath: of.path, ...of.settings(api.url), allowFrom: [of.owner] },
      },
    },
  })
  const said = { from: of.stranger(1), words: 'let me in', key: 701 }
  await post(side.port, of.write(said), { method: of.method, headers: { Host: '127.0.0.1' } })
  await eventually(
    () => side.records().some(({ event }) => event === 'reply.sent'),
    'the stranger is answered',
  )
  assert.equal(api.requests.length, 1)
  assert.ok(!api.text().includes('asks to be let in'))
})
