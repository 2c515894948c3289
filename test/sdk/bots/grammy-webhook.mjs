import { createServer } from 'node:http'
import { Bot, webhookCallback } from 'grammy'
import { heard, listening } from './tell.mjs'

const { BOT_TOKEN, API_ROOT, WEBHOOK_SECRET } = process.env
const bot = new Bot(BOT_TOKEN, { client: { apiRoot: API_ROOT } })
bot.on('message:text', (ctx) => heard(ctx.message.text, ctx.from.id))
const server = createServer(webhookCallback(bot, 'http', { secretToken: WEBHOOK_SECRET }))
server.listen(0, '127.0.0.1')
await listening(server)
