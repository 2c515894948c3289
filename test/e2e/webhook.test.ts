/** Webhooks of real services through a real sidecar: who is let through, byte for byte, and who is not. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { startAgent } from '../support/agent.ts'
import { command } from '../support/command.ts'
import { startService } from '../support/sdk-service.ts'
import { eventually } from '../support/sidecar.ts'
import {
  codeIn,
  post,
  publicHost,
  services,
  sha256,
  startChannels,
  telegram,
  type TestService,
  type Written,
} from '../support/webhooks.ts'

/** The code that a stranger was told, in the answer or by the service's API. */
async function codeFor(answer: { body: string }, api: { text(): string }): Promise<string> {
  await eventually(() => codeIn(answer.body + api.text()) !== undefined, 'no code was told')
  return codeIn(answer.body + api.text()) ?? ''
}

for (const service of services) {
  const who = service.name

  test(`${who}: the owner's message arrives as the service sent it`, async (t) => {
    const api = await startService(t)
    const sidecar = await startChannels(t, api, { only: [service] })
    const written = service.write({ from: service.owner, words: 'hello/ä', key: 1 })
    const path = `${written.path}?x=%41&y`
    const answer = await post(sidecar.port, written, who === 'twilio' ? {} : { path })
    assert.equal(answer.status, 200, answer.body)
    const [seen, ...more] = sidecar.agent.seen
    assert.equal(more.length, 0)
    assert.deepEqual(seen?.body, written.body)
    assert.equal(seen?.url, who === 'twilio' ? written.path : path)
    assert.equal(seen?.headers.host, publicHost)
    assert.equal(seen?.headers['content-length'], String(written.body.length))
    for (const [name, value] of Object.entries(written.headers)) {
      assert.equal(seen?.headers[name.toLowerCase()], value, name)
    }
    // The agent's own answer goes back to the service.
    assert.ok(answer.body.includes('"method":"POST"'))
  })

  test(`${who}: a stranger gets a code, and after approval the same message arrives`, async (t) => {
    const api = await startService(t)
    const sidecar = await startChannels(t, api, { only: [service] })
    const say = (key: number) =>
      post(sidecar.port, service.write({ from: service.stranger, words: 'let me in', key }))
    const first = await say(1)
    assert.equal(first.status, 200)
    if (who === 'generic') {
      // It has no way to answer; the owner finds the code in the list.
      const { out } = await command(sidecar.home, 'pairing', 'list', '--json')
      const { requests } = JSON.parse(out) as { requests: { code: string }[] }
      await approve(requests[0]?.code ?? '')
    } else await approve(await codeFor(first, api))
    async function approve(code: string): Promise<void> {
      assert.equal((await say(2)).status, 200)
      assert.deepEqual(sidecar.agent.seen, [])
      const said = await command(sidecar.home, 'pairing', 'approve', who, code)
      assert.equal(said.code, 0, said.err)
    }
    const written = service.write({ from: service.stranger, words: 'let me in', key: 3 })
    assert.equal((await post(sidecar.port, written)).status, 200)
    assert.deepEqual(
      sidecar.agent.seen.map(({ body }) => body.toString()),
      [written.body.toString()],
    )
    const revoked = await command(sidecar.home, 'pairing', 'revoke', who, service.stranger)
    assert.equal(revoked.code, 0, revoked.err)
    assert.equal((await say(4)).status, 200)
    assert.equal(sidecar.agent.seen.length, 1)
  })

  test(`${who}: every message leaves a record without its words`, async (t) => {
    const api = await startService(t)
    const sidecar = await startChannels(t, api, { only: [service] })
    const words = 'words-that-nobody-records'
    const own = service.write({ from: service.owner, words, key: 1 })
    await post(sidecar.port, own)
    await post(sidecar.port, service.write({ from: service.stranger, words, key: 2 }))
    const tampered = { ...own, body: Buffer.concat([own.body, Buffer.from(' ')]) }
    await post(sidecar.port, who === 'telegram' ? { ...own, headers: {} } : tampered)
    await eventually(
      () => sidecar.records().some(({ event }) => event === 'request.refused'),
      'the refusal is recorded',
    )
    const records = sidecar.records().filter(({ path }) => path === service.path)
    assert.deepEqual(
      records.map(({ event, channel, sender, code }) => [event, channel, sender, code]),
      [
        ['message.allowed', who, `${who}:${service.owner}`, undefined],
        ['pairing.requested', who, `${who}:${service.stranger}`, undefined],
        ['request.refused', who, undefined, 'WEBHOOK_UNPROVEN'],
      ],
    )
    assert.equal(records[0]?.['digest'], sha256(own.body))
    assert.ok(!JSON.stringify(sidecar.records()).includes(words))
    const { code } = await command(sidecar.home, 'audit', 'verify')
    assert.equal(code, 0)
  })
}

const groups = services.filter(
  (one): one is TestService & { group: string } => one.group !== undefined,
)
for (const service of groups) {
  test(`${service.name}: a group is served when it is listed, and only if the bot is meant`, async (t) => {
    const api = await startService(t)
    const policy = () => ({ groups: { [service.group]: {} } })
    const listed = await startChannels(t, api, { only: [service], policy })
    const unlisted = await startChannels(t, api, { only: [service] })
    const { owner, stranger, group } = service
    const write = (from: string, key: number, mention: boolean): Written =>
      service.write({ from, words: 'team', key, group, mention })
    // Written once: a second later the same words are other bytes.
    const messages = [write(owner, 1, true), write(owner, 2, false), write(stranger, 3, true)]
    for (const sidecar of [listed, unlisted]) {
      for (const [i, written] of messages.entries()) {
        assert.equal((await post(sidecar.port, written)).status, 200, String(i))
      }
    }
    // An interaction is always meant for the bot.
    const expected = messages.slice(0, service.name === 'discord' ? 2 : 1)
    assert.deepEqual(
      listed.agent.seen.map(({ body }) => body.toString()),
      expected.map(({ body }) => body.toString()),
    )
    assert.deepEqual(unlisted.agent.seen, [])
    assert.equal(codeIn(api.text()), undefined)
    const { out } = await command(listed.home, 'pairing', 'list', '--json')
    assert.deepEqual(JSON.parse(out), { requests: [] })
  })
}

test('each service keeps its own road beside clients with tokens', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api)
  for (const service of services) {
    const written = service.write({ from: service.owner, words: 'hi', key: 1 })
    assert.equal((await post(sidecar.port, written)).status, 200, service.name)
    // The proof of one service is worth nothing on the path of another.
    const elsewhere = services.find((other) => other !== service)?.path ?? ''
    const foreign = await post(sidecar.port, { ...written, path: elsewhere })
    assert.equal(foreign.status, 401, service.name)
  }
  assert.equal(sidecar.agent.seen.length, services.length)
  const client = await fetch(`${sidecar.url}/api`, { headers: sidecar.auth })
  assert.equal(client.status, 200)
  const stranger = await fetch(`${sidecar.url}/api`)
  assert.equal(stranger.status, 401)
})

test('a token does not open the webhook, and no other method or path is one', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const written = telegram.write({ from: telegram.owner, words: 'hi', key: 1 })
  const bearer = { ...sidecar.auth, 'X-Telegram-Bot-Api-Secret-Token': undefined }
  const answer = await post(sidecar.port, written, { headers: bearer })
  assert.equal(answer.status, 401)
  assert.ok(answer.body.includes('WEBHOOK_UNPROVEN'))
  for (const [method, path] of [
    ['PUT', telegram.path],
    ['GET', telegram.path],
    ['POST', `${telegram.path}/`],
    ['POST', telegram.path.toUpperCase()],
    ['POST', '/hooks'],
  ] as const) {
    const other = await post(sidecar.port, written, { method, path })
    assert.equal(other.status, 401, `${method} ${path}`)
    assert.ok(other.body.includes('UNAUTHENTICATED'), `${method} ${path}`)
  }
  assert.deepEqual(sidecar.agent.seen, [])
})

test('the agent’s own token is for clients: the service’s headers are as they were', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    config: { agent: { token: 'agent-own-token-0123456789', forwardedHeaders: true } },
  })
  const written = telegram.write({ from: telegram.owner, words: 'hi', key: 1 })
  await post(sidecar.port, written, {
    headers: { Authorization: 'Service abc', 'X-Forwarded-For': '1.2.3.4', 'X-Real-IP': '1.2.3.4' },
  })
  const headers = sidecar.agent.seen[0]?.headers
  assert.equal(headers?.authorization, 'Service abc')
  assert.equal(headers?.['x-forwarded-for'], '127.0.0.1')
  assert.equal(headers?.['x-forwarded-proto'], 'https')
  assert.equal(headers?.['x-forwarded-host'], publicHost)
  assert.equal(headers?.['x-real-ip'], undefined)
})

test('a message that the agent did not take may be delivered again', async (t) => {
  const api = await startService(t)
  let down = true
  const agent = await startAgent((request, response) => {
    request.resume()
    response.writeHead(down ? 500 : 200).end()
  })
  t.after(() => agent.stop())
  const sidecar = await startChannels(t, api, { only: [telegram], agent })
  const written = telegram.write({ from: telegram.owner, words: 'hi', key: 1 })
  assert.equal((await post(sidecar.port, written)).status, 500)
  down = false
  // The service repeats what failed, byte for byte.
  await eventually(() => agent.seen.length === 1, 'the first attempt arrived')
  assert.equal((await post(sidecar.port, written)).status, 200)
  assert.equal((await post(sidecar.port, written)).status, 200)
  assert.equal(agent.seen.length, 2)
})

test('while the agent is away the service is asked to come again, and nothing is lost', async (t) => {
  const api = await startService(t)
  const agent = await startAgent()
  const { port } = agent
  const sidecar = await startChannels(t, api, { only: [telegram], agent })
  await agent.stop()
  const written = telegram.write({ from: telegram.owner, words: 'hi', key: 1 })
  const away = await post(sidecar.port, written)
  assert.ok(away.status === 502 || away.status === 503, String(away.status))
  const back = await startAgent(undefined, port)
  t.after(() => back.stop())
  await eventually(() => sidecar.app.agent.state() === 'ready', 'the agent is back', 15_000)
  assert.equal((await post(sidecar.port, written)).status, 200)
  assert.deepEqual(back.seen[0]?.body, written.body)
})

test('an approval made while nothing runs is good when it runs again', async (t) => {
  const api = await startService(t)
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const first = await startChannels(t, api, { only: [telegram], home })
  const answer = await post(
    first.port,
    telegram.write({ from: telegram.stranger, words: 'hi', key: 1 }),
  )
  const code = codeIn(answer.body) ?? ''
  const { token } = first
  await first.app.stop(0)
  const said = await command(home, 'pairing', 'approve', 'telegram', code.toLowerCase())
  assert.equal(said.code, 0, said.err)
  const again = await startChannels(t, api, { only: [telegram], home, token })
  const written = telegram.write({ from: telegram.stranger, words: 'hi', key: 2 })
  assert.equal((await post(again.port, written)).status, 200)
  assert.equal(again.agent.seen.length, 1)
})
