/**
 * Signed heads of the chain, in `checkpoints.jsonl`: without them the newest records could be cut
 * off unseen.
 */
import {
  makeSigningKey,
  readCheckpoint,
  signCheckpoint,
  type Checkpoint,
  type SigningKey,
} from '../crypto.ts'
import { Failure, codeOf, messageOf } from '../errors.ts'
import { FileFailure, ensureDir, readOwn, writeAtomic } from '../files.ts'
import { parseObject } from './chain.ts'
import { checkFile, linesBackward, openToRead } from './files.ts'

const { dirname, join } = process.getBuiltinModule('node:path')
const fs = process.getBuiltinModule('node:fs')

/** The file of the checkpoints of a log. */
export function checkpointsPath(dir: string): string {
  return join(dir, 'checkpoints.jsonl')
}

/** Where the key of a log lies unless told otherwise: beside the log's folder, never in it. */
export function defaultKeyFile(dir: string): string {
  return join(dirname(dir), 'keys', 'audit.key')
}

/** One line of the file: what it claims, and the JWS that must prove it. */
export interface SignedLine {
  readonly jws: string
  readonly claim: Checkpoint
}

/** A line of `checkpoints.jsonl`; undefined when it is none. */
export function parseSigned(line: Uint8Array | string): SignedLine | undefined {
  const value = parseObject(line)
  const jws = value?.['jws']
  if (typeof jws !== 'string') return undefined
  const claim = readCheckpoint(jws)
  return claim === undefined || claim.seq !== value?.['seq'] ? undefined : { jws, claim }
}

/** The newest checkpoint as it claims to be, unverified; undefined when there is none. */
export function newestCheckpoint(dir: string): Checkpoint | undefined {
  const fd = openIfThere(checkpointsPath(dir))
  if (fd === undefined) return undefined
  try {
    for (const { line, ended } of linesBackward(fd, fs.fstatSync(fd).size)) {
      const signed = ended ? parseSigned(line) : undefined
      if (signed !== undefined) return signed.claim
    }
    return undefined
  } finally {
    fs.closeSync(fd)
  }
}

/**
 * The key in a key file; undefined when there is no such file. With `mend` its mode is put right
 * instead of refused. Throws Failure when it is not a key, or not ours.
 */
export function readKey(path: string, mend = false): SigningKey | undefined {
  let text: string
  try {
    text = readOwn(path, { mend }).text
  } catch (thrown) {
    if (thrown instanceof FileFailure && thrown.code === 'FILE_MISSING') return undefined
    throw thrown
  }
  const value = parseObject(text)
  const { x, d } = value ?? {}
  if (value?.['crv'] !== 'Ed25519' || typeof x !== 'string') {
    throw new Failure('AUDIT_KEY', `${path} is not an Ed25519 key (JWK): restore it from a backup`)
  }
  return { kty: 'OKP', crv: 'Ed25519', x, ...(typeof d === 'string' ? { d } : {}) }
}

async function readOrMakeKey(path: string): Promise<SigningKey> {
  const known = readKey(path, true)
  if (known !== undefined) return known
  const key = await makeSigningKey()
  ensureDir(dirname(path))
  writeAtomic(path, `${JSON.stringify(key)}\n`)
  return key
}

/**
 * Writes the checkpoints of one log, one change after the other. The caller holds the lock of the
 * folder.
 */
export class CheckpointWriter {
  readonly #path: string
  readonly #keyFile: string
  #key: SigningKey | undefined
  #last: Promise<unknown> = Promise.resolve()
  #newest: number

  constructor(dir: string, keyFile: string) {
    this.#path = checkpointsPath(dir)
    this.#keyFile = keyFile
    this.#newest = newestCheckpoint(dir)?.seq ?? 0
  }

  /** The seq of the newest checkpoint in the file; 0 when there is none. */
  get newest(): number {
    return this.#newest
  }

  /**
   * Signs and appends; resolves with the JWS once it is on the disk. Rejects with what went wrong.
   */
  async add(checkpoint: Checkpoint): Promise<string> {
    return this.#inTurn(async () => {
      this.#key ??= await readOrMakeKey(this.#keyFile)
      const jws = await signCheckpoint(this.#key, checkpoint)
      await appendLine(this.#path, `${JSON.stringify({ seq: checkpoint.seq, jws })}\n`)
      this.#newest = checkpoint.seq
      return jws
    })
  }

  /** Forgets the checkpoints of records before `first`, which are gone. */
  async prune(first: number): Promise<void> {
    return this.#inTurn(async () => {
      const text = await fs.promises.readFile(this.#path, 'utf8')
      const kept = text.split('\n').filter((line) => (parseSigned(line)?.claim.seq ?? 0) >= first)
      writeAtomic(this.#path, kept.map((line) => `${line}\n`).join(''))
    })
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(change)
    // The next change does not depend on how this one ended; whoever asked for this one is told.
    this.#last = turn.then(
      () => undefined,
      () => undefined,
    )
    return turn
  }
}

async function appendLine(path: string, line: string): Promise<void> {
  const { O_APPEND, O_CREAT, O_NOFOLLOW, O_RDWR } = fs.constants
  const file = await fs.promises.open(path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW, 0o600)
  try {
    checkFile(file.fd, path)
    const size = endOfLines(file.fd)
    await file.truncate(size)
    try {
      await file.writeFile(line)
      await file.datasync()
    } catch (thrown) {
      await file.truncate(size)
      throw thrown
    }
  } finally {
    await file.close()
  }
}

/** Where the last whole line ends: a crash may have left half of one. */
function endOfLines(fd: number): number {
  const { size } = fs.fstatSync(fd)
  const [last] = linesBackward(fd, size)
  return last === undefined || last.ended ? size : last.offset
}

function openIfThere(path: string): number | undefined {
  try {
    return openToRead(path)
  } catch (thrown) {
    if (codeOf(thrown) === 'ENOENT') return undefined
    throw new Failure('AUDIT_UNREADABLE', `${path} cannot be read: ${messageOf(thrown)}`, {
      cause: thrown,
    })
  }
}
