/** `channel.check` for the command line and the admin socket. */
import { Failure } from '../errors.ts'
import { checkAccount, type CheckDeps, type CheckRow, type CheckSubject } from './check.ts'

/** What the operation works on. */
export interface CheckContext extends CheckDeps {
  readonly subjects: readonly CheckSubject[]
}

/** What is known about one account of a channel. */
export interface ChannelChecked {
  readonly channel: string
  readonly rows: readonly CheckRow[]
}

/** The operation: a checked input in, an answer for `--json` out; fails with a Failure. */
export function checkOperations(
  context: CheckContext,
): Readonly<Record<string, (input: unknown) => Promise<unknown>>> {
  return {
    'channel.check': async (input): Promise<{ readonly channels: readonly ChannelChecked[] }> => {
      const name = nameOf(input)
      const subjects = context.subjects.filter(
        ({ channel }) => name === undefined || channel.name === name,
      )
      if (subjects.length === 0) {
        const known = [...new Set(context.subjects.map(({ channel }) => channel.name))]
        const hint = known.length === 0 ? 'none is' : `there are ${known.join(', ')}`
        throw new Failure(
          'CHANNEL_UNCONFIGURED',
          `channels.${name ?? '<name>'} is not configured; ${hint}.`,
        )
      }
      const channels = await Promise.all(
        subjects.map(async (subject) => ({
          channel: subject.channel.name,
          rows: await checkAccount(subject, context),
        })),
      )
      return { channels }
    },
  }
}

function nameOf(input: unknown): string | undefined {
  const name =
    typeof input === 'object' && input !== null && 'channel' in input ? input.channel : undefined
  if (name === undefined) return undefined
  if (typeof name === 'string' && /^[a-z-]{1,40}$/.test(name)) return name
  throw new Failure('CHANNEL_UNKNOWN', 'Name a channel like "telegram".', { exitCode: 2 })
}
