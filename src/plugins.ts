/**
 * Plugins of the agent: folders that reach its cell read-only, and only while they are what the owner trusted. What is
 * mounted is a copy of the bytes that were hashed, so that a change after the look changes nothing in the cell.
 */
import { hash } from 'node:crypto'
import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { dirname, join } from 'node:path'
import { makeSigningKey, signPlugins, verifyPlugins, type SigningKey } from './crypto.ts'
import { Failure, codeOf, messageOf } from './errors.ts'
import { FileFailure, ensureDir, ownUid, readOwn, writeAtomic } from './files.ts'

/** What the configuration says about plugins. */
export interface PluginSettings {
  readonly enabled: readonly string[]
  readonly disabled: readonly string[]
  readonly dir?: string | undefined
}

/** Whether a plugin reaches the cell, and if not, why. Only `good` does. */
export type PluginState =
  | 'good'
  | 'disabled'
  | 'not enabled'
  | 'missing'
  | 'unlisted'
  | 'changed'
  | 'unsafe'

/** One plugin as it was found. */
export interface Plugin {
  readonly name: string
  readonly state: PluginState
  /** Completes "the plugin NAME …". */
  readonly because: string
  /** SHA-256 (hex) of its tree, where it could be read. */
  readonly hash?: string
}

/** All that is in the folder or on a list. */
export interface PluginsFound {
  readonly dir: string | undefined
  readonly plugins: readonly Plugin[]
  /** What is wrong with plugins.lock.json, in words that complete its name. */
  readonly lockFault?: string
  /** What is wrong with the folder, in words that complete its name. */
  readonly dirFault?: string
}

/** A file or folder of a plugin. */
interface Item {
  readonly path: string
  readonly executable: boolean
  /** Undefined for a folder. */
  readonly bytes: Buffer | undefined
}

const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/
const itemsMost = 5000
const treeBytesMost = 64 * 1024 ** 2

const lockFile = (home: string) => join(home, 'plugins.lock.json')
const keyFile = (home: string) => join(home, 'keys', 'plugins.key')

const unsafe = (why: string) => new Failure('PLUGIN_UNSAFE', why)

/** Everything in a folder, by path; a Failure when something in it is no plain file or folder of ours. */
function readTree(root: string): readonly Item[] {
  const items: Item[] = []
  let size = 0
  const walk = (folder: string, at: string): void => {
    for (const name of readdirSync(folder).toSorted()) {
      const path = at === '' ? name : `${at}/${name}`
      const full = join(folder, name)
      const stats = lstatSync(full)
      checkItem(path, stats)
      if (items.length >= itemsMost) throw unsafe(`has more than ${itemsMost} files`)
      if (stats.isDirectory()) {
        items.push({ path, executable: true, bytes: undefined })
        walk(full, path)
        continue
      }
      const { bytes, executable } = readItem(full, path)
      size += bytes.length
      if (size > treeBytesMost) throw unsafe(`is larger than ${treeBytesMost} bytes`)
      items.push({ path, executable, bytes })
    }
  }
  walk(root, '')
  return items
}

function checkItem(path: string, stats: ReturnType<typeof lstatSync>): void {
  if (stats === undefined) return
  if (stats.isSymbolicLink()) throw unsafe(`has a symbolic link, ${path}`)
  if (!stats.isDirectory() && !stats.isFile()) throw unsafe(`has ${path}, which is no plain file`)
  if (stats.uid !== ownUid() && stats.uid !== 0) throw unsafe(`has ${path}, which is not ours`)
  if ((Number(stats.mode) & 0o022) !== 0) throw unsafe(`has ${path}, which others can change`)
}

function readItem(full: string, path: string): { bytes: Buffer; executable: boolean } {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const fd = openSync(full, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    checkItem(path, stats)
    if (!stats.isFile() || stats.size > treeBytesMost) throw unsafe(`has ${path}, too large a file`)
    if (stats.nlink !== 1) throw unsafe(`has ${path}, which has a second name`)
    return { bytes: readFileSync(fd), executable: (stats.mode & 0o100) !== 0 }
  } finally {
    closeSync(fd)
  }
}

function hashTree(items: readonly Item[]): string {
  const lines = items.map(({ path, executable, bytes }) =>
    JSON.stringify([
      path,
      bytes === undefined ? 'folder' : executable ? 'program' : 'file',
      bytes === undefined ? '' : hash('sha256', bytes),
    ]),
  )
  return hash('sha256', lines.join('\n'))
}

/** What is wrong with a folder that must not be changed by others; undefined when nothing is. */
function folderFault(path: string): string | undefined {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return 'does not exist'
  if (stats.isSymbolicLink()) return 'is a symbolic link'
  if (!stats.isDirectory()) return 'is not a folder'
  if (stats.uid !== ownUid() && stats.uid !== 0) return 'belongs to another user'
  if ((stats.mode & 0o022) !== 0) return 'can be changed by others'
  return undefined
}

function readKey(home: string): SigningKey | undefined {
  try {
    const value: unknown = JSON.parse(readOwn(keyFile(home)).text)
    if (typeof value !== 'object' || value === null) return undefined
    const { crv, x, d } = value as Readonly<Record<string, unknown>>
    if (crv !== 'Ed25519' || typeof x !== 'string') return undefined
    return { kty: 'OKP', crv, x, ...(typeof d === 'string' ? { d } : {}) }
  } catch (thrown) {
    const missing = thrown instanceof FileFailure && thrown.code === 'FILE_MISSING'
    if (missing || thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

interface Lock {
  readonly hashes: ReadonlyMap<string, string>
  readonly fault?: string
}

/** The trusted hashes; none of them when the signature is not ours. */
async function readLock(home: string): Promise<Lock> {
  const none: ReadonlyMap<string, string> = new Map()
  try {
    const { text } = readOwn(lockFile(home))
    const value: unknown = JSON.parse(text)
    const jws =
      typeof value === 'object' && value !== null && 'jws' in value ? value.jws : undefined
    const key = readKey(home)
    if (key === undefined) {
      return { hashes: none, fault: 'cannot be proven: keys/plugins.key is missing or no key' }
    }
    const hashes = typeof jws === 'string' ? await verifyPlugins(key, jws) : undefined
    return hashes === undefined ? { hashes: none, fault: 'is not signed by our key' } : { hashes }
  } catch (thrown) {
    if (thrown instanceof FileFailure) {
      return thrown.code === 'FILE_MISSING'
        ? { hashes: none }
        : { hashes: none, fault: thrown.what.replace(lockFile(home), 'cannot be used: it') }
    }
    if (thrown instanceof SyntaxError) return { hashes: none, fault: 'is not JSON' }
    throw thrown
  }
}

/** Every plugin in the folder and on the lists, judged. Mounts and changes nothing. */
export async function findPlugins(settings: PluginSettings, home: string): Promise<PluginsFound> {
  const { dir } = settings
  if (dir === undefined) return { dir, plugins: [] }
  const dirFault = folderFault(dir)
  const { hashes, fault } = await readLock(home)
  const there = dirFault === undefined ? readdirSync(dir) : []
  const names = [...new Set([...settings.enabled, ...settings.disabled, ...there])].toSorted()
  const plugins = names.map((name): Plugin => {
    if (settings.disabled.includes(name)) {
      return { name, state: 'disabled', because: 'is disabled' }
    }
    if (!settings.enabled.includes(name)) {
      return { name, state: 'not enabled', because: 'is not enabled' }
    }
    return judge(name, dir, dirFault, hashes.get(name)).plugin
  })
  return {
    dir,
    plugins,
    ...(fault === undefined ? {} : { lockFault: fault }),
    ...(dirFault === undefined ? {} : { dirFault }),
  }
}

function judge(
  name: string,
  dir: string,
  dirFault: string | undefined,
  trusted: string | undefined,
): { plugin: Plugin; items: readonly Item[] } {
  const no = (state: PluginState, because: string, more: { hash?: string } = {}) => ({
    plugin: { name, state, because, ...more },
    items: [],
  })
  if (!namePattern.test(name)) return no('unsafe', 'has a name that cannot be a folder')
  if (dirFault === 'does not exist') return no('missing', 'has no folder')
  if (dirFault !== undefined) return no('unsafe', `lies in a folder that ${dirFault}`)
  const root = join(dir, name)
  const fault = folderFault(root)
  if (fault === 'does not exist') return no('missing', 'has no folder')
  if (fault !== undefined) return no('unsafe', fault)
  try {
    const items = readTree(root)
    const found = hashTree(items)
    if (trusted === undefined) return no('unlisted', 'is not trusted', { hash: found })
    if (trusted !== found) return no('changed', 'changed since it was trusted', { hash: found })
    return { plugin: { name, state: 'good', because: 'is trusted', hash: found }, items }
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code === 'PLUGIN_UNSAFE') {
      return no('unsafe', thrown.message)
    }
    return no('unsafe', `cannot be read (${codeOf(thrown) || messageOf(thrown)})`)
  }
}

/** A plugin that may be mounted: where its copy lies. */
export interface PluginMount {
  readonly name: string
  readonly source: string
}

/**
 * Copies each good plugin to a folder that only we can enter, and names those that were refused. The path of a copy
 * has its hash, so that the same plugins are the same cell.
 */
export async function preparePlugins(
  settings: PluginSettings,
  home: string,
): Promise<{ readonly mounts: readonly PluginMount[]; readonly refused: readonly Plugin[] }> {
  const { dir } = settings
  if (dir === undefined || settings.enabled.length === 0) return { mounts: [], refused: [] }
  const dirFault = folderFault(dir)
  const { hashes } = await readLock(home)
  const mounts: PluginMount[] = []
  const refused: Plugin[] = []
  for (const name of settings.enabled.filter((one) => !settings.disabled.includes(one))) {
    const { plugin, items } = judge(name, dir, dirFault, hashes.get(name))
    if (plugin.state === 'good') {
      // The engine compares what it mounted with what it was asked: both by the real path.
      mounts.push({ name, source: realpathSync(copyOf(home, name, plugin.hash ?? '', items)) })
    } else refused.push(plugin)
  }
  return { mounts, refused }
}

function copyOf(home: string, name: string, treeHash: string, items: readonly Item[]): string {
  const folder = join(home, 'run', 'plugins')
  ensureDir(folder)
  const target = join(folder, `${name}-${treeHash.slice(0, 16)}`)
  if (isCopy(target, treeHash)) return target
  const part = `${target}.${process.pid}.part`
  rmSync(part, { recursive: true, force: true })
  rmSync(target, { recursive: true, force: true })
  mkdirSync(part)
  for (const { path, executable, bytes } of items) {
    const full = join(part, path)
    if (bytes === undefined) mkdirSync(full)
    else writeFileSync(full, bytes, { flag: 'wx' })
    // The agent is another user: it reads, and the folder above keeps everybody else out.
    chmodSync(full, executable ? 0o755 : 0o644)
  }
  chmodSync(part, 0o755)
  renameSync(part, target)
  return target
}

function isCopy(target: string, treeHash: string): boolean {
  if (folderFault(target) !== undefined) return false
  try {
    return hashTree(readTree(target)) === treeHash
  } catch (thrown) {
    if (thrown instanceof Failure || codeOf(thrown) !== '') return false
    throw thrown
  }
}

/**
 * Puts the present hash of a plugin on the signed list and returns it. Fails with PLUGIN_UNSAFE, PLUGIN_MISSING, or
 * PLUGIN_LOCK when the list has no signature of ours: then nothing is signed over.
 */
export async function trustPlugin(
  settings: PluginSettings,
  home: string,
  name: string,
): Promise<string> {
  const { dir } = settings
  if (dir === undefined) {
    throw new Failure('PLUGIN_MISSING', 'plugins.dir is not set: name the folder of plugins there')
  }
  const { plugin } = judge(name, dir, folderFault(dir), undefined)
  if (plugin.hash === undefined) {
    const code = plugin.state === 'missing' ? 'PLUGIN_MISSING' : 'PLUGIN_UNSAFE'
    throw new Failure(code, `${join(dir, name)} ${plugin.because}, so it cannot be trusted`)
  }
  const { hashes, fault } = await readLock(home)
  if (fault !== undefined) {
    throw new Failure(
      'PLUGIN_LOCK',
      `${lockFile(home)} ${fault}: restore it, or remove it and trust each plugin again`,
    )
  }
  const key = readKey(home) ?? (await makeKey(home))
  const trusted = { ...Object.fromEntries(hashes), [name]: plugin.hash }
  writeAtomic(lockFile(home), `${JSON.stringify({ jws: await signPlugins(key, trusted) })}\n`)
  return plugin.hash
}

async function makeKey(home: string): Promise<SigningKey> {
  const key = await makeSigningKey()
  ensureDir(dirname(keyFile(home)))
  writeAtomic(keyFile(home), `${JSON.stringify(key)}\n`)
  return key
}
