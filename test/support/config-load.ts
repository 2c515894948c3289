/** Loads a configuration text as a file of ours in a folder of its own, and takes the folder away again. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { loadConfig } from '../../src/config/load.ts'
import type { LoadOptions, Loaded } from '../../src/config/load.ts'
import { ConfigFailure } from '../../src/config/problems.ts'
import type { Problem } from '../../src/config/problems.ts'
import { plant } from './secrets.ts'

/** A token that passes every rule; made up for tests. */
export const goodToken = plant('gateway token', 'goodToken', 'kT7vQx2mZp9LwRf4Hs8NcYb3Ud6JgEa5')

/** Makes a private folder, hands it to `use`, and removes it. */
export function inFolder<T>(use: (folder: string) => T): T {
  const folder = mkdtempSync(join(tmpdir(), 'hardshell-config-'))
  try {
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Loads a text, or an object as JSON, with a good token in the environment unless `env` says otherwise. */
export function load(
  source: string | object,
  env: Readonly<Record<string, string>> = { HARDSHELL_TOKEN: goodToken },
  more: Omit<Partial<LoadOptions>, 'env'> = {},
): Loaded {
  return inFolder((folder) => {
    const home = join(folder, 'home')
    mkdirSync(home, { mode: 0o700 })
    const text = typeof source === 'string' ? source : JSON.stringify(source)
    writeFileSync(join(home, 'config.json5'), text, { mode: 0o600 })
    const inContainer = () => false
    return loadConfig({ env: { HARDSHELL_HOME: home, ...env }, inContainer, ...more })
  })
}

/** The problems of a configuration that must not load; throws when it loads. */
export function problemsOf(...args: Parameters<typeof load>): readonly Problem[] {
  try {
    load(...args)
  } catch (error) {
    if (error instanceof ConfigFailure) return error.problems
    throw error
  }
  throw new Error('the configuration loads')
}

/** `path CODE` of each problem, in order. */
export function codesOf(...args: Parameters<typeof load>): readonly string[] {
  return problemsOf(...args).map(({ path, code }) => `${path} ${code}`)
}

/** An object with one value at a dotted path. */
export function nested(path: string, value: unknown): object {
  return path.split('.').reduceRight<unknown>((below, name) => ({ [name]: below }), value) as object
}
