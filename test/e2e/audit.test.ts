/** The audit log on real files: chain, rotation, recovery, tampering, checkpoints. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  appendFile,
  chmod,
  link as hardLink,
  mkdir,
  readFile,
  readdir,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { genesis, link, parseRecord } from '../../src/audit/chain.ts'
import { verifyAudit } from '../../src/audit/verify.ts'
import { Failure } from '../../src/errors.ts'
import { KiB } from '../../src/limits.ts'
import { entry, fill, freshHome, logFiles, openLog, recordsIn, written } from '../support/audit.ts'

const isFailure = (code: string, pattern: RegExp) => (thrown: unknown) =>
  thrown instanceof Failure && thrown.code === code && pattern.test(thrown.message)

test('records form one chain that verifies, in files that only their owner can read', async (t) => {
  const { home, dir } = await freshHome(t)
  const log = openLog(t, dir, { configHash: () => 'c0ffee' })
  await fill(log, 10)
  await log.close()
  const records = await recordsIn(dir)
  assert.deepEqual(
    records.map(({ seq, requestId, config }) => ({ seq, requestId, config })),
    Array.from({ length: 10 }, (_, index) => ({
      seq: index + 1,
      requestId: `request-${index}`,
      config: 'c0ffee',
    })),
  )
  assert.equal(records[0]?.prev, genesis.hash)
  assert.deepEqual(log.head(), { seq: 10, hash: records[9]?.hash })
  for (const name of await readdir(dir))
    assert.equal((await stat(join(dir, name))).mode & 0o777, 0o600)
  for (const folder of [dir, join(home, 'keys')])
    assert.equal((await stat(folder)).mode & 0o777, 0o700)
  assert.equal((await stat(join(home, 'keys', 'audit.key'))).mode & 0o777, 0o600)
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.ok, true)
  assert.deepEqual(
    { records: verdict.records, firstSeq: verdict.firstSeq, lastSeq: verdict.lastSeq },
    { records: 10, firstSeq: 1, lastSeq: 10 },
  )
  assert.deepEqual(verdict.checkpoints, { good: 1, older: 0, unsigned: 0, keyMissing: false })
})

test('a log is continued after a restart', async (t) => {
  const { dir } = await freshHome(t)
  for (let run = 0; run < 3; run += 1) {
    const log = openLog(t, dir)
    await fill(log, 5, run * 5)
    await log.close()
  }
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.ok, true)
  assert.equal(verdict.lastSeq, 15)
  assert.deepEqual(await logFiles(dir), ['audit-0000000000000001.jsonl'])
})

test('records are in the file when they are called written, in the order of their appending', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  const told: number[] = []
  const { promise, resolve } = Promise.withResolvers<void>()
  for (let index = 0; index < 50; index += 1) {
    log.append(entry(index), (failure) => {
      assert.equal(failure, undefined)
      told.push(index)
      if (index === 49) resolve()
    })
  }
  assert.deepEqual(told, [], 'nobody is told before the write')
  await promise
  assert.deepEqual(told, [...told.keys()])
  assert.equal((await recordsIn(dir)).length, 50)
})

test('files rotate before they pass their size, and the chain goes over them', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  // Some one by one, as on a quiet day; the rest all at once.
  for (let index = 0; index < 300; index += 1) await fill(log, 1, index)
  assert.equal((await logFiles(dir)).length, 2)
  await fill(log, 700, 300)
  await log.close()
  const files = await logFiles(dir)
  assert.ok(files.length > 3)
  for (const name of files) {
    assert.ok((await stat(join(dir, name))).size <= KiB(64))
    const first = parseRecord(
      Buffer.from((await readFile(join(dir, name), 'utf8')).split('\n')[0] ?? ''),
    )
    assert.equal(name, `audit-${String(first?.seq).padStart(16, '0')}.jsonl`)
    if (first?.seq !== 1) assert.equal(first?.event, 'audit.rotated')
  }
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.ok, true)
  assert.equal(verdict.records, 1000 + files.length - 1)
})

test('rotation removes the oldest files, says so, and the rest verifies', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir, { keepFiles: 2, checkpointRecords: 50 })
  for (let round = 0; round < 20; round += 1) {
    await fill(log, 100, round * 100)
    await log.flush()
  }
  await log.close()
  assert.equal((await logFiles(dir)).length, 2)
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.broken, undefined)
  assert.ok(verdict.firstSeq > 1)
  assert.ok(verdict.checkpoints.good >= 1)
  // Checkpoints of removed records go too, so that their file cannot grow for ever.
  const lines = (await readFile(join(dir, 'checkpoints.jsonl'), 'utf8')).trimEnd().split('\n')
  assert.ok(lines.length < 20, `${lines.length} checkpoints kept`)
})

test('a file that rotation did not remove is missed: first, middle and last', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  await fill(log, 1000)
  await log.close()
  const files = await logFiles(dir)
  for (const at of [0, 2, files.length - 1]) {
    const name = files[at] ?? ''
    await rename(join(dir, name), join(dir, 'elsewhere'))
    const verdict = await verifyAudit(dir)
    assert.equal(verdict.ok, false, name)
    assert.equal(verdict.broken?.seq, Number(/\d+/.exec(name)?.[0]))
    await rename(join(dir, 'elsewhere'), join(dir, name))
  }
  assert.equal((await verifyAudit(dir)).ok, true)
})

test('a second writer is refused and told which process holds the log', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  await fill(log, 1)
  assert.throws(() => openLog(t, dir), isFailure('AUDIT_IN_USE', /this process/))
  const other = spawnSync(
    process.execPath,
    [new URL('audit-child.ts', import.meta.url).pathname, dir, '1'],
    { encoding: 'utf8' },
  )
  assert.notEqual(other.status, 0)
  assert.match(other.stderr, new RegExp(`in use by process ${process.pid}\\b`))
  await fill(log, 1)
  await log.close()
  await openLog(t, dir).close()
  assert.equal((await verifyAudit(dir)).ok, true)
})

test('a torn last line is cut off and the repair is recorded', async (t) => {
  for (const torn of [
    '{"event":"request.all',
    '{"event":"request.allowed"}x\n',
    '\0'.repeat(300_000),
  ]) {
    const { dir } = await freshHome(t)
    const log = openLog(t, dir)
    await fill(log, 20)
    await log.close()
    await appendFile(join(dir, 'audit-0000000000000001.jsonl'), torn)
    const again = openLog(t, dir)
    await fill(again, 1)
    await again.close()
    const [repair] = (await recordsIn(dir)).slice(20)
    assert.equal(repair?.event, 'audit.repaired')
    assert.equal(repair.count, torn.length)
    const verdict = await verifyAudit(dir)
    assert.equal(verdict.broken, undefined)
    assert.equal(verdict.lastSeq, 22)
  }
})

test('a crash that left an empty file or half a first line is taken up from the file before', async (t) => {
  for (const rest of ['', '{"beca']) {
    const { dir } = await freshHome(t)
    const log = openLog(t, dir)
    await fill(log, 20)
    await log.close()
    await writeFile(join(dir, 'audit-0000000000000021.jsonl'), rest, { mode: 0o600 })
    const again = openLog(t, dir)
    await fill(again, 1)
    await again.close()
    const verdict = await verifyAudit(dir)
    assert.equal(verdict.broken, undefined)
    assert.equal(verdict.lastSeq, rest === '' ? 21 : 22)
  }
})

/** A log of 20 records over which nobody runs any more, changed by somebody, then started again. */
async function tampered(
  t: Parameters<typeof freshHome>[0],
  change: (path: string, dir: string) => Promise<void>,
) {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  await fill(log, 20)
  await log.close()
  const path = join(dir, 'audit-0000000000000001.jsonl')
  await change(path, dir)
  const evidence = await readFile(path)
  const before = await verifyAudit(dir)
  const again = openLog(t, dir)
  await fill(again, 1)
  await again.close()
  return { dir, before, evidence, path, after: await verifyAudit(dir) }
}

test('a changed last record is kept as evidence, and the new file says so', async (t) => {
  const { dir, before, after, evidence, path } = await tampered(t, async (file) => {
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('request-19', 'request-66'))
  })
  assert.equal(before.broken?.seq, 20)
  assert.equal(before.broken.line, 20)
  assert.equal(after.broken?.seq, 20)
  assert.deepEqual(await readFile(path), evidence)
  const [, newer = ''] = await logFiles(dir)
  assert.equal(newer, 'audit-0000000000000021.jsonl')
  const [first] = (await recordsIn(dir)).slice(20)
  assert.equal(first?.event, 'audit.chain-broken')
  assert.match(first.because ?? '', /audit-0000000000000001\.jsonl near seq 20/)
  assert.equal((await verifyAudit(dir, { from: 22 })).ok, true, 'a known break can be accepted')
})

test('newest records that were cut off are missed, by the start and by verify', async (t) => {
  const { before, after, dir } = await tampered(t, async (file) => {
    const lines = (await readFile(file, 'utf8')).split('\n')
    await truncate(file, lines.slice(0, 15).join('\n').length + 1)
  })
  assert.equal(before.broken?.because, 'records 16 to 20 were signed and are gone')
  assert.equal(before.broken.seq, 16)
  assert.match(after.broken?.because ?? '', /signed up to seq 20|records up to seq 20 were signed/)
  assert.equal((await recordsIn(dir)).at(15)?.event, 'audit.chain-broken')
})

test('a chain that was rewritten from a record on does not fit the checkpoint', async (t) => {
  const { before, after } = await tampered(t, async (file) => {
    let head = genesis
    let text = ''
    for (let index = 0; index < 20; index += 1) {
      const next = link(head, '2026-01-31T08:00:00.000Z', { event: 'request.allowed' })
      text += next.line
      head = next.head
    }
    await writeFile(file, text)
  })
  assert.equal(before.broken?.seq, 20)
  assert.match(before.broken.because, /not the one that was signed/)
  assert.equal(after.ok, false)
})

test('a checkpoint that another key signed is no proof', async (t) => {
  const { dir, home } = await freshHome(t)
  const log = openLog(t, dir)
  await fill(log, 3)
  await log.close()
  assert.equal((await verifyAudit(dir)).ok, true)
  const elsewhere = await freshHome(t)
  const other = openLog(t, elsewhere.dir)
  await fill(other, 3)
  await other.close()
  const keyFile = join(elsewhere.home, 'keys', 'audit.key')
  const verdict = await verifyAudit(dir, { keyFile })
  assert.match(verdict.broken?.because ?? '', /signature/)
  await rm(join(home, 'keys', 'audit.key'))
  const unchecked = await verifyAudit(dir)
  assert.equal(unchecked.ok, true)
  assert.equal(unchecked.checkpoints.keyMissing, true)
})

test('checkpoints are signed after so many records, and after a time', async (t) => {
  const { dir } = await freshHome(t)
  const seen: number[] = []
  const { promise: second, resolve } = Promise.withResolvers<void>()
  const log = openLog(t, dir, {
    checkpointRecords: 100,
    checkpointMs: 300,
    onCheckpoint: ({ seq }) => {
      seen.push(seq)
      if (seen.length === 2) resolve()
    },
  })
  await fill(log, 100)
  await log.flush()
  await fill(log, 1)
  await second
  assert.deepEqual(seen, [100, 101])
  const verdict = await verifyAudit(dir)
  assert.deepEqual(verdict.checkpoints, { good: 2, older: 0, unsigned: 0, keyMissing: false })
  await log.close()
})

test('a log whose file is removed or cut while it is written goes on in a new one and says so', async (t) => {
  for (const harm of ['remove', 'cut'] as const) {
    const { dir } = await freshHome(t)
    const log = openLog(t, dir)
    await fill(log, 5)
    const path = join(dir, 'audit-0000000000000001.jsonl')
    if (harm === 'remove') await rm(path)
    else await truncate(path, 10)
    await log.flush()
    await fill(log, 1)
    await log.close()
    const text = await readFile(join(dir, 'audit-0000000000000006.jsonl'), 'utf8')
    assert.match(text, /audit\.chain-broken/)
    assert.match(text, /request-0/)
    assert.equal((await verifyAudit(dir)).ok, false)
  }
})

test('a log that was emptied does not verify, and one that was never written does', async (t) => {
  const { dir } = await freshHome(t)
  await mkdir(dir, { mode: 0o700 })
  assert.equal((await verifyAudit(dir)).ok, true)
  const log = openLog(t, dir)
  await fill(log, 3)
  await log.close()
  for (const name of await readdir(dir)) await rm(join(dir, name))
  const { ok, broken } = await verifyAudit(dir)
  assert.equal(ok, false)
  assert.equal(broken?.seq, 1)
  assert.match(broken.because, /the log is empty, but its key .* they are gone/)
})

test('a link, a second name or a foreign mode is refused or mended at start', async (t) => {
  const linked = await freshHome(t)
  await mkdir(linked.dir, { mode: 0o700 })
  await writeFile(join(linked.home, 'victim'), 'keep\n', { mode: 0o600 })
  await symlink(join(linked.home, 'victim'), join(linked.dir, 'audit-0000000000000001.jsonl'))
  assert.throws(() => openLog(t, linked.dir), isFailure('AUDIT_UNWRITABLE', /ELOOP/))
  assert.equal(await readFile(join(linked.home, 'victim'), 'utf8'), 'keep\n')

  const twice = await freshHome(t)
  await openLog(t, twice.dir).close()
  await hardLink(join(twice.dir, 'audit-0000000000000001.jsonl'), join(twice.home, 'second'))
  assert.throws(() => openLog(t, twice.dir), isFailure('AUDIT_NOT_OURS', /second name/))

  const open = await freshHome(t)
  await openLog(t, open.dir).close()
  await chmod(open.dir, 0o755)
  await chmod(join(open.dir, 'audit-0000000000000001.jsonl'), 0o644)
  await openLog(t, open.dir).close()
  assert.equal((await stat(open.dir)).mode & 0o777, 0o700)
  assert.equal((await stat(join(open.dir, 'audit-0000000000000001.jsonl'))).mode & 0o777, 0o600)
})

test('an entry that can be no record is a no for itself alone', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  const answers = await Promise.all([
    written(log, entry(0)),
    written(log, { ...entry(1), ms: 1.5 }),
    written(log, entry(2)),
  ])
  assert.deepEqual(
    answers.map((answer) => answer?.name),
    [undefined, 'TypeError', undefined],
  )
  assert.equal(log.failing, undefined)
  await log.close()
  assert.equal((await verifyAudit(dir)).records, 2)
})

test('beyond the bounded queue nothing is recorded, and the gap is', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir, { queueRecords: 100 })
  const answers = await Promise.all(
    Array.from({ length: 103 }, (_, index) => written(log, entry(index))),
  )
  assert.equal(answers.filter((answer) => answer === undefined).length, 100)
  assert.ok(answers.slice(100).every((answer) => answer instanceof Failure))
  await fill(log, 1)
  await log.close()
  const gap = (await recordsIn(dir)).find(({ event }) => event === 'audit.recovered')
  assert.equal(gap?.count, 3)
  assert.equal((await verifyAudit(dir)).ok, true)
})

test('a closed log takes nothing more', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir)
  await log.close()
  assert.ok((await written(log, entry(0))) instanceof Failure)
})

test('ten thousand records in one turn are all written', async (t) => {
  const { dir } = await freshHome(t)
  const log = openLog(t, dir, { rotateBytes: 1024 * KiB(1) })
  for (let round = 0; round < 5; round += 1) await fill(log, 10_000, round * 10_000)
  await log.close()
  const verdict = await verifyAudit(dir)
  assert.equal(verdict.broken, undefined)
  assert.equal(verdict.records, 50_000 + verdict.files - 1)
})
