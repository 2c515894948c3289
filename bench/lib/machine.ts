/** What Linux says about this machine and about a process: /proc is the only source. */
import { readFileSync, writeFileSync } from 'node:fs'
import { cpus, totalmem } from 'node:os'

/** Ticks of `utime` and `stime` in a second: USER_HZ, which is 100 on every Linux that Node runs on. */
const ticksPerSecond = 100

/** User and system time that process `pid` has used, in µs; exact to 10 ms. */
export function cpuMicros(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  // The command name may hold spaces; the fields that count begin behind its closing parenthesis (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return ((Number(fields[11]) + Number(fields[12])) * 1e6) / ticksPerSecond
}

/** Resident memory of process `pid` in bytes. */
export function residentBytes(pid: number): number {
  return statusBytes(pid, /^VmRSS:\s+(\d+) kB$/m)
}

/** The most that process `pid` has had resident since `forgetPeak`, in bytes; the kernel misses no moment of it. */
export function peakBytes(pid: number): number {
  return statusBytes(pid, /^VmHWM:\s+(\d+) kB$/m)
}

/** Begins the peak of process `pid` anew at what is resident now (proc(5), clear_refs). */
export function forgetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
}

function statusBytes(pid: number, line: RegExp): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(line.exec(status)?.[1] ?? Number.NaN) * 1024
}

/** The load averages over 1, 5 and 15 minutes. */
export function loadAverage(): string {
  return readFileSync('/proc/loadavg', 'utf8').split(' ').slice(0, 3).join(' ')
}

/** Descriptors that a process may have open here. */
export function descriptorLimit(): number {
  const limits = readFileSync('/proc/self/limits', 'utf8')
  return Number(/^Max open files\s+(\d+)/m.exec(limits)?.[1] ?? 1024)
}

/** This machine in a few words, for the table. */
export function machineWords(): string {
  const model = cpus()[0]?.model ?? 'unknown processor'
  const memory = Math.round(totalmem() / 1024 ** 3)
  return `${cpus().length} cores (${model}), ${memory} GiB, Node ${process.versions.node}`
}
