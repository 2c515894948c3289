/** One file, under a passphrase, that brings the keys of sealed secrets back: a compact JWE whose key is argon2id. */
import * as crypto from 'node:crypto'
import { Failure } from '../errors.ts'
import { parseKey, spellKey } from './key.ts'
import type { SecretsKey } from './key.ts'
import { decryptCompact, encryptCompact, headerOf } from './vault.ts'

/** What argon2id (RFC 9106) is asked for: memory in KiB, passes, lanes. */
export interface Cost {
  readonly m: number
  readonly t: number
  readonly p: number
}

/** RFC 9106 §4, the second recommended option, with the lanes of the seed's password hash. */
export const backupCost: Cost = { m: 65_536, t: 3, p: 4 }
/** A file from elsewhere may not ask for more: one GiB, ten passes, sixteen lanes. */
const costMax: Cost = { m: 1_048_576, t: 10, p: 16 }
/** Fewest characters of a passphrase: it alone stands between a lost file and every secret. */
export const passphraseMin = 12
const saltBytes = 16
const backupType = 'hardshell-secrets-backup'

function derive(passphrase: string, salt: Uint8Array, { m, t, p }: Cost): Uint8Array {
  // Node has it from 24.7 on.
  if (typeof crypto.argon2Sync !== 'function') {
    throw new Failure('NODE_OLD', 'a backup needs Node 24.7 or newer: this one has no argon2')
  }
  return crypto.argon2Sync('argon2id', {
    message: Buffer.from(passphrase.normalize('NFC'), 'utf8'),
    nonce: salt,
    memory: m,
    passes: t,
    parallelism: p,
    tagLength: 32,
  })
}

/** Says what is wrong with a passphrase, if anything. */
export function passphraseFault(passphrase: string): string | undefined {
  const length = Array.from(passphrase).length
  return length < passphraseMin ? `has ${length} characters; it needs ${passphraseMin}` : undefined
}

/** The text of a backup of these keys. Throws Failure for a short passphrase. */
export function packBackup(
  keys: readonly SecretsKey[],
  passphrase: string,
  random: (bytes: number) => Uint8Array,
  cost: Cost = backupCost,
): string {
  const fault = passphraseFault(passphrase)
  if (fault !== undefined) throw new Failure('PASSPHRASE', `the passphrase ${fault}`)
  const salt = random(saltBytes)
  const header = {
    typ: backupType,
    kdf: 'argon2id',
    salt: Buffer.from(salt).toString('base64url'),
    ...cost,
  }
  const plain = Buffer.from(JSON.stringify({ keys: keys.map(spellKey) }), 'utf8')
  return encryptCompact(header, derive(passphrase, salt, cost), plain, random(12))
}

function costIn(header: Readonly<Record<string, unknown>>): Cost | undefined {
  const { m, t, p } = header
  const within = (value: unknown, max: number): value is number =>
    Number.isInteger(value) && Number(value) >= 1 && Number(value) <= max
  if (!within(m, costMax.m) || !within(t, costMax.t) || !within(p, costMax.p)) return undefined
  return m >= 8 * p ? { m, t, p } : undefined
}

/** The keys in a backup, the one in use first. Throws Failure; a wrong passphrase and a changed file look alike. */
export function unpackBackup(text: string, passphrase: string): readonly SecretsKey[] {
  const jwe = text.trim()
  const header = headerOf(jwe)
  const cost = header === undefined ? undefined : costIn(header)
  const spelled = header?.['salt']
  const salt = Buffer.from(typeof spelled === 'string' ? spelled : '', 'base64url')
  if (header?.['typ'] !== backupType || cost === undefined || salt.length !== saltBytes) {
    throw new Failure('BACKUP_INVALID', 'this file is not a backup of "hardshell secrets backup"')
  }
  const plain = decryptCompact(jwe, derive(passphrase, salt, cost))
  if (plain === undefined) {
    throw new Failure(
      'BACKUP_CLOSED',
      'the backup does not open: the passphrase is wrong, or the file was changed',
    )
  }
  const { keys } = JSON.parse(plain.toString('utf8')) as { keys: readonly string[] }
  return keys.map((key) => parseKey(key, 'the backup'))
}
