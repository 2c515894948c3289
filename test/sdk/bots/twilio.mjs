import express from 'express'
import twilio from 'twilio'
import { heard, listening } from './tell.mjs'

const { AUTH_TOKEN, PUBLIC_URL } = process.env
const app = express()
const { host, protocol } = new URL(PUBLIC_URL)
app.use(express.urlencoded({ extended: false }))
app.post(
  '/webhooks/sms',
  twilio.webhook(
    { validate: true, authToken: AUTH_TOKEN, host, protocol: protocol.replace(':', '') },
    AUTH_TOKEN,
  ),
  (req, res) => {
    heard(req.body.Body, req.body.From)
    const answer = new twilio.twiml.MessagingResponse()
    answer.message('done')
    res.type('text/xml').send(answer.toString())
  },
)
await listening(app.listen(0, '127.0.0.1'))
