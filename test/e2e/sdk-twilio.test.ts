/** twilio, with its validating middleware on express. */
import { createHmac } from 'node:crypto'

import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'

const authToken = 'h5twilioauthtoken0123456789abcdef'
const publicUrl = 'https://gw.example.com/webhooks/sms'

const sign = ({ from, text, id }: Said): Sent => {
  const fields: Record<string, string> = {
    MessageSid: `SM${String(id).padStart(32, '0')}`,
    AccountSid: `AC${'0'.repeat(32)}`,
    From: from,
    To: '+15550000000',
    Body: text,
    NumMedia: '0',
    NumSegments: '1',
    ApiVersion: '2010-04-01',
  }
  const flat = Object.keys(fields)
    .sort()
    .map((name) => `${name}${fields[name]}`)
    .join('')
  const signature = createHmac('sha1', authToken).update(`${publicUrl}${flat}`).digest('base64')
  return {
    method: 'POST',
    path: '/webhooks/sms',
    headers: {
      'Content-Type': 'application/x-www-form-urlencoded; charset=UTF-8',
      'X-Twilio-Signature': signature,
    },
    body: new URLSearchParams(fields).toString(),
  }
}

trialOf('twilio', async (t) => {
  const bot = await startBot(t, 'twilio', { AUTH_TOKEN: authToken, PUBLIC_URL: publicUrl })
  const sidecar = await guard(t, bot, 'twilio', {
    webhookPath: '/webhooks/sms',
    authToken,
    publicWebhookUrl: publicUrl,
    allowFrom: ['+15551230001'],
  })
  const trial = {
    channel: 'twilio',
    owner: '+15551230001',
    stranger: '+15559990666',
    sign,
    tamper: (sent: Sent): Sent => ({ ...sent, body: sent.body.replace('tampered', 'forged') }),
  }
  await stand(t, trial, bot, sidecar)
})
