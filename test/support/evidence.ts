/**
 * Loaded before every test file by test/run.sh: keeps what Hardshell produces, so that the end of the run can search it.
 * Standing at the edges of the process it needs no help of the tests, so none can forget it: folders of `mkdtemp` are
 * put aside when they are removed, and what started programs write and what any socket of a client receives is copied.
 */
import programs from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { subscribe } from 'node:diagnostics_channel'
import fs, { appendFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import type { Socket } from 'node:net'
import { basename, join } from 'node:path'
import type { Readable } from 'node:stream'
import { evidence } from './secrets.ts'

const made = new Set<string>()
/** Tells the files of this process apart, also from an earlier one with the same number. */
const self = `${process.pid}-${randomUUID().slice(0, 8)}`
let count = 0

/** A path for one more piece of evidence, like `said/1234-5f0c1d2e-1-node`. */
function placeFor(root: string, folder: string, name: string): string {
  count += 1
  fs.mkdirSync(join(root, folder), { recursive: true })
  return join(root, folder, `${self}-${count}-${name}`)
}

/** Adds a line that was logged inside this process. */
export function keepLogged(line: string): void {
  if (evidence === undefined) return
  fs.mkdirSync(join(evidence, 'logged'), { recursive: true })
  appendFileSync(join(evidence, 'logged', self), `${line}\n`)
}

/** Adds what a command wrote, behind its arguments: nothing secret is ever one of those. */
export function keepSaid(name: string, args: readonly string[], text: string): void {
  if (evidence === undefined) return
  appendFileSync(placeFor(evidence, 'said', name), `${JSON.stringify(args)}\n${text}`)
}

/** Copies what a stream receives, before anybody reads it. */
function copyTo(file: () => string, stream: Readable): void {
  const push = stream.push.bind(stream)
  stream.push = (chunk: unknown, encoding?: BufferEncoding) => {
    if (chunk instanceof Uint8Array) appendFileSync(file(), chunk)
    return push(chunk, encoding)
  }
}

function copyPrograms(root: string): void {
  subscribe('child_process', (message) => {
    const { process: child } = message as { readonly process: ChildProcess }
    // The streams are made right after this.
    process.nextTick(() => {
      const file = placeFor(root, 'said', basename(child.spawnfile))
      appendFileSync(file, `${JSON.stringify(child.spawnargs)}\n`)
      for (const stream of [child.stdout, child.stderr]) {
        if (stream !== null) copyTo(() => file, stream)
      }
    })
  })
}

/** Ports of the services that a test stands in for: what they answer is not ours. */
const foreign = new Set<number>()

/** Names a server of a test that is no part of Hardshell and no agent, such as the API of a messaging service. */
export function notOurs(port: number): void {
  foreign.add(port)
}

function copyAnswers(root: string): void {
  subscribe('net.client.socket', (message) => {
    const { socket } = message as { readonly socket: Socket }
    const folder = () => (foreign.has(socket.remotePort ?? 0) ? 'foreign' : 'answers')
    let file: string | undefined
    copyTo(() => (file ??= placeFor(root, folder(), String(socket.remotePort ?? 'unix'))), socket)
  })
}

function copySyncPrograms(): void {
  const { spawnSync } = programs
  Object.assign(programs, {
    spawnSync: (...call: Parameters<typeof spawnSync>) => {
      const done = spawnSync(...call)
      const said = `${String(done.stdout)}${String(done.stderr)}`
      keepSaid(basename(call[0]), Array.isArray(call[1]) ? call[1] : [], said)
      return done
    },
  })
}

/** Sockets and pipes hold nothing. */
const isKept = (path: string): boolean => {
  const stats = fs.lstatSync(path)
  return stats.isFile() || stats.isDirectory() || stats.isSymbolicLink()
}

/** Copies a folder that the hooks do not see go: one that a program made, or a disk before it is unmounted. */
export function keepFolder(path: string): void {
  if (evidence === undefined) return
  const place = placeFor(evidence, 'folders', basename(path))
  fs.cpSync(path, place, { recursive: true, verbatimSymlinks: true, filter: isKept })
}

/** Puts a folder of `mkdtemp` aside that is about to be removed; false where it must be removed nevertheless. */
function putAside(root: string, path: string): boolean {
  if (!made.delete(path) || !fs.existsSync(path)) return false
  const place = placeFor(root, 'folders', basename(path))
  try {
    fs.renameSync(path, place)
    return true
  } catch (error) {
    // Another disk, or a mount inside.
    if (!(error instanceof Error)) throw error
    fs.cpSync(path, place, { recursive: true, verbatimSymlinks: true, filter: isKept })
    return false
  }
}

function keepFolders(root: string): void {
  const { mkdtempSync, rmSync } = fs
  const { mkdtemp, rm } = fs.promises
  const note = (path: string): string => {
    made.add(path)
    fs.mkdirSync(join(root, 'made'), { recursive: true })
    appendFileSync(join(root, 'made', self), `${path}\n`)
    return path
  }
  Object.assign(fs, {
    mkdtempSync: (prefix: string) => note(mkdtempSync(prefix)),
    rmSync: (path: fs.PathLike, options?: fs.RmOptions) => {
      if (!putAside(root, path.toString())) rmSync(path, options)
    },
  })
  Object.assign(fs.promises, {
    mkdtemp: async (prefix: string) => note(await mkdtemp(prefix)),
    rm: async (path: fs.PathLike, options?: fs.RmOptions) => {
      if (!putAside(root, path.toString())) await rm(path, options)
    },
  })
}

if (evidence !== undefined) {
  copyPrograms(evidence)
  copySyncPrograms()
  copyAnswers(evidence)
  keepFolders(evidence)
  syncBuiltinESMExports()
}
