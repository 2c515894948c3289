/** The contract of a command: a row. Help, docs/cli.md and argument parsing come from the rows. */

/** One `--option` of a command. */
export interface OptionRow {
  readonly type: 'string' | 'boolean'
  /** Name of the value in the usage line, for `string` options. */
  readonly value?: string
  readonly summary: string
  readonly multiple?: boolean
}

/** The world outside a command, passed in so that tests can hold it. */
export interface Io {
  readonly env: Readonly<Record<string, string | undefined>>
  /** Writes to standard output; a line end is added. */
  out(text: string): void
  /** Writes to standard error; a line end is added. */
  err(text: string): void
  /** Everything on standard input, at most 1 MiB, without the last line end. */
  stdin(): Promise<string>
  /** Asks on the terminal for a line that does not appear there; undefined when standard input is no terminal. */
  askHidden?(prompt: string): Promise<string | undefined>
  /** Standard input and output are a terminal. */
  readonly interactive: boolean
  /** When the command was started, ms since the epoch: what others did after that, its user could not know. */
  readonly startedAt?: number
}

/** One invocation. */
export interface Call {
  readonly positionals: readonly string[]
  readonly options: Readonly<Record<string, string | boolean | readonly string[] | undefined>>
  /** `--json` was given: print one JSON document instead of text. */
  readonly json: boolean
  readonly io: Io
}

/** 0 success · 1 a finding or refusal · 2 bad usage. */
export type ExitCode = 0 | 1 | 2

/** One row of the command line. */
export interface Command {
  /** `noun verb`, or one word. */
  readonly name: string
  readonly summary: string
  /** Positionals for the usage line, `<id>`; how many are allowed is counted from it. */
  readonly positionals?: string
  readonly options?: Readonly<Record<string, OptionRow>>
  run(call: Call): Promise<ExitCode>
}
