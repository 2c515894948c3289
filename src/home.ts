/** Where an installation lives: HARDSHELL_HOME, or ~/.hardshell. */
const { homedir } = process.getBuiltinModule('node:os')
const { isAbsolute, join, resolve } = process.getBuiltinModule('node:path')

/** The home directory of this installation, absolute; HOME decides where HARDSHELL_HOME is not set. */
export function homeOf(env: Readonly<Record<string, string | undefined>>): string {
  const given = env['HARDSHELL_HOME']
  if (given !== undefined && given !== '') return isAbsolute(given) ? given : resolve(given)
  const user = env['HOME']
  return join(user === undefined || user === '' ? homedir() : user, '.hardshell')
}
