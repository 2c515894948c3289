import { middleware } from '@line/bot-sdk'
import express from 'express'
import { heard, listening } from './tell.mjs'

const app = express()
app.post('/line/webhook', middleware({ channelSecret: process.env.CHANNEL_SECRET }), (req, res) => {
  for (const event of req.body.events) heard(event.message?.text, event.source.userId)
  res.json({})
})
app.use((error, req, res, next) => res.status(error.signature === undefined ? 500 : 401).end())
await listening(app.listen(0, '127.0.0.1'))
