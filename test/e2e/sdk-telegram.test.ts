/** grammY and telegraf, by webhook. */
import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { privateMessage, startBotApi } from '../support/bot-api.ts'

const token = '7000000001:AAreal0credential0of0the0bot0000000'
const secret = 'a-webhook-secret-0123456789'
const path = '/telegram-webhook'

const sign = ({ from, text, id, at }: Said): Sent => {
  const message = { ...privateMessage(Number(from), text), message_id: id, date: at }
  return {
    method: 'POST',
    path,
    headers: {
      'Content-Type': 'application/json',
      'X-Telegram-Bot-Api-Secret-Token': secret,
    },
    body: JSON.stringify({ update_id: 5000 + id, message }),
  }
}

for (const name of ['grammy-webhook', 'telegraf-webhook']) {
  trialOf(name, async (t) => {
    const api = await startBotApi(token)
    t.after(() => api.stop())
    const bot = await startBot(t, name, {
      BOT_TOKEN: token,
      API_ROOT: api.url,
      WEBHOOK_SECRET: secret,
      WEBHOOK_PATH: path,
    })
    const sidecar = await guard(t, bot, 'telegram', {
      webhookPath: path,
      webhookSecret: secret,
      botToken: token,
      apiRoot: api.url,
      allowFrom: ['111111111'],
    })
    const trial = {
      channel: 'telegram',
      owner: '111111111',
      stranger: '999000111',
      sign,
      tamper: (sent: Sent): Sent => ({
        ...sent,
        headers: { ...sent.headers, 'X-Telegram-Bot-Api-Secret-Token': `${secret}x` },
      }),
      // Nothing is signed with a time: what is older than deliveries are remembered is withheld.
      stale: { seconds: 4 * 86_400, status: 200 },
      outside: () => api.sentTo(999000111).join('\n'),
    }
    await stand(t, trial, bot, sidecar)
  })
}
