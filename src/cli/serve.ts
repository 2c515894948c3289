/** `serve`: the sidecar in the foreground, until a signal. */
import type { App } from '../app.ts'
import { messageOf } from '../errors.ts'
import type { Command, ExitCode, Io } from './command.ts'
import { firstWish } from './wish.ts'

/** Options that say which configuration is meant. */
export const configOption = {
  config: {
    type: 'string',
    value: 'FILE',
    summary: 'The configuration file; else HARDSHELL_CONFIG, else the home folder.',
  },
} as const

/** The command `serve`. */
export const serveCommands: readonly Command[] = [
  {
    name: 'serve',
    summary: 'Run the sidecar in the foreground.',
    options: configOption,
    run: ({ options, io, json }) => {
      const config = typeof options['config'] === 'string' ? options['config'] : undefined
      return serve({ config, json }, io)
    },
  },
]

/** What to serve, and what to print when it runs. */
export interface ServeOptions {
  readonly config: string | undefined
  readonly json: boolean
  /** When to end; a signal from now on when absent. */
  readonly wish?: Promise<NodeJS.Signals>
  /** Called once the port is open, instead of the line that says so. */
  readonly onReady?: (app: App) => void
}

/** How long the audit log may take to be written before a defect ends the program, ms. */
const flushMs = 2000

/** Runs the sidecar until SIGINT or SIGTERM; a second wish ends it at once. Rejects with a Failure at start-up. */
export async function serve(options: ServeOptions, io: Io): Promise<ExitCode> {
  const [{ startApp }, { loadConfig }, { openLog }] = await Promise.all([
    import('../app.ts'),
    import('../config/load.ts'),
    import('../log.ts'),
  ])
  const loaded = loadConfig({
    env: io.env,
    mend: true,
    ...(options.config === undefined ? {} : { config: options.config }),
  })
  // Children and crash dumps must not find a token in our environment.
  for (const { from, name } of loaded.secretSources) {
    if (from === 'environment' || from === 'variable') {
      delete (io.env as Record<string, string | undefined>)[name ?? '']
    }
  }
  const log = openLog(loaded.logLevel)
  // Heard from here on: a signal in the middle of the start ends the program when all of it can be taken down.
  const wish = (options.wish ?? firstWish()).then((signal) =>
    log.info({ signal }, 'stopping: exchanges under way may end'),
  )
  const app = await startApp({ loaded, log, engineEnv: io.env })
  if (options.onReady !== undefined) options.onReady(app)
  else if (options.json) io.out(JSON.stringify({ url: app.url, pid: process.pid }))
  else io.out(`hardshell listens on ${app.url} (config ${loaded.file ?? 'defaults'})`)
  // After an exception that nothing caught, nobody knows what holds: the end is recorded, and comes at once (CWE-248).
  process.once('uncaughtException', (thrown: unknown) => {
    const exit = () => process.exit(1)
    process.once('uncaughtException', exit)
    setTimeout(exit, flushMs)
    const because = messageOf(thrown)
    const stack = thrown instanceof Error ? thrown.stack : undefined
    log.error({ because, stack }, 'a defect of ours ends the program')
    void app.fail(because).finally(exit)
  })
  await wish
  await app.stop()
  return 0
}
