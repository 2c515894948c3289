/** What only asking can tell: live probes, sockets of the kernel, the container engine. Each is bounded in time. */
import { lstatSync, readFileSync, statSync } from 'node:fs'
import { request } from 'node:http'
import { Engine, engineSockets, type EngineEnv } from '../agent/engine.ts'
import { fieldOf, textOf } from '../agent/json.ts'
import type { Config } from '../config/schema.ts'
import { codeOf, messageOf } from '../errors.ts'
import { instanceOf } from './cell.ts'
import type {
  EngineFacts,
  Listening,
  Measured,
  Probes,
  Running,
  TailscaleFacts,
} from './context.ts'
import { strayFields } from './pod.ts'

const answerMs = 3000

interface Question {
  readonly url: string
  readonly socketPath?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** One GET; a status of 0 when nothing answers in time. Never rejects. */
function ask({ url, socketPath, headers }: Question): Promise<{ status: number; text: string }> {
  return new Promise((resolve) => {
    const none = () => resolve({ status: 0, text: '' })
    const signal = AbortSignal.timeout(answerMs)
    const options = { agent: false, signal, headers: { ...headers } }
    const asked = request(
      url,
      socketPath === undefined ? options : { ...options, socketPath },
      (response) => {
        const chunks: Buffer[] = []
        let bytes = 0
        response.on('data', (chunk: Buffer) => {
          bytes += chunk.length
          if (bytes <= 1024 ** 2) chunks.push(chunk)
          else response.destroy()
        })
        response.on('close', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
          }),
        )
        response.on('error', none)
      },
    )
    asked.on('error', none)
    asked.end()
  })
}

/** The probes of `--deep`. The wrong token counts as one failure of this address, as anybody's would. */
export async function probe(
  config: Config,
  running: Running | undefined,
): Promise<Measured<Probes>> {
  const funnel = await funnelState(config.gateway.auth.tailscale.socket)
  const direct = await agentDirect(config)
  if (running === undefined) return { unmeasured: 'Hardshell is not running' }
  const url = `${running.url}${config.gateway.healthPath}`
  const foreign = { host: 'hardshell-probe.invalid' }
  const wrong = { authorization: 'Bearer a-token-that-nobody-has-made-0123' }
  return {
    value: {
      withoutToken: (await ask({ url })).status,
      wrongToken: (await ask({ url, headers: wrong })).status,
      foreignHost: (await ask({ url, headers: foreign })).status,
      funnel,
      ...(direct === undefined ? {} : { agentDirect: direct }),
    },
  }
}

async function agentDirect({ agent }: Config): Promise<number | undefined> {
  if (agent.image !== undefined || agent.upstream?.startsWith('http://') !== true) return undefined
  return (await ask({ url: agent.upstream })).status
}

/** Whether Tailscale publishes any port to the internet, by LocalAPI. */
async function funnelState(socketPath: string): Promise<Measured<boolean>> {
  const socket = lstatSync(socketPath, { throwIfNoEntry: false })
  if (socket === undefined) return { unmeasured: 'Tailscale does not run here' }
  const url = 'http://local-tailscaled.sock/localapi/v0/serve-config'
  const { status, text } = await ask({ url, socketPath })
  if (status !== 200) return { unmeasured: `LocalAPI answered ${status}` }
  try {
    const allowed = fieldOf(JSON.parse(text), 'AllowFunnel')
    return { value: Object.values((allowed as object | null) ?? {}).includes(true) }
  } catch (thrown) {
    return { unmeasured: `LocalAPI said no JSON (${messageOf(thrown)})` }
  }
}

/** Tailscale as its LocalAPI tells it; asked only where the configuration speaks of it. */
export async function tailscaleState(
  { gateway }: Config,
  running: Running | undefined,
): Promise<Measured<TailscaleFacts>> {
  const uses =
    gateway.auth.tailscale.enabled ||
    gateway.publicOrigins.some((origin) => origin.endsWith('.ts.net'))
  if (!uses) return { unmeasured: 'the configuration does not speak of Tailscale' }
  const socketPath = gateway.auth.tailscale.socket
  if (lstatSync(socketPath, { throwIfNoEntry: false }) === undefined) {
    return { unmeasured: `${socketPath} does not exist: tailscaled does not run` }
  }
  const root = 'http://local-tailscaled.sock/localapi/v0'
  const status = await ask({ url: `${root}/status`, socketPath })
  const serve = await ask({ url: `${root}/serve-config`, socketPath })
  if (status.status !== 200) return { unmeasured: `LocalAPI answered ${status.status}` }
  const port = URL.parse(running?.url ?? '')?.port ?? String(gateway.port)
  try {
    const backend = textOf(fieldOf(JSON.parse(status.text), 'BackendState')) || 'unknown'
    const serves = new RegExp(String.raw`"Proxy"\s*:\s*"[^"]*:${port}["/]`).test(serve.text)
    return { value: { backend, serves } }
  } catch (thrown) {
    return { unmeasured: `LocalAPI said no JSON (${messageOf(thrown)})` }
  }
}

/** TCP sockets that listen, by the kernel. */
export function listeningSockets(): Measured<readonly Listening[]> {
  try {
    return {
      value: ['/proc/net/tcp', '/proc/net/tcp6'].flatMap((path) =>
        parseSockets(readFileSync(path, 'utf8')),
      ),
    }
  } catch (thrown) {
    return { unmeasured: `the kernel does not tell (${codeOf(thrown)})` }
  }
}

/** The listening sockets in a table of /proc/net (proc(5)): state 0A, addresses in words of this machine's order. */
export function parseSockets(table: string): readonly Listening[] {
  return socketRows(table).map(({ address, port }) => ({ address, port }))
}

/** The same with the user that made each socket, and the number by which processes hold it. */
export function socketRows(
  table: string,
): readonly (Listening & { readonly uid: number; readonly inode: string })[] {
  return table
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const columns = line.trim().split(/\s+/)
      const [, local = '', , state, , , , uid, , inode = ''] = columns
      const [address = '', port = ''] = local.split(':')
      if (state !== '0A') return []
      return [
        {
          address: addressIn(address),
          port: Number.parseInt(port, 16),
          uid: Number(uid),
          inode,
        },
      ]
    })
}

function addressIn(hex: string): string {
  const words = hex.match(/.{8}/g) ?? []
  const bytes = words.flatMap((word) => [...Buffer.from(word, 'hex')].toReversed())
  if (bytes.length === 4) return bytes.join('.')
  const mapped = bytes.slice(0, 12).every((byte, at) => byte === (at > 9 ? 255 : 0))
  if (mapped) return bytes.slice(12).join('.')
  if (bytes.every((byte) => byte === 0)) return '::'
  if (bytes.every((byte, at) => byte === (at === 15 ? 1 : 0))) return '::1'
  return Array.from({ length: 8 }, (_, at) =>
    (((bytes[2 * at] ?? 0) << 8) | (bytes[2 * at + 1] ?? 0)).toString(16),
  ).join(':')
}

/** The sockets of engines that exist; unmeasured where the environment names another kind of engine. */
export function socketsHere(env: EngineEnv): Measured<readonly string[]> {
  try {
    const there = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined
    return { value: engineSockets(env).filter(there) }
  } catch (thrown) {
    return { unmeasured: messageOf(thrown) }
  }
}

/** The first engine that answers, and our containers on it. Asks only where an engine's socket exists. */
export async function askEngine(
  config: Config | undefined,
  home: string,
  env: EngineEnv,
): Promise<Measured<EngineFacts>> {
  const sockets = socketsHere(env)
  if ('unmeasured' in sockets) return sockets
  let because = 'there is no container engine'
  for (const socketPath of sockets.value) {
    const engine = new Engine(socketPath)
    try {
      return { value: await factsOf(engine, config, home) }
    } catch (thrown) {
      because = `the container engine does not answer (${codeOf(thrown)})`
    } finally {
      await engine.close()
    }
  }
  return { unmeasured: because }
}

async function factsOf(
  engine: Engine,
  config: Config | undefined,
  home: string,
): Promise<EngineFacts> {
  const { name, securityOptions } = await engine.info()
  const runc = await engine.runcVersion()
  const reference = config?.agent.image
  const image = reference === undefined ? undefined : await engine.image(reference)
  const found = await engine.list({ 'io.hardshell.instance': instanceOf(home) })
  const containers: { name: string; wrong: readonly string[] }[] = []
  for (const { id, running } of found) {
    const inspected = running ? await engine.inspect(id) : undefined
    if (inspected === undefined || config === undefined) continue
    const wrong = strayFields(inspected, config, home, textOf(fieldOf(image, 'Id')))
    containers.push({ name: textOf(fieldOf(inspected, 'Name')).replace(/^\//, ''), wrong })
  }
  return {
    socketPath: engine.socketPath,
    mode: statSync(engine.socketPath).mode & 0o777,
    version: name,
    securityOptions,
    containers,
    ...(runc === undefined ? {} : { runc }),
    ...(reference === undefined ? {} : { image: image !== undefined }),
  }
}
