/** A large upload and a large download: the bytes pass, the memory does not grow with them. */
import { spawn } from 'node:child_process'
import { truncateSync, writeFileSync } from 'node:fs'
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
  startUpstream,
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
  readonly growthBytes: number
  readonly cpuSeconds: number
  readonly fault: string | undefined
}

/** One stream each way through each proxy. */
export async function stream(place: Place, { smoke }: Effort): Promise<readonly Section[]> {
  const bytes = smoke ? 64 * 1024 ** 2 : 1024 ** 3
  const upstream = await startUpstream(place, bytes)
  const sink = await startSink(place)
  const file = join(place.folder, 'upload')
  writeFileSync(file, '')
  truncateSync(file, bytes)
  const passed: Passed[] = []
  for (const direction of ['download', 'upload'] as const) {
    for (const [way, open] of [
      ['http-proxy-3', startHttpProxy3],
      ['Hardshell', startHardshell],
    ] as const) {
      const proxy = await open(place, direction === 'download' ? upstream.port : sink.port)
      passed.push(await pass(way, direction, proxy, place, file, bytes))
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
  { child, port }: Listening,
  { token }: Place,
  file: string,
  bytes: number,
): Promise<Passed> {
  const { pid } = child
  // Code that is warm and a heap that has grown are there before any long stream in real life too.
  await load({ port, path: smallPath, method: 'GET', token, connections: 8, seconds: 1, pid })
  const before = residentBytes(pid)
  const cpuBefore = cpuMicros(pid)
  let peak = before
  const timer = setInterval(() => (peak = Math.max(peak, residentBytes(pid))), sampleMs)
  const download = direction === 'download'
  const from = performance.now()
  const said = await curl(
    [
      ...['--header', `Authorization: Bearer ${token}`, '--header', 'Expect:'],
      ...(download ? ['--output', '/dev/null'] : ['--upload-file', file, '--request', 'POST']),
      ...['--write-out', download ? '%{http_code} %{size_download}' : '\\n%{http_code}'],
    ],
    `http://127.0.0.1:${port}${download ? largePath : '/sink'}`,
  )
  const seconds = (performance.now() - from) / 1000
  clearInterval(timer)
  const right = download ? `200 ${bytes}` : `${bytes} 200`
  const shown = said.trim().split(/\s+/).join(' ')
  return {
    way,
    direction,
    seconds,
    growthBytes: Math.max(peak, residentBytes(pid)) - before,
    cpuSeconds: (cpuMicros(pid) - cpuBefore) / 1e6,
    fault: shown === right ? undefined : `${way}, ${direction}: "${shown.slice(0, 100)}"`,
  }
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
    columns: ['way', 'direction', 'MiB/s', 'CPU s', 'RSS growth MiB'],
    rows: passed.map((one) => [
      one.way,
      one.direction,
      figure(bytes / 1024 ** 2 / one.seconds),
      figure(one.cpuSeconds, 2),
      figure(one.growthBytes / 1024 ** 2, 1),
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
    notes: [],
    broken: passed.flatMap(({ fault }) => (fault === undefined ? [] : [`stream: ${fault}`])),
  }
}
