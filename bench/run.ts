/** npm run bench: Hardshell beside its rivals, in one run. One table for people, one JSON for machines. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'

import { killAll, loadCore, stopAll } from './lib/children.ts'
import { descriptorLimit, loadAverage, machineWords } from './lib/machine.ts'
import { newToken, root, type Place } from './lib/proxies.ts'
import { met, type Effort, type Section } from './lib/section.ts'
import { baselinePath, compared, printed, type Baseline, type Report } from './lib/report.ts'
import { channels } from './scenarios/channels.ts'
import { cost } from './scenarios/cost.ts'
import { idle } from './scenarios/idle.ts'
import { login } from './scenarios/login.ts'
import { startup } from './scenarios/startup.ts'
import { stream } from './scenarios/stream.ts'
import { throughput } from './scenarios/throughput.ts'

const scenarios: Readonly<
  Record<string, (place: Place, effort: Effort) => Promise<readonly Section[]>>
> = { throughput, idle, stream, start: startup, cost, login, channels }

const usage = `npm run bench -- [--smoke] [--only NAME]… [--rounds N] [--seconds N] [--json] [--save-baseline]
  scenarios: ${Object.keys(scenarios).join(', ')}
  exits 1 when something is broken, or, without --smoke, when a goal is missed; 2 on bad usage`

/** A run that cannot begin; the message says what to do. */
class Unfit extends Error {}

function readArguments(): {
  names: readonly string[]
  effort: Effort
  json: boolean
  save: boolean
} {
  const { values } = parseArgs({
    options: {
      smoke: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      rounds: { type: 'string' },
      seconds: { type: 'string' },
      json: { type: 'boolean', default: false },
      'save-baseline': { type: 'boolean', default: false },
    },
  })
  const names = values.only ?? Object.keys(scenarios)
  const unknown = names.find((name) => !Object.hasOwn(scenarios, name))
  if (unknown !== undefined) throw new Unfit(`there is no scenario "${unknown}"`)
  const smoke = values.smoke
  const effort = {
    smoke,
    rounds: counted('--rounds', values.rounds, smoke ? 1 : 5),
    seconds: counted('--seconds', values.seconds, smoke ? 1 : 3),
  }
  return { names, effort, json: values.json, save: values['save-baseline'] }
}

function counted(name: string, text: string | undefined, fallback: number): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < 1 || value > 100) {
    throw new Unfit(`${name} takes a whole number from 1 to 100`)
  }
  return value
}

/** The tools and a fresh dist; both say themselves what is missing. */
function prepare(): void {
  const quiet: ['ignore', 2, 2] = ['ignore', 2, 2]
  const setup = spawnSync('sh', [join(root, 'deploy/setup.sh'), 'bench'], { stdio: quiet })
  if (setup.status !== 0) throw new Unfit('a tool of the benchmark is missing, see above')
  const build = spawnSync('npm', ['run', '--silent', 'build'], { cwd: root, stdio: quiet })
  if (build.status !== 0) throw new Unfit('"npm run build" failed, see above')
  if (descriptorLimit() < 16_384) {
    throw new Unfit(`${descriptorLimit()} descriptors are too few: run "ulimit -n 20000" first`)
  }
  try {
    execFileSync('taskset', ['--cpu-list', '--pid', String(loadCore), String(process.pid)])
  } catch (thrown) {
    throw new Unfit(`this machine has no second core for the load: ${String(thrown)}`)
  }
}

async function measure(names: readonly string[], effort: Effort): Promise<Report> {
  const from = performance.now()
  const loadBefore = loadAverage()
  const sections: Section[] = []
  for (const name of names) {
    const folder = mkdtempSync(join(tmpdir(), 'hardshell-bench-'))
    process.stderr.write(`bench: ${name} …\n`)
    try {
      const run = scenarios[name]
      if (run !== undefined) sections.push(...(await run({ folder, token: newToken() }, effort)))
    } finally {
      await stopAll()
      rmSync(folder, { recursive: true, force: true })
    }
  }
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: machineWords(),
    command: `npm run bench${process.argv.length > 2 ? ` -- ${process.argv.slice(2).join(' ')}` : ''}`,
    loadBefore,
    loadAfter: loadAverage(),
    seconds: Math.round((performance.now() - from) / 1000),
    effort,
    sections,
  }
}

function keep(report: Report, save: boolean): string {
  const folder = join(root, 'bench/results')
  mkdirSync(folder, { recursive: true })
  const path = join(folder, `${new Date().toISOString().replaceAll(':', '-')}.json`)
  writeFileSync(path, `${JSON.stringify(report, undefined, 2)}\n`)
  if (save) {
    const medians = report.sections.flatMap((section) =>
      Object.entries(section.ratios).map(
        ([name, one]) => [name, Number(one.median.toFixed(3))] as const,
      ),
    )
    const baseline: Record<string, number> = { ...readBaseline() }
    for (const [name, value] of medians) baseline[name] = value
    writeFileSync(baselinePath, `${JSON.stringify(baseline, undefined, 2)}\n`)
  }
  return path
}

function readBaseline(): Baseline {
  try {
    return JSON.parse(readFileSync(baselinePath, 'utf8')) as Baseline
  } catch {
    // Without a baseline nothing is compared.
    return {}
  }
}

async function main(): Promise<number> {
  const { names, effort, json, save } = readArguments()
  prepare()
  const baseline = readBaseline()
  const report = await measure(names, effort)
  const path = keep(report, save)
  if (json) process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`)
  else process.stdout.write(`${printed(report)}\n${compared(report, baseline)}\nJSON: ${path}\n`)
  const broken = report.sections.some((section) => section.broken.length > 0)
  const missed = report.sections.some((section) => section.goals.some((goal) => !met(goal)))
  return broken || (missed && !effort.smoke) ? 1 : 0
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    killAll()
    process.exit(130)
  })
}
try {
  process.exitCode = await main()
} catch (thrown) {
  await stopAll()
  const message = thrown instanceof Error ? thrown.message : String(thrown)
  const bad = thrown instanceof Unfit || (thrown instanceof TypeError && 'code' in thrown)
  process.stderr.write(`bench: ${message}\n${bad ? `${usage}\n` : ''}`)
  process.exitCode = bad ? 2 : 1
}
