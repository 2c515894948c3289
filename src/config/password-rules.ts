/** Rules of the password: its hash is there when the mode needs it, and costs neither too little nor too much. */
import { costDefault, isWeak, readHash } from '../identity/password.ts'
import type { Notice, Problem } from './problems.ts'
import type { Subject } from './rules.ts'

const path = 'gateway.auth.passwordHash'
const remedy = 'Print one with "hardshell auth hash-password".'

/** What is wrong with the password of a configuration. */
export function passwordProblems({ config, isTroubled }: Subject): readonly Problem[] {
  const { mode, passwordHash } = config.gateway.auth
  if (isTroubled(path) || isTroubled('gateway.auth.mode')) return []
  if (passwordHash === undefined) {
    if (mode !== 'password') return []
    const message = 'is missing, and mode "password" admits nobody without it'
    return [{ code: 'PASSWORD_HASH', path, message, remedy }]
  }
  if (mode !== 'password') {
    return [
      {
        code: 'EXCLUSIVE',
        path,
        message: 'has no effect unless gateway.auth.mode is "password"',
        remedy: 'Remove it, or set the mode.',
      },
    ]
  }
  const read = readHash(passwordHash)
  if (!('because' in read)) return []
  return [{ code: 'PASSWORD_HASH', path, message: read.because, remedy }]
}

/** What is worth knowing about a password that can be used. */
export function passwordNotices({ gateway: { auth } }: Subject['config']): readonly Notice[] {
  if (auth.mode !== 'password' || auth.passwordHash === undefined) return []
  const read = readHash(auth.passwordHash)
  if ('because' in read || !isWeak(read)) return []
  const { memory, passes, lanes } = costDefault
  return [
    {
      level: 'WARNING',
      code: 'PASSWORD_HASH_WEAK',
      path,
      message: `is cheaper to guess than m=${memory},t=${passes},p=${lanes}; the next login stores a stronger one in state.db`,
      remedy: 'Replace it here too: run "hardshell auth hash-password" with the same password.',
    },
  ]
}
