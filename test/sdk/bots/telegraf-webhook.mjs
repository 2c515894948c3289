import { createServer } from 'node:http'
import { Telegraf } from 'telegraf'
import { heard, listening } from './tell.mjs'

const { BOT_TOKEN, API_ROOT, WEBHOOK_SECRET, WEBHOOK_PATH } = process.env
const bot = new Telegraf(BOT_TOKEN, { telegram: { apiRoot: API_ROOT } })
bot.on('text', (ctx) => heard(ctx.message.text, ctx.from.id))
const server = createServer(bot.webhookCallback(WEBHOOK_PATH, { secretToken: WEBHOOK_SECRET }))
server.listen(0, '127.0.0.1')
await listening(server)
