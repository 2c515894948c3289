/** What can be wrong with a configuration, and how it is said: every problem at once, each with its remedy. */
import { Failure } from '../errors.ts'

/** Every code of a configuration problem with its meaning, for docs/errors.md. */
export const problemMeanings = {
  ADDRESS: 'The value is not an address that can be bound or reached.',
  ALLOWLIST_EMPTY: 'denyByDefault is false while the allowlist is empty: anyone could connect.',
  BIND_ALL: 'The gateway would listen on every network of the machine.',
  BIND_CONTAINER: 'bind "container" is only for a Hardshell that runs inside a container.',
  BOUNDS: 'The value is outside its bounds.',
  CHOICE: 'The value is not one of those allowed.',
  CONFIG_MISSING: 'The configuration file that was named does not exist.',
  DUPLICATE_KEY: 'A key stands twice in one object, so that a reader may see either value.',
  ENVIRONMENT: 'A variable of the environment has a value that is not acceptable.',
  EXCLUSIVE: 'Two keys exclude each other.',
  FILE_KIND: 'A file is not a regular file, or a folder is not a folder.',
  FILE_LARGE: 'A file is larger than what it may hold.',
  FILE_LINK: 'A file or its folder is a symbolic link, or a link leaves its mount.',
  FILE_LINKS: 'A file has more than one name (hard links).',
  FILE_MISSING: 'A file does not exist.',
  FILE_MODE: 'A file or its folder is open to other users.',
  FILE_MOVED: 'A folder that links lead through was replaced while the file was read.',
  FILE_OWNER: 'A file or its folder belongs to another user.',
  FILE_READ: 'A file cannot be read.',
  FORMAT: 'The value is not in the form that the key needs.',
  HANDLE: 'An entry of a list can change hands, or is no id of that channel.',
  KEY_NEEDED: 'A key is missing that another key needs.',
  LOOP: 'The agent address is the address of Hardshell itself.',
  LOOSER: 'The value would loosen the sandbox; these keys may only tighten it.',
  NOT_AVAILABLE: 'The key or value belongs to a capability that is not available in this version.',
  PASSWORD_HASH:
    'The password hash is missing, elided, out of bounds or not an argon2id PHC string.',
  POLICY_OPEN: 'The policy "open" was removed; use "pairing".',
  SANDBOX_OFF: 'The sandbox is off, but agent.image runs only in a sandbox.',
  SEALED: 'A sealed value cannot be opened: it was changed, or is none.',
  SECRETS_KEY: 'The key that opens sealed values is missing, wrong or malformed.',
  SECRET_MISSING: 'A channel that can be reached lacks what its proof needs.',
  SYNTAX: 'The file is not JSON5.',
  TOKEN_EXAMPLE: 'The token is an example that is printed in public.',
  TOKEN_IS_AGENTS: "The token is the agent's own token.",
  TOKEN_MISSING: 'There is no token.',
  TOKEN_PATTERN: 'The token is a repeated block or a keyboard or alphabet run.',
  TOKEN_PLAIN: 'The token has too few different characters.',
  TOKEN_SHORT: 'The token is too short.',
  TYPE: 'The value has the wrong type.',
  UNIT: 'The size or duration is not written as a whole number with a unit.',
  UNKNOWN_KEY: 'The key does not exist.',
  VARIABLE_SYNTAX: 'A ${…} does not hold the name of a variable.',
  VARIABLE_UNSET: 'A ${VARIABLE} is not set in the environment.',
  WILDCARD: 'The entry "*" would let everyone in.',
} as const

/** The stable name of a configuration problem. */
export type ProblemCode = keyof typeof problemMeanings

/** One thing that is wrong: where, what, and what to do. Never holds the value of a secret. */
export interface Problem {
  readonly code: ProblemCode
  /** Key path like `gateway.auth.token`, name of a file or variable, or empty for the whole file. */
  readonly path: string
  readonly message: string
  readonly remedy: string
}

/** One thing to know about a configuration that loads. */
export interface Notice {
  readonly level: 'CRITICAL' | 'WARNING' | 'INFO'
  /** Stable code of the notice. */
  readonly code: string
  readonly path: string
  readonly message: string
  readonly remedy: string
}

/** A problem or notice on one line. */
export function lineOf(said: Problem | Notice): string {
  const subject = said.path === '' ? '' : `${said.path} `
  return `${subject}${said.message}. ${said.remedy}`
}

/** The configuration cannot be used; `problems` has every reason. */
export class ConfigFailure extends Failure {
  /** The file that was judged, if there was one. */
  readonly file: string | undefined
  /** Every problem that was found, sorted by path. */
  readonly problems: readonly Problem[]

  constructor(file: string | undefined, problems: readonly Problem[]) {
    const where = file === undefined ? 'configuration' : file
    const first = problems[0]
    super(
      first !== undefined && problems.length === 1 ? first.code : 'CONFIG_INVALID',
      first !== undefined && problems.length === 1
        ? `${where}: ${lineOf(first)}`
        : [`${where}: ${problems.length} problems`, ...problems.map(lineOf)].join('\n  '),
    )
    this.name = 'ConfigFailure'
    this.file = file
    this.problems = problems
  }
}
