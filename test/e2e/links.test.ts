/** `security.followSymlinks: true` with the program itself: it serves, rotates, is written to and audited through links. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { goodToken } from '../support/config-load.ts'
import { entry, hardshell, removeAfter, start } from '../support/program.ts'
import { newToken } from '../support/sidecar.ts'

/** A home whose configuration and token are links to a folder that the owner keeps elsewhere. */
function linkedHome(t: TestContext, followSymlinks: boolean) {
  const root = mkdtempSync(join(tmpdir(), 'hs-'))
  removeAfter(t, root)
  const [home, kept] = [join(root, 'home'), join(root, 'kept')]
  mkdirSync(join(home, 'keys'), { recursive: true, mode: 0o700 })
  mkdirSync(kept, { mode: 0o755 })
  const [file, token] = [join(kept, 'hardshell.json5'), join(kept, 'token')]
  const auth = { tokenFile: 'keys/gateway.token', rotationGrace: '1h' }
  const config = {
    gateway: { port: 0, auth },
    security: { followSymlinks, rateLimiting: { authFailures: { attempts: 1000 } } },
    agent: { upstream: 'http://127.0.0.1:9' },
  }
  writeFileSync(file, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 })
  writeFileSync(token, `${goodToken}\n`, { mode: 0o600 })
  symlinkSync('../kept/hardshell.json5', join(home, 'config.json5'))
  symlinkSync(token, join(home, 'keys', 'gateway.token'))
  const env = { HARDSHELL_HOME: home, HOME: root }
  return { home, kept, file, token, env, run: (...args: string[]) => hardshell(t, args, env) }
}

const isLink = (path: string) => lstatSync(path).isSymbolicLink()

test('links are refused unless the configuration follows them, and then the start says so', async (t) => {
  const refused = await linkedHome(t, false).run('serve')
  assert.equal(refused.code, 1)
  assert.match(refused.text, /is a symbolic link, and security\.followSymlinks in it is not true/)
  const { home, kept, file, env } = linkedHome(t, true)
  const program = start(t, [entry, 'serve'], env)
  const [, url = ''] = await program.said(/listens on (http:\S+)/)
  await program.said(
    /"severity":"WARNING","msg":"is true; the configuration and the files that it names/,
  )
  await program.said(new RegExp(`${join(home, 'config.json5')} leads to ${file}`))
  const statusOf = async (bearer: string) =>
    (await fetch(`${url}/x`, { headers: { authorization: `Bearer ${bearer}` } })).status
  assert.equal(await statusOf(goodToken), 502)
  // A new token by turning the link: the file that it led to stays as it is.
  const fresh = newToken()
  const second = join(kept, 'second-token')
  writeFileSync(second, `${fresh}\n`, { mode: 0o600 })
  symlinkSync(second, join(home, 'next'))
  renameSync(join(home, 'next'), join(home, 'keys', 'gateway.token'))
  for (const end = performance.now() + 30_000; (await statusOf(fresh)) !== 502;) {
    assert.ok(performance.now() < end, program.text())
    await new Promise((resolve) => setTimeout(resolve, 200))
  }
})

test('commands write behind the link, and never in its place', async (t) => {
  const { home, kept, file, token, run } = linkedHome(t, true)
  const set = await run('config', 'set', 'gateway.port', '8099')
  assert.equal(set.code, 0, set.text)
  assert.match(readFileSync(file, 'utf8'), /"port": 8099/)
  assert.ok(isLink(join(home, 'config.json5')))
  const off = await run('config', 'set', 'security.followSymlinks', 'false')
  assert.equal(off.code, 1, off.text)
  assert.match(off.text, /is a symbolic link/)
  assert.match(readFileSync(file, 'utf8'), /"followSymlinks": true/)
  writeFileSync(token, 'short\n')
  const fixed = await run('security', 'audit', '--fix')
  assert.match(fixed.text, new RegExp(`write a new token to ${token}`))
  assert.ok(isLink(join(home, 'keys', 'gateway.token')))
  assert.match(readFileSync(token, 'utf8'), /^[\w-]{43}\n$/)
  // The folder may hold more than the token, and was in order.
  assert.equal(statSync(kept).mode & 0o777, 0o755)
  assert.equal((await run('config', 'check')).code, 0)
})

test('the audit looks at what links lead to, and says that they are followed', async (t) => {
  const { home, kept, file, run } = linkedHome(t, true)
  chmodSync(file, 0o644)
  chmodSync(kept, 0o777)
  const findings = async () => {
    const { text } = await run('security', 'audit', '--json', '--min-score', '0')
    const report = JSON.parse(text) as {
      results: readonly { id: string; findings: readonly { found: string }[] }[]
    }
    return new Map(report.results.map(({ id, findings: found }) => [id, found]))
  }
  const before = await findings()
  assert.deepEqual(
    before.get('files.config-readable')?.map(({ found }) => found),
    [`${file} has mode 644`],
  )
  assert.deepEqual(
    before.get('files.parents')?.map(({ found }) => found),
    [`${kept} has mode 777`],
  )
  assert.deepEqual(before.get('files.link'), [])
  assert.deepEqual(
    before.get('files.follow-links')?.map(({ found }) => found),
    [
      'security.followSymlinks is true',
      `${join(home, 'config.json5')} is a symbolic link`,
      `${join(home, 'keys', 'gateway.token')} is a symbolic link`,
    ],
  )
  chmodSync(kept, 0o755)
  const fixed = await run('security', 'audit', '--fix', '--min-score', '0')
  assert.equal(fixed.code, 0, fixed.text)
  assert.equal(statSync(file).mode & 0o777, 0o600)
  assert.ok(isLink(join(home, 'config.json5')))
  assert.deepEqual((await findings()).get('files.config-readable'), [])
})
