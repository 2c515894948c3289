/**
 * A new key for everything that is sealed. Each write is whole or not at all; after any of them, and after none, the
 * configuration loads and every copy opens: what they are sealed with is always among the keys in the home.
 */
import { existsSync, renameSync } from 'node:fs'
import { Failure } from '../errors.ts'
import { findKeys, keyFiles, keyOf, parseKey, saveKey } from '../secrets/key.ts'
import type { SecretsKey } from '../secrets/key.ts'
import { readTrusted, syncFolder } from '../files.ts'
import { resealCopies } from './copies.ts'
import { sealAnew } from './sealing.ts'
import type { Env } from './environment.ts'
import { checkWritable, configPath, writeConfigText } from './write.ts'
import type { ConfigText } from './write.ts'

/** What a rotation did. */
export interface Rotated {
  readonly key: string
  readonly previous: string
  /** Paths that were sealed anew. */
  readonly sealed: readonly string[]
  /** The copy of the configuration from before; undefined where nothing is sealed. */
  readonly backup: string | undefined
  /** Copies of older files that were sealed anew. */
  readonly copies: readonly string[]
}

/**
 * Rotates the key of a home and seals a configuration anew; takes up a rotation that was cut off. Throws Failure, and
 * then everything opens as before. `step` is told what was just written, for tests of crashes.
 */
export function rotateKey(
  home: string,
  config: ConfigText | undefined,
  env: Env,
  random: (bytes: number) => Uint8Array,
  step: (written: string) => void = () => undefined,
): Rotated {
  const keys = findKeys(home, env)
  const { current, where, from } = keys
  if (from !== 'file') {
    throw new Failure(
      'KEY_ELSEWHERE',
      `the key comes from ${where}: without it "hardshell secrets rotate-key" uses the file in the home`,
    )
  }
  if (current === undefined) {
    throw new Failure('SECRETS_KEY', `${where} does not exist: run "hardshell secrets init"`)
  }
  const files = keyFiles(home)
  const next = nextKey(files.next, current, env, random)
  const anew =
    config === undefined ? { text: '', sealed: [] } : sealAnew(config.text, keys, next, random)
  if (config !== undefined && anew.sealed.length > 0) checkWritable(config.file, env)
  saveKey(files.next, next)
  step('next key')
  const changed = config !== undefined && anew.sealed.length > 0
  const backup = changed ? writeConfigText(config, anew.text, env, random) : undefined
  step('configuration')
  // Copies too: an older one must open when the key before the last is gone, and the last may be removed at once.
  const { file } = config ?? configPath(env)
  const copies = resealCopies(home, file, { ...keys, others: [...keys.others, next] }, next, random)
  step('copies')
  saveKey(files.previous, current)
  step('previous key')
  renameSync(files.next, files.current)
  syncFolder(files.current)
  step('current key')
  return { key: next.id, previous: current.id, sealed: anew.sealed, backup, copies }
}

/** The key that a rotation before this one left behind when it was cut off, or a fresh one. */
function nextKey(
  path: string,
  current: SecretsKey,
  env: Env,
  random: (bytes: number) => Uint8Array,
): SecretsKey {
  if (!existsSync(path)) return keyOf(random(32))
  const left = parseKey(readTrusted(path, env).text, path)
  return left.id === current.id ? keyOf(random(32)) : left
}
