/** Connections that are open: how many of all and of one address, and which of them give way to a new one. */
import type { Socket } from 'node:net'

import { addressKey, normaliseAddress } from '../identity/address.ts'

/** How many connections may be open at once. */
export interface ConnectionSettings {
  readonly maxConnections: number
  readonly maxConnectionsPerAddress: number
  /** Hops carry the connections of many clients: only `maxConnections` bounds theirs. */
  readonly isHop: (address: string) => boolean
}

/** Why a connection was cut. */
export type Cut = 'maxConnections' | 'maxConnectionsPerAddress'

/** The connections of one address (IPv6: of one /64). */
interface Place {
  readonly key: string
  held: number
  /** Those on which no request has passed the gates, oldest first. */
  readonly unproved: Set<Socket>
}

/**
 * Counts open connections. Where there are too many, the oldest that has not proved anything gives way: strangers who
 * hold connections open cannot keep out the owner, who sends a credential at once.
 */
export class Connections {
  readonly #settings: ConnectionSettings
  readonly #open = new Map<Socket, Place>()
  readonly #unproved = new Set<Socket>()
  readonly #places = new Map<string, Place>()

  constructor(settings: ConnectionSettings) {
    this.#settings = settings
  }

  /** How many are open. */
  get size(): number {
    return this.#open.size
  }

  /** Takes a connection in; says which bound cut another one for it, or itself. */
  admit(socket: Socket): Cut | undefined {
    const { maxConnections, maxConnectionsPerAddress, isHop } = this.#settings
    const address = normaliseAddress(socket.remoteAddress ?? '') ?? ''
    const key = addressKey(address)
    const place = this.#places.get(key) ?? { key, held: 0, unproved: new Set<Socket>() }
    const crowded = place.held >= maxConnectionsPerAddress && !isHop(address)
    const full = this.#open.size >= maxConnections
    const cut = crowded ? 'maxConnectionsPerAddress' : full ? 'maxConnections' : undefined
    if (cut !== undefined) {
      const [oldest] = crowded ? place.unproved : this.#unproved
      const gone = oldest ?? socket
      // Its 'close' comes later; its place is free now.
      this.#forget(gone)
      gone.destroy()
      if (gone === socket) return cut
    }
    this.#places.set(key, place)
    place.held += 1
    place.unproved.add(socket)
    this.#unproved.add(socket)
    this.#open.set(socket, place)
    socket.once('close', () => this.#forget(socket))
    return cut
  }

  /** A request on it has passed the gates: it never gives way. */
  proved(socket: Socket): void {
    if (this.#unproved.delete(socket)) this.#open.get(socket)?.unproved.delete(socket)
  }

  /** Calls for every open connection. */
  forEach(then: (socket: Socket) => void): void {
    for (const socket of this.#open.keys()) then(socket)
  }

  /** Cuts everything. */
  destroyAll(): void {
    for (const socket of this.#open.keys()) socket.destroy()
  }

  #forget(socket: Socket): void {
    const place = this.#open.get(socket)
    if (place === undefined) return
    this.#open.delete(socket)
    this.#unproved.delete(socket)
    place.unproved.delete(socket)
    place.held -= 1
    if (place.held === 0) this.#places.delete(place.key)
  }
}
