/** The process that compares passwords: what it may take, what it knows, and what becomes of it. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'

import { Hasher } from '../../src/identity/hasher.ts'
import { costDefault, derive, readHash, type PasswordHash } from '../../src/identity/password.ts'
import {
  cheapHash,
  codeOf,
  sendJson,
  startWithPassword,
  strongHash,
  thePassword,
} from '../support/login.ts'
import { eventually } from '../support/sidecar.ts'

const main = new URL('../../src/main.ts', import.meta.url).pathname

/** Running processes of a parent that compare passwords. */
function hashers(parent: number): readonly number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return []
    try {
      // The name in parentheses may hold blanks; what follows it does not.
      const [state, ppid] =
        readFileSync(`/proc/${name}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
      const command = readFileSync(`/proc/${name}/cmdline`, 'utf8')
      const ours = Number(ppid) === parent && state !== 'Z' && command.includes('identity/hasher')
      return ours ? [Number(name)] : []
    } catch {
      // It ended while we looked.
      return []
    }
  })
}

/** The nice value of every thread of a process (proc_pid_stat(5), field 19). */
function niceOf(pid: number): readonly number[] {
  return readdirSync(`/proc/${pid}/task`).flatMap((thread) => {
    try {
      const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'utf8').split(') ')[1] ?? ''
      return [Number(stat.split(' ')[16])]
    } catch {
      return []
    }
  })
}

/** Costs some seconds, so that there is time to look at it. */
const slow: PasswordHash = {
  cost: { ...costDefault, passes: 10 },
  salt: Buffer.alloc(16, 1),
  tag: Buffer.alloc(32),
}

test('it computes the same, with the lowest priority and nothing of our environment', async () => {
  const hasher = new Hasher()
  try {
    const known = readHash(await cheapHash())
    assert.ok(!('because' in known))
    const here = await derive(thePassword, known)
    assert.deepEqual(await hasher.derive(thePassword, known), here)
    assert.deepEqual(here, known.tag)
    const [pid = 0] = hashers(process.pid)
    const pending = hasher.derive(thePassword, slow)
    let most = 0
    for (let looks = 0; looks < 20; looks += 1) {
      const nice = niceOf(pid)
      most = Math.max(most, nice.length)
      assert.ok(nice.length > 0 && nice.every((value) => value === 19), nice.join())
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
    const variables = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0')
    const names = variables.map((variable) => variable.split('=')[0] ?? '')
    assert.ok(
      names.every((name) => name === '' || name.startsWith('NODE_CHANNEL_')),
      names.join(),
    )
    assert.equal((await pending).length, 32)
    assert.ok(most > 4)
    assert.deepEqual(hashers(process.pid), [pid])
  } finally {
    hasher.close()
  }
  await eventually(() => hashers(process.pid).length === 0, 'the process ends', 20_000)
})

test('when it is killed the login is refused, and the next login has a new one', async () => {
  const side = await startWithPassword()
  try {
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 200)
    const [pid = 0, ...others] = hashers(process.pid)
    assert.deepEqual(others, [])
    process.kill(pid, 'SIGSTOP')
    const said = sendJson(side.port, { password: thePassword })
    await new Promise((resolve) => setTimeout(resolve, 200))
    process.kill(pid, 'SIGKILL')
    assert.deepEqual([(await said).status, codeOf(await said)], [503, 'GATE_FAILED'])
    assert.equal((await sendJson(side.port, { password: 'not the passphrase' })).status, 401)
    assert.equal((await sendJson(side.port, { password: thePassword })).status, 200)
    assert.notEqual(hashers(process.pid)[0], pid)
  } finally {
    await side.stop()
  }
  await eventually(() => hashers(process.pid).length === 0, 'the process ends', 20_000)
})

test('it does not outlive its sidecar, not even one that was killed', async () => {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  const auth = { mode: 'password', passwordHash: await strongHash() }
  const config = { gateway: { port: 0, auth }, agent: { upstream: 'http://127.0.0.1:9' } }
  writeFileSync(join(home, 'config.json'), JSON.stringify(config), { mode: 0o600 })
  const sidecar = spawn(process.execPath, [main, 'serve', '--json'], {
    env: { HARDSHELL_HOME: home, HOME: home, PATH: process.env['PATH'] },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  try {
    const [line] = (await once(sidecar.stdout, 'data')) as [Buffer]
    const { url } = JSON.parse(line.toString()) as { url: string }
    assert.equal((await sendJson(Number(new URL(url).port), { password: thePassword })).status, 200)
    const pid = sidecar.pid ?? 0
    const [hasher = 0] = hashers(pid)
    assert.ok(hasher > 0)
    sidecar.kill('SIGKILL')
    await once(sidecar, 'exit')
    const runs = () => {
      try {
        return readFileSync(`/proc/${hasher}/stat`, 'utf8').split(') ')[1]?.[0] !== 'Z'
      } catch {
        return false
      }
    }
    await eventually(() => !runs(), 'the process ends', 20_000)
  } finally {
    sidecar.kill('SIGKILL')
    rmSync(home, { recursive: true, force: true })
  }
})
