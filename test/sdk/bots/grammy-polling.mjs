import { Bot } from 'grammy'
import { heard, tell } from './tell.mjs'

const { BOT_TOKEN, API_ROOT } = process.env
const bot = new Bot(BOT_TOKEN, { client: { apiRoot: API_ROOT } })
bot.on('message:text', async (ctx) => {
  heard(ctx.message.text, ctx.from.id)
  await ctx.reply(`you said ${ctx.message.text}`)
})
bot.catch((error) => tell('FAILED', String(error)))
await bot.start({ onStart: (me) => tell('READY', me.username) })
