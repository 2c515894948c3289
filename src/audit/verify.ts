/** Proves a log, or names its first broken record. */
import fs from 'node:fs'
import { verifyCheckpoint, type SigningKey } from '../crypto.ts'
import { codeOf } from '../errors.ts'
import { follow, parseRecord, type Head } from './chain.ts'
import {
  checkpointsPath,
  defaultKeyFile,
  newestCheckpoint,
  parseSigned,
  readKey,
  type SignedLine,
} from './checkpoints.ts'
import { listFiles, type AuditFile } from './files.ts'
import { readLines } from './read.ts'
import type { AuditRecord } from './record.ts'

/** The first place where a log is not what was written. */
export interface BrokenRecord {
  readonly file: string
  /** Counted from 1; 0 when the fault is in no line, such as a missing one. */
  readonly line: number
  readonly seq: number
  readonly because: string
}

/** What `audit verify` found. */
export interface Verdict {
  readonly ok: boolean
  readonly records: number
  readonly files: number
  /** 0 in an empty log. */
  readonly firstSeq: number
  readonly lastSeq: number
  readonly head: string
  readonly checkpoints: {
    /** Whose signature and hash are right. */
    readonly good: number
    /** Whose records rotation has removed. */
    readonly older: number
    /** The newest records that no checkpoint covers yet: their removal would not be seen. */
    readonly unsigned: number
    /** There is no key to check signatures with; the hashes were compared nevertheless. */
    readonly keyMissing: boolean
  }
  /** Bytes behind the last line end: a write under way, or one that a crash ended. */
  readonly unfinished: number
  readonly broken?: BrokenRecord
}

/** How a log is verified. */
export interface VerifyOptions {
  /** Breaks before this seq are known and accepted. */
  readonly from?: number
  readonly keyFile?: string
}

/**
 * Reads the whole log, oldest record first, in bounded memory. Throws Failure when it cannot be
 * read.
 */
export async function verifyAudit(dir: string, options: VerifyOptions = {}): Promise<Verdict> {
  // In this order, so that a checkpoint that is signed meanwhile is not taken for one whose records
  // are gone.
  const newestSigned = newestCheckpoint(dir)?.seq ?? 0
  const files = listFiles(dir)
  const key = readKey(options.keyFile ?? defaultKeyFile(dir))
  const signed = new SignedLines(dir, key, newestSigned)
  const walk = new Walk(signed, options.from ?? 0)
  for (const [index, file] of files.entries()) {
    await walk.file(file, index === files.length - 1)
    if (walk.broken !== undefined) break
  }
  await walk.end(key !== undefined)
  await signed.close()
  return walk.verdict(files.length)
}

class Walk {
  readonly #from: number
  readonly #signed: SignedLines
  #head: Head | undefined
  #records = 0
  #firstSeq = 0
  #firstFile = ''
  /** The oldest seq that the log itself says is kept. */
  #firstKept = 1
  #unfinished = 0
  broken: BrokenRecord | undefined

  constructor(signed: SignedLines, from: number) {
    this.#from = from
    this.#signed = signed
  }

  async file(file: AuditFile, newest: boolean): Promise<void> {
    let number = 0
    for await (const { line, ended } of readLines(file.path)) {
      number += 1
      if (!ended && newest) {
        this.#unfinished = line.length
        return
      }
      const place = { file: file.name, line: number }
      const because = await this.#line(line, place, number === 1 ? file.first : undefined)
      if (because !== undefined) {
        this.broken = because
        return
      }
    }
  }

  /** Takes one line; returns what is wrong with it unless that is accepted. */
  async #line(
    line: Buffer,
    place: { file: string; line: number },
    named: number | undefined,
  ): Promise<BrokenRecord | undefined> {
    const step = follow(this.#head, line)
    const record = 'record' in step ? step.record : parseRecord(line)
    const seq = record?.seq ?? ('record' in step ? step.head.seq : step.seq)
    let because = 'because' in step ? step.because : undefined
    if (record?.event === 'audit.chain-broken') because = record.because ?? 'the chain was broken'
    if (because === undefined && named !== undefined && named !== seq) {
      because = `the file begins with seq ${seq}, not the one in its name`
    }
    if (because === undefined && record !== undefined) because = await this.#signed.disagree(record)
    if (because !== undefined && seq >= this.#from) {
      return { ...place, seq: 'because' in step ? step.seq : seq, because }
    }
    if (this.#records === 0) {
      this.#firstSeq = seq
      this.#firstFile = place.file
    }
    this.#records += 1
    if (record?.first !== undefined) this.#firstKept = Math.max(this.#firstKept, record.first)
    // Behind an accepted break the chain is taken up from what the line itself says.
    this.#head = record === undefined ? undefined : { seq: record.seq, hash: record.hash }
    return undefined
  }

  /** What only the whole log can show: a missing beginning, a missing end, or all of it. */
  async end(hasKey: boolean): Promise<void> {
    if (this.broken !== undefined) return
    const lastSeq = this.#head?.seq ?? 0
    if (this.#firstSeq > this.#firstKept && this.#firstSeq > this.#from) {
      const gone = `records ${this.#firstKept} to ${this.#firstSeq - 1} are missing`
      const because = `${gone}; rotation did not remove them`
      this.broken = { file: this.#firstFile, line: 0, seq: this.#firstKept, because }
      return
    }
    const beyond = await this.#signed.beyond(lastSeq)
    const seq = lastSeq + 1
    // The key is made for the first checkpoint, so where it is there was one, and there were records.
    const erased =
      hasKey && this.#records === 0
        ? 'the log is empty, but its key was made when the first records were signed: they are gone'
        : undefined
    const because = beyond ?? erased
    if (because !== undefined) {
      this.broken = { file: 'checkpoints.jsonl', line: 0, seq, because }
    }
  }

  verdict(files: number): Verdict {
    const lastSeq = this.#head?.seq ?? 0
    return {
      ok: this.broken === undefined,
      records: this.#records,
      files,
      firstSeq: this.#firstSeq,
      lastSeq,
      head: this.#head?.hash ?? '',
      checkpoints: this.#signed.summary(lastSeq),
      unfinished: this.#unfinished,
      ...(this.broken === undefined ? {} : { broken: this.broken }),
    }
  }
}

/** The checkpoints beside the walk: both ascend by seq, so that one of each is held. */
class SignedLines {
  readonly #lines: AsyncGenerator<SignedLine | string>
  readonly #key: SigningKey | undefined
  #next: SignedLine | string | undefined
  #started = false
  #good = 0
  #older = 0
  #newest = 0

  constructor(dir: string, key: SigningKey | undefined, newest: number) {
    this.#lines = signedLines(checkpointsPath(dir), newest)
    this.#key = key
  }

  /** Why a checkpoint does not allow this record, if one is about it. */
  async disagree(record: AuditRecord): Promise<string | undefined> {
    let next = await this.#peek()
    while (next !== undefined && typeof next !== 'string' && next.claim.seq < record.seq) {
      if (this.#good === 0) this.#older += 1
      next = await this.#advance()
    }
    if (next === undefined) return undefined
    if (typeof next !== 'string' && next.claim.seq !== record.seq) return undefined
    await this.#advance()
    if (typeof next === 'string') return next
    if (next.claim.hash !== record.hash) return 'the record is not the one that was signed'
    if (this.#key !== undefined && (await verifyCheckpoint(this.#key, next.jws)) === undefined) {
      return 'the signature of its checkpoint is not by the key of this log'
    }
    this.#good += 1
    this.#newest = record.seq
    return undefined
  }

  /** Why the log cannot end with this seq. */
  async beyond(lastSeq: number): Promise<string | undefined> {
    let newest = 0
    for (let next = await this.#peek(); next !== undefined; next = await this.#advance()) {
      if (typeof next === 'string') return next
      newest = Math.max(newest, next.claim.seq)
    }
    if (newest <= lastSeq) return undefined
    return `records ${lastSeq + 1} to ${newest} were signed and are gone`
  }

  summary(lastSeq: number): Verdict['checkpoints'] {
    return {
      good: this.#good,
      older: this.#older,
      unsigned: Math.max(0, lastSeq - this.#newest),
      keyMissing: this.#key === undefined && this.#good > 0,
    }
  }

  /** Lets go of the file of the checkpoints. */
  async close(): Promise<void> {
    await this.#lines.return(undefined)
  }

  async #peek(): Promise<SignedLine | string | undefined> {
    if (this.#started) return this.#next
    this.#started = true
    return this.#advance()
  }

  async #advance(): Promise<SignedLine | string | undefined> {
    const result = await this.#lines.next()
    this.#next = result.done === true ? undefined : result.value
    return this.#next
  }
}

/** The checkpoints in turn, up to the one about `newest`; a string says what is wrong with one. */
async function* signedLines(path: string, newest: number): AsyncGenerator<SignedLine | string> {
  let number = 0
  let seq = 0
  if (!exists(path)) return
  for await (const { line, ended } of readLines(path)) {
    if (!ended) return
    number += 1
    const signed = parseSigned(line)
    if (signed === undefined) yield `checkpoints.jsonl line ${number} is not a checkpoint`
    else if (signed.claim.seq < seq) yield `checkpoints.jsonl line ${number} is out of order`
    else if (signed.claim.seq > newest) return
    else {
      seq = signed.claim.seq
      yield signed
    }
  }
}

function exists(path: string): boolean {
  try {
    fs.lstatSync(path)
    return true
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return false
    throw thrown
  }
}
