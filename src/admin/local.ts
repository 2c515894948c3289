/** What the CLI can do while no sidecar runs: the same operations, on the store alone. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { join } from 'node:path'

import { Failure } from '../errors.ts'
import { tokenOperations } from '../identity/operations.ts'
import { endStoredSessions, sessionOperations } from '../identity/sessions.ts'
import { TokenBook } from '../identity/tokens.ts'
import { openSqlite } from '../store/sqlite.ts'
import type { Operations } from './api.ts'

/** Opens the store of a home. Throws Failure when there is no installation. */
export async function localOperations(
  home: string,
  now: () => number,
): Promise<{ operations: Operations; close(): Promise<void> }> {
  if (!existsSync(home)) {
    throw new Failure(
      'NO_HOME',
      `${home} does not exist: run "hardshell init", or set HARDSHELL_HOME`,
    )
  }
  const store = openSqlite(join(home, 'state.db'), { now })
  const tokens = await TokenBook.open({ store, now, random: randomBytes })
  return {
    operations: {
      ...tokenOperations({ tokens, now }),
      ...sessionOperations(() => endStoredSessions(store)),
    },
    close: async () => {
      await tokens.close()
      await store.close()
    },
  }
}
