/** The command line in this process, against the home of a test. */
import { run } from '../../src/cli/run.ts'
import { keepSaid } from './evidence.ts'

/** What a command said. */
export interface Said {
  readonly code: number
  readonly out: string
  readonly err: string
}

/** Runs one command line for a home. */
export async function command(home: string, ...argv: readonly string[]): Promise<Said> {
  const out: string[] = []
  const err: string[] = []
  const code = await run(argv, {
    env: { HARDSHELL_HOME: home },
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    stdin: () => Promise.resolve(''),
    interactive: false,
  })
  keepSaid('hardshell', argv, [...out, ...err].join('\n'))
  return { code, out: out.join('\n'), err: err.join('\n') }
}
