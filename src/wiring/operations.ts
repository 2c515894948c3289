/** What the running sidecar does for the command line, on its admin socket. */
import { openAdmin, type Operations } from '../admin/api.ts'
import { noteOperation, recorded } from '../admin/changes.ts'
import type { Agent } from '../agent/agent.ts'
import type { AuditSink } from '../audit/record.ts'
import { Failure } from '../errors.ts'
import { tokenOperations } from '../identity/operations.ts'
import { endStoredSessions, sessionOperations } from '../identity/sessions.ts'
import type { TokenBook } from '../identity/tokens.ts'
import { limits } from '../limits.ts'
import { peopleOperationNames } from '../senders/names.ts'
import type { Store } from '../store/store.ts'
import { clocks } from './clocks.ts'

/** What the operations work with. */
export interface OperationParts {
  readonly agent: Agent
  readonly tokens: TokenBook
  readonly audit: AuditSink
  readonly store: Store
  readonly status: () => Promise<unknown>
  /** Ends every session; set in password mode. */
  readonly endSessions: (() => Promise<number>) | undefined
  /** Those of the channels, where there are any. */
  readonly ofChannels: Operations | undefined
}

/** Opens the admin socket `path`; every operation that changes something is recorded. */
export function serveOperations(
  path: string,
  parts: OperationParts,
): Promise<{ close(): Promise<void> }> {
  const { agent, tokens, audit, store, status, endSessions } = parts
  const operations: Operations = {
    ...tokenOperations({ tokens, now: clocks.now, audit }),
    ...sessionOperations(endSessions ?? (() => endStoredSessions(store))),
    ...(parts.ofChannels ?? withoutChannels()),
    'change.note': noteOperation(audit),
    status,
    'agent.status': () => agent.status(),
    'agent.restart': async () => {
      await agent.restart()
      return agent.status()
    },
    'agent.logs': (input) => agent.logs(linesOf(input)),
  }
  return openAdmin(path, recorded(operations, audit))
}

/** What is answered about people where there are none. */
function withoutChannels(): Operations {
  const refuse = () =>
    Promise.reject(
      new Failure(
        'NO_CHANNEL',
        'No channel is configured: set channels.<name>.webhookPath and the secret of the service.',
      ),
    )
  return Object.fromEntries(peopleOperationNames.map((name) => [name, refuse]))
}

function linesOf(input: unknown): number {
  const lines =
    typeof input === 'object' && input !== null && 'lines' in input ? input.lines : undefined
  const { min, max } = limits.agentLogLines
  if (lines === undefined) return limits.agentLogLines.default
  if (typeof lines !== 'number' || !Number.isInteger(lines) || lines < min || lines > max) {
    throw new Failure('BAD_USAGE', `-n must be a whole number from ${min} to ${max}`, {
      exitCode: 2,
    })
  }
  return lines
}
