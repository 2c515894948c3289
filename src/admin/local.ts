/** What the CLI can do while no sidecar runs: the same operations, on the store alone. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import type { AuditSink } from '../audit/record.ts'
import { Failure } from '../errors.ts'
import { tokenOperations } from '../identity/operations.ts'
import { endStoredSessions, sessionOperations } from '../identity/sessions.ts'
import { rotationMsDefault, rotationOf, type Rotation } from '../identity/token-life.ts'
import { tokenEntry } from '../identity/token-table.ts'
import { TokenBook } from '../identity/tokens.ts'
import { peopleOperationNames } from '../senders/names.ts'
import { openSqlite } from '../store/sqlite.ts'
import type { Store } from '../store/store.ts'
import type { Operation, Operations } from './api.ts'

/** Opens the store of a home; what happens to tokens and people is told to `audit`. Throws Failure when there is no installation. */
export async function localOperations(
  home: string,
  now: () => number,
  env: Env = {},
  audit?: AuditSink,
): Promise<{ operations: Operations; close(): Promise<void> }> {
  if (!existsSync(home)) {
    throw new Failure(
      'NO_HOME',
      `${home} does not exist: run "hardshell init", or set HARDSHELL_HOME`,
    )
  }
  const store = openSqlite(join(home, 'state.db'), { now })
  const rotation = await rotationIn(env)
  const tokens = await TokenBook.open({ store, now, random: randomBytes, rotation })
  if (audit !== undefined) tokens.onEvent((event) => audit.append(tokenEntry(event)))
  return {
    operations: {
      ...tokenOperations({ tokens, now, ...(audit && { audit }) }),
      ...sessionOperations(() => endStoredSessions(store)),
      ...lazyPeople(store, now, env, audit),
    },
    close: async () => {
      await tokens.close()
      await store.close()
    },
  }
}

type Env = Readonly<Record<string, string | undefined>>

/** What can be done about people, with its modules read when one of them is asked for. */
function lazyPeople(
  store: Store,
  now: () => number,
  env: Env,
  audit: AuditSink | undefined,
): Operations {
  const run =
    (name: string): Operation =>
    async (input, caller) => {
      const { localPeople } = await import('./local-people.ts')
      const operations = await localPeople(store, now, env, audit)
      return operations[name]?.(input, caller)
    }
  return Object.fromEntries(peopleOperationNames.map((name) => [name, run(name)]))
}

/**
 * The rotation of the configuration. Where that cannot be read the defaults do: what is written then is judged by the
 * sidecar's own rotation once it runs.
 */
async function rotationIn(env: Env): Promise<Rotation> {
  const { loadConfig } = await import('../config/load.ts')
  try {
    const { tokenRotation, rotationGrace } = loadConfig({ env }).config.gateway.auth
    return rotationOf(tokenRotation, rotationGrace)
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    return rotationOf(rotationMsDefault)
  }
}
