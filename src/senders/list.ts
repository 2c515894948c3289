/** Who was let in besides the configuration: senders that the owner added or approved, and when they last spoke. */
import { Failure } from '../errors.ts'
import { minutes } from '../limits.ts'
import type { Entry, Store, Write } from '../store/store.ts'
import { placeKey, senderKey, type Place } from './place.ts'
import type { Known } from './policy.ts'

/** A sender that was let in. */
export interface Admitted extends Place {
  readonly sender: string
  /** `listed`: added by the owner, as good as an `allowFrom` entry · `paired`: approved with a code. */
  readonly kind: 'listed' | 'paired'
  /** When, ms since the epoch. */
  readonly since: number
  /** ms since the epoch; without it, until removed. */
  readonly expiresAt?: number
  /** The owner's own words. */
  readonly note?: string
}

/** What the list needs from outside. */
export interface SenderListDeps {
  readonly store: Store
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Hears when the list cannot be read or written in the background. */
  readonly onTrouble?: (failure: Failure) => void
}

const admittedPrefix = 'sender/'
const spokePrefix = 'spoke/'
const configuredPrefix = 'configured/'
const flushMs = minutes(1)

/**
 * Look-ups are synchronous; a change is in the store before it is in memory. Changes by other processes are seen within
 * a second. While the list cannot be read, asking it throws, which is a no.
 */
export class SenderList {
  readonly #deps: SenderListDeps
  #admitted = new Map<string, Map<string, Admitted>>()
  #spoke = new Map<string, number>()
  /** Last words that are not in the store yet. */
  readonly #unsaved = new Map<string, number>()
  #broken: Failure | undefined
  #queue: Promise<unknown> = Promise.resolve()
  #stops: readonly (() => void)[] = []

  private constructor(deps: SenderListDeps) {
    this.#deps = deps
  }

  /** Reads the list. Fails with the store's Failure. */
  static async open(deps: SenderListDeps): Promise<SenderList> {
    const list = new SenderList(deps)
    await list.#load()
    return list
  }

  /** Begins to watch for changes by others, and to write down who spoke. */
  start(): void {
    const unwatch = this.#deps.store.watch(() => void this.refresh())
    const timer = setInterval(() => void this.flush(), flushMs).unref()
    this.#stops = [unwatch, () => clearInterval(timer)]
  }

  /** Ends the watch and writes down who spoke; the store stays open. */
  async close(): Promise<void> {
    for (const stop of this.#stops) stop()
    this.#stops = []
    await this.#queue
    await this.flush()
  }

  /** What the policy is told about an account. Throws while the list cannot be read. */
  known(place: Place): Known {
    if (this.#broken !== undefined) throw this.#broken
    const here = this.#admitted.get(placeKey(place))
    const has = (kind: Admitted['kind']) => ({
      has: (sender: string) => {
        const found = here?.get(sender)
        return found?.kind === kind && this.#isGood(found)
      },
    })
    return { listed: has('listed'), paired: has('paired') }
  }

  /** Every admitted sender, expired ones included. */
  all(): readonly Admitted[] {
    return [...this.#admitted.values()].flatMap((here) => [...here.values()])
  }

  /** What is on the list about one sender, expired or not. */
  find(place: Place, sender: string): Admitted | undefined {
    return this.#admitted.get(placeKey(place))?.get(sender)
  }

  /** When a sender last reached the agent, ms since the epoch. */
  lastSpoke(place: Place, sender: string): number | undefined {
    return this.#spoke.get(spokeKey(place, sender))
  }

  /** Notes that a sender has just reached the agent. */
  spoke(place: Place, sender: string): void {
    const key = spokeKey(place, sender)
    const at = this.#deps.now()
    this.#spoke.set(key, at)
    this.#unsaved.set(key, at)
  }

  /** Lets a sender in; what was said about the sender before is replaced. */
  admit(admitted: Admitted): Promise<void> {
    return this.#exclusive(async () => {
      const { expiresAt } = admitted
      await this.#deps.store.put(admittedKey(admitted, admitted.sender), JSON.stringify(admitted))
      if (expiresAt !== undefined && expiresAt <= this.#deps.now()) return
      this.#remember(admitted)
    })
  }

  /** Takes a sender off the list at once; `false` when there was none. */
  remove(place: Place, sender: string): Promise<boolean> {
    return this.#exclusive(async () => {
      // Memory first: whatever the store says, this sender does not speak again in this process.
      const was = this.#admitted.get(placeKey(place))?.delete(sender) ?? false
      this.#unsaved.delete(spokeKey(place, sender))
      const stored = await this.#deps.store.remove(admittedKey(place, sender))
      return was || stored
    })
  }

  /**
   * Compares the configured senders of an account with those of the last start: who was taken off there is not paired any
   * more either, so that no old approval outlives the removal. Resolves with those senders.
   */
  settle(place: Place, configured: readonly string[]): Promise<readonly string[]> {
    return this.#exclusive(async () => {
      const key = configuredPrefix + placeKey(place)
      const entry = await this.#deps.store.get(key)
      const before = entry === undefined ? [] : readKeys(entry)
      const present = new Set(configured.map(senderKey))
      const gone = new Set(before.filter((one) => !present.has(one)))
      const here = [...(this.#admitted.get(placeKey(place))?.values() ?? [])]
      const ended = here.filter(
        ({ kind, sender }) => kind === 'paired' && gone.has(senderKey(sender)),
      )
      for (const { sender } of ended) {
        this.#admitted.get(placeKey(place))?.delete(sender)
        await this.#deps.store.remove(admittedKey(place, sender))
      }
      if (gone.size > 0 || present.size !== before.length) {
        await this.#deps.store.put(key, JSON.stringify({ senders: [...present] }))
      }
      return ended.map(({ sender }) => sender)
    })
  }

  /** Reads again what others may have changed. */
  refresh(): Promise<void> {
    return this.#exclusive(async () => {
      try {
        await this.#load()
      } catch (thrown) {
        this.#broken = asFailure(thrown)
        this.#deps.onTrouble?.(this.#broken)
      }
    })
  }

  /** Writes down who spoke since the last time. */
  async flush(): Promise<void> {
    if (this.#unsaved.size === 0) return
    const unsaved = [...this.#unsaved]
    const writes = unsaved.map(([key, at]): Write => ({ key, value: JSON.stringify({ at }) }))
    try {
      await this.#deps.store.putAll(writes)
      for (const [key, at] of unsaved) {
        if (this.#unsaved.get(key) === at) this.#unsaved.delete(key)
      }
    } catch (thrown) {
      // Kept for the next time: it is only when somebody last spoke.
      this.#deps.onTrouble?.(asFailure(thrown))
    }
  }

  #isGood({ expiresAt }: Admitted): boolean {
    return expiresAt === undefined || expiresAt > this.#deps.now()
  }

  async #load(): Promise<void> {
    const [entries, spoken] = await Promise.all([
      this.#deps.store.list(admittedPrefix),
      this.#deps.store.list(spokePrefix),
    ])
    this.#admitted = new Map()
    for (const entry of entries) this.#remember(readAdmitted(entry))
    this.#spoke = new Map(spoken.map((entry) => [entry.key, readSpoke(entry)]))
    for (const [key, at] of this.#unsaved) this.#spoke.set(key, at)
    this.#broken = undefined
  }

  #remember(admitted: Admitted): void {
    const key = placeKey(admitted)
    const here = this.#admitted.get(key) ?? new Map<string, Admitted>()
    here.set(admitted.sender, admitted)
    this.#admitted.set(key, here)
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#queue.then(work)
    this.#queue = done.catch(() => undefined)
    return done
  }
}

const admittedKey = (place: Place, sender: string) =>
  `${admittedPrefix}${placeKey(place)}/${senderKey(sender)}`
const spokeKey = (place: Place, sender: string) =>
  `${spokePrefix}${placeKey(place)}/${senderKey(sender)}`

/** The failure behind anything that was thrown by the store. */
export function asFailure(thrown: unknown): Failure {
  return thrown instanceof Failure
    ? thrown
    : new Failure('STORE_FAILED', String(thrown), { cause: thrown })
}

/** The value of an entry as an object; a value that is none is a failure and never a yes. */
export function readObject({ key, value }: Entry): Readonly<Record<string, unknown>> {
  const read: unknown = JSON.parse(value)
  if (typeof read === 'object' && read !== null && !Array.isArray(read)) return { ...read }
  throw unreadable(key)
}

/** A stored value that is not what was written. */
export const unreadable = (key: string) =>
  new Failure('STORE_BROKEN', `The state has an unreadable entry ${key}: restore a backup.`)

function readAdmitted(entry: Entry): Admitted {
  const { channel, account, sender, kind, since, expiresAt, note } = readObject(entry)
  const whole =
    typeof channel === 'string' &&
    typeof account === 'string' &&
    typeof sender === 'string' &&
    typeof since === 'number' &&
    (kind === 'listed' || kind === 'paired') &&
    (expiresAt === undefined || typeof expiresAt === 'number')
  if (!whole) throw unreadable(entry.key)
  // The key and the value must name the same sender, or one could stand in for another.
  if (entry.key !== admittedKey({ channel, account }, sender)) throw unreadable(entry.key)
  return {
    channel,
    account,
    sender,
    kind,
    since,
    ...(expiresAt === undefined ? {} : { expiresAt }),
    ...(typeof note === 'string' ? { note } : {}),
  }
}

function readSpoke(entry: Entry): number {
  const { at } = readObject(entry)
  if (typeof at !== 'number') throw unreadable(entry.key)
  return at
}

function readKeys(entry: Entry): readonly string[] {
  const { senders } = readObject(entry)
  const isText = (one: unknown) => typeof one === 'string'
  if (!Array.isArray(senders) || !senders.every(isText)) throw unreadable(entry.key)
  return senders
}
