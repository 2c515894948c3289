/** Tokens that grow old: announced, renewed by their client, refused; over restarts and the loss of the state. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { WebSocket } from 'ws'

import { openSqlite } from '../../src/store/sqlite.ts'
import { startAgent } from '../support/agent.ts'
import { cli, makeToken } from '../support/cli.ts'
import { run } from '../support/images.ts'
import {
  eventually,
  newToken,
  recordsOf,
  startSidecar,
  type TestSidecar,
} from '../support/sidecar.ts'

const day = 86_400_000

interface View {
  readonly id: string
  readonly name: string
  readonly status: string
  readonly createdAt: number
  readonly dueAt?: number
}

/** A home that outlives its sidecars. */
function homeFor(t: TestContext) {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const token = newToken()
  const start = async (config: Record<string, unknown> = {}) => {
    const side = await startSidecar({ home, token, config })
    t.after(() => side.stop())
    return side
  }
  /** Puts the birth of a token into the past while nothing runs: its age is all that a test can not wait for. */
  const age = async (name: string, ms: number) => {
    const store = openSqlite(join(home, 'state.db'), { now: () => Date.now() })
    for (const { key, value } of await store.list('token/')) {
      const record = JSON.parse(value) as { name: string; createdAt: number }
      if (record.name !== name) continue
      await store.put(key, JSON.stringify({ ...record, createdAt: record.createdAt - ms }))
    }
    await store.close()
  }
  const view = async (name: string) => {
    const { out } = await cli(home, ['token', 'list', '--json'])
    const { tokens } = JSON.parse(out) as { tokens: View[] }
    const found = tokens.filter((each) => each.name === name).at(-1)
    assert.ok(found !== undefined)
    return found
  }
  return { home, token, start, age, view }
}

async function ask(side: TestSidecar, token: string, path = '/x', method = 'GET') {
  const headers = { Authorization: `Bearer ${token}` }
  const answer = await fetch(side.url + path, { method, headers })
  const text = await answer.text()
  return { status: answer.status, headers: answer.headers, text }
}

const renew = async (side: TestSidecar, token: string) => {
  const answer = await ask(side, token, '/.hardshell/token', 'POST')
  const document = JSON.parse(answer.text) as { code?: string; token?: string; id?: string }
  return { ...answer, document }
}

test('a client renews its token once it is due, and the audit log says so without the tokens', async (t) => {
  const { home, start, age } = homeFor(t)
  const first = await start()
  const old = await makeToken(home, '--name', 'phone', '--scope', 'read', '--path', '/api')
  const other = await makeToken(home, '--name', 'other')
  const early = await renew(first, old)
  assert.deepEqual([early.status, early.document.code], [409, 'SUCCESSOR_NOT_DUE'])
  assert.equal((await ask(first, old, '/api')).headers.get('sunset'), null)
  await first.stop()
  await age('phone', 30 * day)

  const side = await start()
  const born = Date.now()
  const seen = side.agent.seen.length
  const before = await ask(side, old, '/api')
  const sunset = Date.parse(before.headers.get('sunset') ?? '')
  assert.ok(Math.abs(sunset - born - day) < 60_000, 'the end of its age and grace')
  assert.equal((await ask(side, other)).headers.get('sunset'), null, 'on no other answer')

  const answers = await Promise.all([renew(side, old), renew(side, old)])
  const statuses = answers.map(({ status }) => status).sort((one, two) => one - two)
  assert.deepEqual(statuses, [200, 409])
  const made = answers.find(({ status }) => status === 200)
  const fresh = made?.document.token ?? ''
  assert.match(fresh, /^hsk_/)
  assert.equal(made?.headers.get('cache-control'), 'no-store')
  assert.equal(answers.find(({ status }) => status === 409)?.document.code, 'SUCCESSOR_TAKEN')
  assert.deepEqual(
    [(await ask(side, old, '/api')).status, (await ask(side, fresh, '/api')).status],
    [200, 200],
  )
  assert.equal((await ask(side, fresh, '/other')).status, 403, 'the rights are the same')
  const reused = await renew(side, fresh)
  assert.deepEqual([reused.status, reused.document.code], [409, 'SUCCESSOR_NOT_DUE'])

  assert.ok(!side.agent.seen.slice(seen).some(({ url }) => url.startsWith('/.hardshell')))
  const rotated = side.records().find(({ event }) => event === 'token.rotated')
  assert.equal(rotated?.['identity'], 'phone')
  assert.match(
    String(rotated?.['because']),
    new RegExp(`successor ${made?.document.id} with fingerprint`),
  )
  for (const name of readdirSync(home, { recursive: true, encoding: 'utf8' })) {
    if (!/state\.db|audit-/.test(name)) continue
    const text = readFileSync(join(home, name), 'latin1')
    for (const token of [old, fresh]) assert.ok(!text.includes(token.slice(-49)), name)
  }
  assert.ok(!JSON.stringify(side.logged).includes(fresh.slice(-49)))
})

test('the script in docs/rotation.md moves a client to its successor, and changes nothing on other days', async (t) => {
  const page = readFileSync(new URL('../../docs/rotation.md', import.meta.url), 'utf8')
  const script = /```sh\n(#!\/bin\/sh\n[\s\S]*?)```/.exec(page)?.[1] ?? ''
  const { home, start, age } = homeFor(t)
  const first = await start()
  const old = await makeToken(home, '--name', 'bot')
  const folder = join(home, '.config', 'bot')
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'token'), `${old}\n`, { mode: 0o600 })
  const daily = async (url: string) => {
    const ran = await run('sh', ['-c', script], { env: { HOME: home, URL: url } })
    assert.deepEqual([ran.code, ran.stdout, ran.stderr], [0, '', ''])
    return readFileSync(join(folder, 'token'), 'utf8').trim()
  }
  assert.equal(await daily(first.url), old)
  await first.stop()
  await age('bot', 31 * day)
  const side = await start()
  const fresh = await daily(side.url)
  assert.notEqual(fresh, old)
  assert.deepEqual([(await ask(side, old)).status, (await ask(side, fresh)).status], [401, 200])
  assert.equal(await daily(side.url), fresh)
  assert.equal(statSync(join(folder, 'token')).mode & 0o777, 0o600)
})

test('our own path takes POST alone, and nothing below our prefix reaches the agent', async (t) => {
  const { token, start } = homeFor(t)
  const side = await start()
  const wrongMethod = await ask(side, token, '/.hardshell/token')
  assert.deepEqual([wrongMethod.status, wrongMethod.headers.get('allow')], [405, 'POST'])
  assert.equal((await ask(side, token, '/.hardshell/other', 'POST')).status, 403)
  const headers = { Authorization: `Bearer ${token}` }
  const url = `${side.url.replace('http', 'ws')}/.hardshell/token`
  const socket = new WebSocket(url, { headers })
  socket.on('error', () => undefined)
  const [, refused] = (await once(socket, 'unexpected-response')) as [unknown, IncomingMessage]
  assert.equal(refused.statusCode, 403)
  const configured = await renew(side, token)
  assert.deepEqual([configured.status, configured.document.code], [409, 'SUCCESSOR_NONE'])
  const stranger = await renew(side, newToken())
  assert.deepEqual([stranger.status, stranger.document.code], [401, 'UNAUTHENTICATED'])
  assert.equal(side.agent.seen.length, 0)
})

test('a managed token past its age and grace is refused, and its client is not locked out', async (t) => {
  const { home, start, age, view } = homeFor(t)
  const first = await start()
  const old = await makeToken(home, '--name', 'phone')
  await first.stop()
  await age('phone', 31 * day)
  const side = await start()
  assert.equal((await ask(side, old)).status, 401)
  assert.equal((await view('phone')).status, 'aged')
  const inspected = await cli(home, ['token', 'inspect'], `${old}\n`)
  assert.equal(inspected.code, 1)
  assert.match(inspected.out, /status +aged/)
  // An address that is locked for guesses does not keep it from its successor either.
  for (let count = 0; count < 5; count += 1) await ask(side, newToken())
  assert.equal((await ask(side, old)).status, 429)
  const { status, document } = await renew(side, old)
  assert.equal(status, 200)
  assert.equal((await ask(side, document.token ?? '')).status, 200)
  assert.equal((await ask(side, old)).status, 429)
  assert.equal(side.agent.seen.length, 1)
})

test('a configured token is announced, warned of once, and refused at its end; the command line works on', async (t) => {
  const { home, token, start, age, view } = homeFor(t)
  const first = await start()
  const managed = await makeToken(home, '--name', 'phone', '--expires', '20d')
  await first.stop()
  await age('default', 25 * day)
  const warnings = (side: TestSidecar) =>
    side.logged.filter(
      ({ level, message }) => level === 'warn' && message.startsWith('token default'),
    )
  const warned = async (side: TestSidecar) => {
    // Two beats: what is told at all is told by then.
    await new Promise((resolve) => setTimeout(resolve, 700))
    return warnings(side).map(({ message }) => /reached (\d+ %)/.exec(message)?.[1])
  }

  const second = await start()
  const answer = await ask(second, token)
  assert.equal(answer.status, 200)
  const ends = (await view('default')).createdAt + 31 * day
  assert.equal(Date.parse(answer.headers.get('sunset') ?? ''), Math.floor(ends / 1000) * 1000)
  assert.equal((await ask(second, managed)).headers.get('sunset'), null)
  assert.deepEqual(await warned(second), ['80 %'])
  await second.stop()

  await age('default', 4 * day)
  const third = await start()
  assert.deepEqual(await warned(third), ['95 %'])
  await third.stop()
  const fourth = await start()
  assert.deepEqual(await warned(fourth), [], 'once each, over restarts too')
  await fourth.stop()

  await age('default', 2 * day)
  const fifth = await start()
  assert.deepEqual(
    [(await ask(fifth, token)).status, (await ask(fifth, managed)).status],
    [401, 200],
  )
  assert.equal((await view('default')).status, 'aged')
  assert.equal((await cli(home, ['token', 'new', '--name', 'rescue'])).code, 0)
})

test('the age of the configured token survives the loss of the state', async (t) => {
  const { home, token, start, age, view } = homeFor(t)
  await (await start()).stop()
  await age('default', 20 * day)
  await (await start()).stop()
  const { createdAt } = await view('default')
  assert.ok(createdAt < Date.now() - 19 * day)
  for (const name of readdirSync(home)) if (name.startsWith('state.db')) rmSync(join(home, name))
  const side = await start()
  assert.equal((await view('default')).createdAt, createdAt)
  assert.equal((await ask(side, token)).status, 200)
  const days = recordsOf(home).filter(({ event }) => event === 'token.configured')
  assert.equal(new Set(days.map(({ because }) => because)).size, 2)
})

test('a revoked configured token does not come back by losing the state, not even twice', async (t) => {
  const { home, token, start } = homeFor(t)
  const side = await start()
  assert.equal((await cli(home, ['token', 'revoke', 'default'])).code, 0)
  assert.equal((await ask(side, token)).status, 401)
  await side.stop()
  const agent = await startAgent()
  t.after(() => agent.stop())
  for (let times = 0; times < 2; times += 1) {
    for (const name of readdirSync(home)) if (name.startsWith('state.db')) rmSync(join(home, name))
    await assert.rejects(startSidecar({ home, token, agent }), { code: 'TOKEN_REVOKED' })
  }
  assert.equal(agent.seen.length, 0)
  assert.equal((await cli(home, ['token', 'inspect'], token)).code, 1)
})

test('a configured token that somebody took out of the state was not revoked by that', async (t) => {
  const { home, token, start } = homeFor(t)
  const side = await start()
  const store = openSqlite(join(home, 'state.db'), { now: () => Date.now() })
  for (const { key } of await store.list('token/')) await store.remove(key)
  await store.close()
  const gone = () => side.records().some(({ event }) => event === 'token.revoked')
  await eventually(gone, 'the token ends with its row')
  assert.equal((await ask(side, token)).status, 401)
  await side.stop()
  assert.equal((await ask(await start(), token)).status, 200)
})

test('inspect says what a token is, without repeating it, and exits with 1 for what is not good here', async (t) => {
  const { home, token, start } = homeFor(t)
  await start()
  const managed = await makeToken(home, '--name', 'phone', '--scope', 'chat', '--expires', '20d')
  const good = await cli(home, ['token', 'inspect'], `${managed}\n`)
  assert.equal(good.code, 0, good.err)
  assert.match(good.out, /format +hsk_, id \w{8}, the checksum fits\nknown +managed token phone/)
  assert.match(good.out, /status +good\nscope +chat\n/)
  assert.match(good.out, /age +0m, since 20.*\ndue +-\nexpires +20/)
  const configured = await cli(home, ['token', 'inspect', '--json'], token)
  assert.equal(configured.code, 0)
  const { format, known, view } = JSON.parse(configured.out) as {
    format: string
    known: boolean
    view: View
  }
  assert.deepEqual([format, known, view.name, view.status], ['other', true, 'default', 'good'])
  assert.equal(view.dueAt, view.createdAt + 30 * day)

  const last = managed.endsWith('0') ? '1' : '0'
  const torn = await cli(home, ['token', 'inspect'], managed.slice(0, -1) + last)
  assert.deepEqual([torn.code, /checksum does not fit\nknown +no/.test(torn.out)], [1, true])
  await cli(home, ['token', 'revoke', 'phone'])
  const revoked = await cli(home, ['token', 'inspect'], managed)
  assert.deepEqual([revoked.code, /status +revoked/.test(revoked.out)], [1, true])
  assert.equal((await cli(home, ['token', 'inspect'], '')).code, 2)
  const jwt = [{ alg: 'RS256' }, { sub: 'a' }, 0].map((part) =>
    Buffer.from(JSON.stringify(part)).toString('base64url'),
  )
  for (const [text, says] of [
    [`hss_${'a'.repeat(43)}`, 'the secret of a password session'],
    [jwt.join('.'), 'a JWT'],
    ['a.b.c', "not of Hardshell's making"],
  ] as const) {
    const other = await cli(home, ['token', 'inspect'], text)
    assert.deepEqual([other.code, other.out.startsWith(`format   ${says}`)], [1, true], other.out)
  }
  for (const { out, err } of [good, configured, torn, revoked]) {
    assert.ok(!(out + err).includes(managed.slice(-49)) && !(out + err).includes(token))
  }
})
