/** Checks of plugins, the audit log, versions, the clock, and of the configuration as a whole. */
import { days, hours, minutes } from '../limits.ts'
import {
  inGroup,
  ofConfig,
  ofMeasured,
  unmeasured,
  when,
  type Check,
  type Found,
  type Look,
} from './check.ts'
import type { PostureContext } from './context.ts'

/** What is enabled, trusted and unchanged. */
export const pluginChecks: readonly Check[] = inGroup('plugins', [
  {
    id: 'plugins.refused',
    severity: 'CRITICAL',
    title: 'Every enabled plugin is the one that was trusted',
    remedy: 'Look at what changed; then "hardshell plugins trust NAME", or disable it.',
    look: ofMeasured(
      ({ plugins }) => plugins,
      ({ plugins }) =>
        plugins
          .filter(({ state }) => state === 'changed' || state === 'unlisted' || state === 'unsafe')
          .map(({ name, because }) => ({ found: `the plugin ${name} ${because}` })),
    ),
  },
  {
    id: 'plugins.lock',
    severity: 'CRITICAL',
    title: 'The list of trusted plugins has our signature',
    remedy: 'Restore plugins.lock.json, or trust each plugin again.',
    look: ofMeasured(
      ({ plugins }) => plugins,
      ({ lockFault }) => when(lockFault !== undefined, `plugins.lock.json ${lockFault ?? ''}`),
    ),
  },
  {
    id: 'plugins.missing',
    severity: 'LOW',
    title: 'Every enabled plugin is there',
    remedy: 'Put it into plugins.dir, or remove it from plugins.enabled.',
    look: ofMeasured(
      ({ plugins }) => plugins,
      ({ plugins }) =>
        plugins
          .filter(({ state }) => state === 'missing')
          .map(({ name }) => ({ found: `the plugin ${name} has no folder` })),
    ),
  },
  {
    id: 'plugins.folder',
    severity: 'HIGH',
    title: 'Nobody else can write in the folder of plugins',
    remedy: 'Run chmod go-w on plugins.dir.',
    look: ofMeasured(
      ({ plugins }) => plugins,
      ({ dirFault }) => when(dirFault !== undefined, `plugins.dir ${dirFault ?? ''}`),
    ),
  },
  {
    id: 'plugins.no-folder',
    severity: 'INFO',
    title: 'A list of plugins has a folder',
    remedy: 'Set plugins.dir, or remove plugins.enabled.',
    look: ofConfig(({ plugins }) =>
      when(
        plugins.enabled.length > 0 && plugins.dir === undefined,
        'plugins.enabled has no effect without plugins.dir',
      ),
    ),
  },
  {
    id: 'plugins.contradiction',
    severity: 'LOW',
    title: 'No plugin is both enabled and disabled',
    remedy: 'Remove it from one of the lists; disabled wins.',
    look: ofConfig(({ plugins }) =>
      plugins.enabled
        .filter((name) => plugins.disabled.includes(name))
        .map((name) => ({ found: `the plugin ${name} is enabled and disabled` })),
    ),
  },
])

const freeLeast = 2

/** Whether the log is on, whole, signed, and has room. */
export const auditChecks: readonly Check[] = inGroup('audit', [
  {
    id: 'audit.off',
    severity: 'CRITICAL',
    title: 'Every decision is recorded',
    remedy: 'Set security.auditLogging to true.',
    look: ofConfig(({ security }) =>
      when(!security.auditLogging, 'security.auditLogging is false'),
    ),
  },
  {
    id: 'audit.broken',
    severity: 'CRITICAL',
    title: 'The log is what was written',
    remedy: 'See "hardshell audit verify", and keep a copy of the log.',
    look: ofMeasured(
      ({ audit }) => audit,
      ({ ok, broken }) => when(!ok, `the audit log is broken: ${broken ?? ''}`),
    ),
  },
  {
    id: 'audit.failing',
    severity: 'CRITICAL',
    title: 'The log can be written',
    remedy: 'Free space on its disk or mend its mode.',
    look: ({ running }) =>
      running === undefined
        ? unmeasured('Hardshell is not running')
        : when(running.auditFailing !== undefined, `it cannot: ${running.auditFailing ?? ''}`),
  },
  {
    id: 'audit.key-missing',
    severity: 'HIGH',
    title: 'The key of the log is there',
    remedy: 'Restore keys/audit.key from a backup.',
    look: ofMeasured(
      ({ audit }) => audit,
      ({ keyMissing }) => when(keyMissing, 'checkpoints are signed, but keys/audit.key is missing'),
    ),
  },
  {
    id: 'audit.checkpoint-old',
    severity: 'MEDIUM',
    title: 'The newest records are covered by a signature',
    remedy: 'See the log of Hardshell; a checkpoint is made every minute while it runs.',
    look: ofMeasured(
      ({ audit }) => audit,
      ({ newestAt = 0, oldestAt = 0, checkpointAt = oldestAt, records, unsigned }) =>
        records === 0
          ? unmeasured('there are no records yet')
          : when(
              // Before the first checkpoint, which is a minute away, nothing is late yet.
              unsigned > 2000 || newestAt - checkpointAt > hours(1),
              `${unsigned} records are not covered by a checkpoint`,
            ),
    ),
  },
  {
    id: 'audit.keep-short',
    severity: 'LOW',
    title: 'Enough of the log is kept',
    remedy: 'Raise security.audit.keep.',
    look: ofConfig(({ security: { audit } }) =>
      when(audit.keep < 10, `security.audit.keep is ${audit.keep}, so evidence goes soon`),
    ),
  },
  {
    id: 'audit.rotate-large',
    severity: 'LOW',
    title: 'Files of the log are of a size that can be handled',
    remedy: 'Set security.audit.rotate to "100MB".',
    look: ofConfig(({ security: { audit } }) =>
      when(audit.rotate > 1024 ** 3, 'security.audit.rotate is more than 1 GB'),
    ),
  },
  {
    id: 'audit.disk',
    severity: 'HIGH',
    title: 'The disk has room for two more files of the log',
    remedy: 'Free space on the disk of the home; nothing is forwarded when the log is full.',
    look: ofConfig(({ security }, context) =>
      ofMeasured(
        ({ audit }) => audit,
        ({ freeBytes }) =>
          when(
            freeBytes < freeLeast * security.audit.rotate,
            `${Math.floor(freeBytes / 1024 ** 2)} MB are free on the disk of the log`,
          ),
      )(context),
    ),
  },
])

/** -1, 0 or 1: dotted numbers, compared number by number; what follows a "-" is ignored. */
export function compareVersions(one: string, other: string): number {
  const numbers = (text: string) => (text.split('-')[0] ?? '').split('.').map(Number)
  const [left, right] = [numbers(one), numbers(other)]
  for (let at = 0; at < Math.max(left.length, right.length); at += 1) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0)
    if (difference !== 0) return Math.sign(difference)
  }
  return 0
}

/** A floor for each line that is still mended; lines in between count as mended by the next. */
function belowFloor(version: string, floors: readonly string[]): string | undefined {
  const line = (text: string) => text.split('.').slice(0, 2).join('.')
  const own = floors.find((floor) => line(floor) === line(version))
  const floor = own ?? floors.at(-1) ?? '0'
  const newest = floors.every((each) => compareVersions(version, each) > 0)
  return newest || compareVersions(version, floor) >= 0 ? undefined : floor
}

/** Distributions mend old versions under the same number, so the number says nothing there. */
const isPatched = (version: string) => /dfsg|~|\+ds|ubuntu|deb\d|\.el\d|\.fc\d/.test(version)

function floorLook(what: string, version: string | undefined, floors: readonly string[]): Look {
  if (version === undefined || !/^\d+\.\d+/.test(version)) return unmeasured(`${what} is not known`)
  if (isPatched(version)) {
    return unmeasured(
      `${what} ${version} is mended by its distribution: see "apt list --upgradable"`,
    )
  }
  const floor = belowFloor(version, floors)
  return when(floor !== undefined, `${what} ${version} is older than ${floor ?? ''}`)
}

/** The security release of January 2026 for Node 24. */
const nodeFloor = '24.13.0'
/** CVE-2025-31133, CVE-2025-52565, CVE-2025-52881: out of a container through /proc and masked paths. */
const runcFloors = ['1.2.8', '1.3.3', '1.4.0']
/** CVE-2024-41110: authorisation plugins; CVE-2024-29018: DNS out of internal networks. */
const engineFloors = ['25.0.6', '26.1.5', '27.1.1']

/** Versions below which a published flaw opens a door that we rely on. */
export const versionChecks: readonly Check[] = inGroup('versions', [
  {
    id: 'versions.node',
    severity: 'HIGH',
    title: `Node is ${nodeFloor} or newer`,
    remedy: 'Install a newer Node 24.',
    look: ({ node }) =>
      when(compareVersions(node, nodeFloor) < 0, `Node ${node} is older than ${nodeFloor}`),
  },
  {
    id: 'versions.engine',
    severity: 'MEDIUM',
    title: 'The container engine has no known way out (CVE-2024-41110, CVE-2024-29018)',
    remedy: 'Update the container engine.',
    look: ofMeasured(
      ({ engine }) => engine,
      ({ version, socketPath }) =>
        socketPath.includes('podman')
          ? unmeasured('no floor is known for Podman')
          : floorLook('the engine', version, engineFloors),
    ),
  },
  {
    id: 'versions.runc',
    severity: 'HIGH',
    title: 'runc has no known way out (CVE-2025-31133, CVE-2025-52565, CVE-2025-52881)',
    remedy: 'Update runc or the container engine.',
    look: ofMeasured(
      ({ engine }) => engine,
      ({ runc }) => floorLook('runc', runc, runcFloors),
    ),
  },
])

/** When this check was written: no clock that is right shows an earlier day. */
const earliest = Date.UTC(2026, 10, 1)
const latest = Date.UTC(2100, 0, 1)

/** Ages, lockouts and expiries are only as good as the clock. */
export const timeChecks: readonly Check[] = inGroup('time', [
  {
    id: 'time.implausible',
    severity: 'HIGH',
    title: 'The clock shows a day that can be',
    remedy: 'Set the clock: timedatectl set-ntp true',
    look: ({ now }) =>
      when(now < earliest || now > latest, `the clock shows ${new Date(now).toISOString()}`),
  },
  {
    id: 'time.unsynchronised',
    severity: 'LOW',
    title: 'The clock is kept right by the network',
    remedy: 'Run: timedatectl set-ntp true',
    look: ofMeasured(
      ({ clockSynchronised }) => clockSynchronised,
      (right) => when(!right, 'the clock is not synchronised'),
    ),
  },
  {
    id: 'time.audit-future',
    severity: 'MEDIUM',
    title: 'No record is from the future',
    remedy: 'Set the clock right, then look at the log.',
    look: ofMeasured(
      ({ audit }) => audit,
      ({ newestAt }, { now }) =>
        newestAt === undefined
          ? unmeasured('there are no records yet')
          : when(
              newestAt > now + minutes(5),
              `the newest record is from ${new Date(newestAt).toISOString()}`,
            ),
    ),
  },
  {
    id: 'time.token-future',
    severity: 'MEDIUM',
    title: 'No token is from the future',
    remedy: 'Set the clock right, then make the token again.',
    look: ofMeasured(
      ({ tokens }) => tokens,
      (tokens, { now }) =>
        tokens
          .filter(({ createdAt }) => createdAt > now + minutes(5))
          .map(({ name }) => ({ found: `the token ${name} was made in the future` })),
    ),
  },
])

/** Codes of problems that a check of its own speaks for. */
export function configurationChecks(spokenFor: ReadonlySet<string>): readonly Check[] {
  const invalid = ({ problems, configFile }: PostureContext): Look =>
    problems
      .filter(({ code }) => !spokenFor.has(code))
      .map(({ path, message, remedy }): Found => ({
        found: `${path === '' ? (configFile ?? 'the configuration') : path} ${message}`,
        remedy,
        ...(configFile === undefined ? {} : { file: configFile }),
      }))
  return inGroup('configuration', [
    {
      id: 'configuration.invalid',
      severity: 'HIGH',
      title: 'The configuration can be used',
      remedy: 'See "hardshell config check".',
      look: invalid,
    },
    {
      id: 'configuration.unreadable',
      severity: 'CRITICAL',
      title: 'What the configuration asks for can be read',
      remedy: 'See "hardshell config check".',
      look: ({ config, configFile: file }) =>
        config === undefined && file !== undefined
          ? [{ found: `${file} cannot be read, so nothing in it could be judged`, file }]
          : [],
    },
    {
      id: 'configuration.missing',
      severity: 'MEDIUM',
      title: 'There is a configuration',
      remedy: 'Run "hardshell init".',
      look: ({ configFile }) =>
        when(configFile === undefined, 'there is no configuration file; defaults apply'),
    },
    {
      id: 'configuration.shadowed',
      severity: 'LOW',
      title: 'There is one configuration, not two',
      remedy: 'Remove the one that is not read.',
      look: ({ notices }) =>
        notices
          .filter(({ code }) => code === 'FILE_SHADOWED')
          .map(({ message }) => ({ found: message })),
    },
    {
      id: 'configuration.stale',
      severity: 'MEDIUM',
      title: 'What runs is what the file says',
      remedy: 'Restart it: "hardshell stop", then "hardshell serve".',
      look: ({ running, configHash }) => {
        if (running === undefined) return unmeasured('Hardshell is not running')
        if (configHash === undefined) return unmeasured('the file would not be accepted')
        return when(running.configHash !== configHash, 'the file changed since Hardshell started')
      },
    },
    {
      id: 'configuration.suppressions',
      severity: 'MEDIUM',
      title: 'The file of suppressions can be used',
      remedy: 'Mend audit-suppressions.json5; each entry has id, reason and until.',
      look: ({ suppressionFault }) =>
        when(suppressionFault !== undefined, `audit-suppressions.json5 ${suppressionFault ?? ''}`),
    },
    {
      id: 'configuration.suppression-ended',
      severity: 'INFO',
      title: 'No suppression has expired',
      remedy: 'Remove the entry, or decide anew.',
      look: ({ suppressions, now }) =>
        suppressions
          .filter(({ until }) => until <= now)
          .map(({ id, until }) => ({
            found: `the suppression of ${id} ended ${Math.floor((now - until) / days(1))} days ago`,
          })),
    },
  ])
}
