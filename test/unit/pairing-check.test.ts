/** `channel check`: what is wrong, what is right, and what nobody can know. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { channels, channelNamed } from '../../src/channels/all.ts'
import { checkAccount, type CheckRow, type CheckSubject } from '../../src/senders/check.ts'
import type { Incoming, Outgoing } from '../../src/senders/outgoing.ts'
import { accountWith, recordingCall, TestClock } from '../support/people.ts'

type Answer = (outgoing: Outgoing) => Partial<Incoming> | 'no answer'
const clock = new TestClock()
const publicOrigins = ['https://gw.example.com']

async function checked(
  name: string,
  settings: Readonly<Record<string, string>>,
  answer: Answer = () => ({ status: 404 }),
  more: Partial<CheckSubject> & { publicOrigins?: readonly string[] } = {},
) {
  const channel = channelNamed(name)
  if (channel === undefined) throw new Error(name)
  const { call, asked } = recordingCall(answer)
  const subject = {
    channel,
    account: accountWith(settings),
    path: `channels.${name}`,
    needsMention: false,
    answers: true,
    ...more,
  }
  const origins = more.publicOrigins ?? publicOrigins
  const rows = await checkAccount(subject, { call, now: clock.now, publicOrigins: origins })
  const row = (check: CheckRow['check']) => rows.find((one) => one.check === check)
  return { rows, row, asked }
}

const telegram = { webhookSecret: 's'.repeat(32), botToken: '42:abcdefgh' }
const info =
  (result: object): Answer =>
  ({ url }) =>
    url.endsWith('/getWebhookInfo')
      ? { body: JSON.stringify({ ok: true, result }) }
      : { status: 404 }
const registered = { url: 'https://gw.example.com/hook' }

test('a Telegram bot that is set up right has no problem', async () => {
  const { rows, asked } = await checked('telegram', telegram, info(registered))
  assert.deepEqual(
    rows.map(({ check, result }) => [check, result]),
    [
      ['secret', 'ok'],
      ['address', 'ok'],
      ['service', 'ok'],
      ['webhook', 'ok'],
      ['answers', 'ok'],
      ['mentions', 'ok'],
    ],
  )
  assert.deepEqual(
    asked.map(({ method, url }) => `${method} ${url}`),
    ['GET https://api.telegram.org', 'GET https://api.telegram.org/bot42:abcdefgh/getWebhookInfo'],
  )
})

test('what Telegram says about the webhook is held against the configuration', async () => {
  const says = async (result: object, more = {}) => {
    const row = (await checked('telegram', telegram, info(result), more)).row('webhook')
    return `${row?.result}: ${row?.says}`
  }
  assert.match(await says({ url: '' }), /problem: no webhook is registered/)
  assert.match(await says({ url: 'https://gw.example.com/other' }), /problem: .*another path/)
  assert.match(await says({ url: 'https://other.example/hook' }), /problem: .*publicOrigins/)
  assert.match(await says({ url: 'nonsense' }), /problem/)
  const failing = { ...registered, last_error_message: 'Wrong \u001b[31mresponse' }
  const now = clock.now() / 1000
  assert.match(
    await says({ ...failing, last_error_date: now - 60 }),
    /problem: its last delivery failed: Wrong \?\[31mresponse/,
  )
  assert.match(await says({ ...failing, last_error_date: now - 7200 }), /^ok/)
  assert.match(await says(registered, { publicOrigins: [] }), /^ok/)
})

test('a root that the owner chose is asked in place of the usual one', async () => {
  const { asked } = await checked(
    'telegram',
    { ...telegram, apiRoot: 'http://127.0.0.1:8081' },
    info(registered),
  )
  assert.ok(asked.every(({ url }) => url.startsWith('http://127.0.0.1:8081')))
})

test('a service that is away is a problem, and one that refuses the credential is another', async () => {
  const away = await checked('telegram', telegram, () => 'no answer')
  assert.equal(away.row('service')?.result, 'problem')
  assert.equal(away.row('webhook')?.result, 'problem')
  const refused = await checked('telegram', telegram, () => ({ status: 401 }))
  assert.equal(refused.row('service')?.result, 'ok')
  assert.match(refused.row('webhook')?.says ?? '', /refuses botToken/)
})

test('no row holds a credential', async () => {
  for (const answer of ['no answer', { status: 401, body: 'abcdefgh' }] as const) {
    const { rows } = await checked('telegram', telegram, () => answer)
    assert.ok(!JSON.stringify(rows).includes('abcdefgh'))
  }
})

test('Discord and LINE tell their webhook too', async () => {
  const discord = { publicKey: 'ab'.repeat(32), botToken: 'tok' }
  const good = await checked('discord', discord, () => ({
    body: '{"interactions_endpoint_url":"https://gw.example.com/hook"}',
  }))
  assert.equal(good.row('webhook')?.result, 'ok')
  assert.deepEqual(good.asked[1]?.headers, ['Authorization', 'Bot tok'])
  const none = await checked('discord', discord, () => ({
    body: '{"interactions_endpoint_url":null}',
  }))
  assert.equal(none.row('webhook')?.result, 'problem')
  const line = { channelSecret: 's'.repeat(32), channelAccessToken: 'tok' }
  const off = await checked('line', line, () => ({
    body: '{"endpoint":"https://gw.example.com/hook","active":false}',
  }))
  assert.match(off.row('webhook')?.says ?? '', /"Use webhook" is off/)
})

test('what a service does not tell is not measured', async () => {
  const slack = await checked('slack', { signingSecret: 's'.repeat(32), botToken: 'x' })
  assert.equal(slack.row('webhook')?.result, 'not measured')
  const generic = await checked('generic', { secret: 's'.repeat(32) })
  assert.deepEqual(
    generic.rows.map(({ check, result }) => `${check} ${result}`),
    [
      'secret ok',
      'address ok',
      'service not measured',
      'webhook not measured',
      'answers not measured',
      'mentions ok',
    ],
  )
  const { botToken: _none, ...without } = telegram
  assert.equal((await checked('telegram', without)).row('webhook')?.result, 'not measured')
})

test('a service from outside needs a public origin, one on the same machine does not', async () => {
  const outside = await checked('telegram', telegram, info(registered), { publicOrigins: [] })
  assert.match(outside.row('address')?.says ?? '', /publicOrigins is empty.*421/)
  const inside = await checked('mattermost', { token: 's'.repeat(26) }, undefined, {
    publicOrigins: [],
  })
  assert.equal(inside.row('address')?.result, 'ok')
})

test('the address that Twilio signs must be ours', async () => {
  const twilio = (publicWebhookUrl: string) =>
    checked('twilio', { authToken: 's'.repeat(32), publicWebhookUrl })
  const good = await twilio('https://gw.example.com/hook')
  assert.equal(good.row('address')?.result, 'ok')
  for (const url of ['https://other.example/hook', 'https://gw.example.com/sms']) {
    assert.equal((await twilio(url)).row('address')?.result, 'problem', url)
  }
})

test('whoever cannot be answered is named with the key that is missing', async () => {
  const without = await checked('slack', { signingSecret: 's'.repeat(32) })
  assert.match(without.row('answers')?.says ?? '', /channels\.slack\.botToken is not set/)
  const silent = await checked('slack', { signingSecret: 's'.repeat(32) }, undefined, {
    answers: false,
  })
  assert.equal(silent.row('answers')?.result, 'ok')
})

test('a channel with a policy alone says that nothing of it comes through us', async () => {
  for (const { name } of channels) {
    const account = { ...accountWith({}), webhookPath: '' }
    const { row } = await checked(name, {}, undefined, { account })
    assert.equal(row('secret')?.result, 'problem', name)
    assert.equal(row('address')?.result, 'not measured', name)
  }
})

test('groups that need a mention need a bot with a name', async () => {
  const unnamed = await checked('telegram', telegram, info(registered), { needsMention: true })
  assert.equal(unnamed.row('mentions')?.result, 'not measured')
  const account = { ...accountWith(telegram), bot: { ids: ['42'], names: [] } }
  const named = await checked('telegram', telegram, info(registered), {
    needsMention: true,
    account,
  })
  assert.equal(named.row('mentions')?.result, 'ok')
})

test('where the service says by itself whether the bot is meant, or never does, a name of the bot changes nothing', async () => {
  const mentions = async (name: string, more: object = {}) => {
    const account = { ...accountWith({}), ...more }
    const { row } = await checked(name, {}, undefined, { needsMention: true, account })
    return `${row('mentions')?.result}: ${row('mentions')?.says}`
  }
  for (const name of ['googlechat', 'msteams', 'mattermost', 'line', 'discord']) {
    assert.match(await mentions(name), /^ok: .*says whether/, name)
  }
  for (const name of ['zalo', 'bluebubbles', 'generic']) {
    assert.match(await mentions(name), /^problem: .*requireMention/, name)
  }
  const dm = { pointer: '/kind', equals: 'dm' }
  const pointers = { sender: '/from', room: '/room', dm }
  assert.match(await mentions('generic', { mapping: pointers }), /^problem: .*pointers\.mention/)
  const mapping = { ...pointers, mention: { pointer: '/to', equals: 'bot' } }
  assert.match(await mentions('generic', { mapping }), /^ok/)
})
