/** Rotation cut off between any two writes: the configuration loads, and the next run finishes it. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { loadConfig } from '../../src/config/load.ts'
import { rotateKey } from '../../src/config/rotate.ts'
import { readConfigText } from '../../src/config/write.ts'
import { keyFiles, makeKey } from '../../src/secrets/key.ts'
import { seal } from '../../src/secrets/vault.ts'
import { goodToken, inFolder } from '../support/config-load.ts'

const steps = ['next key', 'configuration', 'previous key', 'current key']

for (const cut of steps) {
  test(`a rotation cut off behind the ${cut} leaves a configuration that loads`, () => {
    inFolder((folder) => {
      const home = join(folder, 'home')
      mkdirSync(home, { mode: 0o700 })
      const env = { HARDSHELL_HOME: home }
      const first = makeKey(home, env, randomBytes)
      const sealed = (text: string) =>
        `{ encrypted: ${JSON.stringify(seal(first, text, randomBytes))} }`
      const text = `{ gateway: { auth: { token: ${sealed(goodToken)} } }, // two
        agent: { token: ${sealed('agent')} } }`
      writeFileSync(join(home, 'config.json5'), text, { mode: 0o600 })

      const rotate = (step?: (written: string) => void) =>
        rotateKey(home, readConfigText(env), env, randomBytes, step)
      const crash = new Error('crash')
      const cutOff = () =>
        rotate((written) => {
          if (written === cut) throw crash
        })
      assert.throws(cutOff, crash)
      const { config } = loadConfig({ env })
      assert.equal(config.gateway.auth.token, goodToken)
      assert.equal(config.agent.token, 'agent')

      const done = rotate()
      assert.notEqual(done.key, first.id)
      assert.equal(loadConfig({ env }).config.gateway.auth.token, goodToken)
      assert.equal(existsSync(keyFiles(home).next), false)
      assert.ok(readConfigText(env).text.includes('// two'))
    })
  })
}
