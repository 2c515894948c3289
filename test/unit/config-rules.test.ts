import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addressOf } from '../../src/config/container.ts'
import { codesOf, load, nested, problemsOf } from '../support/config-load.ts'

const levels = (loaded: ReturnType<typeof load>) =>
  loaded.notices.map(({ level, code }) => `${level} ${code}`)
const bind = (value: string, more: object = {}) => ({ gateway: { bind: value, ...more } })

test('every spelling of "all interfaces" is refused unless the danger is spelled out', () => {
  const spellings = ['0.0.0.0', '::', '0:0:0:0:0:0:0:0', '::0', '::ffff:0.0.0.0', '0::0.0.0.0']
  for (const address of spellings) {
    assert.deepEqual(codesOf(bind(address)), ['gateway.bind BIND_ALL'], address)
    const loaded = load(bind(address, { dangerouslyBindAllInterfaces: true }))
    assert.ok(levels(loaded).includes('CRITICAL BIND_ALL'), address)
  }
})

test('an address of the local network loads with a warning, and loopback without', () => {
  assert.ok(levels(load(bind('192.168.1.100'))).includes('WARNING BIND_NETWORK'))
  for (const address of ['127.0.0.1', '127.0.0.2', '::1', 'loopback']) {
    assert.ok(!levels(load(bind(address))).some((line) => line.includes('BIND')), address)
  }
  for (const name of ['localhost', 'lan', '127.1', '0', '1.2.3.4.5', 'example.org', '']) {
    assert.deepEqual(codesOf(bind(name)), ['gateway.bind ADDRESS'], name)
  }
})

test('bind "container" is the address of the container, and refused outside of one', () => {
  assert.deepEqual(codesOf(bind('container')), ['gateway.bind BIND_CONTAINER'])
  const info = { netmask: '', mac: '', cidr: null }
  const interfaces = {
    lo: [{ ...info, address: '127.0.0.1', family: 'IPv4' as const, internal: true }],
    eth0: [{ ...info, address: '172.18.0.2', family: 'IPv4' as const, internal: false }],
  }
  const inside = { inContainer: () => true, interfaces }
  assert.equal(load(bind('container'), undefined, inside).config.gateway.bind, '172.18.0.2')
  assert.deepEqual(codesOf(bind('container'), undefined, { ...inside, interfaces: {} }), [
    'gateway.bind BIND_CONTAINER',
  ])
  assert.equal(
    addressOf('127.0.0.1', () => interfaces),
    '127.0.0.1',
  )
})

test('denyByDefault false with an empty allowlist is refused', () => {
  const policies = (denyByDefault: boolean) => nested('gateway.dmPolicies', { denyByDefault })
  assert.deepEqual(codesOf(policies(false)), ['gateway.dmPolicies.denyByDefault ALLOWLIST_EMPTY'])
  assert.doesNotThrow(() => load(policies(true)))
})

test('denyByDefault false is told as what it does: nothing where nobody is proven, and asking where somebody is', () => {
  const dmPolicies = { denyByDefault: false, allowlist: ['alice@example.com'] }
  const jwt = { issuer: 'https://id.test/', audience: 'a', jwks: 'https://id.test/keys' }
  const told = (gateway: object) =>
    load({ gateway: { dmPolicies, ...gateway } }).notices.flatMap(({ code, level }) =>
      code === 'DENY_BY_DEFAULT_OFF' ? [level] : [],
    )
  assert.deepEqual(told({}), ['WARNING'])
  assert.deepEqual(told({ auth: { mode: 'jwt', jwt } }), ['INFO'])
  const off = { ...dmPolicies, enabled: false }
  assert.deepEqual(told({ auth: { mode: 'jwt', jwt }, dmPolicies: off }), ['WARNING'])
})

test('a policy "open" and an entry "*" quote the migration to pairing', () => {
  const problems = problemsOf({
    channels: { telegram: { dm: { policy: 'open', allowFrom: ['*'] } } },
  })
  const remedyOf = (code: string) => problems.find((problem) => problem.code === code)?.remedy ?? ''
  assert.match(remedyOf('POLICY_OPEN'), /"pairing"/)
  assert.match(remedyOf('WILDCARD'), /"pairing"/)
  const flat = codesOf({ channels: { slack: { dmPolicy: 'open', allowFrom: ['*'] } } })
  assert.ok(flat.includes('channels.slack.dmPolicy POLICY_OPEN'))
  assert.ok(flat.includes('channels.slack.allowFrom[0] WILDCARD'))
  assert.deepEqual(codesOf(nested('gateway.dmPolicies.allowlist', ['*'])), [
    'gateway.dmPolicies.allowlist[0] WILDCARD',
  ])
})

test('flags of the control UI are only reported: true is critical, false a line to remove', () => {
  for (const key of ['allowInsecureAuth', 'dangerouslyDisableDeviceAuth']) {
    const path = `gateway.controlUi.${key}`
    assert.ok(levels(load(nested(path, true))).includes('CRITICAL CONTROL_UI_INSECURE'))
    assert.ok(levels(load(nested(path, false))).includes('INFO CONTROL_UI_DEPRECATED'))
    assert.deepEqual(codesOf(nested(path, 'no')), [`${path} TYPE`])
  }
})

test('an agent is launched or found, never both', () => {
  assert.deepEqual(codesOf({ agent: { image: 'bot:1', upstream: 'http://127.0.0.1:1' } }), [
    'agent.image EXCLUSIVE',
  ])
  const launched = load({ agent: { image: 'bot:1', port: 3000 } })
  assert.equal(launched.config.agent.upstream, undefined)
  assert.equal(launched.config.agent.image, 'bot:1')
  assert.ok(levels(load('{}')).includes('INFO AGENT_DEFAULT'))
})

test('a key that would have no effect is refused, never ignored', () => {
  const upstream = 'http://127.0.0.1:3000'
  for (const [key, value] of Object.entries({
    command: ['x'],
    args: ['x'],
    env: { A: 'b' },
    workdir: '/app',
    port: 3000,
    healthPath: '/up',
    workspace: '/srv/bot',
  })) {
    assert.deepEqual(codesOf({ agent: { upstream, [key]: value } }), [`agent.${key} EXCLUSIVE`])
    assert.doesNotThrow(() => load({ agent: { image: 'bot:1', [key]: value } }), key)
  }
})

test('the address of an agent is canonical, and never our own', () => {
  const of = (upstream: string) => load({ agent: { upstream } }).config.agent.upstream
  assert.equal(of('HTTP://LocalHost:3000/'), 'http://localhost:3000')
  assert.equal(of('http://[::1]:3000'), 'http://[::1]:3000')
  assert.equal(of('unix:/portal/in.sock'), 'unix:/portal/in.sock')
  for (const upstream of ['http://127.0.0.1:8080', 'http://localhost:8080', 'http://[::1]:8080']) {
    assert.deepEqual(codesOf({ agent: { upstream } }), ['agent.upstream LOOP'], upstream)
  }
  for (const upstream of [
    'https://bot:1',
    'http://me:pw@bot:1',
    'http://bot:1/path',
    'http://bot:1?q',
    'http://bot:99999',
    'http://0.0.0.0:1',
    'bot:3000',
    'unix:relative.sock',
    'file:///etc/passwd',
  ]) {
    assert.deepEqual(codesOf({ agent: { upstream } }), ['agent.upstream ADDRESS'], upstream)
  }
})

test('sandbox off is honoured beside a running agent, as critical, and refused with an image', () => {
  const agents = { defaults: { sandbox: { mode: 'off' } } }
  const loaded = load({ agents })
  assert.equal(loaded.config.agents.defaults.sandbox.mode, 'off')
  assert.ok(levels(loaded).includes('CRITICAL SANDBOX_OFF'))
  assert.deepEqual(codesOf({ agents, agent: { image: 'bot:1' } }), [
    'agents.defaults.sandbox.mode SANDBOX_OFF',
  ])
})

test('the sandbox is only ever tightened', () => {
  const key = (name: string) => `agents.defaults.sandbox.docker.${name}`
  const tighter: readonly (readonly [string, unknown, unknown])[] = [
    ['memory', '512m', 512 * 1024 ** 2],
    ['memory', '1g', 1024 ** 3],
    ['memory', '2GB', 2 * 1024 ** 3],
    ['memory', '32MB', 32 * 1024 ** 2],
    ['cpus', 0.05, 0.05],
    ['cpus', 2, 2],
    ['pidsLimit', 8, 8],
    ['pidsLimit', 256, 256],
    ['user', '100:100', '100:100'],
    ['network', 'none', 'none'],
    ['readOnlyRoot', true, true],
    ['capDrop', ['ALL', 'NET_RAW'], ['ALL', 'NET_RAW']],
  ]
  for (const [name, value, read] of tighter) {
    const { docker } = load(nested(key(name), value)).config.agents.defaults.sandbox
    assert.deepEqual(docker[name as keyof typeof docker], read, name)
  }
  const looser: readonly (readonly [string, unknown])[] = [
    ['memory', '2049MB'],
    ['memory', '31MB'],
    ['cpus', 2.01],
    ['pidsLimit', 257],
    ['user', '0:0'],
    ['user', '1000:0'],
    ['user', '99:1000'],
    ['network', 'bridge'],
    ['network', 'host'],
    ['readOnlyRoot', false],
    ['capDrop', []],
    ['capDrop', ['NET_RAW']],
  ]
  for (const [name, value] of looser) {
    assert.deepEqual(
      codesOf(nested(key(name), value)),
      [`${key(name)} LOOSER`],
      `${name} ${JSON.stringify(value)}`,
    )
  }
})

test('switching protection off is possible only where a critical notice says so', () => {
  assert.ok(levels(load(nested('security.auditLogging', false))).includes('CRITICAL AUDIT_OFF'))
  assert.ok(
    levels(load(nested('security.rateLimiting.enabled', false))).includes(
      'CRITICAL RATE_LIMITING_OFF',
    ),
  )
})

test('public origins are kept in their canonical spelling', () => {
  const origins = (publicOrigins: unknown) => nested('gateway.publicOrigins', publicOrigins)
  const { config } = load(origins(['HTTPS://Box.Example:443/', 'https://box.example']))
  assert.deepEqual(config.gateway.publicOrigins, ['https://box.example'])
  for (const wrong of ['*', 'https://*.example', 'box.example', 'https://a/b', 'null', 'ftp://a']) {
    assert.deepEqual(codesOf(origins([wrong])), ['gateway.publicOrigins[0] FORMAT'], wrong)
  }
})
