/** whatsapp-api-js, for the WhatsApp Cloud API. */
import { createHmac } from 'node:crypto'

import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { startService } from '../support/sdk-service.ts'

const appSecret = 'h5metaappsecret0123456789abcdef00'
const verifyToken = 'h5verify-0123456789'

const sign = ({ from, text, id, at }: Said): Sent => {
  const value = {
    messaging_product: 'whatsapp',
    metadata: { display_phone_number: '15550000000', phone_number_id: '109876543210987' },
    contacts: [{ profile: { name: 'P' }, wa_id: from }],
    messages: [
      { from, id: `wamid.HBgL${id}`, timestamp: String(at), type: 'text', text: { body: text } },
    ],
  }
  const body = JSON.stringify({
    object: 'whatsapp_business_account',
    entry: [{ id: '102290129340398', changes: [{ value, field: 'messages' }] }],
  })
  const mac = createHmac('sha256', appSecret).update(body).digest('hex')
  return {
    method: 'POST',
    path: '/webhook',
    headers: { 'Content-Type': 'application/json', 'X-Hub-Signature-256': `sha256=${mac}` },
    body,
  }
}

trialOf('whatsapp-api-js', async (t) => {
  const graph = await startService(t, () => ({ messages: [{ id: 'wamid.x' }] }))
  const bot = await startBot(t, 'whatsapp', { APP_SECRET: appSecret, VERIFY_TOKEN: verifyToken })
  const sidecar = await guard(t, bot, 'whatsapp', {
    webhookPath: '/webhook',
    appSecret,
    verifyToken,
    accessToken: 'an-access-token-of-the-graph-api-0123456789',
    apiRoot: graph.url,
    allowFrom: ['15551230001'],
  })
  const trial = {
    channel: 'whatsapp',
    owner: '15551230001',
    stranger: '15559990666',
    sign,
    tamper: (sent: Sent): Sent => ({ ...sent, body: sent.body.replace('tampered', 'forged!!') }),
    // Meta signs no time of its own; a message older than deliveries are remembered is withheld.
    stale: { seconds: 4 * 86_400, status: 200 },
    outside: () => graph.text(),
  }
  await stand(t, trial, bot, sidecar)
})
