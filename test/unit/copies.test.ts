/** Copies of older files: sealed where they show a secret, back byte for byte, and open through every rotation. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  copiesOf,
  openCopy,
  plainCopies,
  resealCopies,
  sealCopies,
} from '../../src/config/copies.ts'
import { loadConfig } from '../../src/config/load.ts'
import { restoreCopy } from '../../src/config/restore.ts'
import { rotateKey } from '../../src/config/rotate.ts'
import { setKey, targetOf } from '../../src/config/set.ts'
import { readConfigText } from '../../src/config/write.ts'
import { findKeys, keyFiles, keyOf, makeKey } from '../../src/secrets/key.ts'
import type { Keyring, SecretsKey } from '../../src/secrets/key.ts'
import { isSealedFile, open, openFile, seal, sealFile } from '../../src/secrets/vault.ts'
import { goodToken, inFolder } from '../support/config-load.ts'

const ringOf = (current: SecretsKey): Keyring => ({
  current,
  others: [],
  where: 'the key of a test',
  from: 'file',
})

test('whatever a file holds, sealed it comes back byte for byte', () => {
  const key = keyOf(randomBytes(32))
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 2000 }), (content) => {
      const sealed = sealFile(key, content, randomBytes)
      assert.ok(isSealedFile(sealed))
      assert.deepEqual(openFile(ringOf(key), sealed).value, Buffer.from(content))
    }),
  )
})

test('one flipped bit anywhere, another key, or a sealed value in its place: it does not open', () => {
  const key = keyOf(randomBytes(32))
  const sealed = sealFile(key, Buffer.from('some text'), randomBytes).trim()
  for (let at = 0; at < sealed.length * 8; at += 1) {
    const bytes = Buffer.from(sealed, 'latin1')
    bytes[at >> 3] = (bytes[at >> 3] ?? 0) ^ (1 << (at & 7))
    assert.equal(openFile(ringOf(key), bytes.toString('latin1')).value, undefined, String(at))
  }
  assert.equal(openFile(ringOf(keyOf(randomBytes(32))), sealed).value, undefined)
  assert.equal(openFile(ringOf(key), seal(key, 'some text', randomBytes)).value, undefined)
  assert.equal(open(ringOf(key), sealed).value, undefined)
})

interface Place {
  readonly home: string
  readonly file: string
  readonly env: Readonly<Record<string, string>>
  set(key: string, value: unknown): string
  text(): string
}

function place(config: string, use: (place: Place) => void): void {
  inFolder((folder) => {
    const home = join(folder, 'home')
    mkdirSync(home, { mode: 0o700 })
    const env = { HARDSHELL_HOME: home, HARDSHELL_TOKEN: goodToken }
    const file = join(home, 'config.json5')
    writeFileSync(file, config, { mode: 0o600 })
    const options = { env, random: randomBytes, replace: false }
    use({
      home,
      file,
      env,
      text: () => readFileSync(file, 'utf8'),
      set: (key, value) => {
        const { backup } = setKey(readConfigText(env), targetOf(key), value, options)
        return backup ?? ''
      },
    })
  })
}

const secret = 'planted-copy-secret-4d1e'
const plain = `// mine\n{ agent: { token: "${secret}" } }\r\n`

test('the copy from before the first sealing is sealed, and comes back byte for byte', () => {
  place(plain, ({ home, file, env, set, text }) => {
    const copy = set('gateway.port', 9090)
    assert.ok(isSealedFile(readFileSync(copy, 'utf8')))
    assert.equal(statSync(copy).mode & 0o777, 0o600)
    assert.deepEqual(plainCopies(home, file), [])
    const after = text()
    const { backup, changed, plain: shows } = restoreCopy(copy, undefined, env, randomBytes)
    assert.equal(text(), plain)
    assert.ok(changed && shows)
    // What stood there had its secrets sealed, so its copy is a text that a person can read.
    assert.equal(readFileSync(backup ?? '', 'utf8'), after)
    assert.equal(restoreCopy(copy, undefined, env, randomBytes).changed, false)
    rmSync(file)
    restoreCopy(copy, undefined, env, randomBytes)
    assert.equal(text(), plain)
  })
})

test('a copy whose key is lost is one line, and nothing is changed', () => {
  place(plain, ({ home, env, set, text }) => {
    const copy = set('gateway.port', 9090)
    const after = text()
    rmSync(keyFiles(home).current)
    assert.throws(
      () => restoreCopy(copy, undefined, env, randomBytes),
      /backup-0001 cannot be opened: it was sealed with key [0-9a-f]{16}, but .* does not exist/,
    )
    assert.equal(text(), after)
  })
})

test('a sealed copy in the place of the configuration says how it comes back', () => {
  place(plain, ({ file, env, set }) => {
    const copy = set('gateway.port', 9090)
    writeFileSync(file, readFileSync(copy))
    assert.throws(() => loadConfig({ env }), /is a sealed copy.*security rollback/)
    assert.equal(restoreCopy(copy, undefined, env, randomBytes).changed, true)
  })
})

test('copies that an earlier version left in plain text are found and sealed in their place', () => {
  place('{}', ({ home, file, env }) => {
    const key = makeKey(home, env, randomBytes)
    const left: Readonly<Record<string, string>> = {
      'config.json5.backup-0001': plain,
      'migrations/0001/file-0': plain,
      'migrations/0001/file-1': 'a-token-of-an-older-file\n',
      'migrations/undone-0002/undone-0': plain,
      'backups/fix-1/config.json5': plain,
      'backups/fix-1/gateway.token': 'short\n',
    }
    const others: Readonly<Record<string, string>> = {
      'config.json5.backup-0002': '{ gateway: { port: 1 } }',
      'migrations/0001/manifest.json': '{ "files": [] }',
      'backups/fix-1/modes.json': '[]',
    }
    for (const folder of ['migrations/0001', 'migrations/undone-0002', 'backups/fix-1']) {
      mkdirSync(join(home, folder), { recursive: true, mode: 0o700 })
    }
    for (const [name, text] of Object.entries({ ...left, ...others })) {
      writeFileSync(join(home, name), text, { mode: 0o644 })
    }
    const paths = Object.keys(left).map((name) => join(home, name))
    assert.deepEqual(plainCopies(home, file).toSorted(), paths.toSorted())
    assert.deepEqual(sealCopies(home, file, key, randomBytes).toSorted(), paths.toSorted())
    assert.deepEqual(plainCopies(home, file), [])
    assert.deepEqual(sealCopies(home, file, key, randomBytes), [])
    for (const [name, text] of Object.entries(left)) {
      assert.equal(openCopy(join(home, name), findKeys(home, env)).toString('utf8'), text, name)
    }
    for (const [name, text] of Object.entries(others)) {
      assert.equal(readFileSync(join(home, name), 'utf8'), text, name)
    }
  })
})

const steps = ['next key', 'configuration', 'copies', 'previous key', 'current key']

for (const cut of steps) {
  test(`a rotation cut off behind the ${cut} leaves copies that open, and the next one finishes it`, () => {
    place(plain, ({ home, file, env, set }) => {
      const sealedCopy = set('agent.token', 'another-secret')
      const textCopy = set('gateway.port', 9090)
      const opens = () => {
        const keys = findKeys(home, env)
        assert.equal(openCopy(sealedCopy, keys).toString('utf8'), plain)
        const { config } = loadConfig({ env, config: textCopy })
        assert.equal(config.agent.token, 'another-secret')
      }
      const rotate = (step?: (written: string) => void) =>
        rotateKey(home, readConfigText(env), env, randomBytes, step)
      const crash = new Error('crash')
      const cutOff = (written: string) => {
        if (written === cut) throw crash
      }
      assert.throws(() => rotate(cutOff), crash)
      opens()
      rotate()
      opens()
      // Two rotations later nothing needs the keys from before.
      rotate()
      rmSync(keyFiles(home).previous)
      opens()
      assert.deepEqual(plainCopies(home, file), [])
      assert.equal(existsSync(keyFiles(home).next), false)
    })
  })
}

test('a copy that does not open stays as it is while the others are sealed anew', () => {
  place(plain, ({ home, file, env, set }) => {
    const copy = set('gateway.port', 9090)
    const foreign = sealFile(keyOf(randomBytes(32)), Buffer.from('x'), randomBytes)
    writeFileSync(`${file}.backup-0007`, foreign, { mode: 0o600 })
    const to = keyOf(randomBytes(32))
    assert.deepEqual(resealCopies(home, file, findKeys(home, env), to, randomBytes), [copy])
    assert.equal(readFileSync(`${file}.backup-0007`, 'utf8'), foreign)
    assert.equal(openCopy(copy, ringOf(to)).toString('utf8'), plain)
    assert.equal(copiesOf(home, file).length, 2)
  })
})
