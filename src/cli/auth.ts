/** `hardshell auth hash-password | logout-all`. */
import { callAdmin } from '../admin/client.ts'
import { Failure } from '../errors.ts'
import { hashPassword, passwordProblem } from '../identity/password.ts'
import type { Command, Io } from './command.ts'

/** The rows of `hardshell auth`. */
export const authCommands: readonly Command[] = [
  {
    name: 'auth hash-password',
    summary:
      'Ask for a password, or read it from standard input, and print only its argon2id hash.',
    run: async ({ json, io }) => {
      const passwordHash = await hashPassword(await readPassword(io))
      io.out(json ? JSON.stringify({ passwordHash }) : passwordHash)
      return 0
    },
  },
  {
    name: 'auth logout-all',
    summary: 'End every session of the password and close what it opened.',
    run: async ({ json, io }) => {
      const answer = (await callAdmin(io.env, 'auth.logoutAll')) as { readonly ended: number }
      io.out(json ? JSON.stringify(answer) : `ended ${answer.ended} sessions`)
      return 0
    },
  },
]

async function readPassword(io: Io): Promise<string> {
  const typed = await io.askHidden?.('Password: ')
  const password = typed ?? (await io.stdin())
  const because = passwordProblem(password)
  if (because !== undefined) throw wrong(`The password ${because}.`)
  if (typed !== undefined && (await io.askHidden?.('Once more: ')) !== typed) {
    throw wrong('The two passwords differ.')
  }
  return password
}

const wrong = (message: string) => new Failure('PASSWORD_INPUT', message, { exitCode: 2 })
