/** Hardshell as a program: started from a configuration file, in front of the example agent, until a signal. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { WebSocket } from 'ws'
import { checkout, run } from '../support/images.ts'
import { plant } from '../support/secrets.ts'

/** What is started: the source, or in CI also the compiled program. */
const entry = process.env['HARDSHELL_ENTRY'] ?? join(checkout, 'src/main.ts')

/** A program under test and all that it wrote. */
interface Program {
  readonly child: ChildProcess
  /** Waits for output that matches, at most 30 s. */
  said(pattern: RegExp): Promise<RegExpExecArray>
}

function start(args: readonly string[], env: Readonly<Record<string, string>>): Program {
  const child = spawn(process.execPath, [...args], { env: { PATH: process.env['PATH'], ...env } })
  let text = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  child.stderr.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
  const said = async (pattern: RegExp) => {
    const deadline = performance.now() + 30_000
    while (performance.now() < deadline) {
      const match = pattern.exec(text)
      if (match !== null) return match
      if (child.exitCode !== null) break
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    throw new Error(`${args.join(' ')} did not say ${pattern}:\n${text}`)
  }
  return { child, said }
}

async function end(
  program: Program | undefined,
  signal: NodeJS.Signals = 'SIGTERM',
): Promise<number | null> {
  if (program === undefined || program.child.exitCode !== null)
    return program?.child.exitCode ?? null
  const gone = once(program.child, 'exit')
  program.child.kill(signal)
  await gone
  return program.child.exitCode
}

describe('hardshell serve', { concurrency: 1, timeout: 120_000 }, () => {
  const token = plant('gateway token', 'in hexadecimal', randomBytes(32).toString('hex'))
  const authorization = `Bearer ${token}`
  let home = ''
  let bot: Program | undefined
  let sidecar: Program | undefined
  let url = ''

  const serve = async (botUrl: string) => {
    const config = {
      gateway: { port: 0, auth: { tokenFile: join(home, 'token') } },
      agent: { upstream: botUrl },
    }
    await writeFile(join(home, 'token'), token, { mode: 0o600 })
    await writeFile(join(home, 'config.json5'), JSON.stringify(config), { mode: 0o600 })
    sidecar = start([entry, 'serve'], { HARDSHELL_HOME: home })
    url = (await sidecar.said(/hardshell listens on (http:\/\/127\.0\.0\.1:\d+)/))[1] ?? ''
  }

  before(async () => {
    home = await mkdtemp(join(tmpdir(), 'hardshell-program-'))
    // It refuses every forwarding header, as OpenClaw does with proxies that it was not told of.
    bot = start([join(checkout, 'deploy/example-agent/server.mjs')], {
      PORT: '0',
      REFUSE_FORWARDED: '1',
    })
    await serve((await bot.said(/listens on (http:\S+)/))[1] ?? '')
  })
  after(async () => {
    await end(sidecar)
    await end(bot)
    await rm(home, { recursive: true, force: true })
  })

  test('lets the token in and nobody else, without a trace of itself in the forwarded request', async () => {
    assert.equal((await fetch(`${url}/`)).status, 401)
    const headers = { authorization, 'x-forwarded-for': '192.0.2.1', 'x-real-ip': '192.0.2.1' }
    const echoed = await fetch(`${url}/echo`, { method: 'POST', body: 'hello', headers })
    assert.equal(echoed.status, 200)
    assert.equal(await echoed.text(), 'hello')
  })

  test('refuses more than 10 MB', async () => {
    const body = Buffer.alloc(10 * 1024 ** 2 + 1)
    const refused = await fetch(`${url}/echo`, { method: 'POST', body, headers: { authorization } })
    assert.equal(refused.status, 413)
  })

  test('passes server-sent events on as they come', async () => {
    const stream = await fetch(`${url}/stream`, { headers: { authorization } })
    assert.match(stream.headers.get('content-type') ?? '', /^text\/event-stream/)
    const reader = stream.body?.getReader()
    const first = await reader?.read()
    assert.match(Buffer.from(first?.value ?? []).toString(), /^id: 0\ndata: \{"count":0\}\n\n/)
    await reader?.cancel()
  })

  test('carries a WebSocket conversation', async () => {
    const socket = new WebSocket(`${url.replace('http', 'ws')}/ws`, { headers: { authorization } })
    await once(socket, 'open')
    const answer = once(socket, 'message')
    socket.send('are you there?')
    assert.equal(String((await answer)[0]), 'are you there?')
    const closed = once(socket, 'close')
    socket.close(4000)
    assert.equal((await closed)[0], 4000)
  })

  test('passes every check of verify.sh', async () => {
    const ran = await run('sh', [join(checkout, 'deploy/verify.sh'), url], {
      env: { HARDSHELL_TOKEN: token },
    })
    assert.equal(ran.code, 0, ran.stdout + ran.stderr)
    assert.doesNotMatch(ran.stdout, /^(FAIL|SKIP)/m)
  })

  test('ends with status 0 on SIGTERM, and its audit log verifies', async () => {
    const program = sidecar
    assert.equal(await end(program), 0)
    const ran = await run(process.execPath, [entry, 'audit', 'verify'], {
      env: { HARDSHELL_HOME: home },
    })
    assert.equal(ran.code, 0, ran.stdout + ran.stderr)
    assert.ok(existsSync(join(home, 'audit')))
  })
})
