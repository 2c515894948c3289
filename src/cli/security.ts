/** `hardshell security audit`: the posture of the installation, its score, and what mends it. */
import { randomBytes } from 'node:crypto'

import { Failure, messageOf } from '../errors.ts'
import type { Change } from '../posture/history.ts'
import type { Report } from '../posture/report.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { named, record } from './record.ts'

/** The commands about the posture. */
export const securityCommands: readonly Command[] = [
  {
    name: 'security audit',
    summary: 'Look for what is unsafe, with a score and the command that mends each finding.',
    options: {
      deep: {
        type: 'boolean',
        summary: 'Ask live too: refusals, Tailscale, and the cell from inside.',
      },
      fix: { type: 'boolean', summary: 'Mend what is safe to mend, after a copy.' },
      sarif: { type: 'boolean', summary: 'Print SARIF 2.1.0.' },
      'min-score': {
        type: 'string',
        value: 'N',
        summary: 'Exit with 1 below this score, 0 to 100 [85].',
      },
      since: {
        type: 'string',
        value: 'DATE',
        summary: 'Show what changed since the last audit before this day.',
      },
      config: {
        type: 'string',
        value: 'FILE',
        summary: 'The configuration file; else HARDSHELL_CONFIG, then the one in the home.',
      },
    },
    run: audit,
  },
]

async function audit(call: Call): Promise<ExitCode> {
  const { options, io, json } = call
  const least = await leastOf(options['min-score'])
  const since = sinceOf(options['since'])
  const [{ reportOf, textOf }, history] = await Promise.all([
    import('../posture/report.ts'),
    import('../posture/history.ts'),
  ])
  let context = await look(call)
  let report = reportOf(context)
  let fixed: Awaited<ReturnType<typeof fix>> | undefined
  if (options['fix'] === true) {
    fixed = await fix(call, context, report)
    if (fixed.plan.length > 0) {
      context = await look(call)
      report = reportOf(context)
    }
  }
  const past = since === undefined ? [] : readPast(call, () => history.readHistory(context.home))
  const change = since === undefined ? undefined : history.changeSince(past, report, since)
  // Where nothing is installed there is nothing to remember either.
  if (context.files.some(({ role }) => role === 'home')) {
    readPast(call, () => {
      history.remember(context.home, report)
      return []
    })
  }
  if (options['sarif'] === true) {
    const [{ sarifOf }, { version }] = await Promise.all([
      import('../posture/sarif.ts'),
      import('../version.ts'),
    ])
    io.out(JSON.stringify(sarifOf(report, version), undefined, 2))
  } else if (json) {
    io.out(JSON.stringify({ ...report, minScore: least, ...(change && { change }), ...fixed }))
  } else {
    io.out(textOf(report))
    if (since !== undefined) io.out(changeText(change))
  }
  return report.score >= least ? 0 : 1
}

const interrupts = ['SIGINT', 'SIGTERM'] as const

/** Looks at the installation. Who interrupts a deep look waits until what it started is gone; a second time, not. */
async function look(call: Call) {
  const { contextOf } = await import('./posture.ts')
  if (call.options['deep'] !== true) return contextOf(call, { deep: false, log: true })
  const stop = new AbortController()
  const interrupted = () => stop.abort(new Failure('INTERRUPTED', 'the audit was broken off'))
  for (const name of interrupts) process.once(name, interrupted)
  try {
    return await contextOf(call, { deep: true, log: true, signal: stop.signal })
  } finally {
    for (const name of interrupts) process.off(name, interrupted)
  }
}

async function leastOf(given: unknown): Promise<number> {
  const { minScoreDefault } = await import('../posture/score.ts')
  if (given === undefined) return minScoreDefault
  if (typeof given === 'string' && /^(?:100|\d{1,2})$/.test(given)) return Number(given)
  throw new Failure('BAD_USAGE', '--min-score takes a whole number from 0 to 100', { exitCode: 2 })
}

function sinceOf(given: unknown): number | undefined {
  if (given === undefined) return undefined
  const moment = typeof given === 'string' ? Date.parse(given) : Number.NaN
  if (!Number.isNaN(moment)) return moment
  throw new Failure('BAD_USAGE', '--since takes a day like "2026-11-21"', { exitCode: 2 })
}

/** A history that cannot be read or written is told, and is no reason to withhold the report. */
function readPast<T>({ io }: Call, use: () => readonly T[]): readonly T[] {
  try {
    return use()
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    io.err(`the history of audits cannot be used: ${messageOf(thrown)}`)
    return []
  }
}

async function fix(
  call: Call,
  context: Awaited<ReturnType<typeof import('./posture.ts').contextOf>>,
  report: Report,
) {
  const { io, json, options } = call
  const { planOf, applyPlan, stepLine } = await import('../posture/fix.ts')
  const plan = planOf(report, context, io.env)
  const quiet = json || options['sarif'] === true
  if (plan.length === 0) {
    if (!quiet) io.err('there is nothing that can be mended unasked')
    return { plan: [] }
  }
  if (!quiet) for (const step of plan) io.err(`mending: ${stepLine(step)}`)
  const make = () => randomBytes(32).toString('base64url')
  const steps = named(plan.map(stepLine))
  const { backup, token, keyMade } = await record(call, 'security audit --fix', steps, () => ({
    value: applyPlan(plan, context, io.env, make, randomBytes),
    about: steps,
  }))
  if (!quiet) {
    io.err(`what was there before is in ${backup}, files sealed`)
    if (keyMade !== undefined) {
      io.err(`made the key ${keyMade}: keep a copy with "hardshell secrets backup"`)
    }
    if (token !== undefined) {
      io.err('The new token, shown once; give it to your clients:')
      io.out(token)
    }
  } else if (options['sarif'] === true && token !== undefined) {
    io.err(token)
  }
  return {
    plan: plan.map(stepLine),
    backup,
    ...(token === undefined ? {} : { token }),
    ...(keyMade === undefined ? {} : { keyMade }),
  }
}

function changeText(change: Change | undefined): string {
  if (change === undefined) return 'there is no earlier audit to compare with'
  const { before, added, gone } = change
  return [
    `since ${before.time}: the score was ${before.score} (${before.grade})`,
    ...added.map((id) => `  new: ${id}`),
    ...gone.map((id) => `  gone: ${id}`),
  ].join('\n')
}
