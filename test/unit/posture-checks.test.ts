import assert from 'node:assert/strict'
import { test } from 'node:test'
import { days, hours, minutes } from '../../src/limits.ts'
import { checks } from '../../src/posture/checks.ts'
import type { PostureContext, Probes } from '../../src/posture/context.ts'
import {
  channelWith,
  configWith,
  contextWith,
  filesWith,
  merge,
  now,
  tokenWith,
} from '../support/posture.ts'
import { cellCases } from '../support/posture-cells.ts'

type Spoil = Partial<PostureContext>

const config = (over: object): Spoil => ({ config: configWith(over) })
const channel = (over: object, more: object = {}): Spoil =>
  config({ channels: { telegram: channelWith(over) }, owners: ['telegram:1'], ...more })
const problem = (code: string): Spoil => ({
  problems: [{ code, path: 'some.key', message: 'is wrong', remedy: 'Mend it.' }] as never,
})
const token = (over: Parameters<typeof tokenWith>[0]): Spoil => ({
  tokens: { value: [tokenWith(over)] },
})
/** A token in the configuration whose age is this share of the default rotation, 30 days. */
const aged = (share: number): Spoil => token({ createdAt: now - share * days(30) })
const file = (...more: Parameters<typeof filesWith>): Spoil => ({ files: filesWith(...more) })
const following = config({ security: { followSymlinks: true } })
const limit = (over: object): Spoil => config({ security: { limits: over } })
const socketLimit = (over: object): Spoil => limit({ webSocket: over })
const rate = (over: object): Spoil => config({ security: { rateLimiting: over } })
const part = (name: 'engine' | 'audit' | 'agentConfig' | 'plugins', over: object): Spoil => ({
  [name]: merge(contextWith()[name], { value: over }),
})
const document = (over: object): Spoil => part('agentConfig', { document: over })
const probes = (over: Partial<Probes>): Spoil => ({
  probes: merge(contextWith().probes, { value: over }) as PostureContext['probes'],
})
const secret = (path: string, from: 'config' | 'environment' = 'config'): Spoil => ({
  secrets: [{ path, from, name: 'HARDSHELL_TOKEN' }],
})
const upstream = (url: string, more: Spoil = {}): Spoil => ({
  ...config({ agent: { image: undefined, upstream: url } }),
  ...more,
})
const plugin = (state: string): Spoil =>
  part('plugins', { plugins: [{ name: 'git', state, because: 'is not as it was' }] })
const listening = (address: string, port: number): Spoil => ({
  listening: { value: [{ address, port }] },
})
const MB = 1024 ** 2

/** What makes each check fire; some have a twin just inside the bound, which must stay quiet. */
const cases: Record<string, { fires: Spoil; quiet?: Spoil }> = {
  'configuration.invalid': { fires: problem('UNKNOWN_KEY'), quiet: problem('WILDCARD') },
  'configuration.unreadable': {
    fires: { config: undefined },
    quiet: { config: undefined, configFile: undefined },
  },
  'configuration.missing': { fires: { configFile: undefined } },
  'configuration.shadowed': {
    fires: {
      notices: [
        { level: 'WARNING', code: 'FILE_SHADOWED', path: '', message: 'is not read', remedy: '' },
      ],
    },
  },
  'configuration.stale': { fires: { configHash: 'bb' } },
  'configuration.suppressions': { fires: { suppressionFault: 'is not JSON5' } },
  'configuration.suppression-ended': {
    fires: { suppressions: [{ id: 'time.implausible', reason: 'a test', until: now }] },
    quiet: { suppressions: [{ id: 'time.implausible', reason: 'a test', until: now + 1 }] },
  },
  'credentials.token-missing': { fires: problem('TOKEN_MISSING') },
  'credentials.token-short': { fires: problem('TOKEN_SHORT') },
  'credentials.token-plain': { fires: problem('TOKEN_PLAIN') },
  'credentials.token-example': { fires: problem('TOKEN_EXAMPLE') },
  'credentials.token-pattern': { fires: problem('TOKEN_PATTERN') },
  'credentials.token-is-agents': { fires: problem('TOKEN_IS_AGENTS') },
  'credentials.token-aged': { fires: aged(1), quiet: aged(0.99) },
  'credentials.token-ageing': { fires: aged(0.8), quiet: aged(0.79) },
  'credentials.token-revoked': {
    fires: token({ status: 'revoked' }),
    quiet: {
      tokens: { value: [tokenWith({ status: 'revoked' }), tokenWith({ id: 'default-2' })] },
    },
  },
  'credentials.rotation-slow': {
    fires: config({ gateway: { auth: { tokenRotation: days(90) + 1 } } }),
    quiet: config({ gateway: { auth: { tokenRotation: days(90) } } }),
  },
  'credentials.token-unused': {
    fires: token({ kind: 'managed', createdAt: now - days(200), lastUsedAt: now - days(91) }),
    quiet: token({ kind: 'managed', createdAt: now - days(200), lastUsedAt: now - days(90) }),
  },
  'credentials.token-admin': {
    fires: token({ scopes: ['admin'] }),
    quiet: token({ scopes: ['admin'], networks: ['10.0.0.0/8'] }),
  },
  'credentials.password-hash': { fires: problem('PASSWORD_HASH') },
  'credentials.password-hash-weak': {
    fires: config({ gateway: { auth: { passwordHash: phc(19_456) } } }),
    quiet: config({ gateway: { auth: { passwordHash: phc(65_536) } } }),
  },
  'credentials.jwt-keys-plain': {
    fires: config({ gateway: { auth: { jwt: { jwks: 'http://127.0.0.1/keys' } } } }),
    quiet: config({ gateway: { auth: { jwt: { jwks: 'https://a.example/keys' } } } }),
  },
  'credentials.agent-token-weak': {
    fires: config({ agent: { token: 'short' } }),
    quiet: config({
      agent: { token: '0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f1' },
    }),
  },
  'exposure.all-interfaces': {
    fires: config({ gateway: { bind: '0.0.0.0' } }),
    quiet: config({ gateway: { bind: '::1' } }),
  },
  'exposure.network': {
    fires: config({ gateway: { bind: '192.168.1.5' } }),
    quiet: config({ gateway: { bind: '127.0.0.2' } }),
  },
  'exposure.bind-refused': { fires: problem('BIND_ALL') },
  'exposure.bind-all-unused': {
    fires: config({ gateway: { dangerouslyBindAllInterfaces: true } }),
    quiet: config({ gateway: { dangerouslyBindAllInterfaces: true, bind: '::' } }),
  },
  'exposure.insecure-auth': {
    fires: config({ gateway: { controlUi: { allowInsecureAuth: true } } }),
    quiet: config({ gateway: { controlUi: { allowInsecureAuth: false } } }),
  },
  'exposure.device-auth-off': {
    fires: config({ gateway: { controlUi: { dangerouslyDisableDeviceAuth: true } } }),
    quiet: config({ gateway: { controlUi: { dangerouslyDisableDeviceAuth: false } } }),
  },
  'exposure.control-ui-deprecated': {
    fires: config({ gateway: { controlUi: { allowInsecureAuth: false } } }),
  },
  'exposure.hops-wide': {
    fires: config({ gateway: { trustedProxies: ['10.0.0.0/23'] } }),
    quiet: config({ gateway: { trustedProxies: ['10.0.0.0/24', 'fd00::/64'] } }),
  },
  'exposure.funnel-allowed': {
    fires: config({ gateway: { auth: { tailscale: { allowFunnel: true } } } }),
  },
  'exposure.origin-plain': {
    fires: config({ gateway: { publicOrigins: ['http://bot.example'] } }),
    quiet: config({ gateway: { publicOrigins: ['https://bot.example', 'http://localhost:3000'] } }),
  },
  'exposure.port-elsewhere': {
    fires: listening('0.0.0.0', 8080),
    quiet: listening('0.0.0.0', 8081),
  },
  'exposure.answers-without-token': { fires: probes({ withoutToken: 200 }) },
  'exposure.answers-wrong-token': {
    fires: probes({ wrongToken: 200 }),
    quiet: probes({ wrongToken: 429 }),
  },
  'exposure.answers-foreign-host': { fires: probes({ foreignHost: 302 }) },
  'exposure.funnel-on': { fires: probes({ funnel: { value: true } }) },
  'people.policy-open': { fires: problem('POLICY_OPEN') },
  'people.wildcard': { fires: problem('WILDCARD') },
  'people.everyone': { fires: problem('ALLOWLIST_EMPTY') },
  'people.handles': { fires: problem('HANDLE') },
  'people.channel-unproven': { fires: problem('SECRET_MISSING') },
  'people.deny-by-default-off': {
    fires: config({ gateway: { dmPolicies: { denyByDefault: false } } }),
  },
  'people.dm-policies-off': { fires: config({ gateway: { dmPolicies: { enabled: false } } }) },
  'people.group-policies-off': {
    fires: config({ gateway: { groupPolicies: { enabled: false } } }),
  },
  'people.mention-gating-off': {
    fires: config({ gateway: { groupPolicies: { mentionGating: false } } }),
  },
  'people.channel-mention-off': {
    fires: channel({ requireMention: false }),
    quiet: channel({ requireMention: true }),
  },
  'people.owner-missing': { fires: channel({}, { owners: [] }), quiet: channel({}) },
  'people.list-long': {
    fires: channel({ allowFrom: numbers(101) }),
    quiet: channel({ allowFrom: numbers(100) }),
  },
  'people.stale': {
    fires: channel({ allowFrom: ['1', '2'] }),
    quiet: channel({ allowFrom: ['1', 'telegram:1'] }),
  },
  'limits.rate-limiting-off': { fires: rate({ enabled: false }) },
  'limits.websocket-opaque': { fires: config({ agent: { websocket: 'opaque' } }) },
  'limits.sender-budget': {
    fires: channel({ messagesPerMinute: 21 }),
    quiet: channel({ messagesPerMinute: 20, messagesPerDay: 500 }),
  },
  'limits.max-request-size': {
    fires: config({ security: { maxRequestSize: 10 * MB + 1 } }),
    quiet: config({ security: { maxRequestSize: 10 * MB } }),
  },
  'limits.requests-per-minute': {
    fires: rate({ requestsPerMinute: 61 }),
    quiet: rate({ requestsPerMinute: 60 }),
  },
  'limits.requests-per-minute-per-address': {
    fires: rate({ requestsPerMinutePerAddress: 301 }),
    quiet: rate({ requestsPerMinutePerAddress: 300 }),
  },
  'limits.auth-failures-attempts': {
    fires: rate({ authFailures: { attempts: 6 } }),
    quiet: rate({ authFailures: { attempts: 5 } }),
  },
  'limits.auth-failures-window': {
    fires: rate({ authFailures: { window: minutes(5) - 1 } }),
    quiet: rate({ authFailures: { window: minutes(5) } }),
  },
  'limits.auth-failures-lockout': {
    fires: rate({ authFailures: { lockout: minutes(5) - 1 } }),
    quiet: rate({ authFailures: { lockout: minutes(6) } }),
  },
  'limits.header-timeout': {
    fires: limit({ headerTimeout: 10_001 }),
    quiet: limit({ headerTimeout: 10_000 }),
  },
  'limits.body-timeout': { fires: limit({ bodyTimeout: 30_001 }) },
  'limits.keep-alive-timeout': { fires: limit({ keepAliveTimeout: 5001 }) },
  'limits.upstream-timeout': { fires: limit({ upstreamTimeout: minutes(5) + 1 }) },
  'limits.max-header-size': { fires: limit({ maxHeaderSize: 16_385 }) },
  'limits.max-headers': { fires: limit({ maxHeaders: 101 }) },
  'limits.max-url-length': { fires: limit({ maxUrlLength: 8193 }) },
  'limits.max-connections': { fires: limit({ maxConnections: 1025 }) },
  'limits.max-connections-per-address': { fires: limit({ maxConnectionsPerAddress: 65 }) },
  'limits.max-requests-per-connection': { fires: limit({ maxRequestsPerConnection: 1001 }) },
  'limits.web-socket-max-message-size': { fires: socketLimit({ maxMessageSize: MB + 1 }) },
  'limits.web-socket-messages-per-minute': { fires: socketLimit({ messagesPerMinute: 601 }) },
  'limits.web-socket-idle-timeout': { fires: socketLimit({ idleTimeout: minutes(10) + 1 }) },
  'limits.web-socket-max-per-identity': { fires: socketLimit({ maxPerIdentity: 17 }) },
  'limits.web-socket-max-per-address': { fires: socketLimit({ maxPerAddress: 65 }) },
  'files.home-mode': { fires: file({ role: 'home', mode: 0o750 }) },
  'files.config-writable': {
    fires: file({ role: 'config', mode: 0o620 }),
    quiet: file({ role: 'config', mode: 0o640 }),
  },
  'files.config-readable': { fires: file({ role: 'config', mode: 0o604 }) },
  'files.keys-mode': { fires: file({ role: 'keys', mode: 0o701 }) },
  'files.key-mode': { fires: file({ role: 'key', mode: 0o640 }) },
  'files.token-mode': {
    fires: file({ role: 'token', mode: 0o604 }),
    quiet: file({ role: 'token', mode: 0o444, uid: 0, platform: true }),
  },
  'files.state-mode': { fires: file({ role: 'state', mode: 0o640 }) },
  'files.audit-mode': { fires: file({ role: 'audit', mode: 0o750 }) },
  'files.record-mode': { fires: file({ role: 'record', mode: 0o644 }) },
  'files.run-mode': { fires: file({ role: 'run', mode: 0o755 }) },
  'files.socket-mode': { fires: file({ role: 'socket', mode: 0o666 }) },
  'files.other-mode': { fires: file({ role: 'other', mode: 0o644 }) },
  'files.link': {
    fires: file({ role: 'state', kind: 'link' }),
    quiet: { ...file({ role: 'config', kind: 'link' }), ...following },
  },
  'files.names': { fires: file({ role: 'key', names: 2 }) },
  'files.kind': { fires: file({ role: 'run', kind: 'other' }) },
  'files.owner': {
    fires: file({ role: 'state', uid: 0 }),
    quiet: file({ role: 'config', uid: 0, platform: true }),
  },
  'files.parents': {
    fires: file({ role: 'parent', mode: 0o777 }),
    quiet: file({ role: 'parent', mode: 0o1777, uid: 0 }),
  },
  'files.follow-links': { fires: following, quiet: file({ role: 'config', kind: 'link' }) },
  'files.workspace': {
    fires: config({ agent: { workspace: '/home/me' } }),
    quiet: config({ agent: { workspace: '/home/me/bot' } }),
  },
  'secrets.token-in-config': { fires: secret('gateway.auth.token') },
  'secrets.in-config': {
    fires: secret('channels.telegram.botToken'),
    quiet: secret('gateway.auth.passwordHash'),
  },
  'secrets.agent-env': { fires: secret('agent.env.API_KEY'), quiet: secret('agent.env.LANG') },
  'secrets.copies': { fires: { plainCopies: ['/home/me/.hardshell/migrations/0001/file-0'] } },
  'secrets.environment': { fires: secret('gateway.auth.token', 'environment') },
  'sandbox.off': { fires: config({ agents: { defaults: { sandbox: { mode: 'off' } } } }) },
  'sandbox.not-applied': { fires: upstream('http://127.0.0.1:18789') },
  'sandbox.drift': {
    fires: part('engine', { containers: [{ name: 'agent', wrong: ['Privileged'] }] }),
  },
  'sandbox.image-missing': { fires: part('engine', { image: false }) },
  'sandbox.image-unpinned': { fires: config({ agent: { image: 'bot:1' } }) },
  'sandbox.engine-socket': {
    fires: part('engine', { mode: 0o666 }),
    quiet: part('engine', { mode: 0o660 }),
  },
  'sandbox.engine-tcp': { fires: listening('127.0.0.1', 2375) },
  'sandbox.engine-seccomp': { fires: part('engine', { securityOptions: ['name=apparmor'] }) },
  'sandbox.engine-apparmor': { fires: part('engine', { securityOptions: ['name=seccomp'] }) },
  'sandbox.root': { fires: { uid: 0 } },
  ...cellCases,
  'agent.reachable-around': {
    fires: upstream('http://127.0.0.1:18789', listening('0.0.0.0', 18_789)),
    quiet: upstream('http://127.0.0.1:18789', listening('127.0.0.1', 18_789)),
  },
  'agent.upstream-remote': {
    fires: upstream('http://192.168.1.9:18789'),
    quiet: upstream('http://agent:18789'),
  },
  'agent.reads-our-files': { fires: { neighbours: { value: [{ pid: 4711, name: 'node' }] } } },
  'agent.answers-directly': { fires: probes({ agentDirect: 200 }) },
  'agent.config-mode': { fires: part('agentConfig', { mode: 0o644 }) },
  'agent.insecure-auth': {
    fires: document({ gateway: { controlUi: { allowInsecureAuth: true } } }),
    quiet: document({ gateway: { controlUi: { allowInsecureAuth: false } } }),
  },
  'agent.device-auth-off': {
    fires: document({ gateway: { controlUi: { dangerouslyDisableDeviceAuth: true } } }),
  },
  'agent.dangerous-flag': {
    fires: document({ gateway: { controlUi: { dangerouslyAllowHostHeaderOriginFallback: true } } }),
    quiet: document({ gateway: { controlUi: { dangerouslyDisableDeviceAuth: true } } }),
  },
  'agent.bind': { fires: document({ gateway: { bind: 'lan' } }) },
  'agent.auth-none': { fires: document({ gateway: { auth: { mode: 'none' } } }) },
  'agent.token-weak': { fires: document({ gateway: { auth: { token: 'abc' } } }) },
  'agent.password-short': {
    fires: document({ gateway: { auth: { password: 'fifteen-letters' } } }),
    quiet: document({ gateway: { auth: { password: 'sixteen--letters' } } }),
  },
  'agent.token-equal': { fires: part('agentConfig', { sameToken: true }) },
  'agent.hooks-token': {
    fires: document({ hooks: { token: 'abc' } }),
    quiet: document({ hooks: { token: 'a-token-of-24-characters' } }),
  },
  'agent.dm-open': {
    fires: document({ channels: { telegram: { dmPolicy: 'open' } } }),
    quiet: document({ channels: { telegram: { dmPolicy: 'pairing' } } }),
  },
  'agent.group-open': { fires: document({ channels: { telegram: { groupPolicy: 'open' } } }) },
  'agent.wildcard': { fires: document({ channels: { telegram: { allowFrom: ['*'] } } }) },
  'agent.elevated': { fires: document({ tools: { elevated: { allowFrom: { slack: ['*'] } } } }) },
  'agent.origins': { fires: document({ gateway: { controlUi: { allowedOrigins: ['*'] } } }) },
  'agent.funnel': { fires: document({ gateway: { tailscale: { mode: 'funnel' } } }) },
  'agent.tailscale-trust': { fires: document({ gateway: { auth: { allowTailscale: true } } }) },
  'agent.sandbox-off': {
    fires: document({ agents: { defaults: { sandbox: { mode: 'off' } } } }),
  },
  'agent.redaction-off': { fires: document({ logging: { redactSensitive: 'off' } }) },
  'agent.plain-secrets': { fires: document({ channels: { slack: { botToken: 'xoxb-1' } } }) },
  'plugins.refused': { fires: plugin('changed'), quiet: plugin('not enabled') },
  'plugins.lock': { fires: part('plugins', { lockFault: 'is not signed by our key' }) },
  'plugins.missing': { fires: plugin('missing') },
  'plugins.folder': { fires: part('plugins', { dirFault: 'can be changed by others' }) },
  'plugins.no-folder': {
    fires: config({ plugins: { enabled: ['git'] } }),
    quiet: config({ plugins: { enabled: ['git'], dir: '/srv/plugins' } }),
  },
  'plugins.contradiction': {
    fires: config({ plugins: { enabled: ['git'], disabled: ['git'], dir: '/srv/plugins' } }),
    quiet: config({ plugins: { enabled: ['git'], disabled: ['test'], dir: '/srv/plugins' } }),
  },
  'audit.off': { fires: config({ security: { auditLogging: false } }) },
  'audit.broken': { fires: part('audit', { ok: false, broken: 'line 3' }) },
  'audit.failing': {
    fires: { running: merge(contextWith().running, { auditFailing: 'ENOSPC' }) as never },
  },
  'audit.key-missing': { fires: part('audit', { keyMissing: true }) },
  'audit.checkpoint-old': {
    fires: part('audit', { checkpointAt: now - 1001 - hours(1) }),
    quiet: part('audit', { checkpointAt: now - 1000 - hours(1) }),
  },
  'audit.keep-short': {
    fires: config({ security: { audit: { keep: 9 } } }),
    quiet: config({ security: { audit: { keep: 10 } } }),
  },
  'audit.rotate-large': {
    fires: config({ security: { audit: { rotate: 1024 * MB + 1 } } }),
    quiet: config({ security: { audit: { rotate: 1024 * MB } } }),
  },
  'audit.disk': {
    fires: part('audit', { freeBytes: 200 * MB - 1 }),
    quiet: part('audit', { freeBytes: 200 * MB }),
  },
  'versions.node': { fires: { node: '24.12.9' }, quiet: { node: '24.13.0' } },
  'versions.engine': {
    fires: part('engine', { version: '27.1.0' }),
    quiet: part('engine', { version: '26.1.5' }),
  },
  'versions.runc': {
    fires: part('engine', { runc: '1.2.7' }),
    quiet: part('engine', { runc: '1.4.1' }),
  },
  'time.implausible': { fires: { now: Date.UTC(2025, 0, 1) } },
  'time.unsynchronised': { fires: { clockSynchronised: { value: false } } },
  'time.audit-future': {
    fires: part('audit', { newestAt: now + minutes(5) + 1 }),
    quiet: part('audit', { newestAt: now + minutes(5) }),
  },
  'time.token-future': {
    fires: token({ createdAt: now + minutes(5) + 1 }),
    quiet: token({ createdAt: now + minutes(5) }),
  },
}

function phc(memory: number): string {
  return `$argon2id$v=19$m=${memory},t=3,p=4$${'A'.repeat(22)}$${'A'.repeat(43)}`
}

function numbers(count: number): readonly string[] {
  return Array.from({ length: count }, (_, at) => String(at + 1))
}

test('every check has a case that makes it fire, and no case is for a check that is gone', () => {
  assert.deepEqual(Object.keys(cases).toSorted(), checks.map(({ id }) => id).toSorted())
  assert.ok(checks.length >= 60)
})

test('in a sound installation every check was made and has nothing to say', () => {
  for (const check of checks) assert.deepEqual(check.look(contextWith()), [], check.id)
})

for (const check of checks) {
  test(`${check.id} fires on its fault, with words and a remedy, and is quiet beside it`, () => {
    const { fires, quiet } = cases[check.id] ?? { fires: {} }
    const found = check.look(contextWith(fires))
    assert.ok(!('unmeasured' in found) && found.length > 0, JSON.stringify(found))
    for (const { found: words, remedy = check.remedy } of found) {
      assert.ok(words.length > 5 && !/undefined|\n/.test(words), words)
      assert.ok(remedy.length > 5, check.id)
    }
    assert.deepEqual(check.look(contextWith(quiet)), [])
  })
}

test('what cannot be looked at is not measured, never fine', () => {
  const blind = { unmeasured: 'a reason' }
  const context = contextWith({
    config: undefined,
    running: undefined,
    tokens: blind,
    listening: blind,
    engine: blind,
    agentConfig: blind,
    neighbours: blind,
    plugins: blind,
    audit: blind,
    speakers: blind,
    clockSynchronised: blind,
    probes: blind,
    files: [],
  })
  const answers = checks.map((check) => [check.id, check.look(context)] as const)
  const fine = answers.filter(([, look]) => Array.isArray(look)).map(([id]) => id)
  // These look at what is always there: problems, notices, links among files, secrets, the clock, Node.
  const always =
    /^(?:configuration\.(?!stale)|credentials\.(?:token-(?:missing|short|plain|example|pattern|is-agents)|password-hash$)|exposure\.bind-refused|people\.(?:policy-open|wildcard|everyone|handles|channel-unproven|stale)|files\.(?:link|names|kind|owner|parents)|secrets\.|sandbox\.root|versions\.node|time\.implausible)/
  assert.deepEqual(
    fine.filter((id) => !always.test(id)),
    [],
  )
})

test('a version that a distribution mends is not measured by its number', () => {
  for (const runc of ['1.1.5+ds1', '1.1.12-0ubuntu2', '1.1.5~ds1']) {
    const look = checks
      .find(({ id }) => id === 'versions.runc')
      ?.look(contextWith(part('engine', { runc })))
    assert.ok(look !== undefined && 'unmeasured' in look, runc)
  }
})

test('a log without a checkpoint is late only an hour after its first record', () => {
  const check = checks.find(({ id }) => id === 'audit.checkpoint-old')
  const without = (oldestAt: number) =>
    check?.look(contextWith(part('audit', { checkpointAt: undefined, newestAt: now, oldestAt })))
  assert.deepEqual(without(now - hours(1)), [])
  assert.equal([without(now - hours(1) - 1)].flat().length, 1)
})

test('a token that its file no longer names is not the one whose age counts', () => {
  const check = checks.find(({ id }) => id === 'credentials.token-aged')
  // Good for its grace, and not due any more.
  const before = tokenWith({ id: 'default-1', createdAt: now - days(31), endsAt: now + days(1) })
  const named = (createdAt: number) => tokenWith({ id: 'default-2', createdAt, dueAt: now })
  const look = (createdAt: number) =>
    check?.look(contextWith({ tokens: { value: [before, named(createdAt)] } }))
  assert.deepEqual(look(now), [])
  assert.equal([look(now - days(30))].flat().length, 1)
})
