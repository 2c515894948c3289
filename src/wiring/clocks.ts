/** The clocks of the process: the wall for records and expiry, a monotonic one for windows and time-outs. */
export const clocks = { now: (): number => Date.now(), monotonic: (): number => performance.now() }
