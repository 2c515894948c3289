/** Network addresses: one spelling for each, the key that limits count by, and source networks. */

import type * as IpAddr from 'ipaddr.js'

const { createRequire } = process.getBuiltinModule('node:module')
const { isIPv4 } = process.getBuiltinModule('node:net')

let loaded: typeof IpAddr | undefined

/** ipaddr.js, loaded for the first address that is not plain IPv4, which has one spelling anyway. */
function ipaddr(): typeof IpAddr {
  loaded ??= createRequire(import.meta.url)('ipaddr.js') as typeof IpAddr
  return loaded
}

/**
 * The one spelling of an address: without zone, an IPv4-mapped address (RFC 4291 §2.5.5.2) as IPv4, IPv6 as RFC 5952
 * writes it. `undefined` for anything that is not a whole IP address: no octal, no short forms.
 */
export function normaliseAddress(text: string): string | undefined {
  return isIPv4(text) ? text : parse(text)?.toString()
}

/**
 * The key by which failures and requests of a peer are counted: the address itself for IPv4, the /64 for IPv6, because
 * a host is given that many addresses to choose from. What is no address is its own key, cut to 64 characters.
 */
export function addressKey(peer: string): string {
  // IPv4 has one spelling and needs no parsing: this is asked for every request.
  if (!peer.includes(':')) return peer.slice(0, 64)
  const known = keys.get(peer)
  if (known !== undefined) return known
  const key = parseKey(peer)
  if (keys.size >= keysMax) keys.clear()
  keys.set(peer, key)
  return key
}

/** Peers whose key is remembered; a forgotten one costs two microseconds. */
const keysMax = 1024
const keys = new Map<string, string>()

function parseKey(peer: string): string {
  const address = parse(peer)
  if (address === undefined) return peer.slice(0, 64)
  if (address instanceof ipaddr().IPv4) return address.toString()
  const half = address.parts.slice(0, 4).map((part) => part.toString(16))
  return `${half.join(':')}::/64`
}

type Address = IpAddr.IPv4 | IpAddr.IPv6

/** A network in CIDR notation (RFC 4632, RFC 4291 §2.3). */
export interface Network {
  /** The one spelling, host bits cleared: `10.0.0.0/8`. */
  readonly text: string
  readonly base: Address
  readonly bits: number
}

/** Reads `10.0.0.0/8`, `fd00::/8` or a single address; `undefined` when it is neither. */
export function parseNetwork(text: string): Network | undefined {
  const parts = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text)
  if (parts === null || parts[1] === undefined || parts[1].includes('%')) return undefined
  const mapped = parts[1].includes(':')
  const base = parse(parts[1])
  if (base === undefined) return undefined
  const whole = base instanceof ipaddr().IPv4 ? 32 : 128
  const written = parts[2] === undefined ? undefined : Number(parts[2])
  // ::ffff:10.0.0.0/104 is 10.0.0.0/8.
  const bits = written === undefined ? whole : mapped && whole === 32 ? written - 96 : written
  if (bits < 0 || bits > whole) return undefined
  const first = firstOf(base, bits)
  return { text: `${first.toString()}/${bits}`, base: first, bits }
}

/**
 * True when the peer is inside one of the networks; an empty list means anywhere. A network that cannot be read
 * matches nothing, and neither does a peer that is no address.
 */
export function inNetworks(peer: string, networks: readonly string[]): boolean {
  if (networks.length === 0) return true
  let compiled = compiledNetworks.get(networks)
  if (compiled === undefined) {
    compiled = networks.flatMap((text) => parseNetwork(text) ?? [])
    compiledNetworks.set(networks, compiled)
  }
  const address = parse(peer)
  if (address === undefined) return false
  return compiled.some(
    ({ base, bits }) => base.kind() === address.kind() && address.match(base, bits),
  )
}

/** The lists belong to tokens and live as long as they do. */
const compiledNetworks = new WeakMap<readonly string[], readonly Network[]>()

function parse(text: string): Address | undefined {
  const zone = text.indexOf('%')
  const bare = zone === -1 ? text : text.slice(0, zone)
  if (!bare.includes(':')) {
    const { IPv4 } = ipaddr()
    return IPv4.isValidFourPartDecimal(bare) ? IPv4.parse(bare) : undefined
  }
  const { IPv6 } = ipaddr()
  if (!IPv6.isValid(bare)) return undefined
  const address = IPv6.parse(bare)
  return address.isIPv4MappedAddress() ? address.toIPv4Address() : address
}

function firstOf(address: Address, bits: number): Address {
  const bytes = address.toByteArray().map((byte, at) => {
    const kept = Math.min(8, Math.max(0, bits - at * 8))
    return byte & (0xff << (8 - kept)) & 0xff
  })
  return ipaddr().fromByteArray(bytes)
}
