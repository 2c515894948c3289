/** Puts records into the files of one chain: all of a chunk, or nothing. */
import { KiB, type Bytes } from '../limits.ts'
import { link, type Head } from './chain.ts'
import { auditFile, type AuditFile, type AuditFs } from './files.ts'
import { chainBroken, type Continuation } from './recover.ts'
import type { AuditEntry } from './record.ts'

const { dirname } = process.getBuiltinModule('node:path')
const fs = process.getBuiltinModule('node:fs')

/** An entry on its way, and whom to tell. */
export interface Item {
  readonly entry: AuditEntry
  readonly written: ((failure?: Error) => void) | undefined
  /** Set when the entry itself can never be a record. */
  unfit?: Error
}

/** One write call takes at most this much, so that the failure of one is the failure of few. */
const chunkBytes = KiB(256)
/** No line is longer: 12 strings of 256 units, six bytes each, and the rest. */
const lineBytesMost = KiB(32)

/** The end of one chain. Its methods throw the system's error and leave everything as it was. */
export class ChainWriter {
  readonly #dir: string
  readonly #io: AuditFs
  readonly #rotateBytes: Bytes
  readonly #keepFiles: number
  readonly #config: (() => string) | undefined
  readonly #buffer = Buffer.allocUnsafeSlow(chunkBytes + lineBytesMost)
  /** Files that are full but perhaps not yet on the disk. */
  #retired: number[] = []
  #folderChanged = true
  #files: AuditFile[]
  #fd: number
  #size: number
  #head: Head
  /** The next record does not fit the present file. */
  #full: boolean
  /** Nothing but what a rotation writes is in the present file: it takes one record of any size. */
  #fresh: boolean
  /** What the newest `audit.rotated` says; older files may go once it is on the disk. */
  #firstKept = 0
  #firstKeptSynced = 0
  /** A failed write left bytes behind the last good one. */
  #dirtyTail = false
  /** Set when the present file must not be continued. */
  #distrust: string | undefined

  constructor(
    from: Continuation,
    io: AuditFs,
    options: {
      readonly rotateBytes: Bytes
      readonly keepFiles: number
      readonly configHash?: (() => string) | undefined
    },
  ) {
    this.#files = from.files
    this.#dir = dirname(from.files[0]?.path ?? '.')
    this.#fd = from.fd
    this.#size = from.size
    this.#head = from.head
    this.#io = io
    this.#rotateBytes = options.rotateBytes
    this.#keepFiles = options.keepFiles
    this.#config = options.configHash
    this.#full = from.size >= options.rotateBytes
    this.#fresh = from.size === 0
  }

  /** The newest record that is in the kernel. */
  get head(): Head {
    return this.#head
  }

  /** The seq of the oldest record that is kept. */
  get first(): number {
    return this.#files[0]?.first ?? 1
  }

  /** Writes the items from `start` that fit one chunk, and returns the index of the next one. */
  write(items: readonly Item[], start: number, time: string): number {
    this.#cutTail()
    if (this.#full || this.#distrust !== undefined) this.#rotate(time)
    const config = this.#config?.()
    let { head } = this
    let used = 0
    let next = start
    for (; next < items.length && used < chunkBytes; next += 1) {
      const item = items[next]
      if (item === undefined) break
      try {
        const linked = link(head, time, item.entry, config)
        const length = this.#buffer.write(linked.line, used)
        const isFirst = used === 0 && this.#fresh
        if (!isFirst && this.#size + used + length > this.#rotateBytes) {
          this.#commit(used, head)
          this.#full = true
          return next
        }
        head = linked.head
        used += length
      } catch (thrown) {
        if (!(thrown instanceof TypeError)) throw thrown
        item.unfit = thrown
      }
    }
    this.#commit(used, head)
    return next
  }

  #commit(length: number, head: Head): void {
    if (length === 0) return
    try {
      this.#put(this.#fd, length)
    } catch (thrown) {
      this.#dirtyTail = true
      this.#cutTail()
      throw thrown
    }
    this.#size += length
    this.#head = head
    this.#fresh = false
  }

  #put(fd: number, length: number): void {
    const taken = this.#io.write(fd, this.#buffer, length)
    if (taken !== length) {
      // The kernel takes part of a write when the disk is full in the middle of it.
      throw Object.assign(new Error('ENOSPC: no space left for the whole record'), {
        code: 'ENOSPC',
      })
    }
  }

  #cutTail(): void {
    if (!this.#dirtyTail) return
    this.#io.truncate(this.#fd, this.#size)
    this.#dirtyTail = false
  }

  /** Goes on in a new file, whose first record names the oldest seq that is kept from here on. */
  #rotate(time: string): void {
    const file = auditFile(this.#dir, this.#head.seq + 1)
    const last = this.#files.at(-1)
    const kept = [...this.#files, file].slice(-this.#keepFiles)
    const first = kept[0]?.first ?? file.first
    const entry =
      this.#distrust === undefined
        ? { event: 'audit.rotated', because: `continues ${last?.name ?? ''}` }
        : chainBroken(this.#distrust)
    const { line, head } = link(this.#head, time, { ...entry, first }, this.#config?.())
    fs.mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    const fd = this.#io.open(file.path, true)
    const length = this.#buffer.write(line)
    try {
      this.#put(fd, length)
    } catch (thrown) {
      this.#io.close(fd)
      fs.rmSync(file.path, { force: true })
      throw thrown
    }
    this.#retired.push(this.#fd)
    this.#files.push(file)
    this.#fd = fd
    this.#size = length
    this.#head = head
    this.#folderChanged = true
    this.#distrust = undefined
    this.#full = false
    this.#fresh = true
    this.#firstKept = first
  }

  /**
   * Brings everything written so far to the disk: full files, the folder, the present file. `done`
   * gets the first error, after which everything is tried again.
   */
  sync(done: (error: Error | null) => void): void {
    let folder: number | undefined
    try {
      if (this.#folderChanged) folder = openFolder(this.#dir)
    } catch (thrown) {
      const error = thrown instanceof Error ? thrown : new Error(String(thrown))
      setImmediate(() => done(error))
      return
    }
    this.#folderChanged = false
    const full = this.#retired
    this.#retired = []
    const firstKept = this.#firstKept
    const targets = [...full, ...(folder === undefined ? [] : [folder]), this.#fd]
    const step = (index: number): void => {
      const fd = targets[index]
      if (fd === undefined) {
        for (const old of full) this.#io.close(old)
        if (folder !== undefined) fs.closeSync(folder)
        this.#firstKeptSynced = firstKept
        done(null)
        return
      }
      this.#io.sync(fd, (error) => {
        if (error === null) return step(index + 1)
        this.#retired = [...full, ...this.#retired]
        this.#folderChanged = true
        if (folder !== undefined) fs.closeSync(folder)
        done(error)
      })
    }
    step(0)
  }

  /**
   * Whether the present file was removed or changed by another program: the next write begins a new
   * one.
   */
  changedByOthers(): boolean {
    if (this.#dirtyTail || this.#distrust !== undefined) return this.#distrust !== undefined
    const { links, size } = this.#io.look(this.#fd)
    const name = this.#files.at(-1)?.name ?? ''
    if (links === 0) this.#distrust = `${name} was removed while it was written`
    else if (size !== this.#size) this.#distrust = `${name} was changed by another program`
    return this.#distrust !== undefined
  }

  /**
   * Removes the files that a rotation on the disk no longer keeps, and says whether there were any.
   * What cannot be removed is left to the next rotation.
   */
  prune(): boolean {
    const gone = this.#files.filter(({ first }) => first < this.#firstKeptSynced)
    this.#firstKeptSynced = 0
    for (const file of gone) fs.rmSync(file.path, { force: true })
    this.#files = this.#files.slice(gone.length)
    return gone.length > 0
  }

  close(): void {
    for (const fd of [...this.#retired, this.#fd]) this.#io.close(fd)
  }
}

function openFolder(dir: string): number {
  return fs.openSync(dir, fs.constants.O_RDONLY | fs.constants.O_DIRECTORY)
}
