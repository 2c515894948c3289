/** From a file and an environment to a frozen configuration, or to every problem at once. */
import { FileFailure, ownUid, readTrusted } from '../files.ts'
import type { OwnFile, OwnRules } from '../files.ts'
import { addressOf, inContainer } from './container.ts'
import type { Interfaces } from './container.ts'
import { readEnvironment } from './environment.ts'
import type { LogLevel } from '../log.ts'
import type { Env } from './environment.ts'
import { parseJson5 } from './json5.ts'
import { findKeys, keyVariable } from '../secrets/key.ts'
import type { Keyring } from '../secrets/key.ts'
import { isSealedFile, open } from '../secrets/vault.ts'
import { ConfigFailure } from './problems.ts'
import type { Notice, Problem, ProblemCode } from './problems.ts'
import { readDocument, readSecret, withoutLineEnd } from './read.ts'
import type { Reading, SecretSource } from './read.ts'
import { crossProblems, noticesOf, upstreamDefault } from './rules.ts'
import type { Subject } from './rules.ts'
import { configBytesMax } from './schema.ts'
import type { Config } from './schema.ts'
import { fill, mapLeaves, replaceSecret, rowsByPath, tree } from './tree.ts'
import type { Given } from './tree.ts'

const { hash } = process.getBuiltinModule('node:crypto')
const { existsSync } = process.getBuiltinModule('node:fs')
const { networkInterfaces } = process.getBuiltinModule('node:os')
const { dirname, join, resolve } = process.getBuiltinModule('node:path')

export type { Config } from './schema.ts'

/** What a configuration is loaded from. */
export interface LoadOptions {
  /** The value of `--config`; wins over HARDSHELL_CONFIG and the files in the home. */
  readonly config?: string
  readonly env: Env
  /** Judges this text in place of what the file has, before it is written; the file need not exist then. */
  readonly text?: string
  /** Put wrong file modes right where the file is ours; for `serve`, not for `config check`. */
  readonly mend?: boolean
  /** Says whether we run in a container; the marks of the machine unless a test says otherwise. */
  readonly inContainer?: () => boolean
  /** Addresses of the machine, for bind "container"; asked of the system unless a test says otherwise. */
  readonly interfaces?: Interfaces
  /** Our user id; for tests. */
  readonly uid?: number
}

/** A configuration that can be used. Deeply frozen. `gateway.bind` is an address, whatever word the file has. */
export interface Loaded {
  readonly config: Config
  /** The file it came from; undefined when there is none and the defaults do. */
  readonly file: string | undefined
  /** The folder of Hardshell: HARDSHELL_HOME or ~/.hardshell. */
  readonly home: string
  readonly logLevel: LogLevel
  readonly notices: readonly Notice[]
  /** SHA-256 (hex) of the effective configuration, secrets replaced by their own SHA-256. */
  readonly hash: string
  /** Where each secret came from; variables among them should leave the environment. */
  readonly secretSources: readonly SecretSource[]
  /** The file of a secret by the name that `secretSources` has: where it is, and a reading by the same rules. */
  readonly secretFile: (name: string) => SecretFile
}

/** A file with a secret. */
export interface SecretFile {
  readonly path: string
  /** What it holds now. Throws FileFailure. */
  readonly read: () => string
}

interface Source {
  readonly file: string | undefined
  readonly text: string
  readonly notices: readonly Notice[]
  readonly problems: readonly Problem[]
}

type ReadFile = (path: string) => OwnFile

/** Whether a document wants links followed: only a plain `true` says so. */
function followsLinks(document: unknown): boolean {
  const given = document as { security?: { followSymlinks?: unknown } | null } | null | undefined
  return given?.security?.followSymlinks === true
}

/**
 * Reads the file of a configuration by the rules for files of ours. It may be a symbolic link if it says itself, where
 * the link leads to, that links are followed. Throws FileFailure.
 */
export function readConfigFile(path: string, env: Env, rules: OwnRules): OwnFile {
  try {
    return readTrusted(path, env, rules)
  } catch (error) {
    const linked = error instanceof FileFailure && ['FILE_LINK', 'FILE_KIND'].includes(error.code)
    if (!linked) throw error
    const { what, remedy } = error
    try {
      const there = readTrusted(path, env, { ...rules, follow: true })
      if (followsLinks(parseJson5(there.text).value)) return there
    } catch (thrown) {
      if (!(thrown instanceof FileFailure) || thrown.what === what) throw thrown
      // Never "missing": that would mean the defaults.
      const both = `${what}, and what it leads to cannot be used: ${thrown.what}`
      throw new FileFailure('FILE_LINK', both, remedy, thrown)
    }
    const unasked = `${what}, and security.followSymlinks in it is not true`
    throw new FileFailure('FILE_LINK', unasked, remedy, error)
  }
}

function fileProblem(path: string, failure: FileFailure): Problem {
  const { what, remedy } = failure
  return { code: failure.code as ProblemCode, path, message: what, remedy }
}

function mendedNotices(mended: readonly string[]): readonly Notice[] {
  return mended.map((message) => ({
    level: 'INFO',
    code: 'FILE_MENDED',
    path: '',
    message,
    remedy: 'Keep it private: other users may have read it, so rotate the secrets in it.',
  }))
}

/** A link that was followed, so that the start says where a file really is. */
function linkNotices(path: string, real: string | undefined): readonly Notice[] {
  if (real === undefined) return []
  const message = `${path} leads to ${real}`
  const remedy = 'Name the file itself, unless the link is meant.'
  return [{ level: 'INFO', code: 'FILE_LINK', path: '', message, remedy }]
}

/** The file to load by the search order, read; text is empty when there is none. */
function findSource(named: string | undefined, home: string, read: ReadFile): Source {
  const candidates =
    named === undefined ? [join(home, 'config.json5'), join(home, 'config.json')] : [resolve(named)]
  for (const [index, path] of candidates.entries()) {
    try {
      const { text, mended, real } = read(path)
      const shadowed = candidates.slice(index + 1).filter((other) => existsSync(other))
      const notices = shadowed.map((other): Notice => {
        const message = `${other} is not read, because ${path} comes first`
        return { level: 'WARNING', code: 'FILE_SHADOWED', path: '', message, remedy: 'Remove one.' }
      })
      const told = [...mendedNotices(mended), ...linkNotices(path, real)]
      return { file: path, text, notices: [...told, ...notices], problems: [] }
    } catch (error) {
      if (!(error instanceof FileFailure)) throw error
      if (error.code === 'FILE_MISSING' && named === undefined) continue
      const missing: Problem = {
        code: 'CONFIG_MISSING',
        path: '',
        message: 'does not exist',
        remedy: 'Name another with --config, or run "hardshell init".',
      }
      const problem = error.code === 'FILE_MISSING' ? missing : fileProblem('', error)
      return { file: path, text: '', notices: [], problems: [problem] }
    }
  }
  return { file: undefined, text: '{}', notices: [], problems: [] }
}

/** A text that is about to become the file. */
function candidate(file: string, text: string): Source {
  return { file, text, notices: [], problems: [] }
}

/** Without the key nothing sealed opens: one line for all, and no other problems that only follow from it. */
function withoutKey(problems: readonly Problem[]): Problem {
  const [first, ...others] = problems as readonly [Problem, ...Problem[]]
  if (others.length === 0) return first
  const message = `${first.message} (and so for ${others.length} more)`
  return { ...first, message }
}

/** Secrets that stand in the file as plain text, each until a write seals it. */
function plainSecrets(sources: readonly SecretSource[]): readonly Notice[] {
  return sources.flatMap(({ path, from }): readonly Notice[] => {
    if (from !== 'config') return []
    const message = 'is a secret in plain text'
    const remedy = 'Run "hardshell secrets init --seal", which seals it in place.'
    return [{ level: 'WARNING', code: 'PLAIN_SECRET', path, message, remedy }]
  })
}

/** Paths that a file gives, as they stand in the table of settings. */
function pathsOf(given: Given, at = ''): readonly string[] {
  return [...given].flatMap(([name, there]) => {
    const path = at === '' ? name : `${at}.${name}`
    return there instanceof Map ? pathsOf(there, path) : [path]
  })
}

/** Says whether something at a path, or inside its value, is wrong already. */
function hasProblem(problems: readonly Problem[], path: string): boolean {
  return problems.some((each) => each.path === path || /^[.[]/.test(tail(each.path, path)))
}

function tail(path: string, start: string): string {
  return path.startsWith(start) ? path.slice(start.length) : ''
}

function branch(root: Given, path: string): Given {
  return path.split('.').reduce((at, name) => {
    const there = at.get(name)
    if (there instanceof Map) return there
    const next: Given = new Map()
    at.set(name, next)
    return next
  }, root)
}

/** Puts in what stands outside the file: the token file, the variables for a missing key, the agent's address. */
function complete(given: Given, direct: ReadonlySet<string>, reading: Reading): void {
  const auth = branch(given, 'gateway.auth')
  const tokenFile = auth.get('tokenFile')
  const told = ['gateway.auth.token', 'gateway.auth.tokenFile'].some((path) =>
    hasProblem(reading.problems, path),
  )
  if (tokenFile !== undefined && 'value' in tokenFile && !direct.has('gateway.auth.token')) {
    const token = readSecret(String(tokenFile.value), 'gateway.auth.tokenFile', reading)
    if (token !== undefined) auth.set('token', { value: token })
  } else if (!told && !direct.has('gateway.auth.token')) {
    const names = rowsByPath.get('gateway.auth.token')?.env ?? []
    const name = names.find((each) => (reading.env[each] ?? '') !== '')
    if (name !== undefined) {
      auth.set('token', { value: reading.env[name] })
      reading.sources.push({ path: 'gateway.auth.token', from: 'environment', name })
    }
  }
  if (!direct.has('agent.upstream') && !direct.has('agent.image')) {
    branch(given, 'agent').set('upstream', { value: upstreamDefault })
  }
}

/** A variable that holds a token beside the one in the file is not used, and that must not pass in silence. */
function unusedToken(env: Env, sources: readonly SecretSource[]): readonly Notice[] {
  const used = sources.flatMap(({ from, name }) => (from === 'file' ? [] : [name]))
  if ((env['HARDSHELL_TOKEN'] ?? '') === '' || used.includes('HARDSHELL_TOKEN')) return []
  return [
    {
      level: 'INFO',
      code: 'VARIABLE_UNUSED',
      path: 'HARDSHELL_TOKEN',
      message: 'is not used, because the configuration names the token',
      remedy: 'Unset it, or remove gateway.auth.token and tokenFile.',
    },
  ]
}

/** JSON with the keys of every object in order, so that the same configuration gives the same text. */
function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null'
  const entries = Object.entries(value)
    .filter(([, item]) => item !== undefined)
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
  return `{${entries.map(([name, item]) => `${JSON.stringify(name)}:${canonical(item)}`).join(',')}}`
}

/** The hash of an effective configuration: what is the same to enforce has the same hash, wherever it came from. */
export function hashOf(config: Config): string {
  const shown = mapLeaves(tree, config, (row, value) =>
    row.secret ? replaceSecret(value, (secret) => hash('sha256', secret)) : value,
  )
  return hash('sha256', canonical(shown))
}

function freeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null) {
    for (const below of Object.values(value)) freeze(below)
    Object.freeze(value)
  }
  return value
}

/**
 * Loads and judges the configuration. Reads files and nothing else; the environment comes as an argument.
 * Throws ConfigFailure with every problem.
 */
export function loadConfig(options: LoadOptions): Loaded {
  const { env } = options
  const { value: environment, problems: told } = readEnvironment(env)
  const { home, logLevel } = environment
  const { mend = false, uid = ownUid() } = options
  const rulesFor = (path: string) => {
    const parent = path.startsWith(`${home}/`) ? ('private' as const) : ('safe' as const)
    return { mend, uid, parent, maxBytes: configBytesMax } as const
  }
  const named = options.config ?? environment.config
  const source =
    options.text === undefined
      ? findSource(named, home, (path) => readConfigFile(path, env, rulesFor(path)))
      : candidate(resolve(named ?? join(home, 'config.json5')), options.text)
  const problems: Problem[] = [...told, ...source.problems]
  const sources: SecretSource[] = []
  const notices: Notice[] = [...source.notices]
  const besides = source.file === undefined ? home : dirname(source.file)
  const parsed = source.problems.length > 0 ? undefined : parseJson5(source.text)
  const follow = followsLinks(parsed?.value)
  const read: ReadFile = (path) => readTrusted(path, env, { ...rulesFor(path), follow })
  const secretOf = (name: string): string => {
    const path = resolve(besides, name)
    const { text, mended, real } = read(path)
    notices.push(...mendedNotices(mended), ...linkNotices(path, real))
    return text
  }
  const secretFile = (name: string): SecretFile => {
    const path = resolve(besides, name)
    return { path, read: () => withoutLineEnd(read(path).text) }
  }
  // The key is ours: no link leads to it.
  const readKey = (path: string): string => readTrusted(path, env, rulesFor(path)).text
  let keys: Keyring | undefined
  const reading: Reading = {
    env,
    secretOf,
    open: (sealed) => open((keys ??= findKeys(home, env, readKey)), sealed),
    problems,
    sources,
  }
  if (isSealedFile(source.text)) problems.push(sealedCopy)
  else if (parsed !== undefined) problems.push(...parsed.problems)
  if (parsed === undefined || parsed.value === undefined) {
    throw new ConfigFailure(source.file, problems)
  }
  const given = readDocument(parsed.value, reading)
  const keyless = problems.filter(({ code }) => code === 'SECRETS_KEY')
  if (keyless.length > 0) throw new ConfigFailure(source.file, [withoutKey(keyless)])
  if ((env[keyVariable] ?? '') !== '') {
    sources.push({ path: 'keys/secrets.key', from: 'environment', name: keyVariable })
  }
  const direct = new Set(pathsOf(given))
  complete(given, direct, reading)
  const config = fill(tree, given) as Config
  const isTroubled = (path: string): boolean => hasProblem(problems, path)
  const detect = options.inContainer ?? (() => inContainer(env))
  const subject: Subject = { config, given: direct, isTroubled, inContainer: detect }
  problems.push(...crossProblems(subject))
  const address = addressOf(config.gateway.bind, () => options.interfaces ?? networkInterfaces())
  if (address === undefined) problems.push(noAddress)
  if (problems.length > 0) throw new ConfigFailure(source.file, sorted(problems))
  const bind = address ?? config.gateway.bind
  return freeze({
    config: { ...config, gateway: { ...config.gateway, bind } },
    file: source.file,
    home,
    logLevel,
    notices: [
      ...noticesOf(subject),
      ...plainSecrets(sources),
      ...unusedToken(env, sources),
      ...notices,
    ],
    hash: hashOf(config),
    secretSources: sources,
    secretFile,
  })
}

const sealedCopy: Problem = {
  code: 'SEALED',
  path: '',
  message: 'is a sealed copy',
  remedy: 'Bring it back with "hardshell security rollback COPY".',
}

const noAddress: Problem = {
  code: 'BIND_CONTAINER',
  path: 'gateway.bind',
  message: 'is "container", but this container has no address of its own',
  remedy: 'Give the container a network.',
}

function sorted(problems: readonly Problem[]): readonly Problem[] {
  const keyOf = ({ path, code }: Problem): string => `${path}\u0000${code}`
  return problems.toSorted((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1))
}
