/** deploy/verify.sh itself: it must pass a gateway that is right and name each thing that is wrong. */
import assert from 'node:assert/strict'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { after, describe, test } from 'node:test'
import { run, type Ran } from '../support/images.ts'
import { plant } from '../support/secrets.ts'

const token = plant('gateway token', 'with quotes', 'b7"e0\\9f4c1d28a6537e0fb92d46c8a1753e9fd0')

/** What a gateway may get wrong. */
type Defect =
  | 'no authentication'
  | 'no size limit'
  | 'any host'
  | 'any origin'
  | 'all interfaces'
  | 'no rate limit'
  | 'no Retry-After'
  | 'health is not JSON'
  | 'refuses the right token'

interface Gateway {
  readonly url: string
  readonly requests: () => number
  readonly close: () => Promise<void>
}

interface Settings {
  readonly defects?: readonly Defect[]
  /** Wrong tokens before the address is locked. */
  readonly attempts?: number
  readonly windowMs?: number
}

/** A stand-in for Hardshell with the answers of DESIGN §4, and a short window so that the test need not wait. */
async function gateway({
  defects = [],
  attempts = 5,
  windowMs = 2000,
}: Settings = {}): Promise<Gateway> {
  const has = (defect: Defect) => defects.includes(defect)
  const quota = 20
  let requests = 0
  let used = 0
  let wrong = 0
  let windowEnds = 0

  const refuse = (response: ServerResponse, status: number, code: string, headers = {}) => {
    response.writeHead(status, {
      'content-type': 'application/problem+json',
      connection: 'close',
      ...headers,
    })
    response.end(JSON.stringify({ status, code }))
  }
  const guess = (response: ServerResponse) => {
    wrong += 1
    if (wrong <= attempts)
      refuse(response, 401, 'UNAUTHENTICATED', { 'www-authenticate': 'Bearer' })
    else refuse(response, 429, 'AUTH_LOCKED', { 'retry-after': '300' })
  }
  const count = (response: ServerResponse) => {
    const now = performance.now()
    if (now > windowEnds) {
      windowEnds = now + windowMs
      used = 0
    }
    used += 1
    const wait = Math.max(1, Math.ceil((windowEnds - now) / 1000))
    response.setHeader('RateLimit-Policy', `"identity";q=${quota};w=60`)
    response.setHeader('RateLimit', `"identity";r=${Math.max(0, quota - used)};t=${wait}`)
    if (used <= quota || has('no rate limit')) return true
    refuse(
      response,
      429,
      'RATE_LIMITED',
      has('no Retry-After') ? {} : { 'retry-after': String(wait) },
    )
    return false
  }
  const answer = (request: IncomingMessage, response: ServerResponse) => {
    requests += 1
    const { authorization, host = '', origin } = request.headers
    if (!/^(127\.0\.0\.1|localhost)(:\d+)?$/.test(host) && !has('any host'))
      return refuse(response, 421, 'HOST_DENIED')
    if (Number(request.headers['content-length'] ?? 0) > 10 * 1024 ** 2 && !has('no size limit')) {
      return refuse(response, 413, 'BODY_TOO_LARGE')
    }
    if (!has('no authentication')) {
      if (authorization === undefined) return refuse(response, 401, 'UNAUTHENTICATED')
      if (authorization !== `Bearer ${token}` || has('refuses the right token'))
        return guess(response)
    }
    if (origin !== undefined && !has('any origin')) return refuse(response, 403, 'ORIGIN_DENIED')
    if (!count(response)) return undefined
    const json = !has('health is not JSON')
    response.writeHead(200, { 'content-type': json ? 'application/json' : 'text/html' })
    return response.end(json ? '{"status":"ok"}' : '<p>ok</p>')
  }
  const server = createServer((request, response) => void answer(request, response))
  const port = await listen(server, has('all interfaces') ? '0.0.0.0' : '127.0.0.1')
  return {
    url: `http://127.0.0.1:${port}`,
    requests: () => requests,
    close: () => {
      server.closeAllConnections()
      return new Promise((resolve) => server.close(() => resolve()))
    },
  }
}

function listen(server: Server, host: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(0, host, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address !== null ? address.port : 0)
    })
  })
}

const verify = (url: string, env: Record<string, string> = { HARDSHELL_TOKEN: token }) =>
  run('sh', ['deploy/verify.sh', url], { env })

const lines = (ran: Ran, word: string) =>
  ran.stdout.split('\n').filter((line) => line.startsWith(word))

describe('deploy/verify.sh', { concurrency: 1 }, () => {
  test('passes a gateway that is right five times in a row, waiting for the rate limit', async () => {
    const right = await gateway()
    try {
      for (let round = 1; round <= 5; round++) {
        const ran = await verify(right.url)
        assert.equal(ran.code, 0, `round ${round}:\n${ran.stdout}${ran.stderr}`)
        assert.deepEqual(lines(ran, 'FAIL'), [])
        assert.equal(lines(ran, 'PASS').length, 8, ran.stdout)
      }
    } finally {
      await right.close()
    }
  })

  test('says so when this address is locked out after earlier wrong tokens', async () => {
    const locked = await gateway({ attempts: 0 })
    try {
      const ran = await verify(locked.url)
      assert.equal(ran.code, 0, ran.stdout)
      assert.match(ran.stdout, /^PASS wrong token on \/health → 429 AUTH_LOCKED/m)
    } finally {
      await locked.close()
    }
  })

  const findings: readonly (readonly [Defect, readonly RegExp[]])[] = [
    ['no authentication', [/^FAIL no token/m, /^FAIL wrong token/m]],
    ['no size limit', [/^FAIL body over the limit/m]],
    ['any host', [/^FAIL foreign Host → 200/m]],
    ['any origin', [/^FAIL foreign Origin → 200/m]],
    ['all interfaces', [/^FAIL port \d+ is open beyond loopback/m]],
    ['no rate limit', [/^FAIL burst → 200/m]],
    ['no Retry-After', [/^FAIL burst → 429, but without Retry-After/m]],
    ['health is not JSON', [/^FAIL right token on \/health → 200, but not JSON/m]],
    ['refuses the right token', [/^FAIL right token on \/health → 401 UNAUTHENTICATED/m]],
  ]
  for (const [defect, expected] of findings) {
    test(`fails a gateway with this defect: ${defect}`, async () => {
      const faulty = await gateway({ defects: [defect] })
      try {
        const ran = await verify(faulty.url)
        assert.equal(ran.code, 1, ran.stdout)
        for (const line of expected) assert.match(ran.stdout, line)
        // What has nothing to do with the defect still passes; the rate limit needs a request that is let in.
        const others = defect === 'refuses the right token' ? expected.length + 2 : expected.length
        assert.ok(lines(ran, 'FAIL').length <= others + 1, ran.stdout)
      } finally {
        await faulty.close()
      }
    })
  }

  test('fails when nothing answers', async () => {
    const gone = await gateway()
    await gone.close()
    const ran = await verify(gone.url)
    assert.equal(ran.code, 1)
    assert.match(ran.stdout, /^FAIL right token on \/health → no answer from http/m)
  })

  test('takes the token from standard input', async () => {
    const right = await gateway()
    try {
      const ran = await run('sh', ['deploy/verify.sh', right.url, '-'], { input: `${token}\n` })
      assert.equal(ran.code, 0, ran.stdout)
    } finally {
      await right.close()
    }
  })

  test('explains its usage without a URL or a token, and sends nothing', async () => {
    const right = await gateway()
    try {
      assert.equal((await run('sh', ['deploy/verify.sh'])).code, 2)
      assert.equal((await verify('127.0.0.1:8080')).code, 2)
      const without = await verify(right.url, { HARDSHELL_TOKEN: '' })
      assert.equal(without.code, 2)
      assert.match(without.stderr, /^verify: no token: set HARDSHELL_TOKEN/)
      assert.equal(right.requests(), 0)
    } finally {
      await right.close()
    }
  })

  test('shows the token to no process: not in arguments, not in the environment', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'hardshell-verify-'))
    after(() => rm(dir, { recursive: true, force: true }))
    const seen = join(dir, 'seen')
    const wrapper = [
      '#!/bin/sh',
      `{ printf '%s\\n' "$@"; env; } >>'${seen}'`,
      'exec "$REAL_CURL" "$@"',
      '',
    ]
    for (const tool of ['curl', 'sed', 'awk', 'tr']) {
      const real = (await run('sh', ['-c', `command -v ${tool}`])).stdout.trim()
      await writeFile(join(dir, tool), wrapper.join('\n').replace('$REAL_CURL', real))
      await chmod(join(dir, tool), 0o755)
    }
    const right = await gateway()
    try {
      const path = `${dir}${delimiter}${process.env['PATH'] ?? ''}`
      const ran = await verify(right.url, { HARDSHELL_TOKEN: token, PATH: path })
      assert.equal(ran.code, 0, ran.stdout)
      const text = await readFile(seen, 'utf8')
      assert.match(text, /--config\n-\n/)
      assert.ok(!text.includes(token))
    } finally {
      await right.close()
    }
  })
})
