import assert from 'node:assert/strict'
import fc from 'fast-check'
import { test } from 'node:test'

import { identityGate } from '../../src/gates/identity.ts'
import { addressRateGate } from '../../src/gates/rate.ts'
import { scopeGate } from '../../src/gates/scope.ts'
import { bearerProver } from '../../src/identity/bearer.ts'
import { setsOwnCookie, splitCookie } from '../../src/identity/cookies.ts'
import { memoryLimiter } from '../../src/identity/limiter.ts'
import { Lockout, lockoutDefaults } from '../../src/identity/lockout.ts'
import { isNavigation, localPath, prefersHtml } from '../../src/identity/login-page.ts'
import { refusalPage } from '../../src/identity/login.ts'
import { identifier } from '../../src/identity/proof.ts'
import { secureBy, sessionProver, withSessions } from '../../src/identity/session-prover.ts'
import { SessionBook } from '../../src/identity/sessions.ts'
import { openSqlite } from '../../src/store/sqlite.ts'
import { facts } from '../support/identity-facts.ts'

const login = { method: 'POST', path: '/.hardshell/login', target: '/.hardshell/login' }
const logout = { method: 'POST', path: '/.hardshell/logout', target: '/.hardshell/logout' }

async function setUp() {
  const now = () => 1_800_000_000_000
  const sessions = await SessionBook.open({
    store: openSqlite(':memory:', { now }),
    now,
    password: 'a',
  })
  const { secret } = await sessions.make('browser')
  const lookUp = (value: string) =>
    value === 'good'
      ? ({
          kind: 'valid',
          identity: { id: 'token:1', name: 'one', scopes: [], paths: [] },
        } as const)
      : ({ kind: 'wrong', because: 'unknown token', guess: true } as const)
  const who = identifier([
    bearerProver(withSessions({ lookUp }, sessions)),
    sessionProver(sessions, secureBy(['https://box.example', 'http://plain.example'])),
  ])
  return { secret, who, sessions }
}

test('a path that a login leads to is on this very host, whatever was asked for', () => {
  const tricky = fc.string({
    unit: fc.constantFrom('/', '\\', '.', '@', ':', 'a', '\t', '\n', '?', '#', '%', ' '),
  })
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        tricky,
        tricky.map((text) => `/${text}`),
      ),
      (next) => {
        const path = localPath(next)
        assert.equal(new URL(path, 'http://host.example').origin, 'http://host.example')
        assert.match(path, /^\/(?!\/)[\x21-\x5b\x5d-\x7e]*$/)
      },
    ),
  )
  assert.equal(localPath('/chat?room=1&x=%20#end'), '/chat?room=1&x=%20#end')
  assert.equal(localPath(`/${'x'.repeat(999)}`).length, 1000)
  assert.equal(localPath(`/${'x'.repeat(1000)}`), '/')
})

test('HTML is for those who name it and want it as much as JSON', () => {
  const html = (...accept: readonly string[]) =>
    prefersHtml(accept.flatMap((text) => ['Accept', text]))
  for (const accept of [
    'text/html',
    'TEXT/HTML;q=0.1',
    'application/json, text/html',
    '*/*;q=0.8, text/html;level=1',
  ]) {
    assert.equal(html(accept), true, accept)
  }
  for (const accept of [
    '*/*',
    'text/*',
    'application/json, text/html;q=0.9',
    'text/html;q=0',
    'text/html;q=x',
    '',
  ]) {
    assert.equal(html(accept), false, accept)
  }
  assert.equal(html('application/json;q=0.5', 'text/html'), true)
  assert.equal(html(), false)
})

test('only opening a page is a navigation', () => {
  const headers = ['Accept', 'text/html']
  assert.equal(isNavigation(facts({ headers })), true)
  assert.equal(isNavigation(facts({ headers, method: 'HEAD' })), false)
  assert.equal(isNavigation(facts({ headers: [...headers, 'Sec-Fetch-Mode', 'cors'] })), false)
  assert.equal(isNavigation(facts({ headers: [...headers, 'Sec-Fetch-Dest', 'iframe'] })), false)
  const websocket = { key: 'k', protocols: [] }
  assert.equal(refusalPage(facts({ headers, websocket }), 'UNAUTHENTICATED'), undefined)
  assert.equal(refusalPage(facts({ headers }), 'PATH_DENIED'), undefined)
  assert.equal(refusalPage(facts({ headers }), 'UNAUTHENTICATED')?.status, 401)
})

test('our cookies are taken out and every other byte stays where it was', () => {
  const pair = fc
    .tuple(
      fc.string({ unit: fc.constantFrom('a', 'b', '-', '_', '"'), minLength: 1, maxLength: 4 }),
      fc.string({ unit: fc.constantFrom('x', '=', ' ', '"', ',', '\u00ff'), maxLength: 6 }),
      fc.constantFrom('', ' ', '  '),
    )
    .map(([name, value, blank]) => `${blank}${name}=${value}`)
  const ours = fc.constantFrom(' hardshell=hss_x', ' __Host-hardshell=hss_y', ' hardshell')
  fc.assert(
    fc.property(fc.array(pair, { minLength: 1 }), ours, fc.nat(), (pairs, own, at) => {
      const value = pairs.join(';').trimStart()
      assert.deepEqual(splitCookie(value), { rest: value, own: [] })
      const place = 1 + (at % pairs.length)
      const mixed = pairs.toSpliced(place, 0, own).join(';').trimStart()
      const split = splitCookie(mixed)
      assert.equal(split.rest, value)
      assert.equal(split.own.length, 2)
    }),
  )
  assert.deepEqual(splitCookie('hardshell=a; hardshell = b ;__Host-hardshell=c'), {
    rest: undefined,
    own: ['hardshell', 'a', 'hardshell', 'b', '__Host-hardshell', 'c'],
  })
  assert.deepEqual(splitCookie('xhardshell=1; hardshell2=2'), {
    rest: 'xhardshell=1; hardshell2=2',
    own: [],
  })
})

test('a Set-Cookie is ours by its name alone', () => {
  for (const text of ['hardshell=x', ' hardshell = x; Path=/', '__Host-hardshell=', 'hardshell']) {
    assert.equal(setsOwnCookie(text), true, text)
  }
  for (const text of ['hardshell2=x', 'x=hardshell', 'x; hardshell=1', '']) {
    assert.equal(setsOwnCookie(text), false, text)
  }
})

test('the cookie proves, by the name that belongs to the host', async () => {
  const { secret, who } = await setUp()
  const kind = async (host: string, name: string) =>
    (await who.identify(facts({ host, ownCookies: [name, secret] }))).kind
  assert.equal(await kind('localhost:8080', 'hardshell'), 'valid')
  assert.equal(await kind('plain.example', 'hardshell'), 'valid')
  assert.equal(await kind('localhost:8080', '__Host-hardshell'), 'none')
  assert.equal(await kind('box.example', '__Host-hardshell'), 'valid')
  assert.equal(await kind('box.example:443', '__Host-hardshell'), 'valid')
  assert.equal(await kind('box.example', 'hardshell'), 'none')
  const overTls = facts({ secure: true, ownCookies: ['__Host-hardshell', secret] })
  assert.equal((await who.identify(overTls)).kind, 'valid')
})

test('the secret of a session proves as a bearer token too, and tokens go on as before', async () => {
  const { secret, who } = await setUp()
  const kind = async (authorization: string) => (await who.identify(facts({ authorization }))).kind
  assert.equal(await kind(`Bearer ${secret}`), 'valid')
  assert.equal(await kind('Bearer good'), 'valid')
  assert.equal(await kind('Bearer bad'), 'wrong')
})

test('a cookie beside a bearer token is two credentials', async () => {
  const { secret, who } = await setUp()
  const proof = await who.identify(
    facts({ authorization: 'Bearer good', ownCookies: ['hardshell', secret] }),
  )
  assert.deepEqual(proof, { kind: 'wrong', because: '2 credentials', guess: false })
})

test('a visitor may post a login and nothing else', async () => {
  const { secret, who } = await setUp()
  const kindOf = async (changes: Parameters<typeof facts>[0]) =>
    (await who.identify(facts(changes))).kind
  assert.equal(await kindOf(login), 'visitor')
  assert.equal(await kindOf({ ...login, ownCookies: ['hardshell', 'hss_stale'] }), 'visitor')
  assert.equal(await kindOf({ ...login, authorization: 'Bearer good' }), 'wrong')
  assert.equal(await kindOf({ ...login, method: 'GET' }), 'none')
  assert.equal(await kindOf({ ...login, path: '/.hardshell/login/' }), 'none')
  assert.equal(await kindOf(logout), 'visitor')
  assert.equal(await kindOf({ ...logout, ownCookies: ['hardshell', 'hss_stale'] }), 'visitor')
  assert.equal(await kindOf({ ...logout, ownCookies: ['hardshell', secret] }), 'valid')
  assert.equal(await kindOf({ ...logout, authorization: 'Bearer good' }), 'valid')
  assert.equal(await kindOf({ ...logout, authorization: 'Bearer bad' }), 'wrong')

  const proof = await who.identify(facts(login))
  assert.ok(proof.kind === 'visitor')
  const elsewhere = await scopeGate().decide(facts({ method: 'POST', path: '/x' }), proof.identity)
  assert.equal(elsewhere.allow, false)
  assert.equal((await scopeGate().decide(facts(login), proof.identity)).allow, true)
})

test('a visitor is a stranger to the limit of the address, and refused while it is locked', async () => {
  const { who } = await setUp()
  const rate = addressRateGate({ limiter: memoryLimiter({ perMinute: 1 }), identifier: who })
  const nobody = { id: 'nobody', name: '', scopes: [], paths: [] }
  assert.equal((await rate.decide(facts(login), nobody)).allow, true)
  const over = await rate.decide(facts(login), nobody)
  assert.equal(over.allow === false && over.code, 'RATE_LIMITED')

  const lockout = new Lockout({ ...lockoutDefaults, attempts: 1 }, () => 0)
  const gate = identityGate({ identifier: who, lockout })
  const before = await gate.decide(facts(login), nobody)
  assert.equal(before.allow === true && before.identity?.id, 'login:192.0.2.7')
  lockout.fail('192.0.2.7')
  const locked = await gate.decide(facts(login), nobody)
  assert.equal(locked.allow === false && locked.code, 'AUTH_LOCKED')
  const elsewhere = await gate.decide(facts({ ...login, peer: '192.0.2.8' }), nobody)
  assert.equal(elsewhere.allow, true)
})
