/** Checks of the agent behind us: whether it can be reached around us, and what its own configuration allows. */
import { isLoopback } from '../config/rules.ts'
import { judgeToken, sameSecret } from '../identity/token-rule.ts'
import {
  inGroup,
  ofConfig,
  ofMeasured,
  unmeasured,
  when,
  type Check,
  type Found,
  type Look,
} from './check.ts'
import type { AgentConfigFacts } from './context.ts'

type Tree = Readonly<Record<string, unknown>>

const isTree = (value: unknown): value is Tree =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** The value at a path of a document of unknown shape. */
export function at(document: unknown, path: string): unknown {
  let value = document
  for (const name of path.split('.')) {
    if (!isTree(value) || !Object.hasOwn(value, name)) return undefined
    value = value[name]
  }
  return value
}

/** Every leaf with its path; lists are leaves. Bounded in depth, because the document is not ours. */
export function leaves(
  value: unknown,
  path = '',
  depth = 0,
): readonly (readonly [string, unknown])[] {
  if (!isTree(value) || depth > 12) return [[path, value]]
  return Object.entries(value).flatMap(([name, below]) =>
    leaves(below, path === '' ? name : `${path}.${name}`, depth + 1),
  )
}

function ofFile(look: (facts: AgentConfigFacts) => readonly string[]) {
  return ofMeasured(
    ({ agentConfig }) => agentConfig,
    (facts): Look =>
      look(facts).map((found): Found => ({ found: `${found} in ${facts.file}`, file: facts.file })),
  )
}

/** Leaves whose path ends so and whose value is so. */
function named(pattern: RegExp, holds: (value: unknown) => boolean) {
  return ofFile(({ document }) =>
    leaves(document)
      .filter(([path, value]) => pattern.test(path) && holds(value))
      .map(([path, value]) => `${path} is ${shown(value)}`),
  )
}

const shown = (value: unknown) => (Array.isArray(value) ? 'a list with "*"' : JSON.stringify(value))
const isTrue = (value: unknown) => value === true
const hasStar = (value: unknown) => Array.isArray(value) && value.includes('*')
const literal = (value: unknown): value is string =>
  typeof value === 'string' && value !== '' && !value.includes('${')

const own = 'Change it in the file of the agent.'

/** Where the agent listens, by the port of agent.upstream. */
const upstreamOf = (text: string | undefined) => URL.parse(text ?? '')

/** Around us, and inside the file of OpenClaw, Clawdbot or Moltbot. */
export const agentChecks: readonly Check[] = inGroup('agent', [
  {
    id: 'agent.reachable-around',
    severity: 'HIGH',
    title: 'The agent listens on loopback only, so that nobody reaches it around us',
    remedy: 'Let the agent listen on 127.0.0.1 (OpenClaw: gateway.bind "loopback").',
    look: ofConfig((config, context) => {
      const url = upstreamOf(config.agent.upstream)
      if (config.agent.image !== undefined || url?.protocol !== 'http:') return []
      return ofMeasured(
        ({ listening }) => listening,
        (listening) => {
          const ports = listening.filter(({ port }) => port === Number(url.port || 80))
          if (ports.length === 0) return unmeasured('nothing listens on the port of agent.upstream')
          return ports
            .filter(({ address }) => !isLoopback(address))
            .map(({ address, port }) => ({ found: `the agent listens on ${address}:${port}` }))
        },
      )(context)
    }),
  },
  {
    id: 'agent.upstream-remote',
    severity: 'HIGH',
    title: 'The way to the agent does not cross a network',
    remedy: 'Run Hardshell beside the agent and use http://127.0.0.1 or a Unix socket.',
    look: ofConfig(({ agent }) => {
      const url = upstreamOf(agent.upstream)
      if (agent.image !== undefined || url?.protocol !== 'http:') return []
      const host = url.hostname.replace(/^\[|\]$/g, '')
      // A name without a dot is a service of the same compose file.
      const near = host === 'localhost' || isLoopback(host) || /^[a-z][a-z0-9_-]*$/i.test(host)
      return when(!near, `agent.upstream ${url.origin} is reached over the network without TLS`)
    }),
  },
  {
    id: 'agent.reads-our-files',
    severity: 'HIGH',
    title: 'The agent cannot read the keys of Hardshell',
    remedy:
      'Run the agent and Hardshell as two users, or set agent.image to launch it in a sandbox.',
    look: ofMeasured(
      ({ neighbours }) => neighbours,
      (neighbours, { home }) =>
        neighbours.map(({ name, pid }) => ({
          found: `${name} (process ${pid}) is behind agent.upstream, runs as the user of Hardshell and sees ${home}`,
        })),
    ),
  },
  {
    id: 'agent.answers-directly',
    severity: 'MEDIUM',
    title: 'The agent asks for a credential of its own (--deep)',
    remedy: 'Give the agent a token and put it into agent.token.',
    look: ofMeasured(
      ({ probes }) => probes,
      ({ agentDirect: status }) =>
        status === undefined || status === 0
          ? unmeasured('the agent cannot be asked around us')
          : when(status < 400, `the agent answers ${status} to anyone on this machine`),
    ),
  },
  {
    id: 'agent.config-mode',
    severity: 'HIGH',
    title: "Only its owner can read the agent's configuration",
    remedy: 'Run chmod 600 on that file.',
    look: ofFile(({ mode }) => ((mode & 0o077) === 0 ? [] : [`mode ${mode.toString(8)} is set`])),
  },
  {
    id: 'agent.insecure-auth',
    severity: 'HIGH',
    title: 'The agent does not set allowInsecureAuth',
    remedy: own,
    look: named(/(?:^|\.)allowInsecureAuth$/, isTrue),
  },
  {
    id: 'agent.device-auth-off',
    severity: 'CRITICAL',
    title: 'The agent does not set dangerouslyDisableDeviceAuth',
    remedy: own,
    look: named(/(?:^|\.)dangerouslyDisableDeviceAuth$/, isTrue),
  },
  {
    id: 'agent.dangerous-flag',
    severity: 'HIGH',
    title: 'The agent sets no other flag that calls itself dangerous',
    remedy: own,
    look: named(/(?:^|\.)(?:dangerously(?!DisableDeviceAuth$)[A-Z]|allowUnsafe)[A-Za-z]*$/, isTrue),
  },
  {
    id: 'agent.bind',
    severity: 'HIGH',
    title: 'The agent is told to listen on loopback',
    remedy: 'Set gateway.bind to "loopback" in the file of the agent.',
    look: ofFile(({ document }) => {
      const bind = at(document, 'gateway.bind')
      const near = bind === undefined || bind === 'loopback' || bind === 'localhost'
      return near || (typeof bind === 'string' && isLoopback(bind))
        ? []
        : [`gateway.bind is ${shown(bind)}`]
    }),
  },
  {
    id: 'agent.auth-none',
    severity: 'HIGH',
    title: 'The agent asks for a credential',
    remedy: 'Set gateway.auth.token in the file of the agent, and agent.token here.',
    look: ofFile(({ document }) => {
      const mode = at(document, 'gateway.auth.mode')
      return mode === 'none' ? ['gateway.auth.mode is "none"'] : []
    }),
  },
  {
    id: 'agent.token-weak',
    severity: 'MEDIUM',
    title: "The agent's own token is a strong one",
    remedy: own,
    look: ofFile(({ document }) => {
      const token = at(document, 'gateway.auth.token')
      const verdict = literal(token) ? judgeToken(token) : undefined
      return verdict === undefined ? [] : [`gateway.auth.token is weak (${verdict.code})`]
    }),
  },
  {
    id: 'agent.password-short',
    severity: 'MEDIUM',
    title: "The agent's own password is long enough",
    remedy: own,
    look: ofFile(({ document }) => {
      const password = at(document, 'gateway.auth.password')
      return literal(password) && password.length < 16
        ? ['gateway.auth.password has fewer than 16 characters']
        : []
    }),
  },
  {
    id: 'agent.token-equal',
    severity: 'CRITICAL',
    title: 'The agent and Hardshell have different tokens',
    remedy: 'Make a new token here: "hardshell security audit --fix" or "openssl rand -hex 32".',
    look: ofFile(({ sameToken }) =>
      sameToken ? ['gateway.auth.token is the token that guards Hardshell'] : [],
    ),
  },
  {
    id: 'agent.hooks-token',
    severity: 'HIGH',
    title: "The agent's hooks have a token of their own",
    remedy: own,
    look: ofFile(({ document }) => {
      const token = at(document, 'hooks.token')
      if (!literal(token)) return []
      const gateway = at(document, 'gateway.auth.token')
      if (literal(gateway) && sameSecret(token, gateway))
        return ['hooks.token is the same as gateway.auth.token']
      return token.length < 24 ? ['hooks.token has fewer than 24 characters'] : []
    }),
  },
  {
    id: 'agent.dm-open',
    severity: 'HIGH',
    title: 'The agent has no open policy for direct chats',
    remedy: 'Set it to "pairing" in the file of the agent.',
    look: named(/(?:^|\.)(?:dmPolicy|dm\.policy)$/, (value) => value === 'open'),
  },
  {
    id: 'agent.group-open',
    severity: 'HIGH',
    title: 'The agent has no open policy for groups',
    remedy: 'Set it to "allowlist" in the file of the agent.',
    look: named(/(?:^|\.)groupPolicy$/, (value) => value === 'open'),
  },
  {
    id: 'agent.wildcard',
    severity: 'HIGH',
    title: 'No list of the agent lets everyone in',
    remedy: 'Remove "*" in the file of the agent.',
    look: named(/(?:^|\.)(?:allowFrom|groupAllowFrom)$/, hasStar),
  },
  {
    id: 'agent.elevated',
    severity: 'HIGH',
    title: 'Nobody but the owner gets elevated tools',
    remedy: 'List ids in tools.elevated.allowFrom of the agent.',
    look: named(/(?:^|\.)elevated\.allowFrom\.[^.]+$/, hasStar),
  },
  {
    id: 'agent.origins',
    severity: 'MEDIUM',
    title: 'The agent does not take browsers from any origin',
    remedy: 'List origins in gateway.controlUi.allowedOrigins of the agent.',
    look: named(/(?:^|\.)allowedOrigins$/, hasStar),
  },
  {
    id: 'agent.funnel',
    severity: 'HIGH',
    title: 'The agent does not publish itself to the internet',
    remedy: own,
    look: named(/(?:^|\.)tailscale\.mode$/, (value) => value === 'funnel'),
  },
  {
    id: 'agent.tailscale-trust',
    severity: 'MEDIUM',
    title: 'The agent does not believe Tailscale headers',
    remedy: 'Remove gateway.auth.allowTailscale in the file of the agent.',
    look: named(/(?:^|\.)auth\.allowTailscale$/, isTrue),
  },
  {
    id: 'agent.sandbox-off',
    severity: 'LOW',
    title: 'The agent runs tools in a sandbox of its own',
    remedy: 'Set agents.defaults.sandbox.mode to "non-main" in the file of the agent.',
    look: named(/^agents\.defaults\.sandbox\.mode$/, (value) => value === 'off'),
  },
  {
    id: 'agent.redaction-off',
    severity: 'MEDIUM',
    title: 'The agent keeps secrets out of its log',
    remedy: own,
    look: named(/(?:^|\.)redactSensitive$/, (value) => value === 'off' || value === false),
  },
  {
    id: 'agent.plain-secrets',
    severity: 'LOW',
    title: "No secret stands in the agent's configuration as plain text",
    remedy: 'Use ${VARIABLE} in its place, in the file of the agent.',
    look: ofFile(({ document }) =>
      leaves(document)
        .filter(
          ([path, value]) => /(?:token|secret|password|apiKey)$/i.test(path) && literal(value),
        )
        .map(([path]) => `${path} stands there as plain text`),
    ),
  },
])
