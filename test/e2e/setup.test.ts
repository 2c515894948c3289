/** deploy/setup.sh where it has nothing to do, and where it cannot do it. */
import assert from 'node:assert/strict'
import { chmod, mkdtemp, rm, symlink } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { run } from '../support/images.ts'

const setup = (parts: readonly string[], env: Record<string, string> = {}) =>
  run('sh', ['deploy/setup.sh', ...parts], { env })

describe('deploy/setup.sh', { concurrency: 1 }, () => {
  let dir = ''
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'hardshell-setup-'))
    await chmod(dir, 0o755)
  })
  after(() => rm(dir, { recursive: true, force: true }))

  test('has nothing to do when the engine answers, also for four callers at once', async () => {
    const all = await Promise.all([1, 2, 3, 4].map(() => setup(['engine', 'compose'])))
    for (const ran of all) {
      assert.equal(ran.code, 0, ran.stderr)
      assert.equal(ran.stdout, 'setup: ready: engine compose\n')
    }
  })

  test('believes an answer to _ping and nothing else', async () => {
    const socket = join(dir, 'engine.sock')
    const server = createServer((request, response) =>
      response.end(request.url === '/_ping' ? 'OK' : ''),
    )
    await new Promise<void>((resolve) => server.listen(socket, resolve))
    const ran = await setup(['engine'], { DOCKER_HOST: `unix://${socket}` })
    await new Promise((resolve) => server.close(resolve))
    assert.equal(ran.code, 0, ran.stderr)
  })

  test('says which parts there are when it is asked for none, or for an unknown one', async () => {
    for (const parts of [[], ['engine', 'sandwich']]) {
      const ran = await setup(parts)
      assert.equal(ran.code, 2)
      assert.match(
        ran.stderr,
        /^setup: [^\n]*engine, compose, redis, chromium, bubblewrap, bench or all\.\n$/,
      )
    }
  })

  test('refuses an engine that is not behind a Unix socket, on one line', async () => {
    const ran = await setup(['engine'], { DOCKER_HOST: 'tcp://192.0.2.1:2375' })
    assert.equal(ran.code, 1)
    assert.match(
      ran.stderr,
      /^setup: DOCKER_HOST=tcp:\/\/192\.0\.2\.1:2375 is not a Unix socket: [^\n]*\n$/,
    )
  })

  test('tells a user without rights what to install, on one line, and changes nothing', async () => {
    // A machine without the packages: a PATH with the tools of the script and no others.
    const bin = join(dir, 'bin')
    await run('mkdir', [bin])
    for (const tool of ['sh', 'id', 'sort', 'tr', 'cut']) {
      await symlink((await run('sh', ['-c', `command -v ${tool}`])).stdout.trim(), join(bin, tool))
    }
    const setpriv = (await run('sh', ['-c', 'command -v setpriv'])).stdout.trim()
    const ran = await run(
      setpriv,
      [
        '--reuid=65534',
        '--regid=65534',
        '--clear-groups',
        'sh',
        'deploy/setup.sh',
        'engine',
        'compose',
      ],
      { env: { PATH: `${bin}:/usr/sbin/none`, DOCKER_HOST: `unix://${join(dir, 'absent.sock')}` } },
    )
    assert.equal(ran.code, 1, ran.stdout)
    assert.match(
      ran.stderr,
      /^setup: missing: as root run: apt-get install --no-install-recommends [^\n]*docker-compose docker\.io[^\n]*\n$/,
    )
  })
})
