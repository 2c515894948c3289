import { InteractionResponseType, InteractionType, verifyKeyMiddleware } from 'discord-interactions'
import express from 'express'
import { heard, listening } from './tell.mjs'

const app = express()
app.post('/interactions', verifyKeyMiddleware(process.env.PUBLIC_KEY), (req, res) => {
  const { type, data, user, member } = req.body
  if (type === InteractionType.APPLICATION_COMMAND) heard(data.name, (member?.user ?? user).id)
  res.send({ type: InteractionResponseType.CHANNEL_MESSAGE_WITH_SOURCE, data: { content: 'done' } })
})
await listening(app.listen(0, '127.0.0.1'))
