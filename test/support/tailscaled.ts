/** A LocalAPI on a Unix socket that answers in the shape that Tailscale documents; tailscaled itself is not run. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** A node of the tailnet, by one of its addresses. */
export interface TestNode {
  readonly login: string
  readonly tags?: readonly string[]
}

export interface TestTailscaled {
  readonly socket: string
  /** By address; may be changed. */
  readonly nodes: Map<string, TestNode>
  /** Name of this node, with the final dot; may be changed. */
  name: string
  /** Answers in place of LocalAPI, when set. */
  answer: ((request: IncomingMessage, response: ServerResponse) => void) | undefined
  /** Paths with query that were asked for, in order. */
  readonly asked: string[]
  /** Host headers that were sent. */
  readonly hosts: Set<string>
  start(): Promise<void>
  /** Ends the listener; the socket stays, as after a crash. */
  stop(): Promise<void>
}

function whois(address: string, { login, tags }: TestNode): object {
  const name = 'client.tailnet-name.ts.net.'
  const prefix = address.includes(':') ? 128 : 32
  return {
    Node: {
      ID: 2_345_678_901_234_567,
      StableID: 'nAbCdEf1CNTRL',
      Name: name,
      User: 3_456_789_012_345_678,
      Key: 'nodekey:0000000000000000000000000000000000000000000000000000000000000000',
      Addresses: [`${address}/${prefix}`],
      AllowedIPs: [`${address}/${prefix}`],
      Hostinfo: { OS: 'linux', Hostname: 'client' },
      ComputedName: 'client',
      ComputedNameWithHost: 'client',
      ...(tags === undefined ? {} : { Tags: tags }),
    },
    UserProfile: {
      ID: 3_456_789_012_345_678,
      LoginName: tags === undefined ? login : 'tagged-devices',
      DisplayName: 'Somebody',
      ProfilePicURL: 'https://example.com/picture.png',
    },
    CapMap: {},
  }
}

function status(name: string): object {
  return {
    Version: '1.90.0',
    TUN: true,
    BackendState: 'Running',
    HaveNodeKey: true,
    AuthURL: '',
    TailscaleIPs: ['100.64.0.1', 'fd7a:115c:a1e0::1'],
    Self: { ID: 'nSelf1CNTRL', HostName: 'box', DNSName: name, OS: 'linux', Online: true },
    Health: [],
    MagicDNSSuffix: 'tailnet-name.ts.net',
    CertDomains: [name.replace(/\.$/, '')],
    Peer: null,
  }
}

/** Makes a LocalAPI; `close` at the end takes its folder away. */
export function makeTailscaled(): TestTailscaled & { close(): Promise<void> } {
  const folder = mkdtempSync(join(tmpdir(), 'hs-ts-'))
  let server: Server | undefined
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    const url = new URL(request.url ?? '', 'http://local-tailscaled.sock')
    state.asked.push(`${url.pathname}${url.search}`)
    state.hosts.add(request.headers.host ?? '')
    if (state.answer !== undefined) {
      state.answer(request, response)
      return
    }
    if (request.headers.host !== 'local-tailscaled.sock') {
      response.writeHead(403).end('invalid localapi request\n')
      return
    }
    const send = (document: object) => {
      response.writeHead(200, { 'Content-Type': 'application/json' })
      response.end(JSON.stringify(document))
    }
    if (url.pathname === '/localapi/v0/status') {
      send(status(state.name))
      return
    }
    // ParseAddrPort of netip: "100.64.0.2:0" or "[fd7a::2]:0".
    const asked = /^(?:\[([0-9a-f:]+)\]|([0-9.]+)):\d+$/.exec(url.searchParams.get('addr') ?? '')
    const address = asked?.[1] ?? asked?.[2]
    const node = address === undefined ? undefined : state.nodes.get(address)
    if (url.pathname !== '/localapi/v0/whois') response.writeHead(404).end('404 page not found\n')
    else if (address === undefined) response.writeHead(400).end("invalid 'addr' parameter\n")
    else if (node === undefined) response.writeHead(404).end('no match for IP:port\n')
    else send(whois(address, node))
  }
  const state = {
    socket: join(folder, 'tailscaled.sock'),
    nodes: new Map<string, TestNode>(),
    name: 'box.tailnet-name.ts.net.',
    answer: undefined as TestTailscaled['answer'],
    asked: [] as string[],
    hosts: new Set<string>(),
    start: async () => {
      rmSync(state.socket, { force: true })
      const made = createServer(answer)
      server = made
      await new Promise<void>((resolve) => made.listen(state.socket, resolve))
    },
    stop: async () => {
      const running = server
      server = undefined
      if (running === undefined) return
      running.closeAllConnections()
      await new Promise<void>((resolve) => running.close(() => resolve()))
    },
    close: async () => {
      await state.stop()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  return state
}
