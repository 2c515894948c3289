/** A real sidecar in this process, in a home of its own, in front of a test agent. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { randomBytes } from 'node:crypto'

import type { Agent } from '../../src/agent/agent.ts'
import { startApp, type App, type AppSetup } from '../../src/app.ts'
import { loadConfig } from '../../src/config/load.ts'
import type { Log } from '../../src/log.ts'
import { startAgent, type Answer, type TestAgent } from './agent.ts'
import { keepLogged } from './evidence.ts'
import { head } from './raw.ts'
import { plant, plantAll } from './secrets.ts'

/** Every line that the sidecar logs, for tests that look for secrets in it. */
export interface Logged {
  readonly level: 'info' | 'warn' | 'error'
  readonly message: string
  readonly facts: object
}

export interface TestSidecar {
  readonly app: App
  readonly port: number
  readonly url: string
  readonly token: string
  readonly home: string
  readonly agent: TestAgent
  readonly logged: readonly Logged[]
  /** `Authorization: Bearer …` for fetch. */
  readonly auth: { readonly Authorization: string }
  /** The audit records so far, oldest first, as parsed JSON. */
  records(): readonly Record<string, unknown>[]
  stop(): Promise<void>
}

/** A 256-bit token as `init` makes them. */
export const newToken = (): string =>
  plant('gateway token', 'newToken()', randomBytes(32).toString('base64url'))

/** Configuration of tests: merged over a minimal one; rate limits are far away unless a test sets them. */
export interface SidecarOptions {
  readonly config?: Record<string, unknown>
  readonly answer?: Answer
  /** Use this agent instead of a new one. */
  readonly agent?: TestAgent
  /** The sidecar's own view of the agent, for tests of starting and down. */
  readonly own?: Agent
  readonly audit?: AppSetup['audit']
  /** Calls of messaging services, in place of Node's own. */
  readonly call?: AppSetup['call']
  readonly home?: string
  readonly token?: string
}

export async function startSidecar(options: SidecarOptions = {}): Promise<TestSidecar> {
  const agent = options.agent ?? (await startAgent(options.answer))
  const home = options.home ?? mkdtempSync(join(tmpdir(), 'hs-'))
  const token = options.token ?? newToken()
  const config = merge(
    {
      gateway: { port: 0, auth: { token } },
      agent: { upstream: agent.url },
      security: {
        rateLimiting: { requestsPerMinute: 100_000, requestsPerMinutePerAddress: 100_000 },
      },
    },
    options.config ?? {},
  )
  const file = join(home, 'config.json')
  writeFileSync(file, JSON.stringify(plantAll(config)), { mode: 0o600 })
  const logged: Logged[] = []
  const note = (level: Logged['level']) => (facts: object, message: string) => {
    logged.push({ level, message, facts })
    keepLogged(JSON.stringify({ level, message, facts }))
  }
  const log: Log = { info: note('info'), warn: note('warn'), error: note('error') }
  const loaded = loadConfig({ env: { HARDSHELL_HOME: home }, config: file })
  const app = await startApp({
    loaded,
    log,
    ...(options.own === undefined ? {} : { agent: options.own }),
    ...(options.audit === undefined ? {} : { audit: options.audit }),
    ...(options.call === undefined ? {} : { call: options.call }),
  })
  return {
    app,
    port: app.port,
    url: app.url,
    token,
    home,
    agent,
    logged,
    auth: { Authorization: `Bearer ${token}` },
    records: () => recordsOf(home),
    stop: async () => {
      await app.stop(0)
      if (options.agent === undefined) await agent.stop()
      if (options.home === undefined) rmSync(home, { recursive: true, force: true })
    },
  }
}

/** The audit records of a home. */
export function recordsOf(home: string): Record<string, unknown>[] {
  const dir = join(home, 'audit')
  return readdirSync(dir)
    .filter((name) => name.startsWith('audit-'))
    .sort()
    .flatMap((name) => readFileSync(join(dir, name), 'utf8').split('\n'))
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

function merge(
  base: Record<string, unknown>,
  over: Record<string, unknown>,
): Record<string, unknown> {
  const merged: Record<string, unknown> = { ...base }
  for (const [name, value] of Object.entries(over)) {
    const before = merged[name]
    merged[name] = isObject(before) && isObject(value) ? merge(before, value) : value
  }
  return merged
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Waits until `holds` says so, at most `timeMs`. */
export async function eventually(holds: () => boolean, what: string, timeMs = 5000): Promise<void> {
  for (const end = performance.now() + timeMs; performance.now() < end;) {
    if (holds()) return
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  throw new Error(`not within ${timeMs} ms: ${what}`)
}

/** A sidecar that is stopped when the test ends. */
export async function sidecarFor(
  t: TestContext,
  options: SidecarOptions = {},
): Promise<TestSidecar> {
  const side = await startSidecar(options)
  t.after(() => side.stop())
  return side
}

/** The head of a request of the owner, for raw sockets. */
export const ownerRequest = (side: TestSidecar, line: string, ...more: string[]): string =>
  head(line, 'Host: localhost', `Authorization: Bearer ${side.token}`, ...more)
