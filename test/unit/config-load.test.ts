import assert from 'node:assert/strict'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigFailure } from '../../src/config/problems.ts'
import { spellConfig } from '../../src/config/tree.ts'
import { codesOf, goodToken, inFolder, load, nested, problemsOf } from '../support/config-load.ts'

const otherToken = 'Zx8CvB5nMq1WsErT4yUiOp7aDfGhJk2L'
const levels = (loaded: ReturnType<typeof load>) =>
  loaded.notices.map(({ level, code }) => `${level} ${code}`)

test('defaults are in force when the file says nothing', () => {
  const { config } = load('{}')
  assert.equal(config.gateway.bind, '127.0.0.1')
  assert.equal(config.gateway.port, 8080)
  assert.equal(config.security.maxRequestSize, 10 * 1024 ** 2)
  assert.equal(config.security.limits.headerTimeout, 10_000)
  assert.equal(config.agent.upstream, 'http://127.0.0.1:18789')
  assert.deepEqual(config.agents.defaults.sandbox.docker.capDrop, ['ALL'])
})

test('the result cannot be changed anywhere', () => {
  const loaded = load({ channels: {}, gateway: { publicOrigins: ['https://a.example'] } })
  const look = (value: unknown): void => {
    if (typeof value !== 'object' || value === null) return
    assert.ok(Object.isFrozen(value))
    Object.values(value).forEach(look)
  }
  look(loaded)
})

test('an unknown key is an error that names its path and the nearest key', () => {
  const [prot] = problemsOf({ gateway: { prot: 1 } })
  assert.equal(prot?.code, 'UNKNOWN_KEY')
  assert.equal(prot?.path, 'gateway.prot')
  assert.match(prot?.remedy ?? '', /Did you mean gateway\.port\?/)
  const [port] = problemsOf({ port: 1 })
  assert.match(port?.remedy ?? '', /Did you mean gateway\.port\?/)
  const [far] = problemsOf({ zzzzzz: 1 })
  assert.doesNotMatch(far?.remedy ?? '', /Did you mean/)
})

test('all problems are told at once, in the order of their paths', () => {
  const codes = codesOf({
    security: { maxRequestSize: 10, rateLimiting: { enabled: 'yes' } },
    gateway: { port: 65_536, healthPath: '/a/../b', bind: 'everywhere' },
    plugins: { trustLevel: 'any' },
  })
  assert.deepEqual(codes, [
    'gateway.bind ADDRESS',
    'gateway.healthPath FORMAT',
    'gateway.port BOUNDS',
    'plugins.trustLevel CHOICE',
    'security.maxRequestSize UNIT',
    'security.rateLimiting.enabled TYPE',
  ])
})

test('one problem is one line with the file, the key, what is wrong and what to do', () => {
  assert.throws(
    () => load({ gateway: { port: 'x' } }),
    (error) =>
      error instanceof ConfigFailure &&
      /config\.json5: gateway\.port must be a whole number\. Use a whole number/.test(
        error.message,
      ) &&
      !error.message.includes('\n'),
  )
})

test('both sides of a bound', () => {
  assert.equal(load(nested('gateway.port', 65_535)).config.gateway.port, 65_535)
  assert.deepEqual(codesOf(nested('gateway.port', 65_536)), ['gateway.port BOUNDS'])
  const size = 'security.maxRequestSize'
  assert.equal(load(nested(size, '4GB')).config.security.maxRequestSize, 4 * 1024 ** 3)
  assert.deepEqual(codesOf(nested(size, '4097MB')), [`${size} BOUNDS`])
  assert.equal(load(nested(size, '1KB')).config.security.maxRequestSize, 1024)
  const time = 'security.limits.headerTimeout'
  assert.equal(load(nested(time, '1s')).config.security.limits.headerTimeout, 1000)
  assert.deepEqual(codesOf(nested(time, '999ms')), [`${time} BOUNDS`])
  assert.equal(load(nested(time, '2m')).config.security.limits.headerTimeout, 120_000)
  assert.deepEqual(codesOf(nested(time, '121s')), [`${time} BOUNDS`])
})

test('a key that stands twice is an error, however it is spelled', () => {
  const twice = '{ gateway: { port: 1, // port: 3\n "po\\u0072t": 2 }, security: {}, }'
  assert.deepEqual(codesOf(twice), ['gateway.port DUPLICATE_KEY'])
  assert.match(problemsOf(twice)[0]?.message ?? '', /line 2/)
  assert.deepEqual(codesOf("{ 'gateway': {}, gateway: {} }"), ['gateway DUPLICATE_KEY'])
  assert.doesNotThrow(() =>
    load("{ gateway: { publicOrigins: ['http://a', 'http://b'] }, /* gateway: */ }"),
  )
})

test('names of object internals are unknown keys and reach nothing', () => {
  for (const name of ['__proto__', 'constructor', 'prototype', 'hasOwnProperty']) {
    assert.deepEqual(codesOf(`{ "${name}": { "bind": "0.0.0.0" } }`), [`${name} UNKNOWN_KEY`])
    assert.deepEqual(codesOf(`{ gateway: { "${name}": { port: 1 } } }`), [
      `gateway.${name} UNKNOWN_KEY`,
    ])
  }
  assert.deepEqual(codesOf('{ agent: { image: "bot:1", env: { "__proto__": "x" } } }'), [
    'agent.env FORMAT',
  ])
  assert.equal(Object.hasOwn(Object.prototype, 'bind'), false)
})

test('what is not JSON5 is one problem with its line', () => {
  for (const text of ['{', '{ gateway: { port: 1 }', 'gateway', '', '{ a: }']) {
    assert.deepEqual(codesOf(text), [' SYNTAX'], text)
  }
  assert.deepEqual(codesOf('[]'), [' TYPE'])
  assert.deepEqual(codesOf('null'), [' TYPE'])
})

test('a text with brackets in brackets beyond need is one problem, wherever they stand', () => {
  const lists = (depth: number) => `{ a: ${'['.repeat(depth)}${']'.repeat(depth)} }`
  const objects = `${'{a:'.repeat(3000)}1${'}'.repeat(3000)}`
  for (const text of [lists(3000), objects]) assert.deepEqual(codesOf(text), [' SYNTAX'])
  // As deep as a file of an agent may well be.
  assert.notDeepEqual(codesOf(lists(50)), [' SYNTAX'])
  // In a text or a comment a bracket is none.
  assert.notDeepEqual(codesOf(`{ a: "${'['.repeat(99)}" /* ${'['.repeat(99)} */ }`), [' SYNTAX'])
})

test('a variable stands in any text, and an unset one is named with its path', () => {
  const { config } = load(
    {
      gateway: { bind: '${BIND}', publicOrigins: ['https://${HOST}'] },
      security: { maxRequestSize: '${N}MB' },
    },
    { HARDSHELL_TOKEN: goodToken, BIND: 'loopback', HOST: 'box.example', N: '5' },
  )
  assert.equal(config.gateway.bind, '127.0.0.1')
  assert.deepEqual(config.gateway.publicOrigins, ['https://box.example'])
  assert.equal(config.security.maxRequestSize, 5 * 1024 ** 2)
  const [problem] = problemsOf({ gateway: { bind: '${NOPE}' } })
  assert.equal(problem?.code, 'VARIABLE_UNSET')
  assert.equal(problem?.path, 'gateway.bind')
  assert.match(problem?.message ?? '', /NOPE/)
})

test('a variable is replaced once, not in keys, and not by what objects inherit', () => {
  assert.deepEqual(
    codesOf(
      { gateway: { bind: '${A}' } },
      { HARDSHELL_TOKEN: goodToken, A: '${B}', B: '127.0.0.1' },
    ),
    ['gateway.bind ADDRESS'],
  )
  assert.deepEqual(codesOf({ '${A}': {} }, { HARDSHELL_TOKEN: goodToken, A: 'gateway' }), [
    '["${A}"] UNKNOWN_KEY',
  ])
  assert.deepEqual(codesOf({ gateway: { bind: '${constructor}' } }), [
    'gateway.bind VARIABLE_UNSET',
  ])
  assert.deepEqual(codesOf({ gateway: { bind: '${}' } }), ['gateway.bind VARIABLE_SYNTAX'])
  assert.deepEqual(codesOf({ gateway: { bind: '${A' } }), ['gateway.bind VARIABLE_SYNTAX'])
})

test('a list entry that is exactly a variable splits at commas', () => {
  const env = {
    HARDSHELL_TOKEN: goodToken,
    ORIGINS: 'https://a.example, https://b.example,',
    NONE: '',
  }
  const { config } = load({ gateway: { publicOrigins: ['${ORIGINS}', '${NONE}'] } }, env)
  assert.deepEqual(config.gateway.publicOrigins, ['https://a.example', 'https://b.example'])
  assert.deepEqual(codesOf({ gateway: { publicOrigins: ['x${ORIGINS}'] } }, env), [
    'gateway.publicOrigins[0] FORMAT',
  ])
})

test('the token comes from the file, a variable, a token file or the environment, and its source is told', () => {
  const from = (...args: Parameters<typeof load>) => {
    const { config, secretSources } = load(...args)
    return [config.gateway.auth.token, ...secretSources.map((s) => `${s.from} ${s.name ?? ''}`)]
  }
  const path = 'gateway.auth.token'
  assert.deepEqual(from(nested(path, goodToken), {}), [goodToken, 'config '])
  assert.deepEqual(from(nested(path, '${T}'), { T: goodToken }), [goodToken, 'variable T'])
  assert.deepEqual(from('{}', { HARDSHELL_TOKEN: goodToken }), [
    goodToken,
    'environment HARDSHELL_TOKEN',
  ])
  for (const name of ['MOLTBOT_TOKEN', 'CLAWDBOT_GATEWAY_TOKEN', 'OPENCLAW_GATEWAY_TOKEN']) {
    assert.deepEqual(from('{}', { [name]: goodToken }), [goodToken, `environment ${name}`])
    assert.deepEqual(from('{}', { [name]: otherToken, HARDSHELL_TOKEN: goodToken })[0], goodToken)
  }
  inFolder((folder) => {
    const file = join(folder, 'token')
    writeFileSync(file, `${goodToken}\n`, { mode: 0o600 })
    assert.deepEqual(from(nested('gateway.auth.tokenFile', file), {}), [goodToken, `file ${file}`])
    assert.deepEqual(from(nested(path, { file }), {}), [goodToken, `file ${file}`])
    assert.deepEqual(from(nested(path, { file: '${F}' }), { F: file }), [goodToken, `file ${file}`])
    assert.deepEqual(codesOf(nested(path, { file, extra: 1 }), {}), [
      'gateway.auth.token.extra UNKNOWN_KEY',
    ])
    assert.deepEqual(codesOf({ gateway: { auth: { token: goodToken, tokenFile: file } } }), [
      'gateway.auth.tokenFile EXCLUSIVE',
    ])
  })
})

test('the file wins over the environment, and the unused variable is told', () => {
  const loaded = load(nested('gateway.auth.token', goodToken), { HARDSHELL_TOKEN: otherToken })
  assert.equal(loaded.config.gateway.auth.token, goodToken)
  assert.ok(levels(loaded).includes('INFO VARIABLE_UNUSED'))
})

test('nothing loads without a token, with an empty one, or with one the rule refuses', () => {
  const at = 'gateway.auth.token'
  assert.deepEqual(codesOf('{}', {}), [`${at} TOKEN_MISSING`])
  assert.deepEqual(codesOf('{}', { HARDSHELL_TOKEN: '' }), [`${at} TOKEN_MISSING`])
  assert.deepEqual(codesOf(nested(at, goodToken.slice(1)), {}), [`${at} TOKEN_SHORT`])
  assert.deepEqual(codesOf(nested(at, 'a'.repeat(40)), {}), [`${at} TOKEN_PLAIN`])
  assert.deepEqual(
    codesOf({ gateway: { auth: { token: goodToken } }, agent: { token: goodToken } }),
    [`${at} TOKEN_IS_AGENTS`],
  )
  assert.deepEqual(codesOf(nested(at, { file: '/nonexistent/token' }), {}), [`${at} FILE_MISSING`])
})

test('no problem and no notice shows a secret', () => {
  const secret = 'S3cr3t-value-that-must-not-be-shown-anywhere'
  const sources = [
    nested('gateway.auth.token', `${secret}\u0007`),
    { gateway: { auth: { token: secret, mode: 'jwt' } }, agent: { token: secret } },
    `{ gateway: { auth: { token: '${secret}`,
    nested('gateway.auth.token', [secret]),
  ]
  for (const source of sources) {
    assert.ok(!JSON.stringify(problemsOf(source)).includes(secret.slice(0, 12)))
  }
  const { config } = load({ agent: { token: secret, image: 'bot:1', env: { KEY: secret } } })
  assert.ok(!JSON.stringify(spellConfig(config)).includes(secret))
  assert.deepEqual(spellConfig(config)['agent'], {
    ...(spellConfig(config)['agent'] as object),
    env: { KEY: '***' },
    token: '***',
  })
})

test('what is shown loads again as the same configuration', () => {
  const env = { HARDSHELL_TOKEN: goodToken }
  for (const source of ['{}', { agent: { image: 'bot:1' }, gateway: { bind: '::1' } }]) {
    const first = load(source, env)
    const shown = spellConfig(first.config) as { gateway: { auth: { token?: string } } }
    shown.gateway.auth.token = '${HARDSHELL_TOKEN}'
    const second = load(shown, env)
    assert.deepEqual(spellConfig(second.config), spellConfig(first.config))
    assert.equal(second.hash, first.hash)
  }
})

test('the hash is the same for the same effect and differs with every change, secrets included', () => {
  const plain = load('{}').hash
  assert.match(plain, /^[0-9a-f]{64}$/)
  assert.equal(load('{ /* a comment */ gateway: { port: 8080 } }').hash, plain)
  assert.equal(load('{ security: { maxRequestSize: "10240KB" } }').hash, plain)
  assert.equal(load(nested('gateway.auth.token', goodToken), {}).hash, plain)
  assert.notEqual(load(nested('gateway.auth.token', otherToken), {}).hash, plain)
  assert.notEqual(load('{ gateway: { port: 8081 } }').hash, plain)
  assert.notEqual(load('{ agent: { token: "x" } }').hash, load('{ agent: { token: "y" } }').hash)
})

test('the first file of the search order is read, and a shadowed one is told', () => {
  inFolder((home) => {
    const file = (name: string, port: number) => {
      const path = join(home, name)
      mkdirSync(join(path, '..'), { recursive: true, mode: 0o700 })
      writeFileSync(path, JSON.stringify({ gateway: { port } }), { mode: 0o600 })
      return path
    }
    const env = { HARDSHELL_HOME: home, HARDSHELL_TOKEN: goodToken }
    const portOf = (more: object, config?: string) =>
      loadConfig({ env: { ...env, ...more }, ...(config === undefined ? {} : { config }) })
    assert.equal(portOf({}).file, undefined)
    file('config.json', 1)
    assert.equal(portOf({}).config.gateway.port, 1)
    const json5 = file('config.json5', 2)
    assert.equal(portOf({}).config.gateway.port, 2)
    assert.equal(portOf({}).file, json5)
    assert.ok(portOf({}).notices.some(({ code }) => code === 'FILE_SHADOWED'))
    const byVariable = file('sub/variable.json5', 3)
    assert.equal(portOf({ HARDSHELL_CONFIG: byVariable }).config.gateway.port, 3)
    const byOption = file('sub/option.json5', 4)
    assert.equal(portOf({ HARDSHELL_CONFIG: byVariable }, byOption).config.gateway.port, 4)
    assert.throws(() => portOf({ HARDSHELL_CONFIG: join(home, 'none') }), /does not exist/)
    assert.throws(() => portOf({}, join(home, 'none')), { code: 'CONFIG_MISSING' })
  })
})

test('variables of the environment are judged by a schema', () => {
  const token = { HARDSHELL_TOKEN: goodToken }
  assert.equal(load('{}', { ...token, HARDSHELL_LOG_LEVEL: 'debug' }).logLevel, 'debug')
  assert.equal(load('{}', { ...token, HARDSHELL_LOG_LEVEL: '' }).logLevel, 'info')
  assert.deepEqual(codesOf('{}', { ...token, HARDSHELL_LOG_LEVEL: 'loud' }), [
    'HARDSHELL_LOG_LEVEL ENVIRONMENT',
  ])
})
