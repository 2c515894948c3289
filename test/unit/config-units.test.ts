import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  parseDuration,
  parseMemory,
  parseSize,
  spellDuration,
  spellSize,
} from '../../src/config/readers.ts'

test('sizes are powers of 1024 in either spelling', () => {
  assert.equal(parseSize('10MB').value, 10 * 1024 ** 2)
  assert.equal(parseSize('10MiB').value, 10 * 1024 ** 2)
  assert.equal(parseSize('1KB').value, 1024)
  assert.equal(parseSize('3KiB').value, 3 * 1024)
  assert.equal(parseSize('2GB').value, 2 * 1024 ** 3)
  assert.equal(parseSize('2GiB').value, 2 * 1024 ** 3)
})

test('durations know milliseconds to weeks', () => {
  assert.equal(parseDuration('250ms').value, 250)
  assert.equal(parseDuration('10s').value, 10_000)
  assert.equal(parseDuration('5m').value, 300_000)
  assert.equal(parseDuration('2h').value, 7_200_000)
  assert.equal(parseDuration('30d').value, 2_592_000_000)
  assert.equal(parseDuration('1w').value, 604_800_000)
})

test('memory is also understood as container engines spell it', () => {
  assert.equal(parseMemory('512m').value, 512 * 1024 ** 2)
  assert.equal(parseMemory('1g').value, 1024 ** 3)
  assert.equal(parseMemory('1GB').value, 1024 ** 3)
  assert.match(parseSize('512m').because ?? '', /unknown unit "m"/)
})

test('a number without a unit, zero, a negative and a fraction are refused in a sentence', () => {
  assert.match(parseSize(10).because ?? '', /a number needs a unit/)
  assert.match(parseSize('10').because ?? '', /has no unit/)
  assert.match(parseSize('0MB').because ?? '', /zero never means "off"/)
  assert.match(parseSize('-1MB').because ?? '', /negative/)
  assert.match(parseSize('1.5MB').because ?? '', /whole number/)
  assert.match(parseDuration(30).because ?? '', /a number needs a unit/)
  assert.match(parseDuration('0s').because ?? '', /zero/)
  assert.match(parseDuration('5 parsecs').because ?? '', /whole number/)
  assert.match(parseDuration('5M').because ?? '', /unknown unit "M"/)
  assert.match(parseDuration('').because ?? '', /whole number/)
})

test('the largest size that can be counted is accepted and the next is refused', () => {
  const most = Math.floor(Number.MAX_SAFE_INTEGER / 1024)
  assert.equal(parseSize(`${most}KB`).value, most * 1024)
  assert.match(parseSize(`${most + 1}KB`).because ?? '', /too large/)
  assert.match(parseSize(`${'9'.repeat(400)}GB`).because ?? '', /too large/)
})

test('names of object methods are no units', () => {
  for (const unit of ['constructor', 'toString', 'valueOf']) {
    assert.match(parseSize(`1${unit}`).because ?? '', /unknown unit/)
  }
})

test('what is spelled is read back as the same size', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 40 }), (kilobytes) => {
      const bytes = kilobytes * 1024
      assert.equal(parseSize(spellSize(bytes)).value, bytes)
    }),
  )
})

test('what is spelled is read back as the same duration', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2 ** 45 }), (ms) => {
      assert.equal(parseDuration(spellDuration(ms)).value, ms)
    }),
  )
})

test('any input is measured or refused, never thrown at', () => {
  fc.assert(
    fc.property(fc.anything(), (input) => {
      for (const parse of [parseSize, parseMemory, parseDuration]) {
        const { value, because } = parse(input)
        assert.ok((value === undefined) !== (because === undefined))
      }
    }),
  )
})
