/** Where no cell can be: each reason is one line that says what to do. */
import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { rmSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { suite, test } from 'node:test'
import { promisify } from 'node:util'
import { createAgent, type AgentDeps } from '../../src/agent/create.ts'
import { Engine } from '../../src/agent/engine.ts'
import { AuditList, openBench, tempDir } from '../support/engine.ts'
import { hardshell } from '../support/program.ts'

const deps: AgentDeps = {
  audit: new AuditList(),
  now: () => Date.now(),
  nodePath: process.execPath,
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
}

/** The message of a promise that must reject, which must be one line. */
async function lineOf(attempt: Promise<unknown>, code: string): Promise<string> {
  let message = ''
  await assert.rejects(attempt, (thrown: Error) => {
    message = thrown.message
    return 'code' in thrown && thrown.code === code
  })
  assert.ok(!message.includes('\n'), message)
  return message
}

suite('a machine on which no cell can be made', () => {
  const withDir = async (run: (dir: string) => Promise<void>) => {
    const dir = tempDir()
    try {
      await run(dir)
    } finally {
      rmSync(dir, { recursive: true, force: true })
    }
  }
  const create = (dir: string, socket: string) =>
    createAgent(
      {
        cell: { image: 'x', port: 8000 },
        instance: 'test-refusals',
        runDir: join(dir, 'run'),
        forbidden: [],
        engineSockets: [socket],
      },
      deps,
    )

  test('without an engine, one line says what to install and what else to do', async () => {
    await withDir(async (dir) => {
      const line = await lineOf(create(dir, join(dir, 'none.sock')), 'SANDBOX_UNAVAILABLE')
      assert.match(line, /none\.sock: install one \(.*docker\.io.*agent\.upstream/)
    })
  })

  test('where DOCKER_HOST names an engine that is away, no other one is used in its place', async () => {
    await withDir(async (dir) => {
      const settings = {
        cell: { image: 'x', port: 8000 },
        instance: 'test-refusals',
        runDir: join(dir, 'run'),
        forbidden: [],
      }
      const at = (host: string) =>
        createAgent(settings, { ...deps, engineEnv: { DOCKER_HOST: host } })
      const absent = join(dir, 'named.sock')
      const line = await lineOf(at(`unix://${absent}`), 'SANDBOX_UNAVAILABLE')
      assert.ok(line.includes(`no container engine answers at ${absent}: install one`), line)
      await lineOf(at('tcp://127.0.0.1:2375'), 'ENGINE_HOST')
    })
  })

  test('with something else behind the socket, one line says so', async () => {
    await withDir(async (dir) => {
      const socket = join(dir, 'web.sock')
      const server = createServer((_request, response) => response.end('OK'))
      await new Promise<void>((resolve) => server.listen(socket, () => resolve()))
      try {
        const line = await lineOf(create(dir, socket), 'SANDBOX_UNAVAILABLE')
        assert.match(line, /web\.sock answers, but not as a container engine/)
      } finally {
        server.close()
        server.closeAllConnections()
      }
    })
  })

  test('the demo tells what is wrong with an engine that is there, and installs none', async (t) => {
    await withDir(async (dir) => {
      const socket = join(dir, 'web.sock')
      const server = createServer((_request, response) => response.end('OK'))
      await new Promise<void>((resolve) => server.listen(socket, () => resolve()))
      try {
        const env = { HOME: dir, DOCKER_HOST: `unix://${socket}` }
        const { code, text } = await hardshell(t, ['demo', '--port', '0'], env)
        assert.equal(code, 1)
        assert.match(
          text,
          /^hardshell: [^\n]*web\.sock answers, but not as a container engine.*\n$/,
        )
      } finally {
        server.close()
        server.closeAllConnections()
      }
    })
  })

  test('with an engine that this user may not use, one line names the group', async () => {
    await withDir(async (dir) => {
      const socket = join(dir, 'denied.sock')
      // The child gives up root, if it has it, once its modules are loaded.
      const script = `
        import { createServer } from 'node:net'
        import { chmodSync } from 'node:fs'
        import { Engine } from ${JSON.stringify(join(import.meta.dirname, '../../src/agent/engine.ts'))}
        const server = createServer().listen(${JSON.stringify(socket)}, async () => {
          chmodSync(${JSON.stringify(socket)}, 0)
          if (process.getuid() === 0) { process.setgroups([]); process.setgid(65534); process.setuid(65534) }
          const engine = new Engine(${JSON.stringify(socket)})
          await engine.ping().catch((thrown) => console.log(thrown.code, thrown.message))
          await engine.close()
          server.close()
        })`
      const args = ['--input-type=module', '-e', script]
      const { stdout } = await promisify(execFile)(process.execPath, args, { timeout: 20_000 })
      assert.match(stdout, /^ENGINE_DENIED .*may not use .*usermod -aG docker.*\n$/)
    })
  })

  test('without the image, one line names it and the commands that bring it', async () => {
    const bench = await openBench()
    try {
      const agent = await bench.create({ image: 'my-bot:1.2' })
      const line = await lineOf(agent.start(), 'IMAGE_MISSING')
      assert.match(
        line,
        /my-bot:1\.2 .*"docker pull my-bot:1\.2".*"docker build -t my-bot:1\.2 \."/,
      )
      assert.equal(agent.state(), 'stopped')
      assert.deepEqual(await bench.containers(), [])
    } finally {
      await bench.close()
    }
  })

  test('with a folder too deep for a socket, one line names the variable to set', async () => {
    const bench = await openBench()
    try {
      const runDir = join(bench.dir, 'd'.repeat(100))
      const agent = await bench.create({}, { runDir })
      assert.match(await lineOf(agent.start(), 'POD_DIR'), /too long .*HARDSHELL_HOME/)
    } finally {
      await bench.close()
    }
  })
})

test('an engine that goes away during a call is told from one that is absent', async () => {
  const dir = tempDir()
  const socket = join(dir, 'e.sock')
  const server = createServer((request, response) => {
    if (request.url === '/_ping') response.writeHead(200, { 'api-version': '1.41' }).end('OK')
    else request.socket.destroy()
  })
  await new Promise<void>((resolve) => server.listen(socket, () => resolve()))
  const engine = new Engine(socket)
  try {
    assert.match(await lineOf(engine.info(), 'ENGINE_LOST'), /went away during a call/)
  } finally {
    await engine.close()
    server.close()
    server.closeAllConnections()
    rmSync(dir, { recursive: true, force: true })
  }
})
