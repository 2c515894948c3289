/** A flood of wrong passwords beside the traffic of a token: what the owner feels of it, and what the audit log does. */
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { Agent, request } from 'node:http'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

import { hashPassword } from '../../src/identity/password.ts'
import { freePort, listening, proxyCore, start, type Child } from '../lib/children.ts'
import {
  hardshellHome,
  root,
  smallPath,
  startUpstream,
  type Listening,
  type Place,
} from '../lib/proxies.ts'
import { figure, type Effort, type Section } from '../lib/section.ts'
import { median, quantile, ratios, spread } from '../lib/stats.ts'

/** Requests of the token in a second: a busy owner, far from what a core can do. */
const steadyPerSecond = 500
/** Wrong passwords in a second, each on a connection that stays open. */
const floodPerSecond = 100
/** Both cores: argon2 has threads of its own, and they would never get more than a pinned process has. */
const cores = '0-1'

/** What one stretch of time showed. */
interface Stretch {
  /** ms, of the token's requests. */
  readonly p50: number
  readonly p99: number
  readonly bad: number
  /** ms, of each fdatasync of the audit log. */
  readonly syncs: readonly number[]
  readonly compared: number
  readonly busy: number
}

/** Stretches with and without the flood, in turn. */
export async function login(place: Place, effort: Effort): Promise<readonly Section[]> {
  const upstream = await startUpstream(place, 0)
  const syncs = join(place.folder, 'syncs.json')
  const hardshell = await startWithPassword(place, upstream.port, syncs)
  const ms = Math.max(effort.seconds, effort.smoke ? 1 : 5) * 1000
  const quiet: Stretch[] = []
  const flooded: Stretch[] = []
  await stretch(hardshell, place, syncs, 1000, true)
  for (let round = 0; round < effort.rounds; round += 1) {
    quiet.push(await stretch(hardshell, place, syncs, ms, false))
    flooded.push(await stretch(hardshell, place, syncs, ms, true))
  }
  await hardshell.child.stop()
  await upstream.child.stop()
  return [section(quiet, flooded, ms)]
}

async function startWithPassword(
  place: Place,
  upstream: number,
  syncs: string,
): Promise<Listening> {
  const port = await freePort()
  const { argv, env } = hardshellHome(place, port, upstream, {
    auth: { mode: 'password', passwordHash: await hashPassword('the password of the benchmark') },
    // The lockout would end the flood after five of them.
    rateLimiting: { authFailures: { attempts: 1000, window: '10s' } },
  })
  const child = start({
    name: `login-${port}`,
    argv: ['taskset', '--cpu-list', cores, ...argv],
    core: proxyCore,
    folder: place.folder,
    env: {
      ...env,
      BENCH_SYNCS: syncs,
      NODE_OPTIONS: `--import=${join(root, 'bench/lib/syncs.ts')}`,
    },
  })
  await listening(child, port)
  return { child, port }
}

async function stretch(
  { child, port }: Listening,
  { token }: Place,
  syncs: string,
  ms: number,
  flood: boolean,
): Promise<Stretch> {
  await takeSyncs(child, syncs)
  const agent = new Agent({ keepAlive: true, maxSockets: 64 })
  const took: number[] = []
  let bad = 0
  const steady = every(steadyPerSecond, ms, async () => {
    const from = performance.now()
    const status = await ask(port, agent, 'GET', smallPath, { Authorization: `Bearer ${token}` })
    if (status === 200) took.push(performance.now() - from)
    else bad += 1
  })
  const others = new Agent({ keepAlive: true, maxSockets: 64 })
  const statuses: number[] = []
  const body = JSON.stringify({ password: 'not the password at all' })
  const json = { 'Content-Type': 'application/json', 'Content-Length': String(body.length) }
  const wrong = every(flood ? floodPerSecond : 0, ms, async () => {
    statuses.push(await ask(port, others, 'POST', '/.hardshell/login', json, body))
  })
  await Promise.all([steady, wrong])
  agent.destroy()
  others.destroy()
  const count = (status: number) => statuses.filter((one) => one === status).length
  return {
    p50: median(took),
    p99: quantile(took, 0.99),
    bad,
    syncs: await takeSyncs(child, syncs),
    compared: count(401),
    busy: count(429),
  }
}

/** Begins `work` so many times a second for a while; resolves when the last one is done. */
async function every(perSecond: number, ms: number, work: () => Promise<void>): Promise<void> {
  const from = performance.now()
  const running: Promise<void>[] = []
  let begun = 0
  for (let now = from; now - from < ms; now = performance.now()) {
    for (; begun < ((now - from) * perSecond) / 1000; begun += 1) running.push(work())
    await sleep(1)
  }
  await Promise.all(running)
}

function ask(
  port: number,
  agent: Agent,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>>,
  body?: string,
): Promise<number> {
  return new Promise((resolve) => {
    const call = request({ host: '127.0.0.1', port, agent, method, path, headers }, (response) => {
      response.resume()
      response.on('end', () => resolve(response.statusCode ?? 0))
      response.on('error', () => resolve(0))
    })
    call.setTimeout(30_000, () => call.destroy())
    call.on('error', () => resolve(0))
    call.end(body)
  })
}

/** The syncs since the last time. */
async function takeSyncs(child: Child, path: string): Promise<readonly number[]> {
  rmSync(path, { force: true })
  process.kill(child.pid, 'SIGUSR2')
  for (let tries = 0; tries < 500; tries += 1) {
    if (existsSync(path)) return JSON.parse(readFileSync(path, 'utf8')) as number[]
    await sleep(10)
  }
  throw new Error(`${child.name} does not say how long its syncs took: ${child.lastWords()}`)
}

function section(quiet: readonly Stretch[], flooded: readonly Stretch[], ms: number): Section {
  const p50s = (all: readonly Stretch[]) => all.map(({ p50 }) => p50)
  const longest = (all: readonly Stretch[]) => Math.max(0, ...all.flatMap(({ syncs }) => syncs))
  // A disk has hiccups of its own: each stretch is held against the one just before it.
  const delays = flooded.map(
    (one, round) => longest([one]) - longest(quiet.slice(round, round + 1)),
  )
  const slower = spread(ratios(p50s(flooded), p50s(quiet)))
  const total = (all: readonly Stretch[], of: (one: Stretch) => number) =>
    all.reduce((sum, one) => sum + of(one), 0)
  const row = (name: string, all: readonly Stretch[]) => [
    name,
    figure(median(p50s(all)), 2),
    figure(median(all.map(({ p99 }) => p99)), 1),
    figure(median(all.flatMap(({ syncs }) => syncs)), 1),
    figure(longest(all), 1),
    String(total(all, ({ compared }) => compared)),
    String(total(all, ({ busy }) => busy)),
  ]
  const bad = total([...quiet, ...flooded], (one) => one.bad)
  return {
    name: 'login',
    title: `${steadyPerSecond} requests/s of a token, beside ${floodPerSecond} wrong passwords/s (${ms / 1000} s each, in turn)`,
    columns: [
      '',
      'p50 ms',
      'p99 ms',
      'sync p50 ms',
      'sync longest ms',
      'compared',
      'asked to wait',
    ],
    rows: [row('without the flood', quiet), row('with it', flooded)],
    goals: [
      {
        name: 'p50 of the token under the flood, over without (median of the rounds)',
        value: slower.median,
        bound: 2,
        sense: 'at most',
        unit: '×',
      },
      {
        name: 'longest audit sync under the flood, beyond the longest without (median of the rounds)',
        value: median(delays),
        bound: 50,
        sense: 'at most',
        unit: ' ms',
      },
    ],
    ratios: { 'login: p50 of a token under wrong passwords': slower },
    notes: ['the lockout is raised to 1,000 failures, else the flood would end after five'],
    broken: bad === 0 ? [] : [`login: ${bad} requests with a good token did not get their answer`],
  }
}
