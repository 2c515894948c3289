/** Keys of the store for what belongs to one account of a channel. */
import { hash } from 'node:crypto'

import { gatewayName } from '../channels/entries.ts'

/** One account of a channel. */
export interface Place {
  readonly channel: string
  readonly account: string
}

/** Where identities are paired that others vouch for: beside the channels, in place of one. */
export const gatewayPlace: Place = { channel: gatewayName, account: 'default' }

/** `telegram/default`: an account in keys and maps. */
export function placeKey({ channel, account }: Place): string {
  return `${channel}/${account}`
}

/** The account of a key; undefined when the key is not one. */
export function placeOfKey(key: string): Place | undefined {
  const slash = key.indexOf('/')
  if (slash === -1) return undefined
  return { channel: key.slice(0, slash), account: key.slice(slash + 1) }
}

/** What a sender is called in a key: ids may be longer and wider than keys are. */
export function senderKey(sender: string): string {
  return hash('sha256', sender).slice(0, 40)
}
