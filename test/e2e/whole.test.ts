/** The promises that need the whole program: kill -9 under load, a full disk, an agent that dies under load. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { startAgent } from '../support/agent.ts'
import { keepFolder } from '../support/evidence.ts'
import { checkout, must } from '../support/images.ts'
import { entry, hardshell, homeWith, start } from '../support/program.ts'
import { eventually, newToken, recordsOf } from '../support/sidecar.ts'
import { plant } from '../support/secrets.ts'

/** One request; the status, or 0 when the connection broke. */
function call(
  url: string,
  token: string,
  agent: HttpAgent,
  path = '/x',
): Promise<{ status: number; code: string }> {
  return new Promise((resolve) => {
    const outgoing = httpRequest(
      url + path,
      { agent, headers: { Authorization: `Bearer ${token}` }, timeout: 60_000 },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (piece: string) => (text += piece))
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            code: /"code":"(\w+)"/.exec(text)?.[1] ?? '',
          }),
        )
        response.on('error', () => resolve({ status: 0, code: '' }))
      },
    )
    outgoing.on('timeout', () => outgoing.destroy())
    outgoing.on('error', () => resolve({ status: 0, code: '' }))
    outgoing.end()
  })
}

const loose = {
  rateLimiting: { requestsPerMinute: 1_000_000, requestsPerMinutePerAddress: 1_000_000 },
}

async function serve(t: TestContext, home: string) {
  const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  const url = (await program.said(/listens on (http:\S+)/))[1] ?? ''
  return { program, url }
}

test('kill -9 under load loses no record of a request that reached the agent, and the log verifies', async (t) => {
  const bot = await startAgent()
  t.after(() => bot.stop())
  const token = newToken()
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token } },
    agent: { upstream: bot.url },
    security: loose,
  })
  for (let round = 0; round < 3; round += 1) {
    const { program, url } = await serve(t, home)
    const agent = new HttpAgent({ keepAlive: true, maxSockets: 16 })
    let over = false
    const load = Array.from({ length: 16 }, async () => {
      while (!over) await call(url, token, agent)
    })
    await eventually(() => bot.seen.length > 200 * (round + 1), 'load', 20_000)
    program.child.kill('SIGKILL')
    await program.ended()
    over = true
    await Promise.all(load)
    agent.destroy()
  }
  const { program } = await serve(t, home)
  const verified = await hardshell(t, ['audit', 'verify'], { HARDSHELL_HOME: home })
  assert.equal(verified.code, 0, verified.text)
  program.child.kill('SIGTERM')
  await program.ended()
  const recorded = new Set(
    recordsOf(home)
      .filter(({ event }) => event === 'request.allowed')
      .map(({ requestId }) => requestId),
  )
  const lost = bot.seen
    .map(({ headers }) => headers['x-request-id'])
    .filter((id) => !recorded.has(id))
  assert.deepEqual(lost, [])
})

test('on a full disk nothing is forwarded, and service resumes by itself when space returns', async (t) => {
  const bot = await startAgent()
  const token = newToken()
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token } },
    agent: { upstream: bot.url },
    security: loose,
  })
  const dir = join(home, 'audit')
  mkdirSync(dir, { mode: 0o700 })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=256k,mode=0700', 'tmpfs', dir])
  const agent = new HttpAgent({ keepAlive: true })
  t.after(async () => {
    agent.destroy()
    await bot.stop()
  })
  try {
    const { program, url } = await serve(t, home)
    assert.equal((await call(url, token, agent)).status, 200)
    const filler = join(dir, 'filler')
    const { bfree, bsize } = statfsSync(dir)
    try {
      writeFileSync(filler, Buffer.alloc(Number(bfree) * Number(bsize) + 4096))
    } catch {
      // The disk is full now, which is the point.
    }
    let refused = { status: 0, code: '' }
    for (let tries = 0; tries < 100 && refused.status !== 503; tries += 1)
      refused = await call(url, token, agent)
    assert.deepEqual(refused, { status: 503, code: 'AUDIT_UNAVAILABLE' })
    const before = bot.seen.length
    for (let tries = 0; tries < 5; tries += 1)
      assert.equal((await call(url, token, agent)).status, 503)
    assert.equal(bot.seen.length, before, 'the agent received nothing')
    const health = await hardshell(t, ['health'], { HARDSHELL_HOME: home })
    assert.equal(health.code, 1)
    rmSync(filler)
    let back = { status: 0, code: '' }
    for (let tries = 0; tries < 50 && back.status !== 200; tries += 1) {
      back = await call(url, token, agent)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
    assert.equal(back.status, 200)
    program.child.kill('SIGTERM')
    assert.equal(await program.ended(), 0)
    const verified = await hardshell(t, ['audit', 'verify'], { HARDSHELL_HOME: home })
    assert.equal(verified.code, 0, verified.text)
    assert.ok(recordsOf(home).some(({ event }) => event === 'audit.recovered'))
  } finally {
    keepFolder(dir)
    // Before the hooks that remove the home: a mount point cannot be removed.
    execFileSync('umount', ['-l', dir])
  }
})

test('the demo starts from nothing, serves its agent, survives its death under load, and leaves nothing', async (t) => {
  const program = start(t, [join(checkout, 'src/main.ts'), 'demo', '--port', '0'], {
    HOME: '/nonexistent',
  })
  const url = (await program.said(/listens on (http:\S+);/, 240_000))[1] ?? ''
  const said = await program.said(/HARDSHELL_TOKEN=(\S+)/)
  const token = plant('gateway token', 'of the demo', said[1] ?? '')
  const home = (await program.said(/HARDSHELL_HOME=(\S+)/))[1] ?? ''
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 8 })
  t.after(() => agent.destroy())
  assert.equal((await call(url, 'wrong', agent)).status, 401)
  // As soon as the lines are there, each of them holds.
  assert.equal((await call(url, token, agent, '/health')).status, 200)
  assert.equal((await call(url, token, agent, '/')).status, 200)
  const big = execFileSync('sh', [
    '-c',
    `head -c 11000000 /dev/zero | curl -s -o /dev/null -w '%{http_code}' --config ${home}/curl.conf --data-binary @- ${url}/echo`,
  ])
  assert.equal(big.toString(), '413')

  const containers = () =>
    execFileSync('docker', ['ps', '-q', '--no-trunc', '--filter', `label=io.hardshell.instance`])
      .toString()
      .split('\n')
      .filter((id) => id !== '')
  const status = await hardshell(t, ['status', '--json'], { HARDSHELL_HOME: home })
  assert.equal(status.code, 0, status.text)
  const { agent: shown } = JSON.parse(status.text) as {
    agent: { driver: string; containers: string[] }
  }
  assert.equal(shown.driver, 'docker')
  const agentContainer = shown.containers.at(-1) ?? ''
  // For the search at the end of the run: what the engine shows of them.
  await must('docker', ['inspect', ...shown.containers])
  await must('docker', ['logs', agentContainer])
  // The rate limit of the demo is 60 a minute: 8 at a time, few in all, across the death of the agent.
  const answers: number[] = []
  const load = Array.from({ length: 4 }, async () => {
    for (let i = 0; i < 10; i += 1) {
      answers.push((await call(url, token, agent, '/')).status)
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  })
  await new Promise((resolve) => setTimeout(resolve, 200))
  execFileSync('docker', ['kill', '--signal', 'KILL', agentContainer])
  await Promise.all(load)
  assert.equal(answers.length, 40)
  assert.deepEqual(
    answers.filter((one) => ![200, 502, 503].includes(one)),
    [],
  )
  assert.ok(
    answers.slice(-4).every((one) => one === 200),
    answers.join(' '),
  )

  keepFolder(home)
  const ours = containers().filter((id) =>
    shown.containers.some((known) => id.startsWith(known) || known.startsWith(id)),
  )
  program.child.kill('SIGINT')
  assert.equal(await program.ended(), 0)
  for (const id of ours) assert.ok(!containers().includes(id), 'the containers are gone')
})
