/** How to reach one person of a channel without a message of theirs at hand: the owner, or somebody just approved. */
import type { Message } from '../channels/channel.ts'
import type { Place } from './place.ts'

type ReplyTo = Readonly<Record<string, string>>

/**
 * The address of a person's own chat, from the id alone or with what another message of the same account has shown.
 * Services that are not here give a person no lasting address (LINE's one-use tokens), or one that cannot be derived.
 */
const addresses: Readonly<Record<string, (id: string, seen: ReplyTo) => ReplyTo | undefined>> = {
  // In a private chat the chat has the id of the person.
  telegram: (id) => ({ chat: id }),
  zalo: (id) => ({ chat: id }),
  // chat.postMessage with a member id opens the direct chat.
  slack: (id) => (id.includes(':') ? undefined : { channel: id }),
  whatsapp: fromPage,
  messenger: fromPage,
  instagram: fromPage,
  signal: (id) => ({ to: id }),
}

/**
 * Services that reach a person only where that person has written: the reply address of their own words is lasting there.
 * That of anybody else's would lead what is said to somebody else.
 */
const whereTheyWrote: ReadonlySet<string> = new Set(['matrix', 'nextcloud-talk', 'bluebubbles'])

/** Meta sends from a number or page, which every message of the account names. */
function fromPage(id: string, { from }: ReplyTo): ReplyTo | undefined {
  return from === undefined ? undefined : { to: id, from }
}

/**
 * A message that stands for "say something to this person", for `Channel.invite`; undefined where the service has no
 * way. `seen` is the reply address of some message of the same account; `theirs`: of a message of this very person.
 */
export function personal(
  place: Place,
  id: string,
  seen: ReplyTo,
  theirs: boolean,
): Message | undefined {
  const address = Object.hasOwn(addresses, place.channel) ? addresses[place.channel] : undefined
  const own = theirs && whereTheyWrote.has(place.channel) ? seen : undefined
  const replyTo = own ?? address?.(id, seen)
  if (replyTo === undefined) return undefined
  return {
    channel: place.channel,
    account: place.account,
    eventType: 'notice',
    class: 'message',
    sender: { id, aliases: [], kind: 'user' },
    room: { id, kind: 'dm' },
    mentioned: false,
    dedupeKey: `notice:${id}`,
    deliveryKey: `notice:${id}`,
    index: 0,
    replyTo,
  }
}
