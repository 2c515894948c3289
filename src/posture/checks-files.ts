/** Checks of the files on disk, and of secrets that stand in them as plain text. */
import {
  inGroup,
  ofConfig,
  shellWord,
  when,
  type Check,
  type Found,
  type Look,
  type Row,
} from './check.ts'
import type { FileFact, FileRole, PostureContext } from './context.ts'

const octal = (mode: number) => mode.toString(8).padStart(3, '0')

/** Bits of others that a file of this role must not have. */
function modeRow(
  id: string,
  severity: Row['severity'],
  title: string,
  roles: readonly FileRole[],
  bits: number,
): Row {
  return {
    id,
    severity,
    title,
    remedy: 'Run "hardshell security audit --fix".',
    look: ({ files, uid }): Look => {
      const there = files.filter(({ role, kind }) => roles.includes(role) && kind !== 'link')
      if (there.length === 0) return { unmeasured: 'there is no such file yet' }
      // What the platform mounts may be read by others in there, but never changed.
      const wrong = ({ mode, platform }: FileFact) =>
        (mode & (platform ? bits & 0o022 : bits)) !== 0
      return there.filter(wrong).map((file) => open(file, uid))
    },
  }
}

function open({ path, mode, kind, platform, uid: owner }: FileFact, uid: number): Found {
  const wanted = kind === 'directory' ? 0o700 : 0o600
  const ours = owner === uid && !platform
  return {
    found: `${path} has mode ${octal(mode)}`,
    file: path,
    remedy: ours
      ? `Run: chmod ${octal(wanted)} ${shellWord(path)}`
      : 'Mount it so that others cannot write it (mode 0400).',
    ...(ours ? { fix: { kind: 'chmod', path, mode: wanted } } : {}),
  }
}

const ownRoles: readonly FileRole[] = [
  ...([
    'home',
    'config',
    'keys',
    'key',
    'token',
    'state',
    'audit',
    'record',
    'run',
    'socket',
  ] as const),
]
/** A link that the loader follows: `files.follow-links` tells it, and what it leads to is looked at beside it. */
const isFollowed = ({ role, kind, platform }: FileFact, { config }: PostureContext): boolean =>
  kind === 'link' &&
  !platform &&
  ['config', 'token'].includes(role) &&
  config?.security.followSymlinks === true
const ownFiles = ({ files }: PostureContext) =>
  files.filter(({ role, platform }) => ownRoles.includes(role) && !platform)

/** Home, configuration, keys, state, audit log, socket: mode, owner, links, and the folders above. */
export const fileChecks: readonly Check[] = inGroup('files', [
  modeRow('files.home-mode', 'HIGH', 'Only we can enter the home', ['home'], 0o077),
  modeRow(
    'files.config-writable',
    'CRITICAL',
    'Only we can change the configuration',
    ['config'],
    0o022,
  ),
  modeRow('files.config-readable', 'HIGH', 'Only we can read the configuration', ['config'], 0o044),
  modeRow('files.keys-mode', 'HIGH', 'Only we can enter the folder of keys', ['keys'], 0o077),
  modeRow('files.key-mode', 'CRITICAL', 'Only we can read the keys', ['key'], 0o077),
  modeRow('files.token-mode', 'CRITICAL', 'Only we can read the token file', ['token'], 0o077),
  modeRow('files.state-mode', 'HIGH', 'Only we can read the state', ['state'], 0o077),
  modeRow('files.audit-mode', 'HIGH', 'Only we can enter the audit log', ['audit'], 0o077),
  modeRow('files.record-mode', 'MEDIUM', 'Only we can read the records', ['record'], 0o077),
  modeRow('files.run-mode', 'HIGH', 'Only we can enter the folder of sockets', ['run'], 0o077),
  modeRow('files.socket-mode', 'HIGH', 'Only we can use the admin socket', ['socket'], 0o077),
  modeRow(
    'files.other-mode',
    'LOW',
    'Nothing else in the home is open to others',
    ['other'],
    0o077,
  ),
  {
    id: 'files.link',
    severity: 'HIGH',
    title: 'No file or folder of ours is a symbolic link',
    remedy: 'Put the file itself in the place of the link.',
    look: (context) =>
      ownFiles(context)
        .filter((file) => file.kind === 'link' && !isFollowed(file, context))
        .map(({ path }) => ({ found: `${path} is a symbolic link`, file: path })),
  },
  {
    id: 'files.names',
    severity: 'MEDIUM',
    title: 'No file of ours has a second name (hard link)',
    remedy: 'Remove the other names: find / -xdev -samefile FILE',
    look: (context) =>
      ownFiles(context)
        .filter(({ kind, names }) => kind === 'file' && names > 1)
        .map(({ path, names }) => ({ found: `${path} has ${names} names`, file: path })),
  },
  {
    id: 'files.kind',
    severity: 'HIGH',
    title: 'Files are files, and folders are folders',
    remedy: 'Move away what stands there.',
    look: (context) =>
      ownFiles(context)
        .filter(({ kind }) => kind === 'other')
        .map(({ path }) => ({ found: `${path} is neither a file nor a folder`, file: path })),
  },
  {
    id: 'files.owner',
    severity: 'HIGH',
    title: 'Everything of ours belongs to the user that runs Hardshell',
    remedy: 'Run chown on it.',
    look: (context) =>
      ownFiles(context)
        .filter(({ uid }) => uid !== context.uid)
        .map(({ path, uid }) => ({
          found: `${path} belongs to user ${uid}`,
          file: path,
          remedy: `Run: chown ${context.uid} ${shellWord(path)}`,
        })),
  },
  {
    id: 'files.parents',
    severity: 'HIGH',
    title: 'Nobody else can replace the home from above',
    remedy: 'Run chmod go-w on the folder, or move the home.',
    look: ({ files, uid }) =>
      files
        .filter(({ role, kind }) => role === 'parent' && kind !== 'link')
        .flatMap(({ path, mode, uid: owner }): readonly Found[] => {
          // With the sticky bit others may add names but not replace ours.
          const writable = (mode & 0o022) !== 0 && (mode & 0o1000) === 0
          if (!writable && (owner === uid || owner === 0)) return []
          const found = writable
            ? `${path} has mode ${octal(mode)}`
            : `${path} belongs to user ${owner}`
          return [{ found, file: path }]
        }),
  },
  {
    id: 'files.follow-links',
    severity: 'MEDIUM',
    title: 'Symbolic links are not followed',
    remedy: 'Set security.followSymlinks to false.',
    look: ofConfig(({ security }, context): Look => {
      if (!security.followSymlinks) return []
      const links = context.files.filter((file) => isFollowed(file, context))
      return [
        { found: 'security.followSymlinks is true' },
        ...links.map(({ path }) => ({
          found: `${path} is a symbolic link`,
          file: path,
          remedy: 'Put the file itself in the place of the link.',
        })),
      ]
    }),
  },
  {
    id: 'files.workspace',
    severity: 'MEDIUM',
    title: "The agent's workspace is a folder for it alone",
    remedy: 'Give the agent a folder of its own in agent.workspace.',
    look: ofConfig(({ agent: { workspace } }) =>
      when(
        workspace !== undefined &&
          /^\/(?:root|home\/[^/]+|home|srv|opt|var|mnt|media)?\/?$/.test(workspace),
        `agent.workspace ${workspace ?? ''} holds more than the agent needs`,
      ),
    ),
  },
])

/** Secrets in plain text and in the environment. */
export const secretChecks: readonly Check[] = inGroup('secrets', [
  {
    id: 'secrets.token-in-config',
    severity: 'MEDIUM',
    title: 'The token does not stand in the configuration as plain text',
    remedy: 'Put it into a file and name that in gateway.auth.tokenFile.',
    look: ({ secrets, configFile }) =>
      secrets
        .filter(({ from, path }) => from === 'config' && path === 'gateway.auth.token')
        .map(({ path }) => plain(path, configFile)),
  },
  {
    id: 'secrets.in-config',
    severity: 'MEDIUM',
    title: 'No other secret stands in the configuration as plain text',
    remedy: 'Seal it with "hardshell config set KEY", or use { "file": "…" } in its place.',
    look: ({ secrets, configFile }) =>
      secrets
        .filter(({ from, path }) => from === 'config' && path !== 'gateway.auth.token')
        .filter(({ path }) => !path.startsWith('agent.env') && !path.endsWith('passwordHash'))
        .map(({ path }) => plain(path, configFile)),
  },
  {
    id: 'secrets.agent-env',
    severity: 'LOW',
    title: "The agent's variables do not stand in the configuration as plain text",
    remedy: 'Seal them with "hardshell config set KEY", or use { "file": "…" } in their place.',
    look: ({ secrets, configFile }) =>
      secrets
        .filter(({ from, path }) => from === 'config' && path.startsWith('agent.env'))
        .filter(({ path }) => /key|token|secret|passw|credential/i.test(path))
        .map(({ path }) => plain(path, configFile)),
  },
  {
    id: 'secrets.copies',
    severity: 'MEDIUM',
    title: 'No copy of an older file shows a secret',
    remedy: 'Run "hardshell secrets init": it seals them.',
    look: ({ plainCopies }) =>
      plainCopies.map((path) => ({
        found: `${path} shows secrets in plain text`,
        file: path,
        fix: { kind: 'seal', path },
      })),
  },
  {
    id: 'secrets.environment',
    severity: 'INFO',
    title: 'Secrets come from files, not from the environment',
    remedy: 'Name a file instead: other processes of this user can read an environment.',
    look: ({ secrets }) =>
      secrets
        .filter(({ from }) => from === 'environment' || from === 'variable')
        .map(({ path, name }) => ({ found: `${path} comes from the variable ${name ?? ''}` })),
  },
])

function plain(path: string, file: string | undefined): Found {
  return {
    found: `${path} stands in the configuration as plain text`,
    ...(file === undefined ? {} : { file }),
  }
}
