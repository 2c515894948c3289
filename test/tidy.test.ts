/** The architecture is a test: folder edges, one package–one file, bounds of size, banned calls, docs in step. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize, relative } from 'node:path'
import { test } from 'node:test'

const root = new URL('..', import.meta.url).pathname.replace(/\/$/, '')

function filesUnder(folder: string, suffix: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .filter((path) => !path.includes('node_modules'))
}

const read = (path: string) => readFileSync(join(root, path), 'utf8')
const sources = filesUnder('src', '.ts')
const tests = filesUnder('test', '.ts')

/** Code without comments and strings' contents, for the banned calls. */
const bare = (text: string) =>
  text
    .replace(/\/\*[\s\S]*?\*\//g, '')
    .replace(/(^|[^:'"`])\/\/.*$/gm, '$1')
    .replace(/'(?:[^'\\\n]|\\.)*'/g, "''")

/** Static imports and re-exports, imports for their effect, dynamic imports, and what CommonJS loads. */
const importForms = [
  /^(?:import|export) [^'=;]*?from '([^']+)'/gm,
  /^import '([^']+)'/gm,
  /\bimport\(\s*'([^']+)'\s*\)/g,
  /\b(?:load|createRequire\(import\.meta\.url\))\(\s*'([^']+)',?\s*\)/g,
]
const importsOf = (path: string) =>
  importForms.flatMap((form) => [...read(path).matchAll(form)].map((found) => found[1] ?? ''))

/** Which folders of src a folder may import besides itself; files directly in src may be imported by all. */
const edges: Record<string, readonly string[]> = {
  // The composition root's own folder: it may know every part, and nothing but app.ts and the CLI knows it.
  wiring: [
    'admin',
    'agent',
    'audit',
    'channels',
    'config',
    'egress',
    'gates',
    'identity',
    'proxy',
    'secrets',
    'senders',
    'store',
  ],
  config: ['identity', 'channels', 'secrets'],
  secrets: [],
  gates: ['identity'],
  identity: ['store', 'gates'],
  store: [],
  audit: [],
  channels: [],
  senders: ['channels', 'store'],
  egress: ['audit', 'channels', 'senders'],
  agent: ['egress', 'audit'],
  proxy: ['gates', 'agent', 'audit', 'channels', 'senders', 'identity'],
  posture: ['config', 'store', 'agent', 'audit', 'identity'],
  admin: ['identity', 'store', 'audit', 'agent', 'senders', 'posture', 'config'],
  cli: [
    'admin',
    'agent',
    'audit',
    'channels',
    'config',
    'gates',
    'identity',
    'posture',
    'proxy',
    'secrets',
    'senders',
    'store',
  ],
}

test('a folder imports only the folders that the architecture allows', () => {
  const wrong: string[] = []
  for (const path of sources) {
    const folder =
      dirname(path)
        .replace(/^src\/?/, '')
        .split('/')[0] ?? ''
    if (folder === '') continue
    for (const name of importsOf(path)) {
      if (!name.startsWith('.')) continue
      const target = normalize(join(dirname(path), name)).replace(/^src\//, '')
      const to = target.includes('/') ? (target.split('/')[0] ?? '') : ''
      const app = to === '' && (target === 'app.ts' || target === 'main.ts')
      if (app && folder !== 'cli') wrong.push(`${path} → ${name}`)
      if (to !== '' && to !== folder && !(edges[folder] ?? []).includes(to))
        wrong.push(`${path} → ${name}`)
    }
  }
  assert.deepEqual(wrong, [])
})

/** The one file of each package; undici serves the agent's HTTP and the engine's. */
const homes: Record<string, readonly string[]> = {
  undici: ['src/proxy/forward.ts', 'src/agent/engine.ts'],
  ws: ['src/proxy/tunnel.ts'],
  'http-proxy-3': ['src/proxy/opaque.ts'],
  jose: ['src/crypto.ts'],
  argon2: ['src/identity/password.ts'],
  'rate-limiter-flexible': ['src/identity/limiter.ts'],
  pino: ['src/log.ts'],
  'env-schema': ['src/config/environment.ts'],
  json5: ['src/config/json5.ts'],
  'ipaddr.js': ['src/identity/address.ts'],
}

test('each package is imported in its one file and nowhere else', () => {
  const wrong: string[] = []
  for (const path of sources) {
    for (const name of importsOf(path)) {
      if (name.startsWith('.') || name.startsWith('node:')) continue
      const packageName = name.startsWith('@')
        ? name.split('/').slice(0, 2).join('/')
        : name.split('/')[0]
      if (!(homes[packageName ?? ''] ?? []).includes(path)) wrong.push(`${path} imports ${name}`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('every named package is a dependency with an exact version, and no other is', () => {
  const { dependencies } = JSON.parse(read('package.json')) as {
    dependencies: Record<string, string>
  }
  assert.deepEqual(Object.keys(dependencies).sort(), Object.keys(homes).sort())
  for (const [name, version] of Object.entries(dependencies))
    assert.match(version, /^\d+\.\d+\.\d+$/, name)
})

test('every source file is reached from the entry, the portal or the build', () => {
  const reached = new Set<string>()
  const queue = ['src/main.ts', 'src/agent/portal.ts']
  for (let path = queue.pop(); path !== undefined; path = queue.pop()) {
    if (reached.has(path)) continue
    reached.add(path)
    for (const name of importsOf(path)) {
      if (name.startsWith('.')) queue.push(normalize(join(dirname(path), name)))
    }
  }
  const declared = sources.filter((path) => !path.endsWith('.d.ts'))
  assert.deepEqual(
    declared.filter((path) => !reached.has(path)),
    [],
  )
})

test('no file is longer than 500 lines', () => {
  const long = [...sources, ...tests].filter((path) => read(path).split('\n').length > 501)
  assert.deepEqual(long, [])
})

/** Calls that belong to the composition root, or to nobody. */
const banned: [RegExp, string, readonly string[]][] = [
  [/\bprocess\.env\b/, 'the environment arrives as an argument', ['src/main.ts']],
  [
    /\bprocess\.exit\b/,
    'a command returns its exit code',
    ['src/main.ts', 'src/cli/serve.ts', 'src/cli/wish.ts', 'src/agent/portal.ts'],
  ],
  [
    /\bDate\.now\b/,
    'the clock arrives as an argument',
    ['src/wiring/clocks.ts', 'src/admin/client.ts'],
  ],
  [/\bMath\.random\b/, 'randomness comes from node:crypto', []],
  [/\bconsole\./, 'commands print through Io, events go to the log', []],
  [/\bexport default\b/, 'exports have names', []],
  [
    /@ts-ignore|@ts-expect-error|oxlint-disable|eslint-disable/,
    'the compiler and the linter are right',
    [],
  ],
  [/\bas any\b/, 'unknown until it is read', []],
  [/\beval\(|new Function\(/, 'no code from strings', []],
  [
    /\b(?:token|secret|password|digest|signature)\w*\s*===(?!\s*(?:undefined|null|''))/i,
    'secrets are compared in constant time',
    [],
  ],
]

test('banned calls stand only where they belong', () => {
  const wrong: string[] = []
  for (const path of sources) {
    const text = path.endsWith('.ts') ? bare(read(path)) : ''
    for (const [form, why, where] of banned) {
      if (form.test(text) && !where.includes(path)) wrong.push(`${path}: ${form.source} (${why})`)
    }
  }
  assert.deepEqual(wrong, [])
})

test('no test is left out, and none can be', () => {
  const wrong = tests.filter(
    (path) =>
      path !== 'test/tidy.test.ts' &&
      /\.(?:only|skip|todo)\(|skip: *true|todo: *true/.test(read(path)),
  )
  assert.deepEqual(wrong, [])
})

test('every gate is named in the order', () => {
  const order = /gateOrder[^=]*= \[([^\]]*)\]/.exec(read('src/gates/gate.ts'))?.[1] ?? ''
  const gates = sources
    .filter((path) => path.startsWith('src/gates/'))
    .flatMap((path) =>
      [...read(path).matchAll(/^ {4}name: '([^']+)'/gm)].map((found) => found[1] ?? ''),
    )
  assert.ok(gates.length > 0)
  for (const name of gates)
    assert.ok(order.includes(`'${name}'`), `${name} is not in the order of src/gates/gate.ts`)
})

test('every attack test cites where the attack is described', () => {
  const attacks = tests.filter(
    (path) => path.startsWith('test/attacks/') && path.endsWith('.test.ts'),
  )
  assert.ok(attacks.length > 0)
  assert.deepEqual(
    attacks.filter((path) => !/CVE-\d{4}-\d+|GHSA-|RFC \d+|CWE-\d+|https:\/\//.test(read(path))),
    [],
  )
})

test('every exported thing says what it is for', () => {
  const bareExports =
    /(?<!\*\/\n)^export (?:async )?(?:function|class|const|interface|type) (\w+)/gm
  const wrong = sources
    .filter((path) => !path.endsWith('.d.ts') && !path.endsWith('/all.ts'))
    .flatMap((path) =>
      [...read(path).matchAll(bareExports)]
        .map((found) => found[1] ?? '')
        .filter((name) => name !== 'limits' && name !== 'Decision')
        .map((name) => `${path}: ${name}`),
    )
  assert.deepEqual(wrong, [])
})

test('nothing names a path of one machine or the host of a package registry', () => {
  const places = [
    ...sources,
    ...tests,
    ...filesUnder('docs', '.md'),
    ...filesUnder('deploy', ''),
    ...filesUnder('bench', '.ts'),
  ]
  const files = [
    'README.md',
    'SECURITY.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
    'Dockerfile',
    'compose.yaml',
    'package-lock.json',
  ]
  const wrong = [...places, ...files].filter(
    (path) =>
      path !== 'test/tidy.test.ts' &&
      /\/work\/(?:main|shared)|registry\.npmjs|deb\.debian\.org/.test(read(path)),
  )
  assert.deepEqual(wrong, [])
})

test('every page has one title', () => {
  const pages = [
    ...filesUnder('docs', '.md'),
    'README.md',
    'SECURITY.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
  ]
  const wrong = pages.filter(
    (path) =>
      read(path)
        .replace(/```[\s\S]*?```/g, '')
        .split('\n')
        .filter((line) => line.startsWith('# ')).length !== 1,
  )
  assert.deepEqual(wrong, [])
})

test('links between pages lead somewhere', () => {
  const pages = [
    ...filesUnder('docs', '.md'),
    'README.md',
    'SECURITY.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
  ]
  const wrong: string[] = []
  for (const page of pages) {
    for (const [, link = ''] of read(page).matchAll(/\]\(([^)#\s]+)(?:#[^)]*)?\)/g)) {
      if (/^[a-z]+:/.test(link)) continue
      try {
        readFileSync(join(root, dirname(page), link))
      } catch (thrown) {
        const isFolder = thrown instanceof Error && 'code' in thrown && thrown.code === 'EISDIR'
        if (!isFolder) wrong.push(`${page} → ${link}`)
      }
    }
  }
  assert.deepEqual(wrong, [])
})
