/** The contract of the state: small entries under keys, with versions and expiry. */

/** What is stored under a key. */
export interface Entry {
  readonly key: string
  readonly value: string
  /** Grows with every write of the whole store: a key that was removed and made again has a new one. */
  readonly version: number
  /** ms since the epoch, after which the entry is gone. */
  readonly expiresAt?: number
}

/** What goes with a value. */
export interface PutOptions {
  /** ms since the epoch; without it the entry stays. */
  readonly expiresAt?: number
}

/** One of several writes. */
export interface Write extends PutOptions {
  readonly key: string
  readonly value: string
}

/** The version that `compareAndSwap` takes for a key that must not exist. */
export const absent = 0

/**
 * Tokens, senders, codes, sessions and webhook ids. Values are text, JSON by custom of the callers; keys are visible
 * ASCII up to 512 characters, `kind/id`. Every method rejects with a `Failure` when the state cannot be read or written;
 * none answers from a guess. An entry past its expiry is as if it were not there.
 */
export interface Store {
  get(key: string): Promise<Entry | undefined>
  /** Writes whatever was there before. */
  put(key: string, value: string, options?: PutOptions): Promise<void>
  /** Several writes, all or none. */
  putAll(writes: readonly Write[]): Promise<void>
  /** Writes only when the present version is `version` (`absent`: no entry); `false` when somebody was first. */
  compareAndSwap(
    key: string,
    version: number,
    value: string,
    options?: PutOptions,
  ): Promise<boolean>
  /** Removes and returns: of many callers exactly one gets the entry. */
  take(key: string): Promise<Entry | undefined>
  /** `true` when there was an entry. */
  remove(key: string): Promise<boolean>
  /** All entries whose key begins with the prefix, in the order of their keys. */
  list(prefix: string): Promise<readonly Entry[]>
  /**
   * Calls back within a second after another process or connection has written anything; the caller reads again what
   * it cares about. The answer ends the watch.
   */
  watch(changed: () => void): () => void
  /** Ends watches and frees what is held; further calls reject. */
  close(): Promise<void>
}

/** Keys must compare the same in every store. */
export function isKey(text: string): boolean {
  return text.length <= 512 && /^[\x21-\x7e]+$/.test(text)
}
