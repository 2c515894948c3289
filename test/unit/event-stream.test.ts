/** Server-sent events, read in bounded memory and written anew. */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'

import fc from 'fast-check'

import { EventReader, spellEvent, type StreamPart } from '../../src/egress/event-stream.ts'

function partsOf(chunks: readonly (string | Buffer)[], maxBytes = 1000): StreamPart[] {
  const reader = new EventReader(maxBytes)
  return chunks.flatMap((chunk) => [...reader.read(Buffer.from(chunk))])
}
const event = (more: object) => ({
  kind: 'event',
  type: undefined,
  id: undefined,
  retry: undefined,
  data: undefined,
  ...more,
})

test('an event is read whatever its line ends, and wherever the stream is cut', () => {
  const whole = event({ type: 'receive', id: '7-1', data: '{"a":1}\nä' })
  for (const end of ['\n', '\r', '\r\n']) {
    const lines = ['id: 7-1', 'event:receive', 'data: {"a":1}', 'data:ä', '', '']
    const bytes = Buffer.from(lines.join(end))
    for (let at = 0; at <= bytes.length; at += 1) {
      assert.deepEqual(
        partsOf([bytes.subarray(0, at), bytes.subarray(at)]),
        [whole],
        `${end} ${at}`,
      )
    }
    assert.deepEqual(partsOf([...bytes].map((byte) => Buffer.from([byte]))), [whole])
  }
})

test('a sign of life is told at once, without an empty line behind it', () => {
  assert.deepEqual(partsOf([':\n']), [{ kind: 'comment' }])
  assert.deepEqual(partsOf(['data:x\n', ': alive\n', '\n']), [
    { kind: 'comment' },
    event({ data: 'x' }),
  ])
})

test('an event is not told before its empty line, and fields that nobody knows are left out', () => {
  assert.deepEqual(partsOf(['data:x\n']), [])
  assert.deepEqual(partsOf([' data:x\nDATA:y\nevent:receive\n\n']), [])
  assert.deepEqual(partsOf(['data\n\n']), [event({ data: '' })])
  assert.deepEqual(partsOf(['\ufeffdata:x\n\n']), [event({ data: 'x' })])
  assert.deepEqual(partsOf(['\n\n\ndata:x\n\n\n']), [event({ data: 'x' })])
})

test('an event that is too long is left out, and the next one is read', () => {
  const long = 'x'.repeat(2000)
  const because = 'the event is longer than 1000 bytes'
  for (const bytes of [
    `id:1\ndata:${long}\n\n`,
    `id:1\n${`data:${'x'.repeat(90)}\n`.repeat(20)}\n`,
    `id:1\ndata:${long}\n: alive\ndata:more\r\n\r\n`,
  ]) {
    const [broken, next, ...more] = partsOf([bytes, 'data:next\n\n'])
    assert.deepEqual(broken, { kind: 'broken', because, id: '1' })
    assert.deepEqual(next, event({ data: 'next' }))
    assert.deepEqual(more, [])
  }
  assert.deepEqual(
    partsOf([`:${'x'.repeat(900)}\n`, `:${'x'.repeat(900)}\n`, 'data:a\n\n']).at(-1),
    event({ data: 'a' }),
  )
})

test('an event that is not UTF-8, or whose type is not plain, is broken', () => {
  const [one] = partsOf([Buffer.from([0x64, 0x61, 0x74, 0x61, 0x3a, 0xff, 10, 10])])
  assert.deepEqual(one, { kind: 'broken', because: 'the event is not UTF-8', id: undefined })
  const [two] = partsOf(['event:re ceive\ndata:x\n\n'])
  assert.equal(two?.kind, 'broken')
})

test('an id that cannot be a header is no id', () => {
  for (const id of ['ä', 'x'.repeat(201), '\u0000']) {
    assert.deepEqual(partsOf([`id:${id}\ndata:x\n\n`]), [event({ data: 'x' })])
  }
})

test('what is written is read as the same event by any reader', () => {
  const value = fc
    .string({ unit: 'binary', maxLength: 40 })
    .map((one) => one.replace(/[\r\n\ud800-\udfff]/g, '.'))
  fc.assert(
    fc.property(
      fc.array(value, { minLength: 1, maxLength: 4 }),
      fc.option(fc.stringMatching(/^[\x21-\x7e]{1,20}$/)),
      (lines, id) => {
        const data = lines.join('\n')
        const spelled = spellEvent({ type: 'receive', id: id ?? undefined, retry: undefined, data })
        const parts = partsOf([spelled], 10_000)
        assert.deepEqual(parts, [event({ type: 'receive', id: id ?? undefined, data })])
      },
    ),
  )
})

test('a withheld event leaves its id and nothing else', () => {
  const of = { type: undefined, retry: undefined, data: undefined }
  assert.equal(spellEvent({ ...of, id: '7-2' }), 'id:7-2\n\n')
  assert.equal(spellEvent({ ...of, id: undefined }), '')
  assert.equal(spellEvent({ ...of, type: 'receive', id: undefined }), '')
})
