/**
 * Webhooks that are forged, changed, replayed or malformed. Each attack asserts the answer and that the agent received
 * nothing. Signatures and windows: https://api.slack.com/docs/verifying-requests-from-slack; CWE-345, CWE-294.
 */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { createHmac } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'

import { startAgent } from '../support/agent.ts'
import { exchange } from '../support/raw.ts'
import { startService } from '../support/sdk-service.ts'
import { eventually } from '../support/sidecar.ts'
import {
  bodiesAt,
  codeIn,
  discord,
  discordHeaders,
  generic,
  line,
  lineBatch,
  lineProof,
  metaProof,
  post,
  publicHost,
  services,
  slack,
  slackHeaders,
  startChannels,
  telegram,
  twilio,
  whatsapp,
  whatsappBatch,
  type Written,
} from '../support/webhooks.ts'

const api = { url: 'http://127.0.0.1:9' }
const minute = 60_000
const proofHeader: Readonly<Record<string, string>> = {
  telegram: 'X-Telegram-Bot-Api-Secret-Token',
  slack: 'X-Slack-Signature',
  discord: 'X-Signature-Ed25519',
  whatsapp: 'X-Hub-Signature-256',
  line: 'x-line-signature',
  twilio: 'X-Twilio-Signature',
  generic: 'webhook-signature',
}

const raw = (written: Written, headers: readonly string[]) =>
  [
    `POST ${written.path} HTTP/1.1`,
    `Host: ${publicHost}`,
    ...Object.entries(written.headers).map(([name, value]) => `${name}: ${value}`),
    ...headers,
    '',
    '',
  ].join('\r\n')

test('a proof that is missing, empty, changed, doubled or of another body is refused', async (t) => {
  const sidecar = await startChannels(t, api)
  for (const service of services) {
    const name = proofHeader[service.name] ?? ''
    const written = service.write({ from: service.owner, words: 'go', key: 1 })
    const good = written.headers[name] ?? ''
    const flipped = good.slice(0, -2) + (good.at(-2) === 'a' ? 'b' : 'a') + good.slice(-1)
    for (const value of [undefined, '', flipped, good.slice(1), `${good}, ${good}`, `${good}x`]) {
      const answer = await post(sidecar.port, written, { headers: { [name]: value } })
      assert.equal(answer.status, 401, `${service.name} ${value}`)
      assert.ok(answer.body.includes('WEBHOOK_UNPROVEN'))
    }
    const head = raw(written, [`${name}: ${good}`, `Content-Length: ${written.body.length}`])
    const until = (text: string) => text.includes('}')
    const doubled = await exchange(sidecar.port, [head, written.body], { until })
    assert.equal(doubled.status, 401, service.name)
    if (service !== telegram) {
      const changed = Buffer.from(written.body.toString('latin1').replace('go', 'GO'), 'latin1')
      assert.equal((await post(sidecar.port, written, { body: changed })).status, 401, service.name)
    }
  }
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a proof of another sidecar’s secret is worth nothing', async (t) => {
  const sidecar = await startChannels(t, api, {
    policy: () => ({}),
    only: [line],
    config: {},
  })
  const written = line.write({ from: line.owner, words: 'go', key: 1 })
  const mac = createHmac('sha256', 'another-secret-of-32-characters!').update(written.body)
  const headers = { 'x-line-signature': mac.digest('base64') }
  assert.equal((await post(sidecar.port, written, { headers })).status, 401)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('an old or future signature is refused on both sides of five minutes', async (t) => {
  const sidecar = await startChannels(t, api)
  for (const service of services.filter(({ signsTime }) => signsTime)) {
    const at = (shift: number, key: number) =>
      service.write({ from: service.owner, words: 'go', key, at: Date.now() + shift })
    for (const [i, shift] of [-6 * minute, 6 * minute, -86_400_000].entries()) {
      const answer = await post(sidecar.port, at(shift, i))
      assert.equal(answer.status, 401, `${service.name} ${shift}`)
    }
    assert.deepEqual(sidecar.agent.seen, [], service.name)
    for (const [i, shift] of [-4 * minute, 4 * minute].entries()) {
      assert.equal((await post(sidecar.port, at(shift, 10 + i))).status, 200, service.name)
    }
    assert.equal(sidecar.agent.seen.splice(0).length, 2, service.name)
  }
})

test('what is older than deliveries are remembered is withheld, where no time is signed', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram, line, whatsapp] })
  for (const service of [telegram, line, whatsapp]) {
    const old = Date.now() - 3 * 86_400_000 - minute
    const written = service.write({ from: service.owner, words: 'go', key: 1, at: old })
    assert.equal((await post(sidecar.port, written)).status, 200, service.name)
    assert.deepEqual(sidecar.agent.seen, [], service.name)
    const recent = service.write({
      from: service.owner,
      words: 'go',
      key: 2,
      at: Date.now() - 3 * 86_400_000 + minute,
    })
    assert.equal((await post(sidecar.port, recent)).status, 200, service.name)
    assert.equal(sidecar.agent.seen.splice(0).length, 1, service.name)
  }
})

test('a replay reaches the agent once: again, at the same moment, and after a restart', async (t) => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const agent = await startAgent()
  t.after(() => agent.stop())
  const sidecar = await startChannels(t, api, { home, agent })
  const all = services.map((service) =>
    service.write({ from: service.owner, words: 'once', key: 77 }),
  )
  for (const written of all) {
    const answers = await Promise.all(Array.from({ length: 8 }, () => post(sidecar.port, written)))
    for (const { status } of answers) assert.equal(status, 200)
  }
  assert.equal(agent.seen.length, services.length)
  await sidecar.app.stop(0)
  const again = await startChannels(t, api, { home, agent, token: sidecar.token })
  for (const written of all) assert.equal((await post(again.port, written)).status, 200)
  assert.equal(agent.seen.length, services.length)
  const replays = again.records().filter(({ because }) => /^delivered before/.test(String(because)))
  assert.ok(replays.length >= services.length)
})

test('without the memory of deliveries nothing is let through', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const locked = new DatabaseSync(join(sidecar.home, 'deliveries.db'))
  locked.exec('BEGIN IMMEDIATE')
  const written = telegram.write({ from: telegram.owner, words: 'go', key: 1 })
  const answer = await post(sidecar.port, written)
  assert.equal(answer.status, 503)
  assert.ok(answer.body.includes('GATE_FAILED'))
  assert.deepEqual(sidecar.agent.seen, [])
  locked.exec('ROLLBACK')
  locked.close()
  assert.equal((await post(sidecar.port, written)).status, 200)
  assert.equal(sidecar.agent.seen.length, 1)
})

test('without the evidence nothing is let through, and nobody is told a code', async (t) => {
  const failing = {
    failing: 'no space',
    append: (_entry: unknown, written?: (failure?: Error) => void) => written?.(new Error('full')),
    close: () => Promise.resolve(),
  }
  const sidecar = await startChannels(t, api, { only: [telegram], audit: failing })
  for (const from of [telegram.owner, telegram.stranger]) {
    const answer = await post(
      sidecar.port,
      telegram.write({ from, words: 'go', key: Number(from) }),
    )
    assert.equal(answer.status, 503)
    assert.ok(answer.body.includes('AUDIT_UNAVAILABLE'))
    assert.equal(codeIn(answer.body), undefined)
  }
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a body that is compressed, mistyped or not what it says is refused', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram, line] })
  for (const service of [telegram, line]) {
    const written = service.write({ from: service.owner, words: 'go', key: 1 })
    const zipped = gzipSync(written.body)
    const cases: readonly NonNullable<Parameters<typeof post>[2]>[] = [
      { headers: { 'Content-Encoding': 'gzip', ...lineProof(zipped) }, body: zipped },
      { headers: { 'Content-Encoding': 'gzip' } },
      { headers: { 'Content-Type': 'text/plain' } },
      { headers: { 'Content-Type': undefined } },
      { headers: { 'Content-Type': 'application/json; charset=utf-16' } },
      { headers: { 'Content-Type': 'application/x-www-form-urlencoded' } },
    ]
    for (const more of cases) {
      assert.equal(
        (await post(sidecar.port, written, more)).status,
        401,
        JSON.stringify(more.headers),
      )
    }
  }
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a proven body that two programs could read differently goes to nobody', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram, line] })
  const { owner, stranger } = telegram
  const chat = `"chat":{"id":${owner},"type":"private"}`
  const date = Math.floor(Date.now() / 1000)
  const message = (from: string) => `{"message_id":1,"date":${date},${chat},${from},"text":"go"}`
  const said = (from: string) => `{"update_id":1,"message":${message(from)}}`
  const one = (id: string) => `"from":{"id":${id},"is_bot":false}`
  const deep = `${'['.repeat(40)}${']'.repeat(40)}`
  const bodies: readonly (string | Buffer)[] = [
    said(`${one(owner)},${one(stranger)}`),
    said(`${one(stranger)},${one(owner)}`),
    said(`${one(stranger)},"\\u0066rom":{"id":${owner},"is_bot":false}`),
    said(`"from":{"id":${owner},"id":${stranger},"is_bot":false}`),
    `\ufeff${said(one(owner))}`,
    said(`${one(owner)},"__proto__":{"x":1}`),
    said(`${one(owner)},"x":${deep}`),
    said(`${one(owner)},"x":1e999`),
    `${said(one(owner))}{}`,
    said(one(owner)).slice(0, -1),
    Buffer.concat([
      Buffer.from(said(one(owner)).slice(0, -3)),
      Buffer.from([0xff, 0x22, 0x7d, 0x7d]),
    ]),
    '',
    'null',
    '[]',
    `{"update_id":1,"message":${message(one(owner))},"callback_query":${message(one(stranger))}}`,
  ]
  const base = telegram.write({ from: owner, words: '', key: 1 })
  for (const [i, body] of bodies.entries()) {
    const answer = await post(sidecar.port, base, { body: Buffer.from(body) })
    assert.equal(answer.status, 200, `${i}: ${answer.body}`)
    assert.equal(answer.body, '', String(i))
  }
  const twice = Buffer.from(`{"destination":"U","events":[],"events":[{"type":"message"}]}`)
  const headers = lineProof(twice)
  const signed = line.write({ from: line.owner, words: '', key: 1 })
  assert.equal((await post(sidecar.port, signed, { headers, body: twice })).status, 200)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('the tests of services are answered by the rule and never reach the agent', async (t) => {
  const sidecar = await startChannels(t, api)
  const form = 'application/x-www-form-urlencoded'
  // slackapi/bolt-js #2897: an unsigned ssl_check ran the handler of the payload beside it.
  const check = Buffer.from(`ssl_check=1&payload=${encodeURIComponent('{"type":"block_actions"}')}`)
  const unsigned = { path: slack.path, headers: { 'Content-Type': form }, body: check }
  assert.equal((await post(sidecar.port, unsigned)).status, 200)
  const hello = Buffer.from('{"type":"url_verification","challenge":"word-1"}')
  const verified = { path: slack.path, headers: slackHeaders(hello), body: hello }
  const challenged = await post(sidecar.port, verified)
  assert.deepEqual([challenged.status, challenged.body], [200, '{"challenge":"word-1"}'])
  const forged = { ...verified, headers: { ...slackHeaders(Buffer.from('other')) } }
  assert.equal((await post(sidecar.port, forged)).status, 401)
  // Discord sends wrong signatures on purpose and expects 401.
  const ping = Buffer.from('{"type":1,"id":"1"}')
  const pinged = { path: discord.path, headers: discordHeaders(ping), body: ping }
  const ponged = await post(sidecar.port, pinged)
  assert.deepEqual([ponged.status, ponged.body], [200, '{"type":1}'])
  const wrong = { ...pinged, headers: discordHeaders(Buffer.from('{}')) }
  assert.equal((await post(sidecar.port, wrong)).status, 401)
  const hub = (token: string) =>
    fetch(
      `${sidecar.url}${whatsapp.path}?hub.mode=subscribe&hub.verify_token=${token}&hub.challenge=c-1`,
    )
  const known = await hub('verify-me-please')
  assert.deepEqual([known.status, await known.text()], [200, 'c-1'])
  assert.equal((await hub('guess')).status, 401)
  const empty = lineBatch([])
  assert.equal((await post(sidecar.port, empty)).status, 200)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a batch is thinned to those who may speak, and proven anew', async (t) => {
  const stub = await startService(t)
  const sidecar = await startChannels(t, stub, { only: [line, whatsapp] })
  const both = lineBatch([
    { from: line.owner, words: 'mine', key: 1 },
    { from: line.stranger, words: 'theirs', key: 2 },
  ])
  assert.equal((await post(sidecar.port, both)).status, 200)
  const [seen] = sidecar.agent.seen.splice(0)
  const body = seen?.body ?? Buffer.alloc(0)
  assert.ok(body.includes('mine') && !body.includes('theirs') && !body.includes(line.stranger))
  assert.equal(seen?.headers['x-line-signature'], lineProof(body)['x-line-signature'])
  assert.equal(seen?.headers['content-length'], String(body.length))
  const mixed = whatsappBatch([
    { from: whatsapp.stranger, words: 'theirs', key: 1 },
    { from: whatsapp.owner, words: 'mine', key: 2 },
  ])
  assert.equal((await post(sidecar.port, mixed)).status, 200)
  const [meta] = sidecar.agent.seen.splice(0)
  const thin = meta?.body ?? Buffer.alloc(0)
  assert.ok(thin.includes('mine') && !thin.includes('theirs') && !thin.includes(whatsapp.stranger))
  assert.equal(meta?.headers['x-hub-signature-256'], metaProof(thin)['X-Hub-Signature-256'])
  await eventually(() => codeIn(stub.text()) !== undefined, 'the stranger of a batch is told')
  const whole = lineBatch([
    { from: line.owner, words: 'one', key: 3 },
    { from: line.owner, words: 'two', key: 4 },
  ])
  await post(sidecar.port, whole)
  assert.deepEqual(bodiesAt(sidecar.agent), [whole.body.toString()])
  const none = lineBatch([
    { from: line.stranger, words: 'a', key: 5 },
    { from: line.stranger, words: 'b', key: 6 },
  ])
  assert.equal((await post(sidecar.port, none)).status, 200)
  assert.equal(sidecar.agent.seen.length, 1)
})

test('a batch that was taken in part passes only what is new', async (t) => {
  const stub = await startService(t)
  const sidecar = await startChannels(t, stub, { only: [line] })
  const said = (key: number) => ({ from: line.owner, words: `word-${key}`, key })
  await post(sidecar.port, lineBatch([said(1), said(2)]))
  await post(sidecar.port, lineBatch([said(2), said(3)]))
  const [, second] = bodiesAt(sidecar.agent)
  assert.ok(second?.includes('word-3') === true && !second.includes('word-2'))
})

test('the name of the agent’s own sender, or a claim beside the message, lets nobody in', async (t) => {
  const sidecar = await startChannels(t, api, { only: [generic, twilio, whatsapp] })
  // WhatsApp's contacts[] only decorates: some SDKs take the sender from it.
  const { headers, body, path } = whatsapp.write({ from: whatsapp.stranger, words: 'go', key: 1 })
  const disguised = Buffer.from(
    body.toString().replace(`"wa_id":"${whatsapp.stranger}"`, `"wa_id":"${whatsapp.owner}"`),
  )
  const claimed = { path, headers: { ...headers, ...metaProof(disguised) }, body: disguised }
  assert.equal((await post(sidecar.port, claimed)).status, 200)
  const written = generic.write({ from: ` ${generic.owner}`, words: 'go', key: 2 })
  assert.equal((await post(sidecar.port, written)).status, 200)
  const lookalike = generic.write({ from: 'usеr-1', words: 'go', key: 3 })
  assert.equal((await post(sidecar.port, lookalike)).status, 200)
  assert.deepEqual(sidecar.agent.seen, [])
})
