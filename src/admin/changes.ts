/** What an operator changes is in the audit log twice: that it began, before anything changes, and what came of it. */
import type { AuditEntry, AuditSink } from '../audit/record.ts'
import { codeOf, Failure, messageOf } from '../errors.ts'
import type { Caller, Operation, Operations } from './api.ts'

/** Operations that change something; the others only look. */
export const changingOperations: ReadonlySet<string> = new Set([
  ...['new', 'rotate', 'retire', 'revoke'].map((verb) => `token.${verb}`),
  ...['approve', 'deny', 'revoke'].map((verb) => `pairing.${verb}`),
  ...['add', 'remove'].map((verb) => `allowlist.${verb}`),
  'auth.logoutAll',
])

/** How far a change has come. `failed`: it was refused or broke off, and `code` says why. */
export type Stage = 'begun' | 'made' | 'failed'

/** One record about a change. */
export interface ChangeNote {
  readonly stage: Stage
  /** The command, like `config set`. */
  readonly operation: string
  /** Keys, files and names that it is about; never a value. */
  readonly about?: string | undefined
  /** The user who runs the command. */
  readonly uid: number
  /** Code of what made it fail. */
  readonly code?: string | undefined
  /** Hash of the configuration as it is at this stage. */
  readonly config?: string | undefined
}

/** The record of a change. */
export function changeEntry({
  stage,
  operation,
  about,
  uid,
  code,
  config,
}: ChangeNote): AuditEntry {
  return {
    event: `change.${stage}`,
    identity: `uid ${uid}`,
    because: about === undefined ? operation : `${operation}: ${about}`,
    ...(code === undefined ? {} : { code }),
    ...(config === undefined ? {} : { config }),
  }
}

/** Writes a record and waits until it is as safe as the log makes it. Rejects with the log's Failure. */
export async function written(audit: AuditSink, entry: AuditEntry): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  audit.append(entry, (failure) => (failure === undefined ? resolve() : reject(failure)))
  await promise
}

/**
 * Makes a change between its two records. Rejects with the log's Failure before anything is changed; afterwards with
 * what made the change fail, or with one that says that the change was made and its record was not.
 */
export async function betweenRecords<T>(
  change: Omit<ChangeNote, 'stage' | 'code'>,
  note: (note: ChangeNote) => Promise<void>,
  make: () => Promise<{ readonly value: T } & Pick<ChangeNote, 'about' | 'config'>>,
): Promise<T> {
  const { operation } = change
  try {
    await note({ ...change, stage: 'begun' })
  } catch (thrown) {
    throw told(thrown, 'Nothing was changed.')
  }
  let made: Awaited<ReturnType<typeof make>>
  try {
    made = await make()
  } catch (thrown) {
    const code = codeOf(thrown) === '' ? 'UNEXPECTED' : codeOf(thrown)
    await note({ ...change, stage: 'failed', code }).catch((failure: unknown) => {
      throw told(thrown, `And the audit log could not record it: ${messageOf(failure)}.`)
    })
    throw thrown
  }
  const { value, about, config } = made
  await note({ ...change, stage: 'made', about, config }).catch((failure: unknown) => {
    throw told(failure, `"${operation}" was carried out; the log has only that it began.`)
  })
  return value
}

/** The same failure, with a sentence more. */
function told(thrown: unknown, sentence: string): Failure {
  const message = messageOf(thrown).replace(/\.$/, '')
  const { code, exitCode } =
    thrown instanceof Failure
      ? thrown
      : { code: codeOf(thrown) || 'UNEXPECTED', exitCode: 1 as const }
  return new Failure(code, `${message}. ${sentence}`, { exitCode, cause: thrown })
}

/** The operations, with every changing one between its two records. */
export function recorded(operations: Operations, audit: AuditSink): Operations {
  const wrapped = Object.entries(operations).map(([name, run]): [string, Operation] => {
    if (!changingOperations.has(name)) return [name, run]
    return [name, (input, caller) => changeBy(name, caller, audit, () => run(input, caller))]
  })
  return Object.fromEntries(wrapped)
}

/** Runs one changing operation between its two records. */
export async function changeBy(
  name: string,
  { uid }: Caller,
  audit: AuditSink,
  run: () => Promise<unknown>,
): Promise<unknown> {
  const operation = name.replace('.', ' ')
  const note = (stage: ChangeNote) => written(audit, changeEntry(stage))
  return betweenRecords({ operation, uid }, note, async () => ({ value: await run() }))
}

/** Longest words about a change; the log cuts them at fewer. */
const aboutCharsMax = 1024
const operationForm = /^[a-z][a-z -]{0,39}$/

/** `change.note`: takes into the running sidecar's log what the command line changes by itself. */
export function noteOperation(audit: AuditSink): Operation {
  return async (input, { uid }) => {
    await written(audit, changeEntry({ ...noteIn(input), uid }))
    return null
  }
}

function noteIn(input: unknown): Omit<ChangeNote, 'uid'> {
  const fields = typeof input === 'object' && input !== null ? { ...input } : {}
  const { stage, operation, about, code, config, ...others } = fields as Record<string, unknown>
  const fits = (value: unknown, form: RegExp): value is string =>
    typeof value === 'string' && form.test(value)
  const stages: readonly unknown[] = ['begun', 'made', 'failed']
  if (
    Object.keys(others).length > 0 ||
    !stages.includes(stage) ||
    !fits(operation, operationForm) ||
    !(about === undefined || (typeof about === 'string' && about.length <= aboutCharsMax)) ||
    !(code === undefined || fits(code, /^[A-Z][A-Z0-9_]{0,63}$/)) ||
    !(config === undefined || fits(config, /^[0-9a-f]{64}$/))
  ) {
    throw new Failure('CHANGE_INPUT', 'The note of a change is not of the form that it must have.')
  }
  return { stage: stage as Stage, operation, about, code, config }
}
