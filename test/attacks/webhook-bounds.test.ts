/**
 * Webhooks that are too large, too slow, broken, or too many (CWE-400, CWE-770): each bound from both sides, and nobody
 * keeps the service out by them.
 */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'

import { exchange } from '../support/raw.ts'
import { eventually } from '../support/sidecar.ts'
import {
  codeIn,
  post,
  publicHost,
  startChannels,
  telegram,
  type Written,
} from '../support/webhooks.ts'
import { command } from '../support/command.ts'

const api = { url: 'http://127.0.0.1:9' }
const MiB = 1024 ** 2
const done = (text: string) => text.includes('}')

const head = (written: Written, framing: string) =>
  [
    `POST ${written.path} HTTP/1.1`,
    `Host: ${publicHost}`,
    ...Object.entries(written.headers).map(([name, value]) => `${name}: ${value}`),
    framing,
    '',
    '',
  ].join('\r\n')

const owner = (key: number, words = 'go') => telegram.write({ from: telegram.owner, words, key })

/** The owner's message, padded with spaces, which JSON allows, to an exact length. */
function padded(key: number, bytes: number): Written {
  const written = owner(key)
  const body = Buffer.concat([written.body, Buffer.alloc(bytes - written.body.length, ' ')])
  return { ...written, body }
}

const chunk = (body: Buffer) =>
  Buffer.concat([Buffer.from(`${body.length.toString(16)}\r\n`), body, Buffer.from('\r\n')])

test('a body of one mebibyte passes, and one byte more is refused, declared or not', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const whole = padded(1, MiB)
  assert.equal((await post(sidecar.port, whole)).status, 200)
  assert.deepEqual(sidecar.agent.seen.splice(0)[0]?.body, whole.body)
  const declared = await exchange(
    sidecar.port,
    [head(owner(2), `Content-Length: ${MiB + 1}`), Buffer.alloc(1000)],
    { until: done },
  )
  assert.deepEqual([declared.status, declared.code], [413, 'BODY_TOO_LARGE'])
  const streamed = await exchange(
    sidecar.port,
    [head(owner(3), 'Transfer-Encoding: chunked'), chunk(padded(3, MiB + 1).body), '0\r\n\r\n'],
    { until: done, timeMs: 10_000 },
  )
  assert.deepEqual([streamed.status, streamed.code], [413, 'BODY_TOO_LARGE'])
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a chunked webhook reaches the agent with its length, once it is whole', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const written = owner(1)
  const half = written.body.length >> 1
  const answer = await exchange(
    sidecar.port,
    [
      head(written, 'Transfer-Encoding: chunked\r\nExpect: 100-continue'),
      chunk(written.body.subarray(0, half)),
      50,
      chunk(written.body.subarray(half)),
      '0\r\n\r\n',
    ],
    { until: done },
  )
  assert.deepEqual(answer.statuses, [100, 200])
  assert.deepEqual(sidecar.agent.seen[0]?.body, written.body)
  assert.equal(sidecar.agent.seen[0]?.headers['content-length'], String(written.body.length))
})

test('a body that does not come is waited for ten seconds and no longer', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const written = owner(1)
  const from = performance.now()
  const answer = await exchange(
    sidecar.port,
    [head(written, `Content-Length: ${written.body.length}`), written.body.subarray(0, 5)],
    { until: done, timeMs: 30_000 },
  )
  assert.deepEqual([answer.status, answer.code], [408, 'REQUEST_TIMEOUT'])
  assert.ok(performance.now() - from >= 9900)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a body that breaks off or is framed wrongly goes to nobody', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const written = owner(1)
  const broken = await exchange(
    sidecar.port,
    [head(written, 'Transfer-Encoding: chunked'), chunk(written.body), 'zz\r\n'],
    { until: done },
  )
  assert.deepEqual([broken.status, broken.code], [400, 'BAD_REQUEST'])
  await exchange(
    sidecar.port,
    [head(written, `Content-Length: ${written.body.length}`), written.body.subarray(0, -1)],
    { timeMs: 100 },
  )
  await eventually(
    () =>
      sidecar.records().some(({ because }) => /EOF|the service went away/.test(String(because))),
    'the broken connection is recorded',
  )
  const both = await exchange(
    sidecar.port,
    [head(written, 'Content-Length: 5\r\nTransfer-Encoding: chunked'), chunk(written.body)],
    { until: done },
  )
  assert.equal(both.status, 400)
  assert.deepEqual(sidecar.agent.seen, [])
  assert.equal((await post(sidecar.port, owner(2))).status, 200)
})

test('what follows a refused body on its connection is no request (RFC 9112 §9.3.2)', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const smuggled = owner(9)
  const inside = Buffer.concat([
    Buffer.from(head(smuggled, `Content-Length: ${smuggled.body.length}`)),
    smuggled.body,
  ])
  const refused = { ...owner(1), headers: { 'Content-Type': 'application/json' } }
  const answer = await exchange(
    sidecar.port,
    [head(refused, `Content-Length: ${MiB + 1}`), inside, inside],
    { timeMs: 2000 },
  )
  assert.deepEqual(answer.statuses, [413])
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a flood of forgeries is told less and less, and neither the service nor the owner is kept out', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const forged = { ...owner(1), headers: { 'Content-Type': 'application/json' } }
  const statuses: number[] = []
  for (let sent = 0; sent < 65; sent += 1) statuses.push((await post(sidecar.port, forged)).status)
  assert.deepEqual(statuses.slice(0, 60), Array<number>(60).fill(401))
  assert.deepEqual(statuses.slice(60), Array<number>(5).fill(429))
  const late = await post(sidecar.port, forged)
  assert.ok(Number(late.headers['retry-after']) > 0)
  assert.deepEqual(sidecar.agent.seen, [])
  assert.equal((await post(sidecar.port, owner(2))).status, 200)
  // A wrong proof is no wrong credential: the address, which everybody behind a tunnel shares, is not locked.
  const wrong = { Authorization: `Bearer ${'x'.repeat(43)}` }
  assert.equal((await fetch(sidecar.url, { headers: wrong })).status, 401)
  assert.equal((await fetch(sidecar.url, { headers: sidecar.auth })).status, 200)
})

test('an address over its limit still brings proven webhooks, and nothing unproven', async (t) => {
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    config: { security: { rateLimiting: { requestsPerMinutePerAddress: 5 } } },
  })
  for (let sent = 0; sent < 5; sent += 1) {
    assert.equal((await fetch(sidecar.url)).status, 401)
  }
  assert.equal((await fetch(sidecar.url)).status, 429)
  const forged = { ...owner(1), headers: { 'Content-Type': 'application/json' } }
  assert.equal((await post(sidecar.port, forged)).status, 429)
  assert.equal((await post(sidecar.port, owner(2))).status, 200)
  // A webhook counts against its address like any request.
  assert.equal((await fetch(sidecar.url)).status, 429)
  assert.equal(sidecar.agent.seen.length, 1)
})

test('six hundred proven webhooks a minute are judged, and the next is asked to come again', async (t) => {
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    policy: () => ({ messagesPerMinute: 100_000, messagesPerDay: 100_000 }),
  })
  let key = 0
  const burst = async (count: number) => {
    const statuses = new Map<number, number>()
    for (let sent = 0; sent < count; sent += 20) {
      const answers = await Promise.all(
        Array.from({ length: 20 }, () => post(sidecar.port, owner((key += 1)))),
      )
      for (const { status } of answers) statuses.set(status, (statuses.get(status) ?? 0) + 1)
    }
    return Object.fromEntries(statuses)
  }
  const from = performance.now()
  assert.deepEqual(await burst(600), { 200: 600 })
  assert.ok(performance.now() - from < 55_000, 'the burst has to fit into its minute')
  assert.deepEqual(await burst(20), { 429: 20 })
  assert.equal(sidecar.agent.seen.length, 600)
})

test('the bound of an account is the owner’s to set, and goes with all rate limits', async (t) => {
  const policy = () => ({ requestsPerMinute: 2 })
  const strict = await startChannels(t, api, { only: [telegram], policy })
  const off = { security: { rateLimiting: { enabled: false } } }
  const loose = await startChannels(t, api, { only: [telegram], policy, config: off })
  const statuses = async (port: number) => {
    const all: number[] = []
    for (let key = 1; key <= 3; key += 1) all.push((await post(port, owner(key))).status)
    return all
  }
  assert.deepEqual(await statuses(strict.port), [200, 200, 429])
  assert.deepEqual(await statuses(loose.port), [200, 200, 200])
})

test('a sender over the minute or the day is withheld without a word', async (t) => {
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    policy: () => ({ messagesPerMinute: 3, messagesPerDay: 3 }),
  })
  for (let key = 1; key <= 5; key += 1) {
    const answer = await post(sidecar.port, owner(key))
    assert.equal(answer.status, 200)
    if (key > 3) assert.equal(answer.body, '')
  }
  assert.equal(sidecar.agent.seen.length, 3)
  const codes = sidecar
    .records()
    .flatMap(({ event, code }) => (event === 'message.withheld' ? [code] : []))
  assert.deepEqual(codes, ['RATE_LIMITED', 'RATE_LIMITED'])
})

test('a flood of strangers gets ten codes an hour, and who has one keeps it', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const codes: string[] = []
  for (let i = 0; i < 30; i += 1) {
    const written = telegram.write({ from: String(5_000_000 + i), words: 'hi', key: i + 1 })
    const answer = await post(sidecar.port, written)
    assert.equal(answer.status, 200)
    const code = codeIn(answer.body)
    if (code !== undefined) codes.push(code)
  }
  assert.equal(codes.length, 10)
  assert.equal(new Set(codes).size, 10)
  const { out } = await command(sidecar.home, 'pairing', 'list', '--json')
  const { requests } = JSON.parse(out) as { requests: { code: string }[] }
  assert.deepEqual(requests.map(({ code }) => code).sort(), codes.toSorted())
  assert.equal(
    sidecar.logged.filter(({ message }) => message === 'strangers are ignored for now').length,
    1,
  )
  const first = await command(sidecar.home, 'pairing', 'approve', 'telegram', codes[0] ?? '')
  assert.equal(first.code, 0, first.err)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('guesses of a code pause approvals, and nobody is let in by them', async (t) => {
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const asked = await post(
    sidecar.port,
    telegram.write({ from: telegram.stranger, words: 'hi', key: 1 }),
  )
  const code = codeIn(asked.body) ?? ''
  for (let tried = 0; tried < 5; tried += 1) {
    const said = await command(sidecar.home, 'pairing', 'approve', 'telegram', 'ABCDEFGH')
    assert.equal(said.code, 1)
    assert.match(said.err, /PAIRING_UNKNOWN/)
  }
  const right = await command(sidecar.home, 'pairing', 'approve', 'telegram', code)
  assert.equal(right.code, 1)
  assert.match(right.err, /PAIRING_PAUSED/)
  await post(sidecar.port, telegram.write({ from: telegram.stranger, words: 'hi', key: 2 }))
  assert.deepEqual(sidecar.agent.seen, [])
  const refused = sidecar.records().filter(({ event }) => event === 'pairing.refused')
  assert.equal(refused.length, 6)
})
