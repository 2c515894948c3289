/** An engine that cannot be trusted: it passes everything to the real one, and changes containers on the way. */
import { createServer, request } from 'node:http'
import { engineSocket } from './engine.ts'

/** The engine's socket that a test gives out. */
export interface EngineProxy {
  readonly socketPath: string
  close(): Promise<void>
}

/** Changes the body of a container that is created; its name tells which it is. */
export type Alter = (name: string, body: Record<string, unknown>) => void

/** Listens on `socketPath` and passes each call on. */
export async function engineProxy(socketPath: string, alter: Alter): Promise<EngineProxy> {
  const server = createServer((incoming, outgoing) => {
    const chunks: Buffer[] = []
    incoming.on('data', (chunk: Buffer) => chunks.push(chunk))
    incoming.on('end', () => {
      let body = Buffer.concat(chunks)
      const name = /\/containers\/create\?name=([^&]+)/.exec(incoming.url ?? '')?.[1]
      if (name !== undefined) {
        const parsed = JSON.parse(body.toString('utf8')) as Record<string, unknown>
        alter(name, parsed)
        body = Buffer.from(JSON.stringify(parsed))
      }
      const headers = { ...incoming.headers, 'content-length': String(body.length) }
      const call = request(
        { socketPath: engineSocket, path: incoming.url, method: incoming.method, headers },
        (answer) => {
          outgoing.writeHead(answer.statusCode ?? 502, answer.headers)
          outgoing.flushHeaders()
          answer.pipe(outgoing)
        },
      )
      call.on('error', () => outgoing.destroy())
      outgoing.on('close', () => call.destroy())
      call.end(body)
    })
  })
  await new Promise<void>((resolve) => server.listen(socketPath, () => resolve()))
  return {
    socketPath,
    close: () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}
