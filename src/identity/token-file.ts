/**
 * A file that holds the configured token, watched: an editor's rename, a secret mount's switch of links, or a plain
 * write is seen at once where the system tells, and by looking where it does not.
 */
import { watch, type FSWatcher } from 'node:fs'
import { stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { codeOf, type Failure } from '../errors.ts'
import type { Millis } from '../limits.ts'
import { asFailure } from './token-table.ts'

/** What the watch needs. */
export interface TokenFileDeps {
  readonly path: string
  /** Reads the token by the rules for files with secrets; throws a Failure. */
  readonly read: () => string
  /** Takes a value over; rejects with a Failure when it may not be used. Called with what the file holds now. */
  readonly use: (value: string) => Promise<void>
  /** Hears of a file that cannot be read and of a value that may not be used, once each. */
  readonly onTrouble: (failure: Failure) => void
  /** How often the file is looked at beside what the system tells. */
  readonly pollMs?: Millis
  /** A file that was written a moment ago may not be whole yet. */
  readonly settleMs?: Millis
}

const pollMsDefault = 500
const settleMsDefault = 50

/** Watches until `close`. What the file holds at the start is taken over too: it may have changed since it was read. */
export class TokenFile {
  readonly #deps: TokenFileDeps
  readonly #timer: NodeJS.Timeout
  #watcher: FSWatcher | undefined
  #seen = ''
  #told = ''
  #looking: Promise<void> | undefined
  #again = false
  #closed = false

  constructor(deps: TokenFileDeps) {
    this.#deps = deps
    this.#timer = setInterval(() => this.look(), deps.pollMs ?? pollMsDefault).unref()
    this.#listen()
    this.look()
  }

  /** Looks whether the file has changed; calls while that is under way are one more look. */
  look(): void {
    if (this.#closed) return
    if (this.#looking !== undefined) {
      this.#again = true
      return
    }
    this.#looking = this.#look().finally(() => {
      this.#looking = undefined
      if (!this.#again) return
      this.#again = false
      this.look()
    })
  }

  /** Ends the watch, after a look that is under way. */
  async close(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    this.#watcher?.close()
    await this.#looking
  }

  /** The folder and not the file: a rename puts another file in its place, which nobody would watch. */
  #listen(): void {
    try {
      this.#watcher = watch(dirname(this.#deps.path), { persistent: false }, () => this.look())
      // Looking goes on without it.
      this.#watcher.on('error', () => this.#watcher?.close())
    } catch (thrown) {
      // No watches left on this machine, or a file system without them.
      this.#deps.onTrouble(asFailure(thrown))
    }
  }

  async #look(): Promise<void> {
    const { path, read, use, settleMs = settleMsDefault } = this.#deps
    const sign = await signOf(path)
    if (sign === this.#seen) return
    await new Promise((resolve) => setTimeout(resolve, settleMs))
    if ((await signOf(path)) !== sign) {
      this.#again = true
      return
    }
    try {
      const value = read()
      // Written while it was read: the next look sees another sign.
      if ((await signOf(path)) !== sign) {
        this.#again = true
        return
      }
      await use(value)
      this.#told = ''
    } catch (thrown) {
      const failure = asFailure(thrown)
      this.#tell(failure)
      // A file that is wrong stays wrong until it changes; a store that failed may work at the next look.
      if (isPassing(failure)) return
    }
    this.#seen = sign
  }

  #tell(failure: Failure): void {
    const told = `${failure.code} ${failure.message}`
    if (told === this.#told) return
    this.#told = told
    this.#deps.onTrouble(failure)
  }
}

const isPassing = ({ code }: Failure) =>
  code.startsWith('STORE_') || code === 'TOKENS_FAILED' || code === 'TOKEN_CONFLICT'

/** What changes when a file is written or another takes its place; the same file through a link of a mount. */
async function signOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs].join(' ')
  } catch (thrown) {
    return codeOf(thrown)
  }
}
