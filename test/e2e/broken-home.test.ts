/** A home folder that cannot be one: every command says so on one line, with the variable to set. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { suite, test, type TestContext } from 'node:test'

import { cli } from '../support/cli.ts'

function folder(t: TestContext): string {
  const made = mkdtempSync(join(tmpdir(), 'hs-home-'))
  t.after(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** What stands where the home should be, and what is said about it. */
const broken: Readonly<Record<string, { make: (parent: string) => string; says: RegExp }>> = {
  'is a file': {
    make: (parent) => {
      const file = join(parent, 'file')
      writeFileSync(file, '')
      return file
    },
    says: /file is not a folder: set HARDSHELL_HOME /,
  },
  'lies below a file': {
    make: (parent) => {
      writeFileSync(join(parent, 'file'), '')
      return join(parent, 'file', 'home')
    },
    says: /home cannot be opened \(ENOTDIR\): set HARDSHELL_HOME /,
  },
  'lies behind links in a circle': {
    make: (parent) => {
      symlinkSync('circle', join(parent, 'circle'))
      return join(parent, 'circle', 'home')
    },
    says: /home is reached through links that lead in a circle: set HARDSHELL_HOME /,
  },
  'has a path too long for a socket': {
    make: (parent) => join(parent, 'x'.repeat(100)),
    says: /x is too long a path for the Unix sockets in it .*: set HARDSHELL_HOME /,
  },
}

suite('a home that', () => {
  for (const [name, { make, says }] of Object.entries(broken)) {
    test(`${name} is one line with the remedy, whatever the command`, async (t) => {
      const home = make(folder(t))
      for (const command of ['init', 'token new']) {
        const { code, out, err } = await cli(home, command.split(' '))
        assert.match(err, says, command)
        assert.match(err, /\[HOME_UNUSABLE\]\n$/, command)
        assert.equal(err.trim().split('\n').length, 1, err)
        assert.deepEqual([code, out], [1, ''], command)
      }
    })
  }

  test('cannot even be looked at ends no command that needs none', async (t) => {
    const { make } = broken['lies behind links in a circle'] ?? {}
    const { code, err } = await cli(make?.(folder(t)) ?? '', ['--version'])
    assert.deepEqual([code, err], [0, ''])
  })
})

suite('a command line', () => {
  test('with a noun alone names the verbs', async (t) => {
    const { code, err } = await cli(folder(t), ['token'])
    assert.equal(code, 2)
    assert.match(err, /^hardshell: "token" needs a verb: new, list, .*"hardshell token --help" \[/)
  })

  test('may have the options of every command in front', async (t) => {
    const home = join(folder(t), 'home')
    const { code, err } = await cli(home, ['--json', 'status'])
    assert.equal(code, 1)
    assert.match(err, /^\{"error":\{"code":"NO_HOME"/)
    const help = await cli(home, ['--help', 'agent', 'logs'])
    assert.match(help.out, /^hardshell agent logs /)
  })
})
