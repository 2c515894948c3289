import assert from 'node:assert/strict'
import {
  chmodSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { findPlugins, preparePlugins, trustPlugin } from '../../src/plugins.ts'

/** A home and a folder of plugins with one of them, `git`. */
function place(t: TestContext) {
  const root = realpathSync(mkdtempSync(join(tmpdir(), 'hs-')))
  t.after(() => rmSync(root, { recursive: true, force: true }))
  const home = join(root, 'home')
  const dir = join(root, 'plugins')
  mkdirSync(join(home, 'run'), { recursive: true, mode: 0o700 })
  mkdirSync(join(dir, 'git', 'lib'), { recursive: true, mode: 0o755 })
  const write = (path: string, text: string, mode = 0o644) => {
    writeFileSync(join(dir, path), text)
    chmodSync(join(dir, path), mode)
  }
  write('git/index.js', 'export {}\n')
  write('git/lib/run.sh', '#!/bin/sh\n', 0o755)
  const settings = { enabled: ['git'], disabled: [] as string[], dir }
  const stateOf = async (over: object = {}) => {
    const { plugins } = await findPlugins({ ...settings, ...over }, home)
    return plugins.find(({ name }) => name === 'git')?.state
  }
  const mounted = async () => (await preparePlugins(settings, home)).mounts.map(({ name }) => name)
  const trust = () => trustPlugin(settings, home, 'git')
  return { home, dir, settings, write, stateOf, mounted, trust }
}

test('a plugin reaches the cell only when it is enabled, not disabled and trusted', async (t) => {
  const { stateOf, mounted, trust } = place(t)
  assert.equal(await stateOf(), 'unlisted')
  assert.deepEqual(await mounted(), [])
  const hash = await trust()
  assert.match(hash, /^[0-9a-f]{64}$/)
  assert.equal(await stateOf(), 'good')
  assert.deepEqual(await mounted(), ['git'])
  assert.equal(await stateOf({ enabled: [] }), 'not enabled')
  assert.equal(await stateOf({ disabled: ['git'] }), 'disabled')
})

test('any change to a trusted plugin keeps it out: content, program bit, a new file, a folder', async (t) => {
  const { dir, stateOf, mounted, trust, write } = place(t)
  await trust()
  const changes: (() => void)[] = [
    () => write('git/index.js', 'export default 1\n'),
    () => chmodSync(join(dir, 'git/index.js'), 0o755),
    () => write('git/more.js', ''),
    () => mkdirSync(join(dir, 'git', 'empty')),
    () => rmSync(join(dir, 'git', 'lib', 'run.sh')),
  ]
  for (const change of changes) {
    change()
    assert.equal(await stateOf(), 'changed')
    assert.deepEqual(await mounted(), [])
    await trust()
    assert.equal(await stateOf(), 'good')
  }
})

test('links, second names and what others can change are refused and cannot be trusted', async (t) => {
  const { dir, stateOf, trust } = place(t)
  await trust()
  const undo: [() => void, () => void][] = [
    [() => symlinkSync('/etc/passwd', join(dir, 'git/l')), () => rmSync(join(dir, 'git/l'))],
    [
      () => linkSync(join(dir, 'git/index.js'), join(dir, 'other')),
      () => rmSync(join(dir, 'other')),
    ],
    [() => chmodSync(join(dir, 'git/lib'), 0o777), () => chmodSync(join(dir, 'git/lib'), 0o755)],
    [() => chmodSync(dir, 0o777), () => chmodSync(dir, 0o755)],
  ]
  for (const [spoil, mend] of undo) {
    spoil()
    assert.equal(await stateOf(), 'unsafe')
    await assert.rejects(trust(), { code: 'PLUGIN_UNSAFE' })
    mend()
    assert.equal(await stateOf(), 'good')
  }
})

test('a plugin whose folder is a link is refused, and a name cannot lead out of the folder', async (t) => {
  const { home, dir, settings } = place(t)
  symlinkSync(join(dir, 'git'), join(dir, 'alias'))
  const names = ['alias', '../home', '..', 'gone']
  const { plugins } = await findPlugins({ ...settings, enabled: names }, home)
  const states = names.map((name) => plugins.find((one) => one.name === name)?.state)
  assert.deepEqual(states, ['unsafe', 'unsafe', 'unsafe', 'missing'])
})

test('a list without our signature trusts nobody and is not signed over', async (t) => {
  const { home, settings, stateOf, trust } = place(t)
  const lock = join(home, 'plugins.lock.json')
  await trust()
  const good = readFileSync(lock, 'utf8')
  const { jws } = JSON.parse(good) as { jws: string }
  for (let at = 0; at < jws.length; at += 7) {
    const flipped = jws[at] === 'A' ? 'B' : 'A'
    const text = jws.slice(0, at) + flipped + jws.slice(at + 1)
    // The last characters of base64url may carry bits that mean nothing.
    if (text === jws || Buffer.from(text, 'base64url').equals(Buffer.from(jws, 'base64url')))
      continue
    writeFileSync(lock, JSON.stringify({ jws: text }), { mode: 0o600 })
    assert.notEqual(await stateOf(), 'good')
  }
  const { lockFault } = await findPlugins(settings, home)
  assert.match(lockFault ?? '', /not signed by our key/)
  await assert.rejects(trust(), { code: 'PLUGIN_LOCK' })
  writeFileSync(lock, good, { mode: 0o600 })
  assert.equal(await stateOf(), 'good')
  rmSync(join(home, 'keys', 'plugins.key'))
  assert.equal(await stateOf(), 'unlisted')
})

test('what is mounted is a copy: a change after the look does not reach it, and a spoiled copy is made anew', async (t) => {
  const { home, settings, trust, write } = place(t)
  await trust()
  const [mount] = (await preparePlugins(settings, home)).mounts
  assert.ok(mount !== undefined)
  assert.ok(mount.source.startsWith(join(home, 'run', 'plugins')))
  assert.equal(statSync(join(mount.source, 'lib', 'run.sh')).mode & 0o777, 0o755)
  assert.equal(statSync(join(home, 'run', 'plugins')).mode & 0o777, 0o700)
  write('git/index.js', 'changed\n')
  assert.equal(readFileSync(join(mount.source, 'index.js'), 'utf8'), 'export {}\n')
  write('git/index.js', 'export {}\n')
  writeFileSync(join(mount.source, 'index.js'), 'spoiled\n')
  const [again] = (await preparePlugins(settings, home)).mounts
  assert.equal(again?.source, mount.source)
  assert.equal(readFileSync(join(mount.source, 'index.js'), 'utf8'), 'export {}\n')
  assert.deepEqual(
    readdirSync(join(home, 'run', 'plugins')).filter((name) => name.endsWith('.part')),
    [],
  )
})
