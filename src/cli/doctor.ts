/** `hardshell doctor`: what is wrong, on which hop, and the command that mends it. */
import { randomBytes } from 'node:crypto'
import { Failure } from '../errors.ts'
import type { Report } from '../posture/report.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { named, record } from './record.ts'

/** The command `doctor`. */
export const doctorCommands: readonly Command[] = [
  {
    name: 'doctor',
    summary: 'Show what is wrong on the way from client to agent, and the command that mends it.',
    options: {
      fix: { type: 'boolean', summary: 'Put file modes right and seal copies that show secrets.' },
      config: {
        type: 'string',
        value: 'FILE',
        summary: 'The configuration file; else HARDSHELL_CONFIG, then the one in the home.',
      },
    },
    run: doctor,
  },
]

/** Findings that keep people from working or let others in; the rest is for the security audit. */
const graveOf = ({ results }: Report) =>
  results.filter(
    ({ status, severity }) =>
      status === 'finding' && (severity === 'CRITICAL' || severity === 'HIGH'),
  )

async function doctor(call: Call): Promise<ExitCode> {
  const { io, json, options } = call
  const [{ contextOf }, { reportOf }, { hopsOf, hopLines }] = await Promise.all([
    import('./posture.ts'),
    import('../posture/report.ts'),
    import('../posture/hops.ts'),
  ])
  let context = await contextOf(call, { deep: false, log: false })
  const mended = options['fix'] === true ? await mend(call, context, reportOf(context)) : []
  if (mended.length > 0) context = await contextOf(call, { deep: false, log: false })
  const report = reportOf(context)
  const hops = hopsOf(context)
  const wrong = hops.filter(({ state }) => state === 'wrong')
  const grave = graveOf(report)
  if (json) {
    io.out(JSON.stringify({ ok: wrong.length === 0, hops, findings: grave, mended }))
    return wrong.length === 0 ? 0 : 1
  }
  for (const line of mended) io.out(`mended: ${line}`)
  for (const line of hopLines(hops)) io.out(line)
  for (const { severity, findings } of grave) {
    for (const { found, remedy } of findings) io.out(`${severity} ${found}\n  → ${remedy}`)
  }
  io.out(`posture: ${report.score} of 100 (${report.grade}); see "hardshell security audit"`)
  return wrong.length === 0 ? 0 : 1
}

async function mend(
  call: Call,
  context: Awaited<ReturnType<typeof import('./posture.ts').contextOf>>,
  report: Report,
): Promise<readonly string[]> {
  const { io } = call
  const { planOf, applyPlan, stepLine } = await import('../posture/fix.ts')
  const plan = planOf(report, context, io.env).filter(({ kind }) => kind !== 'token')
  if (plan.length === 0) return []
  const noToken = () => {
    throw new Failure('UNEXPECTED', 'doctor makes no token')
  }
  const steps = plan.map(stepLine)
  await record(call, 'doctor --fix', named(steps), () => {
    applyPlan(plan, context, io.env, noToken, randomBytes)
    return { value: undefined, about: named(steps) }
  })
  return steps
}
