/** `hardshell channel check`. */
import { callAdmin } from '../admin/client.ts'
import type { ChannelChecked } from '../senders/check-operations.ts'
import type { Command, ExitCode } from './command.ts'
import { table } from './table.ts'

const check: Command = {
  name: 'channel check',
  summary: 'Tell whether a channel is set up right; what nobody can know is "not measured".',
  positionals: '[name]',
  run: async ({ positionals: [channel], json, io }): Promise<ExitCode> => {
    const input = channel === undefined ? {} : { channel }
    const answer = await callAdmin(io.env, 'channel.check', input)
    const { channels } = answer as { readonly channels: readonly ChannelChecked[] }
    const rows = channels.flatMap(({ channel: name, rows: of }) =>
      of.map(({ account, check: what, result, says }) => [name, account, what, result, says]),
    )
    if (json) io.out(JSON.stringify(answer))
    else {
      for (const line of table(['CHANNEL', 'ACCOUNT', 'CHECK', 'RESULT', ''], rows)) io.out(line)
    }
    return rows.some(([, , , result]) => result === 'problem') ? 1 : 0
  },
}

/** The rows of `hardshell channel`. */
export const channelCommands: readonly Command[] = [check]
