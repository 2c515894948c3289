/** A real container engine for tests, a small image that needs no registry, and cells that are gone afterwards. */
import { randomBytes } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createAgent, type AgentDeps, type AgentSettings } from '../../src/agent/create.ts'
import type { Agent, AgentAddress } from '../../src/agent/agent.ts'
import { Engine } from '../../src/agent/engine.ts'
import { localImage } from '../../src/agent/image.ts'
import type { CellSettings } from '../../src/agent/sandbox.ts'
import type { AuditEntry, AuditSink } from '../../src/audit/record.ts'
import { must } from './images.ts'
import { allowedProbes, deniedProbes, programOf } from '../../src/agent/syscall-probe.ts'

/** Where the engine of the tests listens. */
export const engineSocket = '/var/run/docker.sock'
const instanceLabel = 'io.hardshell.instance'

/** Starts an engine if none answers, and removes what test processes that are gone have left on it. */
export async function realEngine(): Promise<Engine> {
  await must('sh', ['deploy/setup.sh', 'engine'])
  const engine = new Engine(engineSocket)
  for (const { id, labels } of await engine.list({})) {
    const pid = /^test-(\d+)-/.exec(labels[instanceLabel] ?? '')?.[1]
    if (pid !== undefined && !alive(Number(pid))) await engine.remove(id)
  }
  return engine
}

function alive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

/** The image of the test agent, with the system call probes in /app/probe. */
export async function testImage(engine: Engine): Promise<string> {
  const dir = tempDir()
  try {
    mkdirSync(join(dir, 'probe'))
    for (const [name, probe] of Object.entries({ ...deniedProbes, ...allowedProbes })) {
      const file = join(dir, 'probe', name.replaceAll(' ', '_'))
      writeFileSync(file, programOf(probe))
      chmodSync(file, 0o755)
    }
    return await localImage(engine, {
      name: 'hardshell-test-cell',
      nodePath: process.execPath,
      add: [
        { from: join(import.meta.dirname, 'cell-agent.mjs'), to: '/app/agent.mjs' },
        { from: join(dir, 'probe'), to: '/app/probe' },
      ],
      args: ['/app/agent.mjs'],
    })
  } finally {
    rmSync(dir, { recursive: true })
  }
}

/** A folder of its own, by its real path; the caller removes it. */
export function tempDir(): string {
  return realpathSync(mkdtempSync(join(tmpdir(), 'hs-')))
}

/** An audit log that keeps what it is given. */
export class AuditList implements AuditSink {
  readonly entries: AuditEntry[] = []
  readonly failing: string | undefined = undefined
  append(entry: AuditEntry, written?: (failure?: Error) => void): void {
    this.entries.push(entry)
    written?.()
  }
  of(event: string): readonly AuditEntry[] {
    return this.entries.filter((entry) => entry.event === event)
  }
}

/** Everything that one test of an agent needs, and that it must give back. */
export interface Bench {
  readonly engine: Engine
  readonly image: string
  readonly dir: string
  readonly instance: string
  readonly audit: AuditList
  readonly deps: AgentDeps
  settings(cell?: Partial<CellSettings>, other?: Partial<AgentSettings>): AgentSettings
  create(cell?: Partial<CellSettings>, other?: Partial<AgentSettings>): Promise<Agent>
  /** Containers of this bench, as the engine lists them now. */
  containers(): ReturnType<Engine['list']>
  close(): Promise<void>
}

/** A bench on the real engine. */
export async function openBench(): Promise<Bench> {
  const engine = await realEngine()
  const image = await testImage(engine)
  const dir = tempDir()
  const instance = `test-${process.pid}-${randomBytes(4).toString('hex')}`
  const audit = new AuditList()
  const agents: Agent[] = []
  const deps: AgentDeps = {
    audit,
    now: () => Date.now(),
    nodePath: process.execPath,
    uid: process.getuid?.() ?? 0,
    gid: process.getgid?.() ?? 0,
  }
  const settings: Bench['settings'] = (cell, other) => ({
    cell: { image, port: 8000, memoryBytes: 256 * 1024 ** 2, ...cell },
    instance,
    runDir: join(dir, 'run'),
    forbidden: [join(dir, 'state')],
    engineSockets: [engineSocket],
    graceSeconds: 2,
    ...other,
  })
  const containers = () => engine.list({ [instanceLabel]: instance })
  return {
    engine,
    image,
    dir,
    instance,
    audit,
    deps,
    settings,
    containers,
    create: async (cell, other) => {
      const agent = await createAgent(settings(cell, other), deps)
      agents.push(agent)
      return agent
    },
    close: async () => {
      for (const agent of agents) await agent.stop()
      for (const { id } of await containers()) await engine.remove(id)
      await engine.close()
      rmSync(dir, { recursive: true, force: true })
    },
  }
}

/** What an HTTP exchange gave. */
export interface Exchange {
  readonly status: number
  readonly text: string
}

/** One request to an agent, past every gate: straight through its door. Rejects when the connection breaks. */
export function ask(
  address: AgentAddress,
  path: string,
  options: { method?: string; body?: string } = {},
): Promise<Exchange> {
  return new Promise((resolve, reject) => {
    const call = request(
      {
        socketPath: address.socketPath,
        path,
        method: options.method ?? 'GET',
        agent: false,
        timeout: 60_000,
      },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            text: Buffer.concat(chunks).toString('utf8'),
          }),
        )
      },
    )
    call.on('timeout', () => call.destroy(new Error('no answer in a minute')))
    call.on('error', reject)
    call.end(options.body)
  })
}

/** Runs code inside the cell and gives what it returns; `{ thrown }` is the code of what it threw. */
export async function inCell(
  address: AgentAddress,
  code: string,
): Promise<{ value?: unknown; thrown?: string }> {
  const { text } = await ask(address, '/eval', { method: 'POST', body: code })
  return JSON.parse(text) as { value?: unknown; thrown?: string }
}

/** Waits until something holds, at most half a minute. */
export async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const limit = Date.now() + 30_000
  while (!(await holds())) {
    if (Date.now() > limit) throw new Error(`it did not come to pass that ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}

/** Waits until the agent answers. */
export async function untilReady(agent: Agent): Promise<void> {
  await until('the agent is ready', () => agent.state() === 'ready')
}
