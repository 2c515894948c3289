/** Small GET and POST under load, and added latency at concurrency 1: direct, two rivals and Hardshell in turn. */
import { load, type Load, type Sample } from '../lib/load.ts'
import {
  smallPath,
  startCaddy,
  startHardshell,
  startHttpProxy3,
  startUpstream,
  type Place,
} from '../lib/proxies.ts'
import { figure, range, type Effort, type Goal, type Section } from '../lib/section.ts'
import { median, ratios, spread, type Spread } from '../lib/stats.ts'

/** One way to the upstream. */
interface Way {
  readonly name: string
  readonly port: number
  readonly pid: number | undefined
}

/** The results of one kind of load: for each way its samples, round by round. */
type Rounds = ReadonlyMap<string, readonly Sample[]>

const direct = 'direct'
const bare = 'http-proxy-3, no checks'
const caddy = 'Caddy, checks'
const ours = 'Hardshell, all on'
/** Utilisation of the proxy's core below which a round was shared with others. */
const undisturbed = 0.9

/** Throughput and latency, from the same processes. */
export async function throughput(place: Place, effort: Effort): Promise<readonly Section[]> {
  const upstream = await startUpstream(place, 0)
  const started = [
    [bare, await startHttpProxy3(place, upstream.port)],
    [caddy, await startCaddy(place, upstream.port)],
    [ours, await startHardshell(place, upstream.port)],
  ] as const
  const ways: Way[] = [{ name: direct, port: upstream.port, pid: undefined }]
  for (const [name, { port, child }] of started) ways.push({ name, port, pid: child.pid })
  const sections: Section[] = []
  for (const method of ['GET', 'POST'] as const) {
    const rounds = await inTurn(ways, place, effort, { method, connections: 32 })
    sections.push(underLoad(method, rounds))
  }
  sections.push(alone(await inTurn(ways, place, effort, { method: 'GET', connections: 1 })))
  for (const [, { child }] of started) await child.stop()
  await upstream.child.stop()
  return sections
}

/** Warms each way up, then A B C D, B C D A, …, so that nobody always follows the same neighbour. */
async function inTurn(
  ways: readonly Way[],
  { token }: Place,
  { smoke, rounds, seconds }: Effort,
  { method, connections }: Pick<Load, 'method' | 'connections'>,
): Promise<Rounds> {
  const samples = new Map<string, Sample[]>()
  const plan = { path: smallPath, token, method, connections }
  if (!smoke) {
    for (const { port, pid } of ways) await load({ ...plan, port, pid, seconds: 2 })
  }
  for (let round = 0; round < rounds; round += 1) {
    for (let turn = 0; turn < ways.length; turn += 1) {
      const way = ways[(turn + round) % ways.length]
      if (way === undefined) continue
      const sample = await load({ ...plan, port: way.port, pid: way.pid, seconds })
      samples.set(way.name, [...(samples.get(way.name) ?? []), sample])
    }
  }
  return samples
}

const values = (rounds: Rounds, way: string, of: (sample: Sample) => number): number[] =>
  (rounds.get(way) ?? []).map(of)

const perSecond = (sample: Sample) => sample.perSecond
const cpu = (sample: Sample) => sample.cpuMicros
const p50 = (sample: Sample) => sample.p50

function brokenIn(title: string, rounds: Rounds): string[] {
  return [...rounds].flatMap(([way, samples]) => {
    const bad = samples.reduce((sum, sample) => sum + sample.bad, 0)
    const none = samples.some((sample) => sample.requests === 0)
    if (bad === 0 && !none) return []
    return [`${title}: ${way}: ${none ? 'a round without an answer' : `${bad} wrong answers`}`]
  })
}

function underLoad(method: 'GET' | 'POST', rounds: Rounds): Section {
  const title = `${method} ${method === 'GET' ? '→ 1 KiB' : '1 KiB → 1 KiB'}, keep-alive, 32 connections`
  const over = (way: string, rival: string) =>
    spread(ratios(values(rounds, way, perSecond), values(rounds, rival, perSecond)))
  const overCpu = (rival: string): Spread =>
    spread(ratios(values(rounds, rival, cpu), values(rounds, ours, cpu)))
  const rows = [...rounds.keys()].map((way) => [
    way,
    figure(median(values(rounds, way, perSecond))),
    range(over(way, bare)),
    figure(median(values(rounds, way, cpu)), 1),
    `${figure(median(values(rounds, way, p50)))} / ${figure(median(values(rounds, way, (one) => one.p99)))}`,
    figure(median(values(rounds, way, (one) => one.utilisation)), 2),
  ])
  const low = values(rounds, ours, (one) => one.utilisation).filter((one) => one < undisturbed)
  const goal = (name: string, rival: string, bound: number): Goal => ({
    name: `${method}: requests/s, Hardshell over ${name}`,
    value: over(ours, rival).median,
    bound,
    sense: 'at least',
    unit: '×',
  })
  const key = method.toLowerCase()
  return {
    name: key,
    title,
    columns: ['way', 'requests/s', '× http-proxy-3', 'CPU µs', 'p50 / p99 µs', 'core use'],
    rows,
    goals: [goal('http-proxy-3', bare, 1.5), goal('Caddy with checks', caddy, 1.3)],
    ratios: {
      [`${key}: requests/s over http-proxy-3`]: over(ours, bare),
      [`${key}: requests/s over Caddy with checks`]: over(ours, caddy),
      [`${key}: CPU of http-proxy-3 over ours`]: overCpu(bare),
      [`${key}: CPU of Caddy with checks over ours`]: overCpu(caddy),
    },
    notes: [
      `CPU per request, rival over Hardshell: http-proxy-3 ${range(overCpu(bare))}, Caddy ${range(overCpu(caddy))}`,
      ...(low.length === 0
        ? []
        : [`${low.length} rounds of Hardshell shared their core: trust CPU µs`]),
    ],
    broken: brokenIn(title, rounds),
  }
}

function alone(rounds: Rounds): Section {
  const title = 'One GET at a time: what the proxy adds'
  const added = (way: string) => {
    const base = values(rounds, direct, p50)
    return values(rounds, way, p50).map((value, round) => value - (base[round] ?? Number.NaN))
  }
  const oursOverBare = spread(ratios(added(ours), added(bare)))
  return {
    name: 'latency',
    title,
    columns: ['way', 'p50 µs', 'p99 µs', 'added p50 µs'],
    rows: [...rounds.keys()].map((way) => [
      way,
      figure(median(values(rounds, way, p50))),
      figure(median(values(rounds, way, (one) => one.p99))),
      way === direct ? '–' : range(spread(added(way)), 0),
    ]),
    goals: [
      {
        name: 'added p50 at concurrency 1, Hardshell over http-proxy-3',
        value: oursOverBare.median,
        bound: 1,
        sense: 'at most',
        unit: '×',
      },
    ],
    ratios: { 'latency: added p50 over that of http-proxy-3': oursOverBare },
    notes: [],
    broken: brokenIn(title, rounds),
  }
}
