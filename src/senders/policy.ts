/**
 * Who may speak to the agent: one pure function that every road calls (DESIGN §5). The order, the
 * first line that applies decides:
 *
 * 1. the adapter withholds it, unknown shape, service housekeeping, own message → ignore
 * 2. a delivery report without a sender → speak
 * 3. no sender, or a sender that names no person → ignore
 * 4. direct chat: disabled → ignore · on a list → speak · paired, while pairing is on → speak · a
 *    user's first words, while pairing is on → pair · else ignore
 * 5. no room (a modal, an inline query): on a list or paired → speak · else ignore
 * 6. room: disabled → room not served → sender not listed there → not addressed → ignore · else
 *    speak
 *
 * Only ids decide, compared exactly. Handles, display names and the text never do.
 */
import type { Message, MessageClass, SenderKind } from '../channels/channel.ts'

/** Sender ids in the form that messages carry; see `senderEntry`. */
export interface Ids {
  has(id: string): boolean
}

/** What one room, or one topic of it, changes. */
export interface RoomSettings {
  /** `false` takes the room off the list [true]. */
  readonly enabled?: boolean
  /** Speak only when addressed. */
  readonly requireMention?: boolean
  /** Who may speak in this room, in place of `groupAllowFrom`. */
  readonly allowFrom?: Ids
  /** By thread or topic id. */
  readonly topics?: ReadonlyMap<string, RoomSettings>
}

/** The policy of one account of one channel, as the configuration gives it. */
export interface PolicySettings {
  readonly dmPolicy: 'pairing' | 'allowlist' | 'disabled'
  readonly allowFrom: Ids
  readonly groupPolicy: 'allowlist' | 'disabled'
  /** Without it the senders listed for direct chats may speak in rooms; paired ones never. */
  readonly groupAllowFrom?: Ids
  /** Rooms that are served, by room id. */
  readonly groups: ReadonlyMap<string, RoomSettings>
  readonly requireMention?: boolean
  /** `gateway.dmPolicies`: its entries for this channel, empty when it is not enabled. */
  readonly gatewayAllowlist: Ids
  /** `gateway.groupPolicies`: its rooms of this channel, empty when it is not enabled. */
  readonly gatewayGroups: Ids
  /** `gateway.groupPolicies.mentionGating`; undefined when that policy is not enabled. */
  readonly mentionGating?: boolean
}

/** What the store knows about senders of this account. */
export interface Known {
  /** Added by the owner with `allowlist add`: as good as an `allowFrom` entry. */
  readonly listed: Ids
  /** Approved pairings: good for direct chats only, and only while `dm.policy` is `pairing`. */
  readonly paired: Ids
}

/** The decision. `because` is one of ours and fit for the audit log. */
export interface Verdict {
  readonly verdict: 'speak' | 'pair' | 'ignore'
  readonly because: string
  /** The id, or alias, by which the sender was let in. */
  readonly as?: string
}

/** May this message reach the agent? */
export function judgeMessage(message: Message, settings: PolicySettings, known: Known): Verdict {
  const { sender, room } = message
  if (message.withhold !== undefined) return ignore(message.withhold)
  if (neverHeard.has(message.class)) return ignore('no message that the agent should read')
  if (sender.kind === 'self') return ignore('the agent wrote it itself')
  if (message.class === 'status' && sender.id === null && sender.kind === 'system') {
    return { verdict: 'speak', because: 'a report of the service about the agent itself' }
  }
  if (sender.id === null) return ignore('no sender')
  if (!nameable.has(sender.kind)) return ignore('the sender names no person')
  if (room.kind === 'dm') return judgeDirect(message, settings, known)
  if (room.kind === 'unknown') return judgeRoomless(message, settings, known)
  return judgeRoom(message, settings, known)
}

/**
 * Classes that never go on, whoever sent them; a probe is answered by the host before it comes
 * here.
 */
const neverHeard: ReadonlySet<MessageClass> = new Set(['unknown', 'system', 'probe'])
/** Kinds whose id stands for one author. */
const nameable: ReadonlySet<SenderKind> = new Set(['user', 'bot', 'webhook'])
/**
 * Classes that must address the agent where mentions are required; a pressed button does so by
 * itself.
 */
const gatedByMention: ReadonlySet<MessageClass> = new Set(['message', 'edit', 'command'])

function judgeDirect(message: Message, settings: PolicySettings, known: Known): Verdict {
  if (settings.dmPolicy === 'disabled') return ignore('direct chats are disabled')
  const as = directly(message, settings, known)
  if (as !== undefined) return speak(as, 'listed for direct chats')
  if (settings.dmPolicy === 'allowlist') return ignore('not on the list for direct chats')
  const words = message.class === 'message' || message.class === 'command'
  return words && message.sender.kind === 'user' && message.overheard !== true
    ? { verdict: 'pair', because: 'a stranger in a direct chat' }
    : ignore('a stranger, and nothing that asks for an answer')
}

/**
 * A button or query outside of any room is as good as a direct chat for those who may hold one, and
 * nothing for others.
 */
function judgeRoomless(message: Message, settings: PolicySettings, known: Known): Verdict {
  if (message.class !== 'interaction' || message.room.id !== null) return ignore('no known room')
  if (settings.dmPolicy === 'disabled') return ignore('direct chats are disabled')
  const as = directly(message, settings, known)
  return as === undefined ? ignore('no room, and not on the list') : speak(as, 'listed')
}

function judgeRoom(message: Message, settings: PolicySettings, known: Known): Verdict {
  if (settings.groupPolicy === 'disabled') return ignore('groups are disabled')
  const place = placeOf(message, settings)
  if (place === undefined) return ignore('the group is not served')
  const as = among(message, (id) => maySpeakIn(id, place, settings, known))
  if (as === undefined) return ignore('not on the list for this group')
  const needed = place.requireMention ?? settings.requireMention ?? settings.mentionGating ?? true
  if (needed && gatedByMention.has(message.class) && message.mentioned !== true) {
    return ignore('the agent was not addressed')
  }
  return speak(as, 'listed for this group')
}

/**
 * The settings of the room, of the room that a thread belongs to, and of the topic, the nearest
 * winning.
 */
function placeOf(message: Message, settings: PolicySettings): RoomSettings | undefined {
  const { id, parentId, threadId } = message.room
  if (id === null) return undefined
  const rooms = settings.groups
  const listed = rooms.get(id) ?? (parentId === undefined ? undefined : rooms.get(parentId))
  const byGateway = settings.gatewayGroups.has(id)
  const room = listed ?? (byGateway ? {} : undefined)
  if (room === undefined || room.enabled === false) return undefined
  const topic = threadId === undefined ? undefined : room.topics?.get(threadId)
  if (topic === undefined) return room
  return topic.enabled === false ? undefined : { ...room, ...topic }
}

function maySpeakIn(id: string, place: RoomSettings, settings: PolicySettings, known: Known) {
  const own = place.allowFrom ?? settings.groupAllowFrom
  return own === undefined ? onList(id, settings, known) : own.has(id)
}

function onList(id: string, settings: PolicySettings, known: Known): boolean {
  return settings.allowFrom.has(id) || settings.gatewayAllowlist.has(id) || known.listed.has(id)
}

function directly(message: Message, settings: PolicySettings, known: Known): string | undefined {
  const pairs = settings.dmPolicy === 'pairing'
  return among(message, (id) => onList(id, settings, known) || (pairs && known.paired.has(id)))
}

/** The first of the sender's ids for which it holds. */
function among(message: Message, holds: (id: string) => boolean): string | undefined {
  const { id, aliases } = message.sender
  if (id !== null && holds(id)) return id
  return aliases.find(holds)
}

const ignore = (because: string): Verdict => ({ verdict: 'ignore', because })
const speak = (as: string, because: string): Verdict => ({ verdict: 'speak', because, as })
