/** What Node compiled of our modules is kept for the next start (module.enableCompileCache), a tenth of its time. */

import type { Stats } from 'node:fs'

import { codeOf } from './errors.ts'
import { homeOf } from './home.ts'

const { lstatSync } = process.getBuiltinModule('node:fs')
const { join } = process.getBuiltinModule('node:path')

/** The folder below home; Node makes one in it for each version of itself. */
const folder = 'cache'

/**
 * Keeps compiled code below the home folder of this environment. Compiled code is code: it is used only where nobody but
 * us can write, and in no folder that does not exist yet. A start without it is slower, and no worse.
 */
export function keepCompiled(env: Readonly<Record<string, string | undefined>>): void {
  const home = homeOf(env)
  const cache = join(home, folder)
  if (!isOurs(home) || !isOurs(cache, 'or absent')) return
  process.getBuiltinModule('node:module').enableCompileCache(cache)
}

/** True for a folder, no link, that is ours and that nobody else can write to. */
function isOurs(path: string, absent?: 'or absent'): boolean {
  let found: Stats | undefined
  try {
    found = lstatSync(path, { throwIfNoEntry: false })
  } catch (thrown) {
    // What may not be looked at (EACCES, ELOOP, ENAMETOOLONG) is not ours; the command says so where it matters.
    if (codeOf(thrown) === '') throw thrown
    return false
  }
  if (found === undefined) return absent !== undefined
  return found.isDirectory() && found.uid === process.getuid?.() && (found.mode & 0o022) === 0
}
