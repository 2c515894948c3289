/** The admin socket: the running sidecar does what the CLI asks, over HTTP on a Unix socket that only we may open. */
import type { IncomingMessage } from 'node:http'
import { chmod, rm } from 'node:fs/promises'

import { Failure, messageOf } from '../errors.ts'
import { ownUid } from '../files.ts'
import { createServer } from '../node-http.ts'

/** Who asks: only this user and root can open the socket, and a command says which of them it is. */
export interface Caller {
  readonly uid: number
}

/** What one operation does; throws Failure for the caller to show. */
export type Operation = (input: unknown, caller: Caller) => Promise<unknown>

/** The operations by name: `token.list`, `agent.status`. */
export type Operations = Readonly<Record<string, Operation>>

/** The header in which a command says as which user it runs. */
export const uidHeader = 'x-hardshell-uid'

/** An input is a small document: names, ids, durations. */
const inputBytesMax = 64 * 1024

/** Serves `operations` on the Unix socket `path` (mode 0600; its folder is 0700). */
export async function openAdmin(
  path: string,
  operations: Operations,
): Promise<{ close(): Promise<void> }> {
  const server = createServer(
    { requestTimeout: 10_000, headersTimeout: 5000 },
    (request, response) => {
      void answer(request, operations).then(({ status, body }) => {
        response.writeHead(status, { 'Content-Type': 'application/json' })
        response.end(JSON.stringify(body))
      })
    },
  )
  server.maxConnections = 16
  // A socket file left by a killed process; the audit log's lock has already shown that no other process runs here.
  await rm(path, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, () => resolve())
  })
  await chmod(path, 0o600)
  return {
    close: async () => {
      server.closeAllConnections()
      await new Promise<void>((resolve) => {
        server.close(() => resolve())
      })
    },
  }
}

interface Answer {
  readonly status: number
  readonly body: unknown
}

async function answer(request: IncomingMessage, operations: Operations): Promise<Answer> {
  try {
    const name = (request.url ?? '').slice(1)
    const operation = Object.hasOwn(operations, name) ? operations[name] : undefined
    if (request.method !== 'POST' || operation === undefined) {
      throw new Failure(
        'UNKNOWN_OPERATION',
        `The running Hardshell does not know "${name}": is it an older version?`,
      )
    }
    const text = await readBounded(request)
    const input: unknown = text === '' ? undefined : JSON.parse(text)
    return { status: 200, body: { result: (await operation(input, callerOf(request))) ?? null } }
  } catch (thrown) {
    const code = thrown instanceof Failure ? thrown.code : 'ADMIN_FAILED'
    const exitCode = thrown instanceof Failure ? thrown.exitCode : 1
    return { status: 400, body: { error: { code, message: messageOf(thrown), exitCode } } }
  }
}

function callerOf({ headers }: IncomingMessage): Caller {
  const told = headers[uidHeader]
  if (typeof told === 'string' && /^\d{1,10}$/.test(told)) return { uid: Number(told) }
  // A client that says nothing: then it is whoever may open the socket besides root.
  return { uid: ownUid() }
}

async function readBounded(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request) {
    const piece = chunk as Buffer
    bytes += piece.length
    if (bytes > inputBytesMax) throw new Failure('INPUT_TOO_LARGE', 'The input is too large.')
    chunks.push(piece)
  }
  return Buffer.concat(chunks).toString('utf8')
}
