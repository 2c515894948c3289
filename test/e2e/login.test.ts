import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { loginPage } from '../../src/identity/login-page.ts'
import {
  ask,
  codeOf,
  logIn,
  opening,
  sendForm,
  sendJson,
  startWithPassword,
  thePassword,
  tokenFor,
} from '../support/login.ts'
import { eventually, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
let sockets: WebSocketServer
let port: number
before(async () => {
  side = await startWithPassword({
    config: {
      security: {
        rateLimiting: {
          requestsPerMinute: 100_000,
          requestsPerMinutePerAddress: 100_000,
          authFailures: { attempts: 1000 },
        },
      },
      gateway: { publicOrigins: ['https://box.example'] },
    },
    answer: (request, response) => {
      if (request.url === '/clobber') {
        response.setHeader('Set-Cookie', ['hardshell=mine', 'theirs=1', '__Host-hardshell=mine'])
      }
      if (request.url !== '/stream') return void response.end(JSON.stringify(request.headers))
      response.writeHead(200, { 'Content-Type': 'text/event-stream' })
      response.write('data: first\n\n')
    },
  })
  port = side.port
  sockets = new WebSocketServer({ server: side.agent.server })
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)))
})
after(async () => {
  sockets.close()
  await side.stop()
})

const agentSaw = () => side.agent.seen.length
const bearer = (token: string) => ({ Authorization: `Bearer ${token}` })

/** Our cookie is nowhere in what the agent got. */
function assertNoneForAgent(): void {
  for (const seen of side.agent.seen) assert.doesNotMatch(seen.rawHeaders.join('\n'), /hss_/)
}

test('a browser without a session sees the login page, a program the plain refusal', async () => {
  const before = agentSaw()
  const page = await ask(port, 'GET', '/chat?room=1', opening)
  assert.equal(page.status, 401)
  assert.equal(page.headers['content-type'], 'text/html; charset=utf-8')
  assert.equal(page.headers['cache-control'], 'no-store')
  assert.equal(page.headers['x-frame-options'], 'DENY')
  assert.equal(page.headers['referrer-policy'], 'same-origin')
  assert.match(page.headers['www-authenticate'] ?? '', /^Bearer /)
  const policy = String(page.headers['content-security-policy'])
  for (const part of ["default-src 'none'", "form-action 'self'", "frame-ancestors 'none'"]) {
    assert.ok(policy.includes(part), part)
  }
  assert.match(policy, /style-src 'sha256-[A-Za-z0-9+/=]{44}'/)
  assert.match(page.body, /<label for="password">/)
  assert.match(page.body, /autofocus/)
  assert.match(page.body, /value="\/chat\?room=1"/)
  assert.doesNotMatch(page.body, /<script|role="alert">/)

  for (const headers of [
    {},
    { Accept: '*/*' },
    { Accept: 'application/json, text/html;q=0.5' },
    { ...opening, 'Sec-Fetch-Mode': 'cors', 'Sec-Fetch-Dest': 'empty' },
    { ...opening, 'Sec-Fetch-Mode': 'no-cors', 'Sec-Fetch-Dest': 'image' },
  ]) {
    const refusal = await ask(port, 'GET', '/chat', headers)
    assert.equal(refusal.status, 401)
    assert.equal(refusal.headers['content-type'], 'application/problem+json')
  }
  const post = await ask(port, 'POST', '/chat', opening, 'x')
  assert.equal(post.headers['content-type'], 'application/problem+json')
  assert.equal(agentSaw(), before)
})

test('the right password leads back to the page with a cookie that only we can read', async () => {
  const said = await sendForm(port, { password: thePassword, next: '/chat?room=1' })
  assert.equal(said.status, 303)
  assert.equal(said.headers.location, '/chat?room=1')
  const [cookie = ''] = said.headers['set-cookie'] ?? []
  assert.match(
    cookie,
    /^hardshell=hss_[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Strict; Max-Age=604800$/,
  )
  const page = await ask(port, 'GET', '/chat', { ...opening, Cookie: said.cookies[0] ?? '' })
  assert.equal(page.status, 200)
  assertNoneForAgent()
})

test('for an https origin of ours the cookie is bound to that host and to TLS', async () => {
  const there = { Host: 'box.example', Origin: 'https://box.example' }
  const said = await sendForm(port, { password: thePassword }, there)
  assert.equal(said.status, 303)
  const [cookie = ''] = said.headers['set-cookie'] ?? []
  assert.match(
    cookie,
    /^__Host-hardshell=hss_[^;]+; Path=\/; HttpOnly; SameSite=Strict; Max-Age=\d+; Secure$/,
  )
  const value = (said.cookies[0] ?? '').replace('__Host-hardshell=', '')
  const get = (host: string, name: string) =>
    ask(port, 'GET', '/x', { Host: host, Cookie: `${name}=${value}` })
  assert.equal((await get('box.example', '__Host-hardshell')).status, 200)
  // A cookie without the prefix may come from any neighbour of the host, or from plain HTTP.
  assert.equal((await get('box.example', 'hardshell')).status, 401)
  assert.equal((await get('localhost', '__Host-hardshell')).status, 401)
})

test('the other cookies reach the agent byte for byte, ours never', async () => {
  const cookie = await logIn(port)
  const others = 'a="1; 2" ;b=\u00e9=;  __Host-x=3;;hardshell2=y'
  for (const [sent, got] of [
    [`${others}; ${cookie}`, others],
    [`${cookie}; ${others}`, others],
    [`a=1; ${cookie};b=2`, 'a=1;b=2'],
    [`${cookie}`, undefined],
  ] as const) {
    const said = await ask(port, 'GET', '/cookies', { Cookie: sent })
    assert.equal(said.status, 200, sent)
    assert.equal(side.agent.seen.at(-1)?.headers.cookie, got, sent)
  }
  assertNoneForAgent()
})

test('the agent cannot set our cookie', async () => {
  const said = await ask(port, 'GET', '/clobber', { Cookie: await logIn(port) })
  assert.deepEqual(said.headers['set-cookie'], ['theirs=1'])
})

test('a wrong password shows the form again with the reason, and gives no cookie', async () => {
  const before = agentSaw()
  const said = await sendForm(port, { password: 'not the passphrase', next: '/chat' })
  assert.equal(said.status, 401)
  assert.match(said.body, /<p role="alert" id="error">This is not the password\.<\/p>/)
  assert.match(said.body, /aria-describedby="error"/)
  assert.match(said.body, /value="\/chat"/)
  assert.doesNotMatch(said.body, /not the passphrase/)
  assert.equal(said.headers['set-cookie'], undefined)
  const program = await sendJson(port, { password: 'not the passphrase' })
  assert.equal(program.status, 401)
  assert.equal(codeOf(program), 'UNAUTHENTICATED')
  assert.equal(agentSaw(), before)
})

test('a login leads to a path of ours and nowhere else', async () => {
  for (const next of [
    'https://evil.example/',
    '//evil.example/',
    '/\\evil.example/',
    '/\t/evil.example',
    'javascript:alert(1)',
    '/.hardshell/logout',
    `/${'x'.repeat(1000)}`,
    '',
  ]) {
    const said = await sendForm(port, { password: thePassword, next })
    assert.equal(said.headers.location, '/', next)
  }
})

test('what stands in the page is text, whatever the path holds', () => {
  const { html } = loginPage('/"><script>alert(1)</script>', '<b>')
  assert.doesNotMatch(html, /<script|<b>/)
  assert.match(html, /&quot;&gt;&lt;script&gt;/)
})

test('another site can neither log a browser in nor out', async () => {
  const before = side.records().length
  for (const headers of [
    { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site' },
    { Origin: 'null', 'Sec-Fetch-Site': 'cross-site' },
    { Origin: 'http://127.0.0.1:1', 'Sec-Fetch-Site': 'same-site' },
  ]) {
    const login = await sendForm(port, { password: thePassword }, headers)
    assert.equal(login.status, 403)
    assert.equal(codeOf(login), 'ORIGIN_DENIED')
    assert.equal(login.headers['set-cookie'], undefined)
  }
  const cookie = await logIn(port)
  const crossed = { Origin: 'https://evil.example', 'Sec-Fetch-Site': 'cross-site', Cookie: cookie }
  assert.equal((await ask(port, 'POST', '/.hardshell/logout', crossed)).status, 403)
  assert.equal((await ask(port, 'GET', '/x', { Cookie: cookie })).status, 200)
  assert.ok(side.records().length > before)
})

test('a program gets a token that lives an hour, and logs out with it', async () => {
  const from = Date.now()
  const said = await sendJson(port, { password: thePassword })
  assert.equal(said.status, 200)
  assert.equal(said.headers['cache-control'], 'no-store')
  const { token, expiresAt } = JSON.parse(said.body) as { token: string; expiresAt: string }
  const lives = Date.parse(expiresAt) - from
  assert.ok(lives > 3_590_000 && lives < 3_660_000, expiresAt)
  assert.equal((await ask(port, 'GET', '/x', bearer(token))).status, 200)
  const out = await ask(port, 'POST', '/.hardshell/logout', bearer(token))
  assert.deepEqual([out.status, out.body], [200, '{"ended":true}\n'])
  assert.equal((await ask(port, 'GET', '/x', bearer(token))).status, 401)
  assertNoneForAgent()
})

test('a cookie and a bearer token at once are two credentials, even when both are good', async () => {
  const cookie = await logIn(port)
  const token = await tokenFor(port)
  const before = agentSaw()
  const both = await ask(port, 'GET', '/x', { Cookie: cookie, ...bearer(token) })
  assert.equal(both.status, 401)
  const form = await sendJson(port, { password: thePassword }, bearer(token))
  assert.equal(form.status, 401)
  const twice = await ask(port, 'GET', '/x', { Cookie: `${cookie}; hardshell=hss_other` })
  assert.equal(twice.status, 401)
  assert.equal(agentSaw(), before)
})

test('a body that is no login is refused before any password is compared', async () => {
  const form = { 'Content-Type': 'application/x-www-form-urlencoded' }
  const json = { 'Content-Type': 'application/json' }
  const cases: readonly (readonly [Record<string, string>, string, number, string])[] = [
    [form, 'password=a&password=b', 400, 'LOGIN_INVALID'],
    [form, 'password=', 400, 'LOGIN_INVALID'],
    [form, '', 400, 'LOGIN_INVALID'],
    [json, '{"password":1}', 400, 'LOGIN_INVALID'],
    [json, '["password"]', 400, 'LOGIN_INVALID'],
    [json, '{"password":"a","password":"b"}', 400, 'LOGIN_INVALID'],
    [json, '{"password":"a","p\\u0061ssword" : "b"}', 400, 'LOGIN_INVALID'],
    [json, '{', 400, 'LOGIN_INVALID'],
    [{ 'Content-Type': 'text/plain' }, '{"password":"x"}', 400, 'LOGIN_INVALID'],
    [{}, 'password=x', 400, 'LOGIN_INVALID'],
    [json, JSON.stringify({ password: 'x'.repeat(4096) }), 413, 'BODY_TOO_LARGE'],
    [
      { ...json, 'Transfer-Encoding': 'chunked' },
      JSON.stringify({ password: 'x'.repeat(4096) }),
      413,
      'BODY_TOO_LARGE',
    ],
  ]
  for (const [headers, body, status, code] of cases) {
    const said = await ask(port, 'POST', '/.hardshell/login', headers, body)
    assert.deepEqual([said.status, codeOf(said)], [status, code], body.slice(0, 40))
  }
  const most = JSON.stringify({ password: 'x'.repeat(4096 - '{"password":""}'.length) })
  assert.equal((await ask(port, 'POST', '/.hardshell/login', json, most)).status, 401)
})

test('the paths beside login and logout are nobody’s without a session', async () => {
  const before = agentSaw()
  for (const [method, path] of [
    ['GET', '/.hardshell/'],
    ['PUT', '/.hardshell/login'],
    ['POST', '/.hardshell/login/x'],
    ['POST', '/.hardshell/loginx'],
    ['POST', '/.hardshell/token'],
    ['GET', '/.hardshell/logout'],
  ] as const) {
    assert.equal((await ask(port, method, path)).status, 401, `${method} ${path}`)
  }
  const cookie = await logIn(port)
  assert.equal((await ask(port, 'GET', '/.hardshell/x', { Cookie: cookie })).status, 403)
  assert.equal((await ask(port, 'PUT', '/.hardshell/login', { Cookie: cookie })).status, 405)
  assert.equal(
    (await ask(port, 'GET', '/.hardshell/login', { Cookie: cookie })).headers.location,
    '/',
  )
  assert.equal(agentSaw(), before)
})

test('logging out ends the session, its sockets and its streams, and no other', async () => {
  const cookie = await logIn(port)
  const other = await logIn(port)
  const open = (value: string) =>
    new WebSocket(`ws://127.0.0.1:${port}/socket`, { headers: { Cookie: value } })
  const mine = open(cookie)
  const theirs = open(other)
  const closed = new Promise<number>((resolve) => mine.once('close', resolve))
  await Promise.all(
    [mine, theirs].map((socket) => new Promise((resolve) => socket.once('open', resolve))),
  )
  const stream = ask(port, 'GET', '/stream', { Cookie: cookie }).then(
    () => 'whole',
    () => 'cut',
  )
  await eventually(() => side.agent.seen.some(({ url }) => url === '/stream'), 'the stream runs')

  const page = await ask(port, 'GET', '/.hardshell/logout', { Cookie: cookie })
  assert.match(page.body, /<form method="post" action="\/\.hardshell\/logout">/)
  const form = { 'Content-Type': 'application/x-www-form-urlencoded', Cookie: cookie }
  const out = await ask(port, 'POST', '/.hardshell/logout', form)
  assert.equal(out.status, 303)
  assert.match(out.headers['set-cookie']?.[0] ?? '', /^hardshell=; .*Max-Age=0$/)
  assert.equal(await closed, 1008)
  assert.equal(await stream, 'cut')
  assert.equal((await ask(port, 'GET', '/x', { Cookie: cookie })).status, 401)
  assert.equal((await ask(port, 'GET', '/x', { Cookie: other })).status, 200)
  assert.equal(theirs.readyState, WebSocket.OPEN)
  theirs.terminate()

  // Once more, without a session and with one that is over: there is nothing left to refuse.
  assert.equal((await ask(port, 'POST', '/.hardshell/logout', form)).status, 303)
  const { Cookie: _, ...bare } = form
  assert.equal((await ask(port, 'POST', '/.hardshell/logout', bare)).status, 303)
})

test('a session that is over leads to the login page, and costs its address nothing', async () => {
  const stale = 'hardshell=hss_0000000000000000000000000000000000000000000'
  const page = await ask(port, 'GET', '/', { ...opening, Cookie: stale })
  assert.match(page.body, /Your session is over\./)
  const again = await sendForm(port, { password: thePassword }, { Cookie: stale })
  assert.equal(again.status, 303)
})

test('logging in again ends the session that the browser had', async () => {
  const cookie = await logIn(port)
  const again = await sendForm(port, { password: thePassword }, { Cookie: cookie })
  assert.equal(again.status, 303)
  assert.equal((await ask(port, 'GET', '/x', { Cookie: cookie })).status, 401)
  assert.equal((await ask(port, 'GET', '/x', { Cookie: again.cookies[0] ?? '' })).status, 200)
})

test('a session or a password in the URL is refused, and the page does not repeat it', async () => {
  const token = await tokenFor(port)
  for (const path of [`/?x=${token}`, `/?password=${encodeURIComponent(thePassword)}`]) {
    const said = await ask(port, 'GET', path, { ...opening, Cookie: await logIn(port) })
    assert.equal(said.status, 401)
    assert.match(said.body, /name="next" type="hidden" value="\/"/)
    assert.doesNotMatch(said.body, /hss_|passphrase/)
  }
})

test('the audit log names sessions, and holds neither passwords nor secrets of sessions', async () => {
  const cookie = await logIn(port)
  await ask(port, 'GET', '/audited', { Cookie: cookie })
  const records = side.records()
  const text = JSON.stringify(records)
  assert.doesNotMatch(text, /hss_|passphrase/)
  assert.doesNotMatch(JSON.stringify(side.logged), /hss_|passphrase/)
  const request = records.find(
    ({ path, event }) => path === '/audited' && event === 'request.allowed',
  )
  assert.match(String(request?.['identity']), /^session:[0-9a-f]{12}$/)
  const made = records.findLast(({ event }) => event === 'session.created')
  assert.equal(made?.['identity'], request?.['identity'])
  const wrong = records.find(({ because }) => because === 'wrong password')
  assert.equal(wrong?.['code'], 'UNAUTHENTICATED')
  assert.ok(records.some(({ event }) => event === 'session.logout'))
})
