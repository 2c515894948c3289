/** The few statistics of the benchmarks: a ratio is taken round by round, and its median is what counts. */

/** A median with the middle half of the values around it. */
export interface Spread {
  readonly median: number
  readonly low: number
  readonly high: number
}

/** The value below which the fraction `at` of the values lies, linearly between neighbours; NaN when there is none. */
export function quantile(values: readonly number[], at: number): number {
  const sorted = values.filter((value) => Number.isFinite(value)).sort((a, b) => a - b)
  const place = (sorted.length - 1) * at
  const below = sorted[Math.floor(place)] ?? Number.NaN
  const above = sorted[Math.ceil(place)] ?? Number.NaN
  return below + (above - below) * (place - Math.floor(place))
}

/** The middle value. */
export const median = (values: readonly number[]): number => quantile(values, 0.5)

/** Median and quartiles. */
export function spread(values: readonly number[]): Spread {
  return { median: median(values), low: quantile(values, 0.25), high: quantile(values, 0.75) }
}

/** `ours` over `theirs`, round by round: both lists are in the order of the rounds. */
export function ratios(ours: readonly number[], theirs: readonly number[]): number[] {
  return ours.map((value, round) => value / (theirs[round] ?? Number.NaN))
}
