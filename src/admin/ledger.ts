/** What the command line changes by itself goes into the audit log: through the running sidecar, or by our own hand. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'

import { openAudit, type AuditLog } from '../audit/log.ts'
import type { AuditSink } from '../audit/record.ts'
import { loadConfig, type Config } from '../config/load.ts'
import { defaultConfig } from '../config/compare.ts'
import { codeOf, Failure } from '../errors.ts'
import { ownUid } from '../files.ts'
import { homeOf } from '../home.ts'
import { betweenRecords, changeBy, changeEntry, written, type ChangeNote } from './changes.ts'
import { otherWriterEveryMs, otherWriterMs, overSocket, runs, wallClock } from './client.ts'

type Env = Readonly<Record<string, string | undefined>>

/** A change that a command is about to make to files of the home. */
export interface Change {
  /** The command, like `config set`. */
  readonly operation: string
  /** Keys, files and names that it is about; never a value. */
  readonly about?: string
  /** The value of `--config`. */
  readonly config?: string | undefined
}

/** What a change came to. */
export interface Made<T> {
  readonly value: T
  /** What it changed; undefined when nothing had to. */
  readonly about: string | undefined
}

/**
 * Makes a change between its two records in the audit log. Rejects, and then nothing was changed, when the log cannot
 * be written; rejects with what made the change fail.
 */
export async function recordChange<T>(
  env: Env,
  { operation, about, config: named }: Change,
  make: () => Made<T> | Promise<Made<T>>,
): Promise<T> {
  const before = configNow(env, named).hash
  const change = {
    operation,
    about: about === undefined ? about : cut(about),
    uid: ownUid(),
    config: before,
  }
  const from = before === undefined ? '' : `; config before ${before.slice(0, 16)}`
  const carryOut = async () => {
    const made = await make()
    const what = made.about === undefined ? 'nothing had to change' : `${cut(made.about)}${from}`
    return { value: made.value, about: what, config: configNow(env, named).hash }
  }
  const hold = await take(env, named)
  return releasing(hold.release, () => betweenRecords(change, hold.note, carryOut))
}

/** Runs something and gives the log back; what went wrong before is worth more than that the log could not be closed. */
async function releasing<T>(release: () => Promise<void>, use: () => Promise<T>): Promise<T> {
  let value: T
  try {
    value = await use()
  } catch (thrown) {
    await release().catch(() => undefined)
    throw thrown
  }
  await release()
  return value
}

/** Carries out an operation on the store of a home in which no sidecar runs, with the audit log in our hands. */
export async function changeHere(
  env: Env,
  name: string,
  run: (audit: AuditSink) => Promise<unknown>,
): Promise<unknown> {
  const home = homeOf(env)
  if (!existsSync(home)) {
    throw new Failure(
      'NO_HOME',
      `${home} does not exist: run "hardshell init", or set HARDSHELL_HOME`,
    )
  }
  const log = openHere(env, undefined)
  if (log === undefined) return run(silent)
  return releasing(
    () => log.close(),
    () => changeBy(name, { uid: ownUid() }, log, () => run(log)),
  )
}

/** `security.auditLogging: false`. */
const silent: AuditSink = { failing: undefined, append: (_entry, done) => done?.() }

/** A record holds 256 characters; the command and the hash must fit beside this. */
const aboutChars = 180
const cut = (text: string) =>
  text.length > aboutChars ? `${text.slice(0, aboutChars - 1)}…` : text

interface Hold {
  readonly note: (note: ChangeNote) => Promise<void>
  readonly release: () => Promise<void>
}

/** The running sidecar's log, or the log itself, for which another command that changes something is waited for. */
async function take(env: Env, named: string | undefined): Promise<Hold> {
  for (let left = otherWriterMs; ; left -= otherWriterEveryMs) {
    if (await runs(env)) return { note: (note) => noteThere(env, named, note), release: nothing }
    try {
      const log = openHere(env, named)
      if (log === undefined) return { note: nothing, release: nothing }
      return { note: (note) => written(log, changeEntry(note)), release: () => log.close() }
    } catch (thrown) {
      if (codeOf(thrown) !== 'AUDIT_IN_USE' || left <= 0) throw thrown
      await pause(otherWriterEveryMs)
    }
  }
}

const nothing = () => Promise.resolve()

/** Tells the running sidecar; one that has ended meanwhile leaves the log to us. */
async function noteThere(env: Env, named: string | undefined, note: ChangeNote): Promise<void> {
  const { uid: _told, ...input } = note
  try {
    await overSocket(env, 'change.note', input)
  } catch (thrown) {
    if (!['ENOENT', 'ECONNREFUSED', 'ECONNRESET'].includes(codeOf(thrown))) throw thrown
    const hold = await take(env, named)
    await releasing(hold.release, () => hold.note(note))
  }
}

/** Opens the log of a home for records that must be on the disk; undefined where the configuration wants none. */
function openHere(env: Env, named: string | undefined): AuditLog | undefined {
  const { config, hash } = configNow(env, named)
  if (!config.security.auditLogging) return undefined
  return openAudit({
    dir: join(homeOf(env), 'audit'),
    sync: 'always',
    rotateBytes: config.security.audit.rotate,
    keepFiles: config.security.audit.keep,
    now: wallClock,
    ...(hash === undefined ? {} : { configHash: () => hash }),
  })
}

/** The configuration; its defaults where it cannot be loaded, for that is often what a command is to mend. */
function configNow(
  env: Env,
  named: string | undefined,
): { readonly config: Config; readonly hash: string | undefined } {
  try {
    const { config, hash } = loadConfig({ env, ...(named === undefined ? {} : { config: named }) })
    return { config, hash }
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    return { config: defaultConfig(), hash: undefined }
  }
}
