/** The one place that says what a container of ours may be: the body that makes it, and the comparison afterwards. */
import { canonical, fieldOf, isRecord, textOf } from './json.ts'

/** A folder of this machine inside a container. */
export interface Bind {
  readonly source: string
  readonly target: string
  /** The container reads it and can never write it. */
  readonly readOnly?: true
}

/** What differs between the containers of a pod; everything else is the same for all, and tight. */
export interface ContainerPlan {
  readonly image: string
  readonly entrypoint: readonly string[] | undefined
  readonly args: readonly string[] | undefined
  readonly env: readonly string[]
  readonly workdir: string | undefined
  readonly uid: number
  readonly gid: number
  readonly labels: Readonly<Record<string, string>>
  /** `none`, or `container:<id>` of the portal. */
  readonly network: string
  readonly binds: readonly Bind[]
  /** Places that the image declares as volumes: each becomes a bounded tmpfs instead of a writable folder on disk. */
  readonly volumes: readonly string[]
  readonly memoryBytes: number
  readonly cpus: number
  readonly pidsLimit: number
  readonly openFiles: number
  readonly tmpBytes: number
  /** The kernel cannot limit swap; the engine then reports -1 whatever is asked. */
  readonly swaps: boolean
  /** The seccomp profile as JSON text. */
  readonly seccomp: string
}

/** The body of `POST /containers/create`. */
export interface ContainerBody {
  readonly User: string
  readonly Labels: Readonly<Record<string, string>>
  readonly HostConfig: Readonly<Record<string, unknown>>
  readonly [key: string]: unknown
}

/** The body for a plan. Every field that could loosen the container is written out, defaults included. */
export function bodyOf(plan: ContainerPlan): ContainerBody {
  const tmpfs = (mode: string) => `rw,noexec,nosuid,nodev,size=${plan.tmpBytes},mode=${mode}`
  return {
    Image: plan.image,
    ...(plan.entrypoint === undefined ? {} : { Entrypoint: plan.entrypoint }),
    ...(plan.args === undefined ? {} : { Cmd: plan.args }),
    ...(plan.workdir === undefined ? {} : { WorkingDir: plan.workdir }),
    Env: plan.env,
    User: `${plan.uid}:${plan.gid}`,
    Labels: plan.labels,
    Tty: false,
    OpenStdin: false,
    // Health is asked through the portal; the image's own check would spawn a process in the cell each time.
    Healthcheck: { Test: ['NONE'] },
    HostConfig: {
      NetworkMode: plan.network,
      Privileged: false,
      ReadonlyRootfs: true,
      CapAdd: [],
      CapDrop: ['ALL'],
      SecurityOpt: ['no-new-privileges:true', `seccomp=${plan.seccomp}`],
      PidMode: '',
      IpcMode: 'private',
      UTSMode: '',
      UsernsMode: '',
      CgroupnsMode: 'private',
      PidsLimit: plan.pidsLimit,
      Memory: plan.memoryBytes,
      // Equal to Memory: no swap.
      MemorySwap: plan.swaps ? -1 : plan.memoryBytes,
      NanoCpus: Math.round(plan.cpus * 1e9),
      ShmSize: 16 * 1024 ** 2,
      Tmpfs: {
        '/tmp': tmpfs('1777'),
        ...Object.fromEntries(plan.volumes.map((path) => [path, tmpfs('1777')])),
      },
      Mounts: plan.binds.map((bind) => ({
        Type: 'bind',
        Source: bind.source,
        Target: bind.target,
        ReadOnly: bind.readOnly === true,
        BindOptions: { Propagation: 'rprivate' },
      })),
      Ulimits: [
        { Name: 'nofile', Soft: plan.openFiles, Hard: plan.openFiles },
        { Name: 'core', Soft: 0, Hard: 0 },
        // POSIX message queues are files in /dev/mqueue, the one place besides the tmpfs where a cell could keep bytes.
        { Name: 'msgqueue', Soft: 0, Hard: 0 },
      ],
      Init: true,
      // Restarting is ours, so that each one is recorded.
      RestartPolicy: { Name: 'no', MaximumRetryCount: 0 },
      LogConfig: { Type: 'json-file', Config: { 'max-size': '5m', 'max-file': '2' } },
    },
  }
}

/** What the engine should report about a container, besides what its body says. */
export interface Expected {
  readonly body: ContainerBody
  /** The image by its content id, as it was looked up before. */
  readonly imageId: string
  readonly defaultRuntime: string
  readonly binds: readonly Bind[]
  /** Variables that the image itself sets. */
  readonly imageEnv: readonly string[]
}

/** Folders and files of /proc and /sys that every container must not see or not write, whatever the engine adds. */
const masked = ['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware']
const readOnly = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** Fields of HostConfig that must be exactly as we sent them. */
const exact = [
  ...[
    'NetworkMode',
    'Privileged',
    'ReadonlyRootfs',
    'CapDrop',
    'SecurityOpt',
    'PidMode',
    'IpcMode',
  ],
  ...['UTSMode', 'UsernsMode', 'CgroupnsMode', 'PidsLimit', 'Memory', 'MemorySwap', 'NanoCpus'],
  ...['ShmSize', 'Tmpfs', 'Init', 'RestartPolicy', 'CapAdd'],
]

/** Fields of HostConfig that must be empty, because we never send them. */
const empty = [
  ...[
    'Binds',
    'VolumesFrom',
    'Devices',
    'DeviceRequests',
    'DeviceCgroupRules',
    'GroupAdd',
    'Links',
  ],
  ...['ExtraHosts', 'Dns', 'DnsOptions', 'DnsSearch', 'PortBindings', 'PublishAllPorts', 'Sysctls'],
  ...[
    'OomKillDisable',
    'OomScoreAdj',
    'CgroupParent',
    'Cgroup',
    'CpuPeriod',
    'CpuQuota',
    'AutoRemove',
  ],
  ...['CpuRealtimePeriod', 'CpuRealtimeRuntime', 'VolumeDriver', 'StorageOpt', 'KernelMemory'],
  ...['KernelMemoryTCP', 'ContainerIDFile'],
]

/** Names of the fields in which a container is not what we asked for; empty when it is. */
export function mismatches(expected: Expected, inspected: unknown): readonly string[] {
  const { body } = expected
  const host = fieldOf(inspected, 'HostConfig')
  const wrong: string[] = []
  const need = (name: string, holds: boolean) => {
    if (!holds) wrong.push(name)
  }
  for (const name of exact) need(name, same(fieldOf(host, name), body.HostConfig[name]))
  for (const name of empty) need(name, isEmpty(fieldOf(host, name)))
  // A field that this list does not know is a way to loosen that we have not judged.
  if (isRecord(host))
    for (const name of Object.keys(host)) need(name, known.has(name) || isEmpty(host[name]))
  need('Ulimits', same(byName(fieldOf(host, 'Ulimits')), byName(body.HostConfig['Ulimits'])))
  need(
    'Runtime',
    ['""', undefined, expected.defaultRuntime].includes(maybeText(fieldOf(host, 'Runtime'))),
  )
  need('MaskedPaths', includesAll(fieldOf(host, 'MaskedPaths'), masked))
  need('ReadonlyPaths', includesAll(fieldOf(host, 'ReadonlyPaths'), readOnly))
  need('Isolation', ['""', 'default', undefined].includes(maybeText(fieldOf(host, 'Isolation'))))
  need('Mounts', sameMounts(fieldOf(inspected, 'Mounts'), expected.binds))
  need('HostConfig.Mounts', sameRequested(fieldOf(host, 'Mounts'), expected.binds))
  need('User', fieldOf(inspected, 'Config', 'User') === body.User)
  need('Image', fieldOf(inspected, 'Image') === expected.imageId)
  need('AppArmorProfile', fieldOf(inspected, 'AppArmorProfile') !== 'unconfined')
  need('Labels', includesFields(fieldOf(inspected, 'Config', 'Labels'), body.Labels))
  need('Env', sameEnv(fieldOf(inspected, 'Config', 'Env'), expected))
  for (const name of ['Entrypoint', 'Cmd', 'WorkingDir'] as const) {
    if (body[name] !== undefined) need(name, same(fieldOf(inspected, 'Config', name), body[name]))
  }
  need('ExecIDs', isEmpty(fieldOf(inspected, 'ExecIDs')))
  need('Networks', onlyOwnNetwork(fieldOf(inspected, 'NetworkSettings', 'Networks')))
  return wrong
}

const known = new Set([
  ...exact,
  ...empty,
  ...['Ulimits', 'Runtime', 'MaskedPaths', 'ReadonlyPaths', 'Isolation', 'Mounts', 'LogConfig'],
  // Shares and preferences among containers: none of them lets one reach further.
  ...[
    'CpuShares',
    'CpusetCpus',
    'CpusetMems',
    'BlkioWeight',
    'MemoryReservation',
    'MemorySwappiness',
  ],
  // Sizes of a console that does not exist.
  'ConsoleSize',
])

/** Equal as JSON; null, a missing field and an empty list or text are the same to an engine. */
function same(actual: unknown, wanted: unknown): boolean {
  if (isEmpty(actual) && isEmpty(wanted)) return true
  return canonical(actual ?? null) === canonical(wanted ?? null)
}

function isEmpty(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === 0 || value === false)
    return true
  if (Array.isArray(value)) return value.length === 0
  return isRecord(value) && Object.keys(value).length === 0
}

function maybeText(value: unknown): string | undefined {
  return value === undefined || value === null ? undefined : textOf(value) || canonical(value)
}

function byName(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(canonical).toSorted() : []
}

function includesAll(actual: unknown, wanted: readonly string[]): boolean {
  return Array.isArray(actual) && wanted.every((path) => actual.includes(path))
}

function includesFields(actual: unknown, wanted: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => fieldOf(actual, key) === value)
}

/** The mounts as the engine made them: our binds, and nothing else. */
function sameMounts(actual: unknown, binds: readonly Bind[]): boolean {
  if (!Array.isArray(actual)) return binds.length === 0 && isEmpty(actual)
  const made = actual.map((mount: unknown) =>
    canonical([
      ...['Type', 'Source', 'Destination', 'RW', 'Propagation'].map((name) => fieldOf(mount, name)),
    ]),
  )
  const wanted = binds.map((bind) =>
    canonical(['bind', bind.source, bind.target, bind.readOnly !== true, 'rprivate']),
  )
  return canonical(made.toSorted()) === canonical(wanted.toSorted())
}

function sameRequested(actual: unknown, binds: readonly Bind[]): boolean {
  const pairs = Array.isArray(actual)
    ? actual.map((mount: unknown) =>
        canonical([
          ...['Type', 'Source', 'Target'].map((name) => fieldOf(mount, name)),
          // Engines leave the field out when it is false.
          fieldOf(mount, 'ReadOnly') === true,
        ]),
      )
    : []
  const wanted = binds.map((bind) =>
    canonical(['bind', bind.source, bind.target, bind.readOnly === true]),
  )
  return canonical(pairs.toSorted()) === canonical(wanted.toSorted())
}

/** Every variable is ours or the image's, and all of ours are there. */
function sameEnv(actual: unknown, expected: Expected): boolean {
  if (!Array.isArray(actual)) return false
  const ours = Array.isArray(expected.body['Env']) ? expected.body['Env'].map(String) : []
  const allowed = new Set([...ours, ...expected.imageEnv])
  return (
    ours.every((line) => actual.includes(line)) && actual.every((line) => allowed.has(String(line)))
  )
}

/** No network at all, or the one called `none`, without an address. */
function onlyOwnNetwork(networks: unknown): boolean {
  if (isEmpty(networks)) return true
  if (!isRecord(networks)) return false
  return Object.entries(networks).every(
    ([name, network]) => name === 'none' && isEmpty(fieldOf(network, 'IPAddress')),
  )
}
