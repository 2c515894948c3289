/**
 * Files on disk that hold or lead to secrets (DESIGN §7): opened without following links, checked on the opened
 * descriptor so that nothing can be swapped between check and use, and written atomically.
 */
import type { Stats } from 'node:fs'
import { Failure, codeOf, messageOf } from './errors.ts'

const {
  accessSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  lstatSync,
  mkdirSync,
  openSync,
  readSync,
  readlinkSync,
  realpathSync,
  renameSync,
  unlinkSync,
  writeSync,
} = process.getBuiltinModule('node:fs')
const { basename, dirname, join, resolve } = process.getBuiltinModule('node:path')

type Env = Readonly<Record<string, string | undefined>>

/** What can be wrong with a file. */
export type FileFault =
  | 'FILE_KIND'
  | 'FILE_LARGE'
  | 'FILE_LINK'
  | 'FILE_LINKS'
  | 'FILE_MISSING'
  | 'FILE_MODE'
  | 'FILE_MOVED'
  | 'FILE_OWNER'
  | 'FILE_READ'

/** A file may not be used. `message` is `what`, then the remedy with the exact command. */
export class FileFailure extends Failure {
  /** What is wrong, without the remedy: "/x/config.json5 has mode 644". */
  readonly what: string
  readonly remedy: string

  constructor(code: FileFault, what: string, remedy: string, cause?: unknown) {
    super(code, `${what}. ${remedy}`, { cause })
    this.name = 'FileFailure'
    this.what = what
    this.remedy = remedy
  }
}

/** How a file of ours is opened. */
export interface OwnRules {
  /** Our user id; what the process runs as, unless a test says otherwise. */
  readonly uid?: number
  /** Put wrong modes right where the file is ours (at start), instead of refusing them. */
  readonly mend?: boolean
  /** `private`: the folder must be ours with mode 0700. `safe`: no other user may write in it. */
  readonly parent?: 'private' | 'safe'
  /** Most bytes the file may have. */
  readonly maxBytes?: number
  /** The file may be a symbolic link, as `linkTarget` judges it; else a link is refused. */
  readonly follow?: boolean
}

/** What was read, and one sentence for each mode that was put right. */
export interface OwnFile {
  readonly text: string
  readonly mended: readonly string[]
  /** Where the file really is, when links led there. */
  readonly real?: string
}

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY, O_CREAT, O_EXCL, O_WRONLY } = constants
const fileBytesMax = 1024 * 1024
/** Most links between a name and its file; Linux itself stops at 40. */
const linksMost = 8
/** A folder that links lead through may be replaced as a whole while it is read (an atomic switch). */
const linkTries = 3

/** The user id that the process acts as; files of ours belong to it. */
export function ownUid(): number {
  return process.geteuid?.() ?? -1
}

/** A path as one word of a shell command, whatever characters it has. */
function quoted(path: string): string {
  return /^[\w./@:+,-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`
}

function octal(stats: Stats): string {
  return (stats.mode & 0o7777).toString(8).padStart(3, '0')
}

function failureOf(path: string, thrown: unknown): FileFailure {
  switch (codeOf(thrown)) {
    case 'ENOENT':
      return new FileFailure('FILE_MISSING', `${path} does not exist`, 'Create it or name another.')
    case 'ELOOP':
      return new FileFailure(
        'FILE_LINK',
        `${path} is a symbolic link`,
        `Run: cp --remove-destination "$(readlink -f ${quoted(path)})" ${quoted(path)}`,
      )
    case 'ENOTDIR':
      return new FileFailure(
        'FILE_KIND',
        `the folder of ${path} is not a folder, or is a symbolic link`,
        'Use the real path of the folder.',
      )
    case 'ENXIO':
      return new FileFailure('FILE_KIND', `${path} is not a regular file`, 'Name a regular file.')
    case 'EACCES':
    case 'EPERM':
      return new FileFailure(
        'FILE_OWNER',
        `${path} may not be opened by user ${ownUid()}`,
        `Run: chown ${ownUid()} ${quoted(path)} && chmod 600 ${quoted(path)}`,
        thrown,
      )
    default:
      return new FileFailure(
        'FILE_READ',
        `${path} cannot be opened: ${messageOf(thrown)}`,
        'Mend what the message names.',
        thrown,
      )
  }
}

function withOpen<T>(path: string, shown: string, flags: number, use: (fd: number) => T): T {
  let fd: number
  try {
    fd = openSync(path, flags)
  } catch (error) {
    throw failureOf(shown, error)
  }
  try {
    return use(fd)
  } finally {
    closeSync(fd)
  }
}

/** Says whether an opened file lies on a read-only file system. */
function isReadOnly(fd: number): boolean {
  try {
    accessSync(`/proc/self/fd/${fd}`, constants.W_OK)
    return false
  } catch (error) {
    return codeOf(error) === 'EROFS'
  }
}

function checkMode(
  fd: number,
  path: string,
  stats: Stats,
  wanted: 0o600 | 0o700,
  mend: boolean,
): readonly string[] {
  if ((stats.mode & 0o077) === 0) return []
  // A read-only mount stays as it is; readable to others is all that can be tolerated there.
  if ((stats.mode & 0o022) === 0 && isReadOnly(fd)) {
    return [`${path} has mode ${octal(stats)} on a read-only file system and stays as it is`]
  }
  const refusal = new FileFailure(
    'FILE_MODE',
    `${path} has mode ${octal(stats)}, so other users can reach it`,
    `Run: chmod ${wanted.toString(8)} ${quoted(path)}`,
  )
  if (!mend) throw refusal
  try {
    fchmodSync(fd, wanted)
  } catch (error) {
    throw codeOf(error) === 'EROFS' ? refusal : failureOf(path, error)
  }
  return [`${path} had mode ${octal(stats)} and now has ${wanted.toString(8)}`]
}

function checkOwner(path: string, stats: Stats, uid: number): void {
  if (stats.uid === uid) return
  throw new FileFailure(
    'FILE_OWNER',
    `${path} belongs to user ${stats.uid}, not to user ${uid}`,
    `Run: chown ${uid} ${quoted(path)}`,
  )
}

function checkParent(fd: number, path: string, rules: OwnRules, uid: number): readonly string[] {
  const stats = fstatSync(fd)
  if (rules.parent !== 'safe') {
    checkOwner(path, stats, uid)
    return checkMode(fd, path, stats, 0o700, rules.mend === true)
  }
  checkSafe(path, stats, uid)
  return []
}

function checkSafe(path: string, stats: Stats, uid: number): void {
  if (stats.uid !== uid && stats.uid !== 0) checkOwner(path, stats, uid)
  // With the sticky bit others may add names but not replace ours.
  if ((stats.mode & 0o022) !== 0 && (stats.mode & 0o1000) === 0) {
    throw new FileFailure(
      'FILE_MODE',
      `${path} has mode ${octal(stats)}, so other users can replace files in it`,
      `Run: chmod go-w ${quoted(path)}`,
    )
  }
}

function readAll(fd: number, path: string, maxBytes: number): string {
  // One byte more than allowed is asked for, so that a file that grows after fstat is caught too.
  const buffer = Buffer.alloc(Math.min(fstatSync(fd).size, maxBytes) + 1)
  let filled = 0
  while (filled < buffer.length) {
    const bytes = readSync(fd, buffer, filled, buffer.length - filled, null)
    if (bytes === 0) break
    filled += bytes
  }
  if (filled === buffer.length) {
    throw new FileFailure(
      'FILE_LARGE',
      `${path} has more than ${maxBytes} bytes, or grew while it was read`,
      'Name the right file.',
    )
  }
  return buffer.toString('utf8', 0, filled)
}

function checkKind(path: string, stats: Stats): void {
  if (stats.isFile()) return
  throw new FileFailure('FILE_KIND', `${path} is not a regular file`, 'Name a regular file.')
}

/**
 * Reads a file of ours: a regular file with one name, our uid, no group or world bits, in a folder of ours.
 * Neither the file nor its folder may be a symbolic link. Throws FileFailure.
 */
export function readOwn(path: string, rules: Omit<OwnRules, 'follow'> = {}): OwnFile {
  return readPlain(resolve(path), rules)
}

/** Reads a file of ours; with `real`, only if its folder is where links were seen to lead. */
function readPlain(full: string, rules: OwnRules, real?: string): OwnFile {
  const uid = rules.uid ?? ownUid()
  const folder = dirname(full)
  return withOpen(folder, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, (folderFd) => {
    // The kernel's word for what was opened, whatever stands above the folder by now.
    if (real !== undefined && readlinkSync(`/proc/self/fd/${folderFd}`) !== folder) {
      throw new FileFailure('FILE_MOVED', `${folder} was replaced while it was read`, 'Try again.')
    }
    const mendedFolder = checkParent(folderFd, folder, rules, uid)
    // Through the opened folder, so that a swapped folder cannot lead elsewhere (openat).
    const inside = `/proc/self/fd/${folderFd}/${basename(full)}`
    return withOpen(inside, full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, (fd) => {
      const stats = fstatSync(fd)
      checkKind(full, stats)
      checkOwner(full, stats, uid)
      if (stats.nlink !== 1) {
        throw new FileFailure(
          'FILE_LINKS',
          `${full} has ${stats.nlink} names (hard links)`,
          `Find them with: find / -xdev -samefile ${quoted(full)}`,
        )
      }
      const mended = checkMode(fd, full, stats, 0o600, rules.mend === true)
      const text = readAll(fd, full, rules.maxBytes ?? fileBytesMax)
      return { text, mended: [...mendedFolder, ...mended] }
    })
  })
}

/** The folder that the platform mounts secrets in and that holds `path`, if there is one. */
export function platformMount(
  path: string,
  env: Env,
  named: readonly string[] = ['/run/secrets', '/var/run/secrets'],
): string | undefined {
  const full = resolve(path)
  const credentials = env['CREDENTIALS_DIRECTORY'] ?? ''
  const mounts = credentials.startsWith('/') ? [...named, resolve(credentials)] : named
  const mount = mounts.find((folder) => full.startsWith(`${folder}/`))
  if (mount !== undefined) return mount
  return isKubernetesVolume(dirname(full)) ? dirname(full) : undefined
}

/** A Kubernetes secret volume switches versions through the link `..data` → `..2026_11_21_…`. */
function isKubernetesVolume(folder: string): boolean {
  try {
    const stats = lstatSync(join(folder, '..data'))
    const trusted = stats.uid === 0 || stats.uid === ownUid()
    return trusted && stats.isSymbolicLink() && /^\.\.\d/.test(readlinkSync(join(folder, '..data')))
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'EINVAL'].includes(codeOf(error))) return false
    throw failureOf(folder, error)
  }
}

/**
 * Reads a file that the platform mounted: owner root or us, not writable by group or world, and no link that
 * leaves the mount. Never mended. Throws FileFailure.
 */
export function readMounted(
  path: string,
  mount: string,
  rules: Pick<OwnRules, 'uid' | 'maxBytes'> = {},
): string {
  const full = resolve(path)
  const uid = rules.uid ?? ownUid()
  return withOpen(full, full, O_RDONLY | O_NONBLOCK, (fd) => {
    // Where the descriptor really is, whatever the links say by now.
    const real = readlinkSync(`/proc/self/fd/${fd}`)
    if (!real.startsWith(`${realpathSync(mount)}/`)) {
      throw new FileFailure(
        'FILE_LINK',
        `${full} is a link that leaves ${mount}`,
        'Mount the file itself.',
      )
    }
    const stats = fstatSync(fd)
    checkKind(full, stats)
    if (stats.uid !== 0) checkOwner(full, stats, uid)
    if ((stats.mode & 0o022) !== 0) {
      throw new FileFailure(
        'FILE_MODE',
        `${full} has mode ${octal(stats)}, so other users can change it`,
        'Mount it without write permission for group and others (mode 0400).',
      )
    }
    return readAll(fd, full, rules.maxBytes ?? fileBytesMax)
  })
}

/**
 * Where a path leads when its symbolic links are followed, each once (CWE-59). Links must be ours or root's, and no other
 * user may be able to replace anything on the way. It ends at a platform's mount, whose own rules hold inside of it.
 * Throws FileFailure.
 */
export function linkTarget(path: string, env: Env, uid: number = ownUid()): string {
  const namesIn = (text: string) => text.split('/').filter((name) => !['', '.'].includes(name))
  let folder = '/'
  let left = namesIn(resolve(path))
  for (let links = 0; left.length > 0;) {
    const [name = '', ...rest] = left
    const at = join(folder, name)
    try {
      const stats = lstatSync(at)
      left = rest
      if (!stats.isSymbolicLink()) {
        if (stats.isDirectory()) checkSafe(at, stats, uid)
        folder = at
        continue
      }
      links += 1
      checkLink(at, stats, uid, links)
      const target = readlinkSync(at)
      if (target.startsWith('/')) folder = '/'
      left = [...namesIn(target), ...rest]
      const leads = join(folder, ...left)
      if (platformMount(leads, env) !== undefined) return leads
    } catch (error) {
      if (error instanceof FileFailure) throw error
      if (links === 0 || codeOf(error) !== 'ENOENT') throw failureOf(path, error)
      const what = `${path} leads to ${at}, which does not exist`
      throw new FileFailure('FILE_MISSING', what, 'Create it or name another.')
    }
  }
  return folder
}

function checkLink(path: string, { uid: owner }: Stats, uid: number, links: number): void {
  const what =
    links > linksMost
      ? `${path} is one of more than ${linksMost} symbolic links in a row`
      : `${path} is a symbolic link of user ${owner}, not of user ${uid}`
  if (links <= linksMost && (owner === uid || owner === 0)) return
  throw new FileFailure('FILE_LINK', what, 'Name the file itself.')
}

function readLinked(path: string, env: Env, rules: OwnRules): OwnFile {
  const full = resolve(path)
  const folder = dirname(full)
  const { uid = ownUid() } = rules
  for (let tries = 1; ; tries += 1) {
    try {
      const real = linkTarget(full, env, uid)
      if (real === full) return readOwn(full, rules)
      // A folder of the home holds what we write ourselves too: no link leads there.
      const mended =
        rules.parent === 'safe'
          ? []
          : withOpen(folder, folder, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, (fd) =>
              checkParent(fd, folder, rules, uid),
            )
      const mount = platformMount(real, env)
      // What a link leads to has a place of its own, and is never mended there.
      const { text } =
        mount === undefined
          ? readPlain(real, { ...rules, parent: 'safe', mend: false }, real)
          : { text: readMounted(real, mount, rules) }
      return { text, mended, real }
    } catch (error) {
      const switched = ['FILE_MISSING', 'FILE_MOVED'].includes(codeOf(error))
      if (!switched || tries === linkTries) throw error
    }
  }
}

/** Reads a file by the rule of the place where it is: a platform mount, or ours. Throws FileFailure. */
export function readTrusted(path: string, env: Env, rules: OwnRules = {}): OwnFile {
  const mount = platformMount(path, env)
  if (mount !== undefined) return { text: readMounted(path, mount, rules), mended: [] }
  return rules.follow === true ? readLinked(path, env, rules) : readOwn(path, rules)
}

/**
 * Makes sure that a folder of ours exists with mode 0700; creates missing parents the same way.
 * Returns one sentence for each mode that was put right. Throws FileFailure.
 */
export function ensureDir(
  path: string,
  { uid = ownUid(), mend = true }: Pick<OwnRules, 'uid' | 'mend'> = {},
): readonly string[] {
  const full = resolve(path)
  try {
    mkdirSync(full, { recursive: true, mode: 0o700 })
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') {
      throw new FileFailure(
        'FILE_READ',
        `${full} cannot be created: ${messageOf(error)}`,
        `Create it: install -d -m 700 ${quoted(full)}`,
        error,
      )
    }
  }
  return withOpen(full, full, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, (fd) => {
    const stats = fstatSync(fd)
    checkOwner(full, stats, uid)
    return checkMode(fd, full, stats, 0o700, mend)
  })
}

/** A new file beside the one to write. A program in a container often has the number of the one that was killed in a write. */
function openPart(part: string): number {
  const left = lstatSync(part, { throwIfNoEntry: false })
  if (left?.isFile() === true && left.mtimeMs < performance.timeOrigin) unlinkSync(part)
  return openSync(part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600)
}

/**
 * Writes a file so that a reader sees the old content or the new, whole: a new file beside it with mode 0600,
 * synced, renamed over, and the folder synced. Throws FileFailure; then the old content is untouched.
 */
export function writeAtomic(path: string, data: string | Uint8Array): void {
  const full = resolve(path)
  const folder = dirname(full)
  const part = `${full}.${process.pid}.part`
  const bytes = typeof data === 'string' ? Buffer.from(data) : data
  let made = false
  try {
    const fd = openPart(part)
    made = true
    try {
      for (let done = 0; done < bytes.length;) done += writeSync(fd, bytes, done)
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
    renameSync(part, full)
    made = false
    withOpen(folder, folder, O_RDONLY | O_DIRECTORY, (dir) => fsyncSync(dir))
  } catch (error) {
    if (made) unlinkSync(part)
    if (error instanceof FileFailure) throw error
    const leftOver = codeOf(error) === 'EEXIST'
    throw new FileFailure(
      'FILE_READ',
      `${full} cannot be written: ${messageOf(error)}`,
      leftOver ? `Remove the left-over: rm ${quoted(part)}` : 'Mend what the message names.',
      error,
    )
  }
}

/** Makes a rename in the folder of a path last through a power cut. Throws FileFailure. */
export function syncFolder(path: string): void {
  const folder = dirname(resolve(path))
  withOpen(folder, folder, O_RDONLY | O_DIRECTORY, (dir) => fsyncSync(dir))
}
