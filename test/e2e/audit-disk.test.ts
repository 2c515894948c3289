/** Disks that are full, read-only, failing or slow: no record, no yes; and the log recovers by itself. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { auditFs, type AuditFs } from '../../src/audit/files.ts'
import type { AuditLog } from '../../src/audit/log.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { Failure } from '../../src/errors.ts'
import {
  beforeRemoval,
  entry,
  fill,
  freshHome,
  openLog,
  recordsIn,
  written,
} from '../support/audit.ts'
import { keepFolder } from '../support/evidence.ts'

/** A file system of 64 KiB, mounted where the log goes. */
async function smallDisk(t: TestContext): Promise<{ home: string; dir: string; disk: string }> {
  const { home } = await freshHome(t)
  const disk = join(home, 'disk')
  await mkdir(disk, { mode: 0o700 })
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k,mode=0700', 'hardshell-test', disk])
  // Lazily, so that a descriptor that is still open does not leave the mount behind.
  beforeRemoval(t, async () => {
    keepFolder(disk)
    execFileSync('umount', ['-l', disk])
  })
  return { home, disk, dir: join(disk, 'audit') }
}

/** Waits until the log says what is wanted, at most ten seconds. */
async function until(
  log: AuditLog,
  wanted: (failing: string | undefined) => boolean,
): Promise<void> {
  for (let tries = 0; tries < 1000; tries += 1) {
    if (wanted(log.failing)) return
    await sleep(10)
  }
  assert.fail(`the log says ${log.failing}`)
}

test('on a full disk nothing is written by half, and the log goes on when space returns', async (t) => {
  const { dir, disk } = await smallDisk(t)
  const states: (string | undefined)[] = []
  const log = openLog(t, dir, {
    rotateBytes: 1024 ** 2,
    retryMs: 60_000,
    keyFile: join(disk, 'audit.key'),
    onState: (failing) => states.push(failing),
  })
  const ballast = join(disk, 'ballast')
  await writeFile(ballast, Buffer.alloc(40 * 1024))
  let refused = 0
  const told = new Set<string>()
  for (let index = 0; index < 300; index += 1) {
    const failure = await written(log, entry(index))
    if (failure === undefined) told.add(`request-${index}`)
    else {
      refused += 1
      assert.match(failure.message, /cannot be written \(ENOSPC.*free space/)
    }
  }
  assert.ok(told.size > 10 && refused > 10, `${told.size} written, ${refused} refused`)
  assert.match(log.failing ?? '', /ENOSPC/)
  assert.equal((await verifyAudit(dir)).broken, undefined, 'what is there verifies')

  await rm(ballast)
  await fill(log, 1, 1000)
  assert.equal(log.failing, undefined)
  await log.close()
  assert.deepEqual(
    states.map((state) => state !== undefined),
    [true, false],
  )
  const records = await recordsIn(dir)
  const ids = new Set(records.map(({ requestId }) => requestId))
  for (const id of told) assert.ok(ids.has(id), `${id} was called written`)
  const gaps = records.filter(({ event }) => event === 'audit.recovered')
  assert.equal(
    gaps.reduce((sum, { count = 0 }) => sum + count, 0),
    refused,
  )
  assert.match(gaps[0]?.because ?? '', /ENOSPC/)
  const verdict = await verifyAudit(dir, { keyFile: join(disk, 'audit.key') })
  assert.equal(verdict.broken, undefined)
})

test('a log that nobody writes to recovers by itself too', async (t) => {
  const { dir, disk } = await smallDisk(t)
  const log = openLog(t, dir, { rotateBytes: 1024 ** 2, retryMs: 20 })
  const ballast = join(disk, 'ballast')
  await writeFile(ballast, Buffer.alloc(48 * 1024))
  for (let index = 0; log.failing === undefined; index += 1) {
    assert.ok(index < 1000)
    await written(log, entry(index))
  }
  await rm(ballast)
  await until(log, (failing) => failing === undefined)
  assert.equal((await recordsIn(dir)).at(-1)?.event, 'audit.recovered')
})

test('a folder that cannot be written is one line with the remedy at start', async (t) => {
  const { dir, disk } = await smallDisk(t)
  await openLog(t, dir).close()
  execFileSync('mount', ['-o', 'remount,ro', disk])
  assert.throws(
    () => openLog(t, dir),
    (thrown) =>
      thrown instanceof Failure && /EROFS/.test(thrown.message) && !/\n/.test(thrown.message),
  )
})

/** An operation that fails with this code. */
function failing(code: string): () => never {
  return () => {
    throw Object.assign(new Error(`${code}: made to fail, write`), { code })
  }
}

/** File operations of which each can be made to fail, and a disk that can be made to hang. */
function moodyFs() {
  const mood = { write: '', short: false, sync: '', hang: false, syncs: 0 }
  const held: (() => void)[] = []
  const fs: AuditFs = {
    ...auditFs,
    write: (fd, buffer, length) => {
      if (mood.write !== '') return failing(mood.write)()
      return auditFs.write(fd, buffer, mood.short ? Math.floor(length / 2) : length)
    },
    sync: (fd, done) => {
      mood.syncs += 1
      const code = mood.sync
      const failure = Object.assign(new Error(`${code}: made to fail, sync`), { code })
      const answer = (): void => {
        if (code === '') auditFs.sync(fd, done)
        else setImmediate(() => done(failure))
      }
      if (mood.hang) held.push(answer)
      else answer()
    },
  }
  const release = (): void => {
    mood.hang = false
    for (const answer of held.splice(0)) answer()
  }
  return { mood, fs, release }
}

test('a write that fails or is cut short leaves no trace but the gap', async (t) => {
  for (const harm of [{ write: 'EIO' }, { short: true }]) {
    const { dir } = await freshHome(t)
    const { mood, fs } = moodyFs()
    const log = openLog(t, dir, { fs, retryMs: 60_000 })
    await fill(log, 3)
    const head = log.head()
    Object.assign(mood, harm)
    const failures = await Promise.all([written(log, entry(3)), written(log, entry(4))])
    assert.ok(failures.every((failure) => failure instanceof Failure))
    assert.deepEqual(log.head(), head)
    assert.equal((await recordsIn(dir)).length, 3)
    Object.assign(mood, { write: '', short: false })
    await fill(log, 1, 5)
    await log.close()
    const records = await recordsIn(dir)
    assert.deepEqual(
      records.slice(3).map(({ event, count }) => ({ event, count })),
      [
        { event: 'audit.recovered', count: 2 },
        { event: 'request.allowed', count: undefined },
      ],
    )
    assert.equal((await verifyAudit(dir)).broken, undefined)
  }
})

test('rotation that fails refuses and is tried again', async (t) => {
  const { dir } = await freshHome(t)
  let full = false
  const open: AuditFs['open'] = (path, create) =>
    create && full ? failing('ENOSPC')() : auditFs.open(path, create)
  const log = openLog(t, dir, { fs: { ...auditFs, open }, retryMs: 60_000 })
  full = true
  const answers: (Error | undefined)[] = []
  for (let index = 0; index < 300; index += 1) answers.push(await written(log, entry(index)))
  const refused = answers.filter((answer) => answer !== undefined).length
  assert.ok(refused > 0 && refused < 300)
  full = false
  await fill(log, 1, 300)
  await log.close()
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.broken, undefined)
  assert.equal(verdict.files, 2)
})

test('with sync "always" nobody is told before the disk has it, and many share one sync', async (t) => {
  const { dir } = await freshHome(t)
  const { mood, fs, release } = moodyFs()
  const log = openLog(t, dir, { fs, sync: 'always' })
  mood.hang = true
  const told: number[] = []
  const answers = Array.from({ length: 100 }, async (_, index) => {
    const failure = await written(log, entry(index))
    assert.equal(failure, undefined)
    told.push(index)
  })
  await sleep(50)
  assert.deepEqual(told, [])
  assert.equal((await recordsIn(dir)).length, 100, 'the kernel has them meanwhile')
  const before = mood.syncs
  release()
  await Promise.all(answers)
  assert.deepEqual(told, [...told.keys()])
  assert.ok(mood.syncs - before <= 4, `${mood.syncs - before} syncs for 100 records`)
})

test('a disk that does not sync means no, until it does again', async (t) => {
  for (const sync of ['batch', 'always'] as const) {
    const { dir } = await freshHome(t)
    const { mood, fs } = moodyFs()
    const log = openLog(t, dir, { fs, sync, syncEveryMs: 5, retryMs: 20 })
    mood.sync = 'EIO'
    const first = await written(log, entry(0))
    assert.equal(first === undefined, sync === 'batch')
    await until(log, (failure) => failure?.includes('EIO') === true)
    assert.ok((await written(log, entry(1))) instanceof Failure)
    mood.sync = ''
    await until(log, (failure) => failure === undefined)
    await fill(log, 1, 2)
    await log.close()
    const records = await recordsIn(dir)
    assert.ok(
      records.some(
        ({ event, because }) => event === 'audit.recovered' && because === 'EIO: made to fail',
      ),
    )
    assert.equal((await verifyAudit(dir)).broken, undefined)
  }
})

test('a disk that hangs means no after the bound, for those who wait and those who come', async (t) => {
  const { dir } = await freshHome(t)
  const { mood, fs, release } = moodyFs()
  const log = openLog(t, dir, { fs, sync: 'always', syncLagMs: 100 })
  mood.hang = true
  assert.match((await written(log, entry(0)))?.message ?? '', /longer than 100 ms/)
  assert.match((await written(log, entry(1)))?.message ?? '', /longer than 100 ms/)
  release()
  await until(log, (failure) => failure === undefined)
  await fill(log, 1, 2)
  await log.close()
  assert.equal((await verifyAudit(dir)).broken, undefined)
})
