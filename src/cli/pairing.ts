/** `hardshell pairing list | approve | deny | revoke`. */
import { callAdmin } from '../admin/client.ts'
import type { PairingRequest } from '../senders/book.ts'
import { gatewayPlace, type Place } from '../senders/place.ts'
import type { Command, ExitCode } from './command.ts'
import { instant, printable, table } from './table.ts'

type Shown = Omit<PairingRequest, 'replyTo'>

const channelOption = {
  channel: { type: 'string', value: 'CHANNEL', summary: 'only this channel, like telegram' },
} as const
const accountOption = {
  account: {
    type: 'string',
    value: 'ACCOUNT',
    summary: 'only this account of the channel; without it, every one',
  },
} as const

const list: Command = {
  name: 'pairing list',
  summary: 'List who asks to be let in, with the codes; a code is good for one hour.',
  options: channelOption,
  run: async ({ options, json, io }): Promise<ExitCode> => {
    const { channel } = options
    const answer = await callAdmin(io.env, 'pairing.list', channel === undefined ? {} : { channel })
    if (json) {
      io.out(JSON.stringify(answer))
      return 0
    }
    const { requests } = answer as { readonly requests: readonly Shown[] }
    if (requests.length === 0) io.out('nobody asks to be let in')
    else {
      const head = ['CHANNEL', 'ACCOUNT', 'SENDER', 'CODE', 'ASKED', 'EXPIRES']
      const rows = requests.map((one) => [
        one.channel,
        one.account,
        printable(one.sender),
        one.code,
        instant(one.createdAt),
        instant(one.expiresAt),
      ])
      for (const line of table(head, rows)) io.out(line)
    }
    return 0
  },
}

const approve: Command = {
  name: 'pairing approve',
  summary:
    'Let the sender in who has this code, for direct chats; on the channel "gateway", an identity. It takes effect at once.',
  positionals: '<channel> <code>',
  options: {
    notify: { type: 'boolean', summary: 'tell the sender, where the channel has a way' },
  },
  run: async ({ positionals: [channel, code], options, json, io }) => {
    const notify = options['notify'] === true
    const answer = await callAdmin(io.env, 'pairing.approve', { channel, code, notify })
    if (json) {
      io.out(JSON.stringify(answer))
      return 0
    }
    const { sender, account, notified } = answer as Place & {
      readonly sender: string
      readonly notified: boolean
    }
    const gateway = String(channel).toLowerCase() === gatewayPlace.channel
    const may = gateway ? 'may come in' : `may speak in direct chats (account ${account})`
    io.out(`${String(channel)}:${printable(sender)} ${may}`)
    if (notify && !notified) io.err('the sender could not be told: the channel has no way for it')
    return 0
  },
}

const deny: Command = {
  name: 'pairing deny',
  summary: 'Drop the request that has this code.',
  positionals: '<channel> <code>',
  run: async ({ positionals: [channel, code], json, io }) => {
    const answer = await callAdmin(io.env, 'pairing.deny', { channel, code })
    const { sender } = answer as { readonly sender: string }
    const who = `${String(channel)}:${printable(sender)}`
    io.out(json ? JSON.stringify(answer) : `dropped the request of ${who}`)
    return 0
  },
}

const revoke: Command = {
  name: 'pairing revoke',
  summary: 'Take an approved sender out again; it takes effect at once.',
  positionals: '<channel> <sender>',
  options: accountOption,
  run: async ({ positionals: [channel, sender], options, json, io }) => {
    const { account } = options
    const input = { channel, sender, ...(account === undefined ? {} : { account }) }
    const answer = await callAdmin(io.env, 'pairing.revoke', input)
    const found = answer as { readonly channel: string; readonly sender: string }
    const who = `${found.channel}:${printable(found.sender)}`
    io.out(json ? JSON.stringify(answer) : `${who} is not paired any more`)
    return 0
  },
}

/** The rows of `hardshell pairing`. */
export const pairingCommands: readonly Command[] = [list, approve, deny, revoke]
