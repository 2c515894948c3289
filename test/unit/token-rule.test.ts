import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { exampleTokens, judgeToken } from '../../src/identity/token-rule.ts'

/** 20 different characters without a run; the base of the boundary cases. */
const twenty = 'k3v9Qz1WmXp7RtB5nLaG'

const code = (value: string, agentToken?: string) =>
  judgeToken(value, agentToken === undefined ? {} : { agentToken })?.code

test('what "openssl rand -hex 32" prints is accepted', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), () => {
      assert.equal(code(randomBytes(32).toString('hex')), undefined)
    }),
    { numRuns: 500 },
  )
})

test('what "openssl rand -base64 32" prints is accepted', () => {
  for (let count = 0; count < 500; count += 1) {
    assert.equal(code(randomBytes(32).toString('base64')), undefined)
    assert.equal(code(randomBytes(32).toString('base64url')), undefined)
  }
})

test('a token of 32 characters passes and one of 31 is too short', () => {
  const value = `${twenty}k9Q1kXvzaGkv`
  assert.equal(value.length, 32)
  assert.equal(code(value), undefined)
  assert.equal(code(value.slice(0, 31)), 'TOKEN_SHORT')
})

test('20 different characters are enough and 19 are not', () => {
  const nineteen = twenty.slice(0, 19)
  const build = (base: string) => `${base}${base.slice(3, 15)}${base.slice(1, 9)}`
  assert.equal(new Set(build(twenty)).size, 20)
  assert.equal(code(build(twenty)), undefined)
  assert.equal(new Set(build(nineteen)).size, 19)
  assert.equal(code(build(nineteen)), 'TOKEN_PLAIN')
})

test('64 hexadecimal digits with 10 different ones pass, 63 digits or 9 different ones do not', () => {
  const hex = (digits: string) =>
    Array.from({ length: 64 }, (_, at) => digits[(at * at + (at >> 3)) % digits.length]).join('')
  const ten = '0a1b2c3d4e'
  const value = ten + hex(ten).slice(10)
  assert.equal(new Set(value).size, 10)
  assert.equal(code(value), undefined)
  assert.equal(code(value.slice(0, 63)), 'TOKEN_PLAIN')
  const nine = ten.slice(0, 9)
  const poor = nine + hex(nine).slice(9)
  assert.equal(new Set(poor).size, 9)
  assert.equal(code(poor), 'TOKEN_PLAIN')
})

test('the two cases of a hexadecimal letter are one digit', () => {
  const mixed = '0a1b2c3dA'.repeat(7) + 'B'
  assert.equal(mixed.length, 64)
  assert.equal(code(mixed), 'TOKEN_PLAIN')
})

test('every printed example is refused, in any case', () => {
  for (const example of exampleTokens) {
    assert.equal(code(example), 'TOKEN_EXAMPLE')
    assert.equal(code(example.toUpperCase()), 'TOKEN_EXAMPLE')
  }
})

test('a placeholder prefix is refused however strong the rest is', () => {
  for (const prefix of [
    'your-',
    'change-me',
    'example',
    'secret',
    'Your-',
    'CHANGE-ME',
    'Secret',
  ]) {
    assert.equal(code(prefix + randomBytes(32).toString('base64')), 'TOKEN_EXAMPLE')
  }
})

test('an unset variable that was written out as text is not a token', () => {
  assert.equal(code('${MOLTBOT_TOKEN}'), 'TOKEN_EXAMPLE')
})

test('a block that is repeated over the whole value is refused, and one that is not passes', () => {
  assert.equal(code(twenty + twenty), 'TOKEN_PATTERN')
  assert.equal(code(`${twenty}${twenty}x`), undefined)
  const hexBlock = '0a1b2c3d4e5f6879'
  assert.equal(code(hexBlock.repeat(4)), 'TOKEN_PATTERN')
})

test('a keyboard or alphabet run of 8 is refused in both directions and any case, one of 7 passes', () => {
  for (const run of [
    'abcdefgh',
    'stuvwxyz',
    '12345678',
    '34567890',
    'qwertyui',
    'QWERTYUI',
    'sdfghjkl',
    '@#$%^&*(',
  ]) {
    const reversed = Array.from(run).reverse().join('')
    assert.equal(code(`${twenty}.${run}_Zq2`), 'TOKEN_PATTERN', run)
    assert.equal(code(`${twenty}.${reversed}_Zq2`), 'TOKEN_PATTERN', reversed)
    assert.equal(code(`${twenty}.${run.slice(0, 7)}_Zq22`), undefined, run.slice(0, 7))
  }
})

test('a value that no header can carry is refused', () => {
  assert.equal(code(`${twenty} ${twenty}z`), 'TOKEN_PATTERN')
  assert.equal(code(`${twenty}é${twenty}z`), 'TOKEN_PATTERN')
  assert.equal(code(`${twenty}\n${twenty}z`), 'TOKEN_PATTERN')
})

test("the agent's own token is refused, and one that differs in case passes", () => {
  const value = `${twenty}k9Q1kXvzaGkv`
  assert.equal(code(value, value), 'TOKEN_IS_AGENTS')
  assert.equal(code(value, value.toLowerCase()), undefined)
})

test('no verdict repeats the value', () => {
  fc.assert(
    fc.property(fc.string({ minLength: 5, maxLength: 80 }), (value) => {
      const verdict = judgeToken(`zq${value}`, { agentToken: 'q' })
      if (verdict === undefined) return
      assert.ok(!JSON.stringify(verdict).includes(`zq${value}`))
    }),
  )
})
