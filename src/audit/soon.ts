/** Opens a log that a short command may be writing to just now. */
import { codeOf } from '../errors.ts'
import type { Millis } from '../limits.ts'
import { openAudit, type AuditLog, type AuditOptions } from './log.ts'

const againMs = 50

/** As `openAudit`, but another writer is waited for, at most `waitMs`; then AUDIT_IN_USE is thrown. */
export async function openAuditSoon(options: AuditOptions, waitMs: Millis): Promise<AuditLog> {
  for (let left: number = waitMs; ; left -= againMs) {
    try {
      return openAudit(options)
    } catch (thrown) {
      if (codeOf(thrown) !== 'AUDIT_IN_USE' || left <= 0) throw thrown
      await new Promise((resolve) => setTimeout(resolve, againMs))
    }
  }
}
