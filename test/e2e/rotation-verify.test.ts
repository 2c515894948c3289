/** The checks of deploy/verify.sh that are made on request: against a real sidecar, and against one that is wrong. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { cli } from '../support/cli.ts'
import { run } from '../support/images.ts'
import { entry } from '../support/program.ts'
import { startSidecar } from '../support/sidecar.ts'

const rateLimiting = { requestsPerMinute: 60, requestsPerMinutePerAddress: 300 }

test('verify.sh rotates a throw-away token, locks its address for guesses, and leaves nothing behind', async () => {
  const side = await startSidecar({ config: { security: { rateLimiting } } })
  try {
    const verified = await run('sh', ['deploy/verify.sh', '--rotation', '--lockout', side.url], {
      env: {
        HARDSHELL_TOKEN: side.token,
        HARDSHELL_HOME: side.home,
        HARDSHELL: `${process.execPath} ${entry}`,
      },
    })
    assert.equal(verified.code, 0, verified.stdout + verified.stderr)
    for (const line of [
      'PASS rotation: a new token → 200',
      'PASS rotation: the old token in its grace → 200',
      'PASS rotation: its successor → 200',
      'PASS rotation: the old token after a rotation without grace → 401',
      'PASS rotation: the newest token → 200',
      'PASS rotation: the revoked token → 401',
      'PASS lockout: the right token from the same address → 200',
    ]) {
      assert.ok(verified.stdout.includes(`${line}\n`), `${line}\n${verified.stdout}`)
    }
    assert.match(
      verified.stdout,
      /^PASS lockout: guess \d → 429 AUTH_LOCKED with Retry-After: \d+$/m,
    )
    assert.ok(!/hsk_/.test(verified.stdout + verified.stderr))
    const { out } = await cli(side.home, ['token', 'list', '--json'])
    const { tokens } = JSON.parse(out) as { tokens: { name: string; status: string }[] }
    const good = tokens.filter(({ status }) => status === 'good').map(({ name }) => name)
    assert.deepEqual(good, ['default'])
  } finally {
    await side.stop()
  }
})

test('verify.sh says why it cannot check the rotation, and fails', async () => {
  const side = await startSidecar({ config: { security: { rateLimiting } } })
  try {
    const verified = await run('sh', ['deploy/verify.sh', '--rotation', side.url], {
      env: { HARDSHELL_TOKEN: side.token, HARDSHELL: 'false' },
    })
    assert.equal(verified.code, 1)
    assert.match(verified.stdout, /^FAIL rotation: no throw-away token/m)
  } finally {
    await side.stop()
  }
})
