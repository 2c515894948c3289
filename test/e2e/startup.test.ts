/** What a person sees when something is wrong at start: one line, with the remedy. */
import assert from 'node:assert/strict'
import { chmodSync, chownSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { startAgent } from '../support/agent.ts'
import { realEngine } from '../support/engine.ts'
import { checkout } from '../support/images.ts'
import { entry, hardshell, homeWith, start } from '../support/program.ts'
import { newToken } from '../support/sidecar.ts'

/** The last line written, without log lines. */
const lastLine = (text: string) =>
  text
    .trim()
    .split('\n')
    .filter((line) => !line.startsWith('{'))
    .at(-1) ?? ''

async function fails(
  t: TestContext,
  home: string,
  code: string,
  words: RegExp,
  env = {},
): Promise<void> {
  const { code: status, text } = await hardshell(t, ['serve'], { HARDSHELL_HOME: home, ...env })
  assert.ok(status === 1 || status === 2, `exit ${status}: ${text}`)
  assert.match(text, words)
  assert.ok(text.includes(code), text)
  assert.doesNotMatch(text, /\n\s+at .*\(/, 'no stack')
}

const upstream = (config: object = {}) => ({
  gateway: { port: 0, auth: { token: newToken() } },
  ...config,
})

test('a port that another program has is one line that names it', async (t) => {
  const other = createServer()
  await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve))
  t.after(() => other.close())
  const { port } = other.address() as { port: number }
  const home = homeWith(t, { gateway: { port, auth: { token: newToken() } } })
  await fails(
    t,
    home,
    'PORT_IN_USE',
    new RegExp(`port ${port} on 127\\.0\\.0\\.1 is in use.*gateway\\.port`),
  )
})

test('an address that this machine does not have is one line', async (t) => {
  const home = homeWith(t, {
    gateway: { bind: '192.0.2.77', port: 0, auth: { token: newToken() } },
  })
  await fails(
    t,
    home,
    'BIND_UNAVAILABLE',
    /gateway\.bind: this machine has no address 192\.0\.2\.77/,
  )
})

test('a missing image is one line that names it and says how to get it', async (t) => {
  const engine = await realEngine()
  await engine.close()
  const home = homeWith(t, upstream({ agent: { image: 'hardshell-no-such-image:1' } }))
  await fails(t, home, 'IMAGE', /hardshell-no-such-image:1/)
})

test('every mistake in the configuration is told at once, and nothing is started', async (t) => {
  const home = homeWith(t, {
    gateway: { prot: 8080, auth: { token: 'short' } },
    security: { maxRequestSize: 10 },
  })
  const { code, text } = await hardshell(t, ['serve'], { HARDSHELL_HOME: home })
  assert.notEqual(code, 0)
  for (const word of ['gateway.prot', 'port', 'gateway.auth.token', 'security.maxRequestSize']) {
    assert.ok(text.includes(word), `${word} in ${text}`)
  }
})

test('a configuration that others can read is mended when it is ours and refused when it is not', async (t) => {
  const home = homeWith(t, upstream())
  chmodSync(join(home, 'config.json5'), 0o644)
  const mended = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  await mended.said(/listens on/)
  await mended.said(/0600|600/)
  chownSync(join(home, 'config.json5'), 1234, 1234)
  await fails(t, home, 'FILE', /config\.json5/)
})

test('a configuration behind a symbolic link is refused', async (t) => {
  const home = homeWith(t, upstream())
  const other = homeWith(t, upstream())
  const elsewhere = join(other, 'linked.json5')
  symlinkSync(join(home, 'config.json5'), elsewhere)
  const { code, text } = await hardshell(t, ['serve', '--config', elsewhere], {
    HARDSHELL_HOME: other,
  })
  assert.notEqual(code, 0)
  assert.match(text, /link/)
})

test('an agent that does not answer is a refusal and a status, not a failure to start', async (t) => {
  const agent = await startAgent()
  const dead = agent.url
  await agent.stop()
  const token = newToken()
  const home = homeWith(t, { gateway: { port: 0, auth: { token } }, agent: { upstream: dead } })
  const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  const url = (await program.said(/listens on (http:\S+)/))[1]
  const remedy = /"because":"nothing answers at http:\S+: start the agent, or mend agent\.upstream"/
  await program.said(remedy)
  const answer = await fetch(`${url}/x`, { headers: { Authorization: `Bearer ${token}` } })
  assert.equal(answer.status, 502)
  assert.equal(program.text().split('"because":"nothing answers').length, 2, 'told once')
  const { code, text } = await hardshell(t, ['status'], { HARDSHELL_HOME: home })
  assert.equal(code, 1)
  assert.ok(text.includes(dead), text)
})

test('the minimal template runs as it is printed, before a bot that refuses every X-Forwarded header', async (t) => {
  const bot = await startAgent((request, response) => {
    const forwarded = Object.keys(request.headers).some((name) =>
      /^(x-forwarded|forwarded$|x-real-ip)/.test(name),
    )
    response.writeHead(forwarded ? 403 : 200).end('bot')
  }, 18_789)
  t.after(() => bot.stop())
  const printed = readFileSync(join(checkout, 'deploy/config.minimal.json5'), 'utf8')
  const home = homeWith(t, printed)
  const token = newToken()
  const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home, MOLTBOT_TOKEN: token })
  await program.said(/listens on http:\/\/127\.0\.0\.1:8080/)
  const answer = await fetch('http://127.0.0.1:8080/x', {
    headers: { Authorization: `Bearer ${token}`, 'X-Forwarded-For': '1.2.3.4' },
  })
  assert.equal(answer.status, 200)
  assert.equal(await answer.text(), 'bot')
  assert.equal((await fetch('http://127.0.0.1:8080/x')).status, 401)
})

test('init makes a home that starts without an edit, and never overwrites one', async (t) => {
  const home = join(homeWith(t, '{}'), 'inner')
  mkdirSync(home, { mode: 0o700 })
  const first = await hardshell(t, ['init', '--json'], { HARDSHELL_HOME: home })
  assert.equal(first.code, 0)
  const { token } = JSON.parse(first.text) as { token: string }
  assert.match(token, /^[\w-]{43}$/)
  const before = readFileSync(join(home, 'config.json5'), 'utf8')
  const again = await hardshell(t, ['init'], { HARDSHELL_HOME: home })
  assert.equal(again.code, 1)
  assert.match(lastLine(again.text), /exists already/)
  assert.equal(readFileSync(join(home, 'config.json5'), 'utf8'), before)
  writeFileSync(join(home, 'config.json5'), before.replace('port: 8080', 'port: 0'))
  const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  const url = (await program.said(/listens on (http:\S+)/))[1]
  assert.equal((await fetch(`${url}/health`)).status, 401)
  assert.notEqual(
    (await fetch(`${url}/health`, { headers: { Authorization: `Bearer ${token}` } })).status,
    401,
  )
})

test('two sidecars cannot share a home', async (t) => {
  const home = homeWith(t, upstream())
  const first = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  await first.said(/listens on/)
  await fails(t, home, 'AUDIT', new RegExp(String(first.child.pid)))
})
