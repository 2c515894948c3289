/** `security.followSymlinks: true`: which symbolic links lead to a file, and which never do. */
import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  lchownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { loadConfig } from '../../src/config/load.ts'
import { ConfigFailure } from '../../src/config/problems.ts'
import { readConfigText, writeConfigText } from '../../src/config/write.ts'
import { FileFailure, linkTarget, readTrusted } from '../../src/files.ts'
import type { OwnRules } from '../../src/files.ts'
import { goodToken } from '../support/config-load.ts'

/** Another user than the one who runs the test; only root can give files away, and tests run as root. */
const stranger = 4711

/** A private folder with the folders `here` (0700) and `there` (0755), and a file in the latter. */
function withPlaces(use: (at: { here: string; there: string; file: string }) => void): void {
  const root = mkdtempSync(join(tmpdir(), 'hardshell-links-'))
  try {
    const [here, there] = [join(root, 'here'), join(root, 'there')]
    mkdirSync(here, { mode: 0o700 })
    mkdirSync(there, { mode: 0o755 })
    const file = join(there, 'token')
    writeFileSync(file, 'content', { mode: 0o600 })
    use({ here, there, file })
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
}

const follow = (path: string, rules: OwnRules = {}) =>
  readTrusted(path, {}, { ...rules, follow: true })

function refusal(action: () => unknown): FileFailure {
  try {
    action()
  } catch (error) {
    if (error instanceof FileFailure) return error
    throw error
  }
  throw new Error('it was accepted')
}

test('a link of ours in a folder of ours leads to the file, and a file without one reads as ever', () => {
  withPlaces(({ here, there, file }) => {
    const link = join(here, 'token')
    symlinkSync('../there/token', link)
    assert.deepEqual(follow(link), { text: 'content', mended: [], real: file })
    const second = join(here, 'second')
    symlinkSync(link, second)
    assert.equal(follow(second).real, file)
    // A folder may be the link, as where a release is switched.
    const current = join(here, 'current')
    symlinkSync(there, current)
    assert.equal(follow(join(current, 'token'), { parent: 'safe' }).real, file)
    assert.deepEqual(follow(file, { parent: 'safe' }), { text: 'content', mended: [] })
    assert.equal(refusal(() => readTrusted(link, {})).code, 'FILE_LINK')
  })
})

test('what a link leads to is held to the same rules, and is never mended', () => {
  withPlaces(({ here, there, file }) => {
    const link = join(here, 'token')
    symlinkSync(file, link)
    const codeOf = () => refusal(() => follow(link, { mend: true })).code
    chmodSync(file, 0o640)
    assert.equal(codeOf(), 'FILE_MODE')
    assert.equal(statSync(file).mode & 0o777, 0o640)
    chmodSync(file, 0o600)
    chownSync(file, stranger, stranger)
    assert.equal(codeOf(), 'FILE_OWNER')
    chownSync(file, 0, 0)
    chmodSync(there, 0o777)
    assert.equal(codeOf(), 'FILE_MODE')
    chmodSync(there, 0o755)
    chownSync(there, stranger, stranger)
    assert.equal(codeOf(), 'FILE_OWNER')
    chownSync(there, 0, 0)
    rmSync(file)
    mkdirSync(file)
    assert.equal(codeOf(), 'FILE_KIND')
    rmSync(file, { recursive: true })
    const missing = refusal(() => follow(link))
    assert.equal(missing.code, 'FILE_MISSING')
    assert.equal(missing.what, `${link} leads to ${file}, which does not exist`)
  })
})

test('a link that another user made, or could replace, leads nowhere', () => {
  withPlaces(({ here, there, file }) => {
    const link = join(here, 'token')
    symlinkSync(file, link)
    lchownSync(link, stranger, stranger)
    const failure = refusal(() => follow(link))
    assert.equal(failure.code, 'FILE_LINK')
    assert.match(failure.what, /is a symbolic link of user 4711/)
    lchownSync(link, 0, 0)
    // A second link, on the way, in a folder that others can write in.
    const open = join(there, 'open')
    mkdirSync(open)
    chmodSync(open, 0o777)
    const between = join(open, 'token')
    symlinkSync(file, between)
    rmSync(link)
    symlinkSync(between, link)
    assert.equal(refusal(() => follow(link)).code, 'FILE_MODE')
    // With the sticky bit nobody replaces what is ours, but anybody may add links.
    chmodSync(open, 0o1777)
    assert.equal(follow(link).text, 'content')
    lchownSync(between, stranger, stranger)
    assert.equal(refusal(() => follow(link)).code, 'FILE_LINK')
    // Nor is there a way through a folder in which others could put another in its place.
    const deep = join(open, 'deep')
    mkdirSync(deep)
    writeFileSync(join(deep, 'token'), 'deep', { mode: 0o600 })
    chmodSync(open, 0o777)
    rmSync(link)
    symlinkSync(join(deep, 'token'), link)
    assert.equal(refusal(() => follow(link)).code, 'FILE_MODE')
  })
})

test('links in a circle, and too many in a row, are refused at once', () => {
  withPlaces(({ here, file }) => {
    const [one, two] = [join(here, 'one'), join(here, 'two')]
    symlinkSync(two, one)
    symlinkSync(one, two)
    assert.equal(refusal(() => follow(one)).code, 'FILE_LINK')
    let last = file
    for (let step = 1; step <= 9; step += 1) {
      const next = join(here, `step-${step}`)
      symlinkSync(last, next)
      last = next
    }
    assert.equal(follow(join(here, 'step-8')).text, 'content')
    assert.match(refusal(() => follow(last)).what, /more than 8 symbolic links/)
  })
})

test('a folder of the home is no link, and stays private whatever a link in it leads to', () => {
  withPlaces(({ here, there, file }) => {
    const folder = join(here, 'keys')
    symlinkSync(there, folder)
    assert.equal(
      refusal(() => follow(join(folder, 'token'), { parent: 'private' })).code,
      'FILE_KIND',
    )
    const link = join(here, 'token')
    symlinkSync(file, link)
    chmodSync(here, 0o755)
    assert.equal(refusal(() => follow(link, { parent: 'private' })).code, 'FILE_MODE')
    const { mended } = follow(link, { parent: 'private', mend: true })
    assert.deepEqual(mended, [`${here} had mode 755 and now has 700`])
  })
})

test('a link into a mount of the platform is read by the rules of that mount', () => {
  withPlaces(({ here, there }) => {
    const version = join(there, '..2026_11_22_03_00_00.1')
    mkdirSync(version)
    writeFileSync(join(version, 'key'), 'mounted', { mode: 0o444 })
    symlinkSync('..2026_11_22_03_00_00.1', join(there, '..data'))
    symlinkSync('..data/key', join(there, 'key'))
    const link = join(here, 'key')
    symlinkSync(join(there, 'key'), link)
    assert.deepEqual(follow(link), { text: 'mounted', mended: [], real: join(there, 'key') })
    chmodSync(join(version, 'key'), 0o446)
    assert.equal(refusal(() => follow(link)).code, 'FILE_MODE')
    // Links that leave a mount stay refused, whatever the configuration says.
    symlinkSync(join(here, 'key'), join(there, 'out'))
    writeFileSync(join(here, 'private'), 'x', { mode: 0o600 })
    symlinkSync(join(here, 'private'), join(there, 'leaves'))
    assert.equal(refusal(() => follow(join(there, 'leaves'))).code, 'FILE_LINK')
  })
})

/** Carries out the same renames over and over, as fast as it can, until it is told to stop. */
const renamer = `
const { workerData, parentPort } = require('node:worker_threads')
const { renameSync } = require('node:fs')
const { moves, stop } = workerData
const flag = new Int32Array(stop)
do {
  for (const [from, to] of moves) renameSync(from, to)
  parentPort.postMessage('turned')
} while (Atomics.load(flag, 0) === 0)
`

async function whileRenaming(
  moves: readonly (readonly [string, string])[],
  work: () => void,
): Promise<void> {
  const stop = new SharedArrayBuffer(4)
  const worker = new Worker(renamer, { eval: true, workerData: { moves, stop } })
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  try {
    await new Promise((resolve) => worker.once('message', resolve))
    work()
  } finally {
    Atomics.store(new Int32Array(stop), 0, 1)
    await ended
  }
}

test("while a folder is swapped for another user's link, nothing behind that link is ever read", async () => {
  const root = mkdtempSync(join(tmpdir(), 'hardshell-links-'))
  try {
    // On the way to the file, so that the folder of the file itself is no link at any time.
    const [way, elsewhere] = [join(root, 'way'), join(root, 'elsewhere')]
    for (const [folder, content] of [
      [way, 'good'],
      [elsewhere, 'bad'],
    ] as const) {
      mkdirSync(join(folder, 'deep'), { recursive: true, mode: 0o755 })
      writeFileSync(join(folder, 'deep', 'token'), content, { mode: 0o600 })
    }
    const [aside, trap] = [join(root, 'aside'), join(root, 'trap')]
    symlinkSync(elsewhere, trap)
    lchownSync(trap, stranger, stranger)
    const link = join(root, 'token')
    symlinkSync(join(way, 'deep', 'token'), link)
    const swap = [
      [way, aside],
      [trap, way],
      [way, trap],
      [aside, way],
    ] as const
    await whileRenaming(swap, () => {
      for (let round = 0; round < 2000; round += 1) {
        try {
          assert.equal(follow(link).text, 'good')
        } catch (error) {
          if (!(error instanceof FileFailure)) throw error
        }
      }
    })
    assert.equal(follow(link).text, 'good')
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})

test('while a link is switched to another version, a file is the one or the other, whole', async () => {
  const root = mkdtempSync(join(tmpdir(), 'hardshell-links-'))
  try {
    const contents = ['o'.repeat(5000), 'n'.repeat(9000)]
    // As a platform mounts it, and as an owner releases it.
    for (const [folder, mode] of [
      ['..data', 0o444],
      ['current', 0o600],
    ] as const) {
      const place = join(root, folder.replaceAll('.', 'p'))
      mkdirSync(place)
      for (const [index, content] of contents.entries()) {
        const version = join(place, `..2026_${index}`)
        mkdirSync(version)
        writeFileSync(join(version, 'key'), content, { mode })
        symlinkSync(`..2026_${index}`, join(place, `next-${index}`))
      }
      const link = join(place, folder)
      symlinkSync('..2026_0', link)
      symlinkSync(join(folder, 'key'), join(place, 'key'))
      // For a moment there is no link at all: then the file is missing, and never another one.
      const turns = [
        [link, join(place, 'last')],
        [join(place, 'next-1'), link],
        [link, join(place, 'next-1')],
        [join(place, 'last'), link],
      ] as const
      await whileRenaming(turns, () => {
        for (let round = 0; round < 1000; round += 1) {
          try {
            assert.ok(contents.includes(follow(join(place, 'key'), { parent: 'safe' }).text))
          } catch (error) {
            if (!(error instanceof FileFailure)) throw error
          }
        }
      })
      assert.equal(follow(join(place, 'key'), { parent: 'safe' }).text, contents[0])
    }
  } finally {
    rmSync(root, { recursive: true, force: true })
  }
})

const text = (follows: boolean, more = '') =>
  `// mine\n{\n  security: { followSymlinks: ${follows} }, // links\n  gateway: { port: 8080, auth: { ${more} } },\n}\n`

function withLinkedConfig(
  content: string,
  use: (at: { home: string; link: string; file: string }) => void,
): void {
  withPlaces(({ here, there }) => {
    const file = join(there, 'hardshell.json5')
    writeFileSync(file, content, { mode: 0o600 })
    const link = join(here, 'config.json5')
    symlinkSync(file, link)
    use({ home: here, link, file })
  })
}

const problemsOf = (env: Readonly<Record<string, string>>) => {
  try {
    loadConfig({ env })
  } catch (error) {
    if (error instanceof ConfigFailure) return error.problems
    throw error
  }
  throw new Error('it loaded')
}

test('a configuration may be a link if it says so itself, and secret files with it', () => {
  withLinkedConfig(text(true, 'tokenFile: "token"'), ({ home, link, file }) => {
    const token = join(home, 'real-token')
    writeFileSync(token, `${goodToken}\n`, { mode: 0o600 })
    symlinkSync('real-token', join(home, 'token'))
    const loaded = loadConfig({ env: { HARDSHELL_HOME: home } })
    assert.equal(loaded.config.gateway.auth.token, goodToken)
    assert.equal(loaded.file, link)
    const told = loaded.notices.map(({ level, code, message }) => `${level} ${code} ${message}`)
    for (const line of [
      `INFO FILE_LINK ${link} leads to ${file}`,
      `INFO FILE_LINK ${join(home, 'token')} leads to ${token}`,
    ]) {
      assert.ok(told.includes(line), told.join('\n'))
    }
    assert.ok(told.some((line) => line.startsWith('WARNING LINKS_FOLLOWED')))
    assert.equal(loaded.secretFile('token').read(), goodToken)
  })
})

test('without that word the link is refused, and both ways out are named', () => {
  withLinkedConfig(text(false, `token: "${goodToken}"`), ({ home, link }) => {
    const [problem, ...others] = problemsOf({ HARDSHELL_HOME: home })
    assert.deepEqual(others, [])
    assert.equal(problem?.code, 'FILE_LINK')
    assert.match(problem.message, /is a symbolic link, and security\.followSymlinks in it is not/)
    assert.match(problem.remedy, /^Run: cp --remove-destination /)
    rmSync(link)
    const inner = join(home, 'inner')
    writeFileSync(inner, 'never read', { mode: 0o600 })
    symlinkSync(inner, join(home, 'token'))
    writeFileSync(link, text(false, 'tokenFile: "token"'), { mode: 0o600 })
    assert.deepEqual(
      problemsOf({ HARDSHELL_HOME: home }).map(({ code }) => code),
      ['FILE_LINK'],
    )
  })
})

test('a configuration that is a link to nothing is refused, and does not mean the defaults', () => {
  withLinkedConfig(text(true), ({ home, file }) => {
    rmSync(file)
    const env = { HARDSHELL_HOME: home, HARDSHELL_TOKEN: goodToken }
    const [problem] = problemsOf(env)
    assert.equal(problem?.code, 'FILE_LINK')
    assert.match(problem.message, /which does not exist/)
  })
})

test('the key of sealed values is never read through a link', () => {
  withLinkedConfig(text(true, 'token: { encrypted: "x" }'), ({ home, file }) => {
    mkdirSync(join(home, 'keys'), { mode: 0o700 })
    const real = join(home, 'keys', 'real')
    writeFileSync(real, `${Buffer.alloc(32, 7).toString('base64url')}\n`, { mode: 0o600 })
    symlinkSync(real, join(home, 'keys', 'secrets.key'))
    const [problem] = problemsOf({ HARDSHELL_HOME: home })
    assert.equal(problem?.code, 'SECRETS_KEY')
    assert.match(problem.message, /is a symbolic link/)
    assert.equal(lstatSync(file).isFile(), true)
  })
})

test('a write keeps the link, and changes the file behind it', () => {
  withLinkedConfig(text(true), ({ home, link, file }) => {
    const env = { HARDSHELL_HOME: home }
    const before = readConfigText(env)
    const random = (bytes: number) => new Uint8Array(bytes)
    const copy = writeConfigText(before, before.text.replace('8080', '9090'), env, random)
    assert.equal(readlinkSync(link), file)
    assert.equal(readFileSync(file, 'utf8'), text(true).replace('8080', '9090'))
    assert.equal(copy, `${link}.backup-0001`)
    assert.equal(readFileSync(copy, 'utf8'), text(true))
    chmodSync(file, 0o400)
    assert.throws(() => writeConfigText(readConfigText(env), '{}', env, random), {
      code: 'CONFIG_READ_ONLY',
    })
    // While a command works the link turns elsewhere: what is written is what was read, or nothing is.
    chmodSync(file, 0o600)
    const now = readConfigText(env)
    const other = `${file}.other`
    writeFileSync(other, text(true).replace('mine', 'other'), { mode: 0o600 })
    symlinkSync(other, `${link}.next`)
    renameSync(`${link}.next`, link)
    assert.throws(() => writeConfigText(now, '{}', env, random), { code: 'CONFIG_CHANGED' })
    assert.equal(readFileSync(other, 'utf8'), text(true).replace('mine', 'other'))
  })
})

test('a path says where it leads, links or none', () => {
  withPlaces(({ here, there, file }) => {
    assert.equal(linkTarget(file, {}), file)
    symlinkSync('../there/../there/./token', join(here, 'odd'))
    assert.equal(linkTarget(join(here, 'odd'), {}), file)
    symlinkSync('..', join(there, 'up'))
    symlinkSync(join(there, 'up', 'there', 'token'), join(here, 'up'))
    assert.equal(linkTarget(join(here, 'up'), {}), file)
  })
})
