import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { test } from 'node:test'
import { openSqlite } from '../../src/store/sqlite.ts'
import { storeContract } from './store.ts'

const clock = { ms: 1_800_000_000_000 }
const now = () => clock.ms

storeContract(
  'sqlite',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'hardshell-store-'))
    const path = join(folder, 'state.db')
    const store = openSqlite(path, { now })
    const other = openSqlite(path, { now })
    return {
      store,
      other,
      now,
      end: async () => {
        await store.close()
        await other.close()
        await rm(folder, { recursive: true })
      },
    }
  },
  (ms) => {
    clock.ms += ms
  },
)

async function inFolder(body: (folder: string, path: string) => Promise<void>) {
  const folder = await mkdtemp(join(tmpdir(), 'hardshell-store-'))
  try {
    await body(folder, join(folder, 'state.db'))
  } finally {
    await rm(folder, { recursive: true })
  }
}

test('state survives closing and opening', async () => {
  await inFolder(async (_folder, path) => {
    const first = openSqlite(path, { now })
    await first.put('a', 'x', { expiresAt: now() + 1000 })
    const version = (await first.get('a'))?.version
    await first.close()
    const second = openSqlite(path, { now })
    assert.equal((await second.get('a'))?.version, version)
    await second.close()
  })
})

test('the state file and its journals are for the owner alone, and a loose mode is mended', async () => {
  await inFolder(async (folder, path) => {
    const store = openSqlite(path, { now })
    await store.put('a', 'x')
    const files = await readdir(folder)
    assert.deepEqual(files.sort(), ['state.db', 'state.db-shm', 'state.db-wal'])
    for (const file of files)
      assert.equal((await stat(join(folder, file))).mode & 0o777, 0o600, file)
    await store.close()
    await chmod(path, 0o664)
    await openSqlite(path, { now }).close()
    assert.equal((await stat(path)).mode & 0o777, 0o600)
  })
})

test('a link, a second name, a shared directory or a missing one is refused', async () => {
  await inFolder(async (folder, path) => {
    const unsafe = { code: 'STORE_UNSAFE' }
    const real = join(folder, 'real.db')
    await writeFile(real, '', { mode: 0o600 })
    await symlink(real, path)
    assert.throws(() => openSqlite(path, { now }), unsafe)
    await rm(path)
    await link(real, path)
    assert.throws(() => openSqlite(path, { now }), unsafe)
    await rm(path)
    assert.throws(() => openSqlite(folder, { now }), unsafe)
    assert.throws(() => openSqlite(join(folder, 'none', 'state.db'), { now }), unsafe)
    await chmod(folder, 0o777)
    assert.throws(() => openSqlite(path, { now }), unsafe)
    await chmod(folder, 0o700)
  })
})

test('a file of a newer version and a file that is no database are refused in one line', async () => {
  await inFolder(async (_folder, path) => {
    await openSqlite(path, { now }).close()
    const database = new DatabaseSync(path)
    database.exec('PRAGMA user_version = 99')
    database.close()
    assert.throws(() => openSqlite(path, { now }), { code: 'STORE_NEWER' })
    await rm(path)
    await writeFile(path, 'this is no database '.repeat(100), { mode: 0o600 })
    assert.throws(() => openSqlite(path, { now }), { code: 'STORE_BROKEN', message: /^[^\n]+$/ })
  })
})

test('a full disk and a read-only one are told from a broken file, and nobody is told to move it away', async () => {
  await inFolder(async (folder) => {
    const disk = join(folder, 'disk')
    await mkdir(disk, { mode: 0o700 })
    const mount = (options: string) =>
      execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'hardshell-test', disk])
    mount('size=16k,mode=0700')
    try {
      const path = join(disk, 'state.db')
      // What SQLite says depends on which of its files finds no room first.
      const expected = { code: /^STORE_(FULL|DISK)$/, message: /^[^\n]+Free space on its disk/ }
      assert.throws(() => openSqlite(path, { now }), expected)
      mount('remount,ro')
      for (const at of [path, join(disk, 'other.db')]) {
        const readOnly = { code: 'STORE_READ_ONLY', message: /^[^\n]+writable\.$/ }
        assert.throws(() => openSqlite(at, { now }), readOnly)
      }
    } finally {
      execFileSync('umount', ['-l', disk])
    }
  })
})

test('expired entries leave the file', async () => {
  await inFolder(async (_folder, path) => {
    const store = openSqlite(path, { now })
    await store.put('a', 'x', { expiresAt: now() + 1000 })
    clock.ms += 120_000
    await store.put('b', 'x')
    const database = new DatabaseSync(path)
    assert.deepEqual(
      database
        .prepare('SELECT key FROM entries')
        .all()
        .map((row) => row['key']),
      ['b'],
    )
    database.close()
    await store.close()
  })
})

test('every write that was reported survives the death of the process', async () => {
  await inFolder(async (_folder, path) => {
    const script = `
      import { openSqlite } from ${JSON.stringify(new URL('../../src/store/sqlite.ts', import.meta.url).href)}
      const store = openSqlite(process.argv[1], { now: () => 0 })
      for (let n = 0; ; n += 1) {
        await store.putAll([{ key: 'a/' + n, value: 'x' }, { key: 'b/' + n, value: 'x' }])
        process.stdout.write(n + '\\n')
        await new Promise((resolve) => setImmediate(resolve))
      }`
    const child = spawn(process.execPath, ['--input-type=module', '-e', script, path], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    let said = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      said += text
      if (said.split('\n').length > 50) child.kill('SIGKILL')
    })
    await once(child, 'close')
    const last = Number(said.split('\n').at(-2))
    const store = openSqlite(path, { now })
    const a = (await store.list('a/')).length
    const b = (await store.list('b/')).length
    assert.ok(last >= 49 && a >= last + 1, `${a} entries, ${last + 1} reported`)
    assert.equal(a, b, 'writes made together are there together')
    await store.close()
  })
})
