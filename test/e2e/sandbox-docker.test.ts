/** The docker driver: what every driver holds, and what only an engine can get wrong. */
import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { DockerDriver } from '../../src/agent/docker.ts'
import { specOf } from '../../src/agent/sandbox.ts'
import { listenDeny } from '../../src/egress/deny.ts'
import { must } from '../support/images.ts'
import { sandboxContract, type DriverBench } from '../contract/sandbox.ts'
import { engineProxy } from '../support/engine-proxy.ts'
import {
  ask,
  engineSocket,
  inCell,
  openBench,
  until,
  untilReady,
  type Bench,
} from '../support/engine.ts'

function driverOf(bench: Bench): DockerDriver {
  return new DockerDriver(
    {
      engineSockets: [engineSocket],
      podRoot: join(bench.dir, 'run'),
      self: { uid: bench.deps.uid, gid: bench.deps.gid },
      nodePath: process.execPath,
      connections: 256,
      graceSeconds: 1,
    },
    {
      audit: bench.audit,
      openEgress: (socketPath, owner) =>
        listenDeny(owner === undefined ? { socketPath } : { socketPath, owner }, bench.deps),
    },
  )
}

sandboxContract('docker', async (): Promise<DriverBench> => {
  const bench = await openBench()
  const driver = driverOf(bench)
  const { instance } = bench
  return {
    driver,
    again: () => driverOf(bench),
    spec: (other) => ({
      ...specOf({ image: bench.image, port: 8000 }, { instance, cell: 'main', forbidden: [] }),
      ...other,
    }),
    close: async () => {
      await driver.close()
      await bench.close()
    },
  }
})

suite('a pod on a real engine', () => {
  let bench: Bench
  before(async () => {
    bench = await openBench()
  })
  after(() => bench.close())

  test('keeps its two sockets in a folder for nobody else', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const dir = join(bench.dir, 'run', 'pod-main')
    assert.equal(statSync(dir).mode & 0o777, 0o700)
    for (const name of ['in.sock', 'out.sock']) {
      const found = statSync(join(dir, name))
      assert.equal(found.mode & 0o777, 0o600, name)
      assert.equal(found.uid, statSync(dir).uid, name)
    }
    await agent.stop()
    assert.deepEqual(await bench.containers(), [])
    assert.ok(!existsSync(join(dir, 'out.sock')))
  })

  test('gives the agent its workspace and nothing beside it', async () => {
    const workspace = join(bench.dir, 'workspace')
    mkdirSync(workspace)
    // The agent's user is not the one that runs the tests.
    chmodSync(workspace, 0o777)
    chmodSync(bench.dir, 0o755)
    const agent = await bench.create({ workspace })
    await agent.start()
    await untilReady(agent)
    const code = `const fs = await load('node:fs'); fs.writeFileSync('${workspace}/note', 'from the cell')
      return fs.readdirSync('${bench.dir}')`
    assert.deepEqual(await inCell(agent.address, code), { value: ['workspace'] })
    assert.equal(readFileSync(join(workspace, 'note'), 'utf8'), 'from the cell')
    await agent.stop()
  })

  test('turns places that the image declares as volumes into bounded tmpfs', async () => {
    const image = `hardshell-test-volume:${process.pid}`
    const file = `FROM ${bench.image}\nVOLUME /data`
    await must('docker', ['build', '-q', '-t', image, '-'], { input: file })
    try {
      const agent = await bench.create({ image })
      await agent.start()
      await untilReady(agent)
      const code = `const fs = await load('node:fs'); fs.writeFileSync('/data/x', 'x')
        return fs.readFileSync('/proc/self/mountinfo', 'utf8').split('\\n').find((line) => line.includes(' /data '))`
      const { value } = await inCell(agent.address, code)
      assert.match(String(value), / \/data .*noexec.* - tmpfs tmpfs .*size=65536k/)
      await agent.stop()
    } finally {
      await bench.engine.removeImage(image)
    }
  })

  test('refuses a workspace that is reached through a symbolic link', async () => {
    const link = join(bench.dir, 'link')
    symlinkSync('/etc', link)
    await assert.rejects(bench.create({ workspace: link }), { code: 'WORKSPACE' })
    await assert.rejects(bench.create({ workspace: join(link, 'ssl') }), { code: 'WORKSPACE' })
  })

  test('refuses a workspace that would show our own folders or the engine', async () => {
    mkdirSync(join(bench.dir, 'state', 'deep'), { recursive: true })
    const places = [join(bench.dir, 'state'), join(bench.dir, 'state', 'deep'), bench.dir]
    for (const workspace of [...places, '/', '/proc', '/sys', '/run', '/var/run', '/etc']) {
      await assert.rejects(bench.create({ workspace }), { code: 'WORKSPACE' }, workspace)
    }
  })
})

suite('an engine that makes another container than it was asked for', () => {
  let bench: Bench
  before(async () => {
    bench = await openBench()
  })
  after(() => bench.close())

  type Host = Record<string, unknown>
  const alterations: Readonly<Record<string, { field: string; alter: (host: Host) => void }>> = {
    'an added capability': { field: 'CapAdd', alter: (host) => (host['CapAdd'] = ['NET_ADMIN']) },
    'all privileges': { field: 'Privileged', alter: (host) => (host['Privileged'] = true) },
    'a writable root': {
      field: 'ReadonlyRootfs',
      alter: (host) => (host['ReadonlyRootfs'] = false),
    },
    'a folder of the machine': {
      field: 'Binds',
      alter: (host) => (host['Binds'] = ['/etc:/host:ro']),
    },
    'no seccomp profile': {
      field: 'SecurityOpt',
      alter: (host) => (host['SecurityOpt'] = ['no-new-privileges:true', 'seccomp=unconfined']),
    },
    'no memory limit': {
      field: 'Memory',
      alter: (host) => {
        host['Memory'] = 0
        host['MemorySwap'] = 0
      },
    },
    'the process list of the machine': {
      field: 'PidMode',
      alter: (host) => (host['PidMode'] = 'host'),
    },
    'an extra group': { field: 'GroupAdd', alter: (host) => (host['GroupAdd'] = ['0']) },
    'nothing hidden in /proc': {
      field: 'MaskedPaths',
      alter: (host) => (host['MaskedPaths'] = []),
    },
  }
  for (const [what, { field, alter }] of Object.entries(alterations)) {
    for (const role of ['portal', 'agent'] as const) {
      test(`has the ${role} with ${what} removed at once, and the log says so`, async () => {
        const proxy = await engineProxy(join(bench.dir, 'e.sock'), (name, body) => {
          if (name.endsWith(`-${role}`)) alter(body['HostConfig'] as Host)
        })
        bench.audit.entries.length = 0
        const agent = await bench.create({}, { engineSockets: [proxy.socketPath] })
        try {
          await agent.start()
          await until('it is noticed', () => bench.audit.of('agent.failed').length > 0)
          const because = bench.audit.of('sandbox.mismatch')[0]?.because ?? ''
          assert.ok(because.startsWith(`${role} created: `), because)
          assert.ok(because.includes(field), because)
          assert.notEqual(agent.state(), 'ready')
          assert.match(
            (await agent.status()).because ?? '',
            /made another .* container than it was asked/,
          )
          assert.deepEqual(bench.audit.of('agent.started'), [])
          await assert.rejects(ask(agent.address, '/'))
        } finally {
          await agent.stop()
          await proxy.close()
        }
        assert.deepEqual(await bench.containers(), [])
      })
    }
  }
})
