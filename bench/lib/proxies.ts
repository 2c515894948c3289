/** The proxies that are compared, and the upstreams behind them; each is one process on its own core. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

import { freePort, listening, loadCore, proxyCore, start, type Child } from './children.ts'

/** Something that listens. */
export interface Listening {
  readonly child: Child
  readonly port: number
}

/** Where a run keeps its files, and the token of its proxies. */
export interface Place {
  readonly folder: string
  readonly token: string
}

/** The checkout. */
export const root = fileURLToPath(new URL('../..', import.meta.url))
/** The Node that runs everything here. */
export const node = process.execPath

/** A token of 256 random bits, for this run only. */
export const newToken = (): string => randomBytes(32).toString('hex')

/** Path of the small answer: 1 KiB. */
export const smallPath = '/small'
/** Path of the large answer. */
export const largePath = '/large'
/** Path of a quarter of it. */
export const quarterPath = '/quarter'

/** nginx with fixed answers, one worker, no log: three times faster than anything that is measured here. */
export async function startUpstream({ folder }: Place, largeBytes: number): Promise<Listening> {
  const port = await freePort()
  const home = join(folder, 'upstream')
  mkdirSync(home, { mode: 0o755 })
  sparse(join(home, 'large'), largeBytes)
  sparse(join(home, 'quarter'), largeBytes / 4)
  const config = join(home, 'nginx.conf')
  writeFileSync(
    config,
    `daemon off; worker_processes 1; pid ${home}/nginx.pid; error_log ${home}/error.log warn;
${process.getuid?.() === 0 ? 'user root;' : ''}
events { worker_connections 16384; }
http {
  access_log off; sendfile on; keepalive_timeout 1h; keepalive_requests 100000000; client_max_body_size 0;
  client_body_temp_path ${home}/body; proxy_temp_path ${home}/proxy; fastcgi_temp_path ${home}/fastcgi;
  uwsgi_temp_path ${home}/uwsgi; scgi_temp_path ${home}/scgi;
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = ${smallPath} { default_type application/json; return 200 '${'x'.repeat(1024)}'; }
    location = ${largePath} { default_type application/octet-stream; root ${home}; }
    location = ${quarterPath} { default_type application/octet-stream; root ${home}; }
  }
}
`,
  )
  const argv = ['nginx', '-p', home, '-c', config, '-e', join(home, 'error.log')]
  return ready(start({ name: 'upstream', argv, core: loadCore, folder }), port)
}

/** A file of zeros: its size costs no disk and no reading. */
export function sparse(path: string, bytes: number): void {
  writeFileSync(path, '')
  truncateSync(path, bytes)
}

/** The upstream for uploads and WebSockets. */
export async function startSink({ folder }: Place): Promise<Listening> {
  const port = await freePort()
  const argv = [node, join(root, 'bench/lib/sink.ts'), String(port)]
  return ready(start({ name: 'sink', argv, core: loadCore, folder }), port)
}

/** http-proxy-3 without a single check. */
export async function startHttpProxy3({ folder }: Place, upstream: number): Promise<Listening> {
  const port = await freePort()
  const script = join(root, 'bench/lib/http-proxy-3.ts')
  const argv = [node, script, String(port), String(upstream)]
  return ready(start({ name: `http-proxy-3-${port}`, argv, core: proxyCore, folder }), port)
}

/** Caddy with the same checks as far as it has them: the token, the body limit, a JSON access log. No rate limit. */
export async function startCaddy({ folder, token }: Place, upstream: number): Promise<Listening> {
  const port = await freePort()
  const config = join(folder, 'Caddyfile')
  writeFileSync(
    config,
    `{
  admin off
  auto_https off
}
http://127.0.0.1:${port} {
  bind 127.0.0.1
  log {
    output file ${folder}/caddy-access.log
    format json
  }
  request_body {
    max_size 10MB
  }
  @stranger not header Authorization "Bearer ${token}"
  respond @stranger 401
  reverse_proxy 127.0.0.1:${upstream} {
    header_up -Authorization
  }
}
`,
  )
  const argv = ['caddy', 'run', '--adapter', 'caddyfile', '--config', config]
  const env = { GOMAXPROCS: '1', HOME: folder, XDG_DATA_HOME: folder, XDG_CONFIG_HOME: folder }
  return ready(start({ name: 'caddy', argv, core: proxyCore, folder, env }), port)
}

/** What a scenario changes in Hardshell's configuration. */
export interface HardshellChange {
  readonly name?: string
  readonly security?: Readonly<Record<string, unknown>>
  readonly auth?: Readonly<Record<string, unknown>>
  readonly rateLimiting?: Readonly<Record<string, unknown>>
  readonly channels?: Readonly<Record<string, unknown>>
}

/**
 * Hardshell from dist with everything on. Limits that a benchmark would run into are raised, none is switched off:
 * the same work is done for each request.
 */
export function hardshellConfig(
  { token }: Place,
  port: number,
  upstream: number,
  { security, auth, rateLimiting, channels = {} }: HardshellChange,
): object {
  return {
    gateway: { port, auth: { mode: 'token', token, ...auth } },
    security: {
      maxRequestSize: '4GB',
      rateLimiting: {
        requestsPerMinute: 10_000_000,
        requestsPerMinutePerAddress: 10_000_000,
        ...rateLimiting,
      },
      limits: {
        maxConnections: 100_000,
        maxConnectionsPerAddress: 100_000,
        maxRequestsPerConnection: 1_000_000,
        keepAliveTimeout: '10m',
        bodyTimeout: '1h',
        webSocket: { maxPerIdentity: 100_000, maxPerAddress: 100_000, idleTimeout: '24h' },
      },
      ...security,
    },
    agent: { upstream: `http://127.0.0.1:${upstream}` },
    channels,
  }
}

/** Writes a home with a configuration; returns the command line and the environment that serve it. */
export function hardshellHome(
  place: Place,
  port: number,
  upstream: number,
  change: HardshellChange = {},
): { readonly argv: readonly string[]; readonly env: Readonly<Record<string, string>> } {
  const home = join(place.folder, `home-${port}`)
  const config = join(home, 'config.json5')
  mkdirSync(home, { mode: 0o700 })
  const text = JSON.stringify(hardshellConfig(place, port, upstream, change), undefined, 2)
  writeFileSync(config, text, { mode: 0o600 })
  return {
    argv: [node, join(root, 'dist/main.js'), 'serve', '--config', config],
    env: { HARDSHELL_HOME: home, HARDSHELL_LOG_LEVEL: 'warn' },
  }
}

/** Starts Hardshell from dist. */
export async function startHardshell(
  place: Place,
  upstream: number,
  change: HardshellChange = {},
): Promise<Listening> {
  const port = await freePort()
  const { argv, env } = hardshellHome(place, port, upstream, change)
  const name = `${change.name ?? 'hardshell'}-${port}`
  const { folder } = place
  return ready(start({ name, argv, core: proxyCore, folder, env }), port)
}

async function ready(child: Child, port: number): Promise<Listening> {
  await listening(child, port)
  return { child, port }
}
