/** Sealing and its key: round trips, one flipped bit, jose on the other side, and the backup. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { CompactEncrypt, compactDecrypt } from 'jose'
import { packBackup, unpackBackup } from '../../src/secrets/backup.ts'
import { findKeys, keyFiles, keyOf, makeKey, parseKey, spellKey } from '../../src/secrets/key.ts'
import type { Keyring } from '../../src/secrets/key.ts'
import { open, seal } from '../../src/secrets/vault.ts'
import { inFolder } from '../support/config-load.ts'

const key = keyOf(randomBytes(32))
const ring: Keyring = { current: key, others: [], where: 'keys/secrets.key', from: 'file' }
const secrets = fc.string({ unit: 'grapheme', maxLength: 300 })

test('what is sealed opens again, whatever it is', () => {
  fc.assert(
    fc.property(secrets, (secret) => {
      const sealed = seal(key, secret, randomBytes)
      assert.equal(open(ring, sealed).value, Buffer.from(secret, 'utf8').toString('utf8'))
      assert.notEqual(sealed, seal(key, secret, randomBytes))
      assert.equal(sealed.split('.').length, 5)
    }),
  )
})

test('one flipped bit anywhere in the text keeps a sealed value shut', () => {
  const sealed = Buffer.from(seal(key, 'a secret of some length', randomBytes))
  for (let at = 0; at < sealed.length * 8; at += 1) {
    const changed = Buffer.from(sealed)
    changed[at >> 3] = (changed[at >> 3] ?? 0) ^ (1 << (at & 7))
    assert.equal(open(ring, changed.toString('latin1')).value, undefined, `bit ${at}`)
  }
})

test('no text that is not a sealed value opens or throws', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), secrets, fc.stringMatching(/^[\w.-]*$/)), (text) => {
      assert.equal(open(ring, text).value, undefined)
    }),
  )
})

test('jose opens what we seal, and we open what jose seals', async () => {
  const opened = await compactDecrypt(seal(key, 'across', randomBytes), key.bytes)
  assert.equal(Buffer.from(opened.plaintext).toString(), 'across')
  assert.deepEqual(opened.protectedHeader, {
    alg: 'dir',
    enc: 'A256GCM',
    typ: 'hardshell-sealed',
    kid: key.id,
  })
  const theirs = await new CompactEncrypt(Buffer.from('back'))
    .setProtectedHeader({ alg: 'dir', enc: 'A256GCM', typ: 'hardshell-sealed', kid: key.id })
    .encrypt(key.bytes)
  assert.equal(open(ring, theirs).value, 'back')
})

test('what jose seals with another algorithm or a critical extension stays shut', async () => {
  const header = { alg: 'dir', enc: 'A256GCM', typ: 'hardshell-sealed', kid: key.id }
  const others = [
    { ...header, enc: 'A128CBC-HS256' },
    { ...header, typ: 'hardshell-secrets-backup' },
    { ...header, kid: '0'.repeat(16) },
  ]
  for (const other of others) {
    const theirs = await new CompactEncrypt(Buffer.from('x'))
      .setProtectedHeader(other)
      .encrypt(key.bytes)
    assert.equal(open(ring, theirs).value, undefined, JSON.stringify(other))
  }
})

test('a wrong and a missing key are told apart from a changed value, and named', () => {
  const sealed = seal(key, 'x', randomBytes)
  const other = keyOf(randomBytes(32))
  const wrong = open({ ...ring, current: other }, sealed)
  assert.deepEqual(wrong, {
    because: `it was sealed with key ${key.id}, but keys/secrets.key holds key ${other.id}`,
    wrongKey: true,
  })
  const missing = open({ ...ring, current: undefined }, sealed)
  assert.match(missing.because ?? '', /but keys\/secrets\.key does not exist$/)
  assert.equal(open({ ...ring, current: other, others: [key] }, sealed).value, 'x')
  const changed = sealed.slice(0, -3) + (sealed.at(-3) === 'A' ? 'B' : 'A') + sealed.slice(-2)
  assert.equal(open(ring, changed).because, 'it was changed after it was sealed')
})

test('a key is exactly 32 bytes as base64url', () => {
  assert.equal(parseKey(`${spellKey(key)}\n`, 'here').id, key.id)
  for (const bytes of [0, 16, 31, 33]) {
    const text = randomBytes(bytes).toString('base64url')
    assert.throws(() => parseKey(text, 'here'), /^Failure: here does not hold a key/)
  }
  assert.throws(() => parseKey(`${spellKey(key)}=`, 'here'))
  assert.throws(() => parseKey(randomBytes(32).toString('hex'), 'here'))
})

test('the key is made once, private, and comes from the variable or the credential before the file', () => {
  inFolder((home) => {
    assert.equal(findKeys(home, {}).current, undefined)
    const made = makeKey(home, {}, randomBytes)
    const file = keyFiles(home).current
    assert.equal(statSync(file).mode & 0o777, 0o600)
    assert.equal(findKeys(home, {}).current?.id, made.id)
    assert.throws(() => makeKey(home, {}, randomBytes), /holds a key already/)
    assert.equal(readFileSync(file, 'utf8'), `${spellKey(made)}\n`)

    const byVariable = findKeys(home, { HARDSHELL_SECRETS_KEY: spellKey(key) })
    assert.equal(byVariable.current?.id, key.id)
    assert.equal(byVariable.from, 'variable')
    assert.throws(
      () => findKeys(home, { HARDSHELL_SECRETS_KEY: 'short' }),
      /variable HARDSHELL_SECRETS_KEY/,
    )

    const folder = join(home, 'credentials')
    mkdirSync(folder, { mode: 0o700 })
    const env = { CREDENTIALS_DIRECTORY: folder }
    assert.equal(findKeys(home, env).from, 'file')
    writeFileSync(join(folder, 'hardshell-secrets-key'), spellKey(key), { mode: 0o400 })
    assert.equal(findKeys(home, env).current?.id, key.id)
    assert.equal(findKeys(home, env).from, 'credential')
  })
})

test('a key file that others can read is refused, not used', () => {
  inFolder((home) => {
    mkdirSync(join(home, 'keys'), { mode: 0o700 })
    writeFileSync(keyFiles(home).current, spellKey(key), { mode: 0o644 })
    assert.throws(() => findKeys(home, {}), /has mode 644/)
  })
})

const cheap = { m: 64, t: 1, p: 1 }
const passphrase = 'correct horse battery'

test('a backup brings the keys back, and only for its passphrase', () => {
  const keys = [key, keyOf(randomBytes(32))]
  const text = packBackup(keys, passphrase, randomBytes)
  assert.deepEqual(
    unpackBackup(`${text}\n`, passphrase).map(({ id }) => id),
    keys.map(({ id }) => id),
  )
  assert.throws(() => unpackBackup(text, `${passphrase}.`), /passphrase is wrong/)
  assert.throws(() => packBackup(keys, 'elevenchars', randomBytes), /needs 12/)
  assert.ok(packBackup(keys, 'twelve chars', randomBytes, cheap).length > 0)
})

test('one flipped bit anywhere in a backup keeps it shut', () => {
  const text = Buffer.from(packBackup([key], passphrase, randomBytes, cheap))
  for (let at = 0; at < text.length; at += 1) {
    const changed = Buffer.from(text)
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8))
    assert.throws(() => unpackBackup(changed.toString('latin1'), passphrase), `byte ${at}`)
  }
})

test('a backup that asks for too much memory or time is refused before anything is derived', () => {
  for (const cost of [{ m: 2_000_000 }, { t: 11 }, { p: 17 }, { m: 4, p: 1 }, { m: 0 }]) {
    const header = {
      alg: 'dir',
      enc: 'A256GCM',
      typ: 'hardshell-secrets-backup',
      kdf: 'argon2id',
      salt: randomBytes(16).toString('base64url'),
      ...cheap,
      ...cost,
    }
    const head = Buffer.from(JSON.stringify(header)).toString('base64url')
    assert.throws(() => unpackBackup(`${head}..AAAA.AAAA.AAAA`, passphrase), /is not a backup/)
  }
})
