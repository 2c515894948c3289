/** getUpdates behind the sender policy: what is delivered, what is confirmed, and when a poll ends. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { describe, test } from 'node:test'
import fc from 'fast-check'

import type { Account } from '../../src/channels/channel.ts'
import { askForm, readAsk, type PollAsk } from '../../src/egress/poll-ask.ts'
import { Poller, type ApiAnswer } from '../../src/egress/poll-updates.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import { accountFor, fixture, policyOf } from '../support/channels.ts'

const polling = fixture('telegram-polling')
const owner = '111111111'
const stranger = '999000111'

const update = (id: number, from: string, text = 'hello') => ({
  update_id: id,
  message: {
    message_id: id,
    date: 1_764_000_000,
    from: { id: Number(from), is_bot: false, first_name: 'A' },
    chat: { id: Number(from), type: 'private', first_name: 'A' },
    text,
  },
})

/** A Bot API in memory: updates stay until an offset confirms them; time passes when a poll waits. */
class FakeApi {
  readonly asks: PollAsk[] = []
  updates: object[]
  clock = 0
  /** What arrives, and when. */
  later: { at: number; update: object }[] = []

  constructor(...updates: object[]) {
    this.updates = updates
  }

  fetch = (ask: PollAsk): Promise<ApiAnswer> => {
    this.asks.push(ask)
    if (ask.offset !== undefined && ask.offset >= 0) {
      const { offset } = ask
      this.updates = this.updates.filter((one) => idOf(one) >= offset)
    }
    const until = this.clock + ask.timeoutSeconds * 1000
    const next = this.later.find(({ at }) => at <= until)
    if (this.updates.length === 0 && next !== undefined) {
      this.clock = Math.max(this.clock, next.at)
      this.updates.push(next.update)
      this.later = this.later.filter((one) => one !== next)
    } else if (this.updates.length === 0) this.clock = until
    this.clock += 5
    const from = ask.offset !== undefined && ask.offset < 0 ? ask.offset : 0
    const result = this.updates.slice(from).slice(0, ask.limit)
    return Promise.resolve(answer({ ok: true, result }))
  }
}

const idOf = (one: object): number => ('update_id' in one ? Number(one.update_id) : 0)
const answer = (value: unknown, status = 200): ApiAnswer => ({
  status,
  body: Buffer.from(JSON.stringify(value)),
})

const never = new AbortController().signal

function account(): Account {
  const [sample] = polling.vectors
  assert.ok(sample)
  return accountFor('telegram-polling', polling, sample)
}

function pollerFor(api: Pick<FakeApi, 'fetch' | 'clock'>, paired = new Set<string>()) {
  const heard: string[] = []
  const poller = new Poller(account(), {
    fetch: api.fetch,
    now: () => api.clock,
    hear: (messages) =>
      Promise.resolve(
        messages.map((message) => {
          heard.push(message.dedupeKey)
          const known = { listed: new Set<string>(), paired }
          return judgeMessage(message, policyOf(polling), known).verdict === 'speak'
        }),
      ),
  })
  return { poller, heard }
}

const ask = (over: Partial<PollAsk> = {}): PollAsk => ({
  offset: undefined,
  limit: 100,
  timeoutSeconds: 0,
  allowedUpdates: undefined,
  ...over,
})

function delivered({ body }: ApiAnswer): number[] {
  const { result } = JSON.parse(body.toString()) as { result: object[] }
  return result.map(idOf)
}

describe('getUpdates behind the policy', () => {
  for (const sample of polling.vectors) {
    test(`${sample.name} delivers what it says`, async () => {
      const asked = sample.request as unknown as { timeout: number; limit?: number }
      const of = sample.upstreamUpdates ?? []
      const api = new FakeApi(...of.map(({ rel, from, text }) => update(500 + rel, from, text)))
      const { poller } = pollerFor(api)
      const given = await poller.answer(
        ask({ timeoutSeconds: asked.timeout, limit: asked.limit ?? 100 }),
        never,
      )
      assert.deepEqual(
        delivered(given),
        sample.expect.delivered?.map((rel) => 500 + rel),
      )
    })
  }

  test('a stranger alone makes no hot loop: one call more, which waits', async () => {
    const api = new FakeApi(update(7, stranger))
    const { poller } = pollerFor(api)
    const given = await poller.answer(ask({ offset: 7, timeoutSeconds: 30 }), never)
    assert.deepEqual(delivered(given), [])
    assert.deepEqual(
      api.asks.map(({ offset, timeoutSeconds }) => [offset, timeoutSeconds]),
      [
        [7, 30],
        [8, 29],
      ],
    )
  })

  test('the owner who writes while a stranger was withheld is heard in the same poll', async () => {
    const api = new FakeApi(update(7, stranger))
    api.later = [{ at: 12_000, update: update(8, owner) }]
    const { poller } = pollerFor(api)
    const given = await poller.answer(ask({ offset: 7, timeoutSeconds: 30 }), never)
    assert.deepEqual(delivered(given), [8])
  })

  test('what is withheld behind a delivered update is not confirmed', async () => {
    const api = new FakeApi(update(1, owner), update(2, stranger))
    const { poller } = pollerFor(api)
    assert.deepEqual(delivered(await poller.answer(ask(), never)), [1])
    assert.equal(api.asks.length, 1)
    assert.deepEqual(api.updates.map(idOf), [1, 2])
  })

  test('a bot that died before it confirmed gets the same update again', async () => {
    const api = new FakeApi(update(1, owner), update(2, stranger))
    const { poller } = pollerFor(api)
    await poller.answer(ask(), never)
    assert.deepEqual(delivered(await poller.answer(ask(), never)), [1])
  })

  test('a withheld update that comes back after its sender was approved is delivered', async () => {
    const paired = new Set<string>()
    const api = new FakeApi(update(1, owner), update(2, stranger))
    const { poller } = pollerFor(api, paired)
    await poller.answer(ask(), never)
    paired.add(stranger)
    assert.deepEqual(delivered(await poller.answer(ask({ offset: 2 }), never)), [2])
  })

  test('one unreadable update is withheld and does not stop the ones behind it', async () => {
    let deep: unknown = 1
    for (let i = 0; i < 40; i += 1) deep = [deep]
    const bad = { update_id: 2, message: deep }
    const api = new FakeApi(update(1, owner), bad, update(3, owner))
    const { poller, heard } = pollerFor(api)
    assert.deepEqual(delivered(await poller.answer(ask(), never)), [1])
    assert.deepEqual(delivered(await poller.answer(ask({ offset: 2 }), never)), [3])
    assert.ok(heard.includes('update:2'), 'it was judged, so it is in the audit log')
  })

  test('the answer of a service that serves two polls at once comes through', async () => {
    const conflict = answer({ ok: false, error_code: 409, description: 'Conflict' }, 409)
    const { poller } = pollerFor({ clock: 0, fetch: () => Promise.resolve(conflict) })
    assert.deepEqual(await poller.answer(ask(), never), conflict)
  })

  test('a service that repeats confirmed updates does not keep us asking', async () => {
    let calls = 0
    const repeat = () => {
      calls += 1
      return Promise.resolve(answer({ ok: true, result: [update(3, stranger)] }))
    }
    const { poller } = pollerFor({ clock: 0, fetch: repeat })
    assert.deepEqual(delivered(await poller.answer(ask({ timeoutSeconds: 50 }), never)), [])
    assert.equal(calls, 2)
  })

  test('nothing goes on when the decision cannot be recorded', async () => {
    const api = new FakeApi(update(1, owner))
    const poller = new Poller(account(), {
      fetch: api.fetch,
      now: () => 0,
      hear: () => Promise.reject(new Error('the disk is full')),
    })
    await assert.rejects(poller.answer(ask(), never), /the disk is full/)
    assert.deepEqual(api.updates.map(idOf), [1])
  })

  test('whatever strangers and owner write, the owner is heard once each and strangers never', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.boolean(), { maxLength: 40 }),
        fc.integer({ min: 1, max: 7 }),
        fc.boolean(),
        async (from, limit, dies) => {
          const sent = from.map((own, i) => update(i + 1, own ? owner : stranger))
          const api = new FakeApi(...sent)
          const { poller } = pollerFor(api)
          const seen: number[] = []
          let offset = 0
          for (let i = 0; i < 120 && api.updates.length > 0; i += 1) {
            const ids = delivered(await poller.answer(ask({ offset, limit }), never))
            // Every other time the bot dies before it has handled anything.
            if (dies && i % 2 === 0) continue
            seen.push(...ids)
            const last = ids.at(-1)
            if (last !== undefined) offset = last + 1
          }
          const expected = sent.filter((_, i) => from[i]).map(idOf)
          assert.deepEqual(seen, expected)
        },
      ),
      { numRuns: 150 },
    )
  })
})

describe('what a bot asks', () => {
  const read = (query: string, type: string, body: string) =>
    readAsk(query, type, Buffer.from(body))
  const form = 'application/x-www-form-urlencoded'
  const json = 'application/json'

  test('query, form and JSON mean the same', () => {
    const expected = 'offset=5&limit=10&timeout=30&allowed_updates=%5B%22message%22%5D'
    const text = 'offset=5&limit=10&timeout=30&allowed_updates=["message"]'
    const body = '{"offset":5,"limit":10,"timeout":30,"allowed_updates":["message"]}'
    for (const asked of [read(text, '', ''), read('', form, text), read('', json, body)]) {
      assert.ok(asked.ok)
      assert.equal(askForm(asked.value), expected)
    }
  })

  test('without parameters it is the service default', () => {
    const asked = read('', '', '')
    assert.ok(asked.ok)
    assert.equal(askForm(asked.value), 'limit=100&timeout=0')
  })

  test('numbers move into their bounds', () => {
    const asked = read('', json, '{"limit":500,"timeout":900}')
    assert.ok(asked.ok)
    assert.equal(askForm(asked.value), 'limit=100&timeout=50')
    const least = read('', json, '{"limit":-1,"timeout":-1,"offset":-1}')
    assert.ok(least.ok)
    assert.equal(askForm(least.value), 'offset=-1&limit=1&timeout=0')
  })

  test('what cannot be read is refused, not guessed', () => {
    for (const [type, body] of [
      [json, '{"offset":1,"offset":2}'],
      [json, '[1]'],
      [json, '{"offset":"one"}'],
      [json, '{"offset":1.5}'],
      [json, '{"allowed_updates":"message"}'],
      [json, '{"allowed_updates":["a b"]}'],
      [form, 'offset=1&offset=2'],
      ['multipart/form-data; boundary=x', '--x'],
    ] as const) {
      assert.equal(read('', type, body).ok, false, body)
    }
  })
})
