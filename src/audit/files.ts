/** The files of the audit log: names, safe opening, reading from the end. */
import { Failure, codeOf, messageOf } from '../errors.ts'
import { ownUid } from '../files.ts'
import { KiB } from '../limits.ts'

const { join } = process.getBuiltinModule('node:path')
const fs = process.getBuiltinModule('node:fs')
const { DatabaseSync } = process.getBuiltinModule('node:sqlite')

/** The file operations of the write path; tests put failures in their place. */
export interface AuditFs {
  /** Opens for appending without following a link; `create` demands that the file is new. */
  open(path: string, create: boolean): number
  /** Returns how many bytes the kernel took. */
  write(fd: number, buffer: Buffer, length: number): number
  truncate(fd: number, size: number): void
  /** Calls `done` once the data of the file is on the disk, or with what went wrong. */
  sync(fd: number, done: (error: Error | null) => void): void
  /** Links and size, to notice a file that was removed or changed under us. */
  look(fd: number): { readonly links: number; readonly size: number }
  close(fd: number): void
}

const { O_RDONLY, O_RDWR, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = fs.constants

/** The real thing. */
export const auditFs: AuditFs = {
  open: (path, create) =>
    fs.openSync(path, O_RDWR | O_APPEND | O_NOFOLLOW | (create ? O_CREAT | O_EXCL : 0), 0o600),
  write: (fd, buffer, length) => fs.writeSync(fd, buffer, 0, length),
  truncate: (fd, size) => fs.ftruncateSync(fd, size),
  sync: (fd, done) => fs.fdatasync(fd, done),
  look: (fd) => {
    const { nlink, size } = fs.fstatSync(fd)
    return { links: nlink, size }
  },
  close: (fd) => fs.closeSync(fd),
}

/** One file of the log; its name carries the seq of its first record. */
export interface AuditFile {
  readonly name: string
  readonly path: string
  readonly first: number
}

/**
 * The file whose first record is `first`; 16 digits hold every safe integer, so names sort by seq.
 */
export function auditFile(dir: string, first: number): AuditFile {
  const name = `audit-${String(first).padStart(16, '0')}.jsonl`
  return { name, path: join(dir, name), first }
}

/** The files of the log, oldest first. Throws Failure when the folder cannot be read. */
export function listFiles(dir: string): AuditFile[] {
  let names: string[]
  try {
    names = fs.readdirSync(dir)
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') {
      throw new Failure(
        'AUDIT_MISSING',
        `there is no audit log in ${dir}: name its folder with --dir, or start the gateway once`,
        { cause: thrown },
      )
    }
    throw new Failure(
      'AUDIT_UNREADABLE',
      `the audit log ${dir} cannot be read: ${messageOf(thrown)}`,
      {
        cause: thrown,
      },
    )
  }
  const files: AuditFile[] = []
  for (const name of names) {
    const first = Number(/^audit-(\d{16})\.jsonl$/.exec(name)?.[1])
    if (Number.isSafeInteger(first) && first > 0) files.push(auditFile(dir, first))
  }
  return files.sort((a, b) => a.first - b.first)
}

/** Refuses a file of the log that is a link, someone else's, or linked twice; mends its mode. */
export function checkFile(fd: number, path: string): void {
  const stat = fs.fstatSync(fd)
  if (!stat.isFile()) throw notOurs(path, 'is not a regular file')
  if (stat.uid !== ownUid()) throw notOurs(path, 'belongs to another user')
  if (stat.nlink > 1) throw notOurs(path, 'has a second name (hard link)')
  if ((stat.mode & 0o077) !== 0) fs.fchmodSync(fd, 0o600)
}

/** The failure of a file operation as one line with its remedy. */
export function unwritable(path: string, thrown: unknown): Failure {
  return new Failure(
    'AUDIT_UNWRITABLE',
    `the audit log ${path} cannot be written (${reasonOf(thrown)}): ` +
      'free space on its disk or mend its mode',
    { cause: thrown },
  )
}

/** What the system said, without the call and the path: `ENOSPC: no space left on device`. */
export function reasonOf(thrown: unknown): string {
  return messageOf(thrown).split(', ')[0] ?? ''
}

function notOurs(path: string, what: string): Failure {
  return new Failure('AUDIT_NOT_OURS', `${path} ${what}: move it away or mend its owner`)
}

/** Opens a file of the log for reading without following a link. */
export function openToRead(path: string): number {
  return fs.openSync(path, O_RDONLY | O_NOFOLLOW)
}

/** A line found from the end of a file. */
export interface BackwardLine {
  readonly offset: number
  readonly line: Buffer
  /** A line end follows. Only the newest line of a file can lack it. */
  readonly ended: boolean
}

/**
 * The lines of the first `size` bytes of a file, last one first, in memory of one line and one
 * block.
 */
export function* linesBackward(fd: number, size: number): Generator<BackwardLine> {
  const block = KiB(64)
  let pieces: Buffer[] = []
  let position = size
  let ended = false
  let newest = true
  while (position > 0) {
    const length = Math.min(block, position)
    position -= length
    const bytes = Buffer.allocUnsafe(length)
    const read = fs.readSync(fd, bytes, 0, length, position)
    if (read < length) bytes.fill(0, read)
    let end = length
    for (
      let at = bytes.lastIndexOf(10);
      at >= 0;
      at = at === 0 ? -1 : bytes.lastIndexOf(10, at - 1)
    ) {
      pieces.unshift(bytes.subarray(at + 1, end))
      const line = Buffer.concat(pieces)
      if (!newest || line.length > 0) yield { offset: position + at + 1, line, ended }
      newest = false
      ended = true
      pieces = []
      end = at
    }
    pieces.unshift(bytes.subarray(0, end))
  }
  const line = Buffer.concat(pieces)
  if (size > 0 && (ended || line.length > 0)) yield { offset: 0, line, ended }
}

/** SQLite locks bytes from here on (its file format, "The Lock-Byte Page"). */
const lockByte = 0x4000_0000

/**
 * Takes the lock of the folder and returns the function that gives it back. Node has no flock; an
 * empty SQLite file held in an exclusive transaction is a POSIX lock that the kernel drops when the
 * process ends however it ends, that counts across containers which share the folder, and that
 * needs no disk space. Throws Failure, naming the process that holds the lock.
 */
export function lockFolder(dir: string): () => void {
  const path = join(dir, 'audit.lock')
  prepare(path)
  const database = new DatabaseSync(path)
  try {
    // No journal file: the transaction never writes, so that the lock needs no space.
    database.exec('PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE')
  } catch (thrown) {
    database.close()
    if (!messageOf(thrown).includes('locked')) {
      throw new Failure(
        'AUDIT_LOCK',
        `${path} cannot be locked (${messageOf(thrown)}): remove it`,
        {
          cause: thrown,
        },
      )
    }
    throw new Failure(
      'AUDIT_IN_USE',
      `the audit log in ${dir} is in use by ${holder(path)}: ` +
        'stop it, or set another HARDSHELL_HOME',
      { cause: thrown },
    )
  }
  return () => database.close()
}

/**
 * Makes the file with our mode. An existing one is never opened: closing it would drop this
 * process's locks.
 */
function prepare(path: string): void {
  try {
    fs.closeSync(fs.openSync(path, 'wx', 0o600))
  } catch (thrown) {
    if (codeOf(thrown) !== 'EEXIST') throw thrown
    if (!fs.lstatSync(path).isFile()) {
      throw new Failure('AUDIT_LOCK', `${path} is not a regular file: remove it`)
    }
  }
}

/** Who holds the lock, as far as /proc/locks tells it to this pid namespace. */
function holder(path: string): string {
  const inode = String(fs.lstatSync(path).ino)
  let table: string
  try {
    table = fs.readFileSync('/proc/locks', 'utf8')
  } catch (thrown) {
    return `another process (${codeOf(thrown)} for /proc/locks)`
  }
  for (const row of table.split('\n')) {
    // "1: POSIX  ADVISORY  WRITE 4711 08:01:131 1073741824 1073742335"
    const found = /\bPOSIX\b.*\bWRITE (\d+) \w+:\w+:(\d+) (\d+) /.exec(row)
    if (found?.[2] === inode && Number(found[3]) >= lockByte) {
      if (Number(found[1]) === process.pid) return `this process (pid ${process.pid})`
      if (Number(found[1]) > 0) return `process ${found[1]}`
    }
  }
  return 'another process, perhaps in another container'
}
