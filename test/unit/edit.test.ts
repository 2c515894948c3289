/** Edits of a JSON5 text: the value changes, every other byte stays. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { applyDocument, removeValue, setValue } from '../../src/config/edit.ts'
import { parseJson5 } from '../../src/config/json5.ts'

const text = `// Head, with "quotes" and { braces }
{
  gateway: {
    port: 8080, // the port: 1, 2
    'auth': { mode: "token", token: 'old \\' one' /* kept */ },
  },
  /* agent: { token: 'not this' } */
  list: [1, 'two', { three: 3 }], // tail
  url: "http://127.0.0.1:1//x",
}
// end
`

const valueOf = (from: string): unknown => {
  const { value, problems } = parseJson5(from)
  assert.deepEqual(problems, [])
  return JSON.parse(JSON.stringify(value))
}

test('a value is replaced in its own span and nowhere else', () => {
  assert.equal(
    setValue(text, ['gateway', 'auth', 'token'], 'new'),
    text.replace(`'old \\' one'`, '"new"'),
  )
  assert.equal(setValue(text, ['gateway', 'port'], 9), text.replace('8080', '9'))
  assert.equal(setValue(text, ['list', 1], 'b'), text.replace("'two'", '"b"'))
  assert.equal(
    setValue(text, ['url'], { encrypted: 'a.b' }),
    text.replace('"http://127.0.0.1:1//x"', '{ encrypted: "a.b" }'),
  )
})

test('a missing key goes behind the last one, indented and with the commas of the file', () => {
  assert.equal(
    setValue(text, ['gateway', 'bind'], '::1'),
    text.replace('/* kept */ },\n', '/* kept */ },\n    bind: "::1",\n'),
  )
  assert.equal(
    setValue(text, ['agent', 'token'], 'x'),
    text.replace('1//x",\n', '1//x",\n  agent: {\n    token: "x",\n  },\n'),
  )
  assert.equal(setValue('{ a: 1 }', ['b'], 2), '{ a: 1, b: 2 }')
  assert.equal(setValue('{}', ['b'], 2), '{\n  b: 2,\n}')
  assert.equal(setValue('{"a": {"b": 1}}', ['a', 'c'], 2), '{"a": {"b": 1, "c": 2}}')
  assert.equal(
    setValue('{\n  a: 1 // note\n  // last\n}', ['b'], 2),
    '{\n  a: 1, // note\n  // last\n  b: 2\n}',
  )
  assert.equal(
    setValue('{\r\n\t"a": 1\r\n}\r\n', ['b'], [1, 'x']),
    '{\r\n\t"a": 1,\r\n\t"b": [1, "x"]\r\n}\r\n',
  )
  // An object goes over lines, which end as those of the file do.
  assert.equal(
    setValue('{\r\n  a: 1,\r\n}\r\n', ['b', 'c'], 'x'),
    '{\r\n  a: 1,\r\n  b: {\r\n    c: "x",\r\n  },\r\n}\r\n',
  )
  assert.equal(
    setValue('{\r\n  a: 1,\r\n}\r\n', ['a', 'c'], 'x'),
    '{\r\n  a: {\r\n    c: "x",\r\n  },\r\n}\r\n',
  )
})

test('a removed key takes its comma and its line along, and no comment', () => {
  assert.equal(removeValue('{ a: 1, b: 2 }', ['a']), '{ b: 2 }')
  assert.deepEqual(valueOf(removeValue('{ a: 1, b: 2 }', ['b'])), { a: 1 })
  assert.equal(removeValue('{\n  a: 1,\n  b: 2,\n}', ['b']), '{\n  a: 1,\n}')
  assert.equal(removeValue('{\n  a: 1, // A\n  b: 2 // B\n}', ['b']), '{\n  a: 1 // A\n  // B\n}')
  assert.equal(removeValue(text, ['nothing', 'there']), text)
})

test('a text that is not JSON5 is not edited', () => {
  assert.throws(() => setValue('{ a: 1', ['a'], 2), SyntaxError)
  assert.throws(() => setValue('{ a: 1, "a": 2 }', ['a'], 3), SyntaxError)
})

/** A document as a person may write it: comments, quotes, commas and blanks at random. */
const names = fc.constantFrom('a', 'b', 'key', 'x-y', 'ü', 'long name', '$d')
const plain = fc.oneof(
  fc.integer(),
  fc.boolean(),
  fc.constant(null),
  fc.string(),
  fc.constantFrom('//', '/*', '{', "it's", '"', ',', '\u2028', '\\'),
)
const documents = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    plain,
    fc.array(tie('value'), { maxLength: 3 }),
    fc.dictionary(names, tie('value'), { maxKeys: 4 }),
  ),
})).value
const objects = fc.dictionary(names, documents, { maxKeys: 4 })
const blanks = fc.constantFrom('', ' ', '\n', '\n  ', ' /* c: 1, } */ ', ' // d: [2, {\n', '\t')

/** As the editor spells a plain value. */
const literal = (value: unknown) => JSON.stringify(value).replaceAll('\u2028', String.raw`\u2028`)

function write(value: unknown, blank: () => string): string {
  const inner = (items: readonly string[], open: string, close: string): string => {
    const tail = items.length > 0 && blank().length % 2 === 1 ? ',' : ''
    return `${open}${blank()}${items.join(`${blank()},${blank()}`)}${blank()}${tail}${blank()}${close}`
  }
  if (Array.isArray(value)) {
    return inner(
      value.map((item) => write(item, blank)),
      '[',
      ']',
    )
  }
  if (typeof value !== 'object' || value === null) return literal(value)
  const members = Object.entries(value).map(([name, item]) => {
    const key = /^[\w$]+$/.test(name) && blank().length > 1 ? name : JSON.stringify(name)
    return `${key}${blank()}:${blank()}${write(item, blank)}`
  })
  return inner(members, '{', '}')
}

const written = fc
  .record({ value: objects, pads: fc.array(blanks, { minLength: 1 }) })
  .map((given) => {
    let at = 0
    const blank = () => given.pads[at++ % given.pads.length] ?? ''
    return { value: given.value, text: `${blank()}${write(given.value, blank)}${blank()}` }
  })

const commentsOf = (from: string) => from.match(/\/\* c: 1, } \*\/|\/\/ d: \[2, \{/g) ?? []

test('whatever the file looks like, a replaced value reads back and the bytes around it are the same', () => {
  fc.assert(
    fc.property(written, plain, fc.nat(), ({ value, text: from }, put, pick) => {
      const keys = Object.keys(value)
      const name = keys[pick % Math.max(1, keys.length)]
      fc.pre(name !== undefined)
      const marked = setValue(from, [name], 'MARK-of-the-test')
      const [head = '', tail = ''] = marked.split('"MARK-of-the-test"')
      assert.ok(from.startsWith(head) && from.endsWith(tail))
      const edited = setValue(from, [name], put)
      assert.equal(edited, `${head}${literal(put)}${tail}`)
      assert.deepEqual(valueOf(edited), JSON.parse(JSON.stringify({ ...value, [name]: put })))
    }),
    { numRuns: 300 },
  )
})

test('whatever the file looks like, an edit to another document reads back as it and keeps comments', () => {
  fc.assert(
    fc.property(written, objects, ({ value, text: from }, after) => {
      const edited = applyDocument(from, value, after)
      assert.deepEqual(valueOf(edited), JSON.parse(JSON.stringify(after)))
      assert.equal(applyDocument(edited, after, after), edited)
    }),
    { numRuns: 300 },
  )
})

test('a key that is put in or taken out moves no comment out of the file', () => {
  fc.assert(
    fc.property(written, ({ value, text: from }) => {
      const grown = setValue(from, ['zz'], 1)
      assert.deepEqual(valueOf(grown), JSON.parse(JSON.stringify({ ...value, zz: 1 })))
      assert.equal(commentsOf(grown).length, commentsOf(from).length)
      assert.deepEqual(valueOf(removeValue(grown, ['zz'])), JSON.parse(JSON.stringify(value)))
    }),
    { numRuns: 300 },
  )
})
