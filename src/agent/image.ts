/** A small image made on this machine out of its own Node and given folders, for engines that can pull nothing. */
import { execFile } from 'node:child_process'
import { createHash, type Hash } from 'node:crypto'
import { createReadStream, existsSync, lstatSync, readdirSync, realpathSync } from 'node:fs'
import { Readable } from 'node:stream'
import { promisify } from 'node:util'
import { Failure, messageOf } from '../errors.ts'
import type { Engine } from './engine.ts'

/** A file or folder of this machine and where it stands in the image. Links in a folder are left out. */
export interface Source {
  readonly from: string
  readonly to: string
}

/** A program that is made here and stands nowhere on this machine. */
export interface MadeProgram {
  readonly program: Buffer
  readonly to: string
}

/** What an image holds besides Node, its libraries, a user list and the machine's certificate authorities. */
export interface Recipe {
  /** Name without a tag; the tag is the hash of the content. */
  readonly name: string
  /** The Node binary to put in, at /usr/local/bin/node. */
  readonly nodePath: string
  readonly add: readonly (Source | MadeProgram)[]
  /** Arguments behind `node`. */
  readonly args: readonly string[]
}

/** One entry of a tar archive. */
export interface Entry {
  /** Without a leading slash; a folder ends in one. */
  readonly path: string
  readonly mode: number
  readonly size: number
  /** The bytes themselves, or the file that holds them. */
  readonly content: Buffer | { readonly file: string }
}

/** Makes the image unless the engine already has the one with this content, and gives its name. */
export async function localImage(engine: Engine, recipe: Recipe): Promise<string> {
  const entries = await entriesOf(recipe)
  const changes = [
    'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    'USER 1000:1000',
    'WORKDIR /',
    `ENTRYPOINT ${JSON.stringify(['/usr/local/bin/node'])}`,
    `CMD ${JSON.stringify(recipe.args)}`,
  ]
  const name = `${recipe.name}:${await contentHash(entries, changes)}`
  if ((await engine.image(name)) === undefined) {
    await engine.importImage(name, Readable.from(tarOf(entries), { objectMode: false }), changes)
  }
  return name
}

const users = 'root:x:0:0:root:/root:/sbin/nologin\nnode:x:1000:1000:node:/tmp:/sbin/nologin\n'
const groups = 'root:x:0:\nnode:x:1000:\n'
const authorities = '/etc/ssl/certs/ca-certificates.crt'

async function entriesOf(recipe: Recipe): Promise<readonly Entry[]> {
  const files = new Map<string, Entry>()
  const add = (to: string, mode: number, content: Entry['content'], size: number) => {
    const path = to.replace(/^\/+/, '')
    files.set(path, { path, mode, content, size })
  }
  const addFile = (from: string, to: string, mode: number) => {
    const real = realpathSync(from)
    add(to, mode, { file: real }, lstatSync(real).size)
  }
  const addText = (to: string, text: string) =>
    add(to, 0o644, Buffer.from(text), Buffer.byteLength(text))
  addFile(recipe.nodePath, '/usr/local/bin/node', 0o755)
  for (const library of await librariesOf(recipe.nodePath)) addFile(library, library, 0o755)
  addText('/etc/passwd', users)
  addText('/etc/group', groups)
  if (existsSync(authorities)) addFile(authorities, authorities, 0o644)
  for (const source of recipe.add) {
    if ('program' in source) {
      add(source.to, 0o755, source.program, source.program.length)
      continue
    }
    for (const file of walk(source)) addFile(file.from, file.to, modeOf(file.from))
  }
  return withFolders([...files.values()])
}

/** Files below a source, in the order of their names. */
function walk(source: Source): readonly Source[] {
  const found = lstatSync(source.from, { throwIfNoEntry: false })
  if (found === undefined) {
    throw new Failure('IMAGE_SOURCE', `${source.from} does not exist: the image cannot be made.`)
  }
  if (found.isFile()) return [source]
  if (!found.isDirectory()) return []
  return readdirSync(source.from)
    .toSorted()
    .flatMap((name) => walk({ from: `${source.from}/${name}`, to: `${source.to}/${name}` }))
}

/** Readable by every user in the image, because the one that runs it owns nothing there. */
function modeOf(path: string): number {
  return (lstatSync(path).mode & 0o100) === 0 ? 0o644 : 0o755
}

/** The files with every folder above them first. The root is 0755: otherwise no other user could look into it. */
function withFolders(files: readonly Entry[]): readonly Entry[] {
  const folders = new Map<string, Entry>()
  const folder = (path: string, mode: number) =>
    folders.set(path, { path, mode, size: 0, content: Buffer.alloc(0) })
  folder('./', 0o755)
  folder('tmp/', 0o1777)
  for (const file of files) {
    const parts = file.path.split('/').slice(0, -1)
    for (let depth = 1; depth <= parts.length; depth += 1) {
      const path = `${parts.slice(0, depth).join('/')}/`
      if (!folders.has(path)) folder(path, 0o755)
    }
  }
  const byPath = (a: Entry, b: Entry) => (a.path < b.path ? -1 : 1)
  return [...[...folders.values()].toSorted(byPath), ...files.toSorted(byPath)]
}

/** The shared libraries that a binary is loaded with, by path; none for a static one. */
async function librariesOf(binary: string): Promise<readonly string[]> {
  let listing: string
  try {
    const env = { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C' }
    listing = (await promisify(execFile)('ldd', [binary], { env, timeout: 10_000 })).stdout
  } catch (thrown) {
    if (/not a (dynamic executable|valid dynamic program)/i.test(messageOf(thrown))) return []
    throw new Failure(
      'IMAGE_LIBRARIES',
      `"ldd ${binary}" does not tell which libraries Node needs: install the package that has ldd (libc-bin).`,
      { cause: thrown },
    )
  }
  return librariesIn(listing)
}

/** Paths in the output of ldd(1). */
export function librariesIn(listing: string): readonly string[] {
  const paths = [...listing.matchAll(/^\s*(?:\S+ => )?(\/\S+) \(0x[0-9a-f]+\)$/gm)]
  return [...new Set(paths.map((match) => match[1] ?? ''))].filter((path) => path !== '')
}

/** Hashes of large files by path, size and time: Node itself has over 100 MB and is asked for at every start. */
const hashed = new Map<string, string>()

async function contentHash(entries: readonly Entry[], changes: readonly string[]): Promise<string> {
  const whole = createHash('sha256').update(JSON.stringify(changes))
  for (const entry of entries) {
    whole.update(`\n${entry.path} ${entry.mode} ${entry.size} `)
    if (Buffer.isBuffer(entry.content)) whole.update(entry.content)
    else whole.update(await fileHash(entry.content.file))
  }
  return whole.digest('hex').slice(0, 16)
}

async function fileHash(file: string): Promise<string> {
  const { size, mtimeMs, ino } = lstatSync(file)
  const key = `${file} ${size} ${mtimeMs} ${ino}`
  let hash = hashed.get(key)
  if (hash === undefined) {
    const digest: Hash = createHash('sha256')
    for await (const chunk of createReadStream(file, { highWaterMark: 1024 ** 2 })) {
      if (Buffer.isBuffer(chunk)) digest.update(chunk)
    }
    hash = digest.digest('hex')
    hashed.set(key, hash)
  }
  return hash
}

/** The archive, block by block (POSIX.1-1988 ustar). */
export async function* tarOf(entries: Iterable<Entry>): AsyncGenerator<Buffer> {
  for (const entry of entries) {
    yield header(entry)
    if (Buffer.isBuffer(entry.content)) yield entry.content
    else yield* exactly(entry.content.file, entry.size)
    const odd = entry.size % 512
    if (odd !== 0) yield Buffer.alloc(512 - odd)
  }
  yield Buffer.alloc(1024)
}

/** The bytes of a file, or a `Failure` when it changed its size meanwhile: the archive would be out of step. */
async function* exactly(file: string, size: number): AsyncGenerator<Buffer> {
  let left = size
  for await (const chunk of createReadStream(file, { highWaterMark: 1024 ** 2 })) {
    if (!Buffer.isBuffer(chunk)) continue
    left -= chunk.length
    if (left < 0) break
    yield chunk
  }
  if (left !== 0) throw new Failure('IMAGE_SOURCE', `${file} changed while it was read: try again.`)
}

function header(entry: Entry): Buffer {
  const block = Buffer.alloc(512)
  const folder = entry.path.endsWith('/')
  const [prefix, name] = split(entry.path)
  block.write(name, 0)
  block.write(`${octal(entry.mode, 7)}\0`, 100)
  block.write(`${octal(0, 7)}\0`, 108)
  block.write(`${octal(0, 7)}\0`, 116)
  block.write(`${octal(entry.size, 11)}\0`, 124)
  block.write(`${octal(0, 11)}\0`, 136)
  block.write(' '.repeat(8), 148)
  block.write(folder ? '5' : '0', 156)
  block.write('ustar\x0000', 257)
  block.write(prefix, 345)
  // The sum is taken with its own field as blanks.
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${octal(sum, 6)}\0 `, 148)
  return block
}

/** A path in the two fields that ustar has for it: 155 bytes of folder, 100 of name. */
function split(path: string): [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= 100) return ['', path]
  for (let slash = path.indexOf('/'); slash !== -1; slash = path.indexOf('/', slash + 1)) {
    const [prefix, name] = [path.slice(0, slash), path.slice(slash + 1)]
    if (name !== '' && Buffer.byteLength(name) <= 100 && Buffer.byteLength(prefix) <= 155) {
      return [prefix, name]
    }
  }
  throw new Failure('IMAGE_SOURCE', `${path} is too long a path for an image: shorten it.`)
}

function octal(value: number, digits: number): string {
  return value.toString(8).padStart(digits, '0')
}
