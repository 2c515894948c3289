/** Binding a server and draining it. */
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'

/** Binds; rejects with the system's error (EADDRINUSE, EADDRNOTAVAIL). Resolves with the port. */
export async function listen(server: Server, port: number, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port, host, backlog: 1024 }, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
  return (server.address() as AddressInfo).port
}

/** Refuses new connections, lets running exchanges end for `graceMs`, then cuts what `destroyAll` cuts. */
export async function drain(
  server: Server,
  graceMs: number,
  destroyAll: () => void,
): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve())
  })
  server.closeIdleConnections()
  const timer = setTimeout(destroyAll, graceMs)
  await closed
  clearTimeout(timer)
}
