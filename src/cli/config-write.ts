/** `hardshell config set | diff`. */
import { randomBytes } from 'node:crypto'
import { defaultConfig, differences } from '../config/compare.ts'
import { loadConfig } from '../config/load.ts'
import { lineOf } from '../config/problems.ts'
import { setKey, targetOf, typedValue } from '../config/set.ts'
import type { Target, Written } from '../config/set.ts'
import { readConfigText } from '../config/write.ts'
import { Failure } from '../errors.ts'
import type { Call, Command, Io, OptionRow } from './command.ts'
import { named, record } from './record.ts'

/** A secret from a prompt that does not show it, or from standard input. Throws Failure when it is empty. */
export async function readSecret(io: Io, prompt: string): Promise<string> {
  const typed = (await io.askHidden?.(prompt)) ?? (await io.stdin())
  if (typed === '') throw new Failure('INPUT_EMPTY', 'nothing was given: pipe the value in')
  return typed
}

async function valueOf(call: Call, key: string, target: Target): Promise<unknown> {
  const [, argument] = call.positionals
  const { io } = call
  const { row, entry } = target
  if (row.secret !== true) {
    return typedValue(target, argument ?? (await io.stdin()))
  }
  if (argument !== undefined) {
    throw new Failure(
      'SECRET_ARGUMENT',
      `${key} is secret and other users see arguments: pipe it in, or run "hardshell config set ${key}" and type it`,
      { exitCode: 2 },
    )
  }
  if (!entry && typeof row.default === 'object') {
    throw new Failure('BAD_USAGE', `name one entry, like ${key}.NAME`, { exitCode: 2 })
  }
  return readSecret(io, `${key}: `)
}

/** Says on standard error what a write did. */
export function tellWritten({ io, json }: Call, written: Written): void {
  const { file, key, backup, sealed, keyMade, left } = written
  if (json) {
    io.out(JSON.stringify(written))
    return
  }
  if (keyMade !== undefined) {
    io.err(`made the key ${keyMade}: keep a copy with "hardshell secrets backup"`)
  }
  if (backup === undefined) io.err(`${file} says so already; nothing was changed`)
  else {
    io.err(`${key} is set in ${file}; it counts from the next start. Before: ${backup}`)
    const others = sealed.filter((path) => path !== key)
    if (sealed.includes(key)) io.err(`${key} is sealed`)
    if (others.length > 0) {
      io.err(`sealed too, as it was plain text: ${others.join(', ')}; so is the copy`)
    }
  }
  for (const problem of left) io.err(`still wrong: ${lineOf(problem)}`)
}

/** The rows of `config` that change the file or compare it. */
export function configWriteCommands(configOption: OptionRow): readonly Command[] {
  return [
    {
      name: 'config set',
      summary:
        'Sets one key in the file, a secret sealed and from a prompt or standard input; comments and order stay.',
      positionals: '<key> [value]',
      options: {
        config: configOption,
        replace: {
          type: 'boolean',
          summary: 'Replaces a secret that comes from a variable or from another file.',
        },
      },
      run: async (call) => {
        const { io, options, positionals } = call
        const key = positionals[0] ?? ''
        const target = targetOf(key)
        const value = await valueOf(call, key, target)
        const given = options['config']
        const file = typeof given === 'string' ? given : undefined
        // Where there is no configuration there is nothing to change, and nothing to record.
        readConfigText(io.env, file)
        const replace = options['replace'] === true
        const written = await record(call, 'config set', key, () => {
          const before = readConfigText(io.env, file)
          const done = setKey(before, target, value, { env: io.env, random: randomBytes, replace })
          const keys = [...new Set([done.key, ...done.sealed])]
          return { value: done, about: done.backup === undefined ? undefined : named(keys) }
        })
        tellWritten(call, written)
        return 0
      },
    },
    {
      name: 'config diff',
      summary:
        'Prints the keys whose values differ from the defaults, or from another file; secrets masked.',
      positionals: '[file]',
      options: { config: configOption },
      run: ({ io, json, options, positionals }) => {
        const named = options['config']
        const given = typeof named === 'string' ? { config: named } : {}
        const { config, file } = loadConfig({ env: io.env, ...given })
        const [other] = positionals
        const base =
          other === undefined ? defaultConfig() : loadConfig({ env: io.env, config: other }).config
        const found = differences(base, config)
        const from = other ?? 'defaults'
        if (json) io.out(JSON.stringify({ from, to: file, differences: found }))
        else if (found.length === 0) io.out(`no key differs from ${from}`)
        for (const { key, from: before, to } of json ? [] : found) {
          io.out(`${key}: ${spell(before)} → ${spell(to)}`)
        }
        return Promise.resolve(0)
      },
    },
  ]
}

function spell(value: unknown): string {
  return value === undefined ? 'not set' : JSON.stringify(value)
}
