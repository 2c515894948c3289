import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import { Connections } from '../../src/proxy/connections.ts'

/** As much of a socket as is looked at; 'close' comes later, as a real one's does. */
class FakeSocket extends EventEmitter {
  destroyed = false
  readonly remoteAddress: string
  constructor(remoteAddress: string) {
    super()
    this.remoteAddress = remoteAddress
  }
  destroy(): void {
    this.destroyed = true
  }
}

function setUp(maxConnections = 100, maxConnectionsPerAddress = 3) {
  const isHop = (address: string) => address === '127.0.0.1'
  const connections = new Connections({ maxConnections, maxConnectionsPerAddress, isHop })
  const open = (address: string) => {
    const socket = new FakeSocket(address)
    const cut = connections.admit(socket as unknown as Socket)
    return { socket, cut, prove: () => connections.proved(socket as unknown as Socket) }
  }
  return { connections, open }
}

test('an address has its number of connections, and the oldest unproved one gives way to the next', () => {
  const { connections, open } = setUp()
  const [first, second, third] = [open('192.0.2.1'), open('192.0.2.1'), open('192.0.2.1')]
  assert.deepEqual(
    [first, second, third].map(({ cut }) => cut),
    [undefined, undefined, undefined],
  )
  const fourth = open('192.0.2.1')
  assert.equal(fourth.cut, 'maxConnectionsPerAddress')
  assert.deepEqual(
    [first, second, third, fourth].map(({ socket }) => socket.destroyed),
    [true, false, false, false],
  )
  assert.equal(connections.size, 3)
  assert.equal(open('192.0.2.2').cut, undefined)
})

test('a connection that has proved something never gives way', () => {
  const { connections, open } = setUp()
  const owner = open('192.0.2.1')
  owner.prove()
  const strangers = Array.from({ length: 50 }, () => open('192.0.2.1'))
  assert.equal(owner.socket.destroyed, false)
  assert.equal(strangers.filter(({ socket }) => !socket.destroyed).length, 2)
  for (const stranger of strangers.slice(-2)) stranger.prove()
  const late = open('192.0.2.1')
  assert.equal(late.socket.destroyed, true)
  assert.equal(late.cut, 'maxConnectionsPerAddress')
  assert.equal(connections.size, 3)
})

test('IPv6 counts by /64 and a mapped address as IPv4', () => {
  const { open } = setUp()
  for (const address of ['2001:db8::1', '2001:db8::2', '2001:db8::3']) {
    assert.equal(open(address).cut, undefined)
  }
  assert.equal(open('2001:db8::ffff:1').cut, 'maxConnectionsPerAddress')
  assert.equal(open('2001:db8:0:1::1').cut, undefined)
  for (let i = 0; i < 3; i += 1) assert.equal(open('192.0.2.1').cut, undefined)
  assert.equal(open('::ffff:192.0.2.1').cut, 'maxConnectionsPerAddress')
})

test('a hop is bounded by all connections only, and strangers behind it give way there too', () => {
  const { connections, open } = setUp(10)
  const owner = open('127.0.0.1')
  owner.prove()
  for (let i = 0; i < 9; i += 1) assert.equal(open('127.0.0.1').cut, undefined)
  assert.equal(connections.size, 10)
  assert.equal(open('127.0.0.1').cut, 'maxConnections')
  const other = open('192.0.2.1')
  assert.equal(other.cut, 'maxConnections')
  assert.equal(other.socket.destroyed, false)
  assert.equal(owner.socket.destroyed, false)
  assert.equal(connections.size, 10)
})

test('what closes makes room, once', () => {
  const { connections, open } = setUp()
  const [first] = [open('192.0.2.1'), open('192.0.2.1'), open('192.0.2.1')]
  first?.socket.emit('close')
  assert.equal(connections.size, 2)
  assert.equal(open('192.0.2.1').cut, undefined)
  // One that gave way closes after its place was given to another.
  const before = open('192.0.2.1')
  assert.equal(before.cut, 'maxConnectionsPerAddress')
  for (const socket of [first?.socket]) socket?.emit('close')
  assert.equal(connections.size, 3)
})
