/**
 * Copies of files from before a change. What shows a secret is sealed as a whole, so that it comes back byte for byte
 * and nobody reads it meanwhile; a copy of a configuration whose secrets are sealed already stays a text to be read.
 */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
} from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { Failure } from '../errors.ts'
import { readOwn, writeAtomic } from '../files.ts'
import type { Keyring, SecretsKey } from '../secrets/key.ts'
import { headerOf, isSealedFile, openFile, sealFile } from '../secrets/vault.ts'
import { parseJson5 } from './json5.ts'
import { sealAnew, secretsIn } from './sealing.ts'

type Random = (bytes: number) => Uint8Array

/** Largest copy: a file of 4 MB, sealed (RFC 4648: four characters for three bytes) and with its header. */
const copyBytesMax = 6 * 1024 * 1024

/** Folders of the home whose copies may be of any file, token files among them. */
const folders = ['migrations', 'backups'] as const
/** What stands beside those copies and has no secret: which file was where, and its mode. */
const descriptions = new Set(['manifest.json', 'modes.json'])

/** Says whether the text of a configuration shows a secret. */
export function showsSecret(text: string): boolean {
  return secretsIn(parseJson5(text).value).some(
    ({ kind, value }) => kind === 'plain' && value !== '',
  )
}

/** Numbers of the copies beside a configuration file, lowest first. */
export function numbersOf(file: string): readonly number[] {
  const start = `${basename(file)}.backup-`
  return readdirSync(dirname(file))
    .flatMap((name) =>
      name.startsWith(start) && /^\d{4,9}$/.test(name.slice(start.length))
        ? [Number(name.slice(start.length))]
        : [],
    )
    .toSorted((a, b) => a - b)
}

/** The path of one copy beside a configuration file: `….backup-0001`. */
export function numbered(file: string, number: number): string {
  return `${file}.backup-${String(number).padStart(4, '0')}`
}

/** Every copy of an installation that there is: beside its configuration, of migrations, and of the security audit. */
export function copiesOf(home: string, file: string): readonly string[] {
  const beside = existsSync(dirname(file)) ? numbersOf(file) : []
  const inFolders = folders
    .map((name) => join(home, name))
    .filter((folder) => existsSync(folder))
    .flatMap((folder) => readdirSync(folder, { recursive: true, withFileTypes: true }))
    .filter((entry) => entry.isFile() && !descriptions.has(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
  return [...beside.map((number) => numbered(file, number)), ...inFolders.toSorted()]
}

/** The bytes of a copy as it lies there, whatever its mode; undefined where it is no file of a size that we write. */
function readCopy(path: string): Buffer | undefined {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    return stats.isFile() && stats.size <= copyBytesMax ? readFileSync(fd) : undefined
  } finally {
    closeSync(fd)
  }
}

/** Whether a copy shows what should be sealed. Those in folders of ours are all sealed, whatever they hold. */
function isPlain(path: string, content: Buffer): boolean {
  const text = content.toString('utf8')
  if (isSealedFile(text)) return false
  return !/\.backup-\d{4,9}$/.test(path) || showsSecret(text)
}

/** The copies that show a secret: from a version that did not seal them, or from before there was a key. */
export function plainCopies(home: string, file: string): readonly string[] {
  return copiesOf(home, file).filter((path) => {
    const content = readCopy(path)
    return content !== undefined && isPlain(path, content)
  })
}

/** Seals every copy that shows a secret, in its place. Returns their paths. Throws FileFailure. */
export function sealCopies(
  home: string,
  file: string,
  key: SecretsKey,
  random: Random,
): readonly string[] {
  return copiesOf(home, file).filter((path) => {
    const content = readCopy(path)
    if (content === undefined || !isPlain(path, content)) return false
    writeAtomic(path, sealFile(key, content, random))
    return true
  })
}

/** Writes a copy, sealed as a whole. Throws FileFailure. */
export function sealInto(path: string, content: string, key: SecretsKey, random: Random): void {
  writeAtomic(path, sealFile(key, Buffer.from(content), random))
}

/** What a copy holds, byte for byte. Throws Failure: it may not be used, or is sealed and does not open. */
export function openCopy(path: string, keys: Keyring): Buffer {
  const { text } = readOwn(path, { parent: 'safe', maxBytes: copyBytesMax })
  if (!isSealedFile(text)) return readFileSync(path)
  const opened = openFile(keys, text)
  if (opened.because === undefined) return opened.value
  throw new Failure(
    'COPY_CLOSED',
    `${path} cannot be opened: ${opened.because}. Nothing was changed.`,
  )
}

/**
 * Seals anew, with another key, every copy that is sealed and every sealed value in a copy. A copy that does not open
 * stays as it is. Returns the paths of those that were written.
 */
export function resealCopies(
  home: string,
  file: string,
  keys: Keyring,
  to: SecretsKey,
  random: Random,
): readonly string[] {
  return copiesOf(home, file).filter((path) => {
    const content = readCopy(path)
    if (content === undefined) return false
    const text = content.toString('utf8')
    const sealed = isSealedFile(text)
    const opened = sealed ? openFile(keys, text) : { value: content }
    if (opened.because !== undefined) return false
    const anew = valuesAnew(opened.value, keys, to, random)
    const due = sealed ? headerOf(text.trim())?.['kid'] !== to.id : isPlain(path, content)
    if (anew === undefined && !due) return false
    const held = anew ?? opened.value
    writeAtomic(path, sealed || due ? sealFile(to, held, random) : held)
    return true
  })
}

/** What a copy holds, its sealed values sealed anew; undefined where there is nothing to do, or one does not open. */
function valuesAnew(
  held: Buffer,
  keys: Keyring,
  to: SecretsKey,
  random: Random,
): Buffer | undefined {
  try {
    const { text, sealed } = sealAnew(held.toString('utf8'), keys, to, random)
    return sealed.length === 0 ? undefined : Buffer.from(text)
  } catch (error) {
    if (error instanceof Failure && error.code === 'SEALED') return undefined
    throw error
  }
}
