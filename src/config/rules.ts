/** Rules that look at more than one key, and what is worth knowing about a configuration that loads. */
import { judgeToken } from '../identity/token-rule.ts'
import { passwordNotices, passwordProblems } from './password-rules.ts'
import type { Notice, Problem } from './problems.ts'
import { isUnspecified } from './readers.ts'
import type { Config } from './schema.ts'
import { launchKeys } from './tree.ts'
import { vouchingNotices, vouchingProblems } from './vouching-rules.ts'

const { createRequire } = process.getBuiltinModule('node:module')
const { isIP } = process.getBuiltinModule('node:net')
const { extname } = process.getBuiltinModule('node:path')

/** What the rules look at. */
export interface Subject {
  readonly config: Config
  /** Paths that the file itself gives. */
  readonly given: ReadonlySet<string>
  /** Says whether a path already has a problem; a second one about the same would only confuse. */
  readonly isTroubled: (path: string) => boolean
  readonly inContainer: () => boolean
}

/** Where OpenClaw listens, and so the agent when nothing is said. */
export const upstreamDefault = 'http://127.0.0.1:18789'

/** Says whether an address is reachable from this machine alone. */
export function isLoopback(address: string): boolean {
  return /^127\./.test(address) || /^(::ffff:127\.|(0*:)*0*1$)/i.test(address)
}

function bindProblems({ config, inContainer }: Subject): readonly Problem[] {
  const { bind, dangerouslyBindAllInterfaces } = config.gateway
  if (isUnspecified(bind) && !dangerouslyBindAllInterfaces) {
    return [
      {
        code: 'BIND_ALL',
        path: 'gateway.bind',
        message: 'would listen on every network of this machine',
        remedy:
          'Use "127.0.0.1" and a tunnel such as "tailscale serve"; gateway.dangerouslyBindAllInterfaces: true overrides this.',
      },
    ]
  }
  if (bind === 'container' && !inContainer()) {
    return [
      {
        code: 'BIND_CONTAINER',
        path: 'gateway.bind',
        message: 'is "container", but this is not a container',
        remedy: 'Use "127.0.0.1".',
      },
    ]
  }
  return []
}

function tokenProblems({ config, given, isTroubled }: Subject): readonly Problem[] {
  const { mode, token, tokenFile } = config.gateway.auth
  if (given.has('gateway.auth.token') && tokenFile !== undefined) {
    return [
      {
        code: 'EXCLUSIVE',
        path: 'gateway.auth.tokenFile',
        message: 'excludes gateway.auth.token',
        remedy: 'Keep one of the two.',
      },
    ]
  }
  const told = isTroubled('gateway.auth.token') || isTroubled('gateway.auth.tokenFile')
  if (told) return []
  if (token === undefined) {
    if (mode !== 'token') return []
    return [
      {
        code: 'TOKEN_MISSING',
        path: 'gateway.auth.token',
        message: 'is missing, and nothing is served without a token',
        remedy:
          'Run "hardshell init", or set gateway.auth.tokenFile or the variable HARDSHELL_TOKEN to the output of "openssl rand -hex 32".',
      },
    ]
  }
  const agentToken = config.agent.token
  const verdict = judgeToken(token, agentToken === undefined ? {} : { agentToken })
  if (verdict === undefined) return []
  const { code, message, remedy } = verdict
  return [{ code, path: 'gateway.auth.token', message: message.replace(/\.$/, ''), remedy }]
}

function rotationProblems({ config, isTroubled }: Subject): readonly Problem[] {
  const { tokenRotation, rotationGrace } = config.gateway.auth
  const told = isTroubled('gateway.auth.tokenRotation') || isTroubled('gateway.auth.rotationGrace')
  if (told || rotationGrace === undefined || rotationGrace <= tokenRotation) return []
  return [
    {
      code: 'BOUNDS',
      path: 'gateway.auth.rotationGrace',
      message: 'is longer than gateway.auth.tokenRotation, the age of a token itself',
      remedy: 'Leave it out for a tenth of tokenRotation, at most "24h".',
    },
  ]
}

function peopleProblems({ config, isTroubled }: Subject): readonly Problem[] {
  const { allowlist, denyByDefault } = config.gateway.dmPolicies
  if (denyByDefault || allowlist.length > 0 || isTroubled('gateway.dmPolicies.allowlist')) {
    return []
  }
  return [
    {
      code: 'ALLOWLIST_EMPTY',
      path: 'gateway.dmPolicies.denyByDefault',
      message: 'is false while the allowlist is empty, which asks for anyone to be let in',
      remedy: 'Set it to true, or list the people in gateway.dmPolicies.allowlist.',
    },
  ]
}

function agentProblems({ config, given }: Subject): readonly Problem[] {
  const problems: Problem[] = []
  const { image, upstream } = config.agent
  if (image !== undefined && given.has('agent.upstream')) {
    problems.push({
      code: 'EXCLUSIVE',
      path: 'agent.image',
      message: 'excludes agent.upstream',
      remedy: 'Keep agent.image to launch the agent in a sandbox, or agent.upstream to guard one.',
    })
  }
  for (const path of launchKeys) {
    if (image !== undefined || !given.has(path)) continue
    problems.push({
      code: 'EXCLUSIVE',
      path,
      message: 'has no effect without agent.image',
      remedy: 'Remove it, or set agent.image to launch the agent in a sandbox.',
    })
  }
  if (image !== undefined && config.agents.defaults.sandbox.mode === 'off') {
    problems.push({
      code: 'SANDBOX_OFF',
      path: 'agents.defaults.sandbox.mode',
      message: 'is "off", but agent.image runs only in a sandbox',
      remedy: 'Remove it, or start the agent yourself and set agent.upstream.',
    })
  }
  if (image === undefined && upstream !== undefined && isOurselves(config, upstream)) {
    problems.push({
      code: 'LOOP',
      path: 'agent.upstream',
      message: 'is the address of Hardshell itself',
      remedy: 'Set it to where the agent listens, or change gateway.port.',
    })
  }
  return problems
}

function isOurselves({ gateway }: Config, upstream: string): boolean {
  const url = URL.parse(upstream)
  if (url === null || url.protocol !== 'http:') return false
  const host = url.hostname.replace(/^\[|\]$/g, '')
  const here = isIP(host) === 0 ? host === 'localhost' : isLoopback(host)
  const port = url.port === '' ? 80 : Number(url.port)
  return port === gateway.port && (here || host === gateway.bind)
}

/**
 * The rules about channels, read only when there is something for them: the channels are a third of all modules, and
 * start-up is mostly modules.
 */
function channelRules(config: Config): readonly (typeof import('./channel-rules.ts'))[] {
  const { gateway, owners } = config
  const people = [
    ...gateway.dmPolicies.allowlist,
    ...gateway.groupPolicies.allowedGroups,
    ...owners,
  ]
  const needed = Object.keys(config.channels).length > 0 || people.some((one) => one.includes(':'))
  if (!needed) return []
  const here = import.meta.url
  const require = createRequire(here)
  return [require(`./channel-rules${extname(here)}`) as typeof import('./channel-rules.ts')]
}

/** Every problem between keys. */
export function crossProblems(subject: Subject): readonly Problem[] {
  return [
    ...bindProblems(subject),
    ...tokenProblems(subject),
    ...rotationProblems(subject),
    ...vouchingProblems(subject),
    ...passwordProblems(subject),
    ...peopleProblems(subject),
    ...channelRules(subject.config).flatMap((rules) => rules.channelProblems(subject)),
    ...agentProblems(subject),
  ]
}

function controlUiNotices({ gateway: { controlUi } }: Config): readonly Notice[] {
  const keys = ['allowInsecureAuth', 'dangerouslyDisableDeviceAuth'] as const
  return keys.flatMap((key): readonly Notice[] => {
    const value = controlUi[key]
    if (value === undefined) return []
    const path = `gateway.controlUi.${key}`
    const remedy = 'Remove this line.'
    if (!value) {
      const message = 'is deprecated'
      return [{ level: 'INFO', code: 'CONTROL_UI_DEPRECATED', path, message, remedy }]
    }
    const message = 'is true; it is deprecated and never honoured'
    return [{ level: 'CRITICAL', code: 'CONTROL_UI_INSECURE', path, message, remedy }]
  })
}

function exposureNotices({ gateway }: Config): readonly Notice[] {
  const { bind, dangerouslyBindAllInterfaces: all } = gateway
  const remedy = 'Use "127.0.0.1" and a tunnel such as "tailscale serve".'
  if (isUnspecified(bind)) {
    const message = 'is reachable from every network of this machine'
    return [{ level: 'CRITICAL', code: 'BIND_ALL', path: 'gateway.bind', message, remedy }]
  }
  const notices: Notice[] = []
  if (all) {
    notices.push({
      level: 'WARNING',
      code: 'BIND_ALL_UNUSED',
      path: 'gateway.dangerouslyBindAllInterfaces',
      message: 'is true without need',
      remedy: 'Remove it.',
    })
  }
  if (bind !== 'container' && !isLoopback(bind)) {
    const message = 'is reachable from the network, and Hardshell speaks plain HTTP'
    notices.push({ level: 'WARNING', code: 'BIND_NETWORK', path: 'gateway.bind', message, remedy })
  }
  return notices
}

function looseNotices({ security, agent }: Config): readonly Notice[] {
  const notices: Notice[] = []
  if (!security.auditLogging) {
    notices.push({
      level: 'CRITICAL',
      code: 'AUDIT_OFF',
      path: 'security.auditLogging',
      message: 'is false; no decision leaves evidence',
      remedy: 'Set it to true.',
    })
  }
  if (!security.rateLimiting.enabled) {
    notices.push({
      level: 'CRITICAL',
      code: 'RATE_LIMITING_OFF',
      path: 'security.rateLimiting.enabled',
      message: 'is false; any number of requests is served',
      remedy: 'Set it to true and raise requestsPerMinute instead.',
    })
  }
  if (security.followSymlinks) {
    notices.push({
      level: 'WARNING',
      code: 'LINKS_FOLLOWED',
      path: 'security.followSymlinks',
      message: 'is true; the configuration and the files that it names may be symbolic links',
      remedy: 'Name the files themselves and remove it.',
    })
  }
  if (agent.websocket === 'opaque') {
    notices.push({
      level: 'WARNING',
      code: 'WEBSOCKET_OPAQUE',
      path: 'agent.websocket',
      message: 'is "opaque"; size and rate of WebSocket messages are not limited',
      remedy: 'Use "framed" unless the agent needs compression end to end.',
    })
  }
  return notices
}

function agentNotices({ config, given }: Subject): readonly Notice[] {
  const notices: Notice[] = []
  const { image, upstream } = config.agent
  if (image === undefined && !given.has('agent.upstream')) {
    notices.push({
      level: 'INFO',
      code: 'AGENT_DEFAULT',
      path: 'agent.upstream',
      message: `is not set; the agent is expected at ${upstream ?? upstreamDefault}`,
      remedy: 'Set agent.upstream, or agent.image to launch the agent in a sandbox.',
    })
  }
  if (config.agents.defaults.sandbox.mode === 'off') {
    notices.push({
      level: 'CRITICAL',
      code: 'SANDBOX_OFF',
      path: 'agents.defaults.sandbox.mode',
      message: 'is "off"; the agent runs without a sandbox of ours',
      remedy: 'Set agent.image and remove this line.',
    })
  } else if (image === undefined) {
    const set = [...given].some((path) => path.startsWith('agents.defaults.sandbox.'))
    notices.push({
      level: set ? 'WARNING' : 'INFO',
      code: 'SANDBOX_NOT_APPLIED',
      path: 'agents.defaults.sandbox',
      message: 'is not applied to an agent that Hardshell does not launch',
      remedy: 'Set agent.image to launch the agent in a sandbox.',
    })
  }
  return notices
}

function pluginNotices({ plugins, agent }: Config): readonly Notice[] {
  if (plugins.enabled.length === 0) return []
  const notice = { level: 'INFO', code: 'PLUGINS_UNUSED', path: 'plugins.enabled' } as const
  if (plugins.dir === undefined) {
    const message = 'has no effect without plugins.dir'
    return [{ ...notice, message, remedy: 'Name the folder of plugins, or remove the list.' }]
  }
  if (agent.image !== undefined) return []
  const message = 'has no effect on an agent that Hardshell does not launch'
  return [{ ...notice, message, remedy: 'Set agent.image, or remove the list.' }]
}

/** Everything worth knowing about a configuration without problems, the gravest first. */
export function noticesOf(subject: Subject): readonly Notice[] {
  const all = [
    ...controlUiNotices(subject.config),
    ...exposureNotices(subject.config),
    ...vouchingNotices(subject),
    ...looseNotices(subject.config),
    ...passwordNotices(subject.config),
    ...agentNotices(subject),
    ...pluginNotices(subject.config),
    ...channelRules(subject.config).flatMap((rules) => rules.channelNotices(subject.config)),
  ]
  const order = ['CRITICAL', 'WARNING', 'INFO']
  return all.toSorted((a, b) => order.indexOf(a.level) - order.indexOf(b.level))
}
