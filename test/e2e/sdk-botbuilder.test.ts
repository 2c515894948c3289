/** botbuilder's CloudAdapter for Microsoft Teams, with its own key discovery. */
import { generateKeyPairSync, sign as signBytes } from 'node:crypto'

import { nodeCall } from '../../src/senders/outgoing.ts'
import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { rerouted, startService } from '../support/sdk-service.ts'

const appId = '00000000-1111-2222-3333-444444444444'
const tenantId = '99999999-aaaa-bbbb-cccc-dddddddddddd'
const serviceUrl = 'https://smba.trafficmanager.net/teams/'
const keys = generateKeyPairSync('rsa', { modulusLength: 2048 })

const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')

const sign = ({ from, text, id, at }: Said): Sent => {
  const claims = {
    iss: 'https://api.botframework.com',
    aud: appId,
    serviceurl: serviceUrl,
    nbf: at - 60,
    exp: at + 300,
  }
  const head = `${part({ alg: 'RS256', typ: 'JWT', kid: 'key-1' })}.${part(claims)}`
  const jwt = `${head}.${signBytes('sha256', Buffer.from(head), keys.privateKey).toString('base64url')}`
  return {
    method: 'POST',
    path: '/api/messages',
    headers: { 'Content-Type': 'application/json; charset=utf-8', Authorization: `Bearer ${jwt}` },
    body: JSON.stringify({
      type: 'message',
      id: `17640000${id}`,
      timestamp: new Date(at * 1000).toISOString(),
      serviceUrl,
      channelId: 'msteams',
      from: { id: `29:${from.slice(0, 8)}`, name: 'N', aadObjectId: from },
      conversation: { conversationType: 'personal', tenantId, id: 'a:001' },
      recipient: { id: `28:${appId}`, name: 'Guard' },
      channelData: { tenant: { id: tenantId } },
      text,
    }),
  }
}

trialOf('botbuilder', async (t) => {
  const jwk = { ...keys.publicKey.export({ format: 'jwk' }), kid: 'key-1', use: 'sig' }
  const service = await startService(t, ({ path, method }) => {
    if (path.endsWith('/openidconfiguration')) {
      return {
        issuer: 'https://api.botframework.com',
        jwks_uri: keysOf(path),
        id_token_signing_alg_values_supported: ['RS256'],
      }
    }
    if (path.endsWith('/keys')) return { keys: [{ ...jwk, endorsements: ['msteams'] }] }
    if (path.endsWith('/token')) return { access_token: 'a-token', expires_in: 3600 }
    return { id: method }
  })
  // The bot finds the keys where it looked for the metadata; Hardshell asks the real host for both.
  const keysOf = (path: string) =>
    path.startsWith('/bot/')
      ? `${service.url}/bot/v1/.well-known/keys`
      : 'https://login.botframework.com/v1/.well-known/keys'
  const bot = await startBot(t, 'botbuilder', {
    APP_ID: appId,
    TENANT_ID: tenantId,
    KEYS_ROOT: `${service.url}/bot`,
  })
  const call = rerouted(nodeCall(), {
    'login.botframework.com': service.url,
    'login.microsoftonline.com': service.url,
    'smba.trafficmanager.net': service.url,
  })
  const owner = 'a0000000-0000-4000-8000-000000000001'
  const config = {
    webhookPath: '/api/messages',
    appId,
    tenantId,
    appPassword: 'an-app-password-of-azure-0123456789',
    allowFrom: [owner],
  }
  const sidecar = await guard(t, bot, 'msteams', config, { call })
  const trial = {
    channel: 'msteams',
    owner,
    stranger: 'a0000000-0000-4000-8000-000000000666',
    sign,
    // The body is not signed; the token is.
    tamper: (sent: Sent): Sent => ({
      ...sent,
      headers: { ...sent.headers, Authorization: `${sent.headers['Authorization']}AA` },
    }),
    stale: { seconds: 3600, status: 401 },
    outside: () => service.text(),
  }
  await stand(t, trial, bot, sidecar)
})
