/** discord-interactions, with its middleware on express. */
import { generateKeyPairSync, sign as signBytes } from 'node:crypto'

import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'

const keys = generateKeyPairSync('ed25519')
const publicKey = Buffer.from(keys.publicKey.export({ format: 'jwk' }).x ?? '', 'base64url')

/** A slash command in a direct chat: its name stands for the text. */
const sign = ({ from, text, id, at }: Said): Sent => {
  const body = JSON.stringify({
    application_id: '800000000000000001',
    id: `90000000000000000${id}`,
    token: 'aW50ZXJhY3Rpb24',
    type: 2,
    version: 1,
    channel_id: '700000000000000077',
    channel: { id: '700000000000000077', type: 1 },
    user: { id: from, username: 'u', global_name: null, avatar: null, discriminator: '0' },
    context: 1,
    authorizing_integration_owners: { 0: '0' },
    data: { id: '1', name: text, type: 1 },
  })
  const signature = signBytes(null, Buffer.from(`${at}${body}`), keys.privateKey).toString('hex')
  return {
    method: 'POST',
    path: '/interactions',
    headers: {
      'Content-Type': 'application/json',
      'X-Signature-Timestamp': String(at),
      'X-Signature-Ed25519': signature,
    },
    body,
  }
}

trialOf('discord-interactions', async (t) => {
  const key = publicKey.toString('hex')
  const bot = await startBot(t, 'discord', { PUBLIC_KEY: key })
  const sidecar = await guard(t, bot, 'discord', {
    webhookPath: '/interactions',
    publicKey: key,
    allowFrom: ['100000000000000001'],
  })
  const trial = {
    channel: 'discord',
    owner: '100000000000000001',
    stranger: '100000000000000666',
    sign,
    tamper: (sent: Sent): Sent => ({ ...sent, body: sent.body.replace('tampered', 'forged') }),
    stale: { seconds: 600, status: 401 },
  }
  await stand(t, trial, bot, sidecar)
})
