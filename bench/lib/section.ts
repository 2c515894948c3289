/** What a scenario hands back, and how a goal is judged. */
import type { Spread } from './stats.ts'

/** A number that has to be reached. */
export interface Goal {
  readonly name: string
  readonly value: number
  readonly bound: number
  readonly sense: 'at least' | 'at most'
  readonly unit?: string
}

/** The result of one scenario. */
export interface Section {
  readonly name: string
  readonly title: string
  readonly columns: readonly string[]
  readonly rows: readonly (readonly string[])[]
  readonly goals: readonly Goal[]
  /** Ratios that the baseline keeps, by name. */
  readonly ratios: Readonly<Record<string, Spread>>
  readonly notes: readonly string[]
  /** What went wrong: an answer that was not expected, a connection that was lost. Empty when all is well. */
  readonly broken: readonly string[]
}

/** Whether a goal is reached; a value that could not be measured is not. */
export function met({ value, bound, sense }: Goal): boolean {
  return sense === 'at least' ? value >= bound : value <= bound
}

/** A number with a sensible count of digits, and "–" for none. */
export function figure(value: number, digits = 0): string {
  return Number.isFinite(value) ? value.toFixed(digits) : '–'
}

/** `1.62 (1.55–1.70)`: the median and the middle half. */
export function range({ median, low, high }: Spread, digits = 2): string {
  return `${figure(median, digits)} (${figure(low, digits)}–${figure(high, digits)})`
}

/** How much work a run is: `--smoke` only finds out whether anything is broken. */
export interface Effort {
  readonly smoke: boolean
  readonly rounds: number
  /** Seconds of load in one round. */
  readonly seconds: number
}
