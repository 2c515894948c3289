import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  addressKey,
  inNetworks,
  normaliseAddress,
  parseNetwork,
} from '../../src/identity/address.ts'

test('an address has one spelling', () => {
  for (const [written, expected] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:C000:0201', '192.0.2.1'],
    ['2001:DB8:0:0:0:0:0:1', '2001:db8::1'],
    ['fe80::1%eth0', 'fe80::1'],
    ['::1', '::1'],
  ] as const) {
    assert.equal(normaliseAddress(written), expected)
  }
})

test('what only looks like an address is none', () => {
  for (const text of [
    '',
    '127.1',
    '0x7f.0.0.1',
    '2130706433',
    '256.0.0.1',
    '1.2.3',
    ':::',
    'localhost',
    '1.2.3.4.5',
    '::1::',
  ]) {
    assert.equal(normaliseAddress(text), undefined, text)
  }
})

test('IPv6 is counted by /64 and IPv4 by address', () => {
  assert.equal(addressKey('2001:db8:1:2::1'), addressKey('2001:db8:1:2:ffff:ffff:ffff:ffff'))
  assert.notEqual(addressKey('2001:db8:1:2::1'), addressKey('2001:db8:1:3::1'))
  assert.equal(addressKey('192.0.2.1'), '192.0.2.1')
  assert.notEqual(addressKey('192.0.2.1'), addressKey('192.0.2.2'))
  assert.equal(addressKey('::ffff:192.0.2.1'), '192.0.2.1')
  assert.equal(addressKey('x'.repeat(500)).length, 64)
})

test('every address of a /64 has the same key, and one bit above it another', () => {
  const part = fc.integer({ min: 0, max: 0xffff })
  fc.assert(
    fc.property(fc.array(part, { minLength: 8, maxLength: 8 }), part, part, (parts, low, high) => {
      const text = (of: readonly number[]) => of.map((each) => each.toString(16)).join(':')
      parts[0] = 0x2001
      const key = addressKey(text(parts))
      assert.equal(addressKey(text([...parts.slice(0, 7), low])), key)
      const other = [...parts.slice(0, 3), high, ...parts.slice(4)]
      assert.equal(addressKey(text(other)) === key, high === parts[3])
    }),
  )
})

test('a network matches its first and last address and not their neighbours', () => {
  for (const [network, inside, outside] of [
    [
      '192.0.2.64/26',
      ['192.0.2.64', '192.0.2.127', '::ffff:192.0.2.99'],
      ['192.0.2.63', '192.0.2.128'],
    ],
    ['192.0.2.7', ['192.0.2.7'], ['192.0.2.6', '192.0.2.8']],
    ['0.0.0.0/0', ['0.0.0.0', '255.255.255.255'], ['::1', '2001:db8::1']],
    ['2001:db8::/33', ['2001:db8::', '2001:db8:7fff::1'], ['2001:db8:8000::', '2001:db7:ffff::1']],
    ['::1', ['::1'], ['::2', '127.0.0.1']],
    ['::ffff:10.0.0.0/104', ['10.0.0.0', '10.255.255.255'], ['9.255.255.255', '11.0.0.0']],
  ] as const) {
    for (const peer of inside) assert.equal(inNetworks(peer, [network]), true, `${peer} ${network}`)
    for (const peer of outside)
      assert.equal(inNetworks(peer, [network]), false, `${peer} ${network}`)
  }
})

test('a network is shown with its host bits cleared', () => {
  assert.equal(parseNetwork('10.1.2.3/8')?.text, '10.0.0.0/8')
  assert.equal(parseNetwork('2001:db8::1/64')?.text, '2001:db8::/64')
  assert.equal(parseNetwork('192.0.2.1')?.text, '192.0.2.1/32')
})

test('what is no network is refused, and matches nothing', () => {
  for (const text of [
    '',
    '10/8',
    '10.0.0.0/33',
    '10.0.0.0/-1',
    '10.0.0.0/',
    '10.0.0.0/8/8',
    '::/129',
    '::ffff:10.0.0.0/95',
    'fe80::1%eth0/64',
    '*',
    'x',
  ]) {
    assert.equal(parseNetwork(text), undefined, text)
    assert.equal(inNetworks('10.0.0.1', [text]), false, text)
  }
})

test('no networks means anywhere, and a peer that is no address is inside none', () => {
  assert.equal(inNetworks('192.0.2.1', []), true)
  assert.equal(inNetworks('nonsense', ['0.0.0.0/0', '::/0']), false)
})
