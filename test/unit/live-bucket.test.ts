import assert from 'node:assert/strict'
import { suite, test } from 'node:test'

import fc from 'fast-check'

import { Bucket } from '../../src/proxy/ws-bucket.ts'

suite('the allowance of a WebSocket client', () => {
  test('holds one minute’s worth at once and not one more', () => {
    const bucket = new Bucket(3, 1000)
    assert.deepEqual(
      [1, 2, 3, 4].map(() => bucket.take(1000)),
      [true, true, true, false],
    )
  })

  test('comes back evenly: a third of a minute for one of three', () => {
    const bucket = new Bucket(3, 0)
    for (let i = 0; i < 3; i++) bucket.take(0)
    assert.equal(bucket.take(19_999), false)
    assert.equal(bucket.take(20_000), true)
    assert.equal(bucket.take(20_000), false)
  })

  test('does not grow beyond a minute’s worth however long the client is silent', () => {
    const bucket = new Bucket(2, 0)
    const taken = [1, 2, 3].map(() => bucket.take(86_400_000))
    assert.deepEqual(taken, [true, true, false])
  })

  test('a clock that goes back gives nothing', () => {
    const bucket = new Bucket(1, 60_000)
    assert.equal(bucket.take(60_000), true)
    assert.equal(bucket.take(0), false)
    assert.equal(bucket.take(60_000), false)
  })

  test('never lets more through than a minute’s worth and what came back since', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1000 }),
        fc.array(fc.integer({ min: 0, max: 5000 }), { maxLength: 300 }),
        (perMinute, pauses) => {
          const bucket = new Bucket(perMinute, 0)
          let now = 0
          let passed = 0
          for (const pause of pauses) {
            now += pause
            if (bucket.take(now)) passed++
          }
          assert.ok(passed <= perMinute * (1 + now / 60_000) + 1e-6)
        },
      ),
    )
  })
})
