/**
 * Where a log is taken up again: mends a torn end, and keeps what was tampered with as evidence.
 */
import type { Checkpoint } from '../crypto.ts'
import { firstBreak, genesis, parseObject, parseRecord, type Head } from './chain.ts'
import { newestCheckpoint } from './checkpoints.ts'
import {
  auditFile,
  checkFile,
  linesBackward,
  listFiles,
  type AuditFile,
  type AuditFs,
} from './files.ts'
import type { AuditEntry } from './record.ts'

const fs = process.getBuiltinModule('node:fs')

/** At most so many lines at the end of the newest file have their chain checked before the log is continued. */
const linesChecked = 100

/** What the log is continued with. */
export interface Continuation {
  /** Oldest first; the last one is open as `fd`. */
  readonly files: AuditFile[]
  readonly fd: number
  readonly size: number
  readonly head: Head
  /** What the first records of this run have to say about the state that was found. */
  readonly notes: readonly AuditEntry[]
}

/**
 * Opens the newest file of the log, or the first of a new one. Throws Failure or the system's
 * error.
 */
export function takeUp(dir: string, io: AuditFs): Continuation {
  const files = listFiles(dir)
  const signed = newestCheckpoint(dir)
  let cut = 0
  for (let newest = files.at(-1); newest !== undefined; newest = files.at(-1)) {
    const fd = io.open(newest.path, false)
    const end = orClose(io, fd, () => {
      checkFile(fd, newest.path)
      const { size, ...torn } = cutTorn(fd, io)
      return { size, ...torn, ...lookAtEnd(fd, size, newest, signed) }
    })
    cut += end.cut
    const notes = repaired(cut)
    if (end.size > 0 && end.because === undefined) {
      return { files, fd, size: end.size, head: end.head, notes }
    }
    io.close(fd)
    if (end.because !== undefined) {
      return startFile(dir, io, files, end.head, [chainBroken(end.because), ...notes])
    }
    // A crash between making a file and writing to it leaves an empty one; it says nothing.
    fs.unlinkSync(newest.path)
    files.pop()
  }
  if (signed === undefined) return startFile(dir, io, files, genesis, repaired(cut))
  const because = `records up to seq ${signed.seq} were signed and all of them are gone`
  return startFile(dir, io, files, signed, [chainBroken(because), ...repaired(cut)])
}

/** The record that stands where a chain could not be continued; `audit verify` reports it. */
export function chainBroken(because: string): AuditEntry {
  return { event: 'audit.chain-broken', because }
}

function orClose<T>(io: AuditFs, fd: number, run: () => T): T {
  try {
    return run()
  } catch (thrown) {
    io.close(fd)
    throw thrown
  }
}

function startFile(
  dir: string,
  io: AuditFs,
  files: AuditFile[],
  { seq, hash }: Head,
  notes: readonly AuditEntry[],
): Continuation {
  const file = auditFile(dir, seq + 1)
  const fd = io.open(file.path, true)
  return { files: [...files, file], fd, size: 0, head: { seq, hash }, notes }
}

/**
 * Cuts what a crash left of a line: no line end, or no JSON object. A whole record stays whatever
 * it says.
 */
function cutTorn(fd: number, io: AuditFs): { size: number; cut: number } {
  const { size } = fs.fstatSync(fd)
  let end = size
  for (const { offset, line, ended } of linesBackward(fd, size)) {
    if (ended && parseObject(line) !== undefined) break
    end = offset
    // Only one line can be torn: more of them is no crash.
    if (ended) break
  }
  if (end < size) io.truncate(fd, end)
  return { size: end, cut: size - end }
}

/** The head that the next record follows, and why it cannot follow the chain that was found. */
function lookAtEnd(
  fd: number,
  size: number,
  file: AuditFile,
  signed: Checkpoint | undefined,
): { head: Head; because: string | undefined } {
  if (size === 0) return { head: genesis, because: undefined }
  const lines: Buffer[] = []
  for (const { line } of linesBackward(fd, size)) {
    lines.unshift(line)
    // What stands before a signed record has its proof in that record's hash.
    const isSigned = signed !== undefined && parseRecord(line)?.hash === signed.hash
    if (isSigned || lines.length === linesChecked) break
  }
  const last = parseRecord(lines.at(-1) ?? Buffer.alloc(0))
  // A tampered line may claim any seq, and the name of the next file must not run away with it.
  const most = file.first + size
  const seq = last === undefined || last.seq < file.first || last.seq > most ? most : last.seq
  const head = { seq: Math.max(seq, signed?.seq ?? 0), hash: last?.hash ?? genesis.hash }
  const broken = firstBreak(lines, undefined)
  if (broken !== undefined) {
    return { head, because: `${file.name} near seq ${broken.seq}: ${broken.because}` }
  }
  if (signed !== undefined && signed.seq > seq) {
    const because = `records up to seq ${signed.seq} were signed and the log ends at seq ${seq}`
    return { head, because }
  }
  const record =
    signed === undefined
      ? undefined
      : lines.map(parseRecord).find((line) => line?.seq === signed.seq)
  if (signed !== undefined && record !== undefined && record.hash !== signed.hash) {
    return { head, because: `${file.name}: record ${signed.seq} is not the one that was signed` }
  }
  return { head, because: undefined }
}

function repaired(cut: number): AuditEntry[] {
  if (cut === 0) return []
  return [{ event: 'audit.repaired', count: cut, because: 'a torn last line was cut off' }]
}
