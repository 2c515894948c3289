/** A test run as `npm test` starts it: whatever way a secret gets out, the run fails and names the place. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { checkout } from '../support/images.ts'

const support = new URL('../support/', import.meta.url).href

/** What each test of the inner run does with the secret. */
const leaks: Readonly<Record<string, string>> = {
  'a file of a home that is removed': `
    const home = mkdtempSync(join(tmpdir(), 'hs-leak-'))
    writeFileSync(join(home, 'audit.log'), secret)
    rmSync(home, { recursive: true })
    assert.equal(existsSync(home), false)`,
  'a file of a home that is removed later': `
    const home = await mkdtemp(join(tmpdir(), 'hs-leak-'))
    writeFileSync(join(home, 'audit.log'), Buffer.from(secret).toString('base64'))
    await rm(home, { recursive: true })`,
  'what a program writes': `
    await once(spawn(process.execPath, ['-e', 'console.error(process.env.S)'], { env: { S: secret } }), 'close')`,
  'what a program writes that is waited for': `
    spawnSync(process.execPath, ['-e', 'console.log(process.env.S)'], { env: { S: secret } })`,
  'an argument': `
    spawnSync(process.execPath, ['-e', '0', secret])`,
  'an answer to fetch': `
    const server = createServer((_, response) => response.end(secret)).listen(0)
    await once(server, 'listening')
    await (await fetch('http://127.0.0.1:' + server.address().port)).text()
    server.close()`,
  'a header of an answer to a bare socket': `
    const server = createServer((_, response) => response.writeHead(200, { 'X-A': secret }).end()).listen(0)
    await once(server, 'listening')
    const socket = connect(server.address().port, '127.0.0.1')
    socket.end('GET / HTTP/1.0\\r\\n\\r\\n').resume()
    await once(socket, 'close')
    server.close()`,
  'what a command writes in this process': `
    keepSaid('hardshell', ['token', 'list'], secret)`,
  'a line of a log': `
    keepLogged(secret)`,
}

const source = (body: string) => `
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { keepLogged, keepSaid } from '${support}evidence.ts'
import { plant } from '${support}secrets.ts'
const secret = plant('gateway token', 'of the inner run', 'a-secret-that-gets-out-77')
test('one', async () => {${body}
})
`

/** Runs one test file as the whole; its folders are none of `mkdtemp`, so that this run does not search them. */
function runOf(t: TestContext, body: string) {
  const folder = join(tmpdir(), `hardshell-inner-${randomUUID()}`)
  mkdirSync(folder, { mode: 0o700 })
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const file = join(folder, 'inner.test.mjs')
  writeFileSync(file, source(body))
  const { PATH, HOME } = process.env
  const { status, stdout, stderr } = spawnSync('sh', ['test/run.sh', file], {
    cwd: checkout,
    env: { PATH, HOME, TEST_EVIDENCE: join(folder, 'evidence') },
    encoding: 'utf8',
    timeout: 120_000,
  })
  return { status, text: `${stdout}${stderr}` }
}

test('a run in which no secret gets out passes', (t) => {
  const { status, text } = runOf(t, 'assert.ok(secret)')
  assert.equal(status, 0, text)
  assert.match(text, / for 1 planted secrets: 0 leaks$/m)
})

for (const [name, body] of Object.entries(leaks)) {
  test(`a run fails when a secret gets out in ${name}`, (t) => {
    const { status, text } = runOf(t, body)
    assert.match(text, /ℹ fail 0/)
    assert.match(text, /^LEAK .*: gateway token, of the inner run \(/m)
    assert.match(text, /^test: failed: secrets; what was produced is in /m)
    assert.equal(status, 1)
    assert.ok(!text.includes('a-secret-that-gets-out-77'))
  })
}
