/** The readers that stand before every decision: bytes that two programs could read differently are refused. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  dig,
  field,
  formFieldsMax,
  id,
  idCharsMax,
  instant,
  jsonDepthMax,
  list,
  readForm,
  readFormText,
  readJson,
  readJsonText,
  withoutPaths,
  writeJson,
} from '../../src/channels/json.ts'

const read = (text: string) => readJson(Buffer.from(text))
const because = (text: string) => {
  const found = read(text)
  return found.ok ? 'read' : found.because
}
const nested = (levels: number) => '['.repeat(levels) + ']'.repeat(levels)

test('whatever JSON.parse reads from text that JSON.stringify wrote is read the same', () => {
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 4 }), (value) => {
      const text = JSON.stringify(value, null, 1)
      if (text.includes('"__proto__"')) return
      const found = read(text)
      assert.ok(found.ok)
      assert.deepEqual(JSON.parse(writeJson(found.value)), JSON.parse(text))
    }),
    { numRuns: 100 },
  )
})

test('one key written twice anywhere is refused, however it is spelled', () => {
  const key = fc.oneof(
    fc.string({ maxLength: 6 }),
    fc.constantFrom('a"b', 'a\\', '\\"', ':', '":"'),
  )
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), key, fc.boolean(), (value, name, spell) => {
      const plain = JSON.stringify(name)
      const escapes = Array.from(
        { length: name.length },
        (_, i) => `\\u${name.charCodeAt(i).toString(16).padStart(4, '0')}`,
      ).join('')
      const inner = JSON.stringify(value)
      const twice = `{${plain}:1,"z":${inner},${spell ? `"${escapes}"` : plain} :${inner}}`
      const text = `[{"ok":[${twice}]}]`
      assert.equal(read(text).ok, false)
    }),
    { numRuns: 300 },
  )
})

test('the same key in two objects, or as a value, is no repetition', () => {
  for (const text of [
    '[{"a":1},{"a":1}]',
    '{"a":"a","b":"a"}',
    '{"a":{"a":{"a":1}}}',
    '{"a":"\\"a\\":1","b":"a\\\\"}',
    '{"a":": \\"a\\": ","\\"":1,"\\\\":2,"\\\\\\"":3}',
    '{ "a" \t\r\n : 1 }',
    '""',
    '{}',
  ]) {
    assert.equal(because(text), 'read', text)
  }
})

test('bytes that are not plain UTF-8 JSON are refused with a reason of ours', () => {
  assert.equal(because('\ufeff{}'), 'starts with a byte order mark')
  assert.equal(because(''), 'not JSON')
  assert.equal(because('{"a":1}x'), 'not JSON')
  assert.equal(because("{'a':1}"), 'not JSON')
  assert.equal(because('{"a":1,"a":1}'), 'a key appears twice in one object')
  assert.equal(because('{"__proto__":1}'), 'has the key "__proto__"')
  assert.equal(because('{"a":{"\\u005f_proto__":1}}'), 'has the key "__proto__"')
  assert.equal(because('[1e999]'), 'a number is out of range')
  for (const bytes of [[0xff], [0x22, 0xc0, 0xaf, 0x22], [0x22, 0xed, 0xa0, 0x80, 0x22]]) {
    const found = readJson(Buffer.from(bytes))
    assert.equal(found.ok ? '' : found.because, 'not UTF-8')
  }
  const utf16 = readJson(Buffer.from('{"a":1}', 'utf16le'))
  assert.equal(utf16.ok, false)
})

test('nesting is read to the bound and not beyond it, and a flood of brackets does no harm', () => {
  assert.equal(read(nested(jsonDepthMax)).ok, true)
  assert.equal(because(nested(jsonDepthMax + 1)), `nested deeper than ${jsonDepthMax} levels`)
  assert.equal(read(nested(400_000)).ok, false)
  assert.equal(read('{"a":'.repeat(200_000)).ok, false)
})

test('an identifier keeps every digit, and values of other kinds are no identifiers', () => {
  const found = read(
    '{"a":12345678901234567891,"b":9007199254740991,"c":-9007199254740993,"d":1e30}',
  )
  assert.ok(found.ok)
  assert.equal(id(field(found.value, 'a')), '12345678901234567891')
  assert.equal(id(field(found.value, 'b')), '9007199254740991')
  assert.equal(id(field(found.value, 'c')), '-9007199254740993')
  assert.equal(id(field(found.value, 'd')), undefined)
  assert.match(writeJson(found.value), /"a":12345678901234567891/)
  for (const value of ['', 1.5, NaN, true, null, undefined, [], ['1'], {}, 'a\nb', 'a\u0000']) {
    assert.equal(id(value), undefined)
  }
  assert.equal(id('x'.repeat(idCharsMax)), 'x'.repeat(idCharsMax))
  assert.equal(id('x'.repeat(idCharsMax + 1)), undefined)
})

test('inherited properties are never read', () => {
  assert.equal(field({}, 'constructor'), undefined)
  assert.equal(field([1], 'length'), undefined)
  assert.equal(field('text', 'length'), undefined)
  assert.equal(dig({ a: { toString: 1 } }, 'a', 'toString'), 1)
  assert.equal(dig({ a: {} }, 'a', 'toString'), undefined)
  assert.deepEqual(list({ 0: 'a', length: 1 }), [])
})

test('parts are cut out by path and arrays close their gaps', () => {
  const value = { a: [1, 2, 3], b: { c: [[{ d: 1, e: 2 }]] } }
  const cut = withoutPaths(value, [
    ['a', 0],
    ['a', 2],
    ['b', 'c', 0, 0, 'd'],
  ])
  assert.deepEqual(cut, { a: [2], b: { c: [[{ e: 2 }]] } })
  assert.deepEqual(withoutPaths(value, []), value)
})

test('a form is read as its sender wrote it', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.string()), (fields) => {
      const wanted = Object.entries(fields).filter(([key]) => !key.includes('['))
      const text = new URLSearchParams(wanted).toString()
      if (wanted.some((pair) => pair.join('') !== pair.join('').toWellFormed())) return
      const found = readForm(Buffer.from(text))
      assert.ok(found.ok)
      const expected = text === '' ? [] : wanted
      assert.deepEqual([...found.value], expected)
    }),
    { numRuns: 200 },
  )
})

test('a form that two programs could read differently is refused', () => {
  for (const text of [
    'a=1&a=1',
    'a=1&%61=2',
    'a+b=1&a%20b=2',
    'From[]=1',
    'a%5B0%5D=1',
    'a=%',
    'a=%zz',
    'a=%c0%af',
    'a&&',
  ]) {
    assert.equal(readFormText(text).ok, false, text)
  }
  assert.equal(readForm(Buffer.from([0x61, 0x3d, 0xff])).ok, false)
  const many = (n: number) => Array.from({ length: n }, (_, i) => `f${i}=1`).join('&')
  assert.equal(readFormText(many(formFieldsMax)).ok, true)
  assert.equal(readFormText(many(formFieldsMax + 1)).ok, false)
})

test('times are whole numbers of their unit or nothing', () => {
  assert.equal(instant(1_764_000_000, 1000), 1_764_000_000_000)
  assert.equal(instant('1764000000', 1000), 1_764_000_000_000)
  for (const value of [0, -1, 1.5, '1.5', '', 'x', null, undefined, '1e3', 2 ** 60]) {
    assert.equal(instant(value, 1000), undefined)
  }
})

test('a text of one form field is read by the same rules', () => {
  assert.equal(readJsonText('{"a":1}').ok, true)
  assert.equal(readJsonText('{"a":1,"a":2}').ok, false)
})
