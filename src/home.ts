/** Where an installation lives: HARDSHELL_HOME, or ~/.hardshell. */
import { codeOf } from './errors.ts'

const { lstatSync } = process.getBuiltinModule('node:fs')
const { homedir } = process.getBuiltinModule('node:os')
const { isAbsolute, join, resolve } = process.getBuiltinModule('node:path')

/** The home directory of this installation, absolute; HOME decides where HARDSHELL_HOME is not set. */
export function homeOf(env: Readonly<Record<string, string | undefined>>): string {
  const given = env['HARDSHELL_HOME']
  if (given !== undefined && given !== '') return isAbsolute(given) ? given : resolve(given)
  const user = env['HOME']
  return join(user === undefined || user === '' ? homedir() : user, '.hardshell')
}

/** The longest path that a Unix socket can have on Linux (`sun_path` less its end mark), bytes. */
const socketPathBytes = 107

/** Why nothing can live in this folder, as the rest of a sentence about it; undefined when it can be, or become, a home. */
export function whyNoHome(home: string): string | undefined {
  if (Buffer.byteLength(join(home, 'run', 'admin.sock')) > socketPathBytes) {
    return `is too long a path for the Unix sockets in it (at most ${socketPathBytes} bytes with "/run/admin.sock")`
  }
  try {
    const found = lstatSync(home, { throwIfNoEntry: false })
    return found === undefined || found.isDirectory() ? undefined : 'is not a folder'
  } catch (thrown) {
    switch (codeOf(thrown)) {
      case 'EACCES':
        return 'may not be opened by this user'
      case 'ELOOP':
        return 'is reached through links that lead in a circle'
      default:
        return `cannot be opened (${codeOf(thrown)})`
    }
  }
}
