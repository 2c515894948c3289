/** What a cell may be, checked before anything is started. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { chooseDriver, hashOf, specOf, type SandboxDriver } from '../../src/agent/sandbox.ts'

const context = { instance: 'i', cell: 'main', forbidden: [] }
const base = { image: 'bot:1', port: 8000 }

test('a cell without further settings is small, unprivileged and has one way out', () => {
  const spec = specOf(base, context)
  assert.equal(spec.memoryBytes, 2 * 1024 ** 3)
  assert.equal(spec.cpus, 2)
  assert.equal(spec.pidsLimit, 256)
  assert.deepEqual([spec.uid, spec.gid], [1000, 1000])
  assert.equal(spec.workspace, undefined)
  assert.ok(spec.env.includes('HTTPS_PROXY=http://127.0.0.1:3128'))
})

test('the agent never runs as root or as a system user', () => {
  assert.deepEqual(specOf({ ...base, user: '100:100' }, context).uid, 100)
  for (const user of ['0:0', 'root', '99:100', '100:99', '0', '1000', '', '-1:5', '1000:0']) {
    assert.throws(() => specOf({ ...base, user }, context), { code: 'CELL_USER' }, user)
  }
})

test('the agent is not given a variable that is, or looks like, a secret of ours', () => {
  for (const name of [
    'HARDSHELL_TOKEN',
    'HARDSHELL_HOME',
    'hardshell_x',
    'MOLTBOT_TOKEN',
    'CLAWDBOT_GATEWAY_TOKEN',
  ]) {
    assert.throws(() => specOf({ ...base, env: { [name]: 'x' } }, context), {
      code: 'AGENT_ENV',
      message: new RegExp(`agent\\.env\\.${name} `),
    })
  }
  const isSecret = (value: string) => value === 'hsk_secret'
  assert.throws(
    () => specOf({ ...base, env: { KEY: 'hsk_secret' } }, { ...context, isSecret }),
    (thrown: Error) => !thrown.message.includes('hsk_secret'),
  )
  const env = { OPENAI_API_KEY: 'sk', OPENCLAW_GATEWAY_TOKEN: "the agent's own" }
  assert.ok(specOf({ ...base, env }, { ...context, isSecret }).env.includes('OPENAI_API_KEY=sk'))
})

test('variables that would send the agent past its one way out are refused', () => {
  for (const name of ['HTTP_PROXY', 'https_proxy', 'NO_PROXY', 'NODE_USE_ENV_PROXY']) {
    assert.throws(() => specOf({ ...base, env: { [name]: 'x' } }, context), { code: 'AGENT_ENV' })
  }
  for (const name of ['', 'A B', 'A=B', '1A']) {
    assert.throws(() => specOf({ ...base, env: { [name]: 'x' } }, context), { code: 'AGENT_ENV' })
  }
})

test('an agent port is a port, and not the one of the way out', () => {
  for (const port of [1, 3127, 3129, 65_535])
    assert.equal(specOf({ ...base, port }, context).port, port)
  for (const port of [0, 65_536, 1.5, 3128]) {
    assert.throws(() => specOf({ ...base, port }, context), { code: 'AGENT_PORT' })
  }
})

test('a hash is the same for equal settings in any order, and another for any difference', () => {
  assert.equal(hashOf({ a: 1, b: [1, { c: 2, d: undefined }] }), hashOf({ b: [1, { c: 2 }], a: 1 }))
  assert.notEqual(hashOf({ a: 1 }), hashOf({ a: '1' }))
  assert.notEqual(hashOf([1, 2]), hashOf([2, 1]))
})

const driver = (name: string, reason?: string) =>
  ({ name, unavailable: () => Promise.resolve(reason) }) as SandboxDriver

test('the first driver that works is taken, and without one the agent is not started', async () => {
  const chosen = await chooseDriver([driver('a', 'no a.'), driver('b'), driver('c')])
  assert.equal(chosen.name, 'b')
  await assert.rejects(chooseDriver([driver('a', 'no a.'), driver('b', 'no b.')]), {
    code: 'SANDBOX_UNAVAILABLE',
    message: 'The agent has no sandbox: a: no a. b: no b.',
  })
})
