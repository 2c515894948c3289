/** The rival: http-proxy-3 as its own documentation shows it, with a keep-alive agent. It checks nothing. */
import { Agent, createServer, ServerResponse } from 'node:http'

import { createProxyServer } from 'http-proxy-3'

const [port = 0, upstream = 0] = process.argv.slice(2).map(Number)
const proxy = createProxyServer({
  target: `http://127.0.0.1:${upstream}`,
  agent: new Agent({ keepAlive: true, maxSockets: 64 }),
})
proxy.on('error', (error, _request, answer) => {
  process.stderr.write(`${error.message}\n`)
  if (answer instanceof ServerResponse && !answer.headersSent) answer.writeHead(502).end()
  else answer?.destroy()
})
const server = createServer((request, response) => proxy.web(request, response))
server.on('upgrade', (request, socket, head) => proxy.ws(request, socket, head))
server.keepAliveTimeout = 600_000
server.requestTimeout = 0
server.listen({ port, host: '127.0.0.1', backlog: 1024 })
