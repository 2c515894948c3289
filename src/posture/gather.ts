/** Gathers what the checks look at, once: files, configuration, log, engine, sockets. Changes nothing. */
import {
  accessSync,
  closeSync,
  constants,
  fstatSync,
  lstatSync,
  openSync,
  readFileSync,
  readdirSync,
  realpathSync,
  statfsSync,
} from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { newestCheckpoint } from '../audit/checkpoints.ts'
import { listFiles } from '../audit/files.ts'
import { query, tail } from '../audit/read.ts'
import { verifyAudit } from '../audit/verify.ts'
import { plainCopies } from '../config/copies.ts'
import { parseJson5 } from '../config/json5.ts'
import { loadConfig } from '../config/load.ts'
import { ConfigFailure, type Notice, type Problem } from '../config/problems.ts'
import { readDocument, type SecretSource } from '../config/read.ts'
import { configBytesMax, type Config } from '../config/schema.ts'
import { upstreamDefault } from '../config/rules.ts'
import { fill, tree } from '../config/tree.ts'
import { modernise, readWithIncludes } from '../config/agent-file.ts'
import { configPath } from '../config/write.ts'
import { Failure, codeOf, messageOf } from '../errors.ts'
import { ownUid, platformMount } from '../files.ts'
import { sameSecret } from '../identity/token-rule.ts'
import type { TokenView } from '../identity/token-record.ts'
import { days } from '../limits.ts'
import { findPlugins, type PluginsFound } from '../plugins.ts'
import { at } from './checks-agent.ts'
import { askCells, instanceOf } from './cell.ts'
import { checks } from './checks.ts'
import type {
  AgentConfigFacts,
  AuditFacts,
  FileFact,
  FileRole,
  Measured,
  PostureContext,
  Running,
} from './context.ts'
import { neighboursAt } from './neighbour.ts'
import { askEngine, listeningSockets, probe, socketsHere, tailscaleState } from './probe.ts'
import { readSuppressions } from './suppressions.ts'

type Env = Readonly<Record<string, string | undefined>>

/** What the gathering needs from outside. */
export interface GatherOptions {
  readonly env: Env
  /** The value of `--config`. */
  readonly config?: string
  readonly now: number
  /** What the running sidecar says of itself, if one runs. */
  readonly running?: Running
  readonly tokens: Measured<readonly TokenView[]>
  /** Ask live: only then is anything sent. */
  readonly deep: boolean
  /** Breaks off what `deep` started; what it made is removed. */
  readonly signal?: AbortSignal
  /** Read the whole audit log, which may take minutes where it is large. */
  readonly log: boolean
}

/** The files of an installation as they lie there now. */
export function filesNow(env: Env, named?: string): readonly FileFact[] {
  const { file, home } = configPath(env, named)
  return filesOf(home, file, env, readConfig(file, env).config)
}

/** The state of an installation now. Throws Failure only where not even the home can be named. */
export async function gather(options: GatherOptions): Promise<PostureContext> {
  const { env, now, running, tokens, deep } = options
  const { file, home } = configPath(env, options.config)
  const read = readConfig(file, env)
  const { config } = read
  const known = new Set(checks.map(({ id }) => id))
  const { suppressions, fault } = readSuppressions(home, now, known)
  const deepOnly = { unmeasured: 'asked only with --deep' }
  return {
    now,
    home,
    uid: ownUid(),
    configFile: read.there ? file : undefined,
    config,
    configHash: read.hash,
    problems: read.problems,
    notices: read.notices,
    secrets: read.secrets,
    plainCopies: plainCopies(home, file),
    tokens,
    files: filesOf(home, file, env, config),
    running,
    listening: listeningSockets(),
    engine: await askEngine(config, home, env),
    agentConfig: agentConfigOf(env, config),
    neighbours: neighboursOf(config, home),
    plugins: await pluginsOf(config, home),
    audit: options.log ? await auditOf(home) : { unmeasured: 'the audit log was not read' },
    tailscale:
      config === undefined
        ? { unmeasured: 'the configuration cannot be read' }
        : await tailscaleState(config, running),
    speakers: options.log
      ? await speakersOf(home, now)
      : { unmeasured: 'the audit log was not read' },
    node: process.versions.node,
    clockSynchronised: clockOf(),
    probes: deep && config !== undefined ? await probe(config, running) : deepOnly,
    cells: deep ? await cellsOf(config, home, options) : deepOnly,
    suppressions,
    ...(fault === undefined ? {} : { suppressionFault: fault }),
  }
}

function cellsOf(
  config: Config | undefined,
  home: string,
  { env, now, signal }: GatherOptions,
): Promise<PostureContext['cells']> {
  if (config?.agent.image === undefined) {
    return Promise.resolve({ unmeasured: 'Hardshell launches no agent' })
  }
  const sockets = socketsHere(env)
  if ('unmeasured' in sockets) return Promise.resolve(sockets)
  return askCells({
    instance: instanceOf(home),
    engineSockets: sockets.value,
    nodePath: process.execPath,
    now,
    signal,
  })
}

interface ConfigRead {
  readonly there: boolean
  readonly config: Config | undefined
  readonly hash: string | undefined
  readonly problems: readonly Problem[]
  readonly notices: readonly Notice[]
  readonly secrets: readonly SecretSource[]
}

/** A text whatever its mode is: that is reported, and the rest must be looked at nevertheless. */
function readAnyhow(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile() || stats.size > configBytesMax) {
      throw new Failure('FILE_LARGE', `${path} is no file of a size that can be read`)
    }
    return readFileSync(fd, 'utf8')
  } finally {
    closeSync(fd)
  }
}

function readConfig(file: string, env: Env): ConfigRead {
  let text = '{}'
  let there = true
  try {
    text = readAnyhow(file)
  } catch (thrown) {
    there = codeOf(thrown) !== 'ENOENT'
    if (there) {
      const isFailure = thrown instanceof Failure
      const message = isFailure
        ? 'is no file that can be read'
        : `cannot be read (${codeOf(thrown)})`
      const remedy = isFailure ? 'Put the configuration itself there.' : 'Mend its mode and owner.'
      const problem = { code: 'FILE_READ', path: '', message, remedy } as const
      const none = { hash: undefined, notices: [], secrets: [] }
      return { there, config: undefined, problems: [problem], ...none }
    }
  }
  try {
    const loaded = loadConfig({ env, config: file, text })
    const { config, hash, notices, secretSources: secrets } = loaded
    return { there, config, hash, problems: [], notices, secrets }
  } catch (thrown) {
    if (!(thrown instanceof ConfigFailure)) throw thrown
    return {
      there,
      hash: undefined,
      notices: [],
      problems: thrown.problems,
      ...anyhow(text, file, env),
    }
  }
}

/** What a configuration that would not load asks for, as far as its values can be read. */
function anyhow(
  text: string,
  file: string,
  env: Env,
): { config: Config | undefined; secrets: readonly SecretSource[] } {
  const { value } = parseJson5(text)
  if (value === undefined) return { config: undefined, secrets: [] }
  const secrets: SecretSource[] = []
  const given = readDocument(value, {
    env,
    secretOf: (path) => readQuietly(resolve(dirname(file), path)) ?? '',
    open: () => ({ because: 'it is not opened for a look', wrongKey: false }),
    problems: [],
    sources: secrets,
  })
  return { config: fill(tree, given) as Config, secrets }
}

function readQuietly(path: string): string | undefined {
  try {
    return readAnyhow(path)
  } catch (thrown) {
    if (thrown instanceof Failure || codeOf(thrown) !== '') return undefined
    throw thrown
  }
}

function factOf(path: string, role: FileRole, env: Env): FileFact | undefined {
  try {
    const stats = lstatSync(path)
    const kind = stats.isSymbolicLink()
      ? 'link'
      : stats.isDirectory()
        ? 'directory'
        : stats.isFile()
          ? 'file'
          : stats.isSocket()
            ? 'socket'
            : 'other'
    const { mode, uid, nlink } = stats
    const platform = platformMount(path, env) !== undefined || isReadOnly(path)
    return { path, role, kind, mode: mode & 0o7777, uid, names: nlink, platform }
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(codeOf(thrown))) return undefined
    throw thrown
  }
}

/** Says whether a path lies on a read-only file system, where nothing can be mended. */
function isReadOnly(path: string): boolean {
  try {
    accessSync(path, constants.W_OK)
    return false
  } catch (thrown) {
    return codeOf(thrown) === 'EROFS'
  }
}

const listMost = 2000

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder).toSorted().slice(0, listMost)
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'EACCES'].includes(codeOf(thrown))) return []
    throw thrown
  }
}

/** The folders above a path, up to the root. */
function foldersOf(path: string): readonly string[] {
  const folder = dirname(path)
  return folder === path ? [] : [folder, ...foldersOf(folder)]
}

/** Where a link leads; undefined for what is none, or leads nowhere. */
function realOf(path: string): string | undefined {
  try {
    return lstatSync(path).isSymbolicLink() ? realpathSync(path) : undefined
  } catch (thrown) {
    if (['ENOENT', 'ENOTDIR', 'EACCES', 'ELOOP'].includes(codeOf(thrown))) return undefined
    throw thrown
  }
}

function filesOf(
  home: string,
  config: string,
  env: Env,
  read: Config | undefined,
): readonly FileFact[] {
  const roles = new Map<string, FileRole>()
  const add = (path: string, role: FileRole) => {
    if (!roles.has(path)) roles.set(path, role)
  }
  add(home, 'home')
  add(config, 'config')
  const tokenFile = read?.gateway.auth.tokenFile
  const token = tokenFile === undefined ? undefined : resolve(dirname(config), tokenFile)
  if (token !== undefined) add(token, 'token')
  const follows = read?.security.followSymlinks === true
  const reals = follows ? [realOf(config), token === undefined ? undefined : realOf(token)] : []
  for (const [index, real] of reals.entries()) {
    if (real !== undefined) add(real, index === 0 ? 'config' : 'token')
  }
  for (const [folder, role, inside] of [
    ['keys', 'keys', 'key'],
    ['audit', 'audit', 'record'],
  ] as const) {
    add(join(home, folder), role)
    for (const name of namesIn(join(home, folder))) add(join(home, folder, name), inside)
  }
  for (const name of ['state.db', 'state.db-wal', 'state.db-shm']) add(join(home, name), 'state')
  add(join(home, 'run'), 'run')
  add(join(home, 'run', 'admin.sock'), 'socket')
  for (const name of namesIn(home)) add(join(home, name), 'other')
  for (const path of [home, ...reals]) {
    for (const folder of path === undefined ? [] : foldersOf(path)) add(folder, 'parent')
  }
  return [...roles].flatMap(([path, role]) => factOf(path, role, env) ?? [])
}

function neighboursOf(config: Config | undefined, home: string): PostureContext['neighbours'] {
  if (config === undefined) return { unmeasured: 'the configuration cannot be read' }
  const { image, upstream = upstreamDefault } = config.agent
  if (image !== undefined) return { unmeasured: 'the agent has its files in its cell' }
  return neighboursAt(upstream, home, ownUid())
}

/** The agent's file with what it includes, in the form of today's; without that where it cannot be had. */
function agentDocument(file: string): Record<string, unknown> | undefined {
  const alone = (path: string) => parseJson5(readQuietly(path) ?? '').value
  const whole = () => {
    try {
      return readWithIncludes(file, alone)
    } catch (thrown) {
      if (thrown instanceof Failure) return alone(file)
      throw thrown
    }
  }
  const document = whole()
  if (typeof document !== 'object' || document === null || Array.isArray(document)) return undefined
  const read = { ...document }
  modernise(read, [])
  return read
}

function agentConfigOf(env: Env, config: Config | undefined): Measured<AgentConfigFacts> {
  if (config?.agent.image !== undefined)
    return { unmeasured: 'the agent has its files in its cell' }
  const user = env['HOME'] ?? ''
  if (user === '') return { unmeasured: 'HOME is not set' }
  const places = ['.openclaw/openclaw.json', '.clawdbot/clawdbot.json', '.moltbot/moltbot.json']
  for (const place of [...places, '.config/moltbot/config.json']) {
    const file = join(user, place)
    const fact = factOf(file, 'other', env)
    if (fact === undefined) continue
    const document = agentDocument(file)
    if (document === undefined) return { unmeasured: `${file} cannot be read` }
    const theirs = at(document, 'gateway.auth.token')
    const ours = config?.gateway.auth.token
    const sameToken = typeof theirs === 'string' && ours !== undefined && sameSecret(theirs, ours)
    return { value: { file, mode: fact.mode, document, sameToken } }
  }
  return { unmeasured: 'no configuration of OpenClaw was found' }
}

async function pluginsOf(
  config: Config | undefined,
  home: string,
): Promise<Measured<PluginsFound>> {
  if (config === undefined) return { unmeasured: 'the configuration cannot be read' }
  try {
    return { value: await findPlugins(config.plugins, home) }
  } catch (thrown) {
    return { unmeasured: messageOf(thrown) }
  }
}

async function auditOf(home: string): Promise<Measured<AuditFacts>> {
  const dir = join(home, 'audit')
  try {
    if (listFiles(dir).length === 0) return { unmeasured: 'there is no audit log yet' }
    const verdict = await verifyAudit(dir)
    const { bavail, bsize } = statfsSync(dir)
    const newest = tail(dir, 1)[0]
    const oldestAt = await oldestIn(dir)
    const checkpoint = newestCheckpoint(dir)
    const { broken } = verdict
    const where = broken === undefined ? '' : `${broken.file}:${broken.line}, ${broken.because}`
    return {
      value: {
        ok: verdict.ok,
        records: verdict.records,
        unsigned: verdict.checkpoints.unsigned,
        keyMissing: verdict.checkpoints.keyMissing,
        freeBytes: bavail * bsize,
        ...(broken === undefined ? {} : { broken: where }),
        ...(newest === undefined ? {} : { newestAt: Date.parse(newest.time) }),
        ...(oldestAt === undefined ? {} : { oldestAt }),
        ...(checkpoint === undefined ? {} : { checkpointAt: Date.parse(checkpoint.time) }),
      },
    }
  } catch (thrown) {
    return { unmeasured: `the audit log cannot be read: ${messageOf(thrown)}` }
  }
}

/** When the oldest record that is kept was written, ms since the epoch. */
async function oldestIn(dir: string): Promise<number | undefined> {
  for await (const { time } of query(dir, {})) return Date.parse(time)
  return undefined
}

const speakingDays = 90

async function speakersOf(home: string, now: number): Promise<Measured<readonly string[]>> {
  const dir = join(home, 'audit')
  const since = now - days(speakingDays)
  const speakers = new Set<string>()
  try {
    const first = await oldestIn(dir)
    if (first === undefined || first > since) {
      return { unmeasured: `the audit log is younger than ${speakingDays} days` }
    }
    for await (const { channel, sender } of query(dir, { since })) {
      if (sender === undefined) continue
      speakers.add(sender)
      if (channel !== undefined) speakers.add(`${channel}:${sender}`)
    }
    return { value: [...speakers] }
  } catch (thrown) {
    return { unmeasured: `the audit log cannot be read (${codeOf(thrown)})` }
  }
}

/** systemd-timesyncd leaves a mark when the clock is right; other services are not asked. */
function clockOf(): Measured<boolean> {
  const there = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined
  if (!there('/run/systemd/timesync')) return { unmeasured: 'no systemd-timesyncd runs here' }
  return { value: there('/run/systemd/timesync/synchronized') }
}
