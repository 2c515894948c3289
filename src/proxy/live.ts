/** What is open now, by identity and address: what a revoked token, a lockdown or a drain must end. */

/** Why a live exchange must end although neither side wants it to. */
export type LiveEnd = 'revoked' | 'rotated' | 'lockdown' | 'drain'

/** What is looked at on every beat: idle limits, pings, stalled endings. */
export interface Ticking {
  tick(): void
}

/** Bounds of the registry; both caps count WebSockets only. */
export interface LiveSettings {
  readonly maxPerIdentity: number
  readonly maxPerAddress: number
  /** Time between two beats in ms [500]: one timer for all sockets, because 5,000 timers cost more than one sweep. */
  readonly beatMs?: number
}

const defaultBeatMs = 500

interface Entry {
  readonly identityId: string
  /** Set for a WebSocket, which counts against both caps. */
  readonly peer: string | undefined
  readonly end: (reason: LiveEnd) => void
}

/** One timer that runs only while something is registered. */
export class Beat {
  readonly #everyMs: number
  readonly #ticking = new Set<Ticking>()
  #timer: NodeJS.Timeout | undefined

  constructor(everyMs: number) {
    this.#everyMs = everyMs
  }

  /** Ticks `what` until it is removed. */
  add(what: Ticking): void {
    this.#ticking.add(what)
    this.#timer ??= setInterval(() => this.#run(), this.#everyMs).unref()
  }

  remove(what: Ticking): void {
    this.#ticking.delete(what)
    if (this.#ticking.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** How many are ticking; 0 means that no timer runs. */
  get size(): number {
    return this.#ticking.size
  }

  #run(): void {
    for (const one of this.#ticking) one.tick()
  }
}

/** The registry of live WebSockets, event streams and uploads. */
export class Live {
  /** Drives the time limits of everything that is live. */
  readonly beat: Beat
  readonly #settings: LiveSettings
  readonly #byIdentity = new Map<string, Set<Entry>>()
  readonly #socketsOfIdentity = new Map<string, number>()
  readonly #socketsOfPeer = new Map<string, number>()
  #count = 0

  constructor(settings: LiveSettings) {
    this.#settings = settings
    this.beat = new Beat(settings.beatMs ?? defaultBeatMs)
  }

  /**
   * Takes a WebSocket in, or names the cap that is full. The returned function releases it and may be called twice.
   * Until then every `endIdentity` and `endAll` calls `end`, also a second time.
   */
  admit(
    identityId: string,
    peer: string,
    end: (reason: LiveEnd) => void,
  ): (() => void) | 'identity' | 'address' {
    const { maxPerIdentity, maxPerAddress } = this.#settings
    if ((this.#socketsOfIdentity.get(identityId) ?? 0) >= maxPerIdentity) return 'identity'
    if ((this.#socketsOfPeer.get(peer) ?? 0) >= maxPerAddress) return 'address'
    count(this.#socketsOfIdentity, identityId, 1)
    count(this.#socketsOfPeer, peer, 1)
    return this.#add({ identityId, peer, end })
  }

  /** Takes in a stream or an upload, without a cap: connection limits bound those. */
  track(identityId: string, end: (reason: LiveEnd) => void): () => void {
    return this.#add({ identityId, peer: undefined, end })
  }

  /** Ends everything of one identity and says how much that was. */
  endIdentity(identityId: string, reason: LiveEnd): number {
    return endEach([...(this.#byIdentity.get(identityId) ?? [])], reason)
  }

  /** Ends everything and says how much that was. */
  endAll(reason: LiveEnd): number {
    return endEach(
      [...this.#byIdentity.values()].flatMap((entries) => [...entries]),
      reason,
    )
  }

  /** True while anything of the identity is open. */
  has(identityId: string): boolean {
    return this.#byIdentity.has(identityId)
  }

  /** How many exchanges are live. */
  count(): number {
    return this.#count
  }

  #add(entry: Entry): () => void {
    const entries = this.#byIdentity.get(entry.identityId)
    if (entries === undefined) this.#byIdentity.set(entry.identityId, new Set([entry]))
    else entries.add(entry)
    this.#count++
    return () => this.#remove(entry)
  }

  #remove(entry: Entry): void {
    const entries = this.#byIdentity.get(entry.identityId)
    if (entries === undefined || !entries.delete(entry)) return
    if (entries.size === 0) this.#byIdentity.delete(entry.identityId)
    this.#count--
    if (entry.peer === undefined) return
    count(this.#socketsOfIdentity, entry.identityId, -1)
    count(this.#socketsOfPeer, entry.peer, -1)
  }
}

/** A key at zero is removed, so that the maps never outgrow what is open. */
function count(counts: Map<string, number>, key: string, by: 1 | -1): void {
  const next = (counts.get(key) ?? 0) + by
  if (next > 0) counts.set(key, next)
  else counts.delete(key)
}

/** One that fails to end does not spare the others: the failures come out together afterwards. */
function endEach(entries: readonly Entry[], reason: LiveEnd): number {
  const failures: unknown[] = []
  for (const entry of entries) {
    try {
      entry.end(reason)
    } catch (thrown) {
      failures.push(thrown)
    }
  }
  if (failures.length > 0) throw new AggregateError(failures, 'some exchanges did not end')
  return entries.length
}
