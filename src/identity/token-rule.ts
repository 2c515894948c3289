/** The token rule of DESIGN §3: which values may guard the gateway. */
const { hash, timingSafeEqual } = process.getBuiltinModule('node:crypto')

/** Why a value may not be a token. */
export type TokenFault =
  | 'TOKEN_SHORT'
  | 'TOKEN_PLAIN'
  | 'TOKEN_EXAMPLE'
  | 'TOKEN_PATTERN'
  | 'TOKEN_IS_AGENTS'

/** A refused token: what is wrong and what to do, each one sentence without the value. */
export interface TokenVerdict {
  readonly code: TokenFault
  readonly message: string
  readonly remedy: string
}

/** Fewest characters of a token (seed: raised from 24 to 32). */
export const tokenCharsMin = 32
/** Fewest different characters of a token that is not hexadecimal. */
export const tokenDifferentMin = 20
/** Fewest digits of a hexadecimal token: 256 bits, what `openssl rand -hex 32` prints. */
export const tokenHexDigitsMin = 64
/** Fewest different digits of a hexadecimal token, which can have 16 at most. */
export const tokenHexDifferentMin = 10
/** Shortest stretch of a keyboard row or of the alphabet that is refused. */
export const tokenRunMin = 8

/**
 * Every token printed where an attacker can read it: the project's sources, OpenClaw's documentation, our own.
 * Compared without regard to case; a test reads our documents and fails when one prints a token that is not here.
 */
export const exampleTokens: readonly string[] = [
  'your-secure-random-token-here',
  'your-32-character-token-here-abcdefgh',
  'wrong-token',
  'choose-a-token',
  'some-strong-secret',
]

/** How a placeholder begins, without regard to case. */
export const examplePrefixes: readonly string[] = [
  'your-',
  'your_',
  '<your',
  'change-me',
  'change_me',
  'changeme',
  'example',
  'secret',
  '${',
]

/** Alphabets and keyboard rows (US, German, French), read in both directions. */
const rows = [
  '0123456789abcdefghijklmnopqrstuvwxyz',
  '1234567890-=',
  '~!@#$%^&*()_+',
  'qwertyuiopasdfghjklzxcvbnm',
  'qwertyuiop[]\\',
  "asdfghjkl;'",
  'zxcvbnm,./',
  'qwertzuiopasdfghjklyxcvbnm',
  'azertyuiopqsdfghjklmwxcvbn',
]

const generate = 'Make one with "openssl rand -hex 32" or "hardshell token new".'

const faults: Readonly<Record<TokenFault, TokenVerdict>> = {
  TOKEN_SHORT: {
    code: 'TOKEN_SHORT',
    message: `The token has fewer than ${tokenCharsMin} characters.`,
    remedy: generate,
  },
  TOKEN_PLAIN: {
    code: 'TOKEN_PLAIN',
    message:
      `The token has fewer than ${tokenDifferentMin} different characters ` +
      `and is not ${tokenHexDigitsMin} random hexadecimal digits.`,
    remedy: generate,
  },
  TOKEN_EXAMPLE: {
    code: 'TOKEN_EXAMPLE',
    message: 'The token is an example from documentation or a placeholder.',
    remedy: generate,
  },
  TOKEN_PATTERN: {
    code: 'TOKEN_PATTERN',
    message:
      'The token is a repeated block, has a keyboard or alphabet run of ' +
      `${tokenRunMin} or more, or has characters that a header cannot carry.`,
    remedy: generate,
  },
  TOKEN_IS_AGENTS: {
    code: 'TOKEN_IS_AGENTS',
    message: "The token is the same as the agent's own token (agent.token).",
    remedy: `Give the gateway a token of its own, so that clients never hold the agent's. ${generate}`,
  },
}

/**
 * Judges a token by the token rule; `undefined` means that it may be used. The answer never holds the value.
 */
export function judgeToken(
  value: string,
  options: { readonly agentToken?: string } = {},
): TokenVerdict | undefined {
  if (options.agentToken !== undefined && sameSecret(value, options.agentToken)) {
    return faults.TOKEN_IS_AGENTS
  }
  if (isExample(value)) return faults.TOKEN_EXAMPLE
  const characters = Array.from(value)
  if (characters.length < tokenCharsMin) return faults.TOKEN_SHORT
  if (!isVaried(value, characters)) return faults.TOKEN_PLAIN
  if (isRepeatedBlock(value) || hasRun(value) || !/^[\x21-\x7e]+$/.test(value)) {
    return faults.TOKEN_PATTERN
  }
  return undefined
}

/** True when both are the same text; the time depends on neither (CWE-208). */
export function sameSecret(left: string, right: string): boolean {
  return timingSafeEqual(hash('sha256', left, 'buffer'), hash('sha256', right, 'buffer'))
}

function isExample(value: string): boolean {
  const lower = value.toLowerCase()
  return exampleTokens.includes(lower) || examplePrefixes.some((start) => lower.startsWith(start))
}

function isVaried(value: string, characters: readonly string[]): boolean {
  if (new Set(characters).size >= tokenDifferentMin) return true
  return (
    value.length >= tokenHexDigitsMin &&
    /^[0-9a-f]+$/i.test(value) &&
    new Set(value.toLowerCase()).size >= tokenHexDifferentMin
  )
}

function isRepeatedBlock(value: string): boolean {
  // A text is a repeat exactly when it occurs in its own double before the middle.
  return (value + value).indexOf(value, 1) < value.length
}

function hasRun(value: string): boolean {
  const lower = value.toLowerCase()
  for (let at = 0; at + tokenRunMin <= lower.length; at += 1) {
    if (runs.has(lower.slice(at, at + tokenRunMin))) return true
  }
  return false
}

const runs: ReadonlySet<string> = new Set(
  rows
    .flatMap((row) => [row, Array.from(row).reverse().join('')])
    .flatMap((row) =>
      Array.from({ length: row.length - tokenRunMin + 1 }, (_, at) =>
        row.slice(at, at + tokenRunMin),
      ),
    ),
)
