/** The road of bots that poll, in the configuration. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codesOf, load } from '../support/config-load.ts'

const real = '7000000001:AAreal0credential0of0the0bot0000000'
const dummy = '7000000001:dummydummydummydummydummydummydummy1'
const telegram = (more: object) => ({ channels: { telegram: more } })
const whole = { listen: '127.0.0.1:8082', botToken: real, agentToken: dummy }

test('a listener for the bot needs both credentials', () => {
  assert.deepEqual(codesOf(telegram({ listen: '127.0.0.1:8082' })), [
    'channels.telegram.agentToken SECRET_MISSING',
    'channels.telegram.botToken SECRET_MISSING',
  ])
  assert.doesNotThrow(() => load(telegram(whole)))
})

test('a listener counts as a road, so nothing says that the channel is unguarded', () => {
  const codes = load(telegram(whole)).notices.map(({ code }) => code)
  assert.ok(!codes.includes('CHANNEL_UNGUARDED'))
})

test('only loopback addresses with a port are listened on', () => {
  for (const listen of ['127.0.0.1:1', '127.9.9.9:65535', '[::1]:8082']) {
    assert.doesNotThrow(() => load(telegram({ ...whole, listen })), listen)
  }
  for (const listen of [
    '0.0.0.0:8082',
    '127.0.0.1',
    '127.0.0.1:0',
    '127.0.0.1:65536',
    '127.0.0.256:80',
    '[::]:8082',
    '192.168.1.2:8082',
    'localhost:8082',
    '8082',
  ]) {
    assert.deepEqual(codesOf(telegram({ ...whole, listen })), ['channels.telegram.listen FORMAT'])
  }
})

test('the credential of the bot is neither short nor the real one', () => {
  assert.deepEqual(codesOf(telegram({ ...whole, agentToken: '7000000001:short' })), [
    'channels.telegram.agentToken FORMAT',
  ])
  assert.deepEqual(codesOf(telegram({ ...whole, agentToken: real })), [
    'channels.telegram.agentToken EXCLUSIVE',
  ])
})

test('we are not our own service, and two accounts do not share a door', () => {
  assert.deepEqual(codesOf(telegram({ ...whole, apiRoot: 'http://127.0.0.1:8082' })), [
    'channels.telegram.apiRoot EXCLUSIVE',
  ])
  const twice = telegram({ accounts: { a: whole, b: whole } })
  assert.deepEqual(codesOf(twice), ['channels.telegram.accounts.b.listen EXCLUSIVE'])
})

test('another channel has no such road yet', () => {
  const slack = { channels: { slack: { listen: '127.0.0.1:8082' } } }
  assert.ok(codesOf(slack).includes('channels.slack.listen NOT_AVAILABLE'))
})

const signal = (more: object) => ({ channels: { signal: more } })
const daemon = {
  listen: '127.0.0.1:8083',
  apiRoot: 'http://127.0.0.1:8080',
  agentToken: 'k7Qp2vXz9LmN4rTb8WcY6dHf3sJg1AeU',
  botIds: ['+15550000000'],
}

test('a bot that reads Signal needs the daemon, a credential of its own and the account', () => {
  assert.deepEqual(codesOf(signal({ listen: '127.0.0.1:8083' })), [
    'channels.signal.agentToken SECRET_MISSING',
    'channels.signal.apiRoot KEY_NEEDED',
    'channels.signal.botIds KEY_NEEDED',
  ])
  const codes = load(signal(daemon)).notices.map(({ code }) => code)
  assert.ok(!codes.includes('CHANNEL_UNGUARDED'))
  assert.deepEqual(codesOf(signal({ ...daemon, botIds: ['guard'] })), [
    'channels.signal.botIds KEY_NEEDED',
  ])
  assert.doesNotThrow(() =>
    load(signal({ ...daemon, botIds: ['uuid:11111111-1111-4111-8111-111111111111'] })),
  )
})

test('the credential of a Signal bot is long and fits into a path', () => {
  for (const agentToken of ['short', 'a/b'.repeat(20), 'ä'.repeat(40)]) {
    assert.deepEqual(codesOf(signal({ ...daemon, agentToken })), [
      'channels.signal.agentToken FORMAT',
    ])
  }
})

test('the address of a service alone is no road', () => {
  for (const config of [
    signal({ apiRoot: 'http://127.0.0.1:8080' }),
    telegram({ apiRoot: 'http://127.0.0.1:8081', botToken: real }),
  ]) {
    assert.ok(load(config).notices.some(({ code }) => code === 'CHANNEL_UNGUARDED'))
  }
})
