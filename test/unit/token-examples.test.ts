import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { judgeToken } from '../../src/identity/token-rule.ts'

const root = new URL('../..', import.meta.url).pathname

/** Where a reader finds a token to copy: behind Bearer, behind a key or variable that ends in token, or as one of ours. */
const printed = [
  /bearer +([\w+/=.~-]+)/gi,
  /token["'`]?\s*[:=]\s*["'`]?([\w+/=.~-]+)/gi,
  /(hsk_\w+)/g,
]

function tokensIn(text: string): readonly string[] {
  return printed.flatMap((pattern) => Array.from(text.matchAll(pattern), ([, token = '']) => token))
}

test('no token printed in our documents and templates may be used', () => {
  const documents = readdirSync(root, { encoding: 'utf8' })
    .filter((name) => /\.(?:md|ya?ml|json5)$/.test(name))
    .concat(
      ['docs', 'deploy'].flatMap((folder) =>
        readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
          .filter((name) => /\.(?:md|ya?ml|json5?|sh|service|conf)$/.test(name))
          .map((name) => join(folder, name)),
      ),
    )
  for (const name of documents) {
    for (const token of tokensIn(readFileSync(join(root, name), 'utf8'))) {
      assert.notEqual(
        judgeToken(token),
        undefined,
        `${name} prints ${token}: add it to exampleTokens`,
      )
    }
  }
})

test('the search for printed tokens sees one', () => {
  const token = 'hsk_Zq8Xw2Lm_0f9Yc7Vt5Rb3Nk1Jh6Gd4Sa2Px8Mz7Wq5Ue3Ti1Oy9Lr'
  for (const text of [
    `curl -H "Authorization: Bearer ${token}"`,
    `"token": "${token}"`,
    `HARDSHELL_TOKEN=${token}`,
    token,
  ]) {
    assert.ok(tokensIn(text).includes(token), text)
    assert.equal(judgeToken(token), undefined)
  }
})
