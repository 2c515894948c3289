/** matrix-appservice, with its own listener. */
import { guard, stand, startBot, trialOf, type Said, type Sent } from '../support/sdk.ts'
import { startService } from '../support/sdk-service.ts'

const hsToken = 'h5_hs_token_0123456789abcdef'

const rooms: Readonly<Record<string, string>> = {
  '@olga:hs.test': '!dmolga:hs.test',
  '@eve:hs.test': '!dmeve:hs.test',
}

const sign = ({ from, text, id, at }: Said): Sent => ({
  method: 'PUT',
  path: `/_matrix/app/v1/transactions/txn${id}`,
  headers: { 'Content-Type': 'application/json', Authorization: `Bearer ${hsToken}` },
  body: JSON.stringify({
    events: [
      {
        type: 'm.room.message',
        room_id: rooms[from],
        sender: from,
        event_id: `$e${id}`,
        origin_server_ts: at * 1000,
        content: { msgtype: 'm.text', body: text },
      },
    ],
  }),
})

trialOf('matrix-appservice', async (t) => {
  const homeserver = await startService(t, () => ({ event_id: '$x' }))
  const bot = await startBot(t, 'matrix', { HS_TOKEN: hsToken })
  const sidecar = await guard(t, bot, 'matrix', {
    webhookPath: '/',
    hsToken,
    asToken: 'h5_as_token_0123456789abcdef',
    apiRoot: homeserver.url,
    botIds: ['@guard:hs.test'],
    directRooms: Object.values(rooms),
    allowFrom: ['@olga:hs.test'],
  })
  const trial = {
    channel: 'matrix',
    owner: '@olga:hs.test',
    stranger: '@eve:hs.test',
    sign,
    tamper: (sent: Sent): Sent => ({
      ...sent,
      headers: { ...sent.headers, Authorization: `Bearer ${hsToken}x` },
    }),
    // Nothing is signed with a time: what is older than deliveries are remembered is withheld.
    stale: { seconds: 4 * 86_400, status: 200 },
    outside: () => homeserver.text(),
  }
  await stand(t, trial, bot, sidecar)
})
