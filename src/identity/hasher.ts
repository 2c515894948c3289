/**
 * Passwords are compared in a process of their own, at the lowest priority: however many are tried, they take only
 * processor time that nobody else wants, never a thread that the audit log waits for, and a hash that is too large for
 * the machine ends that process and not the sidecar.
 */
import { spawn, type ChildProcess } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { constants, setPriority } from 'node:os'

import { Failure, messageOf } from '../errors.ts'
import { seconds, type Millis } from '../limits.ts'
import { derive, type Derive, type HashCost, type PasswordHash } from './password.ts'

/** What the process is asked. Bytes in base64. */
interface Question {
  readonly password: string
  readonly cost: HashCost
  readonly salt: string
  readonly tagBytes: number
}

/** What it answers. */
type Answer = { readonly tag: string } | { readonly failed: string }

/** How long one hash may take, ms: some hundred times as long as the default costs. */
const answerMs: Millis = seconds(30)
/** A process that has nothing to do for this long ends, ms: its memory is worth more. */
const idleMs: Millis = seconds(60)

/** This very file, from a checkout or from a build. */
const self = import.meta.filename

/** Computes hashes elsewhere, one after the other. */
export class Hasher {
  #child: ChildProcess | undefined
  #idle: NodeJS.Timeout | undefined

  /** Computes one tag. Fails with PASSWORD_HASHER when the process ends or does not answer. */
  readonly derive: Derive = async (password, like) => {
    clearTimeout(this.#idle)
    const child = (this.#child ??= this.#start())
    try {
      return await answerOf(child, questionOf(password, like))
    } catch (thrown) {
      // Whatever state it is in: the next one gets a new process.
      this.#child = undefined
      child.kill('SIGKILL')
      throw thrown
    } finally {
      this.#idle = setTimeout(() => this.close(), idleMs).unref()
    }
  }

  /** Ends the process, if there is one. */
  close(): void {
    clearTimeout(this.#idle)
    if (this.#child?.connected === true) this.#child.disconnect()
    this.#child = undefined
  }

  #start(): ChildProcess {
    const child = spawn(process.execPath, [self], {
      // Nothing of ours: no secret of the environment, no options of the caller.
      env: {},
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    child.once('exit', () => {
      if (this.#child === child) this.#child = undefined
    })
    child.on('error', () => undefined)
    child.unref()
    child.channel?.unref()
    return child
  }
}

function questionOf(password: string, { cost, salt, tag }: PasswordHash): Question {
  return { password, cost, salt: salt.toString('base64'), tagBytes: tag.length }
}

function answerOf(child: ChildProcess, question: Question): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const fail = (because: string) =>
      settle(() =>
        reject(new Failure('PASSWORD_HASHER', `No password can be compared: ${because}.`)),
      )
    const hear = (answer: unknown) =>
      settle(() => {
        const said = answer as Answer
        if ('tag' in said) resolve(Buffer.from(said.tag, 'base64'))
        else reject(new Failure('PASSWORD_HASHER', `No password can be compared: ${said.failed}.`))
      })
    const gone = () => fail('the process for it ended')
    const broken = (error: Error) => fail(messageOf(error))
    const timer = setTimeout(() => fail('the process for it does not answer'), answerMs)
    const settle = (end: () => void) => {
      clearTimeout(timer)
      child.off('message', hear)
      child.off('exit', gone)
      child.off('error', broken)
      end()
    }
    child.on('message', hear)
    child.on('exit', gone)
    child.on('error', broken)
    child.send(question, (error) => {
      if (error !== null) fail(messageOf(error))
    })
  })
}

/** The process itself: answers until its parent is gone. */
function answerAll(): void {
  yieldToAll()
  // A terminal sends Ctrl-C to both; the parent ends this one when it is time.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
  const answer = (reply: Answer) => {
    if (process.connected) process.send?.(reply)
  }
  process.on('message', (message) => {
    const { password, cost, salt, tagBytes } = message as Question
    const like = { cost, salt: Buffer.from(salt, 'base64'), tag: Buffer.alloc(tagBytes) }
    derive(password, like).then(
      (tag) => answer({ tag: tag.toString('base64') }),
      (thrown: unknown) => answer({ failed: messageOf(thrown) }),
    )
  })
}

/** On Linux every thread has a priority of its own, and new threads inherit that of the one that makes them. */
function yieldToAll(): void {
  const lowest = constants.priority.PRIORITY_LOW
  try {
    setPriority(lowest)
    for (const thread of readdirSync('/proc/self/task')) setPriority(Number(thread), lowest)
  } catch {
    // Elsewhere, or where it is forbidden: then it takes its share like everything else.
    return
  }
}

if (import.meta.main) answerAll()
