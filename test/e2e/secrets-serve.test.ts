/** A sidecar whose secrets are sealed: it serves, with the key from a file or from the environment, and prints none. */
import assert from 'node:assert/strict'
import { readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { goodToken } from '../support/config-load.ts'
import { entry, hardshell, homeWith, start } from '../support/program.ts'
import { plant } from '../support/secrets.ts'

test('sealed secrets serve like plain ones, and the key may come from the environment', async (t) => {
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token: goodToken } },
    agent: {
      upstream: 'http://127.0.0.1:9',
      token: plant('agent token', 'sealed', 'planted-agent-5c1d'),
    },
  })
  const file = join(home, 'config.json5')
  const env = { HARDSHELL_HOME: home, HARDSHELL_LOG_LEVEL: 'trace' }
  const { code, text } = await hardshell(t, ['secrets', 'init', '--seal'], env)
  assert.equal(code, 0, text)
  assert.doesNotMatch(readFileSync(file, 'utf8'), /planted|kT7vQx/)
  const keyFile = join(home, 'keys', 'secrets.key')
  const key = readFileSync(keyFile, 'utf8').trim()
  for (const variable of [false, true]) {
    // Moved away, the file cannot have been what opened them.
    if (variable) renameSync(keyFile, join(home, 'key-elsewhere'))
    const more = variable ? { HARDSHELL_SECRETS_KEY: key } : {}
    const program = start(t, [entry, 'serve'], { ...env, ...more })
    const [, url = ''] = await program.said(/listens on (http:\S+)/)
    const statusOf = async (bearer: string) =>
      (await fetch(`${url}/x`, { headers: { authorization: `Bearer ${bearer}` } })).status
    assert.equal(await statusOf(goodToken), 502)
    assert.equal(await statusOf('wrong'), 401)
    program.child.kill('SIGTERM')
    await program.ended()
    assert.ok(![goodToken, 'planted', key].some((secret) => program.text().includes(secret)))
  }
})
