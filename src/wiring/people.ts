/** From the configuration to the people: desks for every account of a channel, and the state behind them. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'

import type { Operations } from '../admin/api.ts'
import type { AuditSink } from '../audit/record.ts'
import { gatewayEntries, normaliseEntry, normaliseRoom } from '../channels/all.ts'
import type { Entry } from '../channels/entries.ts'
import { channelAccounts, type ChannelAccount } from '../config/channel-accounts.ts'
import { checkSubjects, listedAccounts } from '../config/channel-lists.ts'
import type { Config, Loaded } from '../config/load.ts'
import { limits } from '../limits.ts'
import type { Log } from '../log.ts'
import { nodeCall, type Call } from '../senders/outgoing.ts'
import type { DeskSettings } from '../senders/desk.ts'
import { checkOperations } from '../senders/check-operations.ts'
import { peopleOperations } from '../senders/operations.ts'
import { People } from '../senders/people.ts'
import type { Ids, PolicySettings, RoomSettings } from '../senders/policy.ts'
import { openSeen } from '../store/seen.ts'
import type { Store } from '../store/store.ts'
import { clocks } from './clocks.ts'

/** What the people are made from. */
export interface PeopleParts {
  readonly store: Store
  readonly audit: AuditSink
  readonly log: Log
  /** Calls of services, for tests; else Node's own. */
  readonly call?: Call | undefined
}

/** Opens the people of a configuration that names a channel. */
export async function openPeople(
  { config, home }: Loaded,
  { store, audit, log, call = nodeCall() }: PeopleParts,
): Promise<{ readonly people: People; readonly operations: Operations; close(): Promise<void> }> {
  // Deliveries are written for every webhook; a file of their own keeps them from waking those who watch the state.
  const deliveries = openSeen(join(home, 'deliveries.db'), {
    now: clocks.now,
    random: randomBytes,
    keepMs: limits.replayKeepMs.default,
    onFull: (since) =>
      log.warn(
        { since: new Date(since).toISOString() },
        'too many deliveries: a replay of older ones is known by its date only',
      ),
  })
  try {
    const people = await People.open(deskSettings(config), {
      store,
      deliveries,
      now: clocks.now,
      monotonic: clocks.monotonic,
      random: randomBytes,
      call,
      evidence: audit,
      tell: (facts, message) => log.warn(facts, message),
    })
    const close = async () => {
      await people.close()
      await deliveries.close()
    }
    const operations = {
      ...peopleOperations({
        list: people.list,
        book: people.book,
        accounts: listedAccounts(config),
        now: clocks.now,
        evidence: audit,
        say: (place, to, words, seen) =>
          people.desk(place.channel, place.account)?.say(to, words, seen, true) ?? false,
      }),
      ...checkOperations({
        subjects: checkSubjects(config),
        publicOrigins: config.gateway.publicOrigins,
        call,
        now: clocks.now,
      }),
    }
    return { people, operations, close }
  } catch (thrown) {
    await deliveries.close()
    throw thrown
  }
}

/** The rules of every account, with ids in the form that messages carry. */
export function deskSettings(config: Config): readonly DeskSettings[] {
  const lists = listedAccounts(config)
  return channelAccounts(config).map((one, i) => ({
    listed: lists[i]?.listed ?? [],
    channel: one.channel,
    account: one.account,
    policy: policyOf(config, one),
    requestsPerMinute: one.policy.requestsPerMinute,
    messagesPerMinute: one.policy.messagesPerMinute,
    messagesPerDay: one.policy.messagesPerDay,
    reply: one.policy.reply,
    repliesPerHour: one.policy.repliesPerHour,
    owners: gatewayEntries(one.channel, config.owners),
  }))
}

function policyOf({ gateway }: Config, { channel, policy }: ChannelAccount): PolicySettings {
  const { dmPolicies, groupPolicies } = gateway
  const senders = (entries: readonly string[]): Ids =>
    idsOf(entries, (entry) => normaliseEntry(channel.name, entry))
  const { groupAllowFrom, requireMention } = policy
  const people = dmPolicies.enabled ? dmPolicies.allowlist : []
  const groups = groupPolicies.enabled ? groupPolicies.allowedGroups : []
  const place = (given: Place): RoomSettings => ({
    ...(given.enabled === undefined ? {} : { enabled: given.enabled }),
    ...(given.requireMention === undefined ? {} : { requireMention: given.requireMention }),
    ...(given.allowFrom === undefined ? {} : { allowFrom: senders(given.allowFrom) }),
  })
  return {
    dmPolicy: policy.dmPolicy,
    allowFrom: senders(policy.allowFrom),
    groupPolicy: policy.groupPolicy,
    ...(groupAllowFrom === undefined ? {} : { groupAllowFrom: senders(groupAllowFrom) }),
    groups: new Map(
      Object.entries(policy.groups).flatMap(([id, group]) => {
        const room = normaliseRoom(channel.name, id)
        if (!('id' in room)) return []
        const topics = Object.entries(group.topics).map(
          ([topic, given]) => [topic, place(given)] as const,
        )
        return [[room.id, { ...place(group), topics: new Map(topics) }] as const]
      }),
    ),
    ...(requireMention === undefined ? {} : { requireMention }),
    gatewayAllowlist: new Set(gatewayEntries(channel, people)),
    gatewayGroups: new Set(gatewayEntries(channel, groups, true)),
    ...(groupPolicies.enabled ? { mentionGating: groupPolicies.mentionGating } : {}),
  }
}

interface Place {
  readonly enabled: boolean | undefined
  readonly requireMention: boolean | undefined
  readonly allowFrom: readonly string[] | undefined
}

/** Entries that the rules have let through are ids; one that is none would let nobody in. */
function idsOf(entries: readonly string[], read: (entry: string) => Entry): Ids {
  return new Set(
    entries.flatMap((entry) => {
      const found = read(entry)
      return 'id' in found ? [found.id] : []
    }),
  )
}
