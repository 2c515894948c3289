/** Pairing and lists while no sidecar runs: on the store, and on the configuration where it can be read. */
import { randomBytes } from 'node:crypto'

import type { AuditSink } from '../audit/record.ts'
import type { Config } from '../config/load.ts'
import { Failure } from '../errors.ts'
import { PairingBook, usualBounds } from '../senders/book.ts'
import { checkOperations } from '../senders/check-operations.ts'
import { SenderList } from '../senders/list.ts'
import { peopleOperations } from '../senders/operations.ts'
import { nodeCall } from '../senders/outgoing.ts'
import type { Store } from '../store/store.ts'
import type { Operations } from './api.ts'

/** Opens the operations about people; nothing is watched, and nobody can be told anything. */
export async function localPeople(
  store: Store,
  now: () => number,
  env: Readonly<Record<string, string | undefined>>,
  evidence?: AuditSink,
): Promise<Operations> {
  const list = await SenderList.open({ store, now })
  const book = await PairingBook.open({ store, now, random: randomBytes, bounds: usualBounds })
  const { config, failure } = await configIn(env)
  const lists = config === undefined ? undefined : await import('../config/channel-lists.ts')
  const accounts = config === undefined ? undefined : lists?.listedAccounts(config)
  const subjects = config === undefined ? undefined : lists?.checkSubjects(config)
  return {
    ...peopleOperations({ list, book, accounts, now, evidence }),
    ...(subjects === undefined || config === undefined
      ? { 'channel.check': () => Promise.reject(failure ?? new Failure('CONFIG_MISSING', 'none')) }
      : checkOperations({
          subjects,
          publicOrigins: config.gateway.publicOrigins,
          call: nodeCall(),
          now,
        })),
  }
}

/** The configuration, or why it cannot be had: lists in the store can be kept without it. */
async function configIn(
  env: Readonly<Record<string, string | undefined>>,
): Promise<{ readonly config?: Config; readonly failure?: Failure }> {
  const { loadConfig } = await import('../config/load.ts')
  try {
    return { config: loadConfig({ env }).config }
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    return { failure: thrown }
  }
}
