import bolt from '@slack/bolt'
import { heard, tell } from './tell.mjs'

const { BOT_TOKEN, API_ROOT, SIGNING_SECRET } = process.env
const app = new bolt.App({
  token: BOT_TOKEN,
  signingSecret: SIGNING_SECRET,
  clientOptions: { slackApiUrl: API_ROOT },
  logLevel: bolt.LogLevel.ERROR,
})
app.message(async ({ message }) => heard(message.text, message.user))
const server = await app.start({ port: 0, host: '127.0.0.1' })
tell('READY', server.address().port)
