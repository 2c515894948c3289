/** The example files of deploy/: the two templates that the project started from, explained by the table. */
import type { Node } from './tree.ts'
import { isAvailable, rowsByPath, tree } from './tree.ts'

interface Example {
  /** What it is for, one line. */
  readonly title: string
  readonly values: Readonly<Record<string, unknown>>
}

/** The examples by file name. */
export const examples: Readonly<Record<string, Example>> = {
  'deploy/config.minimal.json5': {
    title: 'The minimal secure configuration.',
    values: {
      gateway: {
        bind: '127.0.0.1',
        port: 8080,
        auth: { mode: 'token', token: '${MOLTBOT_TOKEN}' },
        dmPolicies: { enabled: true, denyByDefault: true, allowlist: [] },
      },
      security: {
        followSymlinks: false,
        maxRequestSize: '10MB',
        rateLimiting: { enabled: true, requestsPerMinute: 60 },
      },
      plugins: { trustLevel: 'verified-only' },
    },
  },
  'deploy/config.team.json5': {
    title: 'A team in production.',
    values: {
      gateway: {
        bind: '127.0.0.1',
        port: 8080,
        auth: { mode: 'token', token: '${MOLTBOT_TOKEN}', tokenRotation: '7d' },
        dmPolicies: { enabled: true, denyByDefault: true, allowlist: ['${TEAM_EMAILS}'] },
        groupPolicies: { enabled: true, mentionGating: true },
      },
      security: {
        followSymlinks: false,
        auditLogging: true,
        maxRequestSize: '50MB',
        rateLimiting: { enabled: true, requestsPerMinute: 120 },
      },
      plugins: { enabled: ['core', 'git', 'testing'], trustLevel: 'verified-only' },
      monitoring: { enabled: true, endpoint: '${MONITORING_URL}' },
    },
  },
}

function spell(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(spell).join(', ')}]`
  return typeof value === 'string' ? `'${value}'` : JSON.stringify(value)
}

/** Says why a value cannot be used in this version, if it cannot. */
function laterOf(path: string, value: unknown): string | undefined {
  const row = rowsByPath.get(path)
  if (row === undefined) return undefined
  const later = !isAvailable(row) || row.since?.needs?.(value) === true
  return later ? row.since?.what : undefined
}

function lines(node: Node, values: object, at: string, indent: string): readonly string[] {
  return Object.entries(values).flatMap(([name, value]: readonly [string, unknown]) => {
    const path = at === '' ? name : `${at}.${name}`
    const child = node.children.get(name)
    if (child?.row === undefined) {
      const below = child === undefined ? [] : lines(child, value as object, path, `${indent}  `)
      return [`${indent}${name}: {`, ...below, `${indent}},`]
    }
    const later = laterOf(path, value)
    const note = later === undefined ? [] : [`${indent}// Not available in this version: ${later}.`]
    return [`${indent}// ${child.row.doc}`, ...note, `${indent}${name}: ${spell(value)},`]
  })
}

/** The text of an example file. */
export function exampleText({ title, values }: Example): string {
  return [
    `// ${title} Made by "npm run docs" from the table of settings; docs/configuration.md has every key.`,
    '{',
    ...lines(tree, values, '', '  '),
    '}',
    '',
  ].join('\n')
}
