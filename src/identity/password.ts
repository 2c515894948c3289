/** The password: argon2id (RFC 9106) as a PHC string. The one file that knows argon2, which is loaded at first use. */
import { hash, randomBytes, timingSafeEqual } from 'node:crypto'

import { Failure, messageOf } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Store } from '../store/store.ts'

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

/** The hash of a password as a PHC string, with a fresh salt. Costs some 200 ms and 64 MiB. */
export async function hashPassword(
  password: string,
  cost: HashCost = costDefault,
  random: (count: number) => Uint8Array = randomBytes,
): Promise<string> {
  const salt = Buffer.from(random(saltBytes))
  const tag = await derive(password, { cost, salt, tag: Buffer.alloc(tagBytes) })
  const { memory, passes, lanes } = cost
  const parameters = `m=${memory},t=${passes},p=${lanes}`
  return `$argon2id$v=19$${parameters}$${unpadded(salt)}$${unpadded(tag)}`
}

const unpadded = (bytes: Buffer) => bytes.toString('base64').replace(/=+$/, '')

async function matches(password: string, known: PasswordHash): Promise<boolean> {
  return timingSafeEqual(await derive(password, known), known.tag)
}

/** Keyboards write one letter in several ways: all are the same letter (Unicode NFC) here. */
async function derive(password: string, { cost, salt, tag }: PasswordHash): Promise<Buffer> {
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

/** What became of an attempt: `barred` when `mayTry` said no once its turn had come. */
export type Attempt = 'right' | 'wrong' | 'busy' | 'barred'

/** What the password needs from outside. */
export interface PasswordDeps {
  readonly store: Store
  /** `gateway.auth.passwordHash`, already judged. */
  readonly configured: string
  /** Hears when a weak hash was replaced, and when that failed. */
  readonly onUpgrade?: (failure?: Failure) => void
  /** Verifications that may wait for their turn. */
  readonly waitingMax?: number
  readonly random?: (count: number) => Uint8Array
}

const upgradeKey = 'password/upgrade'

/**
 * The one password. Verifications run one at a time behind a short queue, because each takes a processor and much
 * memory. A weak configured hash is upgraded at the first right password: the stronger hash lives in the store, for as
 * long as the configuration holds the very hash that it was made for. The configuration is never written.
 */
export class Password {
  /** Which configured password this is: sessions end when it changes. 16 hexadecimal digits, no secret. */
  readonly generation: string
  readonly #deps: PasswordDeps
  readonly #waiting: (() => void)[] = []
  #known: PasswordHash
  #running = false
  #upgrading: Promise<void> = Promise.resolve()

  private constructor(deps: PasswordDeps, known: PasswordHash) {
    this.#deps = deps
    this.#known = known
    this.generation = generationOf(deps.configured)
  }

  /** Reads the stored upgrade. Fails with PASSWORD_HASH when the configured hash cannot be used. */
  static async open(deps: PasswordDeps): Promise<Password> {
    const configured = readHash(deps.configured)
    if ('because' in configured) {
      throw new Failure('PASSWORD_HASH', `gateway.auth.passwordHash ${configured.because}.`)
    }
    const stored = readUpgrade((await deps.store.get(upgradeKey))?.value)
    if (stored === undefined) return new Password(deps, configured)
    if (stored.of !== generationOf(deps.configured) || !isWeak(configured)) {
      await deps.store.remove(upgradeKey)
      return new Password(deps, configured)
    }
    return new Password(deps, stored.known)
  }

  /** True while the hash that is verified against is weaker than a new one would be. */
  get weak(): boolean {
    return isWeak(this.#known)
  }

  /**
   * Compares a password in its turn. `mayTry` is asked when the turn has come, before anything is computed: in the
   * meantime the address may have been locked, or the client may have gone.
   */
  async attempt(password: string, mayTry: () => boolean): Promise<Attempt> {
    if (this.#running && this.#waiting.length >= this.#waitingMax) return 'busy'
    await this.#turn()
    try {
      if (!mayTry()) return 'barred'
      const known = this.#known
      if (!(await matches(password, known))) return 'wrong'
      if (isWeak(known)) this.#upgrading = this.#upgrade(password, known)
      return 'right'
    } finally {
      this.#pass()
    }
  }

  /** Waits for an upgrade under way. */
  async close(): Promise<void> {
    await this.#upgrading
  }

  get #waitingMax(): number {
    return this.#deps.waitingMax ?? limits.passwordWaiting.default
  }

  async #turn(): Promise<void> {
    if (!this.#running) {
      this.#running = true
      return
    }
    await new Promise<void>((resolve) => {
      this.#waiting.push(resolve)
    })
  }

  /** Hands the turn to the next, without a moment in which it is free. */
  #pass(): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#running = false
    else next()
  }

  async #upgrade(password: string, from: PasswordHash): Promise<void> {
    const { store, onUpgrade, random } = this.#deps
    await this.#turn()
    try {
      if (this.#known !== from) return
      const cost = {
        memory: Math.max(from.cost.memory, costDefault.memory),
        passes: Math.max(from.cost.passes, costDefault.passes),
        lanes: from.cost.lanes,
      }
      const text = await hashPassword(password, cost, random)
      const known = readHash(text)
      if ('because' in known) throw new TypeError(`a new hash ${known.because}`)
      await store.put(upgradeKey, JSON.stringify({ of: this.generation, hash: text }))
      this.#known = known
      onUpgrade?.()
    } catch (thrown) {
      // The weaker hash stays good, and the next login tries again.
      onUpgrade?.(
        thrown instanceof Failure ? thrown : new Failure('PASSWORD_UPGRADE', messageOf(thrown)),
      )
    } finally {
      this.#pass()
    }
  }
}

const generationOf = (configured: string) => hash('sha256', configured).slice(0, 16)

function readUpgrade(
  text: string | undefined,
): { readonly of: string; readonly known: PasswordHash } | undefined {
  if (text === undefined) return undefined
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value !== 'object' || value === null) return undefined
    if (!('of' in value) || !('hash' in value)) return undefined
    const { of, hash: phc } = value
    if (typeof of !== 'string' || typeof phc !== 'string') return undefined
    const known = readHash(phc)
    return 'because' in known ? undefined : { of, known }
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}
