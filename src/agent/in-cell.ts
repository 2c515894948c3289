/**
 * Tries the walls of a cell from inside, in a container made like it, and says what gave way. A program of its own that
 * imports nothing but Node, so that it can be copied into an image alone. It writes nothing that stays: a file that it
 * could make is removed at once, a file that it could open is not written to, and no packet leaves.
 */
import { spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import {
  chmodSync,
  closeSync,
  constants,
  copyFileSync,
  lstatSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  unlinkSync,
} from 'node:fs'
import { setTimeout as pause } from 'node:timers/promises'
import { parseArgs } from 'node:util'

/** What was found. Texts of the kernel are as it gave them. */
export interface InCellReport {
  /** /proc/self/status of the program itself. */
  readonly status: string
  /** /proc/net/dev. */
  readonly devices: string
  /** Files that could be opened for writing, and folders in which one could be made, outside of tmpfs. */
  readonly writable: readonly string[]
  /** Folders from which a file that was just written could be executed. */
  readonly executable: readonly string[]
  /** Addresses to which the kernel has a way. */
  readonly routes: readonly string[]
  /** Devices other than those that every container has. */
  readonly nodes: readonly string[]
  /** Sockets of container engines. */
  readonly sockets: readonly string[]
  /** System calls that were not refused. */
  readonly allowed: readonly string[]
  /** System calls that could not be tried. */
  readonly untried: readonly string[]
  /** What the limits of its control group say; undefined where it cannot see them. */
  readonly pidsMax?: string
  readonly memoryMax?: string
}

/** Begin of each line of the report. */
export const reportMark = 'hardshell-in-cell'
/** The engine cuts lines at 16 KiB and we at 4,096 characters. */
const chunkChars = 3000
/** No list is longer. */
const listMost = 64

const { O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_WRONLY } = constants

/** Whether something could be done; what it threw is the answer no. */
function can(what: () => void): boolean {
  try {
    what()
    return true
  } catch {
    return false
  }
}

/** A file that is not there or not for us is undefined. */
const read = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

const opened = (path: string) =>
  can(() => closeSync(openSync(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK)))

function madeIn(folder: string): boolean {
  const file = `${folder === '/' ? '' : folder}/.hardshell-probe-${process.pid}`
  if (!can(() => closeSync(openSync(file, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0o600)))) {
    return false
  }
  unlinkSync(file)
  return true
}

interface Mount {
  readonly target: string
  readonly type: string
}

function mounts(): readonly Mount[] {
  return (read('/proc/self/mountinfo') ?? '')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => {
      const [left = '', right = ''] = line.split(' - ')
      const target = (left.split(' ')[4] ?? '').replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
        String.fromCharCode(Number.parseInt(octal, 8)),
      )
      return { target, type: right.split(' ')[0] ?? '' }
    })
}

const systemFolders = [
  ...['/', '/bin', '/etc', '/home', '/lib', '/opt', '/root', '/run', '/sbin', '/srv', '/usr'],
  ...['/usr/bin', '/usr/lib', '/usr/local/bin', '/var', '/var/lib', '/hardshell'],
]
/** Files by which whoever can write them commands the kernel. */
const levers = [
  '/proc/sys/kernel/core_pattern',
  '/proc/sys/kernel/modprobe',
  '/proc/sys/net/ipv4/ip_forward',
  '/proc/sysrq-trigger',
  '/sys/kernel/uevent_helper',
  '/sys/fs/cgroup/release_agent',
  '/sys/fs/cgroup/memory/release_agent',
  '/sys/fs/cgroup/rdma/release_agent',
]
const kernelTypes = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue'])

/** Where something could be written, and which tmpfs there are. `skip`: folders that are not ours to try. */
function writing(skip: readonly string[]) {
  const skipped = (path: string) => skip.some((one) => path === one || path.startsWith(`${one}/`))
  const found = mounts()
  const tmpfs = found.filter(({ type }) => type === 'tmpfs').map(({ target }) => target)
  const onTmpfs = (path: string) =>
    tmpfs.some((one) => path === one || (one !== '/' && path.startsWith(`${one}/`)))
  const tried = found.filter(({ type }) => !kernelTypes.has(type) && type !== 'tmpfs')
  const targets = [...new Set([...tried.map(({ target }) => target), ...systemFolders])]
  const writable = targets
    .filter((path) => !skipped(path) && !onTmpfs(path))
    .filter((path) => {
      const stats = lstatSync(path, { throwIfNoEntry: false })
      if (stats?.isDirectory() === true) return madeIn(path)
      return stats?.isFile() === true && opened(path)
    })
  return {
    writable: [...writable, ...levers.filter((path) => !skipped(path) && opened(path))],
    scratch: tmpfs.filter((path) => !skipped(path) && madeIn(path)),
  }
}

/** Whether a program that was just written there runs. */
function executes(folder: string, program: string): boolean {
  const copy = `${folder}/.hardshell-run-${process.pid}`
  try {
    copyFileSync(program, copy, constants.COPYFILE_EXCL)
    chmodSync(copy, 0o755)
    return spawnSync(copy, { timeout: 2000 }).status === 0
  } catch {
    return false
  } finally {
    rmSync(copy, { force: true })
  }
}

/** A connected datagram socket asks the kernel for a way and sends nothing. */
async function hasRoute(address: string): Promise<boolean> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const { promise, resolve } = Promise.withResolvers<boolean>()
  socket.once('error', () => resolve(false))
  // On failure it is called too, with the error that its type does not name.
  socket.connect(9, address, (...failed: readonly unknown[]) => resolve(failed[0] === undefined))
  try {
    return await promise
  } finally {
    socket.close()
  }
}

const usualNodes = /^(?:null|zero|full|random|urandom|tty|console|ptmx|core|fd|std(?:in|out|err))$/

function strangeNodes(): readonly string[] {
  const found = (folder: string): readonly string[] =>
    namesIn(folder).flatMap((name) => {
      const path = `${folder}/${name}`
      const stats = lstatSync(path, { throwIfNoEntry: false })
      if (
        stats?.isDirectory() === true &&
        !['/dev/pts', '/dev/shm', '/dev/mqueue'].includes(path)
      ) {
        return found(path)
      }
      const node = stats?.isBlockDevice() === true || stats?.isCharacterDevice() === true
      return node && !(folder === '/dev' && usualNodes.test(name)) ? [path] : []
    })
  return found('/dev').filter((path) => !path.startsWith('/dev/pts/'))
}

const namesIn = (folder: string): readonly string[] => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

const engineSockets = [
  ...['/var/run/docker.sock', '/run/docker.sock', '/run/podman/podman.sock'],
  ...['/run/containerd/containerd.sock', '/run/crio/crio.sock', '/var/run/dockershim.sock'],
]

function sockets(): readonly string[] {
  const places = [...engineSockets, ...mounts().map(({ target }) => target)]
  return [...new Set(places)].filter(
    (path) => lstatSync(path, { throwIfNoEntry: false })?.isSocket() === true,
  )
}

/** Makes every call that must be refused; EPERM and ENOSYS are refusals, all else means that the kernel looked at it. */
function calls(folder: string, names: readonly string[]) {
  const tried = names.map((name) => ({
    name,
    status: spawnSync(`${folder}/${name}`, { timeout: 2000 }).status,
  }))
  return {
    allowed: tried
      .filter(({ status }) => status !== null && status !== 1 && status !== 38)
      .map(({ name }) => name),
    untried: tried.filter(({ status }) => status === null).map(({ name }) => name),
  }
}

const firstOf = (...paths: readonly string[]) =>
  paths.map((path) => read(path)?.trim()).find((text) => text !== undefined)

/** Tries everything. `probes` is the folder of the programs, `denied` the names of those whose call must be refused. */
export async function lookAround(options: {
  readonly skip: readonly string[]
  readonly probes: string
  readonly denied: readonly string[]
}): Promise<InCellReport> {
  const { writable, scratch } = writing(options.skip)
  const targets = ['192.0.2.1', '169.254.169.254', '2001:db8::1']
  const ways = await Promise.all(targets.map(hasRoute))
  const control = `${options.probes}/getpid`
  // A program that must run shows that those which fail were refused, and not just broken.
  const sound = spawnSync(control, { timeout: 2000 }).status === 0
  const { allowed, untried } = sound
    ? calls(options.probes, options.denied)
    : { allowed: [], untried: options.denied }
  const pidsMax = firstOf('/sys/fs/cgroup/pids.max', '/sys/fs/cgroup/pids/pids.max')
  const memoryMax = firstOf(
    '/sys/fs/cgroup/memory.max',
    '/sys/fs/cgroup/memory/memory.limit_in_bytes',
  )
  return {
    status: read('/proc/self/status') ?? '',
    devices: read('/proc/net/dev') ?? '',
    writable: writable.slice(0, listMost),
    executable: scratch.filter((folder) => executes(folder, control)).slice(0, listMost),
    routes: targets.filter((_, at) => ways[at] === true),
    nodes: strangeNodes().slice(0, listMost),
    sockets: sockets().slice(0, listMost),
    allowed,
    untried,
    ...(pidsMax === undefined ? {} : { pidsMax }),
    ...(memoryMax === undefined ? {} : { memoryMax }),
  }
}

/** Prints the report in lines that no log cuts, and stays until it is removed, at most `seconds`. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      skip: { type: 'string', multiple: true, default: [] },
      denied: { type: 'string', multiple: true, default: [] },
      probes: { type: 'string', default: '/hardshell/probe' },
      seconds: { type: 'string', default: '15' },
    },
  })
  // Whoever asked may be gone: the end is our own.
  const end = pause(Number(values.seconds) * 1000)
  const report = await lookAround(values)
  const text = Buffer.from(JSON.stringify(report)).toString('base64')
  const chunks = text.match(new RegExp(`.{1,${chunkChars}}`, 'g')) ?? []
  for (const [at, chunk] of chunks.entries()) {
    process.stdout.write(`${reportMark} ${at + 1}/${chunks.length} ${chunk}\n`)
  }
  await end
}

if (import.meta.main) await main()
