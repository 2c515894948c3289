/** The pairing book: who asked to be let in, with which code, and the bounds that strangers meet together. */
import { Failure } from '../errors.ts'
import { hours, limits, type Millis } from '../limits.ts'
import { absent, type Entry, type Store } from '../store/store.ts'
import { makeCode, readCode, type RandomBytes } from './code.ts'
import { asFailure, readObject, unreadable } from './list.ts'
import { placeKey, placeOfKey, type Place } from './place.ts'

/** A request that waits for the owner. */
export interface PairingRequest extends Place {
  readonly sender: string
  readonly code: string
  /** ms since the epoch. */
  readonly createdAt: number
  readonly expiresAt: number
  /** What the channel needs to reach the sender again. */
  readonly replyTo: Readonly<Record<string, string>>
}

/** What became of somebody who asked. */
export type Asked =
  | { readonly kind: 'issued'; readonly request: PairingRequest }
  | { readonly kind: 'pending' }
  /** No room: this one is ignored. `first` once an hour, so that the owner is told once. */
  | { readonly kind: 'full'; readonly because: string; readonly first: boolean }

/** Bounds of the book. */
export interface BookBounds {
  readonly pendingMax: number
  readonly perHour: number
  readonly lifeMs: Millis
  /** Wrong codes before approvals of a channel pause, and for how long. */
  readonly attempts: number
  readonly pauseMs: Millis
}

/** The bounds of DESIGN §6. */
export const usualBounds: BookBounds = {
  pendingMax: limits.pairingPending.default,
  perHour: limits.pairingPerHour.default,
  lifeMs: limits.pairingLifeMs.default,
  attempts: limits.pairingAttempts.default,
  pauseMs: limits.pairingPauseMs.default,
}

/** What the book needs from outside. */
export interface BookDeps {
  readonly store: Store
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  readonly random: RandomBytes
  readonly bounds: BookBounds
  /** Hears when the book cannot be read in the background. */
  readonly onTrouble?: (failure: Failure) => void
}

/** The page of one account: one entry of the store, so that its bounds hold between processes too. */
interface Page {
  readonly requests: readonly PairingRequest[]
  /** When the newest codes were made: what `perHour` counts. */
  readonly made: readonly number[]
}

interface Kept {
  readonly page: Page
  readonly version: number
}

const pagePrefix = 'pairing/'
const guardPrefix = 'pairing-guard/'
/** Swaps lost to other processes before giving up. */
const swapsMax = 10
const empty: Kept = { page: { requests: [], made: [] }, version: absent }

/** Requests, in the store and in memory. A code belongs to one sender of one account and is good once. */
export class PairingBook {
  readonly #deps: BookDeps
  #pages = new Map<string, Kept>()
  readonly #toldFull = new Map<string, number>()
  #queue: Promise<unknown> = Promise.resolve()
  #stop: (() => void) | undefined

  private constructor(deps: BookDeps) {
    this.#deps = deps
  }

  /** Reads the book. Fails with the store's Failure. */
  static async open(deps: BookDeps): Promise<PairingBook> {
    const book = new PairingBook(deps)
    await book.#load()
    return book
  }

  /** Begins to watch for changes by others. */
  start(): void {
    this.#stop = this.#deps.store.watch(() => void this.refresh())
  }

  /** Ends the watch; the store stays open. */
  async close(): Promise<void> {
    this.#stop?.()
    await this.#queue
  }

  /** Reads again what others may have changed. */
  async refresh(): Promise<void> {
    await this.#exclusive(async () => {
      try {
        await this.#load()
      } catch (thrown) {
        // A page that cannot be read now is read again before anything is written to it.
        this.#deps.onTrouble?.(asFailure(thrown))
      }
    })
  }

  /** Every request that is still good, oldest first. */
  pending(): readonly PairingRequest[] {
    const now = this.#deps.now()
    return [...this.#pages.values()]
      .flatMap(({ page }) => page.requests)
      .filter(({ expiresAt }) => expiresAt > now)
      .toSorted((a, b) => a.createdAt - b.createdAt)
  }

  /** Whether this sender has asked and can still be approved, without a look at the store. */
  isPending(place: Place, sender: string): boolean {
    const kept = this.#pages.get(placeKey(place))
    return kept !== undefined && holds(kept.page, sender, this.#deps.now())
  }

  /** A stranger asks. Rejects when the store cannot be written: then nobody has a code. */
  ask(place: Place, sender: string, replyTo: PairingRequest['replyTo']): Promise<Asked> {
    const known = this.#pages.get(placeKey(place)) ?? empty
    const now = this.#deps.now()
    // Most messages of a stranger end here, without a look at the store.
    if (holds(known.page, sender, now)) return Promise.resolve({ kind: 'pending' })
    const full = this.#fullness(known.page, now)
    if (full !== undefined) return Promise.resolve(this.#full(place, full, now))
    return this.#exclusive(() =>
      this.#change(place, (page): readonly [Asked, Page | undefined] => {
        if (holds(page, sender, now)) return [{ kind: 'pending' }, undefined]
        const no = this.#fullness(page, now)
        if (no !== undefined) return [this.#full(place, no, now), undefined]
        const request = this.#newRequest(place, sender, replyTo, now)
        const made = [...page.made.filter((at) => at > now - hours(1)), now]
        return [
          { kind: 'issued', request },
          { requests: [...page.requests, request], made },
        ]
      }),
    )
  }

  /**
   * Takes the request of a code out of the book: of several who try, one gets it. Fails with PAIRING_CODE for what is no
   * code, PAIRING_UNKNOWN for a wrong one, PAIRING_PAUSED after too many of those.
   */
  async take(channel: string, typed: string): Promise<PairingRequest> {
    const code = readCode(typed)
    if (code === undefined) {
      throw new Failure(
        'PAIRING_CODE',
        'A code has 8 letters and digits, without I, O, 0 and 1; see "hardshell pairing list".',
        { exitCode: 2 },
      )
    }
    return this.#exclusive(async () => {
      await this.#refusePaused(channel)
      await this.#load()
      const { requests } = this.#pageWith(channel, code)
      const found = requests.find((request) => request.code === code)
      const taken = found === undefined ? undefined : await this.#remove(found)
      if (taken === undefined) {
        await this.#countWrong(channel)
        throw new Failure(
          'PAIRING_UNKNOWN',
          `No pending request on ${channel} has that code: it may be used or expired; see "hardshell pairing list".`,
        )
      }
      await this.#deps.store.remove(guardPrefix + channel)
      return taken
    })
  }

  /** Drops the requests of a sender; `true` when there was one. */
  forget(place: Place, sender: string): Promise<boolean> {
    return this.#exclusive(() =>
      this.#change(place, (page) => {
        const requests = page.requests.filter((request) => request.sender !== sender)
        const had = requests.length < page.requests.length
        return [had, had ? { ...page, requests } : undefined] as const
      }),
    )
  }

  #pageWith(channel: string, code: string): Page {
    const now = this.#deps.now()
    for (const [key, { page }] of this.#pages) {
      if (placeOfKey(key)?.channel !== channel) continue
      if (page.requests.some((one) => one.code === code && one.expiresAt > now)) return page
    }
    return empty.page
  }

  #remove(request: PairingRequest): Promise<PairingRequest | undefined> {
    const { code } = request
    return this.#change(request, (page) => {
      const there = page.requests.find((one) => one.code === code)
      const requests = page.requests.filter((one) => one !== there)
      return [there, there === undefined ? undefined : { ...page, requests }] as const
    })
  }

  #newRequest(
    { channel, account }: Place,
    sender: string,
    replyTo: PairingRequest['replyTo'],
    now: number,
  ): PairingRequest {
    const used = new Set(this.pending().map(({ code }) => code))
    let code = makeCode(this.#deps.random)
    while (used.has(code)) code = makeCode(this.#deps.random)
    const expiresAt = now + this.#deps.bounds.lifeMs
    return { channel, account, sender, code, createdAt: now, expiresAt, replyTo }
  }

  #fullness(page: Page, now: number): string | undefined {
    const { pendingMax, perHour } = this.#deps.bounds
    const pending = page.requests.filter(({ expiresAt }) => expiresAt > now).length
    if (pending >= pendingMax) return `${pendingMax} requests are pending`
    const fresh = page.made.filter((at) => at > now - hours(1)).length
    return fresh >= perHour ? `${perHour} new requests in an hour` : undefined
  }

  #full(place: Place, because: string, now: number): Asked {
    const key = placeKey(place)
    const told = this.#toldFull.get(key) ?? -Infinity
    const first = now - told >= hours(1)
    if (first) this.#toldFull.set(key, now)
    return { kind: 'full', because, first }
  }

  /** Reads a page, changes it, writes it if nobody was first; `undefined` for no change. */
  async #change<T>(place: Place, edit: (page: Page) => readonly [T, Page | undefined]): Promise<T> {
    const at = placeKey(place)
    const key = pagePrefix + at
    for (let tries = 0; tries < swapsMax; tries += 1) {
      const kept = this.#pages.get(at) ?? empty
      const [result, next] = edit(pruned(kept.page, this.#deps.now()))
      if (next === undefined) return result
      const expiresAt = Math.max(
        ...next.requests.map((request) => request.expiresAt),
        ...next.made.map((made) => made + hours(1)),
        this.#deps.now() + 1,
      )
      const written = await this.#deps.store.compareAndSwap(key, kept.version, spell(next), {
        expiresAt,
      })
      await this.#loadPage(at)
      if (written) return result
    }
    throw new Failure('PAIRING_BUSY', 'The pairing book is being changed by others: try again.')
  }

  async #refusePaused(channel: string): Promise<void> {
    const entry = await this.#deps.store.get(guardPrefix + channel)
    const until = entry === undefined ? 0 : Number(readObject(entry)['until'] ?? 0)
    const waitMs = until - this.#deps.now()
    if (waitMs <= 0) return
    throw new Failure(
      'PAIRING_PAUSED',
      `Too many wrong codes for ${channel}: try again in ${Math.ceil(waitMs / 1000)} s.`,
    )
  }

  async #countWrong(channel: string): Promise<void> {
    const { attempts, pauseMs } = this.#deps.bounds
    const key = guardPrefix + channel
    for (let tries = 0; tries < swapsMax; tries += 1) {
      const entry = await this.#deps.store.get(key)
      const wrong = entry === undefined ? 1 : Number(readObject(entry)['wrong'] ?? 0) + 1
      const now = this.#deps.now()
      const next = wrong >= attempts ? { wrong: 0, until: now + pauseMs } : { wrong }
      const expiresAt = now + (wrong >= attempts ? pauseMs : hours(1))
      const version = entry?.version ?? absent
      const options = { expiresAt }
      if (await this.#deps.store.compareAndSwap(key, version, JSON.stringify(next), options)) return
    }
    throw new Failure('PAIRING_BUSY', 'The pairing book is being changed by others: try again.')
  }

  async #load(): Promise<void> {
    const entries = await this.#deps.store.list(pagePrefix)
    const pages = entries.map(
      (entry) => [entry.key.slice(pagePrefix.length), readKept(entry)] as const,
    )
    this.#pages = new Map(pages)
  }

  async #loadPage(at: string): Promise<void> {
    const entry = await this.#deps.store.get(pagePrefix + at)
    if (entry === undefined) this.#pages.delete(at)
    else this.#pages.set(at, readKept(entry))
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work)
    this.#queue = done.catch(() => undefined)
    return done
  }
}

const holds = (page: Page, sender: string, now: number) =>
  page.requests.some((request) => request.sender === sender && request.expiresAt > now)

function pruned(page: Page, now: number): Page {
  return {
    requests: page.requests.filter(({ expiresAt }) => expiresAt > now),
    made: page.made.filter((at) => at > now - hours(1)),
  }
}

const spell = (page: Page) => JSON.stringify(page)

function readKept(entry: Entry): Kept {
  const { requests, made } = readObject(entry)
  const times = Array.isArray(made) && made.every((at) => typeof at === 'number') ? made : undefined
  const all = Array.isArray(requests)
    ? requests.map((one) => readRequest(one, entry.key))
    : undefined
  if (all === undefined || times === undefined) throw unreadable(entry.key)
  return { page: { requests: all, made: times }, version: entry.version }
}

function readRequest(value: unknown, key: string): PairingRequest {
  const of = readObject({ key, value: JSON.stringify(value), version: 0 })
  const { channel, account, sender, code, createdAt, expiresAt, replyTo } = of
  const whole =
    typeof channel === 'string' &&
    typeof account === 'string' &&
    typeof sender === 'string' &&
    typeof code === 'string' &&
    typeof createdAt === 'number' &&
    typeof expiresAt === 'number'
  if (!whole || key !== pagePrefix + placeKey({ channel, account })) throw unreadable(key)
  const where = Object.entries({ ...(typeof replyTo === 'object' ? replyTo : {}) })
  const texts = where.flatMap(([name, of]) => (typeof of === 'string' ? [[name, of] as const] : []))
  return {
    channel,
    account,
    sender,
    code,
    createdAt,
    expiresAt,
    replyTo: Object.fromEntries(texts),
  }
}
