/** Tailscale: a login that a trusted hop names and LocalAPI confirms, and this node's own name on the tailnet. */
import type { IncomingMessage } from 'node:http'

import { messageOf } from '../errors.ts'
import type { Facts } from '../gates/gate.ts'
import { KiB, seconds, type Millis } from '../limits.ts'
import { noProof, type Proof, type Prover } from './proof.ts'
import { readName, tailscaleIdentity, type Admit } from './vouched.ts'

/** What LocalAPI says about an address of the tailnet. */
export interface Whois {
  /** Login of the node's user; undefined for a tagged node, which belongs to nobody. */
  readonly login: string | undefined
}

/** The two questions that we ask tailscaled. Both reject when it cannot be asked. */
export interface LocalApi {
  /** Who has this address; undefined when nobody on the tailnet has it. */
  whois(address: string): Promise<Whois | undefined>
  /** `box.tailnet-name.ts.net`, in lower case; undefined while this node has no name. */
  ownName(): Promise<string | undefined>
}

/** Time for an answer of LocalAPI, ms. */
const answerMs = seconds(2)
const answerBytesMax = KiB(256)

/** LocalAPI over the socket of tailscaled. */
export function localApi(socketPath: string, timeMs: Millis = answerMs): LocalApi {
  return {
    whois: async (address) => {
      // Port 0 asks for the node itself, in the form that every version of LocalAPI reads.
      const addr = address.includes(':') ? `[${address}]:0` : `${address}:0`
      const path = `/localapi/v0/whois?addr=${encodeURIComponent(addr)}`
      const { status, document } = await ask(socketPath, path, timeMs)
      if (status === 404) return undefined
      if (status !== 200) throw new Error(`LocalAPI answered ${status} to whois`)
      const login = readName(member(member(document, 'UserProfile'), 'LoginName'))
      const node = member(document, 'Node')
      if (login === undefined || typeof node !== 'object' || node === null) {
        throw new Error('LocalAPI gave a whois that cannot be read')
      }
      const tags = member(node, 'Tags')
      const tagged =
        tags !== undefined && tags !== null && !(Array.isArray(tags) && tags.length === 0)
      return { login: tagged ? undefined : login }
    },
    ownName: async () => {
      const { status, document } = await ask(socketPath, '/localapi/v0/status?peers=false', timeMs)
      if (status !== 200) throw new Error(`LocalAPI answered ${status} to status`)
      const name = member(member(document, 'Self'), 'DNSName')
      if (typeof name !== 'string') return undefined
      const bare = name.toLowerCase().replace(/\.$/, '')
      return dnsName.test(bare) && bare.length <= 253 ? bare : undefined
    },
  }
}

const dnsName = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)+$/

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined
}

/** The JSON of one answer; undefined as document for an answer that is none. */
async function ask(
  socketPath: string,
  path: string,
  timeMs: Millis,
): Promise<{ readonly status: number; readonly document: unknown }> {
  const { request } = await import('node:http')
  const signal = AbortSignal.timeout(timeMs)
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    // tailscaled answers under this host name only.
    const headers = { Host: 'local-tailscaled.sock', Connection: 'close' }
    const call = request({ socketPath, path, headers, signal, agent: false }, resolve)
    call.on('error', reject)
    call.end()
  })
  const pieces: Buffer[] = []
  let bytes = 0
  for await (const piece of answer) {
    if (!Buffer.isBuffer(piece)) continue
    bytes += piece.length
    if (bytes > answerBytesMax)
      throw new Error(`LocalAPI answered more than ${answerBytesMax} bytes`)
    pieces.push(piece)
  }
  const status = answer.statusCode ?? 0
  const document: unknown =
    status === 200 ? JSON.parse(Buffer.concat(pieces).toString('utf8')) : undefined
  return { status, document }
}

/** What the prover of Tailscale logins needs. */
export interface TailscaleDeps {
  readonly localApi: LocalApi
  readonly admit: Admit
  /** Monotonic clock, ms. */
  readonly now: () => Millis
  /** Hears once that LocalAPI cannot be asked, and `undefined` once it can again. */
  readonly onTrouble: (because: string | undefined) => void
}

/** How long an answer of whois is used, ms: a node that is removed from the tailnet is out after that. */
export const whoisMs: Millis = seconds(10)
/** How long it is not asked again after a failure, ms. */
const failedMs: Millis = seconds(1)
/** Addresses that are remembered. */
const addressesMax = 1000

interface Looked {
  /** `unknown` while LocalAPI could not be asked. */
  readonly found: Whois | undefined | 'unknown'
  readonly until: Millis
}

/**
 * Proves by a Tailscale login: named by a trusted hop for a client that the hop names too, and confirmed by LocalAPI,
 * whose word alone counts. What comes through Funnel proves nothing, nor does anything while LocalAPI cannot be asked.
 */
export function tailscaleProver(deps: TailscaleDeps): Prover {
  const { now } = deps
  const known = new Map<string, Looked | Promise<Looked>>()
  let troubled = false

  const look = async (address: string): Promise<Looked> => {
    try {
      const found = await deps.localApi.whois(address)
      if (troubled) deps.onTrouble(undefined)
      troubled = false
      return { found, until: now() + whoisMs }
    } catch (thrown) {
      if (!troubled) deps.onTrouble(messageOf(thrown))
      troubled = true
      return { found: 'unknown', until: now() + failedMs }
    }
  }
  const remember = (address: string, looked: Looked | Promise<Looked>) => {
    known.delete(address)
    known.set(address, looked)
    const oldest = known.size > addressesMax ? known.keys().next().value : undefined
    if (oldest !== undefined) known.delete(oldest)
  }
  const lookUp = (address: string): Looked | Promise<Looked> => {
    const before = known.get(address)
    if (before instanceof Promise || (before !== undefined && before.until > now())) return before
    const asked = look(address).then((looked) => {
      remember(address, looked)
      return looked
    })
    remember(address, asked)
    return asked
  }
  return {
    name: 'tailscale',
    ambient: true,
    prove: ({ hop, peer, funnel }: Facts) => {
      const said = hop?.named === true ? hop.tailscaleLogin : undefined
      if (said === undefined || said === '' || funnel === true) return noProof
      const login = decodeWords(said)
      if (login === undefined) return notConfirmed
      const looked = lookUp(peer)
      return looked instanceof Promise
        ? looked.then(({ found }) => judge(login, found, deps.admit))
        : judge(login, looked.found, deps.admit)
    },
  }
}

function judge(login: string, found: Looked['found'], admit: Admit): Proof {
  if (found === 'unknown') return noProof
  if (found?.login === undefined || found.login !== login) return notConfirmed
  const identity = {
    id: tailscaleIdentity(login),
    name: login,
    scopes: ['chat'],
    paths: [],
  } as const
  return admit({ identity, names: [login] })
}

/** No guess: the header is not the client's, and its address is not to pay for what a hop or a neighbour wrote. */
const notConfirmed: Proof = {
  kind: 'wrong',
  because: 'LocalAPI does not confirm the Tailscale login',
  guess: false,
}

/** Encoded words and the blanks between two of them (RFC 2047 §2, §6.2). */
const words = /=\?utf-8\?q\?([^?\s]*)\?=(?:[ \t]+(?==\?))?/gi

/**
 * A header value as tailscaled writes it: ASCII as it is, anything else as encoded words of UTF-8. Undefined when it is
 * not well-formed, or no name.
 */
export function decodeWords(value: string): string | undefined {
  if (!value.includes('=?')) return /^[\x20-\x7e]*$/.test(value) ? readName(value) : undefined
  // A character may be split between two words, so that only all bytes together are UTF-8.
  const latin1 = value.replace(words, (_, text: string) =>
    text
      .replaceAll('_', ' ')
      .replace(/=([0-9a-f]{2})/gi, (_escape, hex: string) =>
        String.fromCharCode(parseInt(hex, 16)),
      ),
  )
  if (latin1.includes('=?')) return undefined
  const bytes = Buffer.from(latin1, 'latin1')
  const text = bytes.toString('utf8')
  return Buffer.from(text, 'utf8').equals(bytes) ? readName(text) : undefined
}

/** What keeps this node's name on the tailnet up to date. */
export interface TailnetName {
  /** The name with and without its port, for the Host check; the same set for good. */
  readonly hosts: ReadonlySet<string>
  refresh(): Promise<void>
}

/** Asks LocalAPI for this node's name. While it cannot be asked the last name stays. */
export function tailnetName(
  api: LocalApi,
  onTrouble: (because: string | undefined) => void,
): TailnetName {
  const hosts = new Set<string>()
  let troubled = false
  return {
    hosts,
    refresh: async () => {
      try {
        const name = await api.ownName()
        hosts.clear()
        if (name !== undefined) hosts.add(name).add(`${name}:443`)
        if (troubled) onTrouble(undefined)
        troubled = false
      } catch (thrown) {
        if (!troubled) onTrouble(messageOf(thrown))
        troubled = true
      }
    },
  }
}
