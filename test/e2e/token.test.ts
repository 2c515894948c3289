import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { TokenBook } from '../../src/identity/tokens.ts'
import { openSqlite } from '../../src/store/sqlite.ts'
import { eventually, startSidecar, type TestSidecar } from '../support/sidecar.ts'

const main = new URL('../../src/main.ts', import.meta.url).pathname

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** `hardshell …` as a process of its own, with nothing of our environment but the home. */
async function hardshell(home: string, ...args: readonly string[]): Promise<Ran> {
  const child = spawn(process.execPath, [main, ...args], {
    env: { HARDSHELL_HOME: home, HOME: home, PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (err += text))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

let side: TestSidecar
let sockets: WebSocketServer
before(async () => {
  side = await startSidecar({
    answer: (request, response) => {
      if (request.url !== '/stream') return void response.end('hello')
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('data: first\n\n')
    },
  })
  sockets = new WebSocketServer({ server: side.agent.server })
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
})
after(async () => {
  sockets.close()
  await side.stop()
})

const status = async (token: string, path = '/x', method = 'GET') => {
  const answer = await fetch(side.url + path, { method, headers: bearer(token) })
  await answer.arrayBuffer()
  return answer.status
}

test('a token made on the command line works at once, and standard output holds nothing but it', async () => {
  const made = await hardshell(side.home, 'token', 'new', '--name', 'phone')
  assert.equal(made.code, 0, made.err)
  assert.match(made.out, /^hsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}\n$/)
  const token = made.out.trim()
  assert.ok(!made.err.includes(token))
  assert.equal(await status(token), 200)

  const listed = await hardshell(side.home, 'token', 'list')
  assert.match(listed.out, /phone +[0-9a-f]{8} +operate +good/)
  assert.match(listed.out, /default +[0-9a-f]{8} +operate +good/)
  const json = await hardshell(side.home, 'token', 'list', '--json')
  const { tokens } = JSON.parse(json.out) as { tokens: { name: string; lastUsedAt?: number }[] }
  assert.ok(tokens.find(({ name }) => name === 'phone')?.lastUsedAt !== undefined)

  const revoked = await hardshell(side.home, 'token', 'revoke', 'phone')
  assert.equal(revoked.code, 0, revoked.err)
  const seen = side.agent.seen.length
  assert.equal(await status(token), 401)
  assert.equal(side.agent.seen.length, seen)

  const secret = token.slice(-49)
  for (const text of [
    listed.out,
    json.out,
    revoked.out,
    revoked.err,
    JSON.stringify(side.logged),
  ]) {
    assert.ok(!text.includes(secret))
  }
  for (const name of readdirSync(side.home, { recursive: true, encoding: 'utf8' })) {
    if (!/state\.db|audit-/.test(name)) continue
    assert.ok(!readFileSync(join(side.home, name), 'latin1').includes(secret), name)
  }
})

test('revoking a token closes its WebSocket and its event stream, and leaves those of others open', async () => {
  const [one, two] = await Promise.all(
    ['one', 'two'].map((name) => hardshell(side.home, 'token', 'new', '--name', name)),
  )
  const tokens = [one?.out.trim() ?? '', two?.out.trim() ?? '']
  const live = await Promise.all(
    tokens.map(async (token) => {
      const socket = new WebSocket(side.url.replace('http', 'ws'), { headers: bearer(token) })
      const closed = { code: 0, at: 0 }
      socket.on('close', (code) => Object.assign(closed, { code, at: performance.now() }))
      socket.on('error', () => undefined)
      await once(socket, 'open')
      const answer = await fetch(`${side.url}/stream`, { headers: bearer(token) })
      const reader = answer.body?.getReader()
      await reader?.read()
      const stream = { ended: false }
      const end = () => void (stream.ended = true)
      void reader?.read().then(end, end)
      return { socket, closed, stream }
    }),
  )
  const [first, second] = live
  assert.ok(first !== undefined && second !== undefined)

  const revoked = await hardshell(side.home, 'token', 'revoke', 'one', '--json')
  const { revokedAt } = JSON.parse(revoked.out) as { revokedAt: number }
  await eventually(() => first.closed.code !== 0, 'the WebSocket closes')
  const closedAt = performance.timeOrigin + first.closed.at
  assert.ok(closedAt - revokedAt < 1000, `closed after ${closedAt - revokedAt} ms`)
  assert.equal(first.closed.code, 1008)
  await eventually(() => first.stream.ended, 'the event stream ends')

  second.socket.send('still here')
  const [echo] = (await once(second.socket, 'message')) as [Buffer]
  assert.equal(String(echo), 'still here')
  assert.equal(second.stream.ended, false)
  second.socket.close()
  await hardshell(side.home, 'token', 'revoke', 'two')
  await eventually(() => second.stream.ended, 'the event stream ends')
})

test('a token that another process revokes in the store is refused within a second', async () => {
  const made = await hardshell(side.home, 'token', 'new', '--name', 'shared')
  const token = made.out.trim()
  assert.equal(await status(token), 200)
  const store = openSqlite(join(side.home, 'state.db'), { now: () => Date.now() })
  const other = await TokenBook.open({ store, now: () => Date.now() })
  const fresh = await other.create({ name: 'fresh', scopes: ['operate'], paths: [], networks: [] })
  await other.revoke('shared')
  const start = performance.now()
  // An exchange that the revocation catches in the middle is cut: that is no answer yet.
  while ((await status(token).catch(() => 0)) !== 401) {
    assert.ok(performance.now() - start < 5000, 'still good after five seconds')
  }
  assert.ok(performance.now() - start < 1000, `took ${performance.now() - start} ms`)
  assert.equal(await status(fresh.token), 200)
  await other.close()
  await store.close()
})

test('scopes, paths and networks limit what a token may do', async () => {
  const make = async (...options: readonly string[]) => {
    const { out, err } = await hardshell(side.home, 'token', 'new', ...options)
    assert.match(out, /^hsk_/, err)
    return out.trim()
  }
  const [read, path, inside, outside] = await Promise.all([
    make('--scope', 'read'),
    make('--path', '/api'),
    make('--cidr', '127.0.0.0/8'),
    make('--cidr', '10.0.0.0/8'),
  ])
  assert.equal(await status(read), 200)
  assert.equal(await status(path, '/api'), 200)
  assert.equal(await status(path, '/api/x', 'POST'), 200)
  assert.equal(await status(inside), 200)
  const seen = side.agent.seen.length
  assert.equal(await status(read, '/x', 'POST'), 403)
  assert.equal(await status(path, '/apix'), 403)
  assert.equal(await status(path, '/'), 403)
  const refused = await fetch(`${side.url}/x`, { headers: bearer(outside) })
  assert.equal(refused.status, 403)
  assert.equal(((await refused.json()) as { code: string }).code, 'SCOPE_MISSING')
  assert.equal(side.agent.seen.length, seen)
})

test('five wrong tokens lock the address for guesses, and the owner at the same address passes', async () => {
  const own = await startSidecar()
  try {
    const ask = (token?: string) =>
      fetch(`${own.url}/x`, { headers: token === undefined ? {} : bearer(token) })
    for (let count = 0; count < 10; count += 1) assert.equal((await ask()).status, 401)
    for (let count = 0; count < 5; count += 1)
      assert.equal((await ask(`wrong${count}`)).status, 401)
    const locked = await ask('wrong-token')
    assert.equal(locked.status, 429)
    assert.equal(((await locked.json()) as { code: string }).code, 'AUTH_LOCKED')
    const wait = Number(locked.headers.get('retry-after'))
    assert.ok(wait > 200 && wait <= 300, `Retry-After ${wait}`)
    assert.equal((await ask()).status, 401)
    assert.equal(own.agent.seen.length, 0)
    assert.equal((await ask(own.token)).status, 200)
    assert.equal(own.agent.seen.length, 1)
  } finally {
    await own.stop()
  }
})

test('the request beyond the limit of an identity is refused, and every answer says how many are left', async () => {
  const own = await startSidecar({
    config: { security: { rateLimiting: { requestsPerMinute: 3 } } },
  })
  try {
    const answers = []
    for (let count = 0; count < 4; count += 1) {
      answers.push(await fetch(`${own.url}/x`, { headers: own.auth }))
    }
    assert.deepEqual(
      answers.map((answer) => answer.status),
      [200, 200, 200, 429],
    )
    const left = answers.map(({ headers }) => headers.get('ratelimit')?.split(';')[1])
    assert.deepEqual(left, ['r=2', 'r=1', 'r=0', 'r=0'])
    assert.equal(answers[0]?.headers.get('ratelimit-policy'), '"identity";q=3;w=60')
    assert.equal(answers[0]?.headers.get('retry-after'), null)
    assert.match(answers[3]?.headers.get('retry-after') ?? '', /^[1-9]\d?$/)
    assert.equal(own.agent.seen.length, 3)
  } finally {
    await own.stop()
  }
})

test('tokens, revocations and the first day of the configured token survive a restart', async () => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  try {
    const first = await startSidecar({ home })
    const good = (await hardshell(home, 'token', 'new', '--name', 'good')).out.trim()
    const bad = (await hardshell(home, 'token', 'new', '--name', 'bad')).out.trim()
    await hardshell(home, 'token', 'revoke', 'bad')
    const listed = async () => {
      const { out } = await hardshell(home, 'token', 'list', '--json')
      const { tokens } = JSON.parse(out) as { tokens: { name: string; createdAt: number }[] }
      return new Map(tokens.map(({ name, createdAt }) => [name, createdAt]))
    }
    const before = await listed()
    await first.stop()
    // Without a sidecar the same commands work on the store alone.
    const alone = (await hardshell(home, 'token', 'new', '--name', 'alone')).out.trim()
    const second = await startSidecar({ home, token: first.token })
    const answers = [good, bad, alone, first.token].map(async (token) => {
      const answer = await fetch(`${second.url}/x`, { headers: bearer(token) })
      return answer.status
    })
    assert.deepEqual(await Promise.all(answers), [200, 401, 200, 200])
    assert.equal((await listed()).get('default'), before.get('default'))
    await second.stop()
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})

test('every token that was shown works after the process that made it was killed', async () => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  const path = join(home, 'state.db')
  try {
    const at = (file: string) => JSON.stringify(new URL(`../../src/${file}`, import.meta.url).href)
    const script = `
      import { openSqlite } from ${at('store/sqlite.ts')}
      import { TokenBook } from ${at('identity/tokens.ts')}
      const now = () => Date.now()
      const book = await TokenBook.open({ store: openSqlite(process.argv[1], { now }), now })
      for (let n = 0; ; n += 1) {
        const { token } = await book.create({ name: 't' + n, scopes: ['operate'], paths: [], networks: [] })
        process.stdout.write(token + '\\n')
        if (n % 2 === 1) await book.revoke('t' + (n - 1))
      }`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.split('\n').length > 20) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const store = openSqlite(path, { now: () => Date.now() })
    const book = await TokenBook.open({ store, now: () => Date.now() })
    const shown = said.split('\n').slice(0, -1)
    assert.ok(shown.length >= 20)
    for (const [n, token] of shown.entries()) {
      // The last pair may have been between being shown and being revoked.
      if (n >= shown.length - 2) continue
      assert.equal(book.lookUp(token).kind, n % 2 === 0 ? 'wrong' : 'valid', `token ${n}`)
    }
    await store.close()
  } finally {
    rmSync(home, { recursive: true, force: true })
  }
})
