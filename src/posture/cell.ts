/** The cell that runs, as the kernel of this machine sees it, and its twin, as its own program sees it from inside. */
import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs'
import { hash } from 'node:crypto'
import { setTimeout as pause } from 'node:timers/promises'
import { Engine } from '../agent/engine.ts'
import type { InCellReport } from '../agent/in-cell.ts'
import { fieldOf, textOf } from '../agent/json.ts'
import { askTwin, whyNoTwin } from '../agent/twin.ts'
import { codeOf } from '../errors.ts'
import type { CellFacts, Measured, MountFact, ProcessFact, RunningCell } from './context.ts'

/** What is asked for. */
export interface CellQuestion {
  /** The installation, as its containers are labelled. */
  readonly instance: string
  readonly engineSockets: readonly string[]
  /** The Node binary that runs us: the image of the twin is made of it. */
  readonly nodePath: string
  /** Wall clock, ms since the epoch. */
  readonly now: number
  /** Breaks it off; what was started is removed. */
  readonly signal?: AbortSignal | undefined
  /** How long a twin may take, seconds. */
  readonly twinSeconds?: number
}

/** The name that the wiring gives the installation of a home on the engine. */
export const instanceOf = (home: string): string => `h${hash('sha256', home).slice(0, 12)}`

/** Everything together may take this long, ms: an image that must be made first takes some seconds. */
const allMs = 60_000

/** Every running agent of an installation, looked at from outside and from inside. */
export async function askCells(question: CellQuestion): Promise<Measured<readonly CellFacts[]>> {
  const sockets = question.engineSockets.filter(
    (path) => lstatSync(path, { throwIfNoEntry: false }) !== undefined,
  )
  let because = 'there is no container engine'
  for (const socketPath of sockets) {
    question.signal?.throwIfAborted()
    const engine = new Engine(socketPath)
    const late = new AbortController()
    const timeUp = async () => {
      await pause(allMs, undefined, { ref: false, signal: late.signal })
      return { unmeasured: 'the container engine took too long' }
    }
    try {
      return await Promise.race([cellsOn(engine, question), timeUp()])
    } catch (thrown) {
      question.signal?.throwIfAborted()
      because = `the container engine does not answer (${codeOf(thrown)})`
    } finally {
      late.abort()
      await engine.close()
    }
  }
  return { unmeasured: because }
}

async function cellsOn(
  engine: Engine,
  question: CellQuestion,
): Promise<Measured<readonly CellFacts[]>> {
  const found = await engine.list({
    'io.hardshell.instance': question.instance,
    'io.hardshell.role': 'agent',
  })
  const cells: CellFacts[] = []
  for (const { id } of found.filter(({ running }) => running)) {
    const inspected = await engine.inspect(id)
    if (inspected === undefined) continue
    const name = textOf(fieldOf(inspected, 'Name')).replace(/^\//, '')
    const running = runningCell(id, fieldOf(inspected, 'State', 'Pid'))
    cells.push({ name, running, twin: await twinOf(engine, inspected, question) })
  }
  return cells.length === 0 ? { unmeasured: 'no agent of ours runs in a cell' } : { value: cells }
}

async function twinOf(
  engine: Engine,
  inspected: unknown,
  { instance, nodePath, now, signal, twinSeconds }: CellQuestion,
): Promise<Measured<InCellReport>> {
  const seconds = twinSeconds === undefined ? {} : { seconds: twinSeconds }
  try {
    return {
      value: await askTwin(engine, inspected, { instance, nodePath, now, signal, ...seconds }),
    }
  } catch (thrown) {
    signal?.throwIfAborted()
    return { unmeasured: `no twin of the cell could be asked: ${whyNoTwin(thrown)}` }
  }
}

/** The processes of a container, by the control group that the engine put them into. */
export function runningCell(id: string, pid: unknown): Measured<RunningCell> {
  const isOurs = (one: string) => (read(`/proc/${one}/cgroup`) ?? '').includes(id)
  const first = typeof pid === 'number' && pid > 0 ? String(pid) : ''
  if (first === '' || !isOurs(first)) {
    return { unmeasured: 'the processes of the cell cannot be seen from here' }
  }
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name) && isOurs(name))
  const processes = pids.flatMap((one) => processIn(Number(one), read(`/proc/${one}/status`)) ?? [])
  if (processes.length === 0) return { unmeasured: 'the processes of the cell have ended' }
  const [devices, mounts] = [read(`/proc/${first}/net/dev`), read(`/proc/${first}/mountinfo`)]
  const hidden = { unmeasured: 'only root sees this of the processes of the cell' }
  return {
    value: {
      processes,
      interfaces: devices === undefined ? hidden : { value: interfacesIn(devices) },
      mounts: mounts === undefined ? hidden : { value: mountsIn(mounts) },
      shared: sharedWith(first),
      limits: limitsOf(read(`/proc/${first}/cgroup`) ?? ''),
    },
  }
}

/** A file of /proc; undefined where it is gone or not for us. */
function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (thrown) {
    if (codeOf(thrown) !== '') return undefined
    throw thrown
  }
}

/** What /proc/<pid>/status says (proc_pid_status(5)); undefined where the process has ended. */
export function processIn(pid: number, status: string | undefined): ProcessFact | undefined {
  const field = (name: string) => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status ?? '')?.[1]
  const uids = field('Uid')?.split(/\s+/).map(Number)
  if (uids === undefined || field('State')?.startsWith('Z') === true) return undefined
  const sets = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']
  return {
    pid,
    name: (field('Name') ?? '').replaceAll(/[^\w./:-]/g, '?'),
    uids,
    capabilities: sets.filter((set) => !/^0+$/.test(field(set) ?? '')),
    noNewPrivileges: field('NoNewPrivs') === '1',
    seccomp: field('Seccomp') === '2',
  }
}

/** Names of the interfaces in /proc/net/dev. */
export function interfacesIn(table: string): readonly string[] {
  return table.split('\n').flatMap((line) => /^\s*([^\s:]+):/.exec(line)?.[1] ?? [])
}

/** The rows of /proc/<pid>/mountinfo (proc_pid_mountinfo(5)). */
export function mountsIn(table: string): readonly MountFact[] {
  return table.split('\n').flatMap((line) => {
    const [left = '', right = ''] = line.split(' - ')
    const [, , , root = '', target = '', options = ''] = left.split(' ')
    const [type = '', , superOptions = ''] = right.split(' ')
    if (target === '') return []
    const writable = options.split(',').includes('rw') && superOptions.split(',').includes('rw')
    return [{ root: plain(root), target: plain(target), type, writable }]
  })
}

const plain = (path: string) =>
  path.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )

/** Namespaces that a process has in common with us, who are outside of every cell. */
function sharedWith(pid: string): Measured<readonly string[]> {
  try {
    const kinds = ['pid', 'net', 'ipc', 'uts', 'mnt', 'cgroup']
    return {
      value: kinds.filter(
        (kind) => readlinkSync(`/proc/${pid}/ns/${kind}`) === readlinkSync(`/proc/self/ns/${kind}`),
      ),
    }
  } catch (thrown) {
    return { unmeasured: `the kernel does not tell the namespaces of the cell (${codeOf(thrown)})` }
  }
}

/** The limits of a control group; v2 has one tree, v1 one for each controller. */
function limitsOf(groups: string): RunningCell['limits'] {
  const pathIn = (controller: string) =>
    groups
      .split('\n')
      .map((line) => line.split(':'))
      .find(([, names = '']) => names.split(',').includes(controller))?.[2]
  const v1 = (controller: string, file: string) => {
    const path = pathIn(controller)
    return path === undefined ? undefined : read(`/sys/fs/cgroup/${controller}${path}/${file}`)
  }
  const v2 = (file: string) => {
    const path = pathIn('')
    return path === undefined ? undefined : read(`/sys/fs/cgroup${path}/${file}`)
  }
  const pids = v1('pids', 'pids.max') ?? v2('pids.max')
  const memory = v1('memory', 'memory.limit_in_bytes') ?? v2('memory.max')
  if (pids === undefined || memory === undefined) {
    return { unmeasured: 'the control groups of the cell cannot be read from here' }
  }
  // "max" is no number, and no number is no limit.
  return { value: { pids: Number(pids.trim()), memory: Number(memory.trim()) } }
}
