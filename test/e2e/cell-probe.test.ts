/** `security audit --deep` looks into the cell that runs: every fact measured, on a sound cell and on careless ones. */
import assert from 'node:assert/strict'
import { after, before, suite, test, type TestContext } from 'node:test'
import { fieldOf } from '../../src/agent/json.ts'
import { twinLabel, twinUntilLabel } from '../../src/agent/twin.ts'
import { askCells, instanceOf } from '../../src/posture/cell.ts'
import { cellChecks } from '../../src/posture/checks-cell.ts'
import type { Look } from '../../src/posture/check.ts'
import type { PostureContext } from '../../src/posture/context.ts'
import { cli } from '../support/cli.ts'
import { goodToken } from '../support/config-load.ts'
import { engineSocket, openBench, until, untilReady, type Bench } from '../support/engine.ts'
import { must } from '../support/images.ts'
import { configWith, contextWith } from '../support/posture.ts'
import { entry, homeWith, start } from '../support/program.ts'

const instanceLabel = 'io.hardshell.instance'
const sandbox = { docker: { memory: 256 * 1024 ** 2, pidsLimit: 256 } }
const config = configWith({ agents: { defaults: { sandbox } } })

suite('the cell that runs', () => {
  let bench: Bench
  before(async () => {
    bench = await openBench()
  })
  after(() => bench.close())

  const ask = (instance: string, sockets = [engineSocket]): Promise<PostureContext['cells']> =>
    askCells({
      instance,
      engineSockets: sockets,
      nodePath: process.execPath,
      now: Date.now(),
    })
  const twins = (instance: string) => bench.engine.list({ [twinLabel]: instance })

  /** What each check of the cell says, by the last part of its id. */
  const said = (cells: PostureContext['cells']): Readonly<Record<string, Look>> =>
    Object.fromEntries(
      cellChecks.map(({ id, look }) => [
        id.replace('sandbox.cell-', ''),
        look(contextWith({ cells, config })),
      ]),
    )
  const words = (look: Look | undefined) =>
    look === undefined || 'unmeasured' in look ? '' : look.map(({ found }) => found).join('; ')

  /** A container that says it is our agent and is nothing of the kind. */
  const careless = async (instance: string, over: object, body: object = {}): Promise<string> => {
    const id = await bench.engine.create(`hardshell-${instance}-agent`, {
      Image: bench.image,
      Entrypoint: ['/usr/local/bin/node', '-e', 'setTimeout(() => {}, 300000)'],
      Cmd: [],
      User: '1000:1000',
      Labels: { [instanceLabel]: instance, 'io.hardshell.role': 'agent' },
      ...body,
      HostConfig: { NetworkMode: 'none', Init: true, ...over },
    })
    await bench.engine.start(id)
    return id
  }

  test('of an agent in our cell every fact is measured, and nothing is found', async () => {
    const agent = await bench.create()
    await agent.start()
    await untilReady(agent)
    const cells = await ask(bench.instance)
    for (const [name, look] of Object.entries(said(cells))) assert.deepEqual(look, [], name)
    const [cell] = 'value' in cells ? cells.value : []
    assert.ok(cell !== undefined && 'value' in cell.running && 'value' in cell.twin)
    assert.ok(cell.running.value.processes.length >= 2, 'the init and the agent')
    assert.deepEqual(await twins(bench.instance), [])
    assert.equal(agent.state(), 'ready')
  })

  test('a process that was put into the running cell from outside is seen, whatever the cell was made like', async () => {
    const [agent] = (await bench.containers()).filter(
      ({ labels }) => labels['io.hardshell.role'] === 'agent',
    )
    const sleep = ['/usr/local/bin/node', '-e', 'setTimeout(() => {}, 60000)']
    const options = ['exec', '--detach', '--user', '0:0', agent?.id ?? '']
    await must('docker', [...options, ...sleep])
    const found = said(await ask(bench.instance))
    assert.match(words(found['user']), /^\S+: process \d+ \(\S+\) is root$/)
    assert.deepEqual(found['system-calls'], [], 'the cell itself is as it was made')
    assert.deepEqual(found['writable'], [])
  })

  test('a cell with every fault is found in every check', async () => {
    const instance = `${bench.instance}-a`.slice(0, 40)
    const id = await careless(
      instance,
      {
        CapAdd: ['SYS_ADMIN', 'NET_ADMIN'],
        SecurityOpt: ['seccomp=unconfined'],
        Devices: [
          { PathOnHost: '/dev/null', PathInContainer: '/dev/strange', CgroupPermissions: 'rwm' },
        ],
        NetworkMode: 'host',
        UTSMode: 'host',
        Binds: [`${engineSocket}:/var/run/docker.sock`, `${bench.dir}:/data`],
        Tmpfs: { '/tmp': 'rw,exec,size=16m,mode=1777' },
      },
      { User: '0:0' },
    )
    try {
      const found = said(await ask(instance))
      for (const { id: check } of cellChecks) {
        const name = check.replace('sandbox.cell-', '')
        assert.ok(words(found[name]).length > 0, `${name}: ${JSON.stringify(found[name])}`)
      }
      assert.match(words(found['engine-socket']), /docker\.sock/)
      assert.match(words(found['mounts']), /\/data/)
      assert.match(words(found['namespaces']), /net, uts/)
      assert.match(words(found['writable']), /\/etc/)
      assert.match(words(found['executable']), /\/tmp/)
      assert.match(words(found['system-calls']), /mount nothing/)
    } finally {
      await bench.engine.remove(id)
    }
    assert.deepEqual(await twins(instance), [])
  })

  const tight = {
    ReadonlyRootfs: true,
    CgroupnsMode: 'private',
    CapDrop: ['ALL'],
    SecurityOpt: ['no-new-privileges:true'],
    Memory: 128 * 1024 ** 2,
    PidsLimit: 64,
    Tmpfs: { '/tmp': 'rw,noexec,nosuid,nodev,size=16m,mode=1777' },
  }
  /** What a container has that is almost a cell, and which checks must say so; all others are quiet. */
  const almost: Readonly<Record<string, { over: object; finds: readonly string[] }>> = {
    'nothing but the filter of the engine': { over: {}, finds: ['system-calls'] },
    'no filter at all': {
      over: { SecurityOpt: ['no-new-privileges:true', 'seccomp=unconfined'] },
      finds: ['seccomp', 'system-calls'],
    },
    'a network': { over: { NetworkMode: 'bridge' }, finds: ['network', 'system-calls'] },
    'one capability, which its user may not use': {
      over: { CapAdd: ['NET_ADMIN'] },
      finds: ['capabilities', 'system-calls'],
    },
    'no bound of its processes': { over: { PidsLimit: 0 }, finds: ['limits', 'system-calls'] },
    'setuid programs': {
      over: { SecurityOpt: [] },
      finds: ['new-privileges', 'system-calls'],
    },
    'the names of this machine': {
      over: { PidMode: 'host', UTSMode: 'host' },
      finds: ['namespaces', 'system-calls'],
    },
  }
  for (const [name, { over, finds }] of Object.entries(almost)) {
    test(`a cell with ${name} is found by just the checks that look at it`, async () => {
      const instance = `${bench.instance}-b`.slice(0, 40)
      const id = await careless(instance, { ...tight, ...over })
      try {
        const found = said(await ask(instance))
        const fired = Object.keys(found).filter((check) => words(found[check]) !== '')
        assert.deepEqual(fired.toSorted(), [...finds].toSorted(), JSON.stringify(found))
        for (const [check, look] of Object.entries(found)) assert.ok(!('unmeasured' in look), check)
      } finally {
        await bench.engine.remove(id)
      }
    })
  }

  test('the twin holds neither the variables of the agent nor a folder that it could write', async () => {
    const instance = `${bench.instance}-c`.slice(0, 40)
    const binds = { Binds: [`${bench.dir}:/data`], ...tight }
    const id = await careless(instance, binds, { Env: ['API_KEY=planted-in-the-agent'] })
    try {
      const asked = ask(instance)
      let twin: unknown
      while (twin === undefined) {
        const [first] = await twins(instance)
        if (first !== undefined) twin = await bench.engine.inspect(first.id)
      }
      assert.ok(!JSON.stringify(twin).includes('planted-in-the-agent'))
      assert.deepEqual(fieldOf(twin, 'HostConfig', 'Binds'), [`${bench.dir}:/data:ro`])
      await asked
    } finally {
      await bench.engine.remove(id)
    }
  })

  test('a twin that was never started is gone after the next look, and one of just now is left', async () => {
    const instance = `${bench.instance}-d`.slice(0, 40)
    const id = await careless(instance, tight)
    const left = (until: number) =>
      bench.engine.create(`hardshell-${instance}-twin-${until}`, {
        Image: bench.image,
        Labels: { [twinLabel]: instance, [twinUntilLabel]: String(until) },
      })
    const seconds = Math.floor(Date.now() / 1000)
    await left(seconds - 1)
    const young = await left(seconds + 60)
    try {
      await ask(instance)
      assert.deepEqual(
        (await twins(instance)).map((one) => one.id),
        [young],
      )
    } finally {
      await bench.engine.remove(id)
      await bench.engine.remove(young)
    }
  })

  test('without an engine, and without a running cell, nothing is measured', async () => {
    for (const [cells, because] of [
      [await ask('nobody', ['/nowhere/docker.sock']), /no container engine/],
      [await ask('nobody'), /no agent of ours runs/],
    ] as const) {
      for (const look of Object.values(said(cells))) {
        assert.match('unmeasured' in look ? look.unmeasured : '', because)
      }
    }
  })
})

suite('security audit --deep on a home', () => {
  let bench: Bench
  before(async () => {
    bench = await openBench()
  })
  after(() => bench.close())

  /** A home whose agent is the one of the tests; `serve` starts it. */
  const homeOf = (t: TestContext) =>
    homeWith(t, {
      gateway: { port: 0, auth: { token: goodToken } },
      agent: { image: bench.image, port: 8000, healthPath: '/health' },
    })
  /** Runs something while the home is served. */
  const served = async (t: TestContext, use: (home: string) => Promise<void>) => {
    const home = homeOf(t)
    const program = start(t, [entry, 'serve'], { HARDSHELL_HOME: home })
    try {
      await program.said(/listens on/)
      const ready = async () => (await cli(home, ['agent', 'status'])).code === 0
      await until('the agent is ready', ready)
      await use(home)
    } finally {
      // Not left to the hook that kills it: then the cell would stay.
      program.child.kill('SIGTERM')
      await program.ended()
    }
  }
  const twins = (home: string) => bench.engine.list({ [twinLabel]: instanceOf(home) })
  const gone = (home: string) =>
    until('the twin is gone', async () => (await twins(home)).length === 0)

  test('every check of the cell passes, and is only made when it is asked for', (t) =>
    served(t, async (home) => {
      const of = async (...options: readonly string[]) => {
        const { out } = await cli(home, ['security', 'audit', '--json', ...options])
        const { results } = JSON.parse(out) as { results: { id: string; status: string }[] }
        return results.filter(({ id }) => id.startsWith('sandbox.cell-'))
      }
      for (const { id, status } of await of('--deep')) assert.equal(status, 'pass', id)
      const plain = await of()
      assert.equal(plain.length, cellChecks.length)
      for (const { id, status } of plain) assert.equal(status, 'not measured', id)
      assert.deepEqual(await twins(home), [])
    }))

  for (const signal of ['SIGINT', 'SIGTERM', 'SIGKILL'] as const) {
    test(`an audit that is ended by ${signal} leaves no twin behind`, (t) =>
      served(t, async (home) => {
        const audit = start(t, [entry, 'security', 'audit', '--deep'], { HARDSHELL_HOME: home })
        await until('the twin runs', async () => (await twins(home)).some(({ running }) => running))
        audit.child.kill(signal)
        await audit.ended()
        if (signal !== 'SIGKILL') {
          assert.deepEqual(await twins(home), [])
          assert.match(audit.text(), /the audit was broken off \[INTERRUPTED\]/)
        }
        await gone(home)
      }))
  }
})
