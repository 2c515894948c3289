/** Hardshell as a process of its own, from the source or, in CI a second time, from the compiled program. */
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

import { parseJson5 } from '../../src/config/json5.ts'
import { checkout } from './images.ts'
import { plantAll } from './secrets.ts'

/** What is started. */
export const entry = process.env['HARDSHELL_ENTRY'] ?? join(checkout, 'src/main.ts')

export interface Program {
  readonly child: ChildProcess
  /** Everything it wrote so far, both streams. */
  text(): string
  /** Waits for output that matches, at most `timeMs`; throws when the program ends without it. */
  said(pattern: RegExp, timeMs?: number): Promise<RegExpExecArray>
  /** Waits for its end and gives the exit code. */
  ended(): Promise<number | null>
}

/**
 * What a test started. The runner's hooks run in the order they were given, so a home, made first, would be removed first:
 * under a program that still writes into it, which fails once in a while.
 */
const started = new WeakMap<TestContext, (() => Promise<unknown>)[]>()

/** Starts a program; it is killed when the test ends. */
export function start(
  t: TestContext,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Program {
  const child = spawn(process.execPath, [...args], {
    env: { PATH: process.env['PATH'], ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  const ended = async () => {
    if (child.exitCode === null && child.signalCode === null) await once(child, 'close')
    return child.exitCode
  }
  const end = async () => {
    child.kill('SIGKILL')
    await ended()
  }
  started.set(t, [...(started.get(t) ?? []), end])
  t.after(end)
  return {
    child,
    text: () => text,
    ended,
    said: async (pattern, timeMs = 30_000) => {
      for (const deadline = performance.now() + timeMs; performance.now() < deadline;) {
        const match = pattern.exec(text)
        if (match !== null) return match
        if (child.exitCode !== null) break
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      throw new Error(`${args.join(' ')} did not say ${pattern}:\n${text}`)
    },
  }
}

/** A command line run to its end: exit code and everything written. */
export async function hardshell(
  t: TestContext,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; text: string }> {
  const program = start(t, [entry, ...args], env)
  const code = await program.ended()
  return { code, text: program.text() }
}

/** Removes a folder when the test ends, after what the test started. */
export function removeAfter(t: TestContext, folder: string): void {
  t.after(async () => {
    await Promise.all((started.get(t) ?? []).map((end) => end()))
    rmSync(folder, { recursive: true, force: true })
  })
}

/** A home with a configuration, removed when the test ends. */
export function homeWith(t: TestContext, config: object | string): string {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  removeAfter(t, home)
  plantAll(typeof config === 'string' ? parseJson5(config).value : config)
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  writeFileSync(join(home, 'config.json5'), text, { mode: 0o600 })
  return home
}
