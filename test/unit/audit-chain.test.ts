/** The hash chain: every change to a log is found, and found at the record that was changed. */
import assert from 'node:assert/strict'
import { hash as digest } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  canonical,
  firstBreak,
  follow,
  genesis,
  link,
  parseRecord,
  recordable,
  type Head,
  type Value,
} from '../../src/audit/chain.ts'
import type { AuditEntry } from '../../src/audit/record.ts'
import { limits } from '../../src/limits.ts'

const time = '2026-01-31T08:00:00.000Z'
const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined })
const anyText = optional(fc.string({ unit: 'binary', maxLength: 40 }))
const anyCount = optional(fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER }))

/** Any entry that a caller may append; members that are undefined are left out, as the type demands. */
const anyEntry: fc.Arbitrary<AuditEntry> = fc
  .record({
    requestId: optional(fc.uuid()),
    identity: anyText,
    peer: optional(fc.ipV6()),
    method: optional(fc.constantFrom('GET', 'POST')),
    path: optional(fc.webPath()),
    code: optional(fc.constantFrom('UNAUTHENTICATED', 'RATE_LIMITED')),
    status: optional(fc.integer({ min: 100, max: 599 })),
    bytes: anyCount,
    ms: anyCount,
    channel: anyText,
    sender: anyText,
    room: anyText,
    config: anyText,
    because: anyText,
    count: anyCount,
    first: anyCount,
  })
  .map((members) => ({
    event: 'request.allowed',
    ...Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined)),
  }))

function chain(entries: readonly AuditEntry[]): Buffer[] {
  const lines: Buffer[] = []
  let head: Head = genesis
  for (const entry of entries) {
    const linked = link(head, time, entry)
    lines.push(Buffer.from(linked.line.slice(0, -1)))
    head = linked.head
  }
  return lines
}

const entries = (count: number): AuditEntry[] =>
  Array.from({ length: count }, (_, index) => ({
    event: 'request.allowed',
    requestId: `request-${index}`,
    path: '/ü',
    status: 200,
  }))

/** A chain of 2 to 8 records and the index of one of them. */
const anyPlace = fc
  .array(anyEntry, { minLength: 2, maxLength: 8 })
  .chain((list) => fc.tuple(fc.constant(chain(list)), fc.nat({ max: list.length - 1 })))

test('a log as it was written has no break, wherever one begins to read', () => {
  fc.assert(
    fc.property(anyPlace, ([lines, at]) => {
      assert.equal(firstBreak(lines, genesis), undefined)
      assert.equal(firstBreak(lines.slice(at), undefined), undefined)
    }),
  )
})

test('a flipped bit is found at its record', () => {
  fc.assert(
    fc.property(anyPlace, fc.nat(), fc.nat({ max: 7 }), ([lines, at], position, bit) => {
      const line = Buffer.from(lines[at] ?? '')
      const offset = position % line.length
      line[offset] = (line[offset] ?? 0) ^ (1 << bit)
      const found = firstBreak(lines.with(at, line), genesis)
      assert.equal(found?.index, at)
      assert.equal(found.seq, at + 1)
    }),
    { numRuns: 500 },
  )
})

test('each single flipped bit of a record is found', () => {
  const lines = chain(entries(3))
  const original = lines[1] ?? Buffer.alloc(0)
  for (let offset = 0; offset < original.length; offset += 1) {
    for (let bit = 0; bit < 8; bit += 1) {
      const line = Buffer.from(original)
      line[offset] = (line[offset] ?? 0) ^ (1 << bit)
      assert.equal(firstBreak(lines.with(1, line), genesis)?.index, 1, `byte ${offset} bit ${bit}`)
    }
  }
})

test('bytes that are invalid UTF-8 are not taken for the character that replaces them', () => {
  const [line = Buffer.alloc(0)] = chain([{ event: 'x', because: '\ufffd' }])
  const at = line.indexOf(Buffer.from('\ufffd'))
  const changed = Buffer.from(line)
  changed[at] = 0xf3
  assert.equal(changed.toString(), line.toString())
  assert.equal(firstBreak([changed], genesis)?.index, 0)
})

test('a removed record is found where it stood, the last one only by a checkpoint', () => {
  fc.assert(
    fc.property(anyPlace, ([lines, at]) => {
      const found = firstBreak(lines.toSpliced(at, 1), genesis)
      assert.equal(found?.index, at === lines.length - 1 ? undefined : at)
    }),
  )
})

test('swapped records are found at the first of them', () => {
  fc.assert(
    fc.property(anyPlace, ([lines, at]) => {
      fc.pre(at > 0)
      const [before = Buffer.alloc(0), line = Buffer.alloc(0)] = lines.slice(at - 1)
      const found = firstBreak(lines.toSpliced(at - 1, 2, line, before), genesis)
      assert.equal(found?.index, at - 1)
    }),
  )
})

test('an inserted record is found, a copied and a forged one', () => {
  fc.assert(
    fc.property(anyPlace, anyEntry, ([lines, at], entry) => {
      const before = at === 0 ? genesis : headOf(lines[at - 1])
      const forged = Buffer.from(
        link(before, time, { ...entry, event: 'forged' }).line.slice(0, -1),
      )
      // The forged record fits its predecessor, so that the next one shows it.
      assert.equal(firstBreak(lines.toSpliced(at, 0, forged), genesis)?.index, at + 1)
      const copy = lines[at] ?? Buffer.alloc(0)
      assert.equal(firstBreak(lines.toSpliced(at, 0, copy), genesis)?.index, at + 1)
    }),
  )
})

test('a record cut short is found, and so are two that lost the line end between them', () => {
  fc.assert(
    fc.property(anyPlace, fc.nat(), ([lines, at], length) => {
      const line = lines[at] ?? Buffer.alloc(0)
      const cut = line.subarray(0, length % line.length)
      assert.equal(firstBreak(lines.with(at, cut), genesis)?.index, at)
      const joined = Buffer.concat(lines.slice(at, at + 2))
      if (at + 1 < lines.length) {
        assert.equal(firstBreak(lines.toSpliced(at, 2, joined), genesis)?.index, at)
      }
    }),
  )
})

test('a rewritten beginning does not fit the records behind it', () => {
  const lines = chain(entries(5))
  const other = chain([{ event: 'request.refused' }, ...entries(1)])
  const found = firstBreak([...other, ...lines.slice(2)], genesis)
  assert.equal(found?.index, 2)
  assert.equal(found.because, 'prev is not the hash of the record before')
})

test('anybody can check the chain: the record without its hash, by RFC 8785, behind prev', () => {
  fc.assert(
    fc.property(fc.array(anyEntry, { minLength: 1, maxLength: 5 }), (list) => {
      let prev = '0'.repeat(64)
      for (const line of chain(list)) {
        const { hash, ...record } = JSON.parse(line.toString()) as Record<string, Value>
        assert.equal(record['prev'], prev)
        assert.equal(digest('sha256', prev + canonical(record), 'hex'), hash)
        prev = String(hash)
      }
    }),
  )
})

test('canonical form sorts by UTF-16 code units and writes strings as RFC 8785 does', () => {
  // The property names of RFC 8785 §3.2.3, with values of the kinds that a record may have.
  const record = {
    '\u20ac': 'Euro Sign',
    '\r': 'Carriage Return',
    '\ufb33': 'Hebrew Letter Dalet With Dagesh',
    '1': 'One',
    '\u{1f600}': 'Emoji: Grinning Face',
    '\u0080': 'Control',
    '\u00f6': 'Latin Small Letter O With Diaeresis',
  }
  assert.equal(
    canonical(record),
    '{"\\r":"Carriage Return","1":"One","\u0080":"Control","ö":"Latin Small Letter O With Diaeresis",' +
      '"€":"Euro Sign","\u{1f600}":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}',
  )
  assert.equal(
    canonical({ s: '\u20ac$\u000f\nA\'B"\\\\"/' }),
    '{"s":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
  )
  assert.equal(
    canonical({ b: 9007199254740991, a: -0, c: undefined }),
    '{"a":0,"b":9007199254740991}',
  )
})

test('numbers that are no safe integers are refused, and lone surrogates are not canonical', () => {
  for (const value of [1.5, Number.NaN, Number.POSITIVE_INFINITY, Number.MAX_SAFE_INTEGER + 1]) {
    assert.throws(() => canonical({ value }), TypeError)
    assert.throws(() => link(genesis, time, { event: 'x', ms: value }), TypeError)
  }
  assert.throws(() => canonical({ value: '\ud800' }), TypeError)
})

test('what a client chose cannot break a line, reach a terminal or fill the disk', () => {
  const nasty = 'a\r\n{"seq":9}\u001b[2J\u009b\u2028\u202e\ud800\u0000'
  const { line } = link(genesis, time, { event: 'x', path: nasty, identity: '"\\' })
  assert.equal(line.indexOf('\n'), line.length - 1)
  assert.match(line, /^[\x20-\x7e\ufffd]*\n$/)
  assert.equal(
    parseRecord(Buffer.from(line.trimEnd()))?.path,
    'a\r\n{"seq":9}\u001b[2J\ufffd\ufffd\ufffd\ufffd\u0000',
  )
  const most = limits.auditValueChars.default
  assert.equal(recordable('x'.repeat(most)), 'x'.repeat(most))
  assert.equal(recordable('x'.repeat(most + 1)), `${'x'.repeat(most - 1)}…`)
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 600 }), (text) => {
      const kept = recordable(text)
      assert.ok(kept.length <= most && kept.isWellFormed())
      assert.equal(recordable(kept), kept)
    }),
  )
})

test('a cut never leaves half of a character', () => {
  const text = `${'x'.repeat(limits.auditValueChars.default - 2)}\u{1f600}\u{1f600}`
  assert.ok(recordable(text).isWellFormed())
})

test('a line that is JSON but no record is a break and not an exception', () => {
  for (const text of ['', '{}', '[]', 'null', '"x"', '{"seq":1}', '\u0000', 'x'.repeat(100)]) {
    const step = follow(genesis, Buffer.from(text))
    assert.ok('because' in step)
    assert.equal(step.because, 'the line is not an audit record')
  }
})

function headOf(line: Buffer | undefined): Head {
  const { seq, hash } = parseRecord(line ?? Buffer.alloc(0)) ?? genesis
  return { seq, hash }
}
