/** Reading the log while it is written, in bounded memory. */
import fs from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { Failure, messageOf } from '../errors.ts'
import { KiB, type Millis } from '../limits.ts'
import { parseRecord } from './chain.ts'
import { linesBackward, listFiles, openToRead, type AuditFile } from './files.ts'
import type { AuditRecord } from './record.ts'

/** A longer line is cut: no record is near this size, so it fails whatever it is checked for. */
const lineBytesMost = KiB(64)

/** A line of a file, without its line end. */
export interface ReadLine {
  readonly line: Buffer
  /** A line end follows; only the last line of a file can lack it. */
  readonly ended: boolean
  /** Where the next line begins. */
  readonly next: number
}

/** The lines of a file from an offset on. Throws Failure when it cannot be read. */
export async function* readLines(path: string, start = 0): AsyncGenerator<ReadLine> {
  let file: fs.promises.FileHandle
  try {
    const { O_RDONLY, O_NOFOLLOW } = fs.constants
    file = await fs.promises.open(path, O_RDONLY | O_NOFOLLOW)
  } catch (thrown) {
    throw unreadable(path, thrown)
  }
  try {
    const block = Buffer.allocUnsafe(KiB(256))
    let rest = Buffer.alloc(0)
    let position = start
    let next = start
    for (;;) {
      const { bytesRead } = await file.read(block, 0, block.length, position)
      if (bytesRead === 0) break
      position += bytesRead
      let from = 0
      for (let end = 0; (end = block.indexOf(10, from)) >= 0 && end < bytesRead; from = end + 1) {
        const piece = block.subarray(from, end)
        next += rest.length + piece.length + 1
        yield { line: rest.length === 0 ? piece : Buffer.concat([rest, piece]), ended: true, next }
        rest = Buffer.alloc(0)
      }
      // What was cut off an overlong line is missing from `next` too, but nobody goes on behind
      // one.
      const held = Buffer.concat([rest, block.subarray(from, bytesRead)])
      rest = held.length > lineBytesMost ? held.subarray(0, lineBytesMost) : held
    }
    if (rest.length > 0) yield { line: rest, ended: false, next }
  } finally {
    await file.close()
  }
}

/**
 * The newest `count` records, oldest first; lines that are no records are left to `audit verify`.
 */
export function tail(dir: string, count: number): AuditRecord[] {
  const records: AuditRecord[] = []
  for (const file of listFiles(dir).reverse()) {
    if (records.length >= count) break
    const fd = openOr(file.path)
    try {
      for (const { line, ended } of linesBackward(fd, fs.fstatSync(fd).size)) {
        const record = ended ? parseRecord(line) : undefined
        if (record !== undefined) records.push(record)
        if (records.length >= count) break
      }
    } finally {
      fs.closeSync(fd)
    }
  }
  return records.reverse()
}

/** Which records are wanted; what is left out is not asked. */
export interface Query {
  /** The event, or with a `*` at its end the beginning of it. */
  readonly event?: string
  readonly code?: string
  readonly identity?: string
  readonly requestId?: string
  /** First and last moment, ms since the epoch. */
  readonly since?: number
  readonly until?: number
}

/** The records that a query asks for, oldest first. */
export async function* query(dir: string, wanted: Query): AsyncGenerator<AuditRecord> {
  for (const file of await filesSince(dir, wanted.since)) {
    for await (const { line, ended } of readLines(file.path)) {
      const record = ended ? parseRecord(line) : undefined
      if (record !== undefined && matches(record, wanted)) yield record
    }
  }
}

function matches(record: AuditRecord, wanted: Query): boolean {
  const { event, code, identity, requestId, since, until } = wanted
  if (event !== undefined && !isEvent(record.event, event)) return false
  if (code !== undefined && record.code !== code) return false
  if (identity !== undefined && record.identity !== identity) return false
  if (requestId !== undefined && record.requestId !== requestId) return false
  if (since === undefined && until === undefined) return true
  const time = Date.parse(record.time)
  return (since === undefined || time >= since) && (until === undefined || time <= until)
}

function isEvent(event: string, wanted: string): boolean {
  return wanted.endsWith('*') ? event.startsWith(wanted.slice(0, -1)) : event === wanted
}

/** Without the files that end before `since`: the next file begins before it. */
async function filesSince(dir: string, since: number | undefined): Promise<AuditFile[]> {
  const files = listFiles(dir)
  if (since === undefined) return files
  // A clock that was set back makes times overlap; one more file covers that.
  let skipped = 0
  for (const [index, file] of files.entries()) {
    const record = await firstRecord(file)
    if (record === undefined || Date.parse(record.time) >= since) break
    skipped = Math.max(0, index - 1)
  }
  return files.slice(skipped)
}

async function firstRecord(file: AuditFile): Promise<AuditRecord | undefined> {
  for await (const { line } of readLines(file.path)) return parseRecord(line)
  return undefined
}

/** How a log is followed. */
export interface FollowOptions {
  /** Only records after this seq. */
  readonly after: number
  readonly signal: AbortSignal
  readonly pollMs?: Millis
}

/** New records as they are written, over rotations, until the signal. */
export async function* followRecords(
  dir: string,
  { after, signal, pollMs = 200 }: FollowOptions,
): AsyncGenerator<AuditRecord> {
  let present: AuditFile | undefined
  let offset = 0
  let seq = after
  while (!signal.aborted) {
    const files = listFiles(dir)
    const last = files.findLast((file) => file.first <= seq + 1)
    present ??= last ?? files[0]
    if (present !== undefined) {
      for await (const { line, ended, next } of readLines(present.path, offset)) {
        if (!ended) break
        offset = next
        const record = parseRecord(line)
        if (record === undefined || record.seq <= seq) continue
        seq = record.seq
        yield record
      }
      // The list is older than what was read: a file that was in it follows one that was read to
      // its end.
      const { first } = present
      const following = files.find((file) => file.first > first)
      if (following !== undefined) {
        present = following
        offset = 0
        continue
      }
    }
    await pause(pollMs, signal)
  }
}

async function pause(ms: Millis, signal: AbortSignal): Promise<void> {
  try {
    await sleep(ms, undefined, { signal })
  } catch (thrown) {
    if (!signal.aborted) throw thrown
  }
}

function openOr(path: string): number {
  try {
    return openToRead(path)
  } catch (thrown) {
    throw unreadable(path, thrown)
  }
}

function unreadable(path: string, thrown: unknown): Failure {
  return new Failure(
    'AUDIT_UNREADABLE',
    `${path} cannot be read (${messageOf(thrown)}): ` +
      'run it as the user of the gateway, or once more if files rotated',
    { cause: thrown },
  )
}
