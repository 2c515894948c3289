/** What the command line and the admin socket can do with tokens; one function for both. */
import { Failure } from '../errors.ts'
import type { Scope } from '../gates/gate.ts'
import { days, minutes } from '../limits.ts'
import { parseNetwork } from './address.ts'
import { scopes, type TokenView } from './token-record.ts'
import type { Rotated } from './token-rotation.ts'
import type { TokenBook } from './tokens.ts'

/** The part of the audit log that the operations need. */
export interface TokenAudit {
  append(entry: {
    readonly event: string
    readonly identity: string
    readonly because: string
  }): void
}

/** What the operations work on. */
export interface TokenContext {
  readonly tokens: TokenBook
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Hears of new tokens; that one ended is told by the book itself. */
  readonly audit?: TokenAudit
}

/** The answer of `token.new`: the only place where the text of a token ever stands. */
export interface TokenMade {
  readonly token: string
  readonly view: TokenView
}

/** The answer of `token.list`, and the moment that ages count to, ms since the epoch. */
export interface TokenList {
  readonly tokens: readonly TokenView[]
  readonly now: number
}

/** The answer of `token.inspect`: nothing for a token that is not known here. */
export interface TokenInspected {
  readonly view?: TokenView
  readonly now: number
}

/** Shortest and longest life of a token that expires. */
export const tokenLifeMs = { min: minutes(1), max: days(3660) }
/** Most scopes, paths or networks of one token. */
export const tokenListMax = 32

const pathCharsMax = 1024
const namePattern = /^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$/

/** One operation: a checked input in, an answer for `--json` out; fails with a Failure. */
export type TokenOperation = (input: unknown) => Promise<unknown>

/**
 * `token.new`, `token.list`, `token.rotate`, `token.retire`, `token.revoke` and `token.inspect`. Inputs come from outside
 * and are checked here.
 */
export function tokenOperations({
  tokens,
  now,
  audit,
}: TokenContext): Readonly<Record<string, TokenOperation>> {
  return {
    'token.new': async (input): Promise<TokenMade> => {
      const fields = fieldsOf(input, ['name', 'scopes', 'paths', 'networks', 'expiresInMs'])
      const name = nameOf(fields['name'])
      const expiresInMs = lifeOf(fields['expiresInMs'])
      const made = await tokens.create({
        ...(name === undefined ? {} : { name }),
        scopes: scopesOf(fields['scopes']),
        paths: listOf(fields['paths'], '--path').map(checkPath),
        networks: listOf(fields['networks'], '--cidr').map(checkNetwork),
        ...(expiresInMs === undefined ? {} : { expiresAt: now() + expiresInMs }),
      })
      audit?.append({
        event: 'token.created',
        identity: made.view.name,
        because: `scope ${made.view.scopes.join(' ')}, fingerprint ${made.view.fingerprint}`,
      })
      return made
    },
    'token.list': async (input): Promise<TokenList> => {
      fieldsOf(input, [])
      await tokens.refresh()
      return { tokens: tokens.list(), now: now() }
    },
    // Two steps, so that the new token can be shown before the old one is refused.
    'token.rotate': async (input): Promise<Rotated> => {
      const { since, ...named } = fieldsOf(input, ['token', 'since'])
      return tokens.rotate(namedBy(named), sinceOf(since))
    },
    'token.retire': async (input): Promise<TokenView> => tokens.retire(namedBy(input)),
    'token.revoke': async (input): Promise<TokenView> => tokens.revoke(namedBy(input)),
    // Asked by its hash: the token itself stays with who has it.
    'token.inspect': async (input): Promise<TokenInspected> => {
      const { digest } = fieldsOf(input, ['digest'])
      if (typeof digest !== 'string' || !digestForm.test(digest)) {
        throw bad('The input has no SHA-256 in base64 as "digest".')
      }
      await tokens.refresh()
      const view = tokens.inspect(digest)
      return { ...(view === undefined ? {} : { view }), now: now() }
    },
  }
}

const digestForm = /^[A-Za-z0-9+/]{43}=$/

/** The id or name of the token that is meant. */
function namedBy(input: unknown): string {
  const { token } = fieldsOf(input, ['token'])
  if (typeof token !== 'string' || token === '' || token.length > 128) {
    throw bad('Name the token by its id or name, see "hardshell token list".')
  }
  // A shell history is no place for a secret, and here one may just have been put there.
  if (token.startsWith('hsk_')) {
    throw bad('That is a token, not its id: take the id from "hardshell token list".')
  }
  return token
}

/** When the command began that asks; one that does not say so has seen everything. */
function sinceOf(value: unknown): number | undefined {
  if (value === undefined || (typeof value === 'number' && Number.isSafeInteger(value)))
    return value
  throw bad('"since" must be ms since the epoch.')
}

const bad = (message: string) => new Failure('TOKEN_INPUT', message, { exitCode: 2 })

function fieldsOf(input: unknown, known: readonly string[]): Readonly<Record<string, unknown>> {
  if (input === undefined || input === null) return {}
  if (typeof input !== 'object' || Array.isArray(input)) throw bad('The input is not an object.')
  const unknown = Object.keys(input).find((key) => !known.includes(key))
  if (unknown !== undefined) throw bad(`The input has an unknown field "${unknown.slice(0, 64)}".`)
  return { ...input }
}

function nameOf(value: unknown): string | undefined {
  if (value === undefined) return undefined
  if (typeof value === 'string' && namePattern.test(value) && !value.startsWith('hsk_'))
    return value
  throw bad(
    '--name takes 1 to 64 of the characters A-Z a-z 0-9 . _ @ -, beginning with a letter or digit.',
  )
}

function lifeOf(value: unknown): number | undefined {
  if (value === undefined) return undefined
  const { min, max } = tokenLifeMs
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) {
    return value
  }
  throw bad('--expires must be between "1m" and "3660d".')
}

function scopesOf(value: unknown): readonly Scope[] {
  const asked = listOf(value, '--scope')
  if (asked.length === 0) return ['operate']
  const found = asked.map((name) => {
    const scope = scopes.find((each) => each === name)
    if (scope === undefined) throw bad(`--scope must be one of ${scopes.join(', ')}.`)
    return scope
  })
  return [...new Set(found)]
}

function listOf(value: unknown, option: string): readonly string[] {
  if (value === undefined) return []
  const isText = (item: unknown) => typeof item === 'string'
  if (!Array.isArray(value) || !value.every(isText)) throw bad(`${option} must be a list of texts.`)
  if (value.length > tokenListMax)
    throw bad(`${option} may be given ${tokenListMax} times at most.`)
  return value
}

/** A prefix must be spelled as canonical paths are, or it would never match. */
function checkPath(path: string): string {
  const canonical =
    path.length <= pathCharsMax &&
    /^\/[\x21-\x7e]*$/.test(path) &&
    !/[?#\\]|\/\/|(?:^|\/)\.\.?(?:\/|$)|%2e|%2f|%5c/i.test(path)
  if (canonical) return path
  throw bad(
    '--path must be a plain path like "/api": no "?", "#", "//", dot segment or encoded separator.',
  )
}

function checkNetwork(text: string): string {
  const network = parseNetwork(text)
  if (network !== undefined) return network.text
  throw bad('--cidr must be a network like "10.0.0.0/8" or "fd00::/8", or one address.')
}
