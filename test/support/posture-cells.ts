/** Cells for the tests of posture: one in which all is well, and what makes each of its checks fire. */
import type { InCellReport } from '../../src/agent/in-cell.ts'
import type {
  CellFacts,
  MountFact,
  PostureContext,
  ProcessFact,
  RunningCell,
} from '../../src/posture/context.ts'

/** A cell in which all is well. */
export function cellWith(
  running: Partial<RunningCell> = {},
  twin: Partial<InCellReport> = {},
): CellFacts {
  const process = { pid: 4711, name: 'node', uids: [1000, 1000, 1000, 1000], capabilities: [] }
  const mounts = [
    { root: '/', target: '/', type: 'overlay', writable: false },
    { root: '/', target: '/tmp', type: 'tmpfs', writable: true },
    { root: '/', target: '/proc', type: 'proc', writable: true },
    { root: '/x/hosts', target: '/etc/hosts', type: 'ext4', writable: false },
  ]
  return {
    name: 'hardshell-h1-main-agent',
    running: {
      value: {
        processes: [{ ...process, noNewPrivileges: true, seccomp: true }],
        interfaces: { value: ['lo'] },
        mounts: { value: mounts },
        shared: { value: [] },
        limits: { value: { pids: 256, memory: 2 * 1024 ** 3 } },
        ...running,
      },
    },
    twin: {
      value: {
        status: statusWith({}),
        devices: '    lo: 0 0',
        writable: [],
        executable: [],
        routes: [],
        nodes: [],
        sockets: [],
        allowed: [],
        untried: [],
        ...twin,
      },
    },
  }
}

/** /proc/<pid>/status of a process that may do nothing special. */
export function statusWith(over: Readonly<Record<string, string>>): string {
  const none = '0000000000000000'
  const fields = { Name: 'node', State: 'S (sleeping)', Uid: '1000\t1000\t1000\t1000' }
  const sets = { CapInh: none, CapPrm: none, CapEff: none, CapBnd: none, CapAmb: none }
  const all = { ...fields, ...sets, NoNewPrivs: '1', Seccomp: '2', ...over }
  return Object.entries(all)
    .map(([name, value]) => `${name}:\t${value}\n`)
    .join('')
}

type Spoil = Partial<PostureContext>

const cells = (...all: readonly CellFacts[]): Spoil => ({ cells: { value: all } })
const running = (over: Partial<RunningCell>): Spoil => cells(cellWith(), cellWith(over))
const twin = (over: Partial<InCellReport>): Spoil => cells(cellWith(), cellWith({}, over))

const good: ProcessFact = {
  pid: 4711,
  name: 'node',
  uids: [1000, 1000, 1000, 1000],
  capabilities: [],
  noNewPrivileges: true,
  seccomp: true,
}
const process = (over: Partial<ProcessFact>): Spoil =>
  running({ processes: [good, { ...good, pid: 4712, name: 'sh', ...over }] })

const mount = (over: Partial<MountFact>): Spoil =>
  running({
    mounts: {
      value: [{ root: '/', target: '/', type: 'overlay', writable: false, ...over }],
    },
  })

/** What makes the checks of the cell fire; the twin of a case must stay quiet. */
export const cellCases: Record<string, { fires: Spoil; quiet?: Spoil }> = {
  'sandbox.cell-user': {
    fires: process({ uids: [1000, 1000, 0, 1000] }),
    quiet: process({ uids: [65_532, 65_532, 65_532, 65_532] }),
  },
  'sandbox.cell-capabilities': {
    fires: process({ capabilities: ['CapBnd'] }),
    quiet: twin({ status: statusWith({ CapBnd: '0000000000000000' }) }),
  },
  'sandbox.cell-new-privileges': { fires: process({ noNewPrivileges: false }) },
  'sandbox.cell-seccomp': { fires: twin({ status: statusWith({ Seccomp: '0' }) }) },
  'sandbox.cell-system-calls': { fires: twin({ allowed: ['unshare user'] }) },
  'sandbox.cell-writable': { fires: twin({ writable: ['/etc'] }) },
  'sandbox.cell-executable': { fires: twin({ executable: ['/tmp'] }) },
  'sandbox.cell-network': {
    fires: running({ interfaces: { value: ['lo', 'eth0'] } }),
    quiet: running({ interfaces: { value: ['lo'] } }),
  },
  'sandbox.cell-engine-socket': {
    fires: mount({ root: '/docker.sock', target: '/var/run/docker.sock', type: 'tmpfs' }),
    quiet: mount({ root: '/x/hosts', target: '/etc/hosts', type: 'ext4' }),
  },
  'sandbox.cell-mounts': {
    fires: mount({ root: '/home/me', target: '/data', type: 'ext4' }),
    quiet: mount({ root: '/x/git', target: '/plugins/git', type: 'ext4' }),
  },
  'sandbox.cell-namespaces': { fires: running({ shared: { value: ['net'] } }) },
  'sandbox.cell-devices': { fires: twin({ nodes: ['/dev/kvm'] }) },
  'sandbox.cell-limits': {
    fires: running({ limits: { value: { pids: Number.NaN, memory: 2 * 1024 ** 3 } } }),
    quiet: running({ limits: { value: { pids: 255, memory: 1024 ** 3 } } }),
  },
}
