/** One value of the configuration set anew: sealed if it is secret, judged with the whole, its span alone replaced. */
import { Failure } from '../errors.ts'
import type { SecretsKey } from '../secrets/key.ts'
import { seal } from '../secrets/vault.ts'
import { setValue } from './edit.ts'
import type { Env } from './environment.ts'
import { parseJson5 } from './json5.ts'
import { keyNames } from './paths.ts'
import { nearestKey } from './read.ts'
import { lineOf } from './problems.ts'
import type { Problem } from './problems.ts'
import type { Row } from './row.ts'
import { spellings } from './schema.ts'
import { sealPlain, sealingKey, secretAt, secretsIn, spellPath } from './sealing.ts'
import { isAvailable, rowsByPath, tree } from './tree.ts'
import { checkWritable, judgeText, writeConfigText } from './write.ts'
import type { ConfigText } from './write.ts'

/** A key that a command line names. */
export interface Target {
  readonly path: readonly string[]
  readonly row: Row<unknown>
  /** One entry of a map of secrets, such as `agent.env.API_KEY`. */
  readonly entry: boolean
}

/** What a write did. */
export interface Written {
  readonly file: string
  readonly key: string
  /** The copy of the file from before; undefined when nothing had to change. */
  readonly backup: string | undefined
  /** Paths that were sealed by this write. */
  readonly sealed: readonly string[]
  /** The file of a key that had to be made first. */
  readonly keyMade: string | undefined
  /** What is still wrong with the file, as it was before. */
  readonly left: readonly Problem[]
}

type Random = (bytes: number) => Uint8Array

/** The row that a dotted key names. Throws Failure: no such key, or not in this version. */
export function targetOf(key: string): Target {
  const path = keyNames(key)
  let node = tree
  for (const [index, name] of path.entries()) {
    const next = node.children.get(name) ?? (name === '' ? undefined : node.wildcard)
    if (next === undefined) break
    node = next
    const { row } = node
    const rest = path.length - index - 1
    if (row === undefined) continue
    if (!isAvailable(row)) {
      throw new Failure('NOT_AVAILABLE', `${key} is not available in this version`)
    }
    const isMap = (row.secret ?? false) && typeof row.default === 'object'
    if (rest === 0 || (rest === 1 && isMap)) return { path, row, entry: rest === 1 }
  }
  const known = [...rowsByPath.keys()]
  const near = nearestKey('', key, known, known)
  const hint = near === undefined ? '' : `; did you mean ${near}?`
  throw new Failure('UNKNOWN_KEY', `${key} is not a key that can be set${hint}`, { exitCode: 2 })
}

/** Reads what was typed as the value of a row that is not secret: as text where text is right, else as JSON5. */
export function typedValue({ row }: Target, typed: string): unknown {
  if (row.reader.read(typed).ok) return typed
  const { value } = parseJson5(typed)
  return value === undefined || typeof value === 'string' ? typed : value
}

function at(document: unknown, path: readonly string[]): unknown {
  return path.reduce<unknown>(
    (below, name) =>
      typeof below === 'object' && below !== null && Object.hasOwn(below, name)
        ? (below as Readonly<Record<string, unknown>>)[name]
        : undefined,
    document,
  )
}

function matches(pattern: string, path: readonly string[]): boolean {
  const parts = pattern.split('.')
  return parts.length === path.length && parts.every((part, i) => part === '*' || part === path[i])
}

/** The spelling of a key that the file uses already, so that no key stands there twice. */
function spelledPath(document: unknown, path: readonly string[]): readonly string[] {
  for (const [from, to] of Object.entries(spellings)) {
    for (const [one, other] of [
      [from, to],
      [to, from],
    ] as const) {
      if (!matches(one, path)) continue
      const names = path.filter((_, i) => one.split('.')[i] === '*')
      const twin = other.split('.').map((part) => (part === '*' ? (names.shift() ?? '') : part))
      if (at(document, path) === undefined && at(document, twin) !== undefined) return twin
    }
  }
  return path
}

function checkReplaceable(document: unknown, path: readonly string[], replace: boolean): void {
  const there = secretAt(path, at(document, path))
  if (replace || there === undefined) return
  if (there.kind !== 'variable' && there.kind !== 'file') return
  const from = there.kind === 'file' ? `the file ${there.value}` : there.value
  throw new Failure(
    'SECRET_ELSEWHERE',
    `${spellPath(path)} comes from ${from}: change it there, or put a sealed value in its place with --replace. Nothing was changed.`,
  )
}

/** Problems that a write would add; the ones that are there already do not stand in its way. */
function added(before: readonly Problem[], after: readonly Problem[]): readonly Problem[] {
  const keyOf = ({ code, path }: Problem): string => `${code} ${path}`
  const old = new Set(before.map(keyOf))
  // Without its key the rest of a configuration cannot be judged.
  return after.filter((problem) => problem.code === 'SECRETS_KEY' || !old.has(keyOf(problem)))
}

/**
 * Writes the text that an edit gives, plain secrets sealed, after the whole was judged. Throws Failure, and then nothing
 * was changed: the text adds a problem, or the file is not for us to change.
 */
export function writeJudged(
  before: ConfigText,
  edited: string,
  key: SecretsKey | undefined,
  env: Env,
  random: Random,
): Omit<Written, 'key' | 'keyMade'> {
  const { text, sealed } =
    key === undefined ? { text: edited, sealed: [] } : sealPlain(edited, key, random)
  const left = judgeText({ ...before, text }, env)
  const [first, ...others] = added(judgeText(before, env), left)
  if (first !== undefined) {
    const more = others.length === 0 ? '' : ` (and ${others.length} more)`
    const line = `${before.file}: ${lineOf(first)}${more} Nothing was changed.`
    throw new Failure(first.code, line)
  }
  const backup = text === before.text ? undefined : writeConfigText(before, text, env, random)
  return { file: before.file, backup, sealed, left }
}

/** Sets one key. Throws Failure, and then the file is as it was. */
export function setKey(
  before: ConfigText,
  target: Target,
  value: unknown,
  options: { readonly env: Env; readonly random: Random; readonly replace: boolean },
): Written {
  const { env, random, replace } = options
  const { value: document, problems } = parseJson5(before.text)
  const [broken] = problems
  if (broken !== undefined) {
    throw new Failure(broken.code, `${before.file}: ${lineOf(broken)} Nothing was changed.`)
  }
  checkWritable(before.file, env)
  const path = spelledPath(document, target.path)
  const secret = target.row.secret ?? false
  if (secret) checkReplaceable(document, path, replace)
  const reference = typeof value === 'string' && /^\$\{[A-Za-z_]\w*\}$/.test(value)
  const plain = secretsIn(document).some(({ kind }) => kind === 'plain')
  // A key is made only for something to seal, and only once the write is known to be good.
  const needed = plain || (secret && !reference)
  // Sealed, a text with "${" in it is only text; plain, it would ask for a variable.
  const literal = secret && !reference && String(value).includes('${')
  const trial = literal ? before.text : setValue(before.text, path, value)
  const [wrong] = added(judgeText(before, env), judgeText({ ...before, text: trial }, env))
  if (wrong !== undefined) {
    throw new Failure(wrong.code, `${before.file}: ${lineOf(wrong)} Nothing was changed.`)
  }
  const held = needed ? sealingKey(before, env, random) : undefined
  const put =
    secret && !reference && held !== undefined && typeof value === 'string'
      ? { encrypted: seal(held.key, value, random) }
      : value
  const edited = setValue(before.text, path, put)
  const written = writeJudged(before, edited, held?.key, env, random)
  const own = put === value ? [] : [spellPath(path)]
  return {
    ...written,
    key: spellPath(path),
    sealed: [...own, ...written.sealed],
    keyMade: held?.made,
  }
}
