/** `status`, `health` and `stop`: what the running sidecar says of itself. */
import { Failure } from '../errors.ts'
import type { Call, Command, ExitCode } from './command.ts'

/** What these commands read of the sidecar's answer. */
interface Status {
  readonly version: string
  readonly url: string
  readonly home: string
  readonly configFile?: string
  readonly configHash: string
  readonly startedAt: number
  readonly agent: {
    readonly state: string
    readonly driver: string
    readonly lacks: readonly string[]
    readonly restarts: number
    readonly because?: string
  }
  readonly audit: { readonly failing?: string }
  readonly connections: number
  readonly live: number
  readonly pid: number
  readonly notices: readonly { level: string; path: string; message: string; remedy: string }[]
}

async function ask(env: Readonly<Record<string, string | undefined>>): Promise<Status> {
  const { callAdmin } = await import('../admin/client.ts')
  return (await callAdmin(env, 'status')) as Status
}

/** The commands `status`, `health` and `stop`. */
export const statusCommands: readonly Command[] = [
  {
    name: 'status',
    summary: 'Show what the running sidecar does, and what it cannot guarantee.',
    options: {
      all: { type: 'boolean', summary: 'Show every notice, and each hop from client to agent.' },
    },
    run: async (call) => {
      const { io, json, options } = call
      if (options['all'] === true) return showAll(call)
      const status = await ask(io.env)
      if (json) io.out(JSON.stringify(status))
      else io.out(describe(status, false))
      return isWell(status) ? 0 : 1
    },
  },
  {
    name: 'health',
    summary: 'Exit 0 when the sidecar runs, its agent is ready and its audit log can be written.',
    run: async ({ io, json }) => {
      const status = await ask(io.env)
      const well = isWell(status)
      const { state } = status.agent
      if (json)
        io.out(
          JSON.stringify({ ok: well, agent: state, auditFailing: status.audit.failing ?? null }),
        )
      else io.out(well ? 'ok' : `not ok: agent ${state}${auditWords(status)}`)
      return well ? 0 : 1
    },
  },
  {
    name: 'stop',
    summary: 'Stop the running sidecar: exchanges under way may end, then the cell is taken down.',
    run: async ({ io, json }) => {
      const { pid, home } = await ask(io.env)
      process.kill(pid, 'SIGTERM')
      const gone = await waitForEnd(pid)
      if (!gone) throw new Failure('STOP_SLOW', `process ${pid} of ${home} still runs after 30 s`)
      io.out(json ? JSON.stringify({ stopped: pid }) : `stopped process ${pid}`)
      return 0
    },
  },
]

/** Also when nothing runs: then the hops say what is in the way. */
async function showAll(call: Call): Promise<ExitCode> {
  const { io, json } = call
  const [{ contextOf }, { hopsOf, hopLines }] = await Promise.all([
    import('./posture.ts'),
    import('../posture/hops.ts'),
  ])
  const context = await contextOf(call, { deep: false, log: false })
  const hops = hopsOf(context)
  const status = context.running === undefined ? undefined : await ask(io.env)
  if (json) io.out(JSON.stringify({ ...status, hops }))
  else {
    if (status !== undefined) io.out(describe(status, true))
    for (const line of hopLines(hops)) io.out(line)
  }
  const well = hops.every(({ state }) => state !== 'wrong')
  return well && status !== undefined && isWell(status) ? 0 : 1
}

const isWell = ({ agent, audit }: Status) => agent.state === 'ready' && audit.failing === undefined
const auditWords = ({ audit }: Status) =>
  audit.failing === undefined ? '' : `, audit log: ${audit.failing}`

async function waitForEnd(pid: number): Promise<boolean> {
  const { setTimeout: pause } = await import('node:timers/promises')
  for (let tries = 0; tries < 300; tries += 1) {
    try {
      process.kill(pid, 0)
    } catch {
      return true
    }
    await pause(100)
  }
  return false
}

function describe(status: Status, all: boolean): string {
  const { agent, audit } = status
  const lines = [
    `hardshell ${status.version} on ${status.url}, since ${new Date(status.startedAt).toISOString()}`,
    `config   ${status.configFile ?? 'defaults'} (${status.configHash.slice(0, 12)})`,
    `agent    ${agent.state}, driver ${agent.driver}, ${agent.restarts} restarts${agent.because === undefined ? '' : `: ${agent.because}`}`,
    ...agent.lacks.map((lack) => `         not guaranteed: ${lack}`),
    `audit    ${audit.failing ?? 'written'}`,
    `open     ${status.connections} connections, ${status.live} exchanges`,
  ]
  const shown = all ? status.notices : status.notices.filter(({ level }) => level !== 'INFO')
  for (const { level, path, message, remedy } of shown) {
    lines.push(`${level.padEnd(8)} ${path} ${message}. ${remedy}`)
  }
  return lines.join('\n')
}
