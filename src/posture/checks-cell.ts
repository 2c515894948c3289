/** Checks of the cell that runs: what the kernel says of its processes, and what its twin could do. Only with --deep. */
import type { InCellReport } from '../agent/in-cell.ts'
import type { Config } from '../config/schema.ts'
import { processIn } from './cell.ts'
import { inGroup, ofConfig, unmeasured, type Check, type Found, type Look } from './check.ts'
import type { CellFacts, Measured, MountFact, ProcessFact, RunningCell } from './context.ts'

/** What is wrong with one cell, in clauses; or why it was not seen. */
type Seen = readonly string[] | { readonly unmeasured: string }

const isSeen = (seen: Seen): seen is readonly string[] => !('unmeasured' in seen)

/** A check over every cell. A cell that could not be looked at makes it "not measured", unless something was found. */
function ofCells(...looks: readonly ((cell: CellFacts, config: Config) => Seen)[]) {
  return ofConfig((config, { cells }): Look => {
    if (config.agent.image === undefined) return unmeasured('Hardshell launches no agent')
    if ('unmeasured' in cells) return cells
    const seen = cells.value.flatMap((cell) =>
      looks.map((look) => ({ name: cell.name, seen: look(cell, config) })),
    )
    const found = seen.flatMap(({ name, seen: one }): readonly Found[] =>
      isSeen(one) ? one.map((clause) => ({ found: `${name}: ${clause}` })) : [],
    )
    if (found.length > 0) return found
    return seen.flatMap(({ seen: one }) => (isSeen(one) ? [] : [one]))[0] ?? []
  })
}

/** Looks at the running processes and at the one in the twin. */
const ofProcesses = (say: (one: ProcessFact) => string | undefined) =>
  ofCells(
    ({ running }) =>
      'unmeasured' in running
        ? running
        : running.value.processes.flatMap((one) => {
            const said = say(one)
            return said === undefined ? [] : [`process ${one.pid} (${one.name}) ${said}`]
          }),
    fromTwin(({ status }) => {
      const said = processIn(0, status)
      const clause = said === undefined ? 'tells nothing of itself' : say(said)
      return clause === undefined ? [] : [`a process in its twin ${clause}`]
    }),
  )

const fromTwin =
  (say: (report: InCellReport, config: Config) => readonly string[]) =>
  ({ twin }: CellFacts, config: Config): Seen =>
    'unmeasured' in twin ? twin : say(twin.value, config)

const fromRunning =
  <T>(
    pick: (running: RunningCell) => Measured<T>,
    say: (value: T, config: Config) => readonly string[],
  ) =>
  ({ running }: CellFacts, config: Config): Seen => {
    if ('unmeasured' in running) return running
    const picked = pick(running.value)
    return 'unmeasured' in picked ? picked : say(picked.value, config)
  }

/** One clause about several things. */
const list = (words: string, things: readonly string[]): readonly string[] =>
  things.length === 0 ? [] : [`${words} ${things.join(', ')}`]

const kernelTypes = new Set(['proc', 'sysfs', 'cgroup', 'cgroup2', 'devpts', 'mqueue'])
/** What every engine mounts into its containers from its own folder. */
const engineOwn = new Set([
  ...['/', '/etc/hosts', '/etc/hostname', '/etc/resolv.conf', '/dev', '/dev/shm', '/dev/console'],
  ...['/sbin/docker-init', '/dev/init', '/run/podman-init', '/run/.containerenv'],
])

/** A folder or file of this machine: a mount that neither the kernel, the engine nor an empty tmpfs makes. */
function isForeign({ root, target, type }: MountFact, config: Config): boolean {
  if (kernelTypes.has(type) || engineOwn.has(target)) return false
  if (type === 'tmpfs' && root === '/') return false
  // Paths of the kernel that the engine covers.
  if (/^\/(?:proc|sys)\//.test(target)) return false
  return target !== config.agent.workspace?.replace(/(.)\/+$/, '$1') && !isPlugin(target)
}

const remedy = 'Run "hardshell agent restart", and find out who changed the container.'

/** What must hold in every cell while it runs. */
export const cellChecks: readonly Check[] = inGroup('sandbox', [
  {
    id: 'sandbox.cell-user',
    severity: 'CRITICAL',
    title: 'No process of the running cell is root (--deep)',
    remedy,
    look: ofProcesses(({ uids }) => (uids.includes(0) ? 'is root' : undefined)),
  },
  {
    id: 'sandbox.cell-capabilities',
    severity: 'CRITICAL',
    title: 'No process of the running cell has capabilities (--deep)',
    remedy,
    look: ofProcesses(({ capabilities }) =>
      capabilities.length === 0 ? undefined : `has ${capabilities.join(', ')}`,
    ),
  },
  {
    id: 'sandbox.cell-new-privileges',
    severity: 'HIGH',
    title: 'No process of the running cell can gain privileges by a setuid program (--deep)',
    remedy,
    look: ofProcesses(({ noNewPrivileges }) =>
      noNewPrivileges ? undefined : 'can gain new privileges',
    ),
  },
  {
    id: 'sandbox.cell-seccomp',
    severity: 'CRITICAL',
    title: 'The system calls of every process of the running cell are filtered (--deep)',
    remedy,
    look: ofProcesses(({ seccomp }) => (seccomp ? undefined : 'may make every system call')),
  },
  {
    id: 'sandbox.cell-system-calls',
    severity: 'HIGH',
    title: 'System calls that an agent does not need are refused in the twin of the cell (--deep)',
    remedy,
    look: ofCells(
      fromTwin(({ allowed }) => list('the kernel obeys', allowed)),
      ({ twin }) =>
        'value' in twin && twin.value.untried.length > 0
          ? { unmeasured: 'the programs that try system calls do not run in the twin of the cell' }
          : [],
    ),
  },
  {
    id: 'sandbox.cell-writable',
    severity: 'HIGH',
    title: 'In the twin of the cell nothing but tmpfs can be written (--deep)',
    remedy,
    look: ofCells(fromTwin(({ writable }) => list('can write', writable))),
  },
  {
    id: 'sandbox.cell-executable',
    severity: 'MEDIUM',
    title: 'In the twin of the cell nothing that was written can be executed (--deep)',
    remedy,
    look: ofCells(fromTwin(({ executable }) => list('can execute what it writes in', executable))),
  },
  {
    id: 'sandbox.cell-network',
    severity: 'CRITICAL',
    title: 'The running cell has no network but its own loopback (--deep)',
    remedy,
    look: ofCells(
      fromRunning(
        ({ interfaces }) => interfaces,
        (names) => list('has the network', others(names)),
      ),
      fromTwin(({ routes }) => list('there is a way to', routes)),
    ),
  },
  {
    id: 'sandbox.cell-engine-socket',
    severity: 'CRITICAL',
    title: 'The running cell sees no socket of a container engine (--deep)',
    remedy,
    look: ofCells(
      fromRunning(
        ({ mounts }) => mounts,
        (mounts) =>
          list(
            'has',
            mounts
              .map(({ root, target }) => (/\.sock$/.test(root) ? root : target))
              .filter((path) => /\.sock$/.test(path)),
          ),
      ),
      fromTwin(({ sockets }) => list('sees', sockets)),
    ),
  },
  {
    id: 'sandbox.cell-mounts',
    severity: 'HIGH',
    title:
      'The running cell has no folder of this machine but the workspace and trusted plugins (--deep)',
    remedy,
    look: ofCells(
      fromRunning(
        ({ mounts }) => mounts,
        (mounts, config) => [
          ...list(
            'has',
            mounts.filter((mount) => isForeign(mount, config)).map(({ target }) => target),
          ),
          ...list(
            'can write',
            mounts
              .filter(({ target, writable }) => writable && (target === '/' || isPlugin(target)))
              .map(({ target }) => target),
          ),
        ],
      ),
    ),
  },
  {
    id: 'sandbox.cell-namespaces',
    severity: 'CRITICAL',
    title: 'The running cell shares no namespace with this machine (--deep)',
    remedy,
    look: ofCells(
      fromRunning(
        ({ shared }) => shared,
        (kinds) => list('shares with us', kinds),
      ),
    ),
  },
  {
    id: 'sandbox.cell-devices',
    severity: 'HIGH',
    title: 'The twin of the cell sees no device of this machine (--deep)',
    remedy,
    look: ofCells(fromTwin(({ nodes }) => list('sees', nodes.slice(0, 8)))),
  },
  {
    id: 'sandbox.cell-limits',
    severity: 'HIGH',
    title: 'The kernel holds the running cell to its processes and its memory (--deep)',
    remedy,
    look: ofCells(
      fromRunning(
        ({ limits }) => limits,
        ({ pids, memory }, { agents }) => {
          const { docker } = agents.defaults.sandbox
          return [
            ...(pids <= docker.pidsLimit ? [] : ['may have more processes than its limit']),
            // The kernel counts whole pages.
            ...(memory <= docker.memory ? [] : ['may take more memory than its limit']),
          ]
        },
      ),
    ),
  },
])

const isPlugin = (target: string) => target.startsWith('/plugins/')
const others = (names: readonly string[]) => names.filter((name) => name !== 'lo')
