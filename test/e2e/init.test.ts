/** `init` in each of its forms, as real processes, and what the security audit says of the home untouched. */
import assert from 'node:assert/strict'
import { spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import type { Report } from '../../src/posture/report.ts'
import { neighboursAt } from '../../src/posture/neighbour.ts'
import { startAgent } from '../support/agent.ts'
import { entry, hardshell, removeAfter, start } from '../support/program.ts'

function userFolder(t: TestContext): string {
  const user = mkdtempSync(join(tmpdir(), 'hs-user-'))
  removeAfter(t, user)
  return user
}

async function audit(t: TestContext, user: string, ...options: string[]) {
  const env = { HOME: user }
  const { code, text } = await hardshell(t, ['security', 'audit', '--json', ...options], env)
  const report = JSON.parse(text) as Report
  const fired = report.results.filter(({ status }) => status === 'finding')
  const grave = fired.filter(({ severity }) => ['CRITICAL', 'HIGH'].includes(severity))
  const findings = fired.map(({ id }) => id)
  return { code, report, findings, grave: grave.map(({ id }) => id) }
}

/** A program that listens on the socket it is given. */
const listen = `require('node:net').createServer().listen(process.argv[1])`

async function appears(path: string, child: ChildProcess): Promise<void> {
  for (const deadline = performance.now() + 20_000; !existsSync(path);) {
    assert.ok(performance.now() < deadline && child.exitCode === null, 'the agent did not start')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

/** Every form of `init`; with an agent that Hardshell does not launch the missing sandbox is told, as HIGH. */
const forms: readonly { readonly args: readonly string[]; readonly grave: readonly string[] }[] = [
  { args: [], grave: ['sandbox.not-applied'] },
  { args: ['--upstream', 'http://127.0.0.1:1'], grave: ['sandbox.not-applied'] },
  { args: ['--upstream', 'http://localhost:1/'], grave: ['sandbox.not-applied'] },
  { args: ['--upstream', 'http://[::1]:1'], grave: ['sandbox.not-applied'] },
  { args: ['--upstream', 'unix:/run/bot.sock'], grave: ['sandbox.not-applied'] },
  { args: ['--upstream', 'http://bot:18789'], grave: ['sandbox.not-applied'] },
  { args: ['--image', 'my-bot:1'], grave: [] },
  { args: ['--image', `registry.example/my-bot@sha256:${'0'.repeat(64)}`], grave: [] },
]

for (const { args, grave } of forms) {
  test(`init ${args.join(' ')} scores 95 or more untouched`, async (t) => {
    const user = userFolder(t)
    const made = await hardshell(t, ['init', ...args], { HOME: user })
    assert.equal(made.code, 0, made.text)
    const { code, report, ...found } = await audit(t, user, '--min-score', '95')
    assert.ok(report.score >= 95, `${report.score}: ${found.findings.join(' ')}`)
    assert.equal(code, 0)
    assert.deepEqual(found.grave, grave)
    assert.equal(report.grade, grave.length === 0 ? 'A' : 'B')
  })
}

test('the home of init still scores 95 or more while Hardshell runs from it', async (t) => {
  const user = userFolder(t)
  // Nothing listens on port 1, so nothing of the agent is seen.
  await hardshell(t, ['init', '--upstream', 'http://127.0.0.1:1'], { HOME: user })
  const file = join(user, '.hardshell', 'config.json5')
  writeFileSync(file, readFileSync(file, 'utf8').replace('port: 8080', 'port: 0'))
  const program = start(t, [entry, 'serve'], { HOME: user })
  await program.said(/listens on http:/)
  const { report, findings, grave } = await audit(t, user, '--deep')
  assert.ok(report.score >= 95, `${report.score}: ${findings.join(' ')}`)
  assert.deepEqual(grave, ['sandbox.not-applied'])
})

test('a careless agent that init is pointed at costs in full: on the network, or reached over one', async (t) => {
  const open = createServer().listen(0, '0.0.0.0')
  t.after(() => open.close())
  await once(open, 'listening')
  const { port } = open.address() as AddressInfo
  for (const [upstream, id] of [
    [`http://127.0.0.1:${port}`, 'agent.reachable-around'],
    ['http://192.0.2.7:18789', 'agent.upstream-remote'],
  ] as const) {
    const user = userFolder(t)
    await hardshell(t, ['init', '--upstream', upstream], { HOME: user })
    const { report, grave } = await audit(t, user)
    assert.ok(grave.includes(id), id)
    assert.ok(report.score <= 86, String(report.score))
  }
})

test('the sandbox switched off is CRITICAL whoever launches the agent', async (t) => {
  const user = userFolder(t)
  await hardshell(t, ['init'], { HOME: user })
  const file = join(user, '.hardshell', 'config.json5')
  const text = readFileSync(file, 'utf8')
  const off = text.replace(
    '  agent: {',
    '  agents: { defaults: { sandbox: { mode: "off" } } },\n$&',
  )
  writeFileSync(file, off)
  const { report, grave } = await audit(t, user)
  assert.deepEqual(grave, ['sandbox.off'])
  assert.ok(report.score <= 49, String(report.score))
})

test('an agent that runs as our user and sees our home is found, by port and by socket', async (t) => {
  const user = userFolder(t)
  const agent = await startAgent()
  t.after(() => agent.stop())
  await hardshell(t, ['init', '--upstream', agent.url], { HOME: user })
  const { report, grave } = await audit(t, user)
  assert.deepEqual(grave, ['sandbox.not-applied', 'agent.reads-our-files'])
  const found = report.results.find(({ id }) => id === 'agent.reads-our-files')?.findings ?? []
  assert.match(found[0]?.found ?? '', new RegExp(`^node \\(process ${process.pid}\\)`))
  const path = join(user, 'bot.sock')
  const server = createServer().listen(path)
  t.after(() => server.close())
  await once(server, 'listening')
  await hardshell(t, ['init', '--upstream', `unix:${path}`], {
    HOME: user,
    HARDSHELL_HOME: join(user, 'other'),
  })
  const beside = neighboursAt(`unix:${path}`, join(user, 'other'), process.getuid?.() ?? -1)
  assert.deepEqual('value' in beside ? beside.value.map(({ pid }) => pid) : beside, [process.pid])
})

test('an agent of our user that has another view of the files is no finding', async (t) => {
  const home = join(userFolder(t), 'home')
  mkdirSync(home)
  const path = join(home, '..', 'bot.sock')
  // As an ordinary user the new mount namespace needs a user namespace, which keeps the user it has outside.
  const spaces = process.getuid?.() === 0 ? ['--mount'] : ['--user', '--map-root-user', '--mount']
  const script = 'mount -t tmpfs tmpfs "$1" && exec "$2" -e "$3" "$4"'
  const argv = [...spaces, 'sh', '-c', script, 'sh', home, process.execPath, listen, path]
  const child = spawn('unshare', argv, { stdio: 'inherit' })
  t.after(() => child.kill('SIGKILL'))
  await appears(path, child)
  assert.deepEqual(neighboursAt(`unix:${path}`, home, process.getuid?.() ?? -1), { value: [] })
})

test('behind the forwarder of a container engine the agent is not seen, which is not fine', async (t) => {
  const home = userFolder(t)
  const program = join(home, 'docker-proxy')
  copyFileSync(process.execPath, program)
  const path = join(home, 'bot.sock')
  const child = spawn(program, ['-e', listen, path], { stdio: 'inherit' })
  t.after(() => child.kill('SIGKILL'))
  await appears(path, child)
  const found = neighboursAt(`unix:${path}`, home, process.getuid?.() ?? -1)
  assert.match('unmeasured' in found ? found.unmeasured : '', /docker-proxy, not the agent itself/)
})

test('a process of another user behind agent.upstream cannot read our files', async (t) => {
  const server = createServer().listen(0, '127.0.0.1')
  t.after(() => server.close())
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const uid = process.getuid?.() ?? -1
  const found = neighboursAt(`http://127.0.0.1:${port}`, userFolder(t), uid + 1)
  // What belongs to root may be the forwarder of an engine, or an agent that can read everything.
  if (uid === 0) assert.ok('unmeasured' in found)
  else assert.deepEqual(found, { value: [] })
})

test('init refuses what is no address of an agent before it writes anything', async (t) => {
  for (const [args, said] of [
    [['--upstream', 'notaurl'], /--upstream is not the address of an agent\. Use "http:/],
    [['--upstream', 'https://bot.example'], /--upstream is not the address of an agent/],
    [['--upstream', 'http://0.0.0.0:1'], /--upstream is not the address of an agent/],
    [['--upstream', 'http://127.0.0.1:8080'], /--upstream is the address of Hardshell itself/],
    [['--upstream', '${NOT_SET}'], /--upstream .*NOT_SET/],
    [['--image', ''], /--image /],
    [['--image', 'a b'], /--image /],
  ] as const) {
    const user = userFolder(t)
    const { code, text } = await hardshell(t, ['init', ...args], { HOME: user })
    assert.equal(code, 2, text)
    assert.match(text, said)
    assert.equal(existsSync(join(user, '.hardshell')), false, args.join(' '))
  }
})
