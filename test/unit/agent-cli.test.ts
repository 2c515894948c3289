/** `agent status | restart | logs` over a sidecar that the test plays. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AgentStatus } from '../../src/agent/agent.ts'
import { agentRows } from '../../src/cli/agent.ts'

const ready: AgentStatus = {
  state: 'ready',
  driver: 'docker',
  lacks: ['One thing.', 'Another.'],
  restarts: 2,
  since: 0,
  image: 'bot:1',
  containers: ['aa', 'bb'],
}

async function call(name: string, answers: unknown, options = {}, json = false) {
  const asked: unknown[] = []
  const out: string[] = []
  const row = agentRows((_env, operation, input) => {
    asked.push([operation, input])
    return Promise.resolve(answers)
  }).find((one) => one.name === name)
  assert.ok(row !== undefined)
  const io = {
    env: {},
    out: (text: string) => void out.push(text),
    err: () => undefined,
    stdin: () => Promise.resolve(''),
    interactive: false,
  }
  const code = await row.run({ positionals: [], options, json, io })
  return { code, out: out.join('\n'), asked }
}

test('agent status shows the state and each thing that the driver lacks, and exits 0 when ready', async () => {
  const { code, out, asked } = await call('agent status', ready)
  assert.equal(code, 0)
  assert.deepEqual(asked, [['agent.status', undefined]])
  assert.match(out, /^state +ready$/m)
  assert.match(out, /^since +1970-01-01T00:00:00\.000Z$/m)
  assert.equal(out.match(/^lacks +/gm)?.length, 2)
})

test('agent status exits 1 and says why when the agent is not ready', async () => {
  const { code, out } = await call('agent status', { ...ready, state: 'down', because: 'oom' })
  assert.equal(code, 1)
  assert.match(out, /^because +oom$/m)
})

test('agent status and restart print one JSON document when asked for', async () => {
  assert.deepEqual(JSON.parse((await call('agent status', ready, {}, true)).out), ready)
  const { code, out, asked } = await call('agent restart', ready, {}, true)
  assert.equal(code, 0)
  assert.deepEqual(JSON.parse(out), ready)
  assert.deepEqual(asked, [['agent.restart', undefined]])
})

test('agent logs asks for as many lines as wanted, within bounds', async () => {
  const { out, asked } = await call('agent logs', ['1 a', '2 b'], { n: '2' })
  assert.equal(out, '1 a\n2 b')
  assert.deepEqual(asked, [['agent.logs', { lines: 2 }]])
  assert.deepEqual((await call('agent logs', [])).asked, [['agent.logs', { lines: 200 }]])
  for (const n of ['1', '10000']) await call('agent logs', [], { n })
  for (const n of ['0', '10001', '-1', 'x', '1.5', '']) {
    await assert.rejects(call('agent logs', [], { n }), { code: 'BAD_OPTION', exitCode: 2 })
  }
})
