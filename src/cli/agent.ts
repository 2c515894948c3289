/** `agent status | restart | logs`: the guarded agent, as the running sidecar sees it. */
import { setTimeout as pause } from 'node:timers/promises'
import type { AgentStatus } from '../agent/agent.ts'
import { Failure } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Call, Command, ExitCode } from './command.ts'

/** Asks the running sidecar to do something; as `callAdmin` of src/admin/client.ts. */
export type AskAdmin = (
  env: Call['io']['env'],
  operation: string,
  input?: unknown,
) => Promise<unknown>

/** How often `--follow` looks for new lines, ms. */
const followMs = 500

const askRunning: AskAdmin = async (env, operation, input) => {
  const { callAdmin } = await import('../admin/client.ts')
  return callAdmin(env, operation, input)
}

/** The rows of the noun `agent`, over any way to ask. */
export function agentRows(ask: AskAdmin): readonly Command[] {
  return [
    {
      name: 'agent status',
      summary: 'Show whether the agent is ready, what runs it, and what that cannot guarantee.',
      run: async ({ io, json }) => {
        const status = (await ask(io.env, 'agent.status')) as AgentStatus
        io.out(json ? JSON.stringify(status) : describe(status))
        return status.state === 'ready' ? 0 : 1
      },
    },
    {
      name: 'agent restart',
      summary: 'End the agent and start it again; requests wait meanwhile.',
      run: async ({ io, json }) => {
        const status = (await ask(io.env, 'agent.restart')) as AgentStatus
        io.out(json ? JSON.stringify(status) : describe(status))
        return 0
      },
    },
    {
      name: 'agent logs',
      summary: 'Show the newest lines that the agent wrote, oldest first.',
      options: {
        n: {
          type: 'string',
          value: 'N',
          summary: `How many lines [${limits.agentLogLines.default}], at most ${limits.agentLogLines.max}.`,
        },
        follow: { type: 'boolean', summary: 'Go on with new lines until interrupted.' },
      },
      run: (call) => logs(call, ask),
    },
  ]
}

/** The rows of the noun `agent`. */
export const agentCommands: readonly Command[] = agentRows(askRunning)

async function logs({ io, json, options }: Call, ask: AskAdmin): Promise<ExitCode> {
  const read = async (lines: number) =>
    (await ask(io.env, 'agent.logs', { lines })) as readonly string[]
  const follow = options['follow'] === true
  let lines = await read(countOf(options['n']))
  if (json && !follow) {
    io.out(JSON.stringify(lines))
    return 0
  }
  const show = (line: string) => io.out(json ? JSON.stringify(line) : line)
  for (const line of lines) show(line)
  // Ends with the process: an interrupt is how a person stops it.
  while (follow) {
    await pause(followMs)
    const now = await read(limits.agentLogLines.default)
    for (const line of newLines(lines, now)) show(line)
    lines = now
  }
  return 0
}

/** The lines of `now` that come after the last one of `before`; each line begins with its own time. */
export function newLines(before: readonly string[], now: readonly string[]): readonly string[] {
  const last = before.at(-1)
  if (last === undefined) return now
  const at = now.lastIndexOf(last)
  if (at !== -1) return now.slice(at + 1)
  // More came than one look shows: everything written after the last line that was seen.
  const time = timeOf(last)
  return now.filter((line) => timeOf(line) > time)
}

function timeOf(line: string): string {
  return line.split(' ', 1)[0] ?? ''
}

function countOf(given: unknown): number {
  if (given === undefined) return limits.agentLogLines.default
  const count = Number(given)
  const { min, max } = limits.agentLogLines
  if (Number.isInteger(count) && count >= min && count <= max) return count
  throw new Failure('BAD_OPTION', `-n must be a whole number from ${min} to ${max}.`, {
    exitCode: 2,
  })
}

/** The status as lines for a person. */
function describe(status: AgentStatus): string {
  const rows: [string, string | undefined][] = [
    ['state', status.state],
    ['because', status.because],
    ['since', status.since === undefined ? undefined : new Date(status.since).toISOString()],
    ['driver', status.driver],
    ['image', status.image],
    ['containers', status.containers?.join(' ')],
    ['restarts', String(status.restarts)],
    ...status.lacks.map((sentence): [string, string] => ['lacks', sentence]),
  ]
  return rows
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name.padEnd(11)}${value}`)
    .join('\n')
}
