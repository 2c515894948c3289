/**
 * The portal of a pod: a program of its own that runs in the container which owns the agent's empty network. It imports
 * nothing but Node, so that it can be copied into an image alone. Its two doors are Unix sockets in one folder:
 * `in.sock` leads to the agent's loopback port, and 127.0.0.1:3128 leads to `out.sock`.
 */
import { rmSync } from 'node:fs'
import { connect, createServer, type NetConnectOpts, type Server, type Socket } from 'node:net'
import { parseArgs } from 'node:util'

/** What the portal is told on its command line. */
export interface PortalOptions {
  /** The folder with the two sockets, as the portal sees it. */
  readonly dir: string
  /** The agent's port on 127.0.0.1. */
  readonly agentPort: number
  /** Port of the way out on 127.0.0.1; 0 takes a free one (tests). */
  readonly egressPort: number
  /** Connections through the inward door at once; more are closed as they come. */
  readonly connections: number
}

/** Both doors, once they are open. */
export interface Portal {
  /** The port of the way out. */
  readonly egressPort: number
  close(): void
}

/** Opens both doors. Waits for nothing: a far end that is not there yet only closes the connection that asked for it. */
export async function openPortal(options: PortalOptions): Promise<Portal> {
  const live = new Set<Socket>()
  const inPath = `${options.dir}/in.sock`
  // A socket file left by a portal that was killed would refuse the bind.
  rmSync(inPath, { force: true })
  const inward = door({ host: '127.0.0.1', port: options.agentPort }, live)
  const outward = door({ path: `${options.dir}/out.sock` }, live)
  inward.maxConnections = options.connections
  // What leaves is an agent's few calls; it must not be able to use up the descriptors of the way in.
  outward.maxConnections = Math.min(options.connections, 256)
  await Promise.all([
    listening(inward, { path: inPath }),
    listening(outward, { host: '127.0.0.1', port: options.egressPort }),
  ])
  const bound = outward.address()
  return {
    egressPort: typeof bound === 'object' && bound !== null ? bound.port : options.egressPort,
    close: () => {
      inward.close()
      outward.close()
      for (const socket of live) socket.destroy()
    },
  }
}

/** A listener that pairs each connection with a new one to `far`. */
function door(far: NetConnectOpts, live: Set<Socket>): Server {
  return createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (near) => {
    pair(near, connect({ ...far, allowHalfOpen: true, noDelay: true }), live)
  })
}

/** Joins two sockets byte for byte: back-pressure and half-close pass through, a reset ends both. */
function pair(near: Socket, far: Socket, live: Set<Socket>): void {
  live.add(near)
  live.add(far)
  for (const [self, other] of [
    [near, far],
    [far, near],
  ] as const) {
    // The reason is for nobody: the portal keeps no log, and the other side sees the end of its connection.
    self.on('error', () => other.destroy())
    self.on('close', (failed) => {
      live.delete(self)
      if (failed || !self.readableEnded) other.destroy()
    })
  }
  far.once('connect', () => {
    near.pipe(far)
    far.pipe(near)
  })
}

function listening(server: Server, at: { path: string } | { host: string; port: number }) {
  return new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ ...at, backlog: 511 }, () => {
      server.off('error', reject)
      resolve()
    })
  })
}

/** A whole number within bounds, or a throw that names the option. */
function whole(name: string, text: string | undefined, min: number, max: number): number {
  const value = Number(text)
  if (!Number.isInteger(value) || value < min || value > max) {
    throw new Error(`portal: --${name} must be a whole number from ${min} to ${max}`)
  }
  return value
}

/** Runs the portal until it is told to stop. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      dir: { type: 'string' },
      'agent-port': { type: 'string' },
      'egress-port': { type: 'string', default: '3128' },
      connections: { type: 'string', default: '4096' },
    },
  })
  if (values.dir === undefined) throw new Error('portal: --dir is missing')
  // The sockets of this folder are for one user only.
  process.umask(0o177)
  const portal = await openPortal({
    dir: values.dir,
    agentPort: whole('agent-port', values['agent-port'], 1, 65_535),
    egressPort: whole('egress-port', values['egress-port'], 1, 65_535),
    connections: whole('connections', values.connections, 1, 100_000),
  })
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => portal.close())
}

if (import.meta.main) await main()
