/** Compiled code is code: where it is kept, nobody else may write. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { cli } from '../support/cli.ts'

function emptyHome(t: TestContext): string {
  const home = mkdtempSync(join(tmpdir(), 'hs-cache-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  return home
}

async function version(home: string): Promise<void> {
  const { code, out, err } = await cli(home, ['--version'])
  assert.equal(code, 0, err)
  assert.match(out, /^\d+\.\d+\.\d+/)
}

test('what was compiled for one command is kept for the next, and only we can read or write it', async (t) => {
  const home = emptyHome(t)
  await version(home)
  const cache = join(home, 'cache')
  const entries = readdirSync(cache, { recursive: true, withFileTypes: true })
  assert.ok(entries.some((entry) => entry.isFile()))
  const modes = entries.map(({ parentPath, name }) => statSync(join(parentPath, name)).mode & 0o077)
  assert.deepEqual([statSync(cache).mode & 0o077, ...new Set(modes)], [0, 0])
  await version(home)
})

test('nothing is kept in, or taken from, a folder that others can write to', async (t) => {
  const home = emptyHome(t)
  const cache = join(home, 'cache')
  mkdirSync(cache)
  chmodSync(cache, 0o777)
  await version(home)
  assert.deepEqual(readdirSync(cache), [])
  rmSync(cache, { recursive: true })
  chmodSync(home, 0o777)
  await version(home)
  assert.equal(existsSync(cache), false)
})

test('nothing is kept behind a link', async (t) => {
  const home = emptyHome(t)
  const elsewhere = emptyHome(t)
  symlinkSync(elsewhere, join(home, 'cache'))
  await version(home)
  assert.deepEqual(readdirSync(elsewhere), [])
})

test('a home that does not exist is not made for it', async (t) => {
  const home = join(emptyHome(t), 'not-there')
  await version(home)
  assert.equal(existsSync(home), false)
})
