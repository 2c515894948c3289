/** Password hashes: argon2id (RFC 9106) as PHC strings. The one file that knows argon2, which is loaded at first use. */

import { limits } from '../limits.ts'

const { randomBytes, timingSafeEqual } = process.getBuiltinModule('node:crypto')

/** What one hash costs. */
export interface HashCost {
  /** Memory in KiB. */
  readonly memory: number
  readonly passes: number
  readonly lanes: number
}

/** A PHC string, read. */
export interface PasswordHash {
  readonly cost: HashCost
  readonly salt: Buffer
  readonly tag: Buffer
}

/** What a new hash costs: 64 MiB, three passes, four lanes. */
export const costDefault: HashCost = {
  memory: limits.passwordMemory.default / 1024,
  passes: limits.passwordPasses.default,
  lanes: limits.passwordLanes.default,
}

const saltBytes = 16
const tagBytes = 32

/** Parameters stand as m, t, p (the reference program) or m, p, t (some libraries); `data` is never used. */
const form =
  /^\$argon2id\$v=19\$m=(\d{1,9}),(?:t=(\d{1,9}),p=(\d{1,9})|p=(\d{1,9}),t=(\d{1,9}))\$([A-Za-z0-9+/]{11,86})\$([A-Za-z0-9+/]{16,86})$/

/**
 * Reads a PHC string, or says in words that complete "the hash …" why it cannot be used. Costs are bounded on both
 * sides: too little can be guessed, and too much lets one login take the machine's memory (CWE-400).
 */
export function readHash(text: string): PasswordHash | { readonly because: string } {
  const found = form.exec(text)
  if (found === null) return { because: 'is not an argon2id PHC string' }
  const [, m, t = found[5], p = found[4], salt = '', tag = ''] = [
    ...found.slice(0, 4),
    found[6],
    found[7],
  ]
  const cost = { memory: Number(m), passes: Number(t), lanes: Number(p) }
  const because = costProblem(cost)
  if (because !== undefined) return { because }
  return { cost, salt: Buffer.from(salt, 'base64'), tag: Buffer.from(tag, 'base64') }
}

function costProblem({ memory, passes, lanes }: HashCost): string | undefined {
  const { passwordMemory, passwordPasses, passwordLanes } = limits
  const rows = [
    ['m', memory, passwordMemory.min / 1024, passwordMemory.max / 1024, 'KiB of memory'],
    ['t', passes, passwordPasses.min, passwordPasses.max, 'passes'],
    ['p', lanes, passwordLanes.min, passwordLanes.max, 'lanes'],
  ] as const
  for (const [name, value, min, max, unit] of rows) {
    if (value < min || value > max) {
      return `has ${name}=${value}, and only ${min} to ${max} ${unit} are accepted`
    }
  }
  return undefined
}

/** True when the hash costs a guesser less than a new one would: less memory, fewer passes, a shorter salt or tag. */
export function isWeak({ cost, salt, tag }: PasswordHash): boolean {
  return (
    cost.memory < costDefault.memory ||
    cost.passes < costDefault.passes ||
    salt.length < saltBytes ||
    tag.length < tagBytes
  )
}

/** What keeps a text from being a good password, to complete "the password …"; undefined when nothing does. */
export function passwordProblem(password: string): string | undefined {
  const { min, max } = limits.passwordBytes
  const characters = [...password.normalize('NFC')]
  if (characters.length < min) return `has ${characters.length} characters, and ${min} are needed`
  if (Buffer.byteLength(password) > max) return `is longer than ${max} bytes`
  if (/[\u0000-\u001f\u007f]/.test(password)) return 'has a line end or another control character'
  if (new Set(characters).size < differentMin) {
    return `has fewer than ${differentMin} different characters`
  }
  return undefined
}

const differentMin = 5

/** Computes the tag of a password, as the cost, the salt and the length of another tag say. */
export type Derive = (password: string, like: PasswordHash) => Promise<Buffer>

/** The hash of a password as a PHC string, with a fresh salt. Costs some 200 ms and 64 MiB. */
export async function hashPassword(
  password: string,
  cost: HashCost = costDefault,
  compute: Derive = derive,
): Promise<string> {
  const salt = randomBytes(saltBytes)
  const tag = await compute(password, { cost, salt, tag: Buffer.alloc(tagBytes) })
  const { memory, passes, lanes } = cost
  const parameters = `m=${memory},t=${passes},p=${lanes}`
  return `$argon2id$v=19$${parameters}$${unpadded(salt)}$${unpadded(tag)}`
}

const unpadded = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')

/** True when the password is the one that was hashed; compared in constant time. */
export async function isPassword(
  password: string,
  known: PasswordHash,
  compute: Derive = derive,
): Promise<boolean> {
  const tag = await compute(password, known)
  return tag.length === known.tag.length && timingSafeEqual(tag, known.tag)
}

/**
 * Computes here and now, on a thread of libuv's pool and as many more as there are lanes. Keyboards write one letter in
 * several ways: all are the same letter (Unicode NFC).
 */
export async function derive(password: string, { cost, salt, tag }: PasswordHash): Promise<Buffer> {
  const argon2 = await import('argon2')
  return argon2.hash(Buffer.from(password.normalize('NFC')), {
    raw: true,
    type: argon2.argon2id,
    version: 0x13,
    hashLength: tag.length,
    memoryCost: cost.memory,
    timeCost: cost.passes,
    parallelism: cost.lanes,
    salt,
  })
}
