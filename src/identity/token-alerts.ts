/** Says once each when a token has reached 80, 95 and 100 % of its age, also over restarts and several sidecars. */
import type { Failure } from '../errors.ts'
import { absent, type Store } from '../store/store.ts'
import { alertOf, type Rotation } from './token-life.ts'
import { asFailure, type Known } from './token-table.ts'

/** What the alerts need from outside. */
export interface TokenAlertsDeps {
  readonly store: Store
  readonly now: () => number
  readonly rotation?: Rotation | undefined
  readonly onTrouble?: ((failure: Failure) => void) | undefined
  /** Hears of each share once. */
  readonly tell: (known: Known, percent: number) => void
}

const prefix = 'token-alert/'

/** Remembers which shares were told. */
export class TokenAlerts {
  readonly #deps: TokenAlertsDeps
  readonly #told = new Map<string, number>()

  constructor(deps: TokenAlertsDeps) {
    this.#deps = deps
  }

  /** Looks at every token; `isGood` leaves out those that are not ours to speak of. Never rejects. */
  async look(tokens: readonly Known[], isGood: (known: Known) => boolean): Promise<void> {
    const { now, rotation, tell } = this.#deps
    if (rotation === undefined) return
    const at = now()
    for (const known of tokens) {
      // Most tokens are far from their end: this is asked several times a second.
      if (at < known.life.sunsetAt) continue
      const percent = alertOf(known.record, at, rotation)
      const { id } = known.record
      if (percent === undefined || (this.#told.get(id) ?? 0) >= percent || !isGood(known)) continue
      // Before the wait, so that the next beat does not tell it too.
      this.#told.set(id, percent)
      if (await this.#isFirst(id, percent, at + 3 * rotation.maxAgeMs)) tell(known, percent)
    }
  }

  /** Of all sidecars that share the store, the first to say so tells it; without a store, everyone does. */
  async #isFirst(id: string, percent: number, expiresAt: number): Promise<boolean> {
    const { store, onTrouble } = this.#deps
    const key = prefix + id
    try {
      for (;;) {
        const entry = await store.get(key)
        if (Number(entry?.value ?? 0) >= percent) return false
        const version = entry?.version ?? absent
        if (await store.compareAndSwap(key, version, String(percent), { expiresAt })) return true
      }
    } catch (thrown) {
      onTrouble?.(asFailure(thrown))
      return true
    }
  }
}
