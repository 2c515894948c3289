/** `hardshell secrets init | rotate-key | backup | restore`. */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { resolve } from 'node:path'
import { rotateKey } from '../config/rotate.ts'
import { plainCopies, sealCopies } from '../config/copies.ts'
import { sealingKey } from '../config/sealing.ts'
import { writeJudged } from '../config/set.ts'
import { configPath, readConfigText } from '../config/write.ts'
import type { ConfigText } from '../config/write.ts'
import { Failure } from '../errors.ts'
import { readOwn, writeAtomic } from '../files.ts'
import { packBackup, passphraseFault, unpackBackup } from '../secrets/backup.ts'
import { findKeys, keyFiles, makeKey, saveKey } from '../secrets/key.ts'
import type { Call, Command, ExitCode } from './command.ts'
import { readSecret } from './config-write.ts'
import { named, record } from './record.ts'

const configOption = {
  type: 'string',
  value: 'FILE',
  summary: 'The configuration file; else HARDSHELL_CONFIG, then the one in the home.',
} as const

function namedIn({ options }: Call): string | undefined {
  const { config } = options
  return typeof config === 'string' ? config : undefined
}

/** The configuration, if there is one: keys can be made and moved before it. */
function configIf(call: Call): ConfigText | undefined {
  const named = namedIn(call)
  const { file } = configPath(call.io.env, named)
  return existsSync(file) ? readConfigText(call.io.env, named) : undefined
}

async function init(call: Call): Promise<ExitCode> {
  const { io, json, options } = call
  const { home, file } = configPath(io.env, namedIn(call))
  const had = findKeys(home, io.env)
  const work = () => {
    const config = configIf(call)
    const made = had.current === undefined ? newKey(call, home, config) : undefined
    const key = made ?? had.current
    const seals = options['seal'] === true && config !== undefined && key !== undefined
    const written = seals ? writeJudged(config, config.text, key, io.env, randomBytes) : undefined
    const copies = key === undefined ? [] : sealCopies(home, file, key, randomBytes)
    const changed = [
      ...(made === undefined ? [] : [`key ${made.id}`]),
      ...[...(written?.sealed ?? []), ...copies].map((path) => `sealed ${path}`),
    ]
    return { value: { made, key, written, copies }, about: named(changed) }
  }
  const due = options['seal'] === true || plainCopies(home, file).length > 0
  const changes = had.current === undefined || due
  const { made, key, written, copies } = changes
    ? await record(call, 'secrets init', undefined, work)
    : work().value
  const where = made === undefined ? had.where : keyFiles(home).current
  if (json) {
    const { sealed = [], backup } = written ?? {}
    io.out(
      JSON.stringify({ key: key?.id, where, made: made !== undefined, sealed, backup, copies }),
    )
    return 0
  }
  io.out(`${made === undefined ? 'there is a key already' : 'made a key'}: ${where} (${key?.id})`)
  if (made !== undefined) io.out('keep a copy of it elsewhere: "hardshell secrets backup FILE"')
  for (const path of [...(written?.sealed ?? []), ...copies]) io.out(`sealed ${path}`)
  if (written?.backup !== undefined) {
    io.out(`the file from before is ${written.backup}, sealed too`)
    io.out(`"hardshell security rollback ${written.backup}" brings it back`)
  }
  return 0
}

/** A first key; refused where something is sealed with a lost one. */
function newKey({ io }: Call, home: string, config: ConfigText | undefined) {
  if (config === undefined) return makeKey(home, io.env, randomBytes)
  return sealingKey(config, io.env, randomBytes).key
}

async function rotate(call: Call): Promise<ExitCode> {
  const { io, json } = call
  const { home } = configPath(io.env, namedIn(call))
  const done = await record(call, 'secrets rotate-key', undefined, () => {
    const value = rotateKey(home, configIf(call), io.env, randomBytes)
    const keys = `key ${value.previous} gave way to ${value.key}`
    const anew = named(value.sealed)
    return { value, about: anew === undefined ? keys : `${keys}; sealed anew ${anew}` }
  })
  if (json) io.out(JSON.stringify(done))
  else {
    io.out(`the key is ${done.key} now; ${done.sealed.length} sealed values were sealed anew`)
    if (done.copies.length > 0) io.out(`so were ${done.copies.length} copies of older files`)
    io.out(`${keyFiles(home).previous} opens copies that are elsewhere; remove it with them`)
    io.out('a backup from before does not open what is sealed from now on: make a new one')
  }
  return 0
}

async function backup(call: Call): Promise<ExitCode> {
  const { io, json, positionals } = call
  const file = resolve(positionals[0] ?? '')
  const { home } = configPath(io.env, namedIn(call))
  const { current, others, where } = findKeys(home, io.env)
  if (current === undefined) {
    throw new Failure('SECRETS_KEY', `${where} does not exist: run "hardshell secrets init"`)
  }
  if (existsSync(file)) {
    throw new Failure('ALREADY_THERE', `${file} exists already: name another file`)
  }
  const passphrase = await readSecret(io, 'Passphrase of the backup: ')
  const fault = passphraseFault(passphrase)
  if (fault !== undefined) throw new Failure('PASSPHRASE', `the passphrase ${fault}`)
  const again = await io.askHidden?.('Once more: ')
  if (again !== undefined && again !== passphrase) {
    throw new Failure('PASSPHRASE', 'the two passphrases differ')
  }
  const keys = [current, ...others]
  await record(call, 'secrets backup', file, () => {
    writeAtomic(file, `${packBackup(keys, passphrase, randomBytes)}\n`)
    return { value: undefined, about: `key ${current.id} to ${file}` }
  })
  if (json) io.out(JSON.stringify({ file, keys: keys.map(({ id }) => id) }))
  else io.out(`wrote ${file}; with its passphrase it brings back key ${current.id}`)
  return 0
}

async function restore(call: Call): Promise<ExitCode> {
  const { io, json, positionals } = call
  const { home } = configPath(io.env, namedIn(call))
  const { text } = readOwn(positionals[0] ?? '', { parent: 'safe' })
  const keys = unpackBackup(text, await readSecret(io, 'Passphrase of the backup: '))
  const [first, ...others] = keys
  if (first === undefined) throw new Failure('BACKUP_INVALID', 'the backup holds no key')
  const { current, where } = findKeys(home, io.env)
  const there = current?.id
  if (there !== undefined && there !== first.id) {
    throw new Failure(
      'ALREADY_THERE',
      `${where} holds another key, ${there}: move it away first. Nothing was changed.`,
    )
  }
  const files = keyFiles(home)
  const [older] = others
  await record(call, 'secrets restore', `key ${first.id}`, () => {
    const saved = [
      ...(there === undefined ? [{ path: files.current, key: first }] : []),
      ...(older === undefined || existsSync(files.previous)
        ? []
        : [{ path: files.previous, key: older }]),
    ]
    for (const { path, key } of saved) saveKey(path, key)
    return { value: undefined, about: named(saved.map(({ key }) => `key ${key.id}`)) }
  })
  if (json)
    io.out(JSON.stringify({ key: first.id, where: files.current, restored: there === undefined }))
  else if (there === undefined) io.out(`restored key ${first.id} to ${files.current}`)
  else io.out(`${where} holds key ${first.id} already`)
  return 0
}

/** The rows of `hardshell secrets`. */
export const secretsCommands: readonly Command[] = [
  {
    name: 'secrets init',
    summary: 'Makes the key that seals secrets, if there is none, and seals copies that show some.',
    options: {
      config: configOption,
      seal: { type: 'boolean', summary: 'Seals every plain secret of the configuration in place.' },
    },
    run: init,
  },
  {
    name: 'secrets rotate-key',
    summary: 'Makes a new key and seals every sealed value and copy anew.',
    options: { config: configOption },
    run: rotate,
  },
  {
    name: 'secrets backup',
    summary: 'Writes the key to a file that only a passphrase opens, from a prompt or stdin.',
    positionals: '<file>',
    run: backup,
  },
  {
    name: 'secrets restore',
    summary: 'Brings the key back from such a file; never over another key.',
    positionals: '<file>',
    run: restore,
  },
]
