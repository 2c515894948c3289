/** Every signed sample gives the expected proof, sender, room, mention and action under its file's policy. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import type { Account, Channel, Message } from '../../src/channels/channel.ts'
import { gatewayMessage } from '../../src/channels/discord.ts'
import { proven } from '../../src/channels/proof.ts'
import { streamMessage } from '../../src/channels/signal.ts'
import { socketMessage } from '../../src/channels/slack.ts'
import { polledUpdates } from '../../src/channels/telegram.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { PolicySettings, Verdict } from '../../src/senders/policy.ts'
import type { Expected, Fixture, Sample } from '../support/channels.ts'
import {
  accountFor,
  channelFor,
  fixture,
  keysOf,
  policyOf,
  requestOf,
} from '../support/channels.ts'

const nobody = { listed: new Set<string>(), paired: new Set<string>() }

const judge = (messages: readonly Message[], settings: PolicySettings): readonly Verdict[] =>
  messages.map((message) => judgeMessage(message, settings, nobody))

/** What a host does with a whole request. */
function actionOf(messages: readonly Message[], verdicts: readonly Verdict[]): string {
  if (messages.length === 0) return 'respond-200'
  if (messages.every((message) => message.class === 'probe')) return 'respond'
  const spoken = verdicts.filter(({ verdict }) => verdict === 'speak').length
  if (spoken === messages.length) return 'forward'
  if (spoken > 0) return 'split-and-resign'
  return verdicts.some(({ verdict }) => verdict === 'pair') ? 'pair' : 'drop'
}

/** A sender who is let in by an alias is known by it, and the direct chat with them too. */
function seen(message: Message, { verdict, as }: Verdict) {
  const { sender, room } = message
  const own = room.kind === 'dm' && room.id === sender.id
  return {
    class: message.class,
    sender: { id: as ?? sender.id, kind: sender.kind },
    room: { id: own && as !== undefined ? as : room.id, kind: room.kind },
    mentioned: message.mentioned === true,
    verdict: message.class === 'probe' ? 'answer' : verdict,
  }
}

function check(
  messages: readonly Message[],
  expected: readonly Expected[],
  settings: PolicySettings,
): readonly Verdict[] {
  const verdicts = judge(messages, settings)
  const found = messages.map((message, i) => seen(message, verdicts[i] ?? fail()))
  assert.deepEqual(
    found,
    expected.map(({ class: of, sender, room, mentioned, verdict }) => ({
      class: of,
      sender,
      room,
      mentioned,
      verdict,
    })),
  )
  return verdicts
}

const fail = (): never => assert.fail('a message without a verdict')

async function checkRequest(file: string, of: Fixture, sample: Sample): Promise<void> {
  const channel = channelFor(file, sample)
  const account = accountFor(file, of, sample)
  const request = requestOf(of, sample)
  const { proven: good, messages: expected, action } = sample.expect
  const early = channel.probe?.(request, account)
  if (action === 'respond-200-empty-never-forward') {
    assert.deepEqual(early, { status: 200, headers: [], body: '' })
  } else {
    assert.equal(early, undefined)
  }
  const proof = await proven(channel, request, account, keysOf(of, sample), of.now)
  assert.equal(proof.ok, good, proof.ok ? 'proven' : proof.because)
  if (!proof.ok) return
  const messages = channel.messages(request, account)
  const verdicts = check(messages, expected, policyOf(of))
  assert.equal(actionOf(messages, verdicts), action)
  answers(channel, account, messages, expected, verdicts)
}

/** A withheld message leaves the service content; one that pairs can be answered. */
function answers(
  channel: Channel,
  account: Account,
  messages: readonly Message[],
  expected: readonly Expected[],
  verdicts: readonly Verdict[],
): void {
  const reply = channel.withheld(messages, account)
  assert.equal(reply.status, 200)
  const wanted = expected[0]?.withheld
  if (wanted !== undefined && channel.name === 'discord') assert.equal(reply.body, wanted)
  if (wanted !== undefined && channel.name === 'msteams') {
    assert.match(reply.body, /^\{"statusCode":403,"type":"application\/vnd\.microsoft\.error"/)
  }
  messages.forEach((message, i) => {
    if (verdicts[i]?.verdict !== 'pair') return
    const full = { ...account, settings: { ...account.settings, apiRoot: 'http://127.0.0.1:1' } }
    const out = channel.invite(message, 'Code <ABCD2345> & more', full)
    const told = out.sync?.body ?? out.api?.body
    if (channel.name === 'generic' || channel.name === 'bluebubbles') assert.deepEqual(out, {})
    else assert.match(told ?? '', /ABCD2345/)
  })
}

const webhooks = [
  'telegram-webhook',
  'slack-http',
  'discord-interactions',
  'meta',
  'twilio',
  'generic-json',
  'line',
  'googlechat',
  'msteams',
  'matrix-appservice',
  'mattermost',
  'nextcloud-talk',
  'zalo',
  'bluebubbles',
]

for (const file of webhooks) {
  const of = fixture(file)
  for (const sample of of.vectors) {
    test(`${file}: ${sample.name} is judged as expected`, () => checkRequest(file, of, sample))
  }
}

for (const sample of fixture('discord-gateway').vectors) {
  test(`discord gateway: ${sample.name} is judged as expected`, () => {
    const of = fixture('discord-gateway')
    const message = gatewayMessage(sample.gateway, accountFor('discord-gateway', of, sample))
    assert.ok(message !== undefined)
    const verdicts = check([message], sample.expect.messages, policyOf(of))
    assert.equal(actionOf([message], verdicts), sample.expect.action)
  })
}

for (const sample of fixture('signal-sse').vectors) {
  test(`signal: ${sample.name} is judged as expected`, () => {
    const of = fixture('signal-sse')
    const data = JSON.stringify(sample.sse?.data)
    const message = streamMessage(data, accountFor('signal-sse', of, sample))
    const verdicts = check([message], sample.expect.messages, policyOf(of))
    assert.equal(actionOf([message], verdicts), sample.expect.action)
  })
}

for (const sample of fixture('telegram-polling').vectors) {
  test(`telegram polling: ${sample.name} delivers only what may speak`, () => {
    const of = fixture('telegram-polling')
    const account = accountFor('telegram-polling', of, sample)
    const updates = (sample.upstreamUpdates ?? [])
      .slice(0, sample.request?.limit ?? 100)
      .map(({ rel, from, text }) => ({
        update_id: 700 + rel,
        message: {
          message_id: rel,
          from: { id: Number(from), is_bot: false, first_name: 'A' },
          chat: { id: Number(from), type: 'private' },
          date: 1_764_000_000,
          text,
        },
      }))
    const polled = polledUpdates(
      Buffer.from(JSON.stringify({ ok: true, result: updates })),
      account,
    )
    assert.ok(polled.ok)
    const verdicts = judge(polled.value.messages, policyOf(of))
    assert.deepEqual(
      verdicts.map(({ verdict }) => verdict),
      sample.upstreamUpdates?.slice(0, updates.length).map(({ verdict }) => verdict),
    )
    const refused = new Set(verdicts.flatMap(({ verdict }, i) => (verdict === 'speak' ? [] : [i])))
    const left = JSON.parse(polled.value.without(refused)) as { result: { update_id: number }[] }
    assert.deepEqual(
      left.result.map(({ update_id }) => update_id - 700),
      sample.expect.delivered,
    )
  })
}

test('slack: the same payloads in Socket Mode envelopes give the same senders and verdicts', () => {
  const of = fixture('slack-http')
  let compared = 0
  for (const sample of of.vectors) {
    const body = sample.request?.body ?? ''
    if (!sample.expect.proven || !body.startsWith('{') || body.includes('url_verification'))
      continue
    const envelope = { type: 'events_api', envelope_id: 'e', payload: JSON.parse(body) as unknown }
    const message = socketMessage(envelope, accountFor('slack-http', of, sample))
    check([message], sample.expect.messages, policyOf(of))
    compared += 1
  }
  assert.ok(compared > 10)
})
