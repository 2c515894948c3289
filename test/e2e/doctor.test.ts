import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Hop } from '../../src/posture/hops.ts'
import { startAgent } from '../support/agent.ts'
import { entry, hardshell, removeAfter, start } from '../support/program.ts'

async function made(t: TestContext, upstream: string) {
  const user = mkdtempSync(join(tmpdir(), 'hs-user-'))
  removeAfter(t, user)
  const env = { HOME: user }
  await hardshell(t, ['init', '--upstream', upstream], env)
  const home = join(user, '.hardshell')
  const file = join(home, 'config.json5')
  writeFileSync(file, readFileSync(file, 'utf8').replace('port: 8080', 'port: 0'))
  return { env, home, file }
}

async function doctor(t: TestContext, env: { readonly HOME: string }, ...options: string[]) {
  const { code, text } = await hardshell(t, ['doctor', '--json', ...options], env)
  const { hops, mended } = JSON.parse(text) as { hops: Hop[]; mended: string[] }
  return { code, mended, at: (name: Hop['hop']) => hops.find(({ hop }) => hop === name) }
}

test('doctor names the hop that is wrong and what to type, before, while and after it runs', async (t) => {
  const agent = await startAgent()
  const { env } = await made(t, agent.url)
  const before = await doctor(t, env)
  assert.equal(before.code, 1)
  assert.equal(before.at('hardshell')?.command, 'hardshell serve')
  const program = start(t, [entry, 'serve'], env)
  await program.said(/listens on http:/)
  const well = await doctor(t, env)
  assert.equal(well.at('hardshell')?.state, 'well')
  assert.equal(well.at('agent')?.state, 'well')
  assert.equal(well.at('client')?.state, 'well')
  assert.equal(well.code, 0)
  const status = await hardshell(t, ['status', '--all'], env)
  assert.equal(status.code, 0, status.text)
  assert.match(status.text, /^ok +agent +ready/m)
  await agent.stop()
  const down = await doctor(t, env)
  assert.equal(down.code, 1)
  assert.equal(down.at('hardshell')?.state, 'well')
  assert.match(down.at('agent')?.because ?? '', /nothing answers/)
  program.child.kill('SIGTERM')
  await program.ended()
  const all = await hardshell(t, ['status', '--all'], env)
  assert.equal(all.code, 1)
  assert.match(all.text, /WRONG +hardshell +it does not run/)
})

test('doctor --fix puts modes right, leaves the token alone, and has nothing to do twice', async (t) => {
  const { env, home, file } = await made(t, 'http://127.0.0.1:1')
  const token = join(home, 'keys', 'gateway.token')
  chmodSync(file, 0o644)
  chmodSync(join(home, 'keys'), 0o755)
  chmodSync(token, 0o644)
  const before = readFileSync(token, 'utf8')
  const first = await doctor(t, env, '--fix')
  assert.equal(first.mended.length, 3, first.mended.join('\n'))
  assert.equal(statSync(file).mode & 0o777, 0o600)
  assert.equal(statSync(join(home, 'keys')).mode & 0o777, 0o700)
  assert.equal(statSync(token).mode & 0o777, 0o600)
  assert.equal(readFileSync(token, 'utf8'), before)
  assert.deepEqual((await doctor(t, env, '--fix')).mended, [])
})
