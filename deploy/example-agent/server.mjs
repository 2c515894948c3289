/**
 * A small bot over HTTP and WebSocket. It stands for an agent that was never changed for Hardshell and knows nothing
 * of it: no authentication, no limits.
 *
 *   GET /health   {"status":"ok"}         POST /echo   the body comes back
 *   GET /         what this is            GET /stream  server-sent events, one a second
 *   WS  /ws       every message comes back
 *
 * PORT (default 18789) and HOST (default 127.0.0.1) say where it listens. REFUSE_FORWARDED=1 makes it answer 403 to
 * any request with a forwarding header, as OpenClaw does to proxies that it was not told of.
 */
import { createServer } from 'node:http'
import { acceptWebSocket } from './websocket.mjs'

const port = Number(process.env.PORT ?? 18789)
const host = process.env.HOST ?? '127.0.0.1'
const refuseForwarded = process.env.REFUSE_FORWARDED === '1'

const page = `<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Example agent</title>
<h1>Example agent</h1>
<p>A small bot. <code>POST /echo</code> answers with what it is sent, <code>GET /stream</code> counts,
<code>/ws</code> echoes over WebSocket, <code>GET /health</code> says whether it is well.</p>
`

const isForwarding = (name) =>
  name === 'forwarded' || name === 'x-real-ip' || name.startsWith('x-forwarded-')

function refused(request) {
  return refuseForwarded ? Object.keys(request.headers).find(isForwarding) : undefined
}

function json(response, status, value) {
  const body = JSON.stringify(value)
  response.writeHead(status, {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  })
  response.end(body)
}

function stream(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' })
  let count = 0
  const tick = () => response.write(`id: ${count}\ndata: {"count":${count++}}\n\n`)
  tick()
  const timer = setInterval(tick, 1000)
  response.on('close', () => clearInterval(timer))
}

const routes = {
  'GET /health': (_, response) => json(response, 200, { status: 'ok' }),
  'GET /': (_, response) => {
    response.writeHead(200, {
      'content-type': 'text/html; charset=utf-8',
      'content-length': Buffer.byteLength(page),
    })
    response.end(page)
  },
  'GET /stream': (_, response) => stream(response),
  'POST /echo': (request, response) => {
    const type = request.headers['content-type'] ?? 'application/octet-stream'
    const length = request.headers['content-length']
    response.writeHead(
      200,
      length === undefined
        ? { 'content-type': type }
        : { 'content-type': type, 'content-length': length },
    )
    request.pipe(response)
    request.on('error', () => response.destroy())
  },
}

const server = createServer((request, response) => {
  const header = refused(request)
  if (header !== undefined)
    return json(response, 403, { error: `forwarding header ${header} refused` })
  const path = new URL(request.url ?? '/', 'http://agent').pathname
  const method = request.method === 'HEAD' ? 'GET' : request.method
  const route = routes[`${method} ${path}`]
  if (route === undefined) return json(response, 404, { error: 'not found' })
  route(request, response)
})

const sockets = new Set()
server.on('upgrade', (request, socket, first) => {
  const path = new URL(request.url ?? '/', 'http://agent').pathname
  const status =
    refused(request) !== undefined ? '403 Forbidden' : path !== '/ws' ? '404 Not Found' : undefined
  if (status !== undefined) {
    socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
    return
  }
  sockets.add(socket)
  socket.on('close', () => sockets.delete(socket))
  acceptWebSocket(request, socket, first, (message, isBinary, send) => send(message, isBinary))
})

server.listen(port, host, () => {
  process.stdout.write(`example agent listens on http://${host}:${server.address().port}\n`)
})

for (const signal of ['SIGTERM', 'SIGINT']) {
  process.on(signal, () => {
    server.close(() => process.exit(0))
    server.closeAllConnections()
    for (const socket of sockets) socket.destroy()
  })
}
