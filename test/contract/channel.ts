/** What every channel promises; each one runs this suite with a request that its service could have sent. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import type {
  Account,
  Channel,
  Message,
  Proof,
  TrustedKey,
  WebhookRequest,
} from '../../src/channels/channel.ts'
import { settingProblems } from '../../src/channels/channel.ts'
import { proven } from '../../src/channels/proof.ts'
import type { PolicySettings } from '../../src/senders/policy.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import { changed, withHeader } from '../support/channels.ts'

/** A channel with one authentic request of an allowed sender. */
export interface Specimen {
  readonly channel: Channel
  readonly account: Account
  readonly keys: readonly TrustedKey[]
  readonly request: WebhookRequest
  /** When the request is fresh, ms since the epoch. */
  readonly now: number
  /** Headers that prove it; each must be there exactly once. */
  readonly proofHeaders: readonly string[]
  /** The same request with another body, proven anew. */
  resign(body: Buffer): WebhookRequest
}

const nobody = { has: () => false }
const closed: PolicySettings = {
  dmPolicy: 'pairing',
  allowFrom: nobody,
  groupPolicy: 'allowlist',
  groups: new Map(),
  gatewayAllowlist: nobody,
  gatewayGroups: nobody,
}
const unknowns = { listed: nobody, paired: nobody }

/** Runs the suite. */
export function channelContract(title: string, specimen: Specimen): void {
  const { channel, account, keys, request, now } = specimen
  const prove = (of: WebhookRequest, as: Account = account, at = now): Promise<Proof> =>
    Promise.resolve(proven(channel, of, as, keys, at))
  const refused = async (of: WebhookRequest, why: string): Promise<void> => {
    const proof = await prove(of)
    assert.equal(proof.ok, false, why)
    assert.ok(!proof.ok && proof.because.length > 0)
  }
  const check = (says: string, body: () => Promise<void> | void): void => {
    test(`${title}: ${says}`, body)
  }

  check('an authentic request is proven', async () => {
    assert.deepEqual(await prove(request), { ok: true })
    assert.deepEqual(settingProblems(channel, account), [])
  })

  check('another path or method is not the webhook', async () => {
    await refused(changed(request, { path: `${request.path}/` }), 'slash')
    await refused(changed(request, { path: request.path.toUpperCase() + 'x' }), 'case')
    await refused(changed(request, { method: 'DELETE' }), 'method')
    const off = { ...account, webhookPath: '' }
    assert.equal((await prove(request, off)).ok, false)
  })

  check('without callsBelow it carries nothing but its own path', () => {
    if (channel.callsBelow === true) return
    const at = account.webhookPath
    for (const path of [at, `${at}/x`, `${at}x`, at.slice(0, -1), '/', '/transactions/1', '']) {
      for (const method of ['GET', 'POST', 'PUT']) {
        if (path !== at) assert.equal(channel.carries(method, path, account), false, path)
      }
    }
  })

  check('a missing secret refuses everything and is a line at start', async () => {
    for (const row of channel.settings.filter(({ required }) => required)) {
      const { [row.key]: _gone, ...settings } = account.settings
      for (const broken of [settings, { ...settings, [row.key]: '' }]) {
        const without = { ...account, settings: broken }
        assert.equal((await prove(request, without)).ok, false, row.key)
        assert.match(settingProblems(channel, without).join('\n'), new RegExp(row.key))
      }
    }
  })

  check('another secret is refused', async () => {
    for (const row of channel.settings.filter(({ required, secret }) => required && secret)) {
      if (row.key === 'verifyToken') continue
      const settings = { ...account.settings, [row.key]: `${account.settings[row.key]}x` }
      assert.equal((await prove(request, { ...account, settings })).ok, false, row.key)
    }
  })

  check('a compressed body or a foreign content type is refused', async () => {
    await refused(withHeader(request, 'Content-Encoding', 'gzip'), 'gzip')
    await refused(withHeader(request, 'Content-Type', 'text/plain'), 'text')
    await refused(
      withHeader(request, 'Content-Type', 'application/json; charset=utf-16'),
      'charset',
    )
    await refused(withHeader(request, 'Content-Type'), 'none')
    const twice = [...request.headers, 'content-type', 'application/json']
    await refused(changed(request, { headers: twice }), 'two content types')
    assert.ok((await prove(withHeader(request, 'Content-Encoding', 'identity'))).ok)
  })

  check('a proof that is missing, empty, changed or sent twice is refused', async () => {
    for (const name of specimen.proofHeaders) {
      await refused(withHeader(request, name), `no ${name}`)
      await refused(withHeader(request, name, ''), `empty ${name}`)
      const at = request.headers.findIndex((one) => one.toLowerCase() === name)
      const value = request.headers[at + 1] ?? ''
      await refused(changed(request, { headers: [...request.headers, name, value] }), `two ${name}`)
      await refused(
        changed(request, { headers: [...request.headers, name, 'x'] }),
        `a second ${name}`,
      )
      await refused(withHeader(request, name, `${value}, ${value}`), `joined ${name}`)
      const flipped = value.slice(0, -2) + (value.at(-2) === 'a' ? 'b' : 'a') + value.slice(-1)
      await refused(withHeader(request, name, flipped), `another ${name}`)
    }
  })

  if (channel.proof === 'hmac' || channel.proof === 'asymmetric') {
    check('a body with any byte changed, cut or added is refused', async () => {
      if (channel.name === 'generic' && account.settings['proof'] !== undefined) return
      const { body } = request
      const step = Math.max(1, Math.floor(body.length / 200))
      for (let at = 0; at < body.length; at += step) {
        const flipped = Buffer.from(body)
        flipped[at] = (flipped[at] ?? 0) ^ 1
        await refused(changed(request, { body: flipped }), `byte ${at}`)
      }
      await refused(changed(request, { body: body.subarray(0, -1) }), 'cut')
      await refused(changed(request, { body: Buffer.concat([body, Buffer.from(' ')]) }), 'added')
      await refused(changed(request, { body: Buffer.alloc(0) }), 'empty')
    })
  }

  check('the same request says the same twice, in order, and names its channel', () => {
    const first = channel.messages(request, account)
    assert.deepEqual(channel.messages(request, account), first)
    assert.ok(first.length > 0)
    first.forEach((message, i) => sane(message, i, channel, account))
  })

  check('bytes that are not what they should be are one unknown message', () => {
    for (const body of broken) {
      const messages = channel.messages(specimen.resign(body), account)
      assert.equal(messages.length, 1, JSON.stringify(body.toString('latin1').slice(0, 40)))
      assert.equal(messages[0]?.class, 'unknown')
      assert.ok((messages[0]?.withhold ?? '').length > 0)
    }
  })

  check('whatever JSON arrives is read without failing, and nobody unlisted speaks by it', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
        const body = Buffer.from(JSON.stringify(value))
        quiet(channel.messages(specimen.resign(body), account), channel, account)
      }),
      { numRuns: 100 },
    )
  })

  check('a real payload with any part replaced is read without failing', () => {
    const text = request.body.toString('utf8')
    if (!text.startsWith('{')) return
    const real: unknown = JSON.parse(text)
    const strange = [null, [], {}, 0, -1, true, '', 'x', [[]], { id: {} }, 2 ** 53, '\ud800']
    for (const path of pathsOf(real)) {
      for (const value of strange) {
        const body = Buffer.from(JSON.stringify(replaced(real, path, value)))
        quiet(channel.messages(specimen.resign(body), account), channel, account)
      }
    }
  })

  check('a withheld request leaves the service content', () => {
    const messages = channel.messages(request, account)
    for (const reply of [channel.withheld(messages, account), channel.withheld([], account)]) {
      assert.ok(reply.status >= 200 && reply.status < 300)
      assert.equal(reply.headers.length % 2, 0)
    }
  })

  check('an answer to a stranger calls only hosts of the service and carries no credential', () => {
    for (const message of channel.messages(request, account)) {
      const { api, sync } = channel.invite(message, 'words "&<>\u0007', account)
      if (api !== undefined) {
        const hosts = [
          ...channel.hosts,
          new URL(account.settings['apiRoot'] ?? 'http://x').hostname,
        ]
        assert.ok(hosts.includes(new URL(api.url).hostname), api.url)
        assert.equal(JSON.parse(api.body) === null, false)
      }
      const all = JSON.stringify([api, sync])
      for (const row of channel.settings.filter(({ secret }) => secret)) {
        const value = account.settings[row.key]
        if (value !== undefined) assert.ok(!all.includes(value), row.key)
      }
    }
  })

  if (channel.freshness !== undefined && channel.proof !== 'bearer') {
    const window = channel.freshness
    check('a request is good to the end of the window on both sides and not after it', async () => {
      if (channel.name === 'generic' && account.settings['proof'] !== undefined) return
      assert.ok((await prove(request, account, now + window)).ok)
      assert.ok((await prove(request, account, now - window)).ok)
      assert.ok(!(await prove(request, account, now + window + 1)).ok)
      assert.ok(!(await prove(request, account, now - window - 1)).ok)
    })
  }
}

const deep = (levels: number) => '{"a":'.repeat(levels) + '1' + '}'.repeat(levels)

/** Bodies that two programs could read differently, or not at all. */
const broken = [
  Buffer.from(''),
  Buffer.from('{'),
  Buffer.from('\ufeff{}'),
  Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
  Buffer.from('{"a":1,"a":2}'),
  Buffer.from('{"a":{"b":[{"c":1,"\\u0063":2}]}}'),
  Buffer.from('{"__proto__":{"a":1}}'),
  Buffer.from('{"a":1e999}'),
  Buffer.from(deep(40)),
]

function sane(message: Message, index: number, channel: Channel, account: Account): void {
  assert.equal(message.channel, channel.name)
  assert.equal(message.account, account.id)
  assert.equal(message.index, index)
  assert.ok(message.dedupeKey.length > 0 && message.deliveryKey.length > 0)
  for (const one of [message.sender.id, message.room.id, ...message.sender.aliases]) {
    assert.ok(one === null || (typeof one === 'string' && one.length > 0 && one.length <= 400))
  }
  assert.ok(message.eventType.length <= 100)
  if (message.class === 'unknown')
    assert.equal(judgeMessage(message, closed, unknowns).verdict, 'ignore')
}

/** Nobody is listed, so nobody speaks; only a report of the service about the bot's own sending passes. */
function quiet(messages: readonly Message[], channel: Channel, account: Account): void {
  messages.forEach((message, i) => {
    sane(message, i, channel, account)
    const { verdict } = judgeMessage(message, closed, unknowns)
    if (verdict === 'speak') assert.ok(message.class === 'status' && message.sender.id === null)
    if (verdict === 'pair') assert.ok(message.sender.id !== null && message.room.kind === 'dm')
  })
}

type Step = string | number

function pathsOf(value: unknown, at: readonly Step[] = []): readonly (readonly Step[])[] {
  if (typeof value !== 'object' || value === null) return [at]
  const inner = Object.entries(value).flatMap(([key, of]) =>
    pathsOf(of, [...at, Array.isArray(value) ? Number(key) : key]),
  )
  return [at, ...inner]
}

function replaced(value: unknown, path: readonly Step[], by: unknown): unknown {
  const [key, ...rest] = path
  if (key === undefined) return by
  if (Array.isArray(value)) {
    return value.map((of: unknown, i) => (i === key ? replaced(of, rest, by) : of))
  }
  const entries = Object.entries(typeof value === 'object' && value !== null ? value : {})
  return Object.fromEntries(entries.map(([k, of]) => [k, k === key ? replaced(of, rest, by) : of]))
}
