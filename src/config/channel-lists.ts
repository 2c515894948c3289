/** Who is listed for each account, with the key that lists them: what the owner reviews. */
import { gatewayEntries, normaliseEntry } from '../channels/all.ts'
import { gatewayName } from '../channels/entries.ts'
import { channelAccounts, rootAccount, type ChannelAccount } from './channel-accounts.ts'
import type { Config } from './schema.ts'
import { gatewayPairs } from './vouching-rules.ts'

/** A sender, as messages name it, and the key of the configuration that lists it. */
export interface ListedSender {
  readonly sender: string
  readonly where: string
}

/** One configured account. */
export interface ListedAccount {
  readonly channel: string
  readonly account: string
  readonly listed: readonly ListedSender[]
}

/** The lists of every account; behind them the gateway itself, where identities without an entry may ask. */
export function listedAccounts(config: Config): readonly ListedAccount[] {
  const accounts = channelAccounts(config).map((one) => ({
    channel: one.channel.name,
    account: one.account.id,
    listed: listedOf(config, one),
  }))
  return gatewayPairs(config)
    ? [...accounts, { channel: gatewayName, account: rootAccount, listed: [] }]
    : accounts
}

function listedOf({ gateway }: Config, one: ChannelAccount): readonly ListedSender[] {
  const { channel, policy, path } = one
  const own = (key: string, entries: readonly string[]) =>
    entries.flatMap((entry) => {
      const found = normaliseEntry(channel.name, entry)
      return 'id' in found ? [{ sender: found.id, where: `${path}.${key}` }] : []
    })
  const people = gateway.dmPolicies.enabled ? gateway.dmPolicies.allowlist : []
  return [
    ...own('allowFrom', policy.allowFrom),
    ...own('groupAllowFrom', policy.groupAllowFrom ?? []),
    ...gatewayEntries(channel, people).map((sender) => ({
      sender,
      where: 'gateway.dmPolicies.allowlist',
    })),
  ]
}

/** An account as `channel check` looks at it. */
export interface CheckedAccount extends Pick<ChannelAccount, 'channel' | 'account' | 'path'> {
  /** Groups are served and a mention is needed there. */
  readonly needsMention: boolean
  /** Strangers are answered. */
  readonly answers: boolean
}

/** Every account, for `channel check`. */
export function checkSubjects(config: Config): readonly CheckedAccount[] {
  const { enabled, allowedGroups, mentionGating } = config.gateway.groupPolicies
  return channelAccounts(config).map(({ channel, account, path, policy }) => {
    const rooms = Object.values(policy.groups)
    const shared = enabled ? gatewayEntries(channel, allowedGroups, true).length : 0
    const usual = policy.requireMention ?? (enabled ? mentionGating : true)
    const somewhere = rooms.some((room) => room.requireMention ?? usual)
    const needsMention = policy.groupPolicy !== 'disabled' && (somewhere || (shared > 0 && usual))
    const answers = policy.dmPolicy === 'pairing' && policy.reply !== 'silent'
    return { channel, account, path, needsMention, answers }
  })
}
