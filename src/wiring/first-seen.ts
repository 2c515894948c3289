/** What the audit log knows of a configured token, for a state that has lost it. */
import { parseRecord } from '../audit/chain.ts'
import { listFiles } from '../audit/files.ts'
import { readLines } from '../audit/read.ts'
import { codeOf, messageOf } from '../errors.ts'
import type { Remembered } from '../identity/token-configured.ts'
import type { Log } from '../log.ts'

const seenForm = /^fingerprint ([0-9a-f]{8})(?:, first seen (\d{4}-\d\d-\d\dT[0-9:.]+Z))?$/

/**
 * Since when a configured token is in use and whether it was revoked, as the audit log remembers it; read only where the
 * state does not know the token. The newest file that has its first day is enough, because every start repeats the day,
 * and none does after it was revoked.
 */
export async function firstSeenIn(
  dir: string,
  fingerprint: string,
  log: Log,
): Promise<Remembered | undefined> {
  const known: { firstSeenAt?: number; revokedAt?: number } = {}
  try {
    for (const { path } of listFiles(dir).reverse()) {
      for await (const { line, ended } of readLines(path)) {
        const seen = ended && line.includes('"event":"token.') ? seenOf(line) : undefined
        if (seen?.fingerprint !== fingerprint) continue
        known[seen.what] = Math.min(seen.at, known[seen.what] ?? seen.at)
      }
      if (known.firstSeenAt !== undefined) break
    }
  } catch (thrown) {
    // A log that cannot be read has its own alarm; a token must not be refused over it.
    if (codeOf(thrown) !== 'AUDIT_MISSING') {
      log.error(
        { error: messageOf(thrown) },
        'the audit log does not say since when the token is in use',
      )
    }
  }
  return known
}

interface Seen {
  readonly fingerprint: string
  readonly what: 'firstSeenAt' | 'revokedAt'
  readonly at: number
}

function seenOf(line: Buffer): Seen | undefined {
  const record = parseRecord(line)
  const [, fingerprint = '', since] = seenForm.exec(record?.because ?? '') ?? []
  const revoked = record?.event === 'token.revoked' && since === undefined
  const at = Date.parse((revoked ? record.time : since) ?? '')
  return Number.isNaN(at)
    ? undefined
    : { fingerprint, what: revoked ? 'revokedAt' : 'firstSeenAt', at }
}
