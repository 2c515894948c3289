/** `hardshell config …`: judge, show and document the configuration. */
import { readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { exampleText, examples } from '../config/examples.ts'
import { jsonSchema } from '../config/json-schema.ts'
import { loadConfig } from '../config/load.ts'
import type { Loaded } from '../config/load.ts'
import { configurationPage, errorsPage } from '../config/pages.ts'
import { ConfigFailure, lineOf } from '../config/problems.ts'
import { keyNames } from '../config/paths.ts'
import { nearestKey } from '../config/read.ts'
import { isAvailable, rowsByPath, spellConfig } from '../config/tree.ts'
import { Failure, codeOf } from '../errors.ts'
import { gateOrder } from '../gates/gate.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { configWriteCommands } from './config-write.ts'
import { renderCliDocs } from './docs.ts'

const configOption = {
  type: 'string',
  value: 'FILE',
  summary: 'The configuration file; else HARDSHELL_CONFIG, then the one in the home.',
} as const

function load({ options, io }: Call): Loaded {
  const { config } = options
  return loadConfig({ env: io.env, ...(typeof config === 'string' ? { config } : {}) })
}

function print(io: Call['io'], value: unknown): void {
  io.out(JSON.stringify(value, undefined, 2))
}

function check(call: Call): Promise<ExitCode> {
  const { io, json } = call
  try {
    const { file, hash, notices } = load(call)
    if (json) print(io, { ok: true, file, hash, problems: [], notices })
    else {
      io.out(`${file ?? 'no file, only defaults'}: good (${hash.slice(0, 12)})`)
      for (const notice of notices) io.out(`${notice.level} ${lineOf(notice)}`)
    }
    return Promise.resolve(0)
  } catch (error) {
    if (!(error instanceof ConfigFailure)) throw error
    if (json) print(io, { ok: false, file: error.file, problems: error.problems, notices: [] })
    else io.err(error.message)
    return Promise.resolve(1)
  }
}

function show(call: Call): Promise<ExitCode> {
  const { io, json, options } = call
  if (options['pipeline'] === true) {
    if (json) print(io, { gates: gateOrder })
    else io.out(gateOrder.map((name, index) => `${index + 1}. ${name}`).join('\n'))
    return Promise.resolve(0)
  }
  const { config, file, hash, secretSources } = load(call)
  const shown = spellConfig(config)
  if (json) print(io, { file, hash, secretSources, config: shown })
  else {
    io.out(`// ${file ?? 'no file, only defaults'}; hash ${hash}`)
    for (const { path, from, name } of secretSources) {
      const where = from === 'sealed' ? 'the file itself, sealed' : 'the file itself, in plain text'
      io.out(`// ${path}: from ${name === undefined ? where : `${from} ${name}`}`)
    }
    print(io, shown)
  }
  return Promise.resolve(0)
}

function get(call: Call): Promise<ExitCode> {
  const path = call.positionals[0] ?? ''
  const segments = keyNames(path)
  let value: unknown = spellConfig(load(call).config)
  for (const segment of segments) {
    const inside = typeof value === 'object' && value !== null && Object.hasOwn(value, segment)
    value = inside ? (value as Record<string, unknown>)[segment] : undefined
  }
  if (value === undefined) return Promise.resolve(absent(call, path))
  if (call.json) print(call.io, { key: path, value })
  else call.io.out(typeof value === 'string' ? value : JSON.stringify(value, undefined, 2))
  return Promise.resolve(0)
}

/** A key without a value is a finding; one that does not exist is bad usage. */
function absent({ io, json }: Call, path: string): ExitCode {
  const row = rowsByPath.get(path)
  if (row !== undefined && isAvailable(row)) {
    if (json) print(io, { key: path, value: null })
    else io.err(`${path} is not set`)
    return 1
  }
  if (row !== undefined) {
    throw new Failure('NOT_AVAILABLE', `${path} is not available in this version`)
  }
  const known = [...rowsByPath.keys()]
  const near = nearestKey('', path, known, known)
  const hint = near === undefined ? '' : `; did you mean ${near}?`
  throw new Failure('UNKNOWN_KEY', `${path} is not a known key${hint}`, { exitCode: 2 })
}

/** Every generated file with its text. */
async function generated(): Promise<Readonly<Record<string, string>>> {
  // Loaded here, because the rows of all commands lead to this file too.
  const { loadCommands } = await import('./commands.ts')
  const { usageLine } = await import('./run.ts')
  const { auditPage } = await import('../posture/page.ts')
  const { reportSchema } = await import('../posture/schema.ts')
  const written = Object.entries(examples).map(([path, example]) => [path, exampleText(example)])
  return {
    'docs/configuration.md': configurationPage(),
    'docs/errors.md': errorsPage(),
    'docs/security-audit.md': auditPage(),
    'docs/security-audit.schema.json': `${JSON.stringify(reportSchema, undefined, 2)}\n`,
    'docs/cli.md': renderCliDocs(await loadCommands(), usageLine),
    ...(Object.fromEntries(written) as Record<string, string>),
  }
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

async function docs({ io, json, options }: Call): Promise<ExitCode> {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const files = Object.entries(await generated())
  const stale = files.filter(([path, text]) => textOf(join(root, path)) !== text)
  const names = stale.map(([path]) => path)
  const checks = options['check'] === true
  if (!checks) {
    for (const [path, text] of stale) {
      await mkdir(dirname(join(root, path)), { recursive: true })
      await writeFile(join(root, path), text)
    }
  }
  if (json) print(io, checks ? { stale: names } : { written: names })
  else if (names.length === 0) io.out('every generated page is in step')
  else if (checks) io.err(`not in step: ${names.join(', ')}; run "npm run docs"`)
  else io.out(`written: ${names.join(', ')}`)
  return checks && names.length > 0 ? 1 : 0
}

/** The commands of the noun `config`. */
export const configCommands: readonly Command[] = [
  {
    name: 'config check',
    summary: 'Judges the configuration and tells every problem with its remedy; starts nothing.',
    options: { config: configOption },
    run: check,
  },
  {
    name: 'config show',
    summary: 'Prints the configuration that is in force, secrets masked.',
    options: {
      config: configOption,
      pipeline: { type: 'boolean', summary: 'Prints the gates in the order they are asked.' },
    },
    run: show,
  },
  {
    name: 'config get',
    summary: 'Prints the value of one key, masked if it is a secret.',
    positionals: '<key>',
    options: { config: configOption },
    run: get,
  },
  ...configWriteCommands(configOption),
  {
    name: 'config schema',
    summary: 'Prints the JSON Schema (draft 2020-12) of the configuration, for editors.',
    run: ({ io }) => {
      print(io, jsonSchema())
      return Promise.resolve(0)
    },
  },
  {
    name: 'config docs',
    summary: 'Writes the pages and example files that are made from the tables of the source.',
    options: {
      check: { type: 'boolean', summary: 'Writes nothing; exits with 1 if one is not in step.' },
    },
    run: docs,
  },
]
