/** The list of channels: a new service is one file and one line here. */
import { bluebubbles } from './bluebubbles.ts'
import type { Channel } from './channel.ts'
import { discord } from './discord.ts'
import type { Entry } from './entries.ts'
import { roomEntry, senderEntry } from './entries.ts'
import { generic } from './generic.ts'
import { googlechat } from './googlechat.ts'
import { line } from './line.ts'
import { matrix } from './matrix.ts'
import { mattermost } from './mattermost.ts'
import { instagram, messenger, whatsapp } from './meta.ts'
import { msteams } from './msteams.ts'
import { nextcloudTalk } from './nextcloud-talk.ts'
import { signal } from './signal.ts'
import { slack } from './slack.ts'
import { telegram } from './telegram.ts'
import { twilio } from './twilio.ts'
import { zalo } from './zalo.ts'

/** Every channel that Hardshell knows. */
export const channels: readonly Channel[] = [
  telegram,
  slack,
  discord,
  whatsapp,
  messenger,
  instagram,
  line,
  googlechat,
  msteams,
  twilio,
  matrix,
  mattermost,
  nextcloudTalk,
  zalo,
  bluebubbles,
  signal,
  generic,
]

/** The channel of a name, as in `channels.<name>`. */
export function channelNamed(name: string): Channel | undefined {
  return channels.find((channel) => channel.name === name)
}

/**
 * A sender entry of a channel's list as the stable id that messages carry, or a problem with its
 * remedy.
 */
export function normaliseEntry(channel: string, entry: string): Entry {
  const found = channelNamed(channel)
  if (found === undefined) return { problem: `${JSON.stringify(channel)} is not a channel` }
  return senderEntry(found.name, found.ids, entry)
}

/** A room entry of a channel's `groups`, likewise. */
export function normaliseRoom(channel: string, entry: string): Entry {
  const found = channelNamed(channel)
  if (found === undefined) return { problem: `${JSON.stringify(channel)} is not a channel` }
  return roomEntry(found.name, found.ids, entry)
}

/**
 * The entries of `gateway.dmPolicies.allowlist` (or, with `rooms`, `groupPolicies.allowedGroups`)
 * that mean this channel. Only an entry with the channel's prefix does: a bare one is a claim of an
 * identity, because the same digits are different people on different services. An e-mail counts
 * where it is the sender's id itself.
 */
export function gatewayEntries(
  channel: Channel,
  entries: readonly string[],
  rooms = false,
): readonly string[] {
  const read = rooms ? roomEntry : senderEntry
  const emailIsId = !rooms && channel.ids.sender.test('somebody@example.com')
  const prefixes = [`${channel.name}:`, ...channel.ids.prefixes.filter((one) => !shared.has(one))]
  return entries.flatMap((entry) => {
    const named = prefixes.some((prefix) => entry.toLowerCase().startsWith(prefix))
    const email = emailIsId && /^[^@\s:]+@[^@\s:]+$/.test(entry)
    if (!named && !email) return []
    const found = read(channel.name, channel.ids, entry)
    return 'id' in found ? [found.id] : []
  })
}

/** Prefixes that more than one channel has: they name no channel. */
const shared = new Set(['user:', 'channel:', 'room:', 'group:'])
