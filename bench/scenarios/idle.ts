/** Thousands of connections that say nothing: all stay open, all still answer, and what each costs in memory. */
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { loadCore, start, type Child } from '../lib/children.ts'
import type { HoldPlan, HoldReport } from '../lib/hold.ts'
import { load } from '../lib/load.ts'
import { cpuMicros, residentBytes } from '../lib/machine.ts'
import {
  node,
  root,
  smallPath,
  startHardshell,
  startHttpProxy3,
  startSink,
  startUpstream,
  type Listening,
  type Place,
} from '../lib/proxies.ts'
import { figure, type Effort, type Goal, type Section } from '../lib/section.ts'
import { spread } from '../lib/stats.ts'

type Kind = HoldPlan['kind']

/** Between the warm-up and the first look at the memory. */
const settleMs = 1000

/** What holding showed. */
interface Outcome {
  readonly way: string
  readonly kind: Kind
  readonly count: number
  readonly opened: number
  readonly alive: number
  readonly bytesEach: number
  readonly residentBytes: number
  /** Share of a core that idling took. */
  readonly idleCpu: number
}

/** Idle keep-alive connections, then idle WebSockets. */
export async function idle(place: Place, { smoke }: Effort): Promise<readonly Section[]> {
  const upstream = await startUpstream(place, 0)
  const sink = await startSink(place)
  const counts = smoke ? { http: 500, websocket: 250 } : { http: 10_000, websocket: 5000 }
  const holdSeconds = smoke ? 1 : 20
  const outcomes: Outcome[] = []
  for (const kind of ['http', 'websocket'] as const) {
    for (const [way, open] of [
      ['http-proxy-3', startHttpProxy3],
      ['Hardshell', startHardshell],
    ] as const) {
      // A fresh process for each, so that memory of the run before is not counted.
      const proxy = await open(place, kind === 'http' ? upstream.port : sink.port)
      outcomes.push(await holdOn(way, kind, counts[kind], holdSeconds, proxy, place))
      await proxy.child.stop()
    }
  }
  await sink.child.stop()
  await upstream.child.stop()
  return [section(outcomes, holdSeconds)]
}

async function holdOn(
  way: string,
  kind: Kind,
  count: number,
  holdSeconds: number,
  proxy: Listening,
  place: Place,
): Promise<Outcome> {
  const { pid } = proxy.child
  const { token, folder } = place
  const path = kind === 'http' ? smallPath : '/socket'
  // Warm code and a grown heap belong to the process, not to its connections.
  await load({
    port: proxy.port,
    path: smallPath,
    method: 'GET',
    token,
    connections: 8,
    seconds: 1,
    pid,
  })
  await sleep(settleMs)
  const before = residentBytes(pid)
  const plan: HoldPlan = { kind, port: proxy.port, count, path, token, perAddress: 2000 }
  const argv = [node, join(root, 'bench/lib/hold.ts'), JSON.stringify(plan)]
  const name = `hold-${kind}-${proxy.port}`
  const holder = start({ name, argv, core: loadCore, folder, messages: true })
  const opened = await reportOf(holder)
  const cpuBefore = cpuMicros(pid)
  await sleep(holdSeconds * 1000)
  const idleCpu = (cpuMicros(pid) - cpuBefore) / (holdSeconds * 1e6)
  const after = residentBytes(pid)
  holder.process.send({})
  const again = await reportOf(holder)
  await holder.stop()
  return {
    way,
    kind,
    count,
    opened: opened.answered,
    alive: again.closed === 0 ? again.answered : Math.min(again.answered, count - again.closed),
    bytesEach: (after - before) / count,
    residentBytes: after,
    idleCpu,
  }
}

function reportOf(holder: Child): Promise<HoldReport> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error(`${holder.name} ended: ${holder.lastWords()}`))
    holder.process.once('exit', gone)
    holder.process.once('message', (report) => {
      holder.process.off('exit', gone)
      resolve(report as HoldReport)
    })
  })
}

function section(outcomes: readonly Outcome[], holdSeconds: number): Section {
  const named = (way: string, kind: Kind) =>
    outcomes.find((one) => one.way === way && one.kind === kind)
  const goals: Goal[] = []
  const ratios: Record<string, ReturnType<typeof spread>> = {}
  for (const kind of ['http', 'websocket'] as const) {
    const one = named('Hardshell', kind)
    const rival = named('http-proxy-3', kind)
    if (one === undefined || rival === undefined) continue
    goals.push({
      name: `idle ${words[kind]}: open and answering after ${holdSeconds} s, of ${one.count}`,
      value: one.alive,
      bound: one.count,
      sense: 'at least',
    })
    ratios[`idle ${words[kind]}: memory over http-proxy-3`] = spread([
      one.bytesEach / rival.bytesEach,
    ])
  }
  return {
    name: 'idle',
    title: `Idle connections, held for ${holdSeconds} s and then used once more`,
    columns: [
      'way',
      'kind',
      'asked',
      'opened',
      'still answer',
      'KiB each',
      'RSS MiB',
      'idle CPU %',
    ],
    rows: outcomes.map((one) => [
      one.way,
      words[one.kind],
      String(one.count),
      String(one.opened),
      String(one.alive),
      figure(one.bytesEach / 1024, 1),
      figure(one.residentBytes / 1024 ** 2),
      figure(one.idleCpu * 100, 1),
    ]),
    goals,
    ratios,
    notes: [],
    broken: outcomes
      .filter((one) => one.alive < one.count)
      .map(
        (one) => `idle: ${one.way}: ${one.alive} of ${one.count} ${words[one.kind]} still answer`,
      ),
  }
}

const words: Readonly<Record<Kind, string>> = { http: 'connections', websocket: 'WebSockets' }
