/** The key that seals secrets: where it comes from, how it is told apart, how it is made. */
import { Failure } from '../errors.ts'
import { FileFailure, ensureDir, readTrusted, writeAtomic } from '../files.ts'

const { hash } = process.getBuiltinModule('node:crypto')
const { join } = process.getBuiltinModule('node:path')

/** One key of AES-256-GCM. */
export interface SecretsKey {
  /** 32 random bytes. */
  readonly bytes: Uint8Array
  /** 16 hexadecimal digits that tell keys apart and say nothing about them; the `kid` of what it seals. */
  readonly id: string
}

/** The keys of an installation: the one that seals, and those that only open what older ones sealed. */
export interface Keyring {
  /** Undefined when there is no key yet. */
  readonly current: SecretsKey | undefined
  /** Keys beside it: the next one of a rotation under way, and the one before. */
  readonly others: readonly SecretsKey[]
  /** Where the key is, or would be: a path, or the name of a variable. */
  readonly where: string
  /** `file`: in the home, where it can be made and rotated. */
  readonly from: 'file' | 'variable' | 'credential'
}

type Env = Readonly<Record<string, string | undefined>>

/** Reads a file of secrets and throws FileFailure; `readTrusted` unless the caller mends modes. */
export type ReadText = (path: string) => string

/** The variable that may hold the key in place of the file. */
export const keyVariable = 'HARDSHELL_SECRETS_KEY'
const credentialName = 'hardshell-secrets-key'
const keyBytes = 32

/** The files of a home that hold keys: the one in use, the next while a rotation runs, the one before. */
export function keyFiles(home: string): {
  readonly current: string
  readonly next: string
  readonly previous: string
} {
  const folder = join(home, 'keys')
  return {
    current: join(folder, 'secrets.key'),
    next: join(folder, 'secrets.next.key'),
    previous: join(folder, 'secrets.previous.key'),
  }
}

/** A key from its 32 bytes. */
export function keyOf(bytes: Uint8Array): SecretsKey {
  const id = hash('sha256', Buffer.concat([Buffer.from('hardshell secrets key\n'), bytes]))
  return { bytes, id: id.slice(0, 16) }
}

/** The text of a key as it stands in its file, without a line end. */
export function spellKey({ bytes }: SecretsKey): string {
  return Buffer.from(bytes).toString('base64url')
}

/** A key from its text: 32 bytes as base64url. Throws Failure that names `where` and never the text. */
export function parseKey(text: string, where: string): SecretsKey {
  const trimmed = text.trim()
  const bytes = Buffer.from(trimmed, 'base64url')
  if (bytes.length === keyBytes && bytes.toString('base64url') === trimmed) return keyOf(bytes)
  throw new Failure(
    'SECRETS_KEY',
    `${where} does not hold a key: 32 bytes as base64url, 43 characters. Put the right one there, or move it away and run "hardshell secrets restore".`,
  )
}

function readKey(path: string, read: ReadText): SecretsKey | undefined {
  let text: string
  try {
    text = read(path)
  } catch (error) {
    if (error instanceof FileFailure && error.code === 'FILE_MISSING') return undefined
    // Only a missing folder of ours means "no key yet"; a link in its place does not.
    if (error instanceof FileFailure) throw new Failure('SECRETS_KEY', error.message)
    throw error
  }
  return parseKey(text, path)
}

/**
 * The keys of an installation: from HARDSHELL_SECRETS_KEY, else from the systemd credential `hardshell-secrets-key`,
 * else from `keys/secrets.key`. Throws Failure SECRETS_KEY when one is there and cannot be used.
 */
export function findKeys(home: string, env: Env, read?: ReadText): Keyring {
  const readText = read ?? ((path: string) => readTrusted(path, env).text)
  const given = env[keyVariable] ?? ''
  if (given !== '') {
    const current = parseKey(given, `the variable ${keyVariable}`)
    return { current, others: [], where: keyVariable, from: 'variable' }
  }
  const folder = env['CREDENTIALS_DIRECTORY'] ?? ''
  if (folder.startsWith('/')) {
    const where = join(folder, credentialName)
    const current = readKey(where, readText)
    if (current !== undefined) return { current, others: [], where, from: 'credential' }
  }
  const files = keyFiles(home)
  const others = [files.next, files.previous].flatMap((path) => readKey(path, readText) ?? [])
  return { current: readKey(files.current, readText), others, where: files.current, from: 'file' }
}

/** Makes the key of a home from 32 fresh bytes and writes it, mode 0600. Throws Failure when one is there. */
export function makeKey(home: string, env: Env, random: (bytes: number) => Uint8Array): SecretsKey {
  const { current, where } = findKeys(home, env)
  if (current !== undefined) {
    throw new Failure(
      'ALREADY_THERE',
      `${where} holds a key already: "hardshell secrets rotate-key" replaces it`,
    )
  }
  const key = keyOf(random(keyBytes))
  saveKey(keyFiles(home).current, key)
  return key
}

/** Writes a key to a file of ours, mode 0600 in a folder 0700, whole or not at all. Throws FileFailure. */
export function saveKey(path: string, key: SecretsKey): void {
  ensureDir(join(path, '..'))
  writeAtomic(path, `${spellKey(key)}\n`)
}
