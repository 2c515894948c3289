/** One writer per audit log. */
import { Failure, codeOf, messageOf } from '../errors.ts'

const { join } = process.getBuiltinModule('node:path')
const { DatabaseSync } = process.getBuiltinModule('node:sqlite')
const fs = process.getBuiltinModule('node:fs')

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
