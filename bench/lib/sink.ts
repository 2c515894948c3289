/** The upstream for uploads and WebSockets: reads a body to its end and says how long it was; holds sockets open. */
import { createServer } from 'node:http'

import { WebSocketServer } from 'ws'

const port = Number(process.argv[2])
const server = createServer((request, response) => {
  let bytes = 0
  request.on('data', (chunk: Buffer) => (bytes += chunk.length))
  request.on('end', () => response.end(`${bytes}\n`))
})
const sockets = new WebSocketServer({ server, perMessageDeflate: false })
sockets.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }))
})
server.requestTimeout = 0
server.listen({ port, host: '127.0.0.1', backlog: 4096 })
