/** Processes of a benchmark run: each pinned to a core, each ended with the run. */
import { spawn, type ChildProcess } from 'node:child_process'
import { closeSync, openSync, readFileSync } from 'node:fs'
import { createServer, connect, type AddressInfo } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** What is measured runs here. */
export const proxyCore = 0
/** The load, the upstream and the harness itself run here. */
export const loadCore = 1

/** A process of ours. */
export interface Child {
  readonly name: string
  readonly pid: number
  readonly process: ChildProcess
  /** The end of what it wrote, for a message. */
  lastWords(): string
  /** Asks it to end, and kills it after 5 seconds. */
  stop(): Promise<void>
}

/** How to start a process. */
export interface Start {
  readonly name: string
  readonly argv: readonly string[]
  readonly core: number
  /** Where its output goes: `<name>.log` in this folder. */
  readonly folder: string
  readonly env?: Readonly<Record<string, string>>
  /** Opens a message channel (Node's own IPC). */
  readonly messages?: boolean
}

const running = new Set<Child>()

/** Starts a process on one core; `taskset` becomes the process, so the pid is that of the program. */
export function start({ name, argv, core, folder, env, messages }: Start): Child {
  const log = join(folder, `${name}.log`)
  const output = openSync(log, 'a', 0o600)
  const child = spawn('taskset', ['--cpu-list', String(core), ...argv], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', output, output, messages === true ? 'ipc' : 'ignore'],
  })
  closeSync(output)
  const gone = new Promise<void>((resolve) => {
    child.once('exit', () => resolve())
    child.once('error', () => resolve())
  })
  const started: Child = {
    name,
    pid: child.pid ?? 0,
    process: child,
    lastWords: () => readFileSync(log, 'utf8').trim().split('\n').slice(-3).join(' | '),
    stop: async () => {
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGTERM')
        const forced = setTimeout(() => child.kill('SIGKILL'), 5000)
        await gone
        clearTimeout(forced)
      }
      running.delete(started)
    },
  }
  running.add(started)
  return started
}

/** Ends everything that was started, newest first. */
export async function stopAll(): Promise<void> {
  for (const child of [...running].reverse()) await child.stop()
}

/** Kills everything at once, for a run that is being interrupted. */
export function killAll(): void {
  for (const child of running) child.process.kill('SIGKILL')
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}

/** Waits until something accepts on the port; throws with the process's last words when it ends before, or after 20 s. */
export async function listening(child: Child, port: number): Promise<void> {
  const deadline = performance.now() + 20_000
  while (performance.now() < deadline) {
    if (child.process.exitCode !== null || child.process.signalCode !== null) break
    if (await accepts(port)) return
    await sleep(20)
  }
  throw new Error(`${child.name} does not listen on ${port}: ${child.lastWords()}`)
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.once('error', () => resolve(false))
  })
}
