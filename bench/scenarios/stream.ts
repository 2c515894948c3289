/** A large upload and a large download: the bytes pass, the memory does not grow with them. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { loadCore } from '../lib/children.ts'
import { load } from '../lib/load.ts'
import { cpuMicros, residentBytes } from '../lib/machine.ts'
import {
  largePath,
  smallPath,
  startHardshell,
  startHttpProxy3,
  startSink,
  sparse,
  startUpstream,
  warmPath,
  type Listening,
  type Place,
} from '../lib/proxies.ts'
import { figure, type Effort, type Section } from '../lib/section.ts'
import { spread } from '../lib/stats.ts'

const growthMaxBytes = 64 * 1024 ** 2
const sampleMs = 20

interface Passed {
  readonly way: string
  readonly direction: 'download' | 'upload'
  readonly seconds: number
  /** Beyond what the first quarter needed. */
  readonly growthBytes: number
  /** From before the first byte of any stream. */
  readonly wholeGrowthBytes: number
  readonly cpuSeconds: number
  readonly fault: string | undefined
}

/** One stream each way through each proxy. */
export async function stream(place: Place, { smoke }: Effort): Promise<readonly Section[]> {
  const bytes = smoke ? 64 * 1024 ** 2 : 1024 ** 3
  const upstream = await startUpstream(place, bytes)
  const sink = await startSink(place)
  sparse(join(place.folder, 'large'), bytes)
  sparse(join(place.folder, 'warm'), bytes / 4)
  const passed: Passed[] = []
  for (const direction of ['download', 'upload'] as const) {
    for (const [way, open] of [
      ['http-proxy-3', startHttpProxy3],
      ['Hardshell', startHardshell],
    ] as const) {
      const proxy = await open(place, direction === 'download' ? upstream.port : sink.port)
      passed.push(await pass(way, direction, proxy, place, bytes))
      await proxy.child.stop()
    }
  }
  await sink.child.stop()
  await upstream.child.stop()
  return [section(passed, bytes)]
}

async function pass(
  way: string,
  direction: Passed['direction'],
  proxy: Listening,
  place: Place,
  bytes: number,
): Promise<Passed> {
  const { pid } = proxy.child
  const small = { path: smallPath, method: 'GET', token: place.token, connections: 8 } as const
  await load({ ...small, port: proxy.port, seconds: 1, pid })
  const fresh = residentBytes(pid)
  let peak = fresh
  const timer = setInterval(() => (peak = Math.max(peak, residentBytes(pid))), sampleMs)
  // The measured load is warmed up with its own kind, as everywhere here: what V8 lets lie before it collects is there
  // after the first quarter, and must not grow with what follows.
  const first = await transfer(direction, proxy, place, 'warm')
  const before = peak
  const cpuBefore = cpuMicros(pid)
  const from = performance.now()
  const said = await transfer(direction, proxy, place, 'large')
  const seconds = (performance.now() - from) / 1000
  clearInterval(timer)
  peak = Math.max(peak, residentBytes(pid))
  const wrong = [
    ...(first === right(direction, bytes / 4) ? [] : [first]),
    ...(said === right(direction, bytes) ? [] : [said]),
  ]
  return {
    way,
    direction,
    seconds,
    growthBytes: peak - before,
    wholeGrowthBytes: peak - fresh,
    cpuSeconds: (cpuMicros(pid) - cpuBefore) / 1e6,
    fault: wrong.length === 0 ? undefined : `${way}, ${direction}: "${wrong.join('", "')}"`,
  }
}

/** What curl and the upstream say when every byte has passed. */
const right = (direction: Passed['direction'], bytes: number): string =>
  direction === 'download' ? `200 ${bytes}` : `${bytes} 200`

async function transfer(
  direction: Passed['direction'],
  { port }: Listening,
  { token, folder }: Place,
  name: 'warm' | 'large',
): Promise<string> {
  const download = direction === 'download'
  const way = download
    ? ['--output', '/dev/null', '--write-out', '%{http_code} %{size_download}']
    : ['--upload-file', join(folder, name), '--request', 'POST', '--write-out', '\\n%{http_code}']
  const path = download ? (name === 'warm' ? warmPath : largePath) : '/sink'
  const headers = ['--header', `Authorization: Bearer ${token}`, '--header', 'Expect:']
  const said = await curl([...headers, ...way], `http://127.0.0.1:${port}${path}`)
  return said.trim().split(/\s+/).join(' ').slice(0, 100)
}

function curl(args: readonly string[], url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const all = [
      '--cpu-list',
      String(loadCore),
      'curl',
      '--silent',
      '--max-time',
      '300',
      ...args,
      url,
    ]
    const child = spawn('taskset', all, { stdio: ['ignore', 'pipe', 'ignore'] })
    let out = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.once('error', reject)
    child.once('close', (code) => resolve(code === 0 ? out : `${out} curl ended with ${code}`))
  })
}

function section(passed: readonly Passed[], bytes: number): Section {
  const size = `${bytes / 1024 ** 2} MiB`
  const ours = passed.filter((one) => one.way === 'Hardshell')
  const cpuOf = (direction: Passed['direction'], way: string) =>
    passed.find((one) => one.way === way && one.direction === direction)?.cpuSeconds ?? Number.NaN
  const over = (direction: Passed['direction']) =>
    spread([cpuOf(direction, 'http-proxy-3') / cpuOf(direction, 'Hardshell')])
  return {
    name: 'stream',
    title: `Streams of ${size}`,
    columns: ['way', 'direction', 'MiB/s', 'CPU s', 'RSS growth MiB', 'with the warm-up MiB'],
    rows: passed.map((one) => [
      one.way,
      one.direction,
      figure(bytes / 1024 ** 2 / one.seconds),
      figure(one.cpuSeconds, 2),
      figure(one.growthBytes / 1024 ** 2, 1),
      figure(one.wholeGrowthBytes / 1024 ** 2, 1),
    ]),
    goals: ours.map((one) => ({
      name: `${one.direction} of ${size}: growth of resident memory`,
      value: one.growthBytes / 1024 ** 2,
      bound: growthMaxBytes / 1024 ** 2,
      sense: 'at most' as const,
      unit: ' MiB',
    })),
    ratios: {
      'download: CPU of http-proxy-3 over ours': over('download'),
      'upload: CPU of http-proxy-3 over ours': over('upload'),
    },
    notes: [
      'before each, a quarter as much is streamed to warm up; V8 collects buffers outside its heap every 64 MiB',
    ],
    broken: passed.flatMap(({ fault }) => (fault === undefined ? [] : [`stream: ${fault}`])),
  }
}
