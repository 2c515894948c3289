/** docs/configuration.md and docs/errors.md, made from the tables so that they cannot differ from them. */
import { refusals } from '../errors.ts'
import { variables } from './environment.ts'
import { problemMeanings } from './problems.ts'
import type { Row } from './row.ts'
import { spellings } from './schema.ts'
import { isAvailable, rowsByPath } from './tree.ts'

const made = '<!-- Made by "npm run docs" from the tables in src; edit those. -->'

function cell(text: string): string {
  return text.replaceAll('|', String.raw`\|`)
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.map(cell).join(' | ')} |`
  return [line(head), `|${head.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n')
}

function defaultOf(row: Row<unknown>): string {
  return row.default === undefined ? '' : `\`${JSON.stringify(row.reader.write(row.default))}\``
}

function remarks(row: Row<unknown>): string {
  const parts = [
    ...(row.secret ? ['Secret.'] : []),
    ...(row.restart === true ? ['A change needs a restart.'] : []),
    ...(row.env === undefined ? [] : [`Also from ${row.env.join(', ')}.`]),
    ...(isAvailable(row) && row.since !== undefined
      ? [`Some values come with a later version (${row.since.what}).`]
      : []),
  ]
  return [row.doc, ...parts].join(' ')
}

/** Type and bounds; words whose capability comes later stand apart. */
function valueOf({ reader, since }: Row<unknown>): string {
  const words = reader.schema['enum']
  if (!Array.isArray(words) || since?.needs === undefined) return reader.about
  const { needs } = since
  const spell = (some: readonly unknown[]): string =>
    some.map((word) => `"${String(word)}"`).join(', ')
  const now = words.filter((word) => !needs(word))
  return `${spell(now)} (later: ${spell(words.filter((word) => needs(word)))})`
}

function keys(): string {
  const available = [...rowsByPath].filter(([, row]) => isAvailable(row))
  const groups = Object.groupBy(available, ([path]) => path.split('.')[0] ?? '')
  return Object.entries(groups)
    .map(([group, rows = []]) => {
      const body = rows.map(([path, row]) => [
        `\`${path}\``,
        valueOf(row),
        defaultOf(row),
        remarks(row),
      ])
      return `### ${group}\n\n${table(['Key', 'Value', 'Default', 'What it does'], body)}`
    })
    .join('\n\n')
}

function laterKeys(): string {
  const later = [...rowsByPath].filter(([, row]) => !isAvailable(row))
  const rows = later.map(([path, row]) => [`\`${path}\``, row.since?.what ?? '', row.doc])
  return table(['Key', 'Comes with', 'What it will do'], rows)
}

const rules = `One JSON5 file. Comments and trailing commas are welcome. \`hardshell config check\` judges it without starting
anything, \`hardshell config show\` prints what is in force (secrets masked), and \`hardshell config schema\` prints a JSON Schema
for your editor.

The first of these is read: the file named by \`--config\`; the file named by \`HARDSHELL_CONFIG\`; \`config.json5\`, then
\`config.json\`, in the home (\`HARDSHELL_HOME\`, or \`~/.hardshell\`). Without any, the defaults below are in force and the token
must come from the environment.

## Rules

- An accepted key is an enforced key. A key that does not exist is an error that names the nearest one; a key or value whose
  capability does not exist in this version is an error too (\`NOT_AVAILABLE\`). All problems are told at once.
- The same key twice in one object is an error.
- \`\${VAR}\` in a text is replaced by that variable, once, after parsing, and never in keys. A variable that is not set is an
  error. A list entry that is exactly \`\${VAR}\` is split at commas: \`["\${TEAM_EMAILS}"]\`.
- \`{ "file": "/run/secrets/x" }\` stands wherever a secret may stand; one line end at the end of the file is dropped. A
  relative path starts at the folder of the configuration file.
- \`{ "encrypted": "eyJ…" }\` is a secret that \`hardshell config set\` sealed; [secrets](secrets.md) has the whole of it.
- Sizes are a whole number with \`KB\`, \`MB\` or \`GB\` (powers of 1024; \`KiB\`, \`MiB\`, \`GiB\` are the same). Durations are a whole
  number with \`ms\`, \`s\`, \`m\`, \`h\`, \`d\` or \`w\`. A bare number, zero and a negative value are refused: zero never means "off".

## Files

A file of ours is a regular file that belongs to the user of Hardshell, has one name, mode 0600, and is no link. In the home
the folder must have mode 0700; elsewhere no other user may be able to write in it. \`serve\` puts a wrong mode right where the
file is ours, and refuses everything else with the command that mends it; \`config check\` only reports.

A file in \`/run/secrets\`, in \`$CREDENTIALS_DIRECTORY\` or in a Kubernetes secret volume belongs to the platform: its owner is
root or the user of Hardshell, group and others may not write it, and links stay inside the mount. It is never mended.

With \`security.followSymlinks: true\` the configuration and the files that it names may be symbolic links: each ours or root's, on
a way where no other user can replace anything, to a file that all of the above holds for and that is not mended. A linked
configuration must say so itself. [Why](decisions/0019-links-are-followed-by-word-of-the-file-behind-them.md), and what is never reached through a link.`

const particular = `## Particular values

\`gateway.bind\`: \`"loopback"\` is 127.0.0.1. \`"container"\` is the address of the container that Hardshell runs in, and is refused
elsewhere; publish it as \`127.0.0.1:8080:8080\`. \`"0.0.0.0"\` and \`"::"\` are refused unless
\`gateway.dangerouslyBindAllInterfaces\` is true. An address that this machine does not have is told at start.

\`gateway.auth.token\` must be at least 32 characters with 20 different ones, or at least 64 hexadecimal digits with 10 different
ones, and no example, repeated block or keyboard run. The file wins over the environment.

\`gateway.dmPolicies.denyByDefault: false\` with an empty allowlist is an error, because it asks for anyone to be let in.

\`gateway.controlUi.allowInsecureAuth\` and \`dangerouslyDisableDeviceAuth\` are never honoured: \`true\` is reported as CRITICAL,
\`false\` as a line to remove.

\`agent.upstream\` and \`agent.image\` exclude each other. With neither, the agent is expected at http://127.0.0.1:18789.

\`agents.defaults.sandbox.mode\`: in this version one cell serves all sessions, and that is what the absent key means. The modes
that give sessions cells of their own, \`"non-main"\` and \`"all"\`, come with a later version and are refused until then.
\`"off"\` is accepted with \`agent.upstream\`, where no cell of ours exists, and reported as CRITICAL; with \`agent.image\` it is an
error. \`agents.defaults.sandbox.docker.*\` may only tighten the cell: the defaults are also the loosest values.`

/** The text of docs/configuration.md. */
export function configurationPage(): string {
  const names = Object.entries(variables).map(([name, doc]) => [`\`${name}\``, doc])
  const same = Object.entries(spellings).map(([from, to]) => [`\`${from}\``, `\`${to}\``])
  return [
    '# Configuration',
    made,
    rules,
    particular,
    `## Environment\n\n${table(['Variable', 'Meaning'], names)}\n\nAn empty variable counts as unset.`,
    `## Keys\n\n${keys()}`,
    `## Keys of later versions\n\nUsing one of these is an error in this version.\n\n${laterKeys()}`,
    `## Other spellings\n\n${table(['Spelling', 'Same as'], same)}`,
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}

/** The text of docs/errors.md. */
export function errorsPage(): string {
  const refused = Object.entries(refusals).map(([code, { status, say, fix }]) => [
    `\`${code}\``,
    String(status),
    say,
    fix,
  ])
  const problems = Object.entries(problemMeanings).map(([code, meaning]) => [
    `\`${code}\``,
    meaning,
  ])
  return [
    '# Refusals and problems',
    made,
    `A refused request is answered with \`application/problem+json\` (RFC 9457): a stable \`code\`, a \`requestId\`, and no cause.
The cause is in the log under that id. All refusals for a missing, wrong, expired or revoked credential look alike.`,
    `## Refusals\n\n${table(['Code', 'Status', 'What the client is told', 'What the owner can do'], refused)}`,
    `## Problems of a configuration

\`hardshell config check\` and \`hardshell serve\` tell every problem at once, each with its path and remedy. A file problem names
the command that mends it.\n\n${table(['Code', 'Meaning'], problems)}`,
    '',
  ]
    .join('\n\n')
    .replace(/\n+$/, '\n')
}
