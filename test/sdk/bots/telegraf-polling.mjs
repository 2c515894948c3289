import { Telegraf } from 'telegraf'
import { heard, tell } from './tell.mjs'

const { BOT_TOKEN, API_ROOT } = process.env
const bot = new Telegraf(BOT_TOKEN, { telegram: { apiRoot: API_ROOT } })
bot.on('text', async (ctx) => {
  heard(ctx.message.text, ctx.from.id)
  await ctx.reply(`you said ${ctx.message.text}`)
})
await bot.launch(() => tell('READY', bot.botInfo.username))
