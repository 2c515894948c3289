/** A changed token file is taken over without a restart, however it was changed; what may not be used is not. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import {
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { WebSocket, WebSocketServer } from 'ws'

import { cli } from '../support/cli.ts'
import { eventually, newToken, startSidecar, type TestSidecar } from '../support/sidecar.ts'

const status = async (side: TestSidecar, token: string) => {
  const answer = await fetch(`${side.url}/x`, { headers: { Authorization: `Bearer ${token}` } })
  await answer.arrayBuffer()
  return answer.status
}

/** Waits until a token is good; every wrong try would count as a guess, so there are few. */
async function becomesGood(side: TestSidecar, token: string): Promise<number> {
  const start = performance.now()
  while ((await status(side, token)) !== 200) {
    assert.ok(performance.now() - start < 10_000, 'the new token is not good')
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return performance.now() - start
}

/** A sidecar with its token in a file. */
async function withFile(
  t: TestContext,
  { file, grace = '2s' }: { readonly file: (home: string) => string; readonly grace?: string },
) {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  const path = file(home)
  const start = async () => {
    const auth = { token: undefined, tokenFile: path, rotationGrace: grace }
    const rateLimiting = { authFailures: { attempts: 1000 } }
    const side = await startSidecar({
      home,
      config: { gateway: { auth }, security: { rateLimiting } },
    })
    t.after(() => side.stop())
    return side
  }
  return { home, path, start }
}

/** As editors and `install` do it: a new file, renamed over the old one. */
function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 })
  renameSync(`${path}.new`, path)
}

const plainFile = (first: string) => (home: string) => {
  writeFileSync(join(home, 'token'), `${first}\n`, { mode: 0o600 })
  return join(home, 'token')
}

test('a renamed token file is taken over at once, and the old token and its socket have the grace', async (t) => {
  const [first, second] = [newToken(), newToken()]
  const { path, start } = await withFile(t, { file: plainFile(first) })
  const side = await start()
  const gateway = new WebSocketServer({ server: side.agent.server })
  t.after(() => gateway.close())
  const before = (await side.app.status()).configHash
  const headers = { Authorization: `Bearer ${first}` }
  const socket = new WebSocket(side.url.replace('http', 'ws'), { headers })
  const closed = { code: 0, at: 0 }
  socket.on('close', (code) => Object.assign(closed, { code, at: Date.now() }))
  await once(socket, 'open')

  replace(path, `${second}\n`)
  const changedAt = Date.now()
  const took = await becomesGood(side, second)
  assert.ok(took < 1500, `took ${took} ms`)
  assert.equal(await status(side, first), 200, 'both are good')
  assert.notEqual((await side.app.status()).configHash, before)
  await eventually(() => closed.code !== 0, 'the old socket closes', 10_000)
  assert.ok(closed.at >= changedAt + 2000, 'not before the grace is over')
  assert.ok(closed.at < changedAt + took + 3000, 'and within a second after it')
  assert.equal(closed.code, 1008)
  assert.deepEqual([await status(side, first), await status(side, second)], [401, 200])

  const told = side.records().map(({ event }) => event)
  const events = told.filter((event) => String(event).startsWith('token.'))
  assert.deepEqual(events, [
    'token.first-seen',
    'token.configured',
    'token.first-seen',
    'token.replaced',
  ])
  const written = JSON.stringify([side.logged, side.records()])
  assert.ok(!written.includes(first) && !written.includes(second))
})

test('a weak, unreadable or missing new token leaves the old one good, and is told once each', async (t) => {
  const [first, second] = [newToken(), newToken()]
  const { path, start } = await withFile(t, { file: plainFile(first) })
  const side = await start()
  const refused = () => side.records().filter(({ event }) => event === 'token.refused')
  const codes = () => refused().map(({ code }) => code)

  const weak = 'change-me-to-something-else-please-123'
  writeFileSync(path, weak)
  await eventually(() => codes().length === 1, 'the weak token is told')
  assert.deepEqual(codes(), ['TOKEN_EXAMPLE'])
  assert.deepEqual([await status(side, first), await status(side, weak)], [200, 401])

  unlinkSync(path)
  await eventually(() => codes().length === 2, 'the missing file is told')
  assert.deepEqual(codes()[1], 'FILE_MISSING')
  assert.equal(await status(side, first), 200)

  writeFileSync(path, second, { mode: 0o644 })
  await eventually(() => codes().length === 3, 'the open mode is told')
  assert.deepEqual(codes()[2], 'FILE_MODE')
  assert.deepEqual([await status(side, first), await status(side, second)], [200, 401])

  replace(path, second)
  await becomesGood(side, second)
  assert.equal(codes().length, 3)
  const written = JSON.stringify([side.logged, side.records()])
  for (const text of [weak, first, second]) assert.ok(!written.includes(text))
  assert.ok(
    side.logged.some(
      ({ level, message }) => level === 'error' && message.endsWith('The token before stays.'),
    ),
  )
})

test('a token that was revoked does not come back through its file', async (t) => {
  const [first, second] = [newToken(), newToken()]
  const { home, path, start } = await withFile(t, { file: plainFile(first) })
  const side = await start()
  replace(path, second)
  await becomesGood(side, second)
  const list = await cli(home, ['token', 'list', '--json'])
  const { tokens } = JSON.parse(list.out) as { tokens: { id: string; createdAt: number }[] }
  await cli(home, ['token', 'revoke', tokens[0]?.id ?? ''])
  assert.equal(await status(side, first), 401, 'revoking ends the grace')
  replace(path, first)
  await eventually(
    () =>
      side
        .records()
        .some(({ event, code }) => event === 'token.refused' && code === 'TOKEN_REVOKED'),
    'the revoked token is told',
  )
  assert.deepEqual([await status(side, first), await status(side, second)], [401, 200])
})

test('a secret volume that switches its link, as Kubernetes does, is taken over', async (t) => {
  const [first, second] = [newToken(), newToken()]
  const version = (volume: string, name: string, token: string) => {
    mkdirSync(join(volume, name))
    writeFileSync(join(volume, name, 'token'), token, { mode: 0o400 })
    symlinkSync(name, join(volume, '..data_tmp'))
    renameSync(join(volume, '..data_tmp'), join(volume, '..data'))
  }
  const { path, start } = await withFile(t, {
    file: (home) => {
      const volume = join(home, 'volume')
      mkdirSync(volume)
      version(volume, '..2026_11_20', first)
      symlinkSync('..data/token', join(volume, 'token'))
      return join(volume, 'token')
    },
  })
  const side = await start()
  assert.equal(await status(side, first), 200)
  version(join(path, '..'), '..2026_11_21', second)
  const took = await becomesGood(side, second)
  assert.ok(took < 1500, `took ${took} ms`)
})

test('a token that changed while nothing ran replaces the old one with its grace at the start', async (t) => {
  const [first, second] = [newToken(), newToken()]
  const { path, start } = await withFile(t, { file: plainFile(first), grace: '1h' })
  const side = await start()
  await side.stop()
  replace(path, second)
  const again = await start()
  assert.deepEqual([await status(again, first), await status(again, second)], [200, 200])
})
