/** Plugins in a real cell: read there, never written, and only what was trusted. */
import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { preparePlugins, trustPlugin } from '../../src/plugins.ts'
import { entry, hardshell, homeWith, start } from '../support/program.ts'
import { must } from '../support/images.ts'
import { recordsOf } from '../support/sidecar.ts'
import { inCell, openBench, untilReady } from '../support/engine.ts'

/** The container of the agent of this home. */
const nameOf = (home: string) => `hardshell-h${hash('sha256', home).slice(0, 12)}-main-agent`

test('a trusted plugin can be read in the cell under /plugins, and not written', async (t) => {
  const bench = await openBench()
  t.after(() => bench.close())
  const home = join(bench.dir, 'state')
  const dir = join(bench.dir, 'plugins')
  mkdirSync(join(home, 'run'), { recursive: true, mode: 0o700 })
  for (const name of ['git', 'evil']) {
    mkdirSync(join(dir, name), { recursive: true, mode: 0o755 })
    writeFileSync(join(dir, name, 'index.js'), `// ${name}\n`, { mode: 0o644 })
  }
  const settings = { enabled: ['git', 'evil'], disabled: [], dir }
  await trustPlugin(settings, home, 'git')
  const { mounts, refused } = await preparePlugins(settings, home)
  assert.deepEqual(
    refused.map(({ name, state }) => [name, state]),
    [['evil', 'unlisted']],
  )
  const agent = await bench.create({ plugins: mounts })
  await agent.start()
  await untilReady(agent)
  const { address } = agent
  const seen = await inCell(
    address,
    `const fs = await load('node:fs')
     return [fs.readdirSync('/plugins'), fs.readFileSync('/plugins/git/index.js', 'utf8')]`,
  )
  assert.deepEqual(seen.value, [['git'], '// git\n'])
  for (const path of ['/plugins/git/index.js', '/plugins/git/new.js', '/plugins/new']) {
    const { thrown } = await inCell(
      address,
      `const fs = await load('node:fs'); fs.writeFileSync('${path}', 'x')`,
    )
    assert.match(thrown ?? '', /^E(?:ROFS|ACCES)$/, path)
  }
  writeFileSync(join(dir, 'git', 'index.js'), '// changed\n')
  const after = await inCell(
    address,
    `return (await load('node:fs')).readFileSync('/plugins/git/index.js', 'utf8')`,
  )
  assert.equal(after.value, '// git\n')
})

test('plugins are listed, trusted and verified on the command line', async (t) => {
  const home = homeWith(t, '')
  const dir = join(home, 'my-plugins')
  mkdirSync(join(dir, 'git'), { recursive: true, mode: 0o755 })
  writeFileSync(join(dir, 'git', 'index.js'), '// git\n', { mode: 0o644 })
  const config = {
    gateway: { auth: { token: '7Qm2-vRx9_Lp4Tz8Kc1Wn6Yb3Hf5Jd0Sg' } },
    agent: { image: 'my-bot:1' },
    plugins: { enabled: ['git'], dir },
  }
  writeFileSync(join(home, 'config.json5'), JSON.stringify(config), { mode: 0o600 })
  const env = { HARDSHELL_HOME: home, HOME: home }
  const run = (...args: string[]) => hardshell(t, ['plugins', ...args], env)
  const critical = async () => {
    const { text } = await hardshell(t, ['security', 'audit', '--json'], env)
    const { results } = JSON.parse(text) as { results: { id: string; status: string }[] }
    return results.find(({ id }) => id === 'plugins.refused')?.status
  }
  assert.match((await run('list')).text, /unlisted +git is not trusted/)
  assert.equal((await run('verify')).code, 1)
  assert.equal(await critical(), 'finding')
  assert.match((await run('trust', 'git')).text, /^trusted git \([0-9a-f]{64}\)/)
  assert.equal((await run('verify')).code, 0)
  assert.equal(await critical(), 'pass')
  writeFileSync(join(dir, 'git', 'index.js'), '// changed\n')
  const changed = await run('verify')
  assert.equal(changed.code, 1)
  assert.match(changed.text, /changed +git changed since it was trusted/)
  const gone = await run('trust', 'gone')
  assert.equal(gone.code, 1)
  assert.match(gone.text, /PLUGIN_MISSING/)
  assert.ok(readFileSync(join(home, 'plugins.lock.json'), 'utf8').includes('"jws"'))
})

test('a served cell gets the trusted plugin, and the refused one stands in the audit log', async (t) => {
  const bench = await openBench()
  t.after(() => bench.close())
  const home = homeWith(t, '')
  const dir = join(bench.dir, 'plugins')
  for (const name of ['git', 'evil']) {
    mkdirSync(join(dir, name), { recursive: true, mode: 0o755 })
    writeFileSync(join(dir, name, 'index.js'), `// ${name}\n`, { mode: 0o644 })
  }
  const config = {
    gateway: { port: 0, auth: { token: '7Qm2-vRx9_Lp4Tz8Kc1Wn6Yb3Hf5Jd0Sg' } },
    agent: { image: bench.image, port: 8000, healthPath: '/health' },
    plugins: { enabled: ['git', 'evil'], dir },
  }
  writeFileSync(join(home, 'config.json5'), JSON.stringify(config), { mode: 0o600 })
  const env = { HARDSHELL_HOME: home, HOME: home }
  const trusted = await hardshell(t, ['plugins', 'trust', 'git'], env)
  assert.equal(trusted.code, 0, trusted.text)
  const program = start(t, [entry, 'serve'], env)
  const [, url = ''] = await program.said(/listens on (http:\S+)/)
  const answer = await fetch(`${url}/eval`, {
    method: 'POST',
    headers: { authorization: `Bearer ${config.gateway.auth.token}` },
    body: `return (await load('node:fs')).readdirSync('/plugins')`,
  })
  assert.deepEqual(await answer.json(), { value: ['git'] })
  const { text } = await hardshell(t, ['security', 'audit', '--deep', '--json'], env)
  const { results } = JSON.parse(text) as { results: { id: string; status: string }[] }
  const statusOf = (id: string) => results.find((one) => one.id === id)?.status
  assert.equal(statusOf('sandbox.drift'), 'pass')
  assert.equal(statusOf('sandbox.image-missing'), 'pass')
  assert.equal(statusOf('plugins.refused'), 'finding')
  const [agent = ''] = (await must('docker', ['ps', '-q', '--filter', `name=${nameOf(home)}`]))
    .trim()
    .split('\n')
  await must('docker', ['update', '--pids-limit', '-1', agent])
  const drifted = await hardshell(t, ['security', 'audit'], env)
  assert.match(drifted.text, /CRITICAL sandbox\.drift\n +\S+-agent differs in PidsLimit\n/)
  program.child.kill('SIGTERM')
  assert.equal(await program.ended(), 0)
  const told = recordsOf(home).filter(({ event }) => String(event).startsWith('plugin.'))
  assert.deepEqual(
    told.map(({ event, because }) => [event, because]),
    [
      ['plugin.refused', 'evil is not trusted'],
      ['plugin.mounted', 'git'],
    ],
  )
})
