/** The rows of the table of settings for those who vouch for clients: hops, the issuer of JWTs, Tailscale. */
import { parseNetwork } from '../identity/address.ts'
import { flag, text } from './readers.ts'
import type { Reader } from './readers.ts'
import { key, optional } from './row.ts'
import type { Table } from './row.ts'

/** An address or network of hops, in its one spelling. A network of everybody trusts nobody in particular. */
export const hopNetwork: Reader<string> = {
  ...text('an address or CIDR'),
  read: (value) => {
    const network = typeof value === 'string' ? parseNetwork(value) : undefined
    if (network !== undefined && network.bits > 0) return { ok: true, value: network.text }
    const trouble = {
      code: 'ADDRESS',
      message:
        network === undefined
          ? 'is neither an address nor a network'
          : 'is every address there is, so that anyone could claim to be anyone',
      remedy:
        'Name the hop itself, like "127.0.0.1" or "172.18.0.1", or its network, "10.1.2.0/24".',
    } as const
    return { ok: false, troubles: [trouble] }
  },
}

const loopbackUrl = /^http:\/\/(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?(?:\/|$)/

/** Where keys are: https, or http on this machine alone, because whoever can change them can make tokens. */
const keyPlace: Reader<string> = {
  ...text('"https://…", or a path'),
  read: (value) => {
    const reading = text('a URL or path').read(value)
    if (!reading.ok || !/^[a-z][a-z0-9+.-]*:/i.test(reading.value)) return reading
    const url = URL.parse(reading.value)
    const plain = url !== null && url.username === '' && url.password === '' && url.hash === ''
    if (plain && (url.protocol === 'https:' || loopbackUrl.test(url.href))) {
      return { ok: true, value: url.href }
    }
    const trouble = {
      code: 'ADDRESS',
      message: 'is neither an https URL nor a path',
      remedy:
        'Use the "jwks_uri" that your issuer publishes, which begins with "https://"; plain http is only for this machine.',
    } as const
    return { ok: false, troubles: [trouble] }
  },
}

/** The keys under `gateway.auth.jwt`. */
export const jwtRows = {
  issuer: optional(text('an issuer'), 'What "iss" of a JWT must be, letter for letter.'),
  audience: optional(text('an audience'), 'What "aud" of a JWT must be, or have among others.'),
  jwks: optional(
    keyPlace,
    'Where the public keys of the issuer are: a URL, or a file beside the configuration file.',
  ),
  identityClaim: key(
    text('a claim'),
    'sub',
    'The claim that names the identity; it must be one that its owner cannot change.',
  ),
  groupsClaim: key(text('a claim'), 'groups', 'The claim that lists the groups of the identity.'),
} as const satisfies Table

const absolute = text('an absolute path', {
  pattern: /^\/[^\u0000-\u001f\u007f]*$/,
  remedy: 'Start it with "/".',
})

/** The keys under `gateway.auth.tailscale`. */
export const tailscaleRows = {
  enabled: key(
    flag,
    false,
    'Believes the login that "tailscale serve" names, once LocalAPI confirms it.',
  ),
  socket: key(
    absolute,
    '/var/run/tailscale/tailscaled.sock',
    'The socket of the Tailscale LocalAPI.',
  ),
  allowFunnel: key(
    flag,
    false,
    'Serves requests that come from the internet through Tailscale Funnel.',
  ),
} as const satisfies Table
