/** The search at the end of a run: it finds a planted secret in every spelling, and lets it stand only where it may. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { searchEvidence } from '../evidence.ts'
import { Search, spellingsOf } from '../support/search.ts'
import type { Planted, SecretKind } from '../support/secrets.ts'

const one: Planted = { kind: 'gateway token', name: 'one', value: 'p4"l/n t+ä-7Qx9' }

/** A folder that is no part of the evidence of this very run, as what is put there leaks on purpose. */
function inFolder<T>(use: (folder: string) => T): T {
  const folder = join(tmpdir(), `hardshell-search-${randomUUID()}`)
  mkdirSync(folder, { mode: 0o700 })
  try {
    return use(folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** A run that produced these files, searched; each leak as `file: name (spelling)`. */
function leaksOf(
  files: Readonly<Record<string, string | Buffer>>,
  kind: SecretKind = 'gateway token',
): readonly string[] {
  return inFolder((root) => {
    const all = { 'planted/1.jsonl': JSON.stringify({ ...one, kind }), ...files }
    for (const [name, content] of Object.entries(all)) {
      mkdirSync(dirname(join(root, name)), { recursive: true })
      writeFileSync(join(root, name), content)
    }
    const { leaks } = searchEvidence(root)
    return [...new Set(leaks.map(({ file, name, spelling }) => `${file}: ${name} (${spelling})`))]
  })
}

const argv = (...words: readonly string[]) => `${JSON.stringify(words)}\n`

test('a secret in a log, an answer, an output, a home or a report is a leak', () => {
  const value = `something ${one.value} else`
  const places = ['logged/1-sidecar', 'answers/1-1-8080', 'reports/e2e', 'folders/1-1-hs/state.db']
  for (const place of places) assert.deepEqual(leaksOf({ [place]: value }), [`${place}: one (raw)`])
  const said = `${argv('main.ts', 'status')}${value}`
  assert.deepEqual(leaksOf({ 'said/1-1-node': said }), ['said/1-1-node: one (raw)'])
  assert.deepEqual(leaksOf({ 'said/1-1-node': argv('main.ts', 'serve', one.value) }).length, 1)
  const folder = `folders/1-1-hs/${encodeURIComponent(one.value)}`
  assert.equal(leaksOf({ [folder]: 'nothing' }).length, 1)
  assert.deepEqual(leaksOf({ 'logged/1-sidecar': 'nothing' }), [])
})

test('a home that nobody removed is searched too', () => {
  inFolder((root) => {
    const left = join(root, 'left')
    mkdirSync(join(root, 'made'))
    mkdirSync(join(root, 'planted'))
    mkdirSync(join(left, 'run'), { recursive: true })
    writeFileSync(join(root, 'made', '1'), `${left}\n`)
    writeFileSync(join(root, 'planted', '1'), JSON.stringify(one))
    writeFileSync(join(left, 'run', 'x'), one.value)
    assert.equal(searchEvidence(root).leaks.length, 1)
  })
})

test('a secret is found in every spelling, at every place of a group of three bytes', () => {
  const search = new Search([one])
  for (const [text, spelling] of spellingsOf(one.value)) {
    const hits = search.in(Buffer.from(`é..${text}..`), 'x')
    assert.ok(
      hits.some((hit) => hit.at === 4 && hit.length === Buffer.byteLength(text)),
      spelling,
    )
  }
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 9 }), fc.uint8Array({ maxLength: 9 }), (left, right) => {
      const whole = Buffer.concat([left, Buffer.from(one.value), right])
      for (const form of ['base64', 'base64url', 'hex'] as const) {
        assert.notDeepEqual(search.in(Buffer.from(whole.toString(form)), 'x'), [], form)
      }
    }),
  )
})

test('whatever many secrets are planted among whatever bytes, exactly those places are found', () => {
  const values = fc.uniqueArray(fc.string({ unit: 'binary-ascii', minLength: 7, maxLength: 12 }), {
    minLength: 1,
    maxLength: 8,
  })
  fc.assert(
    fc.property(values, fc.array(fc.string({ maxLength: 5 })), (secrets, noise) => {
      const planted = secrets.map((value) => ({ ...one, name: value, value }))
      const text = secrets.map((value, index) => `${noise[index] ?? ''}${value}`).join('\u0001')
      const content = Buffer.from(text)
      const raw = new Search(planted)
        .in(content, 'x')
        .filter(({ spelling }) => spelling === 'raw')
        .map(({ name, at }) => `${at} ${name}`)
      const expected = secrets.flatMap((value) => {
        const bytes = Buffer.from(value)
        const found: string[] = []
        for (let at = content.indexOf(bytes); at !== -1; at = content.indexOf(bytes, at + 1)) {
          found.push(`${at} ${value}`)
        }
        return found
      })
      assert.deepEqual(raw.toSorted(), expected.toSorted())
    }),
  )
})

test('tokens of ours, keys of a home and secrets of a configuration need not be registered', () => {
  const token = `hsk_${'aB3dE6gH'}_${'x7Yz1'.repeat(9)}`
  const key = 'Kq3vX8mZp1LwRf6Hs2NcYb5Ud9JgEa4TtWoQiPzMxBn'
  const secret = 'a-signing-secret-0123'
  const home = 'folders/1-1-hs'
  const files = {
    [`${home}/keys/secrets.key`]: `${key}\n`,
    [`${home}/config.json5`]: `{ channels: { slack: { signingSecret: "${secret}" } } }`,
  }
  assert.deepEqual(leaksOf(files), [])
  for (const value of [token, key, secret]) {
    assert.equal(leaksOf({ ...files, 'logged/1-sidecar': value }).length, 1, value)
  }
})

test('a secret may stand where its owner put it, and not one step further', () => {
  const home = 'folders/1-1-hs'
  const { value } = one
  const config = JSON.stringify({ a: value })
  const mixed = JSON.stringify({ a: value, b: { encrypted: 'eyJ' } })
  const may: readonly (readonly [string, string])[] = [
    [`${home}/config.json5`, config],
    [`${home}/keys/gateway.token`, `${value}\n`],
    ['said/1-1-node', `${argv('main.ts', 'token', 'new')}${value}`],
  ]
  const not: readonly (readonly [string, string])[] = [
    [`${home}/config.json5`, mixed],
    [`${home}/config.json5.backup-0001`, config],
    [`${home}/migrations/0001/file-0`, `${value}\n`],
    [`${home}/backups/fix-1/gateway.token`, `${value}\n`],
    [`${home}/audit/audit-1.jsonl`, config],
    [`${home}/keys/gateway.token`, `${value} and more`],
    ['said/1-1-node', `${argv('main.ts', 'token', 'list')}${value}`],
  ]
  for (const [file, text] of may) assert.deepEqual(leaksOf({ [file]: text }), [], file)
  for (const [file, text] of not) assert.notDeepEqual(leaksOf({ [file]: text }), [], file)
})

test('what the agent received it may repeat; an answer of ours may not', () => {
  const { value } = one
  const kind = 'channel credential'
  const head = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
  const echo = JSON.stringify({ method: 'GET', headers: { proof: value } })
  const file = 'answers/1-1-8080'
  assert.deepEqual(leaksOf({ [file]: `${head}1f\r\n${echo}` }, kind), [])
  assert.notDeepEqual(leaksOf({ [file]: `${head}1f\r\n{"code":"${value}"}` }, kind), [])
  assert.notDeepEqual(leaksOf({ [file]: `${head}1f\r\n${echo}` }, 'gateway token'), [])
  const cookie = `HTTP/1.1 303 See Other\r\nSet-Cookie: hardshell_session=${value}; Path=/`
  assert.deepEqual(leaksOf({ [file]: cookie }, 'client token'), [])
  assert.notDeepEqual(leaksOf({ [file]: cookie }, 'password'), [])
})

test('a run with a leak fails, naming the file and the secret but never its value', () => {
  const program = new URL('../evidence.ts', import.meta.url).pathname
  inFolder((root) => {
    const run = () => {
      const { status, stdout } = spawnSync(process.execPath, [program, root], { encoding: 'utf8' })
      return { status, stdout }
    }
    // A search that knows no secret finds none: that is no proof of anything.
    assert.equal(run().status, 1)
    mkdirSync(join(root, 'planted'))
    mkdirSync(join(root, 'logged'))
    writeFileSync(join(root, 'planted', '1'), `${JSON.stringify(one)}\n`)
    writeFileSync(join(root, 'logged', '1-sidecar'), 'all is well')
    assert.match(run().stdout, /searched 1 files, .* for 1 planted secrets: 0 leaks/)
    assert.equal(run().status, 0)
    writeFileSync(join(root, 'logged', '1-sidecar'), `oh: ${one.value}`)
    const { status, stdout } = run()
    assert.equal(status, 1)
    assert.match(stdout, /^LEAK logged\/1-sidecar:4: gateway token, one \(raw\)$/m)
    assert.ok(!stdout.includes(one.value))
  })
})
