/** A sidecar that is killed under load loses no record that it called written. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { test } from 'node:test'
import { verifyAudit } from '../../src/audit/verify.ts'
import { freshHome, openLog, recordsIn } from '../support/audit.ts'

const child = new URL('audit-child.ts', import.meta.url).pathname

/** Runs the child until it has said so many ids, kills it, and returns all it said. */
async function killUnderLoad(dir: string, sync: string, said: number): Promise<string[]> {
  const writer = spawn(process.execPath, [child, dir, '20', sync], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  writer.stdout.setEncoding('utf8')
  writer.stdout.on('data', (text: string) => {
    output += text
    if (output.length > said * 10) writer.kill('SIGKILL')
  })
  const [, signal] = (await once(writer, 'close')) as [number | null, string | null]
  assert.equal(signal, 'SIGKILL')
  return output.split('\n').slice(0, -1)
}

for (const [sync, rounds, said] of [
  ['batch', 6, 3000],
  ['always', 2, 200],
] as const) {
  test(`SIGKILL under load loses no written record and the log verifies (${sync})`, async (t) => {
    const { dir } = await freshHome(t)
    const told = new Set<string>()
    for (let round = 0; round < rounds; round += 1) {
      for (const id of await killUnderLoad(dir, sync, said + round * 997)) told.add(id)
      // The restart: it may find a torn line, and nothing worse.
      await openLog(t, dir).close()
      const verdict = await verifyAudit(dir)
      assert.equal(verdict.broken, undefined)
      assert.equal(verdict.unfinished, 0)
    }
    const records = await recordsIn(dir)
    for (const { requestId } of records) if (requestId !== undefined) told.delete(requestId)
    assert.ok(records.length > said)
    assert.deepEqual([...told], [])
    assert.equal(
      records.some(({ event }) => event === 'audit.chain-broken'),
      false,
    )
  })
}
