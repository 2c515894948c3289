/** `hardshell …` as a person runs it: a process of its own with nothing of our environment but the home. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'

import { entry } from './program.ts'
import { plant } from './secrets.ts'

export interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** Runs a command line to its end, with a text on standard input. */
export async function cli(home: string, args: readonly string[], stdin = ''): Promise<Ran> {
  const child = spawn(process.execPath, [entry, ...args], {
    env: { HARDSHELL_HOME: home, HOME: home, PATH: process.env['PATH'] },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: 60_000,
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (err += text))
  // A command that reads nothing may be gone before it is written to.
  child.stdin.on('error', () => undefined)
  child.stdin.end(stdin)
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

/** `token new`, which must succeed; the token. */
export async function makeToken(home: string, ...args: readonly string[]): Promise<string> {
  const { code, out, err } = await cli(home, ['token', 'new', ...args])
  if (code !== 0) throw new Error(err)
  return plant('client token', '`token new`', out.trim())
}
