/** The pages about channels: one for each, and every example on them loads. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { channels } from '../../src/channels/all.ts'
import { load } from '../support/config-load.ts'

const folder = new URL('../../docs/channels/', import.meta.url)
const pages = readdirSync(folder).filter((name) => name !== 'README.md')
const read = (name: string) => readFileSync(new URL(name, folder), 'utf8')

/** Long enough for every service, and base64 without padding. */
const secret = 'kT7vQx2mZp9LwRf4Hs8NcYb3Ud6JgEa5kT7vQx2mZp9L'

/** The examples of a page, with secrets in the place of files. */
function examplesOf(page: string): readonly string[] {
  return [...page.matchAll(/```json5\n([^]*?)```/g)].map(([, text = '']) =>
    text
      .replace(/\{ file: "[^"]*dummy" \}/g, `"7000000001:${secret}"`)
      .replace(/\{ file: "[^"]*" \}/g, `"${secret}"`)
      .replace('…64 hexadecimal digits…', 'ab'.repeat(32)),
  )
}

test('every channel has a page and every page a channel', () => {
  const names = channels.map(({ name }) => `${name}.md`)
  assert.deepEqual([...pages].sort(), names.toSorted())
  const index = read('README.md')
  for (const name of names) assert.ok(index.includes(`(${name})`), name)
})

test('every example loads as it is printed', () => {
  for (const page of ['README.md', ...pages, '../pairing.md']) {
    for (const example of examplesOf(read(page))) {
      assert.doesNotThrow(() => load(example), `${page}: ${example}`)
    }
  }
})

test('every page says what cannot be gated, and every setting that is needed', () => {
  for (const channel of channels) {
    const page = read(`${channel.name}.md`)
    assert.match(page, /\n## What cannot be gated\n/, channel.name)
    const webhook = channel.proof !== 'none'
    for (const { key, required } of channel.settings) {
      if (required && webhook) assert.ok(page.includes(key), `${channel.name} ${key}`)
    }
  }
})
