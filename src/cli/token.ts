/** `hardshell token new | list | rotate | revoke | inspect`. */
import { hash } from 'node:crypto'
import { callAdmin } from '../admin/client.ts'
import { parseDuration } from '../config/readers.ts'
import { Failure } from '../errors.ts'
import type { TokenInspected, TokenList, TokenMade } from '../identity/operations.ts'
import type { TokenView } from '../identity/token-record.ts'
import type { Rotated } from '../identity/token-rotation.ts'
import { readToken } from '../identity/token-text.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { instant, table } from './table.ts'

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
  summary: 'List tokens by fingerprint, scope, age, last use and end; never the tokens.',
  run: async ({ json, io }) => {
    const answer = (await callAdmin(io.env, 'token.list')) as TokenList
    if (json) {
      io.out(JSON.stringify(answer))
      return 0
    }
    for (const line of tokenTable(answer)) io.out(line)
    return 0
  },
}

const rotate: Command = {
  name: 'token rotate',
  summary: 'Make the successor of a token and print it once; the old one is good for the grace.',
  positionals: '<id|name>',
  options: {
    now: {
      type: 'boolean',
      summary: 'refuse the old token at once, and close what it opened',
    },
  },
  run: async ({ positionals, options, json, io }): Promise<ExitCode> => {
    const since = io.startedAt === undefined ? {} : { since: io.startedAt }
    const input = { token: positionals[0], ...since }
    const rotated = (await callAdmin(io.env, 'token.rotate', input)) as Rotated
    // The new token is out before the old one ends: whatever fails from here on, one of them works.
    if (!json) io.out(rotated.token)
    const { view, token } = rotated
    const previous = options['now'] === true ? await retireNow(rotated, json, io) : rotated.previous
    if (json) io.out(JSON.stringify({ ...view, token, previous }))
    else io.err(`${describe(view)}. It is shown only now. ${describeOld(previous)}`)
    return 0
  },
}

/** Ends the old token; when that fails the new one must be shown all the same. */
async function retireNow(
  { token, view, previous }: Rotated,
  json: boolean,
  io: Call['io'],
): Promise<TokenView> {
  try {
    return (await callAdmin(io.env, 'token.retire', { token: previous.id })) as TokenView
  } catch (thrown) {
    if (json) io.out(JSON.stringify({ ...view, token, previous }))
    throw thrown
  }
}

const inspect: Command = {
  name: 'token inspect',
  summary: 'Read a token from standard input and say what it is; exit 1 when it is not good here.',
  run: async ({ json, io }): Promise<ExitCode> => {
    if (io.interactive) io.err('Paste the token, then a line end and Ctrl-D:')
    const token = (await io.stdin()).trim()
    if (token === '') {
      throw new Failure('TOKEN_INPUT', 'There is no token on standard input.', { exitCode: 2 })
    }
    const text = readToken(token)
    const digest = hash('sha256', token, 'base64')
    const answer = (await callAdmin(io.env, 'token.inspect', { digest })) as TokenInspected
    const { view } = answer
    if (json) {
      const format = text === undefined ? (otherForm(token)?.format ?? 'other') : 'hsk'
      const intact = text === undefined ? {} : { id: text.id, checksum: text.intact }
      const found = view === undefined ? {} : { view }
      io.out(JSON.stringify({ format, ...intact, known: view !== undefined, ...found }))
    } else for (const line of inspected(token, answer)) io.out(line)
    return view?.status === 'good' ? 0 : 1
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
export const tokenCommands: readonly Command[] = [newToken, list, rotate, revoke, inspect]

function describe(view: TokenView): string {
  const until = view.endsAt === undefined ? 'until revoked' : `until ${instant(view.endsAt)}`
  const due = view.dueAt === undefined ? '' : `, due for rotation ${instant(view.dueAt)}`
  const limits = onlyOf(view).length === 0 ? '' : `, only ${onlyOf(view).join(' ')}`
  return `token ${view.name} (${view.id}), scope ${view.scopes.join(' ')}${limits}, good ${until}${due}`
}

function describeOld({ id, status, endsAt }: TokenView): string {
  return status === 'good' && endsAt !== undefined
    ? `The old one (${id}) is good until ${instant(endsAt, 'seconds')}.`
    : `The old one (${id}) is refused from now on.`
}

const onlyOf = ({ paths, networks }: TokenView) => [...paths, ...networks]

/** What is no token of the table by its form; nothing is known about whether it is good. */
function otherForm(token: string): { readonly format: string; readonly says: string } | undefined {
  if (/^hss_[A-Za-z0-9_-]{43}$/.test(token)) {
    return { format: 'hss', says: 'the secret of a password session, which is in no list' }
  }
  return /^eyJ[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/.test(token)
    ? { format: 'jwt', says: 'a JWT, which is judged in mode "jwt" when it is used' }
    : undefined
}

/** What a token is, a line for each thing. */
function inspected(token: string, { view, now }: TokenInspected): string[] {
  const text = readToken(token)
  const checksum = text?.intact === true ? 'the checksum fits' : 'the checksum does not fit'
  const format =
    text === undefined
      ? (otherForm(token)?.says ?? "not of Hardshell's making")
      : `hsk_, id ${text.id}, ${checksum}`
  if (view === undefined) return [`format   ${format}`, 'known    no']
  return [
    `format   ${format}`,
    `known    ${view.kind} token ${view.name} (${view.id}), fingerprint ${view.fingerprint}`,
    `status   ${view.status}${view.successorId === undefined ? '' : `, its successor is ${view.successorId}`}`,
    `scope    ${view.scopes.join(' ')}`,
    `only     ${onlyOf(view).join(' ') || '-'}`,
    `age      ${age(now - view.createdAt)}, since ${instant(view.createdAt)}`,
    `due      ${dueOf(view, now)}`,
    `expires  ${endOf(view)}`,
    `used     ${view.lastUsedAt === undefined ? 'never' : instant(view.lastUsedAt)}`,
  ]
}

function tokenTable({ tokens, now }: TokenList): readonly string[] {
  const head = [
    'ID',
    'NAME',
    'FINGERPRINT',
    'SCOPE',
    'STATUS',
    'AGE',
    'DUE',
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
    age(now - view.createdAt),
    dueOf(view, now),
    view.lastUsedAt === undefined ? 'never' : instant(view.lastUsedAt),
    endOf(view),
    onlyOf(view).join(' ') || '-',
  ])
  return table(head, rows)
}

/** When a successor is due; once there is one, which. */
function dueOf({ dueAt, successorId }: TokenView, now: number): string {
  if (successorId !== undefined) return `by ${successorId}`
  if (dueAt === undefined) return '-'
  return dueAt <= now ? 'now' : instant(dueAt)
}

/** When it is refused, whatever the reason. */
function endOf({ endsAt, status }: TokenView): string {
  if (endsAt !== undefined) return instant(endsAt)
  return status === 'good' ? 'never' : '-'
}

/** The largest whole unit, as people say it. */
function age(ms: number): string {
  const minutes = Math.max(0, Math.floor(ms / 60_000))
  if (minutes >= 1440) return `${Math.floor(minutes / 1440)}d`
  return minutes >= 60 ? `${Math.floor(minutes / 60)}h` : `${minutes}m`
}
