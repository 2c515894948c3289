/** `hardshell token new | list | revoke`. */
import { callAdmin } from '../admin/client.ts'
import { parseDuration } from '../config/units.ts'
import { Failure } from '../errors.ts'
import type { TokenMade } from '../identity/operations.ts'
import type { TokenView } from '../identity/token-record.ts'
import type { Call, Command, ExitCode } from './command.ts'

const newToken: Command = {
  name: 'token new',
  summary: 'Make a token and print it once; only its hash is stored.',
  options: {
    name: { type: 'string', value: 'NAME', summary: 'what lists and the audit log call it' },
    scope: {
      type: 'string',
      value: 'SCOPE',
      summary: 'admin, operate (default), chat, read or metrics; may be repeated',
      multiple: true,
    },
    expires: {
      type: 'string',
      value: '30d',
      summary: 'how long it is good; without it, until revoked',
    },
    path: {
      type: 'string',
      value: '/PATH',
      summary: 'only this path and those below it; may be repeated',
      multiple: true,
    },
    cidr: {
      type: 'string',
      value: 'NETWORK',
      summary: 'only from this network, like 10.0.0.0/8; may be repeated',
      multiple: true,
    },
  },
  run: async ({ options, json, io }) => {
    const made = (await callAdmin(io.env, 'token.new', inputOf(options))) as TokenMade
    if (json) {
      io.out(JSON.stringify({ ...made.view, token: made.token }))
      return 0
    }
    // Only the token goes to standard output, so that it can be piped into a file.
    io.out(made.token)
    io.err(
      `${describe(made.view)}. It is shown only now; revoke it with "hardshell token revoke ${made.view.id}".`,
    )
    return 0
  },
}

function inputOf(options: Call['options']): Record<string, unknown> {
  const { name, scope, path, cidr, expires } = options
  return {
    ...(name === undefined ? {} : { name }),
    ...(scope === undefined ? {} : { scopes: scope }),
    ...(path === undefined ? {} : { paths: path }),
    ...(cidr === undefined ? {} : { networks: cidr }),
    ...(expires === undefined ? {} : { expiresInMs: durationOf(expires) }),
  }
}

function durationOf(value: unknown): number {
  const { value: ms, because } = parseDuration(value)
  if (because === undefined) return ms
  throw new Failure('TOKEN_INPUT', `--expires ${because}.`, { exitCode: 2 })
}

const list: Command = {
  name: 'token list',
  summary: 'List tokens by fingerprint, scope, age, last use and expiry; never the tokens.',
  run: async ({ json, io }) => {
    const answer = await callAdmin(io.env, 'token.list')
    if (json) {
      io.out(JSON.stringify(answer))
      return 0
    }
    const { tokens } = answer as { readonly tokens: readonly TokenView[] }
    for (const line of table(tokens)) io.out(line)
    return 0
  },
}

const revoke: Command = {
  name: 'token revoke',
  summary: 'Refuse a token from now on and close what it opened.',
  positionals: '<id|name>',
  run: async ({ positionals, json, io }): Promise<ExitCode> => {
    const view = (await callAdmin(io.env, 'token.revoke', { token: positionals[0] })) as TokenView
    io.out(
      json
        ? JSON.stringify(view)
        : `revoked ${view.name} (${view.id}, fingerprint ${view.fingerprint})`,
    )
    return 0
  },
}

/** The rows of `hardshell token`. */
export const tokenCommands: readonly Command[] = [newToken, list, revoke]

function describe(view: TokenView): string {
  const until = view.expiresAt === undefined ? 'until revoked' : `until ${instant(view.expiresAt)}`
  const only = [...view.paths, ...view.networks]
  const limits = only.length === 0 ? '' : `, only ${only.join(' ')}`
  return `token ${view.name} (${view.id}), scope ${view.scopes.join(' ')}${limits}, good ${until}`
}

function table(tokens: readonly TokenView[]): readonly string[] {
  const head = [
    'ID',
    'NAME',
    'FINGERPRINT',
    'SCOPE',
    'STATUS',
    'CREATED',
    'LAST USED',
    'EXPIRES',
    'ONLY',
  ]
  const rows = tokens.map((view) => [
    view.id,
    view.name,
    view.fingerprint,
    view.scopes.join(','),
    view.status,
    instant(view.createdAt),
    view.lastUsedAt === undefined ? 'never' : instant(view.lastUsedAt),
    view.expiresAt === undefined ? 'never' : instant(view.expiresAt),
    [...view.paths, ...view.networks].join(' ') || '-',
  ])
  const all = [head, ...rows]
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column]?.length ?? 0)))
  return all.map((row) =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** UTC to the minute: what a person compares with today. */
function instant(ms: number): string {
  return `${new Date(ms).toISOString().slice(0, 16)}Z`
}
