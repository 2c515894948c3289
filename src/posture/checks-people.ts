/** Checks of who may speak to the agent. */
import { inGroup, ofConfig, ofMeasured, ofProblems, when, type Check } from './check.ts'
import type { PostureContext } from './context.ts'

const listMost = 100

/** Senders that the configuration lists for a channel, as the audit log writes them. */
function listed({ config }: PostureContext): readonly string[] {
  if (config === undefined) return []
  const named = Object.entries(config.channels).flatMap(([name, { allowFrom }]) =>
    allowFrom.map((entry) => (entry.startsWith(`${name}:`) ? entry : `${name}:${entry}`)),
  )
  const general = config.gateway.dmPolicies.allowlist.filter((entry) => /^[a-z-]+:/.test(entry))
  return [...new Set([...named, ...general])]
}

/** Allowlists, policies, owners and mentions. */
export const peopleChecks: readonly Check[] = inGroup('people', [
  {
    id: 'people.policy-open',
    severity: 'CRITICAL',
    title: 'No policy is "open"',
    remedy: 'Replace "open" with "pairing".',
    look: ofProblems('POLICY_OPEN'),
  },
  {
    id: 'people.wildcard',
    severity: 'CRITICAL',
    title: 'No list of people has "*"',
    remedy: 'Remove "*" and set dm.policy to "pairing".',
    look: ofProblems('WILDCARD'),
  },
  {
    id: 'people.everyone',
    severity: 'CRITICAL',
    title: 'An empty allowlist does not mean everyone',
    remedy: 'Set gateway.dmPolicies.denyByDefault to true, or list people.',
    look: ofProblems('ALLOWLIST_EMPTY'),
  },
  {
    id: 'people.handles',
    severity: 'HIGH',
    title: 'People are listed by ids that cannot change hands',
    remedy: 'List the numeric or stable id.',
    look: ofProblems('HANDLE'),
  },
  {
    id: 'people.channel-unproven',
    severity: 'CRITICAL',
    title: 'Every channel that can be reached can be proven',
    remedy: 'Set the secret that the channel needs.',
    look: ofProblems('SECRET_MISSING'),
  },
  {
    id: 'people.deny-by-default-off',
    severity: 'MEDIUM',
    title: 'The unlisted are not served',
    remedy: 'Set gateway.dmPolicies.denyByDefault to true.',
    look: ofConfig(({ gateway: { dmPolicies } }) =>
      when(!dmPolicies.denyByDefault, 'gateway.dmPolicies.denyByDefault is false'),
    ),
  },
  {
    id: 'people.dm-policies-off',
    severity: 'MEDIUM',
    title: "The gateway's own list of people is applied",
    remedy: 'Set gateway.dmPolicies.enabled to true.',
    look: ofConfig(({ gateway: { dmPolicies } }) =>
      when(!dmPolicies.enabled, 'gateway.dmPolicies.enabled is false'),
    ),
  },
  {
    id: 'people.group-policies-off',
    severity: 'MEDIUM',
    title: "The gateway's own list of groups is applied",
    remedy: 'Set gateway.groupPolicies.enabled to true.',
    look: ofConfig(({ gateway: { groupPolicies } }) =>
      when(!groupPolicies.enabled, 'gateway.groupPolicies.enabled is false'),
    ),
  },
  {
    id: 'people.mention-gating-off',
    severity: 'MEDIUM',
    title: 'In groups the agent hears only what mentions it',
    remedy: 'Set gateway.groupPolicies.mentionGating to true.',
    look: ofConfig(({ gateway: { groupPolicies } }) =>
      when(!groupPolicies.mentionGating, 'gateway.groupPolicies.mentionGating is false'),
    ),
  },
  {
    id: 'people.channel-mention-off',
    severity: 'LOW',
    title: 'No channel takes group messages without a mention',
    remedy: 'Set requireMention of the channel to true.',
    look: ofConfig(({ channels }) =>
      Object.entries(channels)
        .filter(([, channel]) => channel.requireMention === false)
        .map(([name]) => ({ found: `channels.${name}.requireMention is false` })),
    ),
  },
  {
    id: 'people.owner-missing',
    severity: 'LOW',
    title: 'Where there are channels, the owner is named',
    remedy: 'Name yourself in "owners", like "telegram:12345".',
    look: ofConfig(({ channels, owners }) =>
      when(
        owners.length === 0 && Object.keys(channels).length > 0,
        'owners is empty, so no channel message is the owner’s',
      ),
    ),
  },
  {
    id: 'people.list-long',
    severity: 'LOW',
    title: 'Lists of people are short enough to be reviewed',
    remedy: 'Review them with "hardshell allowlist review".',
    look: ofConfig(({ gateway: { dmPolicies }, channels }) => {
      const lists: readonly (readonly [string, number])[] = [
        ['gateway.dmPolicies.allowlist', dmPolicies.allowlist.length],
        ...Object.entries(channels).map(
          ([name, { allowFrom }]) => [`channels.${name}.allowFrom`, allowFrom.length] as const,
        ),
      ]
      return lists
        .filter(([, length]) => length > listMost)
        .map(([path, length]) => ({ found: `${path} has ${length} entries` }))
    }),
  },
  {
    id: 'people.stale',
    severity: 'LOW',
    title: 'Everyone who is listed has spoken in the last 90 days',
    remedy: 'Remove the entry, or suppress this finding until they are back.',
    look: (context) => {
      const people = listed(context)
      if (people.length === 0) return []
      return ofMeasured(
        ({ speakers }) => speakers,
        (speakers) =>
          people
            .filter((person) => !speakers.includes(person))
            .map((person) => ({ found: `${person} is listed and did not speak for 90 days` })),
      )(context)
    },
  },
])
