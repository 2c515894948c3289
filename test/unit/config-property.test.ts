import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseJson5 } from '../../src/config/json5.ts'
import { ConfigFailure, problemMeanings } from '../../src/config/problems.ts'
import { readDocument, editDistance } from '../../src/config/read.ts'
import type { Reading } from '../../src/config/read.ts'
import { isAvailable, rowsByPath } from '../../src/config/tree.ts'
import { codesOf, load, nested } from '../support/config-load.ts'

const paths = [...rowsByPath].map(([path]) => path.replaceAll('*', 'telegram'))
const segments = [...new Set(paths.flatMap((path) => path.split('.')))]
const newReading = (): Reading => ({
  env: {},
  secretOf: () => 'x',
  open: () => ({ because: 'no', wrongKey: false }),
  problems: [],
  sources: [],
})

const anyKey = fc.oneof(fc.constantFrom(...segments, '__proto__', 'constructor'), fc.string())
const anyDocument = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.jsonValue(),
    fc.constantFrom('${A}', '0.0.0.0', '*', 'open', '10MB', '30d', '-1s', true, 8080),
    fc.dictionary(anyKey, tie('value'), { maxKeys: 5 }),
    fc.array(tie('value'), { maxLength: 3 }),
  ),
})).value

test('any document is read to problems with known codes, never to an exception', () => {
  fc.assert(
    fc.property(anyDocument, (document) => {
      const reading = newReading()
      readDocument(document, reading)
      for (const { code, message, remedy } of reading.problems) {
        assert.ok(Object.hasOwn(problemMeanings, code))
        assert.ok(message.length > 0 && /[.?]$/.test(remedy), `${message} / ${remedy}`)
        assert.doesNotMatch(message, /[\u0000-\u001f]/)
      }
    }),
    { numRuns: 500 },
  )
})

test('any text is parsed to a value or one problem, never to an exception', () => {
  const bits = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ':',
    ',',
    '"',
    "'",
    'a',
    '//',
    '/*',
    '*/',
    '\\',
    ' ',
    '\n',
  )
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(bits).map((parts) => parts.join('')),
      ),
      (text) => {
        const { problems, value } = parseJson5(text)
        assert.ok(value !== undefined || problems.length === 1)
      },
    ),
    { numRuns: 500 },
  )
})

test('a document that JSON writes never has a key twice', () => {
  fc.assert(
    fc.property(fc.jsonValue(), (value) => {
      assert.deepEqual(parseJson5(JSON.stringify(value)).problems, [])
    }),
  )
})

test('a very deep document is refused and not fallen over', () => {
  const deep = (depth: number) => parseJson5(`${'{"gateway":'.repeat(depth)}1${'}'.repeat(depth)}`)
  const { value, problems } = deep(100_000)
  assert.equal(value, undefined)
  assert.deepEqual(
    problems.map(({ code }) => code),
    ['SYNTAX'],
  )
  const reading = newReading()
  readDocument(deep(60).value, reading)
  assert.deepEqual(
    reading.problems.map(({ code, path }) => `${path} ${code}`),
    ['gateway.gateway UNKNOWN_KEY'],
  )
})

test('any key that is not in the table is reported', () => {
  fc.assert(
    fc.property(fc.constantFrom(...paths), fc.string({ minLength: 1 }), (path, name) => {
      const parent = path.split('.').slice(0, -1)
      const known = paths.some((each) => `${each}.`.startsWith(`${[...parent, name].join('.')}.`))
      fc.pre(!known && !name.includes('.') && !/^[A-Za-z0-9]/.test(name))
      const reading = newReading()
      const inner = Object.fromEntries([[name, 1]])
      readDocument(parent.length === 0 ? inner : nested(parent.join('.'), inner), reading)
      const codes = reading.problems.map(({ code }) => code)
      assert.equal(codes.length, 1)
      assert.ok(codes[0] === 'UNKNOWN_KEY' || codes[0] === 'NOT_AVAILABLE')
    }),
  )
})

test('the order of keys changes neither the problems nor the hash', () => {
  const parts = [
    ['gateway.port', 9000],
    ['gateway.healthPath', '/up'],
    ['security.maxRequestSize', '1MB'],
    ['security.limits.headerTimeout', '3s'],
    ['agent.upstream', 'http://127.0.0.1:3000'],
    ['gateway.prot', 1],
    ['security.limits.bodyTimeout', 3],
  ] as const
  const merged = (order: readonly (readonly [string, unknown])[]): object => {
    const root: Record<string, unknown> = {}
    for (const [path, value] of order) {
      const names = path.split('.')
      const last = names.pop() ?? ''
      const at = names.reduce((node, name) => {
        node[name] ??= {}
        return node[name] as Record<string, unknown>
      }, root)
      at[last] = value
    }
    return root
  }
  const wrong = codesOf(merged(parts))
  const good = parts.slice(0, 5)
  const { hash } = load(merged(good))
  const shuffled = fc.shuffledSubarray([...parts], { minLength: parts.length })
  fc.assert(
    fc.property(shuffled, (order) => {
      assert.deepEqual(codesOf(merged(order)), wrong)
      const kept = order.filter((part) => good.includes(part))
      assert.equal(load(merged(kept)).hash, hash)
    }),
    { numRuns: 20 },
  )
})

test('a misspelt key is led back to the key that was meant', () => {
  const available = [...rowsByPath]
    .filter(([, row]) => isAvailable(row))
    .map(([path]) => path.replaceAll('*', 'telegram'))
  fc.assert(
    fc.property(fc.constantFrom(...available), fc.nat(), (path, at) => {
      const names = path.split('.')
      const last = names.pop() ?? ''
      fc.pre(last.length >= 6)
      const cut = at % last.length
      const misspelt = last.slice(0, cut) + last.slice(cut + 1)
      const twins = available.filter((other) => {
        const parts = other.split('.')
        const word = parts.pop() ?? ''
        return parts.join('.') === names.join('.') && editDistance(word, misspelt) <= 1
      })
      // "sToken" may be asToken or hsToken: only where one key is meant can it be named.
      fc.pre(twins.length === 1)
      const reading = newReading()
      readDocument(nested([...names, misspelt].join('.'), 1), reading)
      assert.match(reading.problems[0]?.remedy ?? '', new RegExp(`Did you mean ${path}\\?`))
    }),
  )
})

test('edit distance is zero for the same word, symmetric, and one for neighbours swapped', () => {
  assert.equal(editDistance('port', 'prot'), 1)
  assert.equal(editDistance('bind', 'bnd'), 1)
  fc.assert(
    fc.property(fc.string({ maxLength: 12 }), fc.string({ maxLength: 12 }), (a, b) => {
      assert.equal(editDistance(a, a), 0)
      assert.equal(editDistance(a, b), editDistance(b, a))
      assert.ok(editDistance(a, b) <= Math.max(a.length, b.length))
    }),
  )
})

test('a failure always carries its problems', () => {
  const failure = new ConfigFailure(undefined, [])
  assert.equal(failure.exitCode, 1)
  assert.deepEqual(failure.problems, [])
})
