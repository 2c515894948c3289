/** What an agent that was taken over can do in its cell: nothing but compute, write to its tmpfs, and answer. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { networkInterfaces } from 'node:os'
import { after, before, suite, test } from 'node:test'
import type { Agent } from '../../src/agent/agent.ts'
import { ask, inCell, openBench, untilReady, type Bench } from '../support/engine.ts'
import { allowedProbes, deniedProbes } from '../../src/agent/syscall-probe.ts'

suite('an agent in its cell', () => {
  let bench: Bench
  let agent: Agent
  before(async () => {
    bench = await openBench()
    agent = await bench.create({ env: { GREETING: 'hello' }, pidsLimit: 64 })
    await agent.start()
    await untilReady(agent)
  })
  after(() => bench.close())

  /** Runs in the cell; a throw there is the code as text. */
  const run = async (code: string): Promise<unknown> => {
    const { value, thrown } = await inCell(agent.address, code)
    return thrown ?? value
  }
  const write = (path: string) =>
    run(`(await load('node:fs')).writeFileSync(${JSON.stringify(path)}, 'x'); return 'written'`)

  test('is reached through the portal although it listens on loopback alone', async () => {
    assert.deepEqual(await ask(agent.address, '/any?x=1'), {
      status: 200,
      text: 'hello from /any?x=1',
    })
  })

  test('writes to its tmpfs and nowhere else', async () => {
    assert.equal(await write('/tmp/x'), 'written')
    for (const path of ['/x', '/etc/x', '/app/x', '/usr/x', '/var/x', '/hardshell']) {
      const code = await write(path)
      assert.ok(['EROFS', 'ENOENT', 'EACCES'].includes(String(code)), `${path}: ${String(code)}`)
    }
    for (const path of ['/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/kernel/x']) {
      const code = await write(path)
      assert.ok(['EROFS', 'EACCES', 'ENOENT'].includes(String(code)), `${path}: ${String(code)}`)
    }
  })

  test('can make no file in any file system but its tmpfs', async () => {
    // Every place that is mounted in the cell, asked for a new file; what /proc and /sys hold is no storage.
    const writable = await run(`const fs = await load('node:fs')
      const places = fs.readFileSync('/proc/self/mountinfo', 'utf8').trim().split('\\n').map((line) => {
        const words = line.split(' '); return { at: words[4], kind: words[words.indexOf('-') + 1] } })
      return places.filter(({ at }) => { try { fs.writeFileSync(at + '/hs-probe', ''); fs.rmSync(at + '/hs-probe'); return true }
        catch (thrown) { if (typeof thrown.code !== 'string') throw thrown; return false } }).map(({ at, kind }) => kind + ' ' + at)`)
    assert.deepEqual((writable as string[]).toSorted(), ['tmpfs /dev/shm', 'tmpfs /tmp'])
  })

  test('cannot execute what it writes', async () => {
    const status = await run(`const fs = await load('node:fs')
      fs.copyFileSync('/app/probe/getpid', '/tmp/getpid'); fs.chmodSync('/tmp/getpid', 0o755)
      return (await load('node:child_process')).spawnSync('/tmp/getpid').error?.code`)
    assert.equal(status, 'EACCES')
  })

  test('finds its tmpfs full after 64 MiB', async () => {
    const [code, size] = (await run(`const fs = await load('node:fs')
      const file = fs.openSync('/tmp/big', 'w'); const block = Buffer.alloc(2 ** 20); let size = 0
      try { for (; size < 100; size += 1) fs.writeSync(file, block); return ['none', size] }
      catch (thrown) { return [thrown.code, size] } finally { fs.closeSync(file); fs.rmSync('/tmp/big') }`)) as [
      string,
      number,
    ]
    assert.equal(code, 'ENOSPC')
    assert.ok(size >= 60 && size <= 64, String(size))
  })

  test('has no network but its own loopback', async () => {
    const names = await run(`return Object.keys((await load('node:os')).networkInterfaces())`)
    assert.deepEqual(names, ['lo'])
    const routes = await run(
      `return (await load('node:fs')).readFileSync('/proc/net/route', 'utf8').trim().split('\\n').length`,
    )
    assert.equal(routes, 1)
  })

  test('reaches no address of this machine, no metadata service and no name service', async () => {
    // A server on every address of this machine: with a network of any kind one of them would answer.
    const server = createServer((_request, response) => response.end('reached'))
    await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', () => resolve()))
    const bound = server.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : 0
    const own = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .filter((one) => one.family === 'IPv4')
      .map((one) => one.address)
    try {
      for (const host of [...own, '172.17.0.1', '169.254.169.254', '1.1.1.1']) {
        const code = await run(`const net = await load('node:net')
          return new Promise((resolve) => { const s = net.connect({ host: '${host}', port: ${port}, timeout: 3000 })
            s.on('connect', () => resolve('connected')); s.on('timeout', () => resolve('timeout'))
            s.on('error', (thrown) => resolve(thrown.code)) })`)
        const expected = host.startsWith('127.') ? 'ECONNREFUSED' : 'ENETUNREACH'
        assert.equal(code, expected, host)
      }
    } finally {
      server.close()
      server.closeAllConnections()
    }
    assert.match(
      String(await run(`await (await load('node:dns/promises')).lookup('example.com')`)),
      /^(EAI_AGAIN|ENOTFOUND)$/,
    )
    assert.equal(
      await run(`const socket = (await load('node:dgram')).createSocket('udp4')
        return new Promise((resolve) => socket.send('x', 53, '8.8.8.8', (thrown) => resolve(thrown?.code ?? 'sent')))`),
      'ENETUNREACH',
    )
  })

  test('is told 403 by the one way out, and what it asked for is in the audit log', async () => {
    const answer = await run(`const net = await load('node:net')
      return new Promise((resolve) => { const s = net.connect(3128, '127.0.0.1'); let text = ''
        s.on('data', (chunk) => { text += chunk }); s.on('close', () => resolve(text)); s.on('error', (thrown) => resolve(thrown.code))
        s.write('CONNECT api.example.com:443 HTTP/1.1\\r\\nHost: api.example.com:443\\r\\n\\r\\n') })`)
    assert.match(String(answer), /^HTTP\/1\.1 403 Forbidden\r\n/)
    // Node's own fetch takes the proxy from its environment and so fails at once instead of hanging.
    assert.equal(
      await run(`await fetch('https://secret.example.net/x'); return 'fetched'`),
      'TypeError: fetch failed',
    )
    const asked = bench.audit.of('egress.refused').map((entry) => `${entry.method} ${entry.path}`)
    assert.deepEqual(asked, ['CONNECT api.example.com:443', 'CONNECT secret.example.net:443'])
  })

  test('sees neither an engine socket nor the portal nor a device of the machine', async () => {
    for (const path of [
      '/var/run/docker.sock',
      '/run/docker.sock',
      '/portal',
      '/dev/kvm',
      '/dev/mem',
      '/dev/vda',
    ]) {
      assert.equal(await run(`return (await load('node:fs')).existsSync('${path}')`), false, path)
    }
    const mounts = String(
      await run(`return (await load('node:fs')).readFileSync('/proc/self/mountinfo', 'utf8')`),
    )
    assert.ok(!mounts.includes('sock'), mounts)
    assert.ok(!mounts.includes('/portal'), mounts)
  })

  test('runs without capabilities, as nobody special, and cannot gain privileges', async () => {
    const status = String(
      await run(`return (await load('node:fs')).readFileSync('/proc/self/status', 'utf8')`),
    )
    for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb']) {
      assert.match(status, new RegExp(`^${set}:\\t0{16}$`, 'm'))
    }
    assert.match(status, /^NoNewPrivs:\t1$/m)
    assert.match(status, /^Seccomp:\t2$/m)
    assert.match(status, /^Uid:\t1000\t1000\t1000\t1000$/m)
    assert.match(status, /^Gid:\t1000\t1000\t1000\t1000$/m)
    assert.match(status, /^Groups:\t(1000 )?$/m)
  })

  test('has no secret in its environment', async () => {
    const env = (await run('return process.env')) as Record<string, string>
    const expected = [
      'GREETING',
      'HOME',
      'HOSTNAME',
      'HTTPS_PROXY',
      'HTTP_PROXY',
      'NODE_USE_ENV_PROXY',
      'NO_PROXY',
    ]
    assert.deepEqual(
      Object.keys(env).toSorted(),
      [...expected, 'PATH', 'http_proxy', 'https_proxy', 'no_proxy'].toSorted(),
    )
    assert.equal(env['GREETING'], 'hello')
  })

  test('cannot start more processes than its limit', async () => {
    const [started, code] =
      (await run(`const { spawn } = await load('node:child_process'); const children = []
      let code = 'none'
      for (let n = 0; n < 100 && code === 'none'; n += 1) {
        const child = spawn('/usr/local/bin/node', ['-e', 'setTimeout(() => {}, 60000)'], { stdio: 'ignore' })
        if (child.pid === undefined) code = await new Promise((resolve) => child.once('error', (thrown) => resolve(thrown.code)))
        else children.push(child)
      }
      for (const child of children) child.kill('SIGKILL')
      await Promise.all(children.map((child) => new Promise((resolve) => child.once('exit', resolve))))
      return [children.length, code]`)) as [number, string]
    assert.equal(code, 'EAGAIN')
    assert.ok(started < 64, String(started))
  })

  test('cannot open more files than its limit', async () => {
    const [opened, code] =
      (await run(`const fs = await load('node:fs'); const files = []; let code = 'none'
      try { while (files.length < 10000) files.push(fs.openSync('/etc/passwd')) } catch (thrown) { code = thrown.code }
      for (const file of files) fs.closeSync(file)
      return [files.length, code]`)) as [number, string]
    assert.equal(code, 'EMFILE')
    assert.ok(opened > 3900 && opened < 4096, String(opened))
  })

  const statusOf = (name: string) =>
    run(
      `return (await load('node:child_process')).spawnSync('/app/probe/${name.replaceAll(' ', '_')}').status`,
    )

  test('is refused every dangerous system call, and not the ordinary ones', async () => {
    for (const name of Object.keys(deniedProbes)) {
      const expected = name.startsWith('clone3') ? 38 : 1
      assert.equal(await statusOf(name), expected, name)
    }
    for (const name of Object.keys(allowedProbes)) assert.equal(await statusOf(name), 0, name)
  })

  test('would be allowed by the kernel what its profile refuses', async () => {
    // Without this, the test before could pass because a probe is wrong.
    const outside = async (name: string): Promise<number> => {
      const id = await bench.engine.create(`${bench.instance}-open`, {
        Image: bench.image,
        Entrypoint: [`/app/probe/${name.replaceAll(' ', '_')}`],
        Labels: { 'io.hardshell.instance': bench.instance },
        HostConfig: { NetworkMode: 'none', SecurityOpt: ['seccomp=unconfined'] },
      })
      await bench.engine.start(id)
      const code = await bench.engine.wait(id)
      await bench.engine.remove(id)
      return code
    }
    for (const name of ['getpid', 'ptrace TRACEME', 'personality no ASLR']) {
      assert.equal(await outside(name), 0, name)
    }
    // EINVAL: the kernel looked at the arguments, so it did not refuse the call as such.
    assert.equal(await outside('clone3 without arguments'), 22)
  })
})
