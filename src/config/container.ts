/** Whether we run inside a container, and which address is our own there. */
import type { NetworkInterfaceInfo } from 'node:os'
import { codeOf } from '../errors.ts'
import type { Env } from './environment.ts'

const { existsSync, readFileSync } = process.getBuiltinModule('node:fs')

function cgroupNames(): string {
  try {
    return readFileSync('/proc/1/cgroup', 'utf8')
  } catch (error) {
    if (codeOf(error) === '') throw error
    return ''
  }
}

/** Says whether this process runs inside a container, by the marks that engines leave. */
export function inContainer(env: Env): boolean {
  if (existsSync('/.dockerenv') || existsSync('/run/.containerenv')) return true
  if ((env['KUBERNETES_SERVICE_HOST'] ?? '') !== '') return true
  return /\/(docker|kubepods|containerd|libpod|lxc)\b/.test(cgroupNames())
}

/** The addresses of a machine, as `node:os` gives them. */
export type Interfaces = Readonly<Record<string, readonly NetworkInterfaceInfo[] | undefined>>

/**
 * The address to listen on for a value of gateway.bind: the value itself, or for `"container"` the container's own
 * address (IPv4 first). Undefined when there is none.
 */
export function addressOf(bind: string, interfaces: () => Interfaces): string | undefined {
  if (bind !== 'container') return bind
  const outward = Object.values(interfaces())
    .flatMap((addresses) => addresses ?? [])
    .filter(({ internal, address }) => !internal && !address.startsWith('fe80:'))
  const own = outward.find(({ family }) => family === 'IPv4') ?? outward[0]
  return own?.address
}
