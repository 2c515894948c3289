import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { readHash } from '../../src/identity/password.ts'
import { startAgent } from '../support/agent.ts'
import {
  ask,
  cheapHash,
  codeOf,
  logIn,
  sendForm,
  sendJson,
  startWithPassword,
  strongHash,
  thePassword,
  tokenFor,
} from '../support/login.ts'
import { eventually } from '../support/sidecar.ts'

const main = new URL('../../src/main.ts', import.meta.url).pathname

interface Ran {
  readonly code: number | null
  readonly out: string
  readonly err: string
}

/** A program with nothing of our environment but a home, fed with `input`. */
async function run(home: string, argv: readonly string[], input = ''): Promise<Ran> {
  const [program = '', ...args] = argv
  const child = spawn(program, args, {
    env: { HARDSHELL_HOME: home, HOME: home, PATH: process.env['PATH'] },
    timeout: 60_000,
  })
  let out = ''
  let err = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => void (out += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => void (err += text))
  child.stdin.on('error', () => undefined)
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, out, err }
}

const hardshell = (home: string, args: readonly string[], input = '') =>
  run(home, [process.execPath, main, ...args], input)

function emptyHome(): { readonly home: string; remove(): void } {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  return { home, remove: () => rmSync(home, { recursive: true, force: true }) }
}

const failures = (attempts: number, window = '5m') => ({
  security: {
    rateLimiting: {
      requestsPerMinute: 100_000,
      requestsPerMinutePerAddress: 100_000,
      authFailures: { attempts, window },
    },
  },
})

test('wrong passwords lock the address, the right one too, but neither sessions nor tokens', async () => {
  const side = await startWithPassword({ config: failures(3) })
  try {
    const { port, home } = side
    const cookie = await logIn(port)
    const made = await hardshell(home, ['token', 'new', '--name', 'phone'])
    assert.equal(made.code, 0, made.err)
    const bearer = { Authorization: `Bearer ${made.out.trim()}` }
    assert.equal((await ask(port, 'GET', '/x', bearer)).status, 200)

    for (let tries = 0; tries < 3; tries += 1) {
      assert.equal((await sendJson(port, { password: `wrong one ${tries}` })).status, 401)
    }
    const locked = await sendJson(port, { password: thePassword })
    assert.deepEqual([locked.status, codeOf(locked)], [429, 'AUTH_LOCKED'])
    assert.ok(Number(locked.headers['retry-after']) > 200)
    const form = await sendForm(port, { password: thePassword })
    assert.equal(form.status, 429)
    assert.match(form.body, /role="alert" id="error">Too many attempts/)
    assert.ok(Number(form.headers['retry-after']) > 200)
    // It was a gate that refused both: no hash was computed.
    const refused = side.records().filter(({ code }) => code === 'AUTH_LOCKED')
    assert.deepEqual(
      refused.map(({ event }) => event),
      ['request.refused', 'request.refused'],
    )

    assert.equal((await ask(port, 'GET', '/x', { Cookie: cookie })).status, 200)
    assert.equal((await ask(port, 'GET', '/x', bearer)).status, 200)
  } finally {
    await side.stop()
  }
})

test('one password is compared at a time, eight wait, and the next is asked to come back', async () => {
  const side = await startWithPassword({ config: failures(1000) })
  try {
    const { port } = side
    const said = await Promise.all(
      Array.from({ length: 24 }, () => sendJson(port, { password: 'not the passphrase' })),
    )
    const statuses = said.map(({ status }) => status)
    const wrong = statuses.filter((status) => status === 401).length
    const busy = said.filter(({ status }) => status === 429)
    assert.equal(wrong + busy.length, 24)
    assert.ok(wrong >= 9, `${wrong} were compared`)
    assert.ok(busy.length > 0)
    for (const one of busy) {
      assert.equal(codeOf(one), 'LOGIN_BUSY')
      assert.ok(Number(one.headers['retry-after']) >= 1)
    }
    assert.equal((await sendJson(port, { password: thePassword })).status, 200)
  } finally {
    await side.stop()
  }
})

test('an address cannot guess more often by guessing all at once', async () => {
  const side = await startWithPassword({ config: failures(2) })
  try {
    const said = await Promise.all(
      Array.from({ length: 9 }, () => sendJson(side.port, { password: 'not the passphrase' })),
    )
    const codes = said.map(codeOf)
    assert.equal(codes.filter((code) => code === 'UNAUTHENTICATED').length, 2, codes.join())
    assert.ok(codes.every((code) => code === 'UNAUTHENTICATED' || code === 'AUTH_LOCKED'))
  } finally {
    await side.stop()
  }
})

test('logins have the limits of their address and of nobody else', async () => {
  const side = await startWithPassword({
    config: {
      security: { rateLimiting: { requestsPerMinute: 2, requestsPerMinutePerAddress: 5 } },
    },
  })
  try {
    const { port } = side
    const token = await tokenFor(port)
    const malformed = () => sendJson(port, {})
    assert.equal((await malformed()).status, 400)
    const third = await sendForm(port, { password: thePassword })
    assert.equal(third.status, 429)
    assert.match(third.body, /role="alert"/)
    assert.match(String(third.headers['ratelimit-policy']), /"identity";q=2;w=60/)
    assert.equal((await malformed()).status, 429)
    assert.equal((await malformed()).status, 429)
    // Beyond the limit of the address a login is a stranger like any other; the session is not.
    const beyond = await malformed()
    assert.match(String(beyond.headers['ratelimit-policy']), /"address"/)
    assert.equal((await ask(port, 'GET', '/x', { Authorization: `Bearer ${token}` })).status, 200)
  } finally {
    await side.stop()
  }
})

test('a weak hash is told, and a login puts a stronger one into the store and not into the file', async () => {
  const { home, remove } = emptyHome()
  const agent = await startAgent()
  const hash = await cheapHash()
  const start = () => startWithPassword({ home, agent, hash })
  let side = await start()
  try {
    await eventually(
      () => side.logged.some(({ facts }) => 'code' in facts && facts.code === 'PASSWORD_HASH_WEAK'),
      'the weak hash is told',
    )
    const config = readFileSync(join(home, 'config.json'), 'utf8')
    assert.equal((await sendJson(side.port, { password: 'not the passphrase' })).status, 401)
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 200)
    const upgraded = () =>
      side.records().filter(({ event }) => event === 'password.upgraded').length
    await eventually(() => upgraded() === 1, 'the hash is upgraded', 20_000)
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 200)
    assert.equal(readFileSync(join(home, 'config.json'), 'utf8'), config)
    await side.stop()

    side = await start()
    assert.equal((await sendJson(side.port, { password: 'not the passphrase' })).status, 401)
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 200)
    await side.stop()
    side = await start()
    assert.equal(upgraded(), 1, 'the stored hash needs no second upgrade')
  } finally {
    await side.stop()
    await agent.stop()
    remove()
  }
})

test('sessions outlive a restart, and end when the password changes', async () => {
  const { home, remove } = emptyHome()
  const agent = await startAgent()
  let side = await startWithPassword({ home, agent })
  try {
    const cookie = await logIn(side.port)
    const token = await tokenFor(side.port)
    const both = async () => [
      (await ask(side.port, 'GET', '/x', { Cookie: cookie })).status,
      (await ask(side.port, 'GET', '/x', { Authorization: `Bearer ${token}` })).status,
    ]
    await side.stop()
    side = await startWithPassword({ home, agent })
    assert.deepEqual(await both(), [200, 200])
    await side.stop()
    const changed = await hardshell(home, ['auth', 'hash-password'], 'another long passphrase')
    side = await startWithPassword({ home, agent, hash: changed.out.trim() })
    assert.deepEqual(await both(), [401, 401])
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 401)
    assert.equal((await sendJson(side.port, { password: 'another long passphrase' })).status, 200)
    await side.stop()
    // The old hash again: what was logged out stays logged out.
    side = await startWithPassword({ home, agent })
    assert.deepEqual(await both(), [401, 401])
  } finally {
    await side.stop()
    await agent.stop()
    remove()
  }
})

test('logout-all ends every session and its sockets, with and without a running sidecar', async () => {
  const { home, remove } = emptyHome()
  const agent = await startAgent()
  const sockets = new WebSocketServer({ server: agent.server })
  let side = await startWithPassword({ home, agent })
  try {
    const cookie = await logIn(side.port)
    await tokenFor(side.port)
    const socket = new WebSocket(`ws://127.0.0.1:${side.port}/`, { headers: { Cookie: cookie } })
    await once(socket, 'open')
    const closed = once(socket, 'close')
    const ended = await hardshell(home, ['auth', 'logout-all', '--json'])
    assert.deepEqual([ended.code, ended.out], [0, '{"ended":2}\n'])
    assert.equal((await closed)[0], 1008)
    assert.equal((await ask(side.port, 'GET', '/x', { Cookie: cookie })).status, 401)

    const next = await logIn(side.port)
    await side.stop()
    const offline = await hardshell(home, ['auth', 'logout-all'])
    assert.deepEqual([offline.code, offline.out], [0, 'ended 1 sessions\n'])
    side = await startWithPassword({ home, agent })
    assert.equal((await ask(side.port, 'GET', '/x', { Cookie: next })).status, 401)
  } finally {
    sockets.close()
    await side.stop()
    await agent.stop()
    remove()
  }
})

test('hash-password prints the hash and nothing else, and asks for a password worth hashing', async () => {
  const { home, remove } = emptyHome()
  try {
    const good = await hardshell(home, ['auth', 'hash-password'], `${thePassword}\n`)
    assert.equal(good.code, 0, good.err)
    assert.equal(good.err, '')
    assert.match(
      good.out,
      /^\$argon2id\$v=19\$m=65536,t=3,p=4\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}\n$/,
    )
    assert.ok(!('because' in readHash(good.out.trim())))
    for (const [input, why] of [
      ['eleven char', /11 characters, and 12 are needed/],
      ['', /0 characters/],
      ['aaaaaaaaaaaaaaaa', /fewer than 5 different/],
      ['x'.repeat(257), /longer than 256 bytes/],
      ['two lines\nof words', /control character/],
    ] as const) {
      const bad = await hardshell(home, ['auth', 'hash-password'], input)
      assert.deepEqual([bad.code, bad.out], [2, ''], input)
      assert.match(bad.err, why)
    }
  } finally {
    remove()
  }
})

/** `hash-password` on a terminal (script(1) makes one): answers each prompt, and says all that appeared. */
async function typed(home: string, answers: readonly string[]): Promise<string> {
  const command = `'${process.execPath}' '${main}' auth hash-password`
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    env: { HARDSHELL_HOME: home, HOME: home, PATH: process.env['PATH'], SHELL: '/bin/sh' },
    timeout: 60_000,
  })
  let shown = ''
  let asked = 0
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text
    const prompts = shown.split(/Password: |Once more: /).length - 1
    for (; asked < prompts; asked += 1) child.stdin.write(`${answers[asked] ?? ''}\r`)
  })
  child.stdin.on('error', () => undefined)
  await once(child, 'close')
  return shown
}

test('on a terminal the password is asked for twice and never shown', async () => {
  const { home, remove } = emptyHome()
  try {
    const same = await typed(home, [thePassword, thePassword])
    assert.match(same, /Password: [\s\S]*Once more: [\s\S]*\$argon2id\$v=19\$m=65536,t=3,p=4\$/)
    assert.doesNotMatch(same, /passphrase/)
    // Ctrl-U takes back the line, Delete the letter before.
    const mended = await typed(home, [`wrong\u0015${thePassword}x\u007f`, thePassword])
    assert.match(mended, /argon2id/)
    const differ = await typed(home, [thePassword, 'another long passphrase'])
    assert.match(differ, /The two passwords differ\./)
    assert.doesNotMatch(differ, /argon2id|passphrase/)
    assert.match(await typed(home, ['\u0003']), /No password was given\./)
  } finally {
    remove()
  }
})

test('a hash that is missing or out of bounds stops the start with one clear line', async () => {
  const { home, remove } = emptyHome()
  const [, , , , salt = '', tag = ''] = (await strongHash()).split('$')
  const hashOf = (cost: string) => `$argon2id$v=19$${cost}$${salt}$${tag}`
  const cases: readonly (readonly [string | undefined, RegExp])[] = [
    [undefined, /gateway\.auth\.passwordHash is missing, and mode "password" admits nobody/],
    [hashOf('m=4194304,t=3,p=4'), /has m=4194304, and only 19456 to 262144 KiB of memory/],
    [hashOf('m=19455,t=3,p=4'), /has m=19455/],
    [hashOf('m=65536,t=11,p=4'), /has t=11, and only 1 to 10 passes/],
    [hashOf('m=65536,t=3,p=9'), /has p=9, and only 1 to 8 lanes/],
    ['$argon2id$v=19$m=65536,t=3,p=4$...', /an elided "\.\.\." is not a hash/],
    [
      '$argon2i$v=19$m=65536,t=3,p=4$c2FsdHNhbHRzYWx0$c2FsdHNhbHRzYWx0c2FsdA',
      /argon2id PHC string/,
    ],
  ]
  try {
    for (const [passwordHash, why] of cases) {
      const file = join(home, 'config.json5')
      const auth = { mode: 'password', passwordHash }
      writeFileSync(file, JSON.stringify({ gateway: { port: 0, auth } }), { mode: 0o600 })
      const ran = await hardshell(home, ['serve'])
      assert.equal(ran.code, 1, passwordHash)
      assert.match(ran.err, why)
      assert.equal(ran.err.trim().split('\n').length, 1)
      assert.ok(passwordHash === undefined || !ran.err.includes(salt))
    }
  } finally {
    remove()
  }
})
