/** @slack/bolt, by its HTTP receiver. */
import { createHmac } from 'node:crypto'

import { nodeCall } from '../../src/senders/outgoing.ts'
import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { rerouted, startService } from '../support/sdk-service.ts'

const signingSecret = '8f742231b10e8888abcd9900000085a5'
const botToken = 'xoxb-0000000000-not-a-real-token'

const sign = ({ from, text, id, at }: Said): Sent => {
  const body = JSON.stringify({
    token: 'deprecated',
    team_id: 'T0TEAM0001',
    api_app_id: 'A0APP00001',
    event: {
      type: 'message',
      channel: `D0${from.slice(1, 9)}`,
      channel_type: 'im',
      user: from,
      text,
      ts: `${at}.${String(id).padStart(6, '0')}`,
    },
    type: 'event_callback',
    event_id: `Ev${String(id).padStart(10, '0')}`,
    event_time: at,
    authorizations: [
      { enterprise_id: null, team_id: 'T0TEAM0001', user_id: 'U0BOT00001', is_bot: true },
    ],
  })
  const mac = createHmac('sha256', signingSecret).update(`v0:${at}:${body}`).digest('hex')
  return {
    method: 'POST',
    path: '/slack/events',
    headers: {
      'Content-Type': 'application/json',
      'X-Slack-Request-Timestamp': String(at),
      'X-Slack-Signature': `v0=${mac}`,
    },
    body,
  }
}

trialOf('@slack/bolt', async (t) => {
  const slack = await startService(t, () => ({
    ok: true,
    url: 'https://example.slack.com/',
    team: 'Example',
    user: 'guard',
    team_id: 'T0TEAM0001',
    user_id: 'U0BOT00001',
    bot_id: 'B0BOT00001',
  }))
  const bot = await startBot(t, 'bolt', {
    BOT_TOKEN: botToken,
    API_ROOT: `${slack.url}/api/`,
    SIGNING_SECRET: signingSecret,
  })
  const config = {
    webhookPath: '/slack/events',
    signingSecret,
    botToken,
    botIds: ['U0BOT00001'],
    allowFrom: ['U0OWNER001'],
  }
  const call = rerouted(nodeCall(), { 'slack.com': slack.url })
  const sidecar = await guard(t, bot, 'slack', config, { call })
  const trial = {
    channel: 'slack',
    owner: 'U0OWNER001',
    stranger: 'U0STRANGE1',
    sign,
    tamper: (sent: Sent): Sent => ({ ...sent, body: sent.body.replace('tampered', 'forged!!') }),
    stale: { seconds: 600, status: 401 },
    outside: () => slack.text(),
  }
  await stand(t, trial, bot, sidecar)
})
