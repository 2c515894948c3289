/** An agent that records everything that reaches it: the witness of every attack test. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** One request as the agent got it. */
export interface Seen {
  readonly method: string
  readonly url: string
  readonly rawHeaders: readonly string[]
  readonly headers: IncomingMessage['headers']
  /** Complete only once the request has ended. */
  body: Buffer
  ended: boolean
}

export interface TestAgent {
  readonly port: number
  readonly url: string
  readonly seen: Seen[]
  /** Connections that the agent has accepted. */
  readonly connections: () => number
  readonly server: Server
  /** Ends the listener and cuts every connection. */
  stop(): Promise<void>
}

export type Answer = (request: IncomingMessage, response: ServerResponse, seen: Seen) => void

/** Answers every request with what it saw, as JSON, after the whole body has arrived. */
export const describeAnswer: Answer = (request, response, seen) => {
  request.on('end', () => {
    const text = JSON.stringify({
      method: seen.method,
      url: seen.url,
      headers: seen.headers,
      body: seen.body.toString('latin1'),
    })
    response.writeHead(200, { 'Content-Type': 'application/json' })
    response.end(text)
  })
}

/** Starts an agent on a free loopback port, or on a given one. */
export async function startAgent(answer: Answer = describeAnswer, port = 0): Promise<TestAgent> {
  const seen: Seen[] = []
  const sockets = new Set<Socket>()
  let accepted = 0
  const server = createServer({ maxHeaderSize: 64 * 1024 }, (request, response) => {
    const one: Seen = {
      method: request.method ?? '',
      url: request.url ?? '',
      rawHeaders: request.rawHeaders,
      headers: request.headers,
      body: Buffer.alloc(0),
      ended: false,
    }
    seen.push(one)
    const pieces: Buffer[] = []
    request.on('data', (piece: Buffer) => pieces.push(piece))
    request.on('end', () => {
      one.body = Buffer.concat(pieces)
      one.ended = true
    })
    request.on('error', () => undefined)
    response.on('error', () => undefined)
    answer(request, response, one)
  })
  server.on('connection', (socket) => {
    accepted += 1
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
  const bound = (server.address() as AddressInfo).port
  return {
    port: bound,
    url: `http://127.0.0.1:${bound}`,
    seen,
    connections: () => accepted,
    server,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise<void>((resolve) => server.close(() => resolve()))
    },
  }
}
