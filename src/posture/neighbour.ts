/** Who listens where `agent.upstream` points, as the kernel shows it: an agent that sees our files needs no way around us. */
import { lstatSync, readFileSync, readdirSync, readlinkSync, realpathSync, statSync } from 'node:fs'
import { basename, join } from 'node:path'
import { isLoopback } from '../config/rules.ts'
import { codeOf } from '../errors.ts'
import type { Measured, Neighbour } from './context.ts'
import { socketRows } from './probe.ts'

/** Programs that pass bytes on for the one that is meant: what they may read tells nothing of it. */
const forwarders = new Set([
  'docker-proxy',
  'rootlessport',
  'rootlesskit',
  'slirp4netns',
  'pasta',
  'passt',
  'socat',
  'ssh',
  'sshd',
  'kubectl',
])

/** Open files of one process that are looked through. */
const openMost = 4096

interface Listener {
  readonly inode: string
  /** The user that made the socket, where the kernel tells. */
  readonly uid?: number
}

/** What is gone, or not ours to see, by the time it is looked at. */
const hidden = new Set(['ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'ESRCH'])

function seen<T>(look: () => T): T | undefined {
  try {
    return look()
  } catch (thrown) {
    if (hidden.has(codeOf(thrown))) return undefined
    throw thrown
  }
}

/** Sockets that listen where an upstream points, or why they cannot be on this machine. */
function listenersAt(upstream: string): Measured<readonly Listener[]> {
  if (upstream.startsWith('unix:')) {
    const path = upstream.slice('unix:'.length)
    // proc_net_unix: number, reference count, protocol, flags (00010000: listens), type, state, inode, path.
    const rows = readFileSync('/proc/net/unix', 'utf8').split('\n').slice(1)
    return {
      value: rows.flatMap((row) => {
        const [, , , flags, , , inode = '', ...name] = row.trim().split(/\s+/)
        return flags === '00010000' && name.join(' ') === path ? [{ inode }] : []
      }),
    }
  }
  const url = URL.parse(upstream)
  const host = url?.hostname.replace(/^\[|\]$/g, '') ?? ''
  if (host !== 'localhost' && !isLoopback(host)) {
    return { unmeasured: 'agent.upstream is not on this machine' }
  }
  const port = Number(url?.port === '' ? 80 : url?.port)
  const tables = ['/proc/net/tcp', '/proc/net/tcp6'].map((path) => readFileSync(path, 'utf8'))
  return { value: tables.flatMap(socketRows).filter((row) => row.port === port) }
}

/** Processes of one user that hold one of these sockets. */
function holdersOf(inodes: ReadonlySet<string>, uid: number): readonly number[] {
  const names = readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  return names.filter((name) => holds(join('/proc', name), inodes, uid)).map(Number)
}

function holds(process: string, inodes: ReadonlySet<string>, uid: number): boolean {
  if (seen(() => lstatSync(process).uid) !== uid) return false
  const open = seen(() => readdirSync(join(process, 'fd'))) ?? []
  return open.slice(0, openMost).some((fd) => {
    const target = seen(() => readlinkSync(join(process, 'fd', fd))) ?? ''
    return inodes.has(/^socket:\[(\d+)\]$/.exec(target)?.[1] ?? '')
  })
}

/** Says whether a path is, for another process, the very same file or folder as for us (proc(5), `/proc/PID/root`). */
function sharesWith(pid: number, path: string): boolean {
  const ours = statSync(path)
  const theirs = seen(() => statSync(`/proc/${pid}/root${path}`))
  return theirs?.ino === ours.ino && theirs.dev === ours.dev
}

/**
 * The processes of our own user behind `agent.upstream` that see `home`, and so may read every key in it. An empty list:
 * none does. Reads /proc and nothing else; what it hides, such as the processes of others, is not measured.
 */
export function neighboursAt(
  upstream: string,
  home: string,
  uid: number,
): Measured<readonly Neighbour[]> {
  try {
    const listeners = listenersAt(upstream)
    if (!('value' in listeners)) return listeners
    if (listeners.value.length === 0) return { unmeasured: 'nothing listens on agent.upstream' }
    const holders = holdersOf(new Set(listeners.value.map(({ inode }) => inode)), uid)
    if (holders.length === 0) return unheld(listeners.value, uid)
    const named = holders.map((pid) => {
      // Its program, because a process gives itself the name in /proc/PID/comm; Node's says "MainThread".
      const name = basename(seen(() => readlinkSync(`/proc/${pid}/exe`)) ?? 'a process')
      return { pid, name }
    })
    const forwarder = named.find(({ name }) => forwarders.has(name))
    if (forwarder !== undefined) {
      return { unmeasured: `behind agent.upstream is ${forwarder.name}, not the agent itself` }
    }
    const path = realpathSync(home)
    return { value: named.filter(({ pid }) => sharesWith(pid, path)) }
  } catch (thrown) {
    if (codeOf(thrown) === '') throw thrown
    return { unmeasured: `the kernel does not tell who listens (${codeOf(thrown)})` }
  }
}

function unheld(listeners: readonly Listener[], uid: number): Measured<readonly Neighbour[]> {
  // Files of ours are closed to other users; only root needs no permission.
  const others = listeners.every((one) => one.uid !== undefined && one.uid !== uid && one.uid > 0)
  return others
    ? { value: [] }
    : { unmeasured: 'the process that listens on agent.upstream cannot be seen from here' }
}
