/** A migration as files: what to read, a copy of all that changes, the new configuration, and the way back. */
import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  unlinkSync,
} from 'node:fs'
import { homedir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { Failure, codeOf } from '../errors.ts'
import { ensureDir, ownUid, readOwn, writeAtomic } from '../files.ts'
import { judgeToken } from '../identity/token-rule.ts'
import { findKeys } from '../secrets/key.ts'
import type { Keyring, SecretsKey } from '../secrets/key.ts'
import { sealFile } from '../secrets/vault.ts'
import { readWithIncludes } from './agent-file.ts'
import { applyDocument } from './edit.ts'
import type { Env } from './environment.ts'
import { parseJson5 } from './json5.ts'
import { migrateDocument, outside } from './migrate.ts'
import type { Migrated } from './migrate.ts'
import { valueAt } from './paths.ts'
import type { Json } from './paths.ts'
import { lineOf } from './problems.ts'
import { openCopy } from './copies.ts'
import { sealPlain, sealingKey } from './sealing.ts'
import { checkWritable, configPath, judgeText } from './write.ts'

type Random = (bytes: number) => Uint8Array

/** The files of a migration. */
export interface Places {
  /** The other configuration; undefined when only ours is brought up to date. */
  readonly from: string | undefined
  /** The configuration file of ours. */
  readonly to: string
  readonly home: string
}

/** What would be done, before anything is. */
export interface Plan extends Places {
  /** The text of our file as it is; undefined where there is none. */
  readonly before: string | undefined
  /** The new text, secrets not sealed yet. */
  readonly text: string
  readonly migrated: Migrated
  /** The file of the token, and the token itself where a new one is needed. */
  readonly tokenFile: string
  readonly token: string | undefined
}

/** What was done. */
export interface Done {
  /** The folder of the copies; undefined when nothing had to change. */
  readonly backup: string | undefined
  readonly sealed: readonly string[]
}

/** Where a bare migration looks, first to last, below the user's home. */
export const knownPlaces = [
  '.moltbot/moltbot.json',
  '.config/moltbot/config.json',
  '.clawdbot/clawdbot.json',
  '.openclaw/openclaw.json',
] as const

const sourceBytesMax = 4 * 1024 * 1024

function homeOfUser(env: Env): string {
  const user = env['HOME'] ?? ''
  return user === '' ? homedir() : user
}

function parseObject(file: string, text: string): Json {
  const { value, problems } = parseJson5(text)
  const [problem] = problems
  if (problem !== undefined) {
    throw new Failure(problem.code, `${file}: ${lineOf(problem)} Nothing was changed.`)
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  throw new Failure('TYPE', `${file} holds no object, so it is no configuration`)
}

/**
 * Reads a file of the agent, or ours before it is mended. It decides who gets in: no link, and neither of another user nor
 * for everybody to write. Throws Failure.
 */
function readSource(file: string, option = '--from'): string {
  const no = (code: string, what: string) => new Failure(code, `${file} ${what}`)
  let fd: number
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  } catch (error) {
    if (codeOf(error) === 'ENOENT') {
      throw no('FILE_MISSING', `does not exist: name another with ${option}`)
    }
    if (codeOf(error) !== 'ELOOP') throw no('FILE_READ', `cannot be read (${codeOf(error)})`)
    throw no('FILE_KIND', `is a symbolic link: name the file itself with ${option}`)
  }
  try {
    const stats = fstatSync(fd)
    const { uid, mode } = stats
    if (!stats.isFile() || stats.size > sourceBytesMax) {
      throw no('FILE_KIND', `is no file of up to 4 MB: name the file itself with ${option}`)
    }
    if (uid !== ownUid() && uid !== 0) {
      throw no('FILE_OWNER', `belongs to user ${uid}, who could let anybody in: run chown on it`)
    }
    if ((mode & 0o002) !== 0) {
      throw no(
        'FILE_MODE',
        'can be written by everybody, so anybody could be let in: run chmod o-w on it',
      )
    }
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

/** The document of an agent's file, with the files that it includes. Throws Failure. */
function readDocuments(file: string): Json {
  const read = (path: string) =>
    parseObject(path, readSource(path, path === file ? '--from' : '$include'))
  return readWithIncludes(file, read) as Json
}

/** Senders that an older agent keeps beside its configuration: `credentials/<channel>-allowFrom.json`. */
function approvedBeside(file: string): Readonly<Record<string, readonly string[]>> {
  const folder = join(dirname(file), 'credentials')
  if (!existsSync(folder)) return {}
  const found = readdirSync(folder).flatMap((name) => {
    const channel = /^([a-z][\w.-]{0,80})-allowFrom\.json$/.exec(name)?.[1]
    if (channel === undefined) return []
    const list = valueAt(parseJson5(readSource(join(folder, name))).value, ['allowFrom'])
    const ids = Array.isArray(list) ? list.filter((id) => typeof id === 'string') : []
    return [[channel, ids] as const]
  })
  return Object.fromEntries(found)
}

function sourceFor(env: Env, named: string | undefined, to: string): string | undefined {
  if (named !== undefined) return resolve(named) === to ? undefined : resolve(named)
  const places = knownPlaces.map((place) => join(homeOfUser(env), place))
  const found = places.find((place) => existsSync(place))
  if (found !== undefined || existsSync(to)) return found
  throw new Failure(
    'NOTHING_TO_MIGRATE',
    `there is no configuration at ${places.join(', ')} or ${to}: name one with --from`,
  )
}

/** Where a migration reads and writes. Throws Failure where there is nothing to read. */
export function placesFor(
  env: Env,
  named: { readonly from?: string; readonly config?: string },
): Places {
  const { file: to, home } = configPath(env, named.config)
  return { from: sourceFor(env, named.from, to), to, home }
}

/** Works out a migration; writes nothing. Throws Failure when it cannot be done. */
export function planMigration({ from, to, home }: Places, env: Env, random: Random): Plan {
  const before = existsSync(to) ? readSource(to, '--config') : undefined
  const ours = before === undefined ? undefined : parseObject(to, before)
  const tokenFile = join(home, 'keys', 'gateway.token')
  const fresh = Buffer.from(random(32)).toString('base64url')
  const kept = existsSync(tokenFile) ? readableToken(tokenFile) : undefined
  const judge = (document: Json, withToken: boolean) => {
    const judged = structuredClone(document)
    const auth = valueAt(judged, ['gateway', 'auth'])
    if (withToken && typeof auth === 'object' && auth !== null) {
      delete (auth as Json)['tokenFile']
      Object.assign(auth, { token: fresh })
    }
    const problems = judgeText({ file: to, home, text: JSON.stringify(judged) }, env)
    const keyless = problems.find(({ code }) => code === 'SECRETS_KEY' || code === 'SEALED')
    if (keyless === undefined) return problems
    throw new Failure(keyless.code, `${to}: ${lineOf(keyless)} Nothing was changed.`)
  }
  const migrated = migrateDocument({
    from: from === undefined ? undefined : readDocuments(from),
    ours,
    approved: from === undefined ? {} : approvedBeside(from),
    tokenFile: dirname(to) === home ? 'keys/gateway.token' : tokenFile,
    judge,
  })
  const base = before ?? template(from)
  const text = applyDocument(base, ours ?? {}, migrated.document)
  const agentToken = valueAt(migrated.document, ['agent', 'token'])
  const reuse = kept !== undefined && kept !== agentToken
  const token = migrated.needsToken && !reuse ? fresh : undefined
  return { from, to, home, before, text, migrated, tokenFile, token }
}

function readableToken(file: string): string | undefined {
  const token = readSource(file).trim()
  return judgeToken(token) === undefined ? token : undefined
}

function template(from: string | undefined): string {
  return `// Hardshell, migrated from ${from ?? 'nothing'}. Every key: docs/configuration.md.\n{\n}\n`
}

interface Manifest {
  readonly files: readonly { readonly path: string; readonly copy: string | undefined }[]
}

function migrationFolder(home: string): string {
  return join(home, 'migrations')
}

function migrationsIn(home: string): readonly string[] {
  const folder = migrationFolder(home)
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter((name) => /^\d{4}$/.test(name) && existsSync(join(folder, name, 'manifest.json')))
    .toSorted()
}

/** Copies the files that are about to change, sealed; the manifest comes last, so that half a copy is none. */
function keepCopies(
  home: string,
  paths: readonly string[],
  key: SecretsKey,
  random: Random,
): string {
  const number = Number(migrationsIn(home).at(-1) ?? '0') + 1
  const folder = join(migrationFolder(home), String(number).padStart(4, '0'))
  rmSync(folder, { recursive: true, force: true })
  ensureDir(folder)
  const files = paths.map((path, index) => {
    if (!existsSync(path)) return { path, copy: undefined }
    const copy = `file-${index}`
    writeAtomic(join(folder, copy), sealFile(key, readFileSync(path), random))
    return { path, copy }
  })
  const manifest: Manifest = { files }
  writeAtomic(join(folder, 'manifest.json'), `${JSON.stringify(manifest, undefined, 2)}\n`)
  return folder
}

/** Puts modes right, one sentence for each: folders of the home 0700, our file, keys and the agent's own file 0600. */
export function mendModes({ home, to, from }: Places): readonly string[] {
  const folders = [home, join(home, 'keys'), join(home, 'audit'), join(home, 'run')]
  const mended = folders
    .filter((folder, index) => index < 2 || existsSync(folder))
    .flatMap((folder) => ensureDir(folder))
  const keys = readdirSync(join(home, 'keys')).map((name) => join(home, 'keys', name))
  const files = [to, ...keys, ...(from === undefined ? [] : [from])].filter((path) =>
    existsSync(path),
  )
  const rules = { mend: true, parent: 'safe', maxBytes: sourceBytesMax } as const
  return [...mended, ...files.flatMap((path) => readOwn(path, rules).mended)]
}

/** Does what was planned: copies, then the key, the token, and last the configuration. Throws Failure. */
export function applyMigration(plan: Plan, env: Env, random: Random): Done {
  const { to, home, before, token, tokenFile } = plan
  checkWritable(to, env)
  const config = { file: to, home, text: plan.text }
  const { key } = sealingKey(config, env, random)
  const { text, sealed } = sealPlain(plan.text, key, random)
  if (text === before && token === undefined) return { backup: undefined, sealed: [] }
  const backup = keepCopies(home, token === undefined ? [to] : [to, tokenFile], key, random)
  if (token !== undefined) writeAtomic(tokenFile, `${token}\n`)
  const wrong = judgeText({ ...config, text }, env).find(({ code }) => !outside.has(code))
  if (wrong !== undefined) {
    putBack(openCopies(backup, findKeys(home, env)))
    rmSync(backup, { recursive: true, force: true })
    throw new Failure(wrong.code, `${to} would not load: ${lineOf(wrong)} Nothing was changed.`)
  }
  if (text !== before) writeAtomic(to, text)
  return { backup, sealed }
}

interface Restored {
  readonly path: string
  /** Undefined: there was no such file. */
  readonly content: Buffer | undefined
}

/** What the copies of a migration hold. Throws Failure when one does not open. */
function openCopies(folder: string, keys: Keyring): readonly Restored[] {
  const { files } = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8')) as Manifest
  return files.map(({ path, copy }) => ({
    path,
    content: copy === undefined ? undefined : openCopy(join(folder, copy), keys),
  }))
}

function putBack(files: readonly Restored[]): void {
  for (const { path, content } of files) {
    if (content !== undefined) writeAtomic(path, content)
    else if (existsSync(path)) unlinkSync(path)
  }
}

/**
 * Brings back, byte for byte, what the last migration changed. What stood there since is kept in the same folder, sealed
 * where there is a key. Throws Failure, and then nothing was changed: there is no migration, or a copy does not open.
 */
export function rollBack(
  env: Env,
  random: Random,
): {
  readonly restored: readonly string[]
  readonly kept: string
} {
  const { home } = configPath(env)
  const last = migrationsIn(home).at(-1)
  if (last === undefined) {
    throw new Failure('NO_MIGRATION', `no migration in ${migrationFolder(home)} is left to undo`)
  }
  const folder = join(migrationFolder(home), last)
  const keys = findKeys(home, env)
  const { current } = keys
  const files = openCopies(folder, keys)
  for (const [index, { path }] of files.entries()) {
    if (!existsSync(path)) continue
    const since = readFileSync(path)
    const copy = current === undefined ? since : sealFile(current, since, random)
    writeAtomic(join(folder, `undone-${index}`), copy)
  }
  putBack(files)
  const kept = join(migrationFolder(home), `undone-${last}`)
  rmSync(kept, { recursive: true, force: true })
  renameSync(folder, kept)
  return { restored: files.map(({ path }) => path), kept }
}
