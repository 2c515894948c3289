/** The score: one number for people and for pipelines, by a formula that anyone can recompute. */
import { severities, type Check, type Severity } from './check.ts'

/** Points that a check with findings costs, once, however many it has. */
export const weights: Readonly<Record<Severity, number>> = {
  CRITICAL: 25,
  HIGH: 10,
  MEDIUM: 4,
  LOW: 1,
  INFO: 0,
}

/** The most that is left while a CRITICAL check has a finding: never a pass. */
export const criticalCap = 49

/** What a score must reach where nothing else is asked for. */
export const minScoreDefault = 85

/** A letter for a score. */
export type Grade = 'A' | 'B' | 'C' | 'D' | 'F'

/** What decides the cost of a check. */
type Counted = Pick<Check, 'severity' | 'unseen'>

/** Points that a check with findings costs: its weight, or the weight one step below where nothing wrong was seen. */
export function costOf({ severity, unseen = false }: Counted): number {
  const step = severities.indexOf(severity) + (unseen ? 1 : 0)
  return weights[severities[step] ?? 'INFO']
}

/** 100 less the costs of the checks with findings; at most 49 with a CRITICAL; never below 0. */
export function scoreOf(fired: readonly Counted[]): number {
  const lost = fired.reduce((sum, check) => sum + costOf(check), 0)
  const most = fired.some(({ severity }) => severity === 'CRITICAL') ? criticalCap : 100
  return Math.max(0, Math.min(100 - lost, most))
}

/** A from 95 where nothing HIGH is open, B from 85, C from 70, D from 50, F below. */
export function gradeOf(score: number, fired: readonly Counted[]): Grade {
  if (score >= 95 && !fired.some(({ severity }) => severity === 'HIGH')) return 'A'
  if (score >= 85) return 'B'
  if (score >= 70) return 'C'
  return score >= 50 ? 'D' : 'F'
}
