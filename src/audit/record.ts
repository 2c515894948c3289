/** One record of the audit log, as DESIGN §8 names its fields. */

/** What a caller knows; `seq`, `time`, `prev` and `hash` are added by the log. */
export interface AuditEntry {
  /** `request.allowed`, `request.refused`, `request.done`, `token.revoked`, `audit.repaired`, `agent.started` … */
  readonly event: string
  readonly requestId?: string
  /** Name of the identity, never a credential. */
  readonly identity?: string
  readonly peer?: string
  readonly method?: string
  /** Without the query. */
  readonly path?: string
  /** Refusal code. */
  readonly code?: string
  readonly status?: number
  /** Body bytes sent to the client. */
  readonly bytes?: number
  /** Whole milliseconds from arrival to completion. */
  readonly ms?: number
  readonly channel?: string
  readonly sender?: string
  readonly room?: string
  /** SHA-256 (hex) of the body that held a message, in place of its words. */
  readonly digest?: string
  /** Hash of the configuration that judged it. */
  readonly config?: string
  /** Why, in words of ours; never text that a client chose, never a secret. */
  readonly because?: string
  /** How many: records that could not be written (`audit.recovered`), bytes cut off (`audit.repaired`). */
  readonly count?: number
  /** `audit.rotated`: the oldest seq that is kept from here on. */
  readonly first?: number
}

/** A record as it stands in the file. */
export interface AuditRecord extends AuditEntry {
  readonly seq: number
  /** RFC 3339 in UTC with milliseconds. */
  readonly time: string
  /** `hash` of the record before it; 64 zeros for the first. */
  readonly prev: string
  readonly hash: string
}

/** Where decisions are written before they take effect. */
export interface AuditSink {
  /**
   * Adds a record. `written` is called once the record is in the kernel (on disk with `sync: always`), or with the
   * failure; a decision takes effect only after it was called without one.
   */
  append(entry: AuditEntry, written?: (failure?: Error) => void): void
  /** Why records cannot be written now, or undefined. */
  readonly failing: string | undefined
}
