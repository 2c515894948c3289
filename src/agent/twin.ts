/** A short-lived container made like a running one, in which our own program tries what the agent could try. */
import { randomBytes } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { codeOf, Failure, messageOf } from '../errors.ts'
import type { Engine } from './engine.ts'
import { reportMark, type InCellReport } from './in-cell.ts'
import { fieldOf, isRecord, textOf } from './json.ts'
import { makePortalImage, programSource } from './portal-image.ts'
import { deniedProbes, probePath } from './syscall-probe.ts'

/** The label of a twin; its value is the installation. Never the label of a cell: it would be taken for a part of it. */
export const twinLabel = 'io.hardshell.twin'
/** The label that says when a twin is over, whatever became of who started it; seconds since the epoch. */
export const twinUntilLabel = 'io.hardshell.twin-until'

/** What a twin is told. */
export interface TwinOptions {
  readonly instance: string
  /** The Node binary of our image. */
  readonly nodePath: string
  /** Wall clock, ms since the epoch. */
  readonly now: number
  /** How long the twin may take for its report, and after which it ends by itself, seconds. */
  readonly seconds?: number
  /** Breaks it off; the twin is removed all the same. */
  readonly signal?: AbortSignal | undefined
}

const secondsDefault = 15
/** Between two looks at its log, ms. */
const lookMs = 100
/** After this time a twin is of nobody any more, seconds; an image that must be loaded first takes some of them. */
const overSeconds = 120
/** Longest wait for its removal, ms; the engine removes what has ended by itself. */
const removeMs = 10_000

/**
 * Starts a twin of an inspected container from what the engine reports of it, takes its report, and removes it. The
 * folders of this machine that the container has are there, read-only, and nothing is tried in them; its variables are
 * not, because they may hold secrets. Throws Failure when there is no report in time.
 */
export async function askTwin(
  engine: Engine,
  inspected: unknown,
  options: TwinOptions,
): Promise<InCellReport> {
  const { instance, seconds = secondsDefault, signal, now } = options
  await removeLeft(engine, instance, now)
  const image = await makePortalImage(engine, options.nodePath)
  signal?.throwIfAborted()
  const name = `hardshell-${instance}-twin-${randomBytes(4).toString('hex')}`
  const until = Math.ceil(now / 1000) + seconds + overSeconds
  const labels = { [twinLabel]: instance, [twinUntilLabel]: String(until) }
  const id = await engine.create(name, bodyOfTwin(inspected, image, labels, seconds))
  try {
    await engine.start(id)
    return await reportOf(engine, id, (seconds * 1000) / lookMs, signal)
  } finally {
    const gone = engine.remove(id).catch(() => undefined)
    await Promise.race([gone, pause(removeMs, undefined, { ref: false })])
  }
}

/** Removes twins that were made and never started, because who made them was killed in between. */
async function removeLeft(engine: Engine, instance: string, now: number): Promise<void> {
  for (const { id, labels } of await engine.list({ [twinLabel]: instance })) {
    if (Number(labels[twinUntilLabel]) * 1000 < now) await engine.remove(id)
  }
}

async function reportOf(
  engine: Engine,
  id: string,
  looks: number,
  signal: AbortSignal | undefined,
): Promise<InCellReport> {
  for (let look = 0; look < looks; look += 1) {
    await pause(lookMs, undefined, { ...(signal && { signal }) })
    const report = readReport(await engine.logs(id, 1000))
    if (report !== undefined) return report
    const state = fieldOf(await engine.inspect(id), 'State')
    if (fieldOf(state, 'Running') !== true) {
      throw new Failure('TWIN_ENDED', 'the twin of the cell ended without a report')
    }
  }
  throw new Failure('TWIN_SILENT', 'the twin of the cell gave no report in time')
}

/** The report in the lines of a log, once all of it is there. */
export function readReport(lines: readonly string[]): InCellReport | undefined {
  const chunks = new Map<number, string>()
  let count = 0
  for (const line of lines) {
    const [, at = '', of = '', chunk = ''] =
      new RegExp(`${reportMark} (\\d{1,4})/(\\d{1,4}) ([A-Za-z0-9+/=]+)$`).exec(line) ?? []
    if (chunk === '') continue
    chunks.set(Number(at), chunk)
    count = Number(of)
  }
  if (count === 0 || chunks.size < count) return undefined
  const text = Array.from({ length: count }, (_, at) => chunks.get(at + 1) ?? '').join('')
  const report = JSON.parse(Buffer.from(text, 'base64').toString('utf8')) as InCellReport
  return {
    ...report,
    allowed: report.allowed.map(callNamed),
    untried: report.untried.map(callNamed),
  }
}

/** The system call whose program has this name. */
const callNamed = (program: string): string =>
  Object.keys(deniedProbes).find((name) => name.replaceAll(' ', '_') === program) ?? program

/** The body of a twin: all of HostConfig as the engine reports it, but for what would change something. */
export function bodyOfTwin(
  inspected: unknown,
  image: string,
  labels: Readonly<Record<string, string>>,
  seconds: number,
): Readonly<Record<string, unknown>> {
  const host = fieldOf(inspected, 'HostConfig')
  const mounts = listOf(fieldOf(inspected, 'Mounts'))
  const skip = mounts.map((mount) => textOf(fieldOf(mount, 'Destination'))).filter(Boolean)
  const options = [
    `--seconds=${seconds}`,
    ...skip.map((path) => `--skip=${path}`),
    ...Object.keys(deniedProbes).map((name) => `--denied=${name.replaceAll(' ', '_')}`),
  ]
  return {
    Image: image,
    Entrypoint: ['/usr/local/bin/node', '--max-old-space-size=64', programSource('in-cell').to],
    Cmd: [...options, `--probes=${probePath('').replace(/\/$/, '')}`],
    WorkingDir: '/',
    Env: [],
    User: textOf(fieldOf(inspected, 'Config', 'User')),
    Labels: labels,
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      ...(isRecord(host) ? host : {}),
      Mounts: listOf(fieldOf(host, 'Mounts')).map((mount) => ({
        ...(isRecord(mount) ? mount : {}),
        ReadOnly: true,
      })),
      Binds: listOf(fieldOf(host, 'Binds')).map(readOnlyBind),
      VolumesFrom: listOf(fieldOf(host, 'VolumesFrom')).map(
        (from) => `${String(from).split(':')[0]}:ro`,
      ),
      // Ports, names and files that the container itself holds.
      PortBindings: {},
      PublishAllPorts: false,
      Links: [],
      ContainerIDFile: '',
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      LogConfig: { Type: 'json-file', Config: { 'max-size': '5m', 'max-file': '2' } },
      // Ours may be killed on the way: then it ends by itself, and the engine removes it.
      AutoRemove: true,
    },
  }
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])

/** `source:target:options` with `ro` as the only option. */
function readOnlyBind(bind: unknown): string {
  const [source = '', target = ''] = String(bind).split(':')
  return `${source}:${target}:ro`
}

/** Why a twin gave no report, on one line. */
export function whyNoTwin(thrown: unknown): string {
  return thrown instanceof Failure ? thrown.message : codeOf(thrown) || messageOf(thrown)
}
