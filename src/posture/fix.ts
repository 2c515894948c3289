/** `--fix`: a plan that can be read first, repairs that are safe to make unasked, and a copy of everything before. */
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  lstatSync,
  openSync,
} from 'node:fs'
import { basename, dirname, join, resolve } from 'node:path'
import { removeValue, setValue } from '../config/edit.ts'
import { sealCopies, sealInto } from '../config/copies.ts'
import { sealPlain, sealingKey } from '../config/sealing.ts'
import { checkWritable, readConfigText, writeConfigText } from '../config/write.ts'
import { Failure } from '../errors.ts'
import { ensureDir, linkTarget, ownUid, platformMount, readOwn, writeAtomic } from '../files.ts'
import type { PostureContext } from './context.ts'
import type { Report } from './report.ts'

type Env = Readonly<Record<string, string | undefined>>
type Random = (bytes: number) => Uint8Array
type SealingKey = ReturnType<typeof sealingKey>['key']

/** One repair of a plan. */
export type Step =
  | { readonly kind: 'chmod'; readonly path: string; readonly from: number; readonly mode: number }
  | {
      readonly kind: 'token'
      readonly file: string
      /** The configuration must name the file, in place of a token of its own. */
      readonly edit?: { readonly config: string; readonly tokenFile: string }
    }
  | { readonly kind: 'copies'; readonly config: string; readonly paths: readonly string[] }

/** What was done. */
export interface Fixed {
  /** The folder with the copies from before. */
  readonly backup: string
  /** A new token, to be shown once. */
  readonly token?: string
  /** The file of a key that had to be made, so that the copies could be sealed. */
  readonly keyMade?: string
}

/** What can be repaired, folders before what is in them, each thing once. */
export function planOf(report: Report, context: PostureContext, env: Env): readonly Step[] {
  const fixes = report.results
    .filter(({ status }) => status === 'finding')
    .flatMap(({ findings }) => findings.flatMap(({ fix }) => fix ?? []))
  const modes = new Map(
    fixes.flatMap((fix) => (fix.kind === 'chmod' ? [[fix.path, fix.mode] as const] : [])),
  )
  const chmods = [...modes]
    .toSorted(([a], [b]) => a.length - b.length)
    .flatMap(([path, mode]): readonly Step[] => {
      const file = context.files.find((one) => one.path === path)
      return file === undefined ? [] : [{ kind: 'chmod', path, from: file.mode, mode }]
    })
  const token = fixes.some(({ kind }) => kind === 'token') ? tokenStep(context, env) : undefined
  const paths = fixes.flatMap((fix) => (fix.kind === 'seal' ? [fix.path] : []))
  const { configFile: config } = context
  const copies: readonly Step[] =
    paths.length === 0 || config === undefined ? [] : [{ kind: 'copies', config, paths }]
  return [...chmods, ...(token === undefined ? [] : [token]), ...copies]
}

/** How the token can be replaced; not at all when it comes from a variable or from a mount of the platform. */
function tokenStep(context: PostureContext, env: Env): Step | undefined {
  const { config, configFile, secrets, home } = context
  if (config === undefined || configFile === undefined) return undefined
  const source = secrets.find(({ path }) => path === 'gateway.auth.token')
  if (source?.from === 'environment' || source?.from === 'variable') return undefined
  const { tokenFile } = config.gateway.auth
  if (tokenFile !== undefined && source?.from !== 'config') {
    const named = resolve(dirname(configFile), tokenFile)
    if (platformMount(named, env) !== undefined) return undefined
    // A link stays, and what it leads to is replaced.
    const linked = config.security.followSymlinks && isThere(named)
    const file = linked ? linkTarget(named, env) : named
    return platformMount(file, env) === undefined ? { kind: 'token', file } : undefined
  }
  const file = join(home, 'keys', 'gateway.token')
  const beside = dirname(configFile) === home
  const edit = { config: configFile, tokenFile: beside ? 'keys/gateway.token' : file }
  return { kind: 'token', file, edit }
}

/** A step on one line. */
export function stepLine(step: Step): string {
  if (step.kind === 'chmod') {
    return `chmod ${step.mode.toString(8)} ${step.path} (now ${step.from.toString(8)})`
  }
  if (step.kind === 'copies') return `seal ${step.paths.join(', ')}`
  const named = step.edit === undefined ? '' : `, and name it in ${step.edit.config}`
  return `write a new token to ${step.file}${named}`
}

/**
 * Carries out a plan after copying what it touches. Throws Failure when the copy cannot be made or a step cannot be
 * taken; steps before that one stay.
 */
export function applyPlan(
  plan: readonly Step[],
  context: PostureContext,
  env: Env,
  makeToken: () => string,
  random: Random,
): Fixed {
  const backup = join(context.home, 'backups', `fix-${stamp(context.now)}`)
  ensureDir(backup)
  const modes = plan.flatMap((step) =>
    step.kind === 'chmod' ? [{ path: step.path, mode: step.from.toString(8) }] : [],
  )
  writeAtomic(join(backup, 'modes.json'), `${JSON.stringify(modes, undefined, 2)}\n`)
  for (const step of plan) if (step.kind === 'chmod') setMode(step.path, step.mode)
  const sealing = plan.find((step) => step.kind !== 'chmod')
  if (sealing === undefined) return { backup }
  const config = sealing.kind === 'copies' ? sealing.config : sealing.edit?.config
  const before = readConfigText(env, config ?? context.configFile)
  const { key, made } = sealingKey(before, env, random)
  const tokens = plan.flatMap((step) => {
    if (step.kind !== 'token') return []
    const token = makeToken()
    replaceToken(step, token, backup, key, env, random)
    return [token]
  })
  for (const step of plan) {
    if (step.kind === 'copies') sealCopies(context.home, step.config, key, random)
  }
  const [token] = tokens
  return {
    backup,
    ...(token === undefined ? {} : { token }),
    ...(made === undefined ? {} : { keyMade: made }),
  }
}

function replaceToken(
  { file, edit }: Extract<Step, { readonly kind: 'token' }>,
  token: string,
  backup: string,
  key: SealingKey,
  env: Env,
  random: Random,
): void {
  const keep = (path: string, text: string) =>
    sealInto(join(backup, basename(path)), text, key, random)
  if (isThere(file)) keep(file, readOwn(file, { parent: 'safe' }).text)
  if (edit !== undefined) {
    keep(edit.config, readConfigText(env, edit.config).text)
    checkWritable(edit.config, env)
  }
  // A folder that is there may hold more than the token: its mode is not for us to change here.
  if (!isThere(dirname(file))) ensureDir(dirname(file))
  writeAtomic(file, `${token}\n`)
  if (edit !== undefined) nameTokenFile(edit, key, env, random)
}

const isThere = (path: string) => lstatSync(path, { throwIfNoEntry: false }) !== undefined

const stamp = (now: number) => new Date(now).toISOString().replaceAll(/[:.]/g, '-')

/** Names the file of the token in the place of a token; as in every write, plain secrets are sealed on the way. */
function nameTokenFile(
  edit: { config: string; tokenFile: string },
  key: SealingKey,
  env: Env,
  random: Random,
): void {
  const before = readConfigText(env, edit.config)
  const path = ['gateway', 'auth']
  const without = removeValue(before.text, [...path, 'token'])
  const named = setValue(without, [...path, 'tokenFile'], edit.tokenFile)
  writeConfigText(before, sealPlain(named, key, random).text, env, random)
}

/** On the opened file, so that nothing can be put in its place between the look and the change. */
function setMode(path: string, mode: number): void {
  const notOurs = () =>
    new Failure('FIX_REFUSED', `${path} is not what was looked at: run the command again`)
  if (lstatSync(path).isSocket()) {
    if (lstatSync(path).uid !== ownUid()) throw notOurs()
    chmodSync(path, mode)
    return
  }
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants
  const fd = openSync(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK)
  try {
    if (fstatSync(fd).uid !== ownUid()) throw notOurs()
    fchmodSync(fd, mode)
  } finally {
    closeSync(fd)
  }
}
