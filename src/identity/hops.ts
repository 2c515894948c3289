/** Hops in front of us: whose word about the client is believed, and whose address is then the client's. */
import type { Hop } from '../gates/gate.ts'
import { inNetworks, normaliseAddress } from './address.ts'

/** What a request says about the way it came, as the headers have it; several of one name are joined by commas. */
export interface Said {
  readonly forwardedFor: string | undefined
  readonly forwardedProto: string | undefined
  readonly tailscaleLogin: string | undefined
}

/** Who sent a request, as far as the hops in front of us can tell. */
export interface Attribution {
  /** Client address in its one spelling. */
  readonly peer: string
  /** The client spoke TLS to the hop. */
  readonly secure: boolean
  /** Set when a trusted hop handed the request on. */
  readonly hop: Hop | undefined
}

/** The hops of `gateway.trustedProxies`. */
export interface Hops {
  isHop(address: string): boolean
  attribute(socketPeer: string, said: Said): Attribution
}

/** Hops that are looked through; nobody has more in front of one machine. */
const hopsMax = 32
/** The longest address with zone, brackets and port. */
const entryMax = 64
/** Logins are shorter; a longer value is none. */
const loginMax = 512

/**
 * Believes the hops inside `networks` and nobody else. The client is the first address from the right of
 * X-Forwarded-For that is no hop: what stands left of it was written by the client or by strangers. An entry that is no
 * address ends the walk at the last good one, so that `peer` is always an address that a hop saw or wrote.
 */
export function trustHops(networks: readonly string[]): Hops {
  // An empty list means "anywhere" to inNetworks; here it means nowhere.
  const isHop = (address: string): boolean => networks.length > 0 && inNetworks(address, networks)
  return {
    isHop,
    attribute: (socketPeer, said) => {
      if (!isHop(socketPeer)) return { peer: socketPeer, secure: false, hop: undefined }
      const peer = clientOf(socketPeer, said.forwardedFor ?? '', isHop)
      const { tailscaleLogin: login } = said
      return {
        peer,
        secure: said.forwardedProto?.trim().toLowerCase() === 'https',
        hop: {
          address: socketPeer,
          named: peer !== socketPeer,
          tailscaleLogin: login !== undefined && login.length <= loginMax ? login : undefined,
        },
      }
    },
  }
}

/** Walks from the right; `nearest` is a hop. */
function clientOf(
  nearest: string,
  forwardedFor: string,
  isHop: (address: string) => boolean,
): string {
  let known = nearest
  let end = forwardedFor.length
  for (let walked = 0; walked < hopsMax && end > 0; walked += 1) {
    const comma = forwardedFor.lastIndexOf(',', end - 1)
    // Cut before it is looked at: a client may make an entry as long as a header can be.
    if (end - comma - 1 > entryMax * 2) return known
    const address = addressIn(forwardedFor.slice(comma + 1, end).trim())
    if (address === undefined) return known
    known = address
    if (!isHop(address)) return known
    end = comma
  }
  return known
}

/** `192.0.2.1`, `192.0.2.1:5678`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5678`, without a zone. */
const bracketed = /^\[([0-9a-f:.]+)\](?::\d{1,5})?$/i
const withPort = /^(\d{1,3}(?:\.\d{1,3}){3}):\d{1,5}$/

function addressIn(entry: string): string | undefined {
  if (entry === '' || entry.length > entryMax || entry.includes('%')) return undefined
  return normaliseAddress(bracketed.exec(entry)?.[1] ?? withPort.exec(entry)?.[1] ?? entry)
}
