/** The password of the gateway: compared one at a time, and upgraded when its hash is weak. */
import { hash } from 'node:crypto'

import { Failure, messageOf } from '../errors.ts'
import { limits } from '../limits.ts'
import type { Store } from '../store/store.ts'
import {
  costDefault,
  hashPassword,
  isPassword,
  isWeak,
  readHash,
  type Derive,
  type PasswordHash,
} from './password.ts'

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
  /** Where hashes are computed; here unless said otherwise. */
  readonly derive?: Derive
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
      if (!(await isPassword(password, known, this.#deps.derive))) return 'wrong'
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
    const { store, onUpgrade } = this.#deps
    await this.#turn()
    try {
      if (this.#known !== from) return
      const cost = {
        memory: Math.max(from.cost.memory, costDefault.memory),
        passes: Math.max(from.cost.passes, costDefault.passes),
        lanes: from.cost.lanes,
      }
      const text = await hashPassword(password, cost, this.#deps.derive)
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
