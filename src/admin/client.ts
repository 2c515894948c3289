/** The CLI's way to the running sidecar; where none runs, what works on the store alone is done here. */
import { request } from 'node:http'
import { join } from 'node:path'

import { codeOf, Failure } from '../errors.ts'
import { homeOf } from '../home.ts'

type Env = Readonly<Record<string, string | undefined>>

/** How long an operation may take, ms: `agent restart` waits for a container. */
const answerMs = 60_000

/**
 * Runs an operation in the running sidecar, or on the local store when none runs and the operation needs no sidecar.
 * Throws Failure with the sidecar's own code, or NOT_RUNNING.
 */
export async function callAdmin(env: Env, operation: string, input?: unknown): Promise<unknown> {
  const home = homeOf(env)
  try {
    return await overSocket(join(home, 'run', 'admin.sock'), operation, input)
  } catch (thrown) {
    const code = codeOf(thrown)
    if (code !== 'ENOENT' && code !== 'ECONNREFUSED') throw thrown
  }
  const { localOperations } = await import('./local.ts')
  const local = await localOperations(home, Date.now, env)
  try {
    const run = Object.hasOwn(local.operations, operation) ? local.operations[operation] : undefined
    if (run === undefined) {
      throw new Failure(
        'NOT_RUNNING',
        `Hardshell is not running in ${home}: start it with "hardshell serve".`,
      )
    }
    return await run(input)
  } finally {
    await local.close()
  }
}

async function overSocket(path: string, operation: string, input: unknown): Promise<unknown> {
  const text = await new Promise<string>((resolve, reject) => {
    const call = request(
      { socketPath: path, path: `/${operation}`, method: 'POST', timeout: answerMs },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('end', () => resolve(Buffer.concat(chunks).toString('utf8')))
        response.on('error', reject)
      },
    )
    call.on('timeout', () =>
      call.destroy(new Failure('ADMIN_TIMEOUT', 'The running Hardshell did not answer.')),
    )
    call.on('error', reject)
    call.end(input === undefined ? undefined : JSON.stringify(input))
  })
  const answer = JSON.parse(text) as {
    result?: unknown
    error?: { code: string; message: string; exitCode: 1 | 2 }
  }
  if (answer.error !== undefined) {
    throw new Failure(answer.error.code, answer.error.message, { exitCode: answer.error.exitCode })
  }
  return answer.result
}
