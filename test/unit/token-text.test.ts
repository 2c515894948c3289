import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { judgeToken } from '../../src/identity/token-rule.ts'
import { makeToken, readToken } from '../../src/identity/token-text.ts'

test('a token is hsk, an id, 43 digits of secret and 6 of checksum', () => {
  const { id, token } = makeToken((count) => new Uint8Array(count).fill(0xff))
  assert.equal(token.length, 62)
  assert.match(token, /^hsk_[0-9A-Za-z]{8}_[0-9A-Za-z]{49}$/)
  assert.equal(token.split('_')[1], id)
  // 2^256 - 1 in base 62: all bits are in the text.
  assert.equal(token.slice(13, 56), 'yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1')
})

test('different random bits make different tokens', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: 40, maxLength: 40 }),
      fc.integer({ min: 0, max: 319 }),
      (bytes, bit) => {
        const text = (source: Uint8Array) =>
          makeToken((count) => (count === 8 ? source.slice(0, 8) : source.slice(8))).token
        const other = Uint8Array.from(bytes)
        other[bit >> 3] = (other[bit >> 3] ?? 0) ^ (1 << (bit & 7))
        // The id takes the lowest 8 digits of 64 bits; every bit of the secret counts.
        if (bit >= 64) assert.notEqual(text(other), text(bytes))
      },
    ),
  )
})

test('made tokens pass the token rule and their own checksum', () => {
  for (let count = 0; count < 500; count += 1) {
    const { id, token } = makeToken(randomBytes)
    assert.equal(judgeToken(token), undefined)
    assert.deepEqual(readToken(token), { id, intact: true })
  }
})

test('a mistyped token is seen by its checksum', () => {
  const { token } = makeToken(randomBytes)
  for (let at = 13; at < token.length; at += 1) {
    const typo = token.slice(0, at) + (token[at] === 'x' ? 'y' : 'x') + token.slice(at + 1)
    assert.equal(readToken(typo)?.intact, false, `character ${at}`)
  }
})

test('another text is no token', () => {
  for (const text of [
    '',
    'hsk_',
    'x'.repeat(62),
    makeToken(randomBytes).token.slice(1),
    `${makeToken(randomBytes).token}0`,
  ]) {
    assert.equal(readToken(text), undefined)
  }
})
