/** `audit tail`, `query`, `verify` and `export` as a person runs them. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline/promises'
import { test } from 'node:test'
import type { AuditRecord } from '../../src/audit/record.ts'
import type { Verdict } from '../../src/audit/verify.ts'
import { run } from '../../src/cli/run.ts'
import { beforeRemoval, fill, freshHome, openLog, written } from '../support/audit.ts'

/** Runs one command line in a home; what it printed, line by line. */
async function hardshell(home: string, ...argv: string[]) {
  const out: string[] = []
  const err: string[] = []
  const status = await run(argv, {
    env: { HARDSHELL_HOME: home },
    out: (text) => void out.push(text),
    err: (text) => void err.push(text),
    stdin: () => Promise.resolve(''),
    interactive: false,
  })
  return { status, out, err }
}

const json = (lines: readonly string[]) => JSON.parse(lines.join('\n')) as AuditRecord[]

/** A log with 30 allowed requests an hour after the other, and one refusal with a nasty path. */
async function someLog(t: Parameters<typeof freshHome>[0]) {
  const { home, dir } = await freshHome(t)
  let now = Date.parse('2026-01-31T00:00:00Z')
  const log = openLog(t, dir, { now: () => now })
  for (let index = 0; index < 30; index += 1) {
    await fill(log, 1, index)
    now += 3_600_000
  }
  await written(log, {
    event: 'request.refused',
    requestId: 'refused-1',
    identity: '=cmd|calc',
    code: 'PATH_DENIED',
    status: 403,
    path: '/a",\u001b[2J',
  })
  await log.close()
  return { home, dir }
}

test('audit tail shows the newest records, oldest first', async (t) => {
  const { home } = await someLog(t)
  const { status, out } = await hardshell(home, 'audit', 'tail', '-n', '3')
  assert.equal(status, 0)
  assert.equal(out.length, 3)
  assert.match(
    out[0] ?? '',
    /^29 2026-02-01T04:00:00\.000Z request\.allowed POST \/chat identity=owner/,
  )
  assert.match(out[2] ?? '', /^31 .* 403 PATH_DENIED /)
  const all = await hardshell(home, 'audit', 'tail', '-n', '100', '--json')
  assert.deepEqual(
    json(all.out).map(({ seq }) => seq),
    Array.from({ length: 31 }, (_, index) => index + 1),
  )
  assert.equal((await hardshell(home, 'audit', 'tail')).out.length, 20)
})

test('nothing that a client wrote reaches the terminal raw', async (t) => {
  const { home } = await someLog(t)
  for (const command of ['tail', 'query']) {
    const { out } = await hardshell(home, 'audit', command)
    for (const line of out) assert.match(line, /^[\x20-\x7e]*$/)
  }
})

test('audit query finds by event, code, identity, request and time', async (t) => {
  const { home } = await someLog(t)
  const seqs = async (...options: string[]) =>
    json((await hardshell(home, 'audit', 'query', '--json', ...options)).out).map(({ seq }) => seq)
  assert.deepEqual(await seqs('--event', 'request.refused'), [31])
  assert.equal((await seqs('--event', 'request.*')).length, 31)
  assert.deepEqual(await seqs('--code', 'PATH_DENIED'), [31])
  assert.deepEqual(await seqs('--identity', '=cmd|calc'), [31])
  assert.deepEqual(await seqs('--request', 'request-4'), [5])
  assert.deepEqual(
    await seqs('--since', '2026-01-31T02:00:00Z', '--until', '2026-01-31T04:00:00Z'),
    [3, 4, 5],
  )
  assert.deepEqual(await seqs('--since', '1h'), [])
  assert.deepEqual(await seqs('--limit', '2'), [30, 31])
  const limited = await hardshell(home, 'audit', 'query', '--limit', '2')
  assert.match(limited.err[0] ?? '', /^29 older records left out/)
})

test('audit verify says ok, then names the record in which one byte was flipped', async (t) => {
  const { home, dir } = await someLog(t)
  const good = await hardshell(home, 'audit', 'verify')
  assert.equal(good.status, 0)
  assert.equal(good.out[0], 'ok: 31 records, seq 1 to 31, in 1 files')
  const file = join(dir, 'audit-0000000000000001.jsonl')
  await writeFile(file, (await readFile(file, 'utf8')).replace('request-11', 'request-77'))
  const bad = await hardshell(home, 'audit', 'verify')
  assert.equal(bad.status, 1)
  assert.equal(
    bad.out[0],
    'broken at seq 12 (audit-0000000000000001.jsonl line 12): "the hash does not fit the record"',
  )
  const report = await hardshell(home, 'audit', 'verify', '--json')
  assert.equal(report.status, 1)
  const { ok, broken } = JSON.parse(report.out[0] ?? '') as Verdict
  assert.equal(ok, false)
  assert.deepEqual(broken, {
    file: 'audit-0000000000000001.jsonl',
    line: 12,
    seq: 12,
    because: 'the hash does not fit the record',
  })
  assert.equal((await hardshell(home, 'audit', 'verify', '--start', '13')).status, 0)
  assert.equal((await hardshell(home, 'audit', 'verify', '--start', '12')).status, 1)
})

test('audit export writes JSON lines, one JSON document, or CSV without formulas', async (t) => {
  const { home } = await someLog(t)
  const lines = await hardshell(home, 'audit', 'export')
  assert.deepEqual(
    lines.out.map((line) => (JSON.parse(line) as AuditRecord).seq),
    Array.from({ length: 31 }, (_, index) => index + 1),
  )
  assert.equal(json((await hardshell(home, 'audit', 'export', '--json')).out).length, 31)
  const csv = await hardshell(home, 'audit', 'export', '--format', 'csv', '--code', 'PATH_DENIED')
  assert.equal(csv.out.length, 2)
  assert.match(csv.out[0] ?? '', /^seq,time,prev,hash,event,requestId,identity,/)
  assert.match(csv.out[1] ?? '', /,refused-1,'=cmd\|calc,,,"\/a"",/)
})

test('wrong usage and a missing log are one line with the remedy', async (t) => {
  const { home } = await freshHome(t)
  const missing = await hardshell(home, 'audit', 'verify')
  assert.equal(missing.status, 1)
  assert.match(missing.err.join('\n'), /^hardshell: there is no audit log in .*--dir.*$/)
  for (const argv of [
    ['tail', '-n', '0'],
    ['tail', '-n', '100001'],
    ['query', '--since', 'yesterday'],
    ['export', '--format', 'xml'],
    ['export', '--format', 'csv', '--json'],
    ['verify', '--start', '-1'],
  ]) {
    const { status, err } = await hardshell(home, 'audit', ...argv)
    assert.equal(status, 2, argv.join(' '))
    assert.equal(err.length, 1)
  }
})

test('audit tail --follow shows records as they are written, over a rotation', async (t) => {
  const { home, dir } = await freshHome(t)
  const log = openLog(t, dir)
  await fill(log, 5)
  const main = new URL('../../src/main.ts', import.meta.url).pathname
  const tail = spawn(process.execPath, [main, 'audit', 'tail', '-n', '2', '--follow', '--json'], {
    env: { ...process.env, HARDSHELL_HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  beforeRemoval(t, async () => {
    if (tail.exitCode === null && tail.signalCode === null) {
      tail.kill()
      await once(tail, 'close')
    }
  })
  let expected = 4
  for await (const line of createInterface({ input: tail.stdout })) {
    assert.equal((JSON.parse(line) as AuditRecord).seq, expected)
    if (expected === 5) await fill(log, 500, 5)
    if (expected === 505) break
    expected += 1
  }
  assert.equal(expected, 505)
})
