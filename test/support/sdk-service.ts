/** Stand-ins for the services that a bot or an answer of ours calls: small HTTP servers in the documented shape. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { TestContext } from 'node:test'

import type { Call } from '../../src/senders/outgoing.ts'

export interface ServiceRequest {
  readonly method: string
  readonly path: string
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

export interface Service {
  readonly url: string
  readonly requests: readonly ServiceRequest[]
  /** Everything that was sent to it, for a look at codes and secrets. */
  text(): string
}

/** A server that answers every request by `answer`; it ends with the test. */
export async function startService(
  t: TestContext,
  answer: (request: ServiceRequest) => unknown = () => ({ ok: true }),
): Promise<Service> {
  const requests: ServiceRequest[] = []
  const server = createServer((request, response) => {
    let body = ''
    request.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
    request.on('end', () => {
      const { method = '', url = '', headers } = request
      const one = { method, path: url, headers, body }
      requests.push(one)
      response.writeHead(200, { 'Content-Type': 'application/json' })
      response.end(JSON.stringify(answer(one)))
    })
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(async () => {
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
  })
  const { port } = server.address() as AddressInfo
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    text: () => requests.map(({ body }) => decoded(body)).join('\n'),
  }
}

function decoded(body: string): string {
  return body.includes('%') ? decodeURIComponent(body.replaceAll('+', ' ')) : body
}

/** Our calls of the hosts named, sent to servers of the test in their place. */
export function rerouted(call: Call, hosts: Readonly<Record<string, string>>): Call {
  return (outgoing) => {
    const { host, pathname, search } = new URL(outgoing.url)
    const there = hosts[host]
    if (there === undefined) return Promise.reject(new Error(`a test must not call ${host}`))
    return call({ ...outgoing, url: `${there}${pathname}${search}` })
  }
}
