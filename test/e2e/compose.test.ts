/** compose.yaml and deploy/compose.existing-bot.yaml, run for real with docker-compose. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  baseImage,
  copyOfCheckout,
  ensureExampleAgentImage,
  ensureHardshellImage,
  exampleAgentImage,
  hardshellImage,
  must,
  run,
} from '../support/images.ts'
import { plant } from '../support/secrets.ts'

/** A request of a test; the token is added. */
interface Asked {
  readonly method?: string
  readonly body?: string
  readonly headers?: Readonly<Record<string, string>>
}

/** A compose project of this test: its own checkout, name, port, images and secrets. */
interface Project {
  readonly url: string
  readonly token: string
  compose(...args: readonly string[]): Promise<string>
  /** What the engine says about the one container of a service. */
  inspect(service: string, format: string): Promise<unknown>
  /** Runs JavaScript inside the container of a service and returns what it printed. */
  inside(service: string, script: string): Promise<string>
  get(path: string, init?: Asked): Promise<Response>
  stop(): Promise<void>
}

let projects = 0

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function project(
  file: string,
  folder: string,
  settings: Record<string, string> = {},
): Promise<Project> {
  const copy = await copyOfCheckout()
  const port = await freePort()
  projects += 1
  const env = {
    COMPOSE_PROJECT_NAME: `hardshelltest${process.pid}x${projects}`,
    HARDSHELL_PORT: String(port),
    HARDSHELL_BASE: baseImage,
    HARDSHELL_IMAGE: hardshellImage,
    HARDSHELL_AGENT_IMAGE: exampleAgentImage,
    ...settings,
  }
  const cwd = join(copy.dir, folder)
  const compose = (...args: readonly string[]) =>
    must('docker-compose', ['-f', file, ...args], { cwd, env })
  await must('sh', ['deploy/secrets.sh'], { cwd: copy.dir })
  const text = await readFile(join(copy.dir, 'deploy/secrets/token'), 'utf8')
  const token = plant('gateway token', 'of compose.yaml', text.trim())
  const url = `http://127.0.0.1:${port}`
  const get = (path: string, init: Asked = {}) =>
    fetch(`${url}${path}`, {
      signal: AbortSignal.timeout(20_000),
      ...init,
      headers: { authorization: `Bearer ${token}`, ...init.headers },
    })
  const ids = new Map<string, string>()
  const made: Project = {
    url,
    token,
    compose,
    get,
    inspect: async (service, format) => {
      const id = ids.get(service) ?? (await compose('ps', '-q', service)).trim()
      ids.set(service, id)
      const said: unknown = JSON.parse(
        await must('docker', ['inspect', '--format', `{{json ${format}}}`, id]),
      )
      return said
    },
    inside: async (service, script) =>
      (await compose('exec', '-T', service, 'node', '-e', script)).trim(),
    stop: async () => {
      await compose('down', '--volumes', '--remove-orphans', '--timeout', '5')
      await copy.remove()
    },
  }
  try {
    await compose('up', '-d')
    await until(
      async () => (await get('/')).status === 200,
      `${url}/ answers 200`,
      () => compose('logs', '--tail', '40'),
    )
  } catch (error) {
    await made.stop()
    throw error
  }
  return made
}

/** Asks again until it holds, at most 90 s; a refused connection is a no. */
async function until(
  holds: () => Promise<boolean>,
  what: string,
  explain: () => Promise<string>,
): Promise<void> {
  const deadline = performance.now() + 90_000
  let last: unknown
  while (performance.now() < deadline) {
    try {
      if (await holds()) return
      last = undefined
    } catch (error) {
      last = error
    }
    await sleep(500)
  }
  throw new Error(`waited 90 s in vain: ${what}\n${String(last)}\n${await explain()}`)
}

describe('compose.yaml with docker-compose', { concurrency: 1 }, () => {
  let up: Project
  before(async () => {
    await ensureHardshellImage()
    await ensureExampleAgentImage()
    up = await project('compose.yaml', '.')
  })
  after(() => up.stop())

  test('carries requests to the agent for whoever has the token, and for nobody else', async () => {
    const echoed = await up.get('/echo', { method: 'POST', body: 'hello' })
    assert.equal(echoed.status, 200)
    assert.equal(await echoed.text(), 'hello')
    assert.equal((await up.get('/', { headers: { authorization: '' } })).status, 401)
  })

  test('publishes one port, of Hardshell, on 127.0.0.1', async () => {
    const ports = await Promise.all(
      ['hardshell', 'portal', 'agent'].map((service) =>
        up.inspect(service, '.HostConfig.PortBindings'),
      ),
    )
    const port = new URL(up.url).port
    assert.deepEqual(ports[0], { '8080/tcp': [{ HostIp: '127.0.0.1', HostPort: port }] })
    assert.deepEqual(
      ports.slice(1).map((bindings) => JSON.stringify(bindings ?? {})),
      ['{}', '{}'],
    )
  })

  for (const service of ['hardshell', 'portal', 'agent']) {
    test(`gives ${service} no rights, no engine socket, and bounds`, async () => {
      const host = Object(await up.inspect(service, '.HostConfig')) as Record<string, unknown>
      assert.equal(host['ReadonlyRootfs'], true)
      assert.equal(host['Privileged'], false)
      assert.equal(host['Init'], true)
      assert.deepEqual(host['CapDrop'], ['ALL'])
      assert.ok(!Array.isArray(host['CapAdd']) || host['CapAdd'].length === 0)
      assert.match(JSON.stringify(host['SecurityOpt']), /"no-new-privileges:true"/)
      for (const bound of ['Memory', 'MemorySwap', 'PidsLimit', 'NanoCpus'])
        assert.ok(Number(host[bound]) > 0, bound)
      const mounts = JSON.stringify(await up.inspect(service, '.Mounts'))
      assert.doesNotMatch(mounts, /docker\.sock|containerd|podman/)
      const status = await up.inside(
        service,
        `const read = (name) => new RegExp('^' + name + ':\\\\s*(\\\\S+)', 'm').exec(require('node:fs').readFileSync('/proc/self/status', 'utf8'))[1]
         console.log(['Uid', 'CapEff', 'CapBnd', 'NoNewPrivs', 'Seccomp'].map(read).join(' '))`,
      )
      assert.equal(status, '1000 0000000000000000 0000000000000000 1 2')
    })
  }

  test('shows the token to the agent nowhere, and to the engine nowhere', async () => {
    for (const service of ['hardshell', 'portal', 'agent']) {
      assert.ok(!JSON.stringify(await up.inspect(service, '.')).includes(up.token), service)
    }
    assert.equal(
      await up.inside('agent', `console.log(require('node:fs').existsSync('/run/secrets'))`),
      'false',
    )
  })

  test('leaves the agent no way out: no route, no name, no door, nothing to write but /tmp', async () => {
    assert.deepEqual(await up.inspect('agent', '.Mounts'), [])
    const seen: unknown = JSON.parse(
      await up.inside(
        'agent',
        `const { readFileSync, writeFileSync, existsSync } = require('node:fs')
         const { connect } = require('node:net')
         const { lookup } = require('node:dns')
         const { networkInterfaces } = require('node:os')
         const dial = (host, port) => new Promise((resolve) => {
           const socket = connect({ host, port, timeout: 3000 }, () => resolve('connected'))
           socket.on('timeout', () => { socket.destroy(); resolve('timeout') })
           socket.on('error', (error) => resolve(error.code))
         })
         const write = (path) => { try { writeFileSync(path, 'x'); return 'written' } catch (error) { return error.code } }
         const name = new Promise((resolve) => lookup('example.com', (error) => resolve(error === null ? 'found' : 'not found')))
         Promise.all([dial('169.254.169.254', 80), dial('172.17.0.1', 80), dial('192.0.2.1', 443), name]).then((network) =>
           console.log(JSON.stringify({
             network, interfaces: Object.keys(networkInterfaces()), routes: readFileSync('/proc/net/route', 'utf8').trim().split('\\n').length - 1,
             door: existsSync('/portal'), writes: ['/agent/x', '/etc/x', '/x', '/dev/mqueue/x', '/tmp/x'].map(write),
           })))`,
      ),
    )
    assert.deepEqual(seen, {
      network: ['ENETUNREACH', 'ENETUNREACH', 'ENETUNREACH', 'not found'],
      interfaces: ['lo'],
      routes: 0,
      door: false,
      writes: ['EROFS', 'EROFS', 'EROFS', 'EMFILE', 'written'],
    })
  })

  test('answers 502 or 503 while a killed agent is away, and serves again when it is back', async () => {
    const pid = Number(await up.inspect('agent', '.State.Pid'))
    assert.ok(pid > 1)
    process.kill(pid, 'SIGKILL')
    await until(
      async () => {
        const { status } = await up.get('/')
        assert.ok([200, 429, 502, 503].includes(status), `answered ${status}`)
        return status === 200 && Number(await up.inspect('agent', '.State.Pid')) !== pid
      },
      'the agent is back',
      () => up.compose('logs', '--tail', '40'),
    )
  })

  test('passes every check of verify.sh, twice in a row', async () => {
    for (let round = 1; round <= 2; round++) {
      const ran = await run('sh', ['deploy/verify.sh', up.url], {
        env: { HARDSHELL_TOKEN: up.token },
      })
      assert.equal(ran.code, 0, `round ${round}:\n${ran.stdout}${ran.stderr}`)
      assert.doesNotMatch(ran.stdout, /^(FAIL|SKIP)/m)
    }
  })

  test('keeps an audit log that verifies', async () => {
    const said = await up.compose(
      'exec',
      '-T',
      'hardshell',
      'node',
      '/app/dist/main.js',
      'audit',
      'verify',
    )
    assert.match(said, /\S/)
  })

  test('says that it is healthy', async () => {
    await until(
      async () => (await up.inspect('hardshell', '.State.Health.Status')) === 'healthy',
      'healthy',
      () => up.compose('ps'),
    )
  })
})

describe('compose.existing-bot.yaml with docker-compose', { concurrency: 1 }, () => {
  const botImage = `hardshell-test-bot:${process.pid}`
  let up: Project
  before(async () => {
    await ensureHardshellImage()
    await ensureExampleAgentImage()
    // A bot that refuses any request with a forwarding header, as OpenClaw does.
    await must('docker', ['build', '--force-rm', '-t', botImage, '-'], {
      input: `FROM ${exampleAgentImage}\nENV REFUSE_FORWARDED=1 PORT=3000\n`,
    })
    up = await project('compose.existing-bot.yaml', 'deploy', {
      BOT_IMAGE: botImage,
      BOT_PORT: '3000',
    })
  })
  after(async () => {
    await up.stop()
    await must('docker', ['image', 'rm', '--force', botImage])
  })

  test('carries requests to a bot that refuses every forwarding header', async () => {
    const echoed = await up.get('/echo', {
      method: 'POST',
      body: 'hi',
      headers: { 'x-forwarded-for': '192.0.2.1' },
    })
    assert.equal(echoed.status, 200)
    assert.equal(await echoed.text(), 'hi')
  })

  test('leaves the bot no network and no port of its own', async () => {
    assert.match(
      String(await up.inspect('bot', '.HostConfig.NetworkMode')),
      /^container:[0-9a-f]{64}$/,
    )
    assert.deepEqual(await up.inspect('portal', '.HostConfig.NetworkMode'), 'none')
    assert.deepEqual((await up.inspect('bot', '.HostConfig.PortBindings')) ?? {}, {})
    assert.match(JSON.stringify(await up.inspect('bot', '.HostConfig.SecurityOpt')), /seccomp=/)
  })
})
