/** What the commands about posture share: the running sidecar and the tokens, gathered with everything else. */
import { lstatSync } from 'node:fs'
import { join } from 'node:path'

import { codeOf, messageOf } from '../errors.ts'
import { homeOf } from '../home.ts'
import type { TokenView } from '../identity/token-record.ts'
import type { Measured, PostureContext, Running } from '../posture/context.ts'
import type { Call } from './command.ts'

const exists = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined

/** The state of the installation that a call is about. */
export async function contextOf(
  { io, options }: Call,
  { deep, log, signal }: { readonly deep: boolean; readonly log: boolean; signal?: AbortSignal },
): Promise<PostureContext> {
  const { filesNow, gather } = await import('../posture/gather.ts')
  const home = homeOf(io.env)
  const config = typeof options['config'] === 'string' ? options['config'] : undefined
  // What opens the state mends its mode, so the files are looked at before.
  const files = filesNow(io.env, config)
  const running = await runningIn(io.env, home)
  const shut = files.every(({ role, mode }) => role !== 'state' || (mode & 0o077) === 0)
  const tokens = shut
    ? await tokensIn(io.env, home)
    : { unmeasured: 'the state is open to others: mend that first' }
  const context = await gather({
    env: io.env,
    now: new Date().getTime(),
    tokens,
    deep,
    log,
    ...(signal && { signal }),
    ...(config === undefined ? {} : { config }),
    ...(running && { running }),
  })
  return { ...context, files }
}

async function runningIn(env: Call['io']['env'], home: string): Promise<Running | undefined> {
  if (!exists(join(home, 'run', 'admin.sock'))) return undefined
  const { callAdmin } = await import('../admin/client.ts')
  try {
    const status = (await callAdmin(env, 'status')) as {
      readonly url: string
      readonly configHash: string
      readonly agent: Running['agent']
      readonly audit: { readonly failing?: string }
    }
    const { url, configHash, agent, audit } = status
    const failing = audit.failing === undefined ? {} : { auditFailing: audit.failing }
    return { url, configHash, agent, ...failing }
  } catch (thrown) {
    // A socket that nobody serves any more: nothing runs.
    if (codeOf(thrown) !== '') return undefined
    throw thrown
  }
}

async function tokensIn(
  env: Call['io']['env'],
  home: string,
): Promise<Measured<readonly TokenView[]>> {
  if (!exists(join(home, 'state.db'))) return { unmeasured: 'there is no state yet' }
  const { callAdmin } = await import('../admin/client.ts')
  try {
    const answer = (await callAdmin(env, 'token.list')) as { readonly tokens: readonly TokenView[] }
    return { value: answer.tokens }
  } catch (thrown) {
    return { unmeasured: `the tokens cannot be read: ${messageOf(thrown)}` }
  }
}
