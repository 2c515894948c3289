import assert from 'node:assert/strict'
import {
  chmodSync,
  chownSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { execFileSync } from 'node:child_process'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  FileFailure,
  ensureDir,
  ownUid,
  platformMount,
  readMounted,
  readOwn,
  readTrusted,
  writeAtomic,
} from '../../src/files.ts'

/** A folder 0700 with a file 0600 in it; removed afterwards. */
function withFile(use: (file: string, folder: string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'hardshell-files-'))
  try {
    const file = join(folder, 'config.json5')
    writeFileSync(file, 'content', { mode: 0o600 })
    use(file, folder)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const mode = (path: string) => statSync(path).mode & 0o777
/** Another user than the one who runs the test; only root can give files away, and tests run as root. */
const stranger = 4711

function refusal(action: () => unknown): FileFailure {
  try {
    action()
  } catch (error) {
    if (error instanceof FileFailure) return error
    throw error
  }
  throw new Error('it was accepted')
}

/** Runs what a remedy tells to run. */
function obey({ remedy }: FileFailure): void {
  const command = /^Run: (.+)$/.exec(remedy)?.[1]
  assert.ok(command !== undefined, remedy)
  execFileSync('sh', ['-c', command])
}

test('a private file of ours in a private folder is read', () => {
  withFile((file) => assert.deepEqual(readOwn(file), { text: 'content', mended: [] }))
})

test('each bit for group or world is refused, and the command in the message mends it', () => {
  for (const bits of [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o666, 0o777]) {
    withFile((file) => {
      chmodSync(file, bits)
      const failure = refusal(() => readOwn(file))
      assert.equal(failure.code, 'FILE_MODE')
      assert.ok(failure.message.includes(`${file} has mode ${bits.toString(8)}`))
      obey(failure)
      assert.equal(readOwn(file).text, 'content')
    })
  }
})

test('at start a wrong mode is put right and told, for the file and its folder', () => {
  withFile((file, folder) => {
    chmodSync(file, 0o644)
    chmodSync(folder, 0o755)
    const { text, mended } = readOwn(file, { mend: true })
    assert.equal(text, 'content')
    assert.equal(mode(file), 0o600)
    assert.equal(mode(folder), 0o700)
    assert.deepEqual(mended, [
      `${folder} had mode 755 and now has 700`,
      `${file} had mode 644 and now has 600`,
    ])
  })
})

test('a folder that others can enter is refused for private files', () => {
  withFile((file, folder) => {
    chmodSync(folder, 0o711)
    const failure = refusal(() => readOwn(file))
    assert.equal(failure.code, 'FILE_MODE')
    obey(failure)
    assert.equal(readOwn(file).text, 'content')
  })
})

test('outside the home a folder may be readable, but nobody else may write in it', () => {
  withFile((file, folder) => {
    chmodSync(folder, 0o755)
    assert.equal(readOwn(file, { parent: 'safe' }).text, 'content')
    chmodSync(folder, 0o1777)
    assert.equal(readOwn(file, { parent: 'safe' }).text, 'content')
    for (const bits of [0o775, 0o757, 0o777]) {
      chmodSync(folder, bits)
      const failure = refusal(() => readOwn(file, { parent: 'safe', mend: true }))
      assert.equal(failure.code, 'FILE_MODE')
      assert.equal(mode(folder), bits)
    }
    obey(refusal(() => readOwn(file, { parent: 'safe' })))
    assert.equal(readOwn(file, { parent: 'safe' }).text, 'content')
  })
})

test('a file or folder of another user is refused, also at start, and stays as it is', () => {
  withFile((file) => {
    chmodSync(file, 0o644)
    chownSync(file, stranger, stranger)
    const failure = refusal(() => readOwn(file, { mend: true }))
    assert.equal(failure.code, 'FILE_OWNER')
    assert.match(failure.message, /belongs to user 4711/)
    assert.equal(mode(file), 0o644)
    obey(failure)
    assert.equal(readOwn(file, { mend: true }).text, 'content')
  })
  withFile((file, folder) => {
    chownSync(folder, stranger, stranger)
    assert.equal(refusal(() => readOwn(file)).code, 'FILE_OWNER')
    assert.equal(refusal(() => readOwn(file, { parent: 'safe' })).code, 'FILE_OWNER')
  })
  withFile((file) => {
    assert.equal(refusal(() => readOwn(file, { uid: stranger })).code, 'FILE_OWNER')
  })
})

test('a symbolic link is refused as the file and as its folder', () => {
  withFile((file, folder) => {
    const link = join(folder, 'link')
    symlinkSync(file, link)
    const failure = refusal(() => readOwn(link, { mend: true }))
    assert.equal(failure.code, 'FILE_LINK')
    obey(failure)
    assert.equal(readOwn(link).text, 'content')
    const sub = join(folder, 'sub')
    mkdirSync(sub, { mode: 0o700 })
    renameSync(link, join(sub, 'config.json5'))
    symlinkSync(sub, join(folder, 'away'))
    assert.equal(readOwn(join(sub, 'config.json5')).text, 'content')
    const away = refusal(() => readOwn(join(folder, 'away', 'config.json5')))
    assert.equal(away.code, 'FILE_KIND')
  })
})

test('a dangling link, a folder, a pipe and a device are refused without hanging', () => {
  withFile((_, folder) => {
    symlinkSync('/nonexistent', join(folder, 'dangling'))
    mkdirSync(join(folder, 'folder'))
    execFileSync('mkfifo', ['-m', '600', join(folder, 'pipe')])
    assert.equal(refusal(() => readOwn(join(folder, 'dangling'))).code, 'FILE_LINK')
    assert.equal(refusal(() => readOwn(join(folder, 'folder'))).code, 'FILE_KIND')
    assert.equal(refusal(() => readOwn(join(folder, 'pipe'))).code, 'FILE_KIND')
    assert.equal(refusal(() => readOwn('/dev/null', { parent: 'safe' })).code, 'FILE_KIND')
    assert.equal(refusal(() => readOwn(join(folder, 'none'))).code, 'FILE_MISSING')
    assert.equal(refusal(() => readOwn(join(folder, 'none', 'none'))).code, 'FILE_MISSING')
  })
})

test('a file with a second name is refused', () => {
  withFile((file, folder) => {
    linkSync(file, join(folder, 'second'))
    const failure = refusal(() => readOwn(file, { mend: true }))
    assert.equal(failure.code, 'FILE_LINKS')
    assert.match(failure.message, /2 names/)
  })
})

test('a file is read up to its limit and refused one byte beyond', () => {
  withFile((file) => {
    assert.equal(readOwn(file, { maxBytes: 7 }).text, 'content')
    assert.equal(refusal(() => readOwn(file, { maxBytes: 6 })).code, 'FILE_LARGE')
  })
})

test('a name with blanks and quotes is quoted in the command that mends it', () => {
  withFile((file, folder) => {
    const odd = join(folder, "it's a $(file)")
    renameSync(file, odd)
    chmodSync(odd, 0o644)
    obey(refusal(() => readOwn(odd)))
    assert.equal(readOwn(odd).text, 'content')
  })
})

test('a folder swapped for a link while it is read leads nowhere else', () => {
  withFile((file, folder) => {
    const evil = join(folder, 'evil')
    const home = join(folder, 'home')
    mkdirSync(evil, { mode: 0o700 })
    mkdirSync(home, { mode: 0o700 })
    writeFileSync(join(evil, 'c'), 'evil', { mode: 0o600 })
    renameSync(file, join(home, 'c'))
    for (let round = 0; round < 50; round += 1) {
      renameSync(home, join(folder, 'moved'))
      symlinkSync(evil, home)
      assert.equal(refusal(() => readOwn(join(home, 'c'))).code, 'FILE_KIND')
      rmSync(home)
      renameSync(join(folder, 'moved'), home)
      assert.equal(readOwn(join(home, 'c')).text, 'content')
    }
  })
})

test('platform mounts are known by name, by variable and by their Kubernetes shape', () => {
  assert.equal(platformMount('/run/secrets/token', {}), '/run/secrets')
  assert.equal(platformMount('/run/secrets', {}), undefined)
  assert.equal(platformMount('/run/secretsx/token', {}), undefined)
  assert.equal(platformMount('/run/secrets/../x/token', {}), undefined)
  const env = { CREDENTIALS_DIRECTORY: '/run/credentials/hardshell.service' }
  assert.equal(
    platformMount('/run/credentials/hardshell.service/t', env),
    env.CREDENTIALS_DIRECTORY,
  )
  assert.equal(platformMount('/etc/t', { CREDENTIALS_DIRECTORY: 'etc' }), undefined)
  withFile((file, folder) => {
    assert.equal(platformMount(file, {}), undefined)
    mkdirSync(join(folder, '..2026_11_21'))
    symlinkSync('..2026_11_21', join(folder, '..data'))
    assert.equal(platformMount(join(folder, 'token'), {}), folder)
  })
})

test('a mounted file may be readable by all and belong to root, and is never mended', () => {
  withFile((file, folder) => {
    chmodSync(file, 0o444)
    assert.equal(readMounted(file, folder), 'content')
    chownSync(file, 0, 0)
    assert.equal(readMounted(file, folder, { uid: stranger }), 'content')
    chownSync(file, stranger, stranger)
    assert.equal(readMounted(file, folder, { uid: stranger }), 'content')
    assert.equal(refusal(() => readMounted(file, folder, { uid: 4712 })).code, 'FILE_OWNER')
    for (const bits of [0o464, 0o446, 0o666]) {
      chmodSync(file, bits)
      const failure = refusal(() => readMounted(file, folder, { uid: stranger }))
      assert.equal(failure.code, 'FILE_MODE')
      assert.equal(mode(file), bits)
    }
  })
})

test('links of a mount stay inside of it', () => {
  withFile((file, folder) => {
    const mount = join(folder, 'mount')
    mkdirSync(join(mount, '..2026_11_21'), { recursive: true })
    writeFileSync(join(mount, '..2026_11_21', 'token'), 'inside', { mode: 0o400 })
    symlinkSync('..2026_11_21', join(mount, '..data'))
    symlinkSync(join('..data', 'token'), join(mount, 'token'))
    symlinkSync(file, join(mount, 'outside'))
    assert.deepEqual(readTrusted(join(mount, 'token'), {}), { text: 'inside', mended: [] })
    const failure = refusal(() => readTrusted(join(mount, 'outside'), {}, { mend: true }))
    assert.equal(failure.code, 'FILE_LINK')
  })
})

test('a folder of ours is made private, and an open one is closed or refused', () => {
  withFile((_, folder) => {
    const deep = join(folder, 'a', 'b')
    assert.deepEqual(ensureDir(deep), [])
    assert.equal(mode(deep), 0o700)
    assert.equal(mode(join(folder, 'a')), 0o700)
    chmodSync(deep, 0o755)
    assert.equal(refusal(() => ensureDir(deep, { mend: false })).code, 'FILE_MODE')
    assert.deepEqual(ensureDir(deep), [`${deep} had mode 755 and now has 700`])
    assert.equal(mode(deep), 0o700)
    chownSync(deep, stranger, stranger)
    assert.equal(refusal(() => ensureDir(deep)).code, 'FILE_OWNER')
    symlinkSync(join(folder, 'a'), join(folder, 'link'))
    assert.equal(refusal(() => ensureDir(join(folder, 'link'))).code, 'FILE_KIND')
    assert.ok(refusal(() => ensureDir(join(folder, 'config.json5'))) instanceof FileFailure)
  })
})

test('a file is written whole, private, and over a link without following it', () => {
  withFile((file, folder) => {
    chmodSync(file, 0o644)
    writeAtomic(file, 'new')
    assert.equal(readFileSync(file, 'utf8'), 'new')
    assert.equal(mode(file), 0o600)
    const link = join(folder, 'link')
    symlinkSync(file, link)
    writeAtomic(link, Buffer.from('linked'))
    assert.ok(!lstatSync(link).isSymbolicLink())
    assert.equal(readFileSync(file, 'utf8'), 'new')
    assert.equal(readOwn(link).text, 'linked')
    assert.deepEqual(readdirSync(folder).toSorted(), ['config.json5', 'link'])
  })
})

test('a write that fails leaves the old content and no left-over', () => {
  withFile((file, folder) => {
    mkdirSync(join(folder, 'target', 'full'), { recursive: true })
    assert.equal(refusal(() => writeAtomic(join(folder, 'target'), 'x')).code, 'FILE_READ')
    assert.equal(refusal(() => writeAtomic(join(folder, 'none', 'x'), 'x')).code, 'FILE_READ')
    assert.equal(readFileSync(file, 'utf8'), 'content')
    assert.deepEqual(readdirSync(folder).toSorted(), ['config.json5', 'target'])
  })
})

test('what a killed program of the same number left behind does not stop a write', () => {
  withFile((file, folder) => {
    const part = `${file}.${process.pid}.part`
    writeFileSync(part, 'half')
    // One that is being written now is somebody's: another program may have this number in a container of its own.
    assert.equal(refusal(() => writeAtomic(file, 'new')).code, 'FILE_READ')
    assert.equal(readFileSync(part, 'utf8'), 'half')
    utimesSync(part, 1, 1)
    writeAtomic(file, 'new')
    assert.equal(readFileSync(file, 'utf8'), 'new')
    assert.deepEqual(readdirSync(folder), ['config.json5'])
  })
})

test('our user is the one that the process acts as', () => {
  withFile((file) => assert.equal(statSync(file).uid, ownUid()))
})
