/** Audit logs in folders of their own, for the tests of the log. */
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'
import { openAudit, type AuditLog, type AuditOptions } from '../../src/audit/log.ts'
import type { AuditEntry, AuditRecord, AuditSink } from '../../src/audit/record.ts'
import { KiB } from '../../src/limits.ts'

/** What runs before the home is removed, last one first; hooks of a test run first one first. */
const closers = new WeakMap<TestContext, (() => Promise<unknown>)[]>()

/** A home that is removed after the test; the log lies in its `audit` folder. */
export async function freshHome(t: TestContext): Promise<{ home: string; dir: string }> {
  const home = await mkdtemp(join(tmpdir(), 'hardshell-audit-'))
  if (!closers.has(t)) closers.set(t, [])
  t.after(async () => {
    for (const close of closers.get(t)?.splice(0).reverse() ?? []) await close()
    await rm(home, { recursive: true, force: true })
  })
  return { home, dir: join(home, 'audit') }
}

/** Runs something after the test and before its home is removed, what came last first. */
export function beforeRemoval(t: TestContext, run: () => Promise<unknown>): void {
  closers.get(t)?.push(run)
}

/** Opens a log as the sidecar does, in small files; it is closed after the test if the test did not. */
export function openLog(
  t: TestContext,
  dir: string,
  options: Partial<AuditOptions> = {},
): AuditLog {
  const log = openAudit({
    dir,
    sync: 'batch',
    rotateBytes: KiB(64),
    keepFiles: 50,
    now: () => Date.now(),
    ...options,
  })
  beforeRemoval(t, () => log.close().catch(() => undefined))
  return log
}

/** Appends and waits for the answer; resolves with the failure, if there was one. */
export function written(log: AuditSink, entry: AuditEntry): Promise<Error | undefined> {
  const { promise, resolve } = Promise.withResolvers<Error | undefined>()
  log.append(entry, resolve)
  return promise
}

/** An entry like those of a request. */
export function entry(index: number): AuditEntry {
  return {
    event: 'request.allowed',
    requestId: `request-${index}`,
    identity: 'owner',
    peer: '127.0.0.1',
    method: 'POST',
    path: '/chat',
  }
}

/** Appends `count` entries in one turn and waits for the last; throws the first failure. */
export async function fill(log: AuditSink, count: number, first = 0): Promise<void> {
  const answers = Array.from({ length: count }, (_, index) => written(log, entry(first + index)))
  for (const failure of await Promise.all(answers)) if (failure !== undefined) throw failure
}

/** The names of the files of a log, oldest first. */
export async function logFiles(dir: string): Promise<string[]> {
  return (await readdir(dir)).filter((name) => /^audit-\d+\.jsonl$/.test(name)).sort()
}

/** Every record in the files of a log, oldest first. */
export async function recordsIn(dir: string): Promise<AuditRecord[]> {
  const records: AuditRecord[] = []
  for (const name of await logFiles(dir)) {
    const text = await readFile(join(dir, name), 'utf8')
    for (const line of text.split('\n')) {
      if (line !== '') records.push(JSON.parse(line) as AuditRecord)
    }
  }
  return records
}
