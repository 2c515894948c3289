/** Finds the row of a command line, reads its arguments, runs it; a Failure becomes one line and an exit code. */
import type { ParseArgsOptionsConfig } from 'node:util'

import { codeOf, Failure, messageOf } from '../errors.ts'
import { homeOf, whyNoHome } from '../home.ts'
import type { Command, ExitCode, Io } from './command.ts'
import { commandNamed, loadCommands, nouns } from './commands.ts'

// An ES import of the module would load all that it has getters for.
const { parseArgs } = process.getBuiltinModule('node:util')

/** Options that every command takes. */
const common: ParseArgsOptionsConfig = {
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
}

/** Standard input is at most this long, bytes. */
const stdinBytesMax = 1024 * 1024

/** Runs one command line; never throws. Returns 0 success, 1 finding or refusal, 2 bad usage. */
export async function run(argv: readonly string[], io: Io): Promise<ExitCode> {
  const json = argv.includes('--json')
  try {
    return await dispatch(argv, io)
  } catch (thrown) {
    const failure = asFailure(thrown, io.env)
    if (json) io.err(JSON.stringify({ error: { code: failure.code, message: failure.message } }))
    else io.err(`hardshell: ${failure.message} [${failure.code}]`)
    return failure.exitCode
  }
}

async function dispatch(given: readonly string[], io: Io): Promise<ExitCode> {
  const argv = nounFirst(given)
  const words = argv.filter((word) => !word.startsWith('-'))
  if (words.length === 0) {
    if (argv.includes('--version')) {
      io.out(await version())
      return 0
    }
    io.out(await overview())
    return argv.length === 0 || argv.includes('--help') || argv.includes('-h') ? 0 : 2
  }
  const found = await commandNamed(argv)
  if (found === undefined) {
    const hint = Object.hasOwn(nouns, words[0] ?? '')
      ? `hardshell ${words[0]} --help`
      : 'hardshell --help'
    if (argv.includes('--help') && Object.hasOwn(nouns, words[0] ?? '')) {
      io.out(await overview(words[0]))
      return 0
    }
    const said = words.slice(0, 2).join(' ')
    const verbs = words.length === 1 ? await verbsOf(said) : []
    throw new Failure(
      'UNKNOWN_COMMAND',
      verbs.length > 0
        ? `"${said}" needs a verb: ${verbs.join(', ')}; see "${hint}"`
        : `there is no command "${said}"; see "${hint}"`,
      { exitCode: 2 },
    )
  }
  const { command, rest } = found
  const { values, positionals } = readArguments(command, rest)
  if (values['help'] === true) {
    io.out(usage(command))
    return 0
  }
  checkPositionals(command, positionals)
  return command.run({
    positionals,
    options: values as Record<string, string | boolean | string[] | undefined>,
    json: values['json'] === true,
    io,
  })
}

/** The line with the options that every command takes behind its words, where a person put them in front. */
function nounFirst(argv: readonly string[]): readonly string[] {
  const first = argv.findIndex((word) => !['--json', '--help', '-h'].includes(word))
  return first < 1 ? argv : [...argv.slice(first), ...argv.slice(0, first)]
}

/** The second words of the commands of a noun; empty for a word that is none. */
async function verbsOf(noun: string): Promise<readonly string[]> {
  const load = Object.hasOwn(nouns, noun) ? nouns[noun] : undefined
  const rows = (await load?.()) ?? []
  return rows
    .map(({ name }) => name.split(' '))
    .flatMap(([first, verb]) => (first === noun && verb !== undefined ? [verb] : []))
}

function readArguments(
  command: Command,
  rest: readonly string[],
): { values: Record<string, unknown>; positionals: string[] } {
  const options: ParseArgsOptionsConfig = { ...common }
  for (const [name, row] of Object.entries(command.options ?? {})) {
    options[name] = { type: row.type, ...(row.multiple === true ? { multiple: true } : {}) }
    // `-n` and `-f` as people know them from tail(1).
    if (name.length === 1) options[name] = { ...options[name], short: name }
  }
  try {
    return parseArgs({ args: [...rest], options, allowPositionals: true, strict: true })
  } catch (thrown) {
    const said = messageOf(thrown).split('. To specify')[0] ?? ''
    throw new Failure('BAD_USAGE', `${said}; see "hardshell ${command.name} --help"`, {
      exitCode: 2,
    })
  }
}

function checkPositionals(command: Command, positionals: readonly string[]): void {
  const words = (command.positionals ?? '').split(' ').filter((word) => word !== '')
  const required = words.filter((word) => word.startsWith('<')).length
  const unlimited = words.some((word) => word.endsWith('…]') || word.endsWith('…>'))
  if (positionals.length < required || (!unlimited && positionals.length > words.length)) {
    throw new Failure('BAD_USAGE', `usage: ${usageLine(command)}`, { exitCode: 2 })
  }
}

/** The usage line of a command, as help and docs/cli.md show it. */
export function usageLine(command: Command): string {
  const parts = ['hardshell', command.name]
  if (command.positionals !== undefined) parts.push(command.positionals)
  for (const [name, row] of Object.entries(command.options ?? {})) {
    const dashes = name.length === 1 ? '-' : '--'
    const again = row.multiple === true ? ' …' : ''
    parts.push(
      `[${dashes}${name}${row.type === 'string' ? ` ${row.value ?? 'VALUE'}` : ''}${again}]`,
    )
  }
  parts.push('[--json]')
  return parts.join(' ')
}

function usage(command: Command): string {
  const lines = [usageLine(command), '', command.summary]
  for (const [name, row] of Object.entries(command.options ?? {})) {
    lines.push(`  ${name.length === 1 ? '-' : '--'}${name}  ${row.summary}`)
  }
  return lines.join('\n')
}

async function overview(noun?: string): Promise<string> {
  const rows = await loadCommands()
  const shown = noun === undefined ? rows : rows.filter(({ name }) => name.split(' ')[0] === noun)
  const width = Math.max(...shown.map(({ name }) => name.length))
  const lines = shown.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`)
  const head = 'hardshell <noun> <verb> [options]   (--help on each, --json on each)'
  return [head, '', ...lines].join('\n')
}

async function version(): Promise<string> {
  const { readFile } = await import('node:fs/promises')
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8')
  return String((JSON.parse(text) as { version: string }).version)
}

/** What every thrown thing is at the edge: our own sentence, or the system's with its code. */
function asFailure(thrown: unknown, env: Io['env']): Failure {
  if (thrown instanceof Failure) return thrown
  const code = codeOf(thrown)
  // Sockets, state and logs all lie in one folder: where that cannot be used, this is what is wrong, whoever met it first.
  const home = homeOf(env)
  const why = code === '' ? undefined : whyNoHome(home)
  if (why !== undefined) {
    return new Failure(
      'HOME_UNUSABLE',
      `${home} ${why}: set HARDSHELL_HOME to a folder of your own, like "$HOME/.hardshell"`,
    )
  }
  return new Failure(code === '' ? 'UNEXPECTED' : code, messageOf(thrown).split('\n')[0] ?? '')
}

/** The real process as an Io. */
export function processIo(from: NodeJS.Process): Io {
  let isWatched = false
  return {
    env: from.env,
    out: (text) => {
      // The reader of a pipe may have seen enough (`… | head`): that ends us, and is no failure.
      if (!isWatched)
        from.stdout.on('error', ({ code }: NodeJS.ErrnoException) =>
          from.exit(code === 'EPIPE' ? 0 : 1),
        )
      isWatched = true
      from.stdout.write(`${text}\n`)
    },
    err: (text) => void from.stderr.write(`${text}\n`),
    stdin: async () => {
      const chunks: Buffer[] = []
      let bytes = 0
      for await (const chunk of from.stdin) {
        const piece = Buffer.from(chunk as Uint8Array)
        bytes += piece.length
        if (bytes > stdinBytesMax)
          throw new Failure('INPUT_TOO_LARGE', 'standard input is longer than 1 MiB')
        chunks.push(piece)
      }
      return Buffer.concat(chunks)
        .toString('utf8')
        .replace(/\r?\n$/, '')
    },
    askHidden: async (prompt) => {
      if (!from.stdin.isTTY) return undefined
      const { askHidden } = await import('./hidden.ts')
      return askHidden(from, prompt)
    },
    // Asked for when it is needed: the streams take as long to open as a server to start listening.
    get startedAt() {
      return Math.floor(performance.timeOrigin)
    },
    get interactive() {
      return from.stdin.isTTY && from.stdout.isTTY
    },
  }
}
