/** The CLI's way to the running sidecar; where none runs, what works on the store alone is done here. */
import { request } from 'node:http'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import type { AuditSink } from '../audit/record.ts'
import { codeOf, Failure } from '../errors.ts'
import { ownUid } from '../files.ts'
import { homeOf } from '../home.ts'
import { uidHeader } from './api.ts'
import { changingOperations } from './changes.ts'

type Env = Readonly<Record<string, string | undefined>>

/** How long an operation may take, ms: `agent restart` waits for a container. */
const answerMs = 60_000

/** How long another writer of the audit log is waited for, ms: a sidecar that stops may drain for 10 s. */
export const otherWriterMs = 15_000
/** How often it is looked whether it is gone, ms. */
export const otherWriterEveryMs = 50

/** The wall clock of commands, ms since the epoch. */
export const wallClock = (): number => Date.now()

/**
 * Runs an operation in the running sidecar, or on the local store when none runs and the operation needs no sidecar.
 * Throws Failure with the sidecar's own code, or NOT_RUNNING.
 */
export async function callAdmin(env: Env, operation: string, input?: unknown): Promise<unknown> {
  for (let left = otherWriterMs; ; left -= otherWriterEveryMs) {
    try {
      return await overSocket(env, operation, input)
    } catch (thrown) {
      if (!isAbsent(thrown)) throw thrown
    }
    if (!changingOperations.has(operation)) return onStore(env, operation, input)
    const { changeHere } = await import('./ledger.ts')
    try {
      return await changeHere(env, operation, (audit) => onStore(env, operation, input, audit))
    } catch (thrown) {
      // A sidecar that starts or stops, or another command: one of them writes the log, never two.
      if (codeOf(thrown) !== 'AUDIT_IN_USE' || left <= 0) throw thrown
      await pause(otherWriterEveryMs)
    }
  }
}

/** Nobody serves the socket. */
const isAbsent = (thrown: unknown) => ['ENOENT', 'ECONNREFUSED'].includes(codeOf(thrown))

async function onStore(
  env: Env,
  operation: string,
  input: unknown,
  audit?: AuditSink,
): Promise<unknown> {
  const home = homeOf(env)
  const { localOperations } = await import('./local.ts')
  const local = await localOperations(home, wallClock, env, audit)
  try {
    const run = Object.hasOwn(local.operations, operation) ? local.operations[operation] : undefined
    if (run === undefined) {
      throw new Failure(
        'NOT_RUNNING',
        `Hardshell is not running in ${home}: start it with "hardshell serve".`,
      )
    }
    return await run(input, { uid: ownUid() })
  } finally {
    await local.close()
  }
}

const socketOf = (env: Env) => join(homeOf(env), 'run', 'admin.sock')

/** Whether a sidecar serves the admin socket of this home. */
export async function runs(env: Env): Promise<boolean> {
  const socket = connect(socketOf(env))
  const { promise, resolve, reject } = Promise.withResolvers<boolean>()
  socket.once('connect', () => resolve(true))
  socket.once('error', (thrown) => (isAbsent(thrown) ? resolve(false) : reject(thrown)))
  try {
    return await promise
  } finally {
    socket.destroy()
  }
}

/** Runs an operation in the running sidecar; rejects with ENOENT or ECONNREFUSED where none runs. */
export async function overSocket(env: Env, operation: string, input: unknown): Promise<unknown> {
  const text = await new Promise<string>((resolve, reject) => {
    const call = request(
      {
        socketPath: socketOf(env),
        path: `/${operation}`,
        method: 'POST',
        headers: { [uidHeader]: ownUid() },
        timeout: answerMs,
      },
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
