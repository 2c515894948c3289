/** Since when a configured token is in use, for a state that has lost it. */
import { parseRecord } from '../audit/chain.ts'
import { listFiles } from '../audit/files.ts'
import { readLines } from '../audit/read.ts'
import { codeOf, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'

const seenForm = /^fingerprint ([0-9a-f]{8}), first seen (\d{4}-\d\d-\d\dT[0-9:.]+Z)$/

/**
 * The day on which a configured token was first seen, as the audit log remembers it; read only where the state does not
 * know the token. The newest file that speaks of it is enough, because every start repeats the day.
 */
export async function firstSeenIn(
  dir: string,
  fingerprint: string,
  log: Log,
): Promise<number | undefined> {
  try {
    for (const { path } of listFiles(dir).reverse()) {
      let earliest: number | undefined
      for await (const { line, ended } of readLines(path)) {
        const seen = ended && line.includes('"event":"token.') ? seenOf(line) : undefined
        if (seen?.fingerprint !== fingerprint) continue
        earliest = Math.min(seen.at, earliest ?? seen.at)
      }
      if (earliest !== undefined) return earliest
    }
  } catch (thrown) {
    if (codeOf(thrown) === 'AUDIT_MISSING') return undefined
    // A log that cannot be read has its own alarm; a token must not be refused over it.
    log.error(
      { error: messageOf(thrown) },
      'the audit log does not say since when the token is in use',
    )
  }
  return undefined
}

function seenOf(line: Buffer): { readonly fingerprint: string; readonly at: number } | undefined {
  const [, fingerprint = '', since = ''] = seenForm.exec(parseRecord(line)?.because ?? '') ?? []
  const at = Date.parse(since)
  return Number.isNaN(at) ? undefined : { fingerprint, at }
}
