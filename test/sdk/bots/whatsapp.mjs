import { createServer } from 'node:http'
import { WhatsAppAPI } from 'whatsapp-api-js/middleware/node-http'
import { heard, listening } from './tell.mjs'

const { APP_SECRET, VERIFY_TOKEN } = process.env
const api = new WhatsAppAPI({
  token: 'unused',
  appSecret: APP_SECRET,
  webhookVerifyToken: VERIFY_TOKEN,
  v: 'v23.0',
  secure: true,
})
api.on.message = ({ from, message }) => {
  heard(message.text?.body, from)
}
const server = createServer(async (req, res) => {
  if (req.method === 'GET') {
    res.end(api.handle_get(req))
    return
  }
  res.writeHead(await api.handle_post(req)).end()
})
server.listen(0, '127.0.0.1')
await listening(server)
