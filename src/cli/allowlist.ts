/** `hardshell allowlist list | add | remove | review`. */
import { callAdmin } from '../admin/client.ts'
import { parseDuration } from '../config/readers.ts'
import { Failure } from '../errors.ts'
import type { ReviewFinding, SenderView } from '../senders/operations.ts'
import type { Command, ExitCode, OptionRow } from './command.ts'
import { instant, printable, table } from './table.ts'

const account: OptionRow = {
  type: 'string',
  value: 'ACCOUNT',
  summary: 'the account of the channel, where it has several',
}

const list: Command = {
  name: 'allowlist list',
  summary: 'List who may speak on channels: by the configuration, by "allowlist add", by pairing.',
  options: {
    channel: { type: 'string', value: 'CHANNEL', summary: 'only this channel, like telegram' },
  },
  run: async ({ options: { channel }, json, io }): Promise<ExitCode> => {
    const input = channel === undefined ? {} : { channel }
    const answer = await callAdmin(io.env, 'allowlist.list', input)
    const { senders } = answer as { readonly senders: readonly SenderView[] }
    if (json) io.out(JSON.stringify(answer))
    else if (senders.length === 0) io.out('nobody is listed')
    else for (const line of lines(senders)) io.out(line)
    return 0
  },
}

const add: Command = {
  name: 'allowlist add',
  summary: 'Let a sender in by id, for direct chats and groups; it takes effect at once.',
  positionals: '<channel> <sender>',
  options: {
    account,
    expires: { type: 'string', value: '30d', summary: 'how long; without it, until removed' },
    note: { type: 'string', value: 'TEXT', summary: 'your own words, shown in lists' },
  },
  run: async ({ positionals: [channel, sender], options, json, io }) => {
    const { account: of, expires, note } = options
    const view = (await callAdmin(io.env, 'allowlist.add', {
      channel,
      sender,
      ...(of === undefined ? {} : { account: of }),
      ...(expires === undefined ? {} : { expiresInMs: durationOf(expires, '--expires') }),
      ...(note === undefined ? {} : { note }),
    })) as SenderView
    const until =
      view.expiresAt === undefined ? 'until removed' : `until ${instant(view.expiresAt)}`
    const who = `${view.channel}:${printable(view.sender)}`
    io.out(json ? JSON.stringify(view) : `${who} may speak ${until}`)
    return 0
  },
}

const remove: Command = {
  name: 'allowlist remove',
  summary: 'Take a sender off, paired or added; it takes effect at once.',
  positionals: '<channel> <sender>',
  options: { account },
  run: async ({ positionals: [channel, sender], options, json, io }): Promise<ExitCode> => {
    const { account: of } = options
    const input = { channel, sender, ...(of === undefined ? {} : { account: of }) }
    const answer = (await callAdmin(io.env, 'allowlist.remove', input)) as {
      readonly channel: string
      readonly sender: string
      readonly removed: readonly object[]
      readonly stillListed: readonly string[]
    }
    const { stillListed, removed } = answer
    const who = `${answer.channel}:${printable(answer.sender)}`
    if (json) io.out(JSON.stringify(answer))
    else if (removed.length > 0) io.out(`${who} is off the list`)
    if (stillListed.length === 0) return 0
    // The configuration is the owner's own file: who is listed there is not taken off behind its back.
    if (!json) io.err(`${who} still may speak: remove the entry in ${stillListed.join(' and ')}`)
    return 1
  },
}

const review: Command = {
  name: 'allowlist review',
  summary: 'Show entries that are unused, expired, or of an account that is not configured.',
  options: {
    unused: { type: 'string', value: '30d', summary: 'unused for how long; 30d if not said' },
  },
  run: async ({ options: { unused }, json, io }): Promise<ExitCode> => {
    const input = unused === undefined ? {} : { unusedMs: durationOf(unused, '--unused') }
    const answer = await callAdmin(io.env, 'allowlist.review', input)
    const { findings } = answer as { readonly findings: readonly ReviewFinding[] }
    if (json) io.out(JSON.stringify(answer))
    else if (findings.length === 0) io.out('every entry is in use')
    else for (const line of lines(findings)) io.out(line)
    return findings.length === 0 ? 0 : 1
  },
}

/** The rows of `hardshell allowlist`. */
export const allowlistCommands: readonly Command[] = [list, add, remove, review]

function lines(views: readonly (SenderView & { readonly why?: string })[]): readonly string[] {
  const reviewed = views.some(({ why }) => why !== undefined)
  const head = ['CHANNEL', 'ACCOUNT', 'SENDER', 'FROM', 'SINCE', 'LAST SPOKE', 'EXPIRES', 'NOTE']
  const rows = views.map((view) => [
    ...(reviewed ? [view.why ?? ''] : []),
    view.channel,
    view.account,
    printable(view.sender),
    view.from,
    view.since === undefined ? '-' : instant(view.since),
    view.lastSpoke === undefined ? 'never' : instant(view.lastSpoke),
    view.expiresAt === undefined ? 'never' : instant(view.expiresAt),
    view.note ?? '-',
  ])
  return table(reviewed ? ['WHY', ...head] : head, rows)
}

function durationOf(value: unknown, option: string): number {
  const { value: ms, because } = parseDuration(value)
  if (because === undefined) return ms
  throw new Failure('BAD_USAGE', `${option} ${because}.`, { exitCode: 2 })
}
