/** Load from wrk, on loopback only, with the processor time of the process under load. */
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

import { loadCore } from './children.ts'
import { cpuMicros } from './machine.ts'

/** One run of load. */
export interface Load {
  readonly port: number
  readonly path: string
  readonly method: 'GET' | 'POST'
  readonly token: string | undefined
  readonly connections: number
  readonly seconds: number
  /** The process whose processor time is read; undefined for a direct connection. */
  readonly pid: number | undefined
  /** Refusals that are expected: all requests, or none. */
  readonly refused?: boolean
  /** Other requests than the usual ones: a script for wrk and what it is told. */
  readonly script?: { readonly file: string; readonly told: readonly string[] }
}

/** What one run showed. */
export interface Sample {
  readonly perSecond: number
  /** Processor time of the proxy for one request, µs; NaN for a direct connection. */
  readonly cpuMicros: number
  /** Share of the time in which the proxy was on a processor; well below 1 means that others held its core. */
  readonly utilisation: number
  /** µs. */
  readonly p50: number
  /** µs. */
  readonly p99: number
  readonly requests: number
  /** Requests that did not end as expected. */
  readonly bad: number
}

const script = fileURLToPath(new URL('wrk.lua', import.meta.url))

/** Runs wrk with one thread on the load core. Throws when wrk itself fails. */
export async function load(options: Load): Promise<Sample> {
  const { port, path, method, token, connections, pid } = options
  const length = `${Math.max(1, Math.round(options.seconds))}s`
  const before = pid === undefined ? Number.NaN : cpuMicros(pid)
  const from = performance.now()
  const text = await runWrk([
    ...['--threads', '1', '--connections', String(connections), '--duration', length],
    ...['--timeout', '10s', '--latency', '--script', options.script?.file ?? script],
    ...[`http://127.0.0.1:${port}${path}`, '--'],
    ...(options.script?.told ?? [method, token ?? '-']),
  ])
  const used = pid === undefined ? Number.NaN : cpuMicros(pid) - before
  const wallMicros = (performance.now() - from) * 1000
  const said = counted(text)
  return {
    perSecond: (said.requests / said.micros) * 1e6,
    cpuMicros: used / said.requests,
    utilisation: used / wallMicros,
    p50: said.p50,
    p99: said.p99,
    requests: said.requests,
    bad: said.broken + (options.refused === true ? said.requests - said.refused : said.refused),
  }
}

function runWrk(args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const wrk = spawn('taskset', ['--cpu-list', String(loadCore), 'wrk', ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let out = ''
    let complaint = ''
    wrk.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    wrk.stderr.setEncoding('utf8').on('data', (text: string) => (complaint += text))
    wrk.once('error', reject)
    wrk.once('close', (code) => {
      if (code === 0) resolve(out)
      else reject(new Error(`wrk ended with ${code}: ${complaint.trim()}`))
    })
  })
}

type Counted = Record<
  'requests' | 'micros' | 'bytes' | 'refused' | 'broken' | 'p50' | 'p99',
  number
>

function counted(text: string): Counted {
  const line = text.split('\n').find((one) => one.startsWith('{'))
  if (line === undefined) throw new Error(`wrk said nothing that can be read: ${text.trim()}`)
  return JSON.parse(line) as Counted
}
