/** What passes through a sidecar does not stay in it: its memory, as the kernel counts it, beside what it carried. */
import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test, type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

import { entry, homeWith, start } from '../support/program.ts'
import { newToken } from '../support/sidecar.ts'
import { counted, zerosTo } from '../support/zeros.ts'

const MiB = 1024 ** 2
/** So much that what V8 lets lie shows: without the remedy the process grows by 80 MiB and more. */
const streamed = 1024 * MiB
const growthMax = 64 * MiB
const passing = fileURLToPath(new URL('../support/passing.ts', import.meta.url))

/** An agent that answers with as many bytes as the path names, and says how many it got. */
async function giver(t: TestContext): Promise<number> {
  const answer = async (incoming: IncomingMessage, response: ServerResponse): Promise<void> => {
    const got = await counted(incoming)
    const bytes = Number(incoming.url?.slice(1))
    response.writeHead(200, { 'Content-Length': bytes, 'X-Got': got })
    await zerosTo(response, bytes)
  }
  const server = createServer((incoming, response) => void answer(incoming, response))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  return (server.address() as AddressInfo).port
}

interface Fresh {
  readonly pid: number
  /** Sends a body of so many bytes and asks for so many, from another process; both must arrive whole. */
  pass(up: number, down: number): Promise<void>
}

/** A sidecar that has carried nothing but one small request. */
async function fresh(t: TestContext): Promise<Fresh> {
  const token = newToken()
  const home = homeWith(t, {
    gateway: { port: 0, auth: { token } },
    agent: { upstream: `http://127.0.0.1:${await giver(t)}` },
    security: { maxRequestSize: '2GB' },
  })
  const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
  const [, url = ''] = await program.said(/listens on (http:\S+)/)
  const pass = async (up: number, down: number) => {
    const call = start(t, [passing, url, String(up), String(down)], { TOKEN: token })
    assert.equal(await call.ended(), 0, call.text())
    assert.deepEqual(JSON.parse(call.text()), { status: 200, up, down })
  }
  await pass(0, 1000)
  const { pid } = program.child
  assert.ok(pid !== undefined)
  return { pid, pass }
}

/** A line of /proc/PID/status in bytes (proc(5)): VmRSS now, VmHWM at its greatest. */
function memory(pid: number, line: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8')
  return Number(new RegExp(`^${line}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1]) * 1024
}

/** How much more than at its beginning the process held at any moment of `work`. */
async function growth(pid: number, work: () => Promise<unknown>): Promise<number> {
  // Sets VmHWM back to VmRSS.
  writeFileSync(`/proc/${pid}/clear_refs`, '5')
  const before = memory(pid, 'VmRSS')
  await work()
  return memory(pid, 'VmHWM') - before
}

function assertSmall(bytes: number): void {
  assert.ok(bytes < growthMax, `grew by ${Math.round(bytes / MiB)} MiB`)
}

test('a large download passes through a fresh process without staying in it', async (t) => {
  const { pid, pass } = await fresh(t)
  assertSmall(await growth(pid, () => pass(0, streamed)))
})

test('a large upload passes through a fresh process without staying in it', async (t) => {
  const { pid, pass } = await fresh(t)
  assertSmall(await growth(pid, () => pass(streamed, 1)))
})

test('four downloads at once cost a fresh process no more than one may', async (t) => {
  const { pid, pass } = await fresh(t)
  const part = streamed / 4
  assertSmall(await growth(pid, () => Promise.all([1, 2, 3, 4].map(() => pass(0, part)))))
})
