import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { PostureContext } from '../../src/posture/context.ts'
import { hopLines, hopsOf } from '../../src/posture/hops.ts'
import { configWith, contextWith, tokenWith } from '../support/posture.ts'

const hop = (name: string, over: Partial<PostureContext> = {}) =>
  hopsOf(contextWith(over)).find((one) => one.hop === name)

const served = configWith({ gateway: { publicOrigins: ['https://box.tail.ts.net'] } })
const running = contextWith().running

test('where all is well every hop says so, and Tailscale is not asked for', () => {
  assert.deepEqual(
    hopsOf(contextWith()).map(({ hop: name, state }) => [name, state]),
    [
      ['client', 'well'],
      ['tailscale', 'not used'],
      ['hardshell', 'well'],
      ['agent', 'well'],
    ],
  )
})

test('a client without a good token is told how to get one', () => {
  const tokens = { value: [tokenWith({ status: 'expired' })] }
  assert.match(hop('client', { tokens })?.command ?? '', /^hardshell token new/)
  const problems = [
    { code: 'TOKEN_SHORT', path: 'gateway.auth.token', message: 'is short', remedy: '' },
  ] as const
  assert.equal(hop('client', { problems })?.command, 'hardshell security audit --fix')
  assert.equal(hop('client', { tokens: { value: [] } })?.state, 'not measured')
})

test('where there is no configuration the one command is init', () => {
  const problems = [
    { code: 'TOKEN_MISSING', path: 'a', message: 'is missing', remedy: '' },
  ] as const
  const over = { configFile: undefined, problems, running: undefined }
  assert.equal(hop('client', over)?.command, 'hardshell init')
  assert.equal(hop('hardshell', over)?.command, 'hardshell init')
})

test('Tailscale is wrong where it is away, logged out, or does not serve to our port', () => {
  const at = (tailscale: PostureContext['tailscale']) =>
    hop('tailscale', { config: served, tailscale })
  assert.match(at({ unmeasured: 'tailscaled does not run' })?.command ?? '', /start tailscaled/)
  assert.equal(at({ value: { backend: 'NeedsLogin', serves: false } })?.command, 'tailscale up')
  assert.equal(
    at({ value: { backend: 'Running', serves: false } })?.command,
    'tailscale serve --bg http://127.0.0.1:8080',
  )
  assert.equal(at({ value: { backend: 'Running', serves: true } })?.state, 'well')
})

test('Hardshell is wrong where it is stopped, misconfigured, outdated, mute, or its port is held', () => {
  assert.equal(
    hop('hardshell', { running: undefined, listening: { value: [] } })?.command,
    'hardshell serve',
  )
  assert.match(hop('hardshell', { running: undefined })?.because ?? '', /another program holds/)
  const problems = [{ code: 'UNKNOWN_KEY', path: 'x', message: 'is wrong', remedy: '' }] as const
  assert.equal(hop('hardshell', { problems })?.command, 'hardshell config check')
  assert.match(hop('hardshell', { configHash: 'bb' })?.command ?? '', /^hardshell stop/)
  const mute = { ...running, auditFailing: 'ENOSPC' } as PostureContext['running']
  assert.match(hop('hardshell', { running: mute })?.because ?? '', /ENOSPC/)
})

test('the agent is wrong where it is down, its image is missing, or no engine answers', () => {
  const agent = { state: 'down', driver: 'docker', because: 'oom' }
  const down = { ...running, agent } as PostureContext['running']
  assert.equal(hop('agent', { running: down })?.because, 'down: oom')
  assert.equal(hop('agent', { running: down })?.command, 'hardshell agent logs')
  const engine = { unmeasured: 'there is no container engine' }
  assert.equal(hop('agent', { running: undefined, engine })?.state, 'wrong')
  assert.equal(hop('agent', { running: undefined })?.state, 'not measured')
})

test('a line has the hop, what is wrong, and below it what to type', () => {
  const [line = ''] = hopLines([
    { hop: 'agent', state: 'wrong', because: 'down: oom', command: 'hardshell agent logs' },
  ])
  assert.match(line, /^WRONG {2}agent +down: oom\n +→ hardshell agent logs$/)
})
