import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { trustHops, type Said } from '../../src/identity/hops.ts'
import { headersForAgent } from '../../src/proxy/headers.ts'
import { factsOf } from '../support/request.ts'

const nothing: Said = {
  forwardedFor: undefined,
  forwardedProto: undefined,
  tailscaleLogin: undefined,
}
const hops = trustHops(['127.0.0.1', '10.0.0.0/8', 'fd00::/8'])
const peerOf = (forwardedFor: string | undefined, socket = '127.0.0.1') =>
  hops.attribute(socket, { ...nothing, forwardedFor }).peer

test('a trusted hop names the client', () => {
  assert.equal(peerOf('192.0.2.7'), '192.0.2.7')
  assert.equal(peerOf('2001:DB8::1'), '2001:db8::1')
  assert.equal(peerOf('::ffff:192.0.2.7'), '192.0.2.7')
  assert.equal(peerOf('192.0.2.7:4711'), '192.0.2.7')
  assert.equal(peerOf('[2001:db8::1]:4711'), '2001:db8::1')
  assert.equal(peerOf('[2001:db8::1]'), '2001:db8::1')
})

test('the client is the first from the right that is no hop', () => {
  assert.equal(peerOf('198.51.100.1, 192.0.2.7'), '192.0.2.7')
  assert.equal(peerOf('198.51.100.1, 192.0.2.7, 10.1.1.1, 10.2.2.2'), '192.0.2.7')
  assert.equal(peerOf('192.0.2.7 ,\t10.1.1.1'), '192.0.2.7')
  assert.equal(peerOf('192.0.2.7,fd00::5', '10.0.0.1'), '192.0.2.7')
})

test('where all are hops the leftmost of them is the client', () => {
  assert.equal(peerOf('10.1.1.1, 10.2.2.2'), '10.1.1.1')
  assert.equal(peerOf('127.0.0.1'), '127.0.0.1')
})

test('nobody else is believed', () => {
  for (const socket of ['192.0.2.1', '11.0.0.1', '9.255.255.255', 'fc00::1', '::1', '', 'x']) {
    const said = { ...nothing, forwardedFor: '192.0.2.7', forwardedProto: 'https' }
    assert.deepEqual(hops.attribute(socket, said), { peer: socket, secure: false, hop: undefined })
  }
  assert.equal(trustHops([]).isHop('127.0.0.1'), false)
  assert.equal(
    trustHops([]).attribute('127.0.0.1', { ...nothing, forwardedFor: '192.0.2.7' }).peer,
    '127.0.0.1',
  )
})

test('what is no address ends the walk at the last good one', () => {
  for (const bad of [
    '',
    ' ',
    'unknown',
    '_hidden',
    'localhost',
    '192.0.2',
    '192.0.2.256',
    '0300.0.2.7',
    '192.0.2.7:999999',
    '192.0.2.7 192.0.2.8',
    '"192.0.2.7"',
    'for=192.0.2.7',
    'fe80::1%eth0',
    '[2001:db8::1',
    '2001:db8::1]:1',
    '192.0.2.7\u0000',
    'x'.repeat(16_000),
    `${' '.repeat(2000)}192.0.2.7`,
    '<script>',
  ]) {
    assert.equal(peerOf(bad), '127.0.0.1', bad.slice(0, 40))
    assert.equal(peerOf(`192.0.2.7, ${bad}, 10.9.9.9`), '10.9.9.9', bad.slice(0, 40))
  }
  assert.equal(peerOf('192.0.2.7,'), '127.0.0.1')
})

test('the walk goes through 32 hops and no further', () => {
  const through = (n: number) => `192.0.2.7${', 10.0.0.1'.repeat(n)}`
  assert.equal(peerOf(through(31)), '192.0.2.7')
  assert.equal(peerOf(through(32)), '10.0.0.1')
  assert.equal(peerOf(through(1000)), '10.0.0.1')
})

test('TLS is believed of a hop only, and only when it says exactly that', () => {
  const secure = (forwardedProto: string | undefined, socket = '127.0.0.1') =>
    hops.attribute(socket, { ...nothing, forwardedProto }).secure
  assert.equal(secure('https'), true)
  assert.equal(secure(' HTTPS '), true)
  for (const other of [undefined, '', 'http', 'https,http', 'http, https', 'wss', 'https;']) {
    assert.equal(secure(other), false, other)
  }
  assert.equal(secure('https', '192.0.2.1'), false)
})

test('a login longer than any is none', () => {
  const login = (tailscaleLogin: string) =>
    hops.attribute('127.0.0.1', { ...nothing, tailscaleLogin }).hop?.tailscaleLogin
  assert.equal(login('a'.repeat(512))?.length, 512)
  assert.equal(login('a'.repeat(513)), undefined)
})

const octet = fc.integer({ min: 0, max: 255 })
const trusted = fc.oneof(
  fc.constant('127.0.0.1'),
  fc.tuple(octet, octet, octet).map((rest) => `10.${rest.join('.')}`),
)
const untrusted = fc
  .tuple(fc.integer({ min: 11, max: 126 }), octet, octet, octet)
  .map((parts) => parts.join('.'))
const junk = fc.oneof(
  untrusted,
  trusted,
  fc.constantFrom(
    '',
    ' ',
    'unknown',
    '::1',
    '127.0.0.1',
    '[::1]:80',
    '10.0.0.1:1',
    'é',
    ',,',
    '%',
    '"',
  ),
  fc.string({ maxLength: 80 }),
  fc.string({ unit: 'binary', maxLength: 80 }),
)

test('whatever a client writes, it is who its nearest hop says it is', () => {
  fc.assert(
    fc.property(
      untrusted,
      fc.array(junk, { maxLength: 40 }),
      fc.array(trusted, { minLength: 1, maxLength: 20 }),
      fc.constantFrom(',', ', ', ' ,\t'),
      (client, written, chain, comma) => {
        // Each hop appends the address that it saw: the client's, then those of the hops before it.
        const seen = [client, ...chain.slice(0, -1)]
        const header = [...written, ...seen].join(comma)
        const said = { ...nothing, forwardedFor: header }
        assert.equal(hops.attribute(chain.at(-1) ?? '', said).peer, client)
      },
    ),
    { numRuns: 2000 },
  )
})

test('the client is always an address that stands in the header or the hop itself', () => {
  fc.assert(
    fc.property(fc.array(junk, { maxLength: 40 }), trusted, (written, socket) => {
      const { peer } = hops.attribute(socket, { ...nothing, forwardedFor: written.join(',') })
      assert.match(peer, /^[0-9a-f.:]{2,45}$/)
    }),
    { numRuns: 1000 },
  )
})

const settings = (socket: string) => ({ peerOf: () => socket, hops })

test('several headers are one list, in their order', () => {
  const headers = [
    'Host',
    'localhost',
    'X-Forwarded-For',
    '192.0.2.7',
    'x-forwarded-for',
    '10.1.1.1',
  ]
  assert.equal(factsOf('GET / HTTP/1.1', headers, settings('127.0.0.1')).peer, '192.0.2.7')
})

test('nothing that a hop says goes to the agent in its words', () => {
  const headers = [
    'Host',
    'localhost',
    'X-Forwarded-For',
    '198.51.100.1, 192.0.2.7',
    'X-Forwarded-Proto',
    'https',
    'Tailscale-User-Login',
    'a@example.com',
    'Tailscale-User-Name',
    'A',
  ]
  const facts = factsOf('GET / HTTP/1.1', headers, settings('127.0.0.1'))
  assert.deepEqual(facts.headers, ['Host', 'localhost'])
  assert.deepEqual(facts.hop, {
    address: '127.0.0.1',
    named: true,
    tailscaleLogin: 'a@example.com',
  })
  const sent = headersForAgent(facts, { agentToken: undefined, forwardedHeaders: true })
  assert.deepEqual(sent.slice(-6), [
    'X-Forwarded-For',
    '192.0.2.7',
    'X-Forwarded-Host',
    'localhost',
    'X-Forwarded-Proto',
    'https',
  ])
  const stranger = factsOf('GET / HTTP/1.1', headers, settings('192.0.2.99'))
  assert.deepEqual([stranger.peer, stranger.hop, stranger.secure], ['192.0.2.99', undefined, false])
})

test('two logins are none that anybody could confirm', () => {
  const headers = [
    'Host',
    'localhost',
    'Tailscale-User-Login',
    'a@x.example',
    'Tailscale-User-Login',
    'b@x.example',
  ]
  const { hop } = factsOf('GET / HTTP/1.1', headers, settings('127.0.0.1'))
  assert.equal(hop?.tailscaleLogin, 'a@x.example,b@x.example')
})

test('the mark of Funnel is seen whoever sends it', () => {
  const marked = ['Host', 'localhost', 'Tailscale-Funnel-Request', '?1']
  for (const socket of ['127.0.0.1', '192.0.2.99']) {
    assert.equal(factsOf('GET / HTTP/1.1', marked, settings(socket)).funnel, true)
    assert.equal(factsOf('GET / HTTP/1.1', ['Host', 'localhost'], settings(socket)).funnel, false)
  }
})
