import assert from 'node:assert/strict'
import { suite, test } from 'node:test'

import fc from 'fast-check'

import { Beat, Live, type LiveEnd } from '../../src/proxy/live.ts'

const caps = { maxPerIdentity: 2, maxPerAddress: 3 }
const noEnd = () => undefined

function admitted(live: Live, identity: string, peer: string, end: (why: LiveEnd) => void = noEnd) {
  const release = live.admit(identity, peer, end)
  if (typeof release === 'string') assert.fail(`refused by ${release}`)
  return release
}

suite('the registry of what is live', () => {
  test('an identity holds as many sockets as its cap and no more', () => {
    const live = new Live(caps)
    admitted(live, 'a', 'p1')
    const release = admitted(live, 'a', 'p2')
    assert.equal(live.admit('a', 'p3', noEnd), 'identity')
    assert.equal(live.count(), 2)
    release()
    admitted(live, 'a', 'p3')
  })

  test('an address holds as many sockets as its cap over all identities', () => {
    const live = new Live(caps)
    for (const identity of ['a', 'b', 'c']) admitted(live, identity, 'p')
    assert.equal(live.admit('d', 'p', noEnd), 'address')
    admitted(live, 'd', 'q')
  })

  test('a refused socket takes no place', () => {
    const live = new Live({ maxPerIdentity: 1, maxPerAddress: 9 })
    const release = admitted(live, 'a', 'p')
    for (let i = 0; i < 5; i++) assert.equal(live.admit('a', 'p', noEnd), 'identity')
    release()
    assert.equal(live.count(), 0)
    admitted(live, 'a', 'p')
  })

  test('releasing twice gives back one place', () => {
    const live = new Live({ maxPerIdentity: 1, maxPerAddress: 1 })
    const release = admitted(live, 'a', 'p')
    release()
    admitted(live, 'a', 'p')
    release()
    assert.equal(live.admit('a', 'p', noEnd), 'identity')
    assert.equal(live.count(), 1)
  })

  test('streams and uploads have no cap and take no place of a socket', () => {
    const live = new Live({ maxPerIdentity: 1, maxPerAddress: 1 })
    for (let i = 0; i < 10; i++) live.track('a', noEnd)
    admitted(live, 'a', 'p')
    assert.equal(live.count(), 11)
  })

  test('ending an identity ends all of its own and nothing else', () => {
    const live = new Live({ maxPerIdentity: 9, maxPerAddress: 9 })
    const ended: string[] = []
    admitted(live, 'a', 'p', (reason) => ended.push(`socket ${reason}`))
    live.track('a', (reason) => ended.push(`stream ${reason}`))
    admitted(live, 'b', 'p', () => assert.fail('b has done nothing'))
    assert.equal(live.endIdentity('a', 'revoked'), 2)
    assert.deepEqual(ended, ['socket revoked', 'stream revoked'])
    assert.equal(live.endIdentity('nobody else', 'revoked'), 0)
  })

  test('what releases itself while it is ended does not spare its neighbours', () => {
    const live = new Live({ maxPerIdentity: 9, maxPerAddress: 9 })
    let ended = 0
    for (let i = 0; i < 5; i++) {
      const release = admitted(live, 'a', 'p', () => {
        ended++
        release()
      })
    }
    assert.equal(live.endAll('lockdown'), 5)
    assert.equal(ended, 5)
    assert.equal(live.count(), 0)
  })

  test('one that fails to end does not spare the others, and is heard of', () => {
    const live = new Live({ maxPerIdentity: 9, maxPerAddress: 9 })
    let ended = 0
    admitted(live, 'a', 'p', () => {
      throw new Error('stuck')
    })
    admitted(live, 'b', 'p', () => ended++)
    assert.throws(() => live.endAll('drain'), AggregateError)
    assert.equal(ended, 1)
  })

  test('after any sequence of openings and closings the counts are those of what is open', () => {
    const key = fc.constantFrom('a', 'b', 'c')
    const step = fc.oneof(
      fc.record({ open: fc.constant('socket' as const), identity: key, peer: key }),
      fc.record({ open: fc.constant('stream' as const), identity: key, peer: key }),
      fc.record({ close: fc.nat() }),
    )
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const live = new Live(caps)
        const open: { kind: string; identity: string; peer: string; release: () => void }[] = []
        const sockets = (of: 'identity' | 'peer', value: string) =>
          open.filter((one) => one.kind === 'socket' && one[of] === value).length
        for (const one of steps) {
          if ('close' in one) {
            open.splice(one.close % Math.max(1, open.length), 1)[0]?.release()
          } else if (one.open === 'stream') {
            open.push({ ...one, kind: 'stream', release: live.track(one.identity, noEnd) })
          } else {
            const expected =
              sockets('identity', one.identity) >= caps.maxPerIdentity
                ? 'identity'
                : sockets('peer', one.peer) >= caps.maxPerAddress
                  ? 'address'
                  : undefined
            const release = live.admit(one.identity, one.peer, noEnd)
            if (typeof release === 'string') assert.equal(release, expected)
            else {
              assert.equal(expected, undefined)
              open.push({ ...one, kind: 'socket', release })
            }
          }
          assert.equal(live.count(), open.length)
        }
        for (const { release } of open) release()
        assert.equal(live.count(), 0)
        assert.equal(live.endAll('drain'), 0)
      }),
    )
  })
})

suite('the beat', () => {
  test('one timer ticks all, and stops when nothing is left', (context) => {
    context.mock.timers.enable({ apis: ['setInterval'] })
    const beat = new Beat(500)
    const ticks = [0, 0]
    const all = ticks.map((_, i) => ({ tick: () => void (ticks[i] = (ticks[i] ?? 0) + 1) }))
    for (const one of all) beat.add(one)
    context.mock.timers.tick(499)
    assert.deepEqual(ticks, [0, 0])
    context.mock.timers.tick(1)
    assert.deepEqual(ticks, [1, 1])
    beat.remove(all[0] ?? { tick: noEnd })
    context.mock.timers.tick(500)
    assert.deepEqual(ticks, [1, 2])
    beat.remove(all[1] ?? { tick: noEnd })
    assert.equal(beat.size, 0)
    context.mock.timers.tick(5000)
    assert.deepEqual(ticks, [1, 2])
    for (const one of all) beat.add(one)
    context.mock.timers.tick(500)
    assert.deepEqual(ticks, [2, 3])
    for (const one of all) beat.remove(one)
  })
})
