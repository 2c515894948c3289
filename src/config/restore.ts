/** One copy of the configuration back in its place, byte for byte. */
import { existsSync } from 'node:fs'
import { writeAtomic } from '../files.ts'
import { findKeys } from '../secrets/key.ts'
import { openCopy, showsSecret } from './copies.ts'
import type { Env } from './environment.ts'
import type { Problem } from './problems.ts'
import { configPath, judgeText, readConfigText, writeConfigText } from './write.ts'

/** What was put back. */
export interface RestoredCopy {
  readonly file: string
  /** The copy of what stood there; undefined when that was the same, or nothing. */
  readonly backup: string | undefined
  /** The file has other bytes than before. */
  readonly changed: boolean
  /** It shows secrets. */
  readonly plain: boolean
  /** What is wrong with it, as it was then. */
  readonly left: readonly Problem[]
}

/**
 * Puts a copy in the place of the configuration, after a copy of that. Throws Failure, and then nothing was changed: the
 * copy may not be used or does not open, or the file is not for us to change.
 */
export function restoreCopy(
  copy: string,
  named: string | undefined,
  env: Env,
  random: (bytes: number) => Uint8Array,
): RestoredCopy {
  const { file, home } = configPath(env, named)
  const text = openCopy(copy, findKeys(home, env)).toString('utf8')
  const before = existsSync(file) ? readConfigText(env, named) : undefined
  const changed = text !== before?.text
  const copied = before !== undefined && changed
  const backup = copied ? writeConfigText(before, text, env, random) : undefined
  if (before === undefined) writeAtomic(file, text)
  const left = judgeText({ file, home, text }, env)
  return { file, backup, changed, plain: showsSecret(text), left }
}
