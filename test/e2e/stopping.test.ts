/** The end of the program: a signal that drains, a second one that does not wait, and a defect that nothing caught. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { connect } from 'node:net'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { codeOf } from '../../src/errors.ts'
import { startAgent, type Answer } from '../support/agent.ts'
import { checkout } from '../support/images.ts'
import { exchange, head } from '../support/raw.ts'
import { entry, homeWith, start } from '../support/program.ts'
import { eventually, newToken, recordsOf } from '../support/sidecar.ts'

const slowMs = 1500
const answer: Answer = (request, response, { url }) => {
  request.on('end', () => {
    if (url === '/slow') setTimeout(() => response.end('slow answer'), slowMs)
    else if (url === '/never') response.write('begun')
    else response.end('answer')
  })
}

/** The program in front of an agent; `first` is loaded into it before anything else. */
async function serving(t: TestContext, first?: string) {
  const agent = await startAgent(answer)
  t.after(() => agent.stop())
  const token = newToken()
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token } },
    agent: { upstream: agent.url },
  })
  const preload = join(home, 'first.mjs')
  if (first !== undefined) writeFileSync(preload, first)
  const args = first === undefined ? [] : ['--import', preload]
  const program = start(t, [...args, entry, 'serve'], { HARDSHELL_HOME: home })
  const [, port] = await program.said(/listens on http:\/\/127\.0\.0\.1:(\d+)/)
  const request = (path: string) =>
    head(`GET ${path} HTTP/1.1`, 'Host: localhost', `Authorization: Bearer ${token}`)
  return { agent, program, home, port: Number(port), request }
}

test('a signal lets what is under way end, says that the connection ends, and does not wait longer', async (t) => {
  const { agent, program, home, port, request } = await serving(t)
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
  socket.write(request('/slow'))
  await eventually(() => agent.seen.length === 1, 'the agent was asked')
  const closed = once(socket, 'close')
  const at = performance.now()
  program.child.kill('SIGTERM')
  await program.said(/stopping/)
  assert.equal((await exchange(port, [request('/')])).status, 0, 'no new connection is taken')
  await closed
  assert.match(text, /\r\n\r\nslow answer$/)
  assert.equal(await program.ended(), 0)
  assert.ok(performance.now() - at < 8000, 'an idle connection does not hold up the end')
  assert.ok(recordsOf(home).some(({ event }) => event === 'sidecar.stopped'))
  assert.ok(recordsOf(home).some(({ event, status }) => event === 'request.done' && status === 200))
})

test('a request whose head began before the signal is answered, and told that it is the last one', async (t) => {
  const { program, port, request } = await serving(t)
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
  const whole = request('/next')
  socket.write(whole.slice(0, 30))
  await new Promise((resolve) => setTimeout(resolve, 200))
  program.child.kill('SIGTERM')
  await program.said(/stopping/)
  socket.write(whole.slice(30))
  await once(socket, 'close')
  assert.match(text, /^HTTP\/1\.1 200 [^]*\r\nConnection: close\r\n\r\nanswer$/)
  assert.equal(await program.ended(), 0)
})

test('what is sent behind a last answer is no request', async (t) => {
  const { agent, program, port, request } = await serving(t)
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
  socket.write(request('/slow'))
  await eventually(() => agent.seen.length === 1, 'the agent was asked')
  program.child.kill('SIGTERM')
  await program.said(/stopping/)
  socket.write(request('/next'))
  await once(socket, 'close')
  assert.match(text, /\r\nConnection: close\r\n\r\nslow answer$/)
  assert.deepEqual(
    agent.seen.map(({ url }) => url),
    ['/slow'],
  )
  assert.equal(await program.ended(), 0)
})

test('a second signal does not wait', async (t) => {
  const { agent, program, port, request } = await serving(t)
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write(request('/never'))
  await eventually(() => agent.seen.length === 1, 'the agent was asked')
  program.child.kill('SIGTERM')
  await program.said(/stopping/)
  const ended = program.ended()
  // What comes right after the first is the same wish, so a person who means it presses again.
  const again = setInterval(() => program.child.kill('SIGTERM'), 50)
  t.after(() => clearInterval(again))
  assert.equal(await ended, 1)
})

test('the same signal twice in a moment, from a terminal and from npm, still drains', async (t) => {
  const { agent, program, port, request } = await serving(t)
  const socket = connect(port, '127.0.0.1')
  let text = ''
  socket.setEncoding('latin1').on('data', (piece: string) => (text += piece))
  socket.write(request('/slow'))
  await eventually(() => agent.seen.length === 1, 'the agent was asked')
  const closed = once(socket, 'close')
  program.child.kill('SIGINT')
  program.child.kill('SIGINT')
  await closed
  assert.match(text, /\r\n\r\nslow answer$/)
  assert.equal(await program.ended(), 0)
})

test('a signal that comes before the start is over ends the program when it is, and not in the middle', async (t) => {
  // The port is opened in the middle of the start.
  const first = `import net from 'node:net'
    const { listen } = net.Server.prototype
    let sent = false
    net.Server.prototype.listen = function (...given) {
      if (!sent) process.kill(process.pid, 'SIGTERM')
      sent = true
      return listen.apply(this, given)
    }\n`
  const { program, home } = await serving(t, first)
  assert.equal(await program.ended(), 0)
  const said = recordsOf(home).map(({ event }) => event)
  assert.deepEqual(said.slice(-2), ['sidecar.started', 'sidecar.stopped'])
})

test('a signal to "npm run" reaches the program, and nothing of it is left', async (t) => {
  const agent = await startAgent(answer)
  t.after(() => agent.stop())
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token: newToken() } },
    agent: { upstream: agent.url },
  })
  const npm = spawn('npm', ['run', '--silent', 'hardshell', '--', 'serve', '--json'], {
    cwd: checkout,
    env: { PATH: process.env['PATH'], HOME: home, HARDSHELL_HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => npm.kill('SIGKILL'))
  const [line] = (await Promise.race([
    once(npm.stdout.setEncoding('utf8'), 'data'),
    once(npm, 'close').then(() => assert.fail('it did not start')),
  ])) as [string]
  const { pid } = JSON.parse(line) as { pid: number }
  t.after(() => {
    if (isAlive(pid)) process.kill(pid, 'SIGKILL')
  })
  npm.kill('SIGTERM')
  await once(npm, 'close')
  await eventually(() => !isAlive(pid), 'the program ended')
  assert.equal(recordsOf(home).at(-1)?.['event'], 'sidecar.stopped')
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch (thrown) {
    if (codeOf(thrown) !== 'ESRCH') throw thrown
    return false
  }
}

for (const [what, thrown] of [
  ['an exception', "throw new Error('out of nowhere')"],
  ['a rejection', "void Promise.reject(new Error('out of nowhere'))"],
] as const) {
  test(`${what} that nothing caught is logged and recorded, and ends the program (CWE-248)`, async (t) => {
    const first = `process.once('SIGUSR2', () => { ${thrown} })\n`
    const { agent, program, home, port, request } = await serving(t, first)
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    socket.write(request('/never'))
    await eventually(() => agent.seen.length === 1, 'the agent was asked')
    program.child.kill('SIGUSR2')
    assert.equal(await program.ended(), 1)
    assert.match(program.text(), /"level":50[^\n]*out of nowhere/)
    const last = recordsOf(home).at(-1)
    assert.equal(last?.['event'], 'sidecar.failed')
    assert.equal(last['because'], 'out of nowhere')
  })
}
