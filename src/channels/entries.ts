/**
 * Entries of allowlists at configuration time: stable ids only. A handle, a display name or an
 * e-mail can be taken over by somebody else, so it is refused with the way to the id.
 */

/** Stands in place of a channel's name for identities that ask to come in through the gateway itself. */
export const gatewayName = 'gateway'

/** What ids look like on a channel. */
export interface IdRule {
  /**
   * Prefixes that people and other configurations write before an id; longest first where one
   * begins another.
   */
  readonly prefixes: readonly string[]
  /** The whole of a stable sender id. */
  readonly sender: RegExp
  /** The whole of a room id. */
  readonly room: RegExp
  /** How to find the sender's id, as the end of a sentence. */
  readonly remedy: string
  /** The id as messages carry it, for spellings that mean the same. */
  readonly canonical?: (id: string) => string
}

/** An id in the form that messages carry, or what is wrong and what to do. */
export type Entry = { readonly id: string } | { readonly problem: string }

/**
 * A sender entry of `allowFrom` or `groupAllowFrom`. Call it once, when the configuration is read.
 */
export function senderEntry(channel: string, rule: IdRule, entry: string): Entry {
  const wrong = common(channel, entry)
  if (wrong !== undefined) return { problem: wrong }
  // Letters of another alphabet and invisible ones make another person look like the one who is meant (UTS 39).
  if (/[^\x20-\x7e]/.test(entry)) {
    const what = 'has a character outside of ASCII, so it may be one that only looks like an id'
    return { problem: `${escaped(shown(entry))} ${what}: ${rule.remedy}` }
  }
  const bare = stripped(channel, rule, entry)
  const id = rule.canonical?.(bare) ?? bare
  if (rule.sender.test(id)) return { id }
  const what = describe(bare)
  return { problem: `${shown(entry)} is ${what}, which can change hands: ${rule.remedy}` }
}

/** A room entry of `groups`. */
export function roomEntry(channel: string, rule: IdRule, entry: string): Entry {
  const wrong = common(channel, entry)
  if (wrong !== undefined) return { problem: wrong }
  const id = stripped(channel, rule, entry.replace(/^group:/, ''))
  if (rule.room.test(id)) return { id }
  return { problem: `${shown(entry)} is not a room id of ${channel}: take it from the audit log` }
}

function common(channel: string, entry: string): string | undefined {
  if (entry === '*') {
    return `"*" would let everybody in: remove it and set channels.${channel}.dm.policy to "pairing"`
  }
  if (entry.startsWith('accessGroup:')) {
    return `${shown(entry)} is an access group: list the members' ids instead`
  }
  return entry === '' || entry !== entry.trim()
    ? `${shown(entry)} is empty or has spaces around it: write the id alone`
    : undefined
}

function stripped(channel: string, rule: IdRule, entry: string): string {
  for (const prefix of [`${channel}:`, ...rule.prefixes]) {
    if (entry.toLowerCase().startsWith(prefix.toLowerCase())) return entry.slice(prefix.length)
  }
  return entry
}

function describe(entry: string): string {
  if (/^@[^:]+$/.test(entry)) return 'a handle'
  if (/^[^@\s]+@[^@\s]+$/.test(entry)) return 'an e-mail address'
  return 'not a stable id of this channel'
}

/** Text in plain ASCII, everything else as `\\uXXXX`. */
export function escaped(text: string): string {
  return text.replace(
    /[^\x20-\x7e]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** The entry in quotes, cut, for a message. */
function shown(entry: string): string {
  return JSON.stringify(entry.length > 60 ? `${entry.slice(0, 60)}…` : entry)
}
