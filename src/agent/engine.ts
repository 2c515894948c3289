/** The container engine's HTTP API (Docker and Podman speak it) over its Unix socket: only the calls that a pod needs. */
import type { Readable } from 'node:stream'
import { Pool } from 'undici'
import { codeOf, Failure, messageOf } from '../errors.ts'
import { fieldOf, isRecord, textOf } from './json.ts'

/** The newest API that this client was written for; the engine's own is used when it is older. */
const newestApi = '1.44'
/** An engine that takes longer than this over a short call is treated as gone. */
const callMs = 60_000
/** No answer of the engine that we read whole is larger. */
const answerBytes = 16 * 1024 ** 2

/** A call that failed, and whether the engine itself was out of reach. */
export class EngineFailure extends Failure {
  /** Status of the engine's answer; 0 when there was none. */
  readonly status: number
  constructor(code: string, message: string, status: number, cause?: unknown) {
    super(code, message, { cause })
    this.name = 'EngineFailure'
    this.status = status
  }
}

/** What the engine says about itself. */
export interface EngineInfo {
  readonly name: string
  readonly defaultRuntime: string
  /** `name=rootless`, `name=userns`, `name=seccomp,profile=default` … */
  readonly securityOptions: readonly string[]
  readonly memoryLimit: boolean
  readonly swapLimit: boolean
  readonly pidsLimit: boolean
}

/** A container in a list. */
export interface Listed {
  readonly id: string
  readonly running: boolean
  readonly labels: Readonly<Record<string, string>>
}

/** The variables that tell where the container engine listens. */
export interface EngineEnv {
  /** As the engine's own tools read it; only `unix://PATH` is spoken here. */
  readonly DOCKER_HOST?: string | undefined
  /** Where engines without root listen. */
  readonly XDG_RUNTIME_DIR?: string | undefined
}

/**
 * Where to ask for the engine, in this order: what DOCKER_HOST names and nothing else, or else the
 * usual places. Throws ENGINE_HOST for a DOCKER_HOST that is no Unix socket: another engine than
 * the one that was named is never used instead.
 */
export function engineSockets(env: EngineEnv): readonly string[] {
  const named = env.DOCKER_HOST ?? ''
  if (named === '') return usualSockets(env)
  if (named.startsWith('unix:///')) return [named.slice('unix://'.length)]
  throw new Failure(
    'ENGINE_HOST',
    `DOCKER_HOST=${named} is not a Unix socket: Hardshell talks to the engine over unix:///… only. Set it so, or unset it.`,
  )
}

/** Everywhere that an engine of this machine may listen: no agent may see any of these. */
export function allSockets(env: EngineEnv): readonly string[] {
  return [...new Set([...engineSockets(env), ...usualSockets(env)])]
}

function usualSockets({ XDG_RUNTIME_DIR: runtimeDir = '' }: EngineEnv): readonly string[] {
  const own =
    runtimeDir === '' ? [] : [`${runtimeDir}/docker.sock`, `${runtimeDir}/podman/podman.sock`]
  return ['/var/run/docker.sock', '/run/podman/podman.sock', ...own]
}

/** One engine. Every call rejects with an `EngineFailure` that says on one line what is wrong and what to do. */
export class Engine {
  readonly socketPath: string
  readonly #pool: Pool
  #prefix: Promise<string> | undefined

  constructor(socketPath: string) {
    this.socketPath = socketPath
    // A wait or a followed log holds its connection for hours, so neither their number nor their time is bounded here.
    this.#pool = new Pool('http://engine', {
      socketPath,
      headersTimeout: 0,
      bodyTimeout: 0,
      pipelining: 1,
    })
  }

  /** Asks the engine for its API version; rejects when nothing answers. */
  async ping(): Promise<string> {
    const { headers, status } = await this.#send('GET', '/_ping', { versioned: false })
    const theirs = headers['api-version']
    if (status !== 200 || typeof theirs !== 'string' || !/^\d+\.\d+$/.test(theirs)) {
      throw new EngineFailure(
        'ENGINE_STRANGE',
        `${this.socketPath} answers, but not as a container engine: point the engine socket at Docker or Podman.`,
        status,
      )
    }
    return older(theirs, newestApi)
  }

  async info(): Promise<EngineInfo> {
    const body = await this.#json('GET', '/info')
    const options = fieldOf(body, 'SecurityOptions')
    return {
      name: textOf(fieldOf(body, 'ServerVersion')),
      defaultRuntime: textOf(fieldOf(body, 'DefaultRuntime')),
      securityOptions: Array.isArray(options) ? options.map(String) : [],
      memoryLimit: fieldOf(body, 'MemoryLimit') === true,
      swapLimit: fieldOf(body, 'SwapLimit') === true,
      pidsLimit: fieldOf(body, 'PidsLimit') === true,
    }
  }

  /** The version of runc, where the engine uses it and tells. */
  async runcVersion(): Promise<string | undefined> {
    const components = fieldOf(await this.#json('GET', '/version'), 'Components')
    const rows: readonly unknown[] = Array.isArray(components) ? components : []
    const runc = rows.find((row) => fieldOf(row, 'Name') === 'runc')
    return textOf(fieldOf(runc, 'Version')) || undefined
  }

  /** The image as the engine knows it, or undefined. */
  async image(name: string): Promise<unknown> {
    return this.#json('GET', `/images/${encodeURIComponent(name)}/json`, { absent: true })
  }

  /** Makes an image out of a tar stream. `changes` are Dockerfile lines. */
  async importImage(name: string, tar: Readable, changes: readonly string[]): Promise<void> {
    const colon = name.lastIndexOf(':')
    const query = new URLSearchParams({
      fromSrc: '-',
      repo: name.slice(0, colon),
      tag: name.slice(colon + 1),
    })
    for (const change of changes) query.append('changes', change)
    const { status, text } = await this.#send('POST', `/images/create?${query.toString()}`, {
      raw: tar,
      slow: true,
    })
    const failed = /"error"\s*:\s*"([^"]*)"/.exec(text)?.[1]
    if (status !== 200 || failed !== undefined) {
      throw new EngineFailure(
        'IMAGE_IMPORT',
        `the engine did not take the image ${name}: ${failed ?? reasonIn(text)}`,
        status,
      )
    }
  }

  /** Creates a container and gives its id; `EngineFailure` with status 409 when the name is taken. */
  async create(name: string, body: unknown): Promise<string> {
    const made = await this.#json('POST', `/containers/create?name=${name}`, { body })
    return textOf(fieldOf(made, 'Id'))
  }

  async start(id: string): Promise<void> {
    await this.#json('POST', `/containers/${id}/start`)
  }

  /** Asks the container to end, and ends it after `seconds`. A container that is gone or stopped is fine. */
  async stop(id: string, seconds: number): Promise<void> {
    await this.#json('POST', `/containers/${id}/stop?t=${seconds}`, { absent: true, slow: true })
  }

  async kill(id: string, signal: string): Promise<void> {
    await this.#json('POST', `/containers/${id}/kill?signal=${signal}`, { absent: true })
  }

  /** Resolves with the exit code when the container has ended; rejects when the engine goes away first. */
  async wait(id: string): Promise<number> {
    const body = await this.#json('POST', `/containers/${id}/wait?condition=not-running`, {
      slow: true,
    })
    const code = fieldOf(body, 'StatusCode')
    return typeof code === 'number' ? code : -1
  }

  /** The container as the engine knows it, or undefined. */
  async inspect(id: string): Promise<unknown> {
    return this.#json('GET', `/containers/${id}/json`, { absent: true })
  }

  /** Containers that carry all these labels, running or not. */
  async list(labels: Readonly<Record<string, string>>): Promise<readonly Listed[]> {
    const filters = { label: Object.entries(labels).map(([key, value]) => `${key}=${value}`) }
    const query = encodeURIComponent(JSON.stringify(filters))
    const body = await this.#json('GET', `/containers/json?all=1&filters=${query}`)
    if (!Array.isArray(body)) return []
    return body.map((row: unknown) => ({
      id: textOf(fieldOf(row, 'Id')),
      running: fieldOf(row, 'State') === 'running',
      labels: labelsOf(fieldOf(row, 'Labels')),
    }))
  }

  /** The newest lines that the container wrote, oldest first, each behind its time. */
  async logs(id: string, lines: number): Promise<readonly string[]> {
    const query = `stdout=1&stderr=1&timestamps=1&tail=${lines}`
    const { status, bytes } = await this.#send('GET', `/containers/${id}/logs?${query}`)
    return status === 200 ? linesOf(bytes).slice(-lines) : []
  }

  /** Removes a container, running or not, with its anonymous volumes. */
  async remove(id: string): Promise<void> {
    try {
      await this.#json('DELETE', `/containers/${id}?force=1&v=1`, { absent: true })
    } catch (thrown) {
      // 409: another removal of the same container is under way.
      if (!(thrown instanceof EngineFailure && thrown.status === 409)) throw thrown
    }
  }

  /** Removes an image by name; one that is absent or in use stays as it is. */
  async removeImage(name: string): Promise<void> {
    await this.#send('DELETE', `/images/${encodeURIComponent(name)}`)
  }

  async close(): Promise<void> {
    await this.#pool.destroy()
  }

  /** One call whose answer is JSON; 404 is undefined where `absent` says so, and every other refusal throws. */
  async #json(
    method: Method,
    path: string,
    options: { body?: unknown; absent?: boolean; slow?: boolean } = {},
  ): Promise<unknown> {
    const { status, text } = await this.#send(method, path, options)
    if (status === 404 && options.absent === true) return undefined
    // 304: it is already so.
    if (status >= 400) {
      const code =
        status === 404 && /no such image/i.test(text) ? 'IMAGE_MISSING' : 'ENGINE_REFUSED'
      throw new EngineFailure(
        code,
        `the container engine refused ${method} ${path.split('?')[0]}: ${reasonIn(text)}`,
        status,
      )
    }
    if (text === '') return undefined
    return JSON.parse(text) as unknown
  }

  async #send(method: Method, path: string, options: SendOptions = {}): Promise<Answer> {
    const prefix = options.versioned === false ? '' : await this.#version()
    try {
      const { statusCode, headers, body } = await this.#pool.request({
        method,
        path: `${prefix}${path}`,
        ...bodyOf(options),
        ...(options.slow === true ? {} : { signal: AbortSignal.timeout(callMs) }),
      })
      const bytes = await readBounded(body)
      return { status: statusCode, headers, bytes, text: bytes.toString('utf8') }
    } catch (thrown) {
      this.#prefix = undefined
      throw this.#unreachable(thrown)
    }
  }

  /** `/v1.41`: asked once, and again after the engine was away. */
  #version(): Promise<string> {
    this.#prefix ??= this.ping().then((version) => `/v${version}`)
    return this.#prefix
  }

  #unreachable(thrown: unknown): EngineFailure {
    const code = codeOf(thrown)
    if (thrown instanceof EngineFailure) return thrown
    if (code === 'EACCES' || code === 'EPERM') {
      return new EngineFailure(
        'ENGINE_DENIED',
        `this user may not use the container engine at ${this.socketPath}: run "sudo usermod -aG docker $USER" and log in again (members of that group are as good as root), or set agent.upstream to an agent that already runs.`,
        0,
        thrown,
      )
    }
    if (code === 'ENOENT' || code === 'ECONNREFUSED' || code === 'ENOTSOCK') {
      return new EngineFailure('ENGINE_ABSENT', engineAbsent([this.socketPath]), 0, thrown)
    }
    return new EngineFailure(
      'ENGINE_LOST',
      `the container engine at ${this.socketPath} went away during a call (${code || messageOf(thrown)}): see its log, for example "journalctl -u docker".`,
      0,
      thrown,
    )
  }
}

/** The one line for a machine without an engine. */
export function engineAbsent(sockets: readonly string[]): string {
  return `no container engine answers at ${sockets.join(' or ')}: install one ("sudo apt-get install docker.io", or run "deploy/setup.sh engine") and start it ("sudo systemctl start docker"), or set agent.upstream to an agent that already runs.`
}

type Method = 'GET' | 'POST' | 'DELETE'

interface SendOptions {
  readonly body?: unknown
  readonly raw?: Readable
  readonly versioned?: boolean
  /** The answer comes when something ends, so no clock runs. */
  readonly slow?: boolean
}

interface Answer {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly bytes: Buffer
  readonly text: string
}

function bodyOf(options: SendOptions) {
  if (options.raw !== undefined) {
    return { body: options.raw, headers: { 'content-type': 'application/x-tar' } }
  }
  if (options.body === undefined) return {}
  return {
    body: JSON.stringify(options.body),
    headers: { 'content-type': 'application/json' },
  }
}

async function readBounded(body: AsyncIterable<unknown>): Promise<Buffer> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of body) {
    if (!Buffer.isBuffer(chunk)) continue
    size += chunk.length
    // Only logs get this large; what came first is then enough.
    if (size > answerBytes) break
    chunks.push(chunk)
  }
  return Buffer.concat(chunks)
}

/** The older of two API versions, compared number by number: 1.9 is older than 1.41. */
export function older(one: string, other: string): string {
  const [a = 0, b = 0] = one.split('.').map(Number)
  const [c = 0, d = 0] = other.split('.').map(Number)
  return a < c || (a === c && b <= d) ? one : other
}

/** The `message` of an engine's refusal, on one line and cut. */
function reasonIn(text: string): string {
  let reason = text
  try {
    const parsed: unknown = JSON.parse(text)
    reason = textOf(fieldOf(parsed, 'message')) || text
  } catch {
    reason = text
  }
  return reason.replaceAll(/\s+/g, ' ').trim().slice(0, 300)
}

function labelsOf(value: unknown): Record<string, string> {
  const labels: Record<string, string> = {}
  if (!isRecord(value)) return labels
  for (const [key, text] of Object.entries(value)) labels[key] = textOf(text)
  return labels
}

/**
 * Lines out of the engine's log stream: frames of an 8-byte header (stream, 3 zeros, length) and a payload.
 * What could command a terminal is made visible, because an agent writes what it likes and an owner looks at it.
 */
export function linesOf(stream: Buffer): readonly string[] {
  const payloads: Buffer[] = []
  let at = 0
  while (at + 8 <= stream.length) {
    const size = stream.readUInt32BE(at + 4)
    payloads.push(stream.subarray(at + 8, at + 8 + size))
    at += 8 + size
  }
  const lines = Buffer.concat(payloads).toString('utf8').split('\n')
  if (lines.at(-1) === '') lines.pop()
  return lines.map((line) => plain(line.endsWith('\r') ? line.slice(0, -1) : line))
}

/** Text without control or direction-changing characters, cut at 4,096. */
export function plain(text: string): string {
  return text
    .slice(0, 4096)
    .replaceAll(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\u{fffd}')
}
