/** `hardshell security migrate | rollback`. */
import { randomBytes } from 'node:crypto'
import { existsSync, statSync } from 'node:fs'
import { resolve } from 'node:path'
import {
  applyMigration,
  mendModes,
  placesFor,
  planMigration,
  rollBack,
} from '../config/migration.ts'
import type { Done, Plan } from '../config/migration.ts'
import { parseJson5 } from '../config/json5.ts'
import { lineOf } from '../config/problems.ts'
import { restoreCopy } from '../config/restore.ts'
import { secretsIn, spellPath } from '../config/sealing.ts'
import { homeOf } from '../home.ts'
import { minScoreDefault } from '../posture/score.ts'
import type { Call, Command, ExitCode, Io } from './command.ts'
import { named, record } from './record.ts'

/** One box of the checklist; `done` undefined: it cannot be seen from here. */
export interface Box {
  readonly title: string
  readonly done: boolean | undefined
  readonly because: string
}

function textOption(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined
}

/** Whether some box of people is ticked: somebody is on a list of this configuration. */
function peopleIn(document: Plan['migrated']['document']): number {
  const lists: number[] = []
  const walk = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    for (const [name, below] of Object.entries(value)) {
      const isList = ['allowFrom', 'allowlist', 'owners'].includes(name) && Array.isArray(below)
      if (isList) lists.push((below as unknown[]).length)
      else walk(below)
    }
  }
  walk(document)
  return lists.reduce((sum, length) => sum + length, 0)
}

/** What can be seen of the installation once the files are in place. */
export interface Seen {
  /** What runs has this configuration; `undefined`: nothing runs. */
  readonly runsIt: boolean | undefined
  /** Somebody has used the configured token. */
  readonly clientSeen: boolean
  readonly score: number
  readonly grade: string
  /** When it was last audited since the configuration was written. */
  readonly auditedAt: string | undefined
}

async function see(call: Call, file: string): Promise<Seen> {
  const [{ contextOf }, { reportOf }, { readHistory }] = await Promise.all([
    import('./posture.ts'),
    import('../posture/report.ts'),
    import('../posture/history.ts'),
  ])
  const context = await contextOf(call, { deep: false, log: false })
  const { running, tokens, configHash, home } = context
  const { score, grade } = reportOf(context)
  const written = statSync(file).mtimeMs
  const audited = readHistory(home).findLast(({ time }) => Date.parse(time) >= written)
  const list = 'value' in tokens ? tokens.value : []
  return {
    runsIt: running === undefined ? undefined : running.configHash === configHash,
    clientSeen: list.some((one) => one.kind === 'configured' && one.lastUsedAt !== undefined),
    score,
    grade,
    auditedAt: audited?.time,
  }
}

/** The boxes that only the installation itself can tick; on a dry run there is none to look at. */
function seenBoxes(seen: Seen | undefined): readonly Box[] {
  const asked = 'not measured in a dry run: later run'
  const start = {
    title: 'Test the start',
    done: seen === undefined ? undefined : seen.runsIt === true,
    because:
      seen === undefined
        ? `${asked} "hardshell serve", then "hardshell status --all"`
        : seen.runsIt === undefined
          ? 'it does not run: "hardshell serve", then "hardshell status --all"'
          : seen.runsIt
            ? 'it runs with this configuration'
            : 'what runs has the configuration from before: restart it',
  }
  const audit = {
    title: 'Run the security audit',
    done: seen === undefined ? undefined : seen.auditedAt !== undefined,
    because:
      seen === undefined
        ? `${asked} "hardshell security audit --deep"`
        : seen.auditedAt === undefined
          ? 'none since the configuration was written: "hardshell security audit --deep"'
          : `the last one was at ${seen.auditedAt}`,
  }
  const score = {
    title: `The score is ${minScoreDefault} or more`,
    done: seen === undefined ? undefined : seen.score >= minScoreDefault,
    because:
      seen === undefined
        ? `${asked} "hardshell security audit"`
        : `it is ${seen.score} (${seen.grade}): "hardshell security audit" names each finding`,
  }
  return [start, audit, score]
}

/** The checklist of a migration, each box with its reason. */
export function checklist(
  plan: Plan,
  done: Done | undefined,
  seen: Seen | undefined,
): readonly Box[] {
  const { migrated, token, tokenFile, from, to } = plan
  const { document } = migrated
  const dry = done === undefined
  const people = peopleIn(document)
  const image = (document['agent'] as { image?: unknown } | undefined)?.image
  const engine = existsSync('/var/run/docker.sock')
  const wrote = done?.backup === undefined ? `${to} was up to date` : `wrote ${to}`
  const old = token === undefined && from === undefined
  const ran = dry ? 'this is a dry run' : wrote
  return [
    {
      title: 'Backup your config',
      done: !dry,
      because: dry ? 'nothing was written' : (done.backup ?? 'nothing had to change'),
    },
    { title: 'Run the migration', done: !dry, because: ran },
    {
      title: 'Strong gateway token (32 characters or more)',
      done: token === undefined || !dry,
      because: token === undefined ? 'the token is good' : `a new one goes to ${tokenFile}`,
    },
    {
      title: 'Update all clients with the new token',
      done: old || seen?.clientSeen === true ? true : undefined,
      because: old
        ? 'the token is the old one'
        : seen?.clientSeen === true
          ? 'a client has used it'
          : `give them the token in ${tokenFile} and the port of Hardshell`,
    },
    { title: 'No dmPolicy "open" in the config', done: true, because: 'each is "pairing" now' },
    {
      title: 'Authorized users are paired or listed',
      done: people > 0,
      because:
        people > 0
          ? `${people} entries are on its lists`
          : 'nobody is: run "hardshell pairing list"',
    },
    {
      title: 'Docker is installed (for the sandbox)',
      done: typeof image === 'string' ? engine : undefined,
      because:
        typeof image === 'string'
          ? `${engine ? 'there is' : 'there is no'} /var/run/docker.sock`
          : 'not needed while the agent runs by itself (agent.upstream)',
    },
    ...seenBoxes(seen),
  ]
}

/** Every value of a document by its path, secrets masked. */
function valuesOf(text: string): ReadonlyMap<string, string> {
  const { value } = parseJson5(text)
  const secret = new Set(secretsIn(value).map(({ path }) => spellPath(path)))
  const found = new Map<string, string>()
  const walk = (at: unknown, path: readonly string[]): void => {
    const key = spellPath(path)
    const whole = typeof at !== 'object' || at === null || Array.isArray(at) || secret.has(key)
    if (whole) found.set(key, secret.has(key) ? '***' : JSON.stringify(at))
    else for (const [name, below] of Object.entries(at)) walk(below, [...path, name])
  }
  walk(value, [])
  return found
}

/** The difference that a migration makes to our file: `+ key: value`, `- key: value`. */
function difference({ before, text }: Plan): readonly string[] {
  const [old, now] = [valuesOf(before ?? '{}'), valuesOf(text)]
  const keys = [...new Set([...old.keys(), ...now.keys()])].toSorted()
  return keys.flatMap((key) => {
    const [from, to] = [old.get(key), now.get(key)]
    if (from === to || key === '') return []
    const minus = from === undefined ? [] : [`- ${key}: ${from}`]
    return to === undefined ? minus : [...minus, `+ ${key}: ${to}`]
  })
}

interface Told {
  readonly plan: Plan
  readonly done: Done | undefined
  readonly mended: readonly string[]
  readonly boxes: readonly Box[]
}

function tell(io: Io, { plan, done, mended, boxes }: Told): void {
  const { migrated, from, to, token } = plan
  io.out(from === undefined ? `${to}:` : `${from} → ${to}:`)
  for (const sentence of mended) io.out(`  ${sentence}`)
  const same = done !== undefined && done.backup === undefined
  if (same) io.out('  nothing had to change')
  // What the other file says was brought in by an earlier run; to tell it again would look like a change.
  const told = same ? [] : migrated.changes
  for (const { path, say } of told) io.out(`  ${path === '' ? '' : `${path} `}${say}`)
  for (const path of done?.sealed ?? []) io.out(`  ${path} is sealed`)
  for (const problem of migrated.left) io.out(`  still to do: ${lineOf(problem)}`)
  if (done === undefined) for (const line of difference(plan)) io.out(line)
  io.out('')
  for (const { title, done: ticked, because } of boxes) {
    const box = ticked === undefined ? '[?]' : ticked ? '[x]' : '[ ]'
    io.out(`${box} ${title}: ${because}`)
  }
  if (done !== undefined && token !== undefined) {
    io.err('The new token, shown once:')
    io.out(token)
  }
}

/** The keys that a migration changed, for the record of it. */
function changedBy(
  { migrated, token }: Plan,
  done: Done | undefined,
  mended: readonly string[],
): string | undefined {
  const wrote = done?.backup !== undefined
  const keys = wrote ? migrated.changes.map(({ path }) => path).filter((path) => path !== '') : []
  return named([
    ...(wrote && token !== undefined ? ['a new token'] : []),
    ...new Set(keys),
    ...(done?.sealed ?? []).map((path) => `sealed ${path}`),
    ...(mended.length === 0 ? [] : [`${mended.length} file modes`]),
  ])
}

async function migrate(call: Call): Promise<ExitCode> {
  const { io, json, options } = call
  const [from, config] = [textOption(options['from']), textOption(options['config'])]
  const dry = options['dry-run'] === true
  const places = placesFor(io.env, {
    ...(from === undefined ? {} : { from }),
    ...(config === undefined ? {} : { config }),
  })
  const work = () => {
    const mended = dry ? [] : mendModes(places)
    const plan = planMigration(places, io.env, randomBytes)
    const done = dry ? undefined : applyMigration(plan, io.env, randomBytes)
    return { value: { mended, plan, done }, about: changedBy(plan, done, mended) }
  }
  const { mended, plan, done } = dry
    ? work().value
    : await record(call, 'security migrate', places.from ?? places.to, work)
  const seen = done === undefined ? undefined : await see(call, plan.to)
  const boxes = checklist(plan, done, seen)
  if (json) {
    const { migrated, token } = plan
    const { changes, left } = migrated
    const shown = done === undefined || token === undefined ? {} : { token }
    const more = { ...places, mended, changes, left, checklist: boxes, ...shown }
    io.out(JSON.stringify({ dryRun: dry, ...more, ...done, difference: difference(plan) }))
  } else tell(io, { plan, done, mended, boxes })
  return 0
}

async function bringBack(call: Call, copy: string, config: string | undefined): Promise<ExitCode> {
  const { io, json } = call
  const done = await record(call, 'security rollback', copy, () => {
    const value = restoreCopy(copy, config, io.env, randomBytes)
    return { value, about: value.changed ? `${value.file} from ${copy}` : undefined }
  })
  if (json) {
    io.out(JSON.stringify(done))
    return 0
  }
  const { file, backup, changed, plain, left } = done
  const where = backup === undefined ? '' : `; what stood there is in ${backup}`
  io.out(changed ? `restored ${file}${where}` : `${file} says so already; nothing was changed`)
  if (plain) io.out('it shows secrets again: "hardshell secrets init --seal" seals them')
  for (const problem of left) io.err(`still wrong: ${lineOf(problem)}`)
  return 0
}

const configOption = {
  type: 'string',
  value: 'FILE',
  summary: 'The file to write; else HARDSHELL_CONFIG, then the one in the home.',
} as const

/** The rows of `hardshell security` that bring in other configurations. */
export const migrateCommands: readonly Command[] = [
  {
    name: 'security migrate',
    summary:
      'Makes a configuration of ours from that of Moltbot, Clawdbot or OpenClaw, or from an older one; a copy first.',
    options: {
      from: {
        type: 'string',
        value: 'FILE',
        summary: 'What to read; else the first that is there of the places where agents keep it.',
      },
      config: configOption,
      'dry-run': { type: 'boolean', summary: 'Writes nothing and prints what would change.' },
    },
    run: migrate,
  },
  {
    name: 'security rollback',
    summary:
      'Brings back, byte for byte, what the last migration changed, or a copy of the configuration.',
    positionals: '[copy]',
    options: { config: configOption },
    run: async (call) => {
      const { io, json, options, positionals } = call
      const [copy] = positionals
      if (copy !== undefined) return bringBack(call, resolve(copy), textOption(options['config']))
      // Without a home there is nothing to undo, and no log to begin for it.
      const work = () => {
        const value = rollBack(io.env, randomBytes)
        return { value, about: named(value.restored) }
      }
      const { restored, kept } = existsSync(homeOf(io.env))
        ? await record(call, 'security rollback', undefined, work)
        : work().value
      if (json) io.out(JSON.stringify({ restored, kept }))
      else io.out(`restored ${restored.join(', ')}; what stood there is in ${kept}`)
      return 0
    },
  },
]
