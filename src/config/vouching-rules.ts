/** Rules between the keys of those who vouch for clients, and what is worth knowing about them. */
import { inNetworks } from '../identity/address.ts'
import type { Notice, Problem } from './problems.ts'
import type { Subject } from './rules.ts'
import type { Config } from './schema.ts'
import { rowsByPath } from './tree.ts'

const needed = {
  issuer: 'Set it to the "iss" that your identity provider writes into its tokens.',
  audience: 'Set it to the "aud" of tokens that are meant for Hardshell, and for nothing else.',
  jwks: 'Set it to the "jwks_uri" of your identity provider, or to a file with its public keys.',
} as const
const jwtKeys = ['issuer', 'audience', 'jwks', 'identityClaim', 'groupsClaim'] as const

/** What is given and says more than the default does. */
function says({ given, isTroubled }: Subject, path: string, value: unknown): boolean {
  return given.has(path) && !isTroubled(path) && value !== rowsByPath.get(path)?.default
}

function without(path: string, what: string): Problem {
  return {
    code: 'EXCLUSIVE',
    path,
    message: `has no effect without ${what}`,
    remedy: `Remove it, or set ${what}.`,
  }
}

function jwtProblems(subject: Subject): readonly Problem[] {
  const { config, isTroubled } = subject
  const { mode, jwt } = config.gateway.auth
  if (isTroubled('gateway.auth.mode')) return []
  if (mode !== 'jwt') {
    return jwtKeys
      .filter((key) => says(subject, `gateway.auth.jwt.${key}`, jwt[key]))
      .map((key) => without(`gateway.auth.jwt.${key}`, 'gateway.auth.mode: "jwt"'))
  }
  return (['issuer', 'audience', 'jwks'] as const).flatMap((key): readonly Problem[] => {
    const path = `gateway.auth.jwt.${key}`
    if (jwt[key] !== undefined || isTroubled(path)) return []
    const message = 'is missing, and gateway.auth.mode "jwt" needs it'
    return [{ code: 'KEY_NEEDED', path, message, remedy: needed[key] }]
  })
}

function tailscaleProblems(subject: Subject): readonly Problem[] {
  const { config, isTroubled } = subject
  const { auth, trustedProxies } = config.gateway
  const socket = 'gateway.auth.tailscale.socket'
  if (!auth.tailscale.enabled) {
    return says(subject, socket, auth.tailscale.socket)
      ? [without(socket, 'gateway.auth.tailscale.enabled: true')]
      : []
  }
  if (trustedProxies.length > 0 || isTroubled('gateway.trustedProxies')) return []
  return [
    {
      code: 'KEY_NEEDED',
      path: 'gateway.trustedProxies',
      message: 'is empty, and gateway.auth.tailscale.enabled needs the hop that names the logins',
      remedy: 'Add the address from which "tailscale serve" comes, usually "127.0.0.1".',
    },
  ]
}

/** Every problem between these keys. */
export function vouchingProblems(subject: Subject): readonly Problem[] {
  return [...jwtProblems(subject), ...tailscaleProblems(subject)]
}

/** Whether identities without an entry may ask: the list is applied, and does not refuse them outright. */
export function gatewayPairs({ gateway: { dmPolicies, auth } }: Config): boolean {
  const vouched = auth.mode === 'jwt' || auth.tailscale.enabled
  return vouched && dmPolicies.enabled && !dmPolicies.denyByDefault
}

function askingNotices(config: Config): readonly Notice[] {
  if (config.gateway.dmPolicies.denyByDefault) return []
  const named = { code: 'DENY_BY_DEFAULT_OFF', path: 'gateway.dmPolicies.denyByDefault' }
  return gatewayPairs(config)
    ? [
        {
          ...named,
          level: 'INFO',
          message:
            'is false: whoever a JWT or Tailscale proves may ask, and nobody comes in without you',
          remedy: 'Approve with "hardshell pairing approve gateway CODE", or set it to true.',
        },
      ]
    : [
        {
          ...named,
          level: 'WARNING',
          message:
            'is false and changes nothing: no JWT and no Tailscale login proves who could ask',
          remedy: 'Set it to true, and add people to gateway.dmPolicies.allowlist.',
        },
      ]
}

/** What is worth knowing about these keys. */
export function vouchingNotices({ config }: Subject): readonly Notice[] {
  const { auth, dmPolicies, groupPolicies, trustedProxies } = config.gateway
  const notices: Notice[] = [...askingNotices(config)]
  const people = dmPolicies.enabled ? dmPolicies.allowlist.length : 0
  const groups =
    groupPolicies.enabled && auth.mode === 'jwt' ? groupPolicies.allowedGroups.length : 0
  if ((auth.mode === 'jwt' || auth.tailscale.enabled) && people + groups === 0) {
    notices.push({
      level: 'WARNING',
      code: 'NOBODY_LISTED',
      path: 'gateway.dmPolicies.allowlist',
      message: 'names nobody, so that no JWT and no Tailscale login is let in',
      remedy:
        'List the e-mails, logins or subjects of the people, or their groups in allowedGroups.',
    })
  }
  const neighbours = inNetworks('127.0.0.1', trustedProxies) && config.agent.image === undefined
  if (auth.tailscale.enabled && neighbours) {
    notices.push({
      level: 'WARNING',
      code: 'LOGINS_FROM_LOOPBACK',
      path: 'gateway.auth.tailscale.enabled',
      message: 'is true, and every program of this machine, the agent too, can claim a login',
      remedy: 'Set agent.image to keep the agent in a sandbox, or use tokens.',
    })
  }
  if (auth.tailscale.allowFunnel) {
    notices.push({
      level: 'WARNING',
      code: 'FUNNEL_ALLOWED',
      path: 'gateway.auth.tailscale.allowFunnel',
      message: 'is true; the whole internet may try its luck',
      remedy: 'Set it to false unless strangers on the internet are meant to reach this.',
    })
  }
  return notices
}
