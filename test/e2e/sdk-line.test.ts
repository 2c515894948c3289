/** @line/bot-sdk, with its middleware on express. */
import { createHmac } from 'node:crypto'

import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { startService } from '../support/sdk-service.ts'

const channelSecret = 'c3a1h5linelabsecret0123456789abcd'

const sign = ({ from, text, id, at }: Said): Sent => {
  const body = JSON.stringify({
    destination: `U${'b'.repeat(32)}`,
    events: [
      {
        type: 'message',
        mode: 'active',
        timestamp: at * 1000,
        source: { type: 'user', userId: from },
        webhookEventId: `01H5LAB${String(id).padStart(19, '0')}`,
        deliveryContext: { isRedelivery: false },
        replyToken: `5eb6f7c468ae4d92813a8db00127150${id}`,
        message: { type: 'text', id: `4400${id}`, quoteToken: 'q0', text },
      },
    ],
  })
  const signature = createHmac('sha256', channelSecret).update(body).digest('base64')
  return {
    method: 'POST',
    path: '/line/webhook',
    headers: { 'Content-Type': 'application/json; charset=utf-8', 'x-line-signature': signature },
    body,
  }
}

trialOf('@line/bot-sdk', async (t) => {
  const api = await startService(t, () => ({}))
  const bot = await startBot(t, 'line', { CHANNEL_SECRET: channelSecret })
  const owner = `U${'1'.repeat(32)}`
  const sidecar = await guard(t, bot, 'line', {
    webhookPath: '/line/webhook',
    channelSecret,
    channelAccessToken: 'a-channel-access-token-of-line-0123456789',
    apiRoot: api.url,
    allowFrom: [owner],
  })
  const trial = {
    channel: 'line',
    owner,
    stranger: `U${'9'.repeat(32)}`,
    sign,
    tamper: (sent: Sent): Sent => ({ ...sent, body: sent.body.replace('tampered', 'forged!!') }),
    // LINE signs no time of its own; an event older than deliveries are remembered is withheld.
    stale: { seconds: 4 * 86_400, status: 200 },
    outside: () => api.text(),
  }
  await stand(t, trial, bot, sidecar)
})
