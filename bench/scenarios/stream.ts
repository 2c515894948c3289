/** Large uploads and downloads, alone and four at once: the bytes pass, the memory does not grow with them. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'

import { loadCore } from '../lib/children.ts'
import { cpuMicros, forgetPeak, peakBytes, residentBytes } from '../lib/machine.ts'
import {
  largePath,
  quarterPath,
  smallPath,
  startHardshell,
  startHttpProxy3,
  startSink,
  sparse,
  startUpstream,
  type Listening,
  type Place,
} from '../lib/proxies.ts'
import { figure, range, type Effort, type Section } from '../lib/section.ts'
import { median, ratios, spread, type Spread } from '../lib/stats.ts'

const growthMaxBytes = 64 * 1024 ** 2
const bare = 'http-proxy-3'
const ours = 'Hardshell'
/** Each takes some seconds. */
const roundsMax = 3

/** A way for bytes to pass; together they are always as many. */
interface Kind {
  readonly name: string
  readonly direction: 'download' | 'upload'
  readonly atOnce: 1 | 4
}

const kinds: readonly Kind[] = [
  { name: 'download', direction: 'download', atOnce: 1 },
  { name: 'upload', direction: 'upload', atOnce: 1 },
  { name: '4 downloads at once', direction: 'download', atOnce: 4 },
  { name: '4 uploads at once', direction: 'upload', atOnce: 4 },
]

interface Passed {
  readonly way: string
  readonly kind: Kind
  readonly seconds: number
  /** Resident memory at its greatest over that after the first small request. */
  readonly growthBytes: number
  readonly cpuSeconds: number
  readonly fault: string | undefined
}

/** Every kind of stream through each proxy, each through a process that has carried one small request before. */
export async function stream(place: Place, { smoke, rounds }: Effort): Promise<readonly Section[]> {
  const bytes = smoke ? 64 * 1024 ** 2 : 1024 ** 3
  const upstream = await startUpstream(place, bytes)
  const sink = await startSink(place)
  sparse(join(place.folder, 'large'), bytes)
  sparse(join(place.folder, 'quarter'), bytes / 4)
  const passed: Passed[] = []
  for (let round = 0; round < Math.min(rounds, roundsMax); round += 1) {
    for (const kind of kinds) {
      for (const [way, open] of [
        [bare, startHttpProxy3],
        [ours, startHardshell],
      ] as const) {
        const proxy = await open(place, kind.direction === 'download' ? upstream.port : sink.port)
        passed.push(await pass(way, kind, proxy, place, bytes))
        await proxy.child.stop()
      }
    }
  }
  await sink.child.stop()
  await upstream.child.stop()
  return [section(passed, bytes)]
}

async function pass(
  way: string,
  kind: Kind,
  proxy: Listening,
  place: Place,
  bytes: number,
): Promise<Passed> {
  const { pid } = proxy.child
  await curl(authorized(place), `http://127.0.0.1:${proxy.port}${smallPath}`)
  const fresh = residentBytes(pid)
  forgetPeak(pid)
  const cpuBefore = cpuMicros(pid)
  const from = performance.now()
  const transfers = Array.from({ length: kind.atOnce }, () => transfer(kind, proxy, place))
  const said = await Promise.all(transfers)
  const seconds = (performance.now() - from) / 1000
  const wrong = said.filter((words) => words !== right(kind, bytes / kind.atOnce))
  return {
    way,
    kind,
    seconds,
    growthBytes: peakBytes(pid) - fresh,
    cpuSeconds: (cpuMicros(pid) - cpuBefore) / 1e6,
    fault: wrong.length === 0 ? undefined : `${way}, ${kind.name}: "${wrong.join('", "')}"`,
  }
}

/** What curl and the upstream say when every byte has passed. */
const right = ({ direction }: Kind, bytes: number): string =>
  direction === 'download' ? `200 ${bytes}` : `${bytes} 200`

const authorized = ({ token }: Place): readonly string[] => [
  ...['--header', `Authorization: Bearer ${token}`],
  ...['--header', 'Expect:'],
]

async function transfer(
  { direction, atOnce }: Kind,
  { port }: Listening,
  place: Place,
): Promise<string> {
  const download = direction === 'download'
  const file = join(place.folder, atOnce === 1 ? 'large' : 'quarter')
  const way = download
    ? ['--output', '/dev/null', '--write-out', '%{http_code} %{size_download}']
    : ['--upload-file', file, '--request', 'POST', '--write-out', '\\n%{http_code}']
  const path = download ? (atOnce === 1 ? largePath : quarterPath) : '/sink'
  const said = await curl([...authorized(place), ...way], `http://127.0.0.1:${port}${path}`)
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
  const values = (kind: Kind, way: string, of: (one: Passed) => number) =>
    passed.filter((one) => one.way === way && one.kind === kind).map(of)
  const cpu = (one: Passed) => one.cpuSeconds
  const mebibytes = (one: Passed) => one.growthBytes / 1024 ** 2
  const perSecond = (one: Passed) => bytes / 1024 ** 2 / one.seconds
  const over = (kind: Kind): Spread =>
    spread(ratios(values(kind, bare, cpu), values(kind, ours, cpu)))
  return {
    name: 'stream',
    title: `Streams of ${size} through a fresh process`,
    columns: ['way', 'stream', 'MiB/s', 'CPU s', 'most RSS growth MiB'],
    rows: kinds.flatMap((kind) =>
      [bare, ours].map((way) => [
        way,
        kind.name,
        figure(median(values(kind, way, perSecond))),
        figure(median(values(kind, way, cpu)), 2),
        figure(Math.max(...values(kind, way, mebibytes)), 1),
      ]),
    ),
    goals: kinds.map((kind) => ({
      name: `${kind.name}, ${size} in all: growth of resident memory`,
      value: Math.max(...values(kind, ours, mebibytes)),
      bound: growthMaxBytes / 1024 ** 2,
      sense: 'at most' as const,
      unit: ' MiB',
    })),
    ratios: Object.fromEntries(
      kinds.map((kind) => [`${kind.name}: CPU of http-proxy-3 over ours`, over(kind)]),
    ),
    notes: [
      `CPU, http-proxy-3 over Hardshell: ${kinds.map((kind) => `${kind.name} ${range(over(kind))}`).join(', ')}`,
      'each process has carried one small request before; the growth is that of the worst round, as the kernel saw it',
    ],
    broken: passed.flatMap(({ fault }) => (fault === undefined ? [] : [`stream: ${fault}`])),
  }
}
