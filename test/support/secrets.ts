/** Every secret that a test plants, by name, so that the end of the run can look for each in all that was produced. */
import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { secretsIn, spellPath } from '../../src/config/sealing.ts'

/** What a secret is for: the places where it may stand depend on this alone. */
export type SecretKind =
  /** The configured token of the gateway. */
  | 'gateway token'
  /** A token that `token new` or a login gave to a client, or the cookie of a session. */
  | 'client token'
  /** A JWT that an issuer made for a client. */
  | 'jwt'
  /** What Hardshell shows to the agent in place of the client's credential. */
  | 'agent token'
  /** A password that people log in with. */
  | 'password'
  /** A bot's token, or what signs the messages of a service. */
  | 'channel credential'
  /** A key in the folder of keys. */
  | 'key'
  /** What alone opens a backup of keys. */
  | 'passphrase'

/** One line of the register. */
export interface Planted {
  readonly kind: SecretKind
  /** Says which one it is, without saying it. */
  readonly name: string
  readonly value: string
}

/** Fewest characters that are looked for. */
export const shortest = 7

/** The folder of this run's evidence; undefined where a file is tested alone, without the search at the end. */
export const evidence = process.env['TEST_EVIDENCE']

/** Registers a secret and returns it. Shorter than 7 characters it could not be told from chance. */
export function plant(kind: SecretKind, name: string, value: string): string {
  if (value.length < shortest) throw new Error(`the secret ${name} is too short to be looked for`)
  if (evidence === undefined) return value
  mkdirSync(join(evidence, 'planted'), { recursive: true })
  const planted: Planted = { kind, name, value }
  appendFileSync(join(evidence, 'planted', `${process.pid}.jsonl`), `${JSON.stringify(planted)}\n`)
  return value
}

/** The plain secrets of a configuration that is long enough to be looked for, by the table of settings. */
export function secretsOf(document: unknown, least = shortest): readonly Planted[] {
  return secretsIn(document)
    .filter(({ kind, value }) => kind === 'plain' && value.length >= least)
    .map(({ path, value }) => {
      const name = spellPath(path)
      return { kind: kindOf(name), name, value }
    })
}

function kindOf(path: string): SecretKind {
  if (path.startsWith('gateway.auth.password')) return 'password'
  if (path.startsWith('gateway.')) return 'gateway token'
  return /^agent\.|\.agentToken$/.test(path) ? 'agent token' : 'channel credential'
}

/** Registers every plain secret of a configuration that a test wrote, and returns the configuration. */
export function plantAll<T>(document: T): T {
  for (const { kind, name, value } of secretsOf(document)) plant(kind, name, value)
  return document
}
