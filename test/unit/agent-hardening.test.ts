/** The body of a container and the comparison with what the engine made of it. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { bodyOf, mismatches, type ContainerPlan, type Expected } from '../../src/agent/hardening.ts'

const plan: ContainerPlan = {
  image: 'sha256:1',
  entrypoint: ['/bot'],
  args: ['--serve'],
  env: ['A=1'],
  workdir: '/app',
  uid: 1000,
  gid: 1000,
  labels: { role: 'agent' },
  network: 'container:portal',
  binds: [{ source: '/home/me/work', target: '/home/me/work' }],
  volumes: ['/data'],
  memoryBytes: 2 ** 28,
  cpus: 1.5,
  pidsLimit: 100,
  openFiles: 1024,
  tmpBytes: 2 ** 20,
  swaps: false,
  seccomp: '{}',
}
const expected: Expected = {
  body: bodyOf(plan),
  imageId: 'sha256:1',
  defaultRuntime: 'runc',
  binds: plan.binds,
  imageEnv: ['PATH=/bin'],
}

interface Inspected {
  [field: string]: unknown
  Mounts: unknown[]
  Config: Record<string, unknown>
  HostConfig: Record<string, unknown>
  NetworkSettings: Record<string, unknown>
}

/** What an engine reports about a container that is as asked. */
function faithful(): Inspected {
  const { HostConfig, User, Labels, Entrypoint, Cmd, WorkingDir } = expected.body
  return structuredClone({
    Image: 'sha256:1',
    AppArmorProfile: '',
    ExecIDs: null,
    Mounts: [
      {
        Type: 'bind',
        Source: '/home/me/work',
        Destination: '/home/me/work',
        Mode: '',
        RW: true,
        Propagation: 'rprivate',
      },
    ],
    NetworkSettings: { Networks: {} },
    Config: {
      User,
      Labels: { ...Labels, other: 'x' },
      Env: ['A=1', 'PATH=/bin'],
      Entrypoint,
      Cmd,
      WorkingDir,
    },
    HostConfig: {
      ...HostConfig,
      CapAdd: null,
      Binds: null,
      Devices: [],
      Dns: [],
      PortBindings: null,
      PublishAllPorts: false,
      OomKillDisable: false,
      AutoRemove: false,
      GroupAdd: null,
      ConsoleSize: [0, 0],
      Runtime: 'runc',
      Isolation: '',
      MaskedPaths: [
        '/proc/asound',
        '/proc/acpi',
        '/proc/kcore',
        '/proc/keys',
        '/proc/timer_list',
        '/sys/firmware',
      ],
      ReadonlyPaths: ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'],
    },
  })
}

test('a container that is as asked has no mismatch', () => {
  assert.deepEqual(mismatches(expected, faithful()), [])
})

const changes: Readonly<Record<string, unknown>> = {
  NetworkMode: 'bridge',
  Privileged: true,
  ReadonlyRootfs: false,
  CapAdd: ['SYS_ADMIN'],
  CapDrop: [],
  SecurityOpt: ['no-new-privileges:true'],
  PidMode: 'host',
  IpcMode: 'host',
  UTSMode: 'host',
  UsernsMode: 'host',
  CgroupnsMode: 'host',
  CgroupParent: '/other',
  PidsLimit: 0,
  Memory: 2 ** 29,
  MemorySwap: -1,
  NanoCpus: 0,
  ShmSize: 2 ** 30,
  Tmpfs: { '/tmp': 'rw' },
  Init: false,
  RestartPolicy: { Name: 'always', MaximumRetryCount: 0 },
  Binds: ['/:/host'],
  VolumesFrom: ['other'],
  Devices: [{ PathOnHost: '/dev/kvm' }],
  DeviceRequests: [{ Driver: 'nvidia' }],
  DeviceCgroupRules: ['c 1:3 mr'],
  GroupAdd: ['docker'],
  ExtraHosts: ['a:1.2.3.4'],
  Dns: ['8.8.8.8'],
  PortBindings: { '80/tcp': [{ HostPort: '80' }] },
  PublishAllPorts: true,
  Sysctls: { 'net.ipv4.ip_forward': '1' },
  OomKillDisable: true,
  OomScoreAdj: -500,
  Ulimits: [],
  Runtime: 'other',
  MaskedPaths: [],
  ReadonlyPaths: [],
  Isolation: 'process',
  Links: ['/a:/b'],
  SomethingOfTomorrow: { loose: true },
}

for (const [field, value] of Object.entries(changes)) {
  test(`a container with another ${field} is a mismatch that names it`, () => {
    const made = faithful()
    made.HostConfig[field] = value
    const wrong = mismatches(expected, made)
    assert.ok(wrong.includes(field), wrong.join())
  })
}

const needed = [
  ...[
    'NetworkMode',
    'ReadonlyRootfs',
    'CapDrop',
    'SecurityOpt',
    'IpcMode',
    'CgroupnsMode',
    'PidsLimit',
  ],
  ...['Memory', 'MemorySwap', 'NanoCpus', 'ShmSize', 'Tmpfs', 'Init', 'RestartPolicy', 'Ulimits'],
  ...['MaskedPaths', 'ReadonlyPaths'],
]
for (const field of needed) {
  test(`a container without ${field} is a mismatch that names it`, () => {
    const made = faithful()
    delete made.HostConfig[field]
    assert.deepEqual(mismatches(expected, made), [field])
  })
}

test('a container with other mounts, another user, image, program or variable is a mismatch', () => {
  const cases: [string, (made: Inspected) => void][] = [
    ['Mounts', (made) => (made.Mounts = [])],
    [
      'Mounts',
      (made) =>
        made.Mounts.push({
          Type: 'volume',
          Destination: '/data',
          RW: true,
        }),
    ],
    ['HostConfig.Mounts', (made) => (made.HostConfig['Mounts'] = [])],
    ['User', (made) => (made.Config['User'] = '0:0')],
    ['Image', (made) => (made['Image'] = 'sha256:2')],
    ['Entrypoint', (made) => (made.Config['Entrypoint'] = ['/bin/sh'])],
    ['Cmd', (made) => (made.Config['Cmd'] = [])],
    ['WorkingDir', (made) => (made.Config['WorkingDir'] = '/')],
    ['Env', (made) => (made.Config['Env'] = ['A=1', 'PATH=/bin', 'LD_PRELOAD=/x'])],
    ['Env', (made) => (made.Config['Env'] = ['PATH=/bin'])],
    ['Labels', (made) => (made.Config['Labels'] = {})],
    ['AppArmorProfile', (made) => (made['AppArmorProfile'] = 'unconfined')],
    ['ExecIDs', (made) => (made['ExecIDs'] = ['1'])],
    [
      'Networks',
      (made) => (made.NetworkSettings['Networks'] = { bridge: { IPAddress: '172.17.0.2' } }),
    ],
  ]
  for (const [field, change] of cases) {
    const made = faithful()
    change(made)
    assert.deepEqual(mismatches(expected, made), [field])
  }
})

test('an answer that is not a container at all is a mismatch', () => {
  for (const nothing of [undefined, null, {}, [], 'x', { HostConfig: null }]) {
    assert.ok(mismatches(expected, nothing).length > 10)
  }
})

test('places that the image declares as volumes become bounded tmpfs', () => {
  assert.equal(
    (bodyOf(plan).HostConfig['Tmpfs'] as Record<string, string>)['/data'],
    'rw,noexec,nosuid,nodev,size=1048576,mode=1777',
  )
})

const profile = JSON.parse(
  readFileSync(new URL('../../deploy/seccomp.json', import.meta.url), 'utf8'),
) as {
  defaultAction: string
  archMap: { architecture: string; subArchitectures: string[] }[]
  syscalls: {
    names: string[]
    action: string
    args?: { index: number; value: number; op: string }[]
  }[]
}

test('the seccomp profile refuses by default, on both architectures and without their old ones', () => {
  assert.equal(profile.defaultAction, 'SCMP_ACT_ERRNO')
  assert.deepEqual(profile.archMap, [
    { architecture: 'SCMP_ARCH_X86_64', subArchitectures: [] },
    { architecture: 'SCMP_ARCH_AARCH64', subArchitectures: [] },
  ])
})

test('the seccomp profile allows no call that reaches around the cell', () => {
  const free = new Set(
    profile.syscalls
      .filter((rule) => rule.action === 'SCMP_ACT_ALLOW' && rule.args === undefined)
      .flatMap((rule) => rule.names),
  )
  const forbidden = [
    ...[
      'io_uring_setup',
      'io_uring_enter',
      'io_uring_register',
      'ptrace',
      'process_vm_readv',
      'process_vm_writev',
    ],
    ...[
      'unshare',
      'setns',
      'mount',
      'umount2',
      'pivot_root',
      'chroot',
      'move_mount',
      'open_tree',
      'fsopen',
      'fsmount',
    ],
    ...[
      'bpf',
      'perf_event_open',
      'userfaultfd',
      'keyctl',
      'add_key',
      'request_key',
      'open_by_handle_at',
    ],
    ...[
      'init_module',
      'finit_module',
      'kexec_load',
      'kexec_file_load',
      'reboot',
      'swapon',
      'syslog',
      'acct',
    ],
    ...[
      'clone',
      'clone3',
      'socket',
      'socketpair',
      'personality',
      'pidfd_getfd',
      'kcmp',
      'memfd_secret',
    ],
    ...[
      'settimeofday',
      'clock_settime',
      'sethostname',
      'ioperm',
      'iopl',
      'fanotify_init',
      'quotactl',
    ],
  ]
  assert.deepEqual(
    forbidden.filter((name) => free.has(name)),
    [],
  )
  assert.ok(free.size > 250, 'an agent needs the ordinary calls')
})

test('the seccomp profile allows sockets of four families only', () => {
  const families = profile.syscalls
    .filter((rule) => rule.names.includes('socket'))
    .map((rule) => rule.args?.find((arg) => arg.index === 0)?.value)
  assert.deepEqual(families, [1, 2, 10, 16])
})
