/** A context in which every check was measured and has nothing to say, and ways to spoil it. */
import type { Config } from '../../src/config/schema.ts'
import { fill, tree } from '../../src/config/tree.ts'
import type { TokenView } from '../../src/identity/token-record.ts'
import { days } from '../../src/limits.ts'
import type { FileFact, PostureContext } from '../../src/posture/context.ts'
import { cellWith } from './posture-cells.ts'

/** The moment of every test. */
export const now = Date.UTC(2026, 10, 21, 12)

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** `over` laid over `base`, object by object. */
export function merge(base: unknown, over: unknown): unknown {
  if (!isObject(base) || !isObject(over)) return over
  const merged: Record<string, unknown> = { ...base }
  for (const [name, value] of Object.entries(over)) merged[name] = merge(base[name], value)
  return merged
}

/** The defaults, with an agent in a cell, and `over`. */
export function configWith(over: object = {}): Config {
  const pinned = { agent: { image: `bot@sha256:${'0'.repeat(64)}` } }
  return merge(merge(fill(tree, new Map()), pinned), over) as Config
}

/** The settings of one channel: the defaults and `over`. */
export function channelWith(over: object): unknown {
  const node = tree.children.get('channels')?.wildcard
  if (node === undefined) throw new Error('there are no channels')
  return merge(fill(node, undefined), over)
}

/** A token as `token list` shows it. */
export function tokenWith(over: Partial<TokenView> = {}): TokenView {
  return {
    id: 'default-01234567',
    name: 'default',
    kind: 'configured',
    fingerprint: '01234567',
    status: 'good',
    scopes: ['operate'],
    paths: [],
    networks: [],
    createdAt: now - days(1),
    ...over,
  }
}

/** A file of ours as it should be. */
export function fileWith(over: Partial<FileFact> & Pick<FileFact, 'role'>): FileFact {
  const folders = ['parent', 'home', 'keys', 'audit', 'run']
  const folder = folders.includes(over.role)
  const kind = folder ? 'directory' : over.role === 'socket' ? 'socket' : 'file'
  const mode = over.role === 'parent' ? 0o755 : folder ? 0o700 : 0o600
  const path = `/home/me/.hardshell/${over.role}`
  return { path, kind, mode, uid: 1000, names: 1, platform: false, ...over }
}

const roles = [
  ...(['parent', 'home', 'config', 'keys', 'key', 'token', 'state', 'audit'] as const),
  ...(['record', 'run', 'socket', 'other'] as const),
]

/** The files of a sound home, one of each role, and `more`. */
export const filesWith = (...more: (Partial<FileFact> & Pick<FileFact, 'role'>)[]) => [
  ...roles.map((role) => fileWith({ role })),
  ...more.map((one) => fileWith(one)),
]

/** A context in which all is well. */
export function contextWith(over: Partial<PostureContext> = {}): PostureContext {
  return {
    now,
    home: '/home/me/.hardshell',
    uid: 1000,
    configFile: '/home/me/.hardshell/config.json5',
    config: configWith({ gateway: { auth: { token: 'x'.repeat(43) } } }),
    configHash: 'aa',
    problems: [],
    notices: [],
    secrets: [],
    plainCopies: [],
    tokens: { value: [tokenWith()] },
    files: filesWith(),
    running: {
      url: 'http://127.0.0.1:8080',
      configHash: 'aa',
      agent: { state: 'ready', driver: 'docker' },
    },
    listening: { value: [{ address: '127.0.0.1', port: 8080 }] },
    engine: {
      value: {
        socketPath: '/var/run/docker.sock',
        mode: 0o660,
        version: '28.2.2',
        runc: '1.3.3',
        securityOptions: ['name=seccomp,profile=default', 'name=apparmor'],
        containers: [{ name: 'hardshell-h1-main-agent', wrong: [] }],
        image: true,
      },
    },
    agentConfig: {
      value: {
        file: '/home/me/.openclaw/openclaw.json',
        mode: 0o600,
        document: { gateway: { bind: 'loopback', auth: { token: '${TOKEN}' } } },
        sameToken: false,
      },
    },
    neighbours: { value: [] },
    plugins: {
      value: {
        dir: '/srv/plugins',
        plugins: [{ name: 'git', state: 'good', because: 'is trusted' }],
      },
    },
    audit: {
      value: {
        ok: true,
        records: 10,
        unsigned: 1,
        keyMissing: false,
        newestAt: now - 1000,
        checkpointAt: now - 2000,
        freeBytes: 10 * 1024 ** 3,
      },
    },
    tailscale: { value: { backend: 'Running', serves: true } },
    speakers: { value: ['telegram:1'] },
    node: '24.21.0',
    clockSynchronised: { value: true },
    probes: {
      value: {
        withoutToken: 401,
        wrongToken: 401,
        foreignHost: 421,
        agentDirect: 401,
        funnel: { value: false },
      },
    },
    cells: { value: [cellWith()] },
    suppressions: [],
    ...over,
  }
}
