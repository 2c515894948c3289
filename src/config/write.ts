/** The configuration as a file to change: where it is, a copy first, then the new text whole or not at all. */
import { existsSync, lstatSync, unlinkSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { Failure, codeOf } from '../errors.ts'
import { FileFailure, linkTarget, platformMount, writeAtomic } from '../files.ts'
import type { OwnFile } from '../files.ts'
import { sealFile } from '../secrets/vault.ts'
import { numbered, numbersOf, showsSecret } from './copies.ts'
import { readEnvironment } from './environment.ts'
import type { Env } from './environment.ts'
import { loadConfig, readConfigFile } from './load.ts'
import { ConfigFailure, lineOf } from './problems.ts'
import type { Problem } from './problems.ts'
import { configBytesMax } from './schema.ts'
import { sealingKey } from './sealing.ts'

type Random = (bytes: number) => Uint8Array

/** A configuration file as it stands. */
export interface ConfigText {
  readonly file: string
  readonly text: string
  readonly home: string
}

/** Copies that are kept; the oldest goes when there is one more. */
export const backupsKept = 10

function readFile(path: string, home: string, env: Env): OwnFile {
  const parent = path.startsWith(`${home}/`) ? ('private' as const) : ('safe' as const)
  return readConfigFile(path, env, { parent, maxBytes: configBytesMax })
}

/** Where the configuration is, or would be: `--config`, HARDSHELL_CONFIG, then the files of the home. */
export function configPath(env: Env, named?: string): { readonly file: string; home: string } {
  const { value, problems } = readEnvironment(env)
  const [problem] = problems
  if (problem !== undefined) throw new Failure(problem.code, lineOf(problem))
  const { home, config } = value
  const given = named ?? config
  if (given !== undefined) return { file: resolve(given), home }
  const json5 = join(home, 'config.json5')
  const json = join(home, 'config.json')
  return { file: !existsSync(json5) && existsSync(json) ? json : json5, home }
}

/** Reads the text of the configuration without judging it. Throws Failure where there is none or it may not be used. */
export function readConfigText(env: Env, named?: string): ConfigText {
  const { file, home } = configPath(env, named)
  try {
    return { file, home, text: readFile(file, home, env).text }
  } catch (error) {
    if (!(error instanceof FileFailure) || error.code !== 'FILE_MISSING') throw error
    throw new Failure('CONFIG_MISSING', `${file} does not exist. Run "hardshell init".`)
  }
}

function isLink(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true
}

/** What is wrong with a text as the configuration at this place; empty when it would load. */
export function judgeText({ file, text }: ConfigText, env: Env): readonly Problem[] {
  try {
    const { config } = loadConfig({ env, config: file, text })
    const refused = !config.security.followSymlinks && isLink(file)
    return refused && platformMount(file, env) === undefined ? [linkRefused(file)] : []
  } catch (error) {
    if (error instanceof ConfigFailure) return error.problems
    throw error
  }
}

function linkRefused(file: string): Problem {
  const message = `is not true, but ${file} is a symbolic link`
  const remedy = 'Put the file itself in the place of the link first.'
  return { code: 'FILE_LINK', path: 'security.followSymlinks', message, remedy }
}

/** The file that is written in place of a link, which stays; a platform mount has a way of its own. */
function behind(file: string, env: Env): string {
  return isLink(file) && platformMount(file, env) === undefined ? linkTarget(file, env) : file
}

/** Throws Failure, one line, when a file is not for us to change: a platform's mount, or read-only. */
export function checkWritable(file: string, env: Env): void {
  const because = readOnlyBecause(file, env)
  if (because === undefined) return
  throw new Failure(
    'CONFIG_READ_ONLY',
    `${file} ${because}, so it stays as it is. Change it where it comes from.`,
  )
}

function readOnlyBecause(named: string, env: Env): string | undefined {
  const file = behind(named, env)
  if (platformMount(file, env) !== undefined) return 'is mounted by the platform'
  try {
    return (lstatSync(file).mode & 0o200) === 0 ? 'is read-only' : undefined
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Copies a file beside it as `….backup-0001`, mode 0600, and drops the oldest copies. A text that shows a secret is sealed
 * as a whole, under a key that is made where there is none. Returns the path.
 */
function backUp(before: ConfigText, env: Env, random: Random): string {
  const { file, text } = before
  const numbers = numbersOf(file)
  const path = numbered(file, (numbers.at(-1) ?? 0) + 1)
  const copy = showsSecret(text)
    ? sealFile(sealingKey(before, env, random).key, Buffer.from(text), random)
    : text
  writeAtomic(path, copy)
  for (const number of numbers.slice(0, Math.max(0, numbers.length + 1 - backupsKept))) {
    unlinkSync(numbered(file, number))
  }
  return path
}

/**
 * Puts a new text in the place of what was read, after a copy of that. Returns the path of the copy. Throws Failure,
 * and then the file is as it was: it is read-only, or somebody changed it in between.
 */
export function writeConfigText(
  before: ConfigText,
  text: string,
  env: Env,
  random: Random,
): string {
  const { file, home } = before
  checkWritable(file, env)
  if (readFile(file, home, env).text !== before.text) {
    throw new Failure('CONFIG_CHANGED', `${file} was changed meanwhile. Run the command again.`)
  }
  let copy: string | undefined
  try {
    copy = backUp(before, env, random)
    writeAtomic(behind(file, env), text)
    return copy
  } catch (error) {
    if (copy !== undefined) unlinkSync(copy)
    const cause = error instanceof FileFailure ? error.cause : error
    if (!['EROFS', 'EACCES', 'EPERM', 'EBUSY'].includes(codeOf(cause))) throw error
    throw new Failure(
      'CONFIG_READ_ONLY',
      `${file} cannot be replaced (${codeOf(cause)}), so it stays as it is. Change it where it comes from.`,
    )
  }
}
