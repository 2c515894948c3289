/** The accounts of channels as a configuration gives them: what each one is, and who may speak to it. */
import { channelNamed } from '../channels/all.ts'
import type { Account, Channel, Mapping } from '../channels/channel.ts'
import type { Config } from './schema.ts'

type ChannelConfig = Config['channels'][string]
type AccountConfig = ChannelConfig['accounts'][string]
type OwnKeys = Omit<AccountConfig, 'accounts'>

/** Who may speak to one account; entries as the file spells them. */
export interface AccountPolicy {
  readonly dmPolicy: ChannelConfig['dm']['policy']
  readonly allowFrom: readonly string[]
  readonly groupPolicy: ChannelConfig['groupPolicy']
  readonly groupAllowFrom: readonly string[] | undefined
  readonly groups: ChannelConfig['groups']
  readonly requireMention: boolean | undefined
  /** Proven webhooks of this account. */
  readonly requestsPerMinute: number
  readonly messagesPerMinute: number
  readonly messagesPerDay: number
  readonly reply: string
  readonly repliesPerHour: number
}

/** One account of a channel. */
export interface ChannelAccount {
  readonly channel: Channel
  readonly account: Account
  readonly policy: AccountPolicy
  /** Where it stands in the file: `channels.telegram` or `channels.telegram.accounts.work`. */
  readonly path: string
}

/** The account that stands at the channel itself. */
export const rootAccount = 'default'

/**
 * Every account of every known channel. What an account is (path, secrets, addresses) stands at that account alone;
 * who may speak is the channel's where the account does not say it, `groups` as a whole. The channel itself is an
 * account when it has no others, or when it has what an account has.
 */
export function channelAccounts(config: Config): readonly ChannelAccount[] {
  return Object.entries(config.channels).flatMap(([name, root]) => {
    const channel = channelNamed(name)
    if (channel === undefined) return []
    const path = `channels.${name}`
    const others = Object.entries(root.accounts)
    const own = others.length === 0 || isAccount(channel, root)
    return [
      ...(own ? [accountOf(channel, rootAccount, path, root, root)] : []),
      ...others.map(([id, given]) => accountOf(channel, id, `${path}.accounts.${id}`, given, root)),
    ]
  })
}

function isAccount(channel: Channel, given: OwnKeys): boolean {
  const { webhookPath, apiRoot, listen } = given
  const settings = Object.keys(settingsOf(channel, given))
  return [webhookPath, apiRoot, listen].some((one) => one !== undefined) || settings.length > 0
}

function accountOf(
  channel: Channel,
  id: string,
  path: string,
  given: OwnKeys,
  root: ChannelConfig,
): ChannelAccount {
  const mapping = mappingOf(given)
  return {
    channel,
    path,
    account: {
      id,
      webhookPath: given.webhookPath ?? '',
      settings: settingsOf(channel, given),
      bot: {
        ids: botIds(channel, given),
        names: (given.botNames ?? []).map((one) => one.replace(/^@/, '')),
      },
      directRooms: new Set(given.directRooms ?? []),
      ...(mapping === undefined ? {} : { mapping }),
    },
    policy: {
      dmPolicy: given.dm.policy ?? root.dm.policy,
      allowFrom: given.allowFrom ?? root.allowFrom,
      groupPolicy: given.groupPolicy ?? root.groupPolicy,
      groupAllowFrom: given.groupAllowFrom ?? root.groupAllowFrom,
      groups: Object.keys(given.groups).length > 0 ? given.groups : root.groups,
      requireMention: given.requireMention ?? root.requireMention,
      requestsPerMinute: given.requestsPerMinute ?? root.requestsPerMinute,
      messagesPerMinute: given.messagesPerMinute ?? root.messagesPerMinute,
      messagesPerDay: given.messagesPerDay ?? root.messagesPerDay,
      reply: given.reply ?? root.reply,
      repliesPerHour: given.repliesPerHour ?? root.repliesPerHour,
    },
  }
}

/** The values of the service's own keys, the root of its API where it is not the usual one, and where we stand in for it. */
function settingsOf(channel: Channel, given: OwnKeys): Readonly<Record<string, string>> {
  const values: Readonly<Record<string, unknown>> = given
  const keys = new Set(['apiRoot', 'listen', ...channel.settings.map((row) => row.key)])
  return Object.fromEntries(
    [...keys].flatMap((key) => {
      const value = values[key]
      return typeof value === 'string' ? [[key, value]] : []
    }),
  )
}

/** A Telegram token begins with the id of its bot. */
function botIds(channel: Channel, given: OwnKeys): readonly string[] {
  const own = given.botIds ?? []
  const inToken =
    channel.name === 'telegram' ? /^(\d+):/.exec(given.botToken ?? '')?.[1] : undefined
  return inToken === undefined || own.includes(inToken) ? own : [...own, inToken]
}

function mappingOf({ pointers }: OwnKeys): Mapping | undefined {
  const { sender, room, dm, mention, id } = pointers
  if (sender === undefined || room === undefined) return undefined
  if (dm.pointer === undefined || dm.equals === undefined) return undefined
  return {
    sender,
    room,
    dm: { pointer: dm.pointer, equals: dm.equals },
    ...(mention.pointer === undefined
      ? {}
      : {
          mention: {
            pointer: mention.pointer,
            ...(mention.equals === undefined ? {} : { equals: mention.equals }),
            ...(mention.contains === undefined ? {} : { contains: mention.contains }),
          },
        }),
    ...(id === undefined ? {} : { id }),
  }
}
