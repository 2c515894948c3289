/** Images, logs and names: the pure parts around the engine. */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { test } from 'node:test'
import fc from 'fast-check'
import { newLines } from '../../src/cli/agent.ts'
import { allSockets, engineSockets, linesOf, older, plain } from '../../src/agent/engine.ts'
import { addressOf } from '../../src/agent/external.ts'
import { endpointOf } from '../../src/agent/health.ts'
import { librariesIn, tarOf, type Entry } from '../../src/agent/image.ts'
import { askedFor } from '../../src/egress/deny.ts'

async function archive(entries: readonly Entry[]): Promise<Buffer> {
  const blocks: Buffer[] = []
  for await (const block of tarOf(entries)) blocks.push(block)
  return Buffer.concat(blocks)
}
const file = (path: string, text: string, mode = 0o644): Entry => {
  const content = Buffer.from(text)
  return { path, mode, size: content.length, content }
}

test('an archive is what tar reads: names, modes, sizes and contents', async () => {
  const long = `${'folder/'.repeat(15)}${'n'.repeat(90)}`
  const entries = [
    { path: './', mode: 0o755, size: 0, content: Buffer.alloc(0) },
    file('etc/one', 'first\n'),
    file('bin/two', 'x'.repeat(512), 0o755),
    file(long, ''),
  ]
  const bytes = await archive(entries)
  assert.equal(bytes.length % 512, 0)
  const listing = execFileSync('tar', ['-tvf', '-'], { input: bytes, encoding: 'utf8' })
  assert.match(listing, /^drwxr-xr-x 0\/0 +0 .* \.\/$/m)
  assert.match(listing, /^-rw-r--r-- 0\/0 +6 .* etc\/one$/m)
  assert.match(listing, /^-rwxr-xr-x 0\/0 +512 .* bin\/two$/m)
  assert.ok(listing.includes(long))
  assert.equal(
    execFileSync('tar', ['-xOf', '-', 'etc/one'], { input: bytes, encoding: 'utf8' }),
    'first\n',
  )
})

test('a path that no archive can hold is refused', async () => {
  await assert.rejects(archive([file('n'.repeat(101), '')]), { code: 'IMAGE_SOURCE' })
  await archive([file('n'.repeat(100), '')])
})

test('libraries are read from what ldd says', () => {
  const listing = [
    '\tlinux-vdso.so.1 (0x00007ffe)',
    '\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fa3)',
    '\tlibm.so.6 => not found',
    '\t/lib64/ld-linux-x86-64.so.2 (0x00007fa4)',
  ].join('\n')
  assert.deepEqual(librariesIn(listing), [
    '/lib/x86_64-linux-gnu/libc.so.6',
    '/lib64/ld-linux-x86-64.so.2',
  ])
})

const frame = (text: Buffer, stream = 1) => {
  const head = Buffer.alloc(8)
  head[0] = stream
  head.writeUInt32BE(text.length, 4)
  return Buffer.concat([head, text])
}

test('log lines come out whole however the engine cut them into frames', () => {
  fc.assert(
    fc.property(
      fc.array(fc.stringMatching(/^[ -~äö]{0,30}$/)),
      fc.array(fc.nat(40), { minLength: 1 }),
      (lines, sizes) => {
        const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''))
        const frames: Buffer[] = []
        for (let at = 0, n = 0; at < bytes.length; n += 1) {
          const size = (sizes[n % sizes.length] ?? 0) + 1
          frames.push(frame(bytes.subarray(at, at + size), 1 + (n % 2)))
          at += size
        }
        assert.deepEqual(linesOf(Buffer.concat(frames)), lines)
      },
    ),
  )
})

test('log text never holds a character that commands a terminal', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), (text) => {
      assert.doesNotMatch(
        plain(text),
        /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/,
      )
    }),
  )
  assert.equal(plain('plain\ttext'), 'plain\ttext')
  assert.equal(plain('x'.repeat(5000)).length, 4096)
})

test('following logs shows each line once, also when more came than one look shows', () => {
  assert.deepEqual(newLines([], ['1 a']), ['1 a'])
  assert.deepEqual(newLines(['1 a', '2 b'], ['1 a', '2 b']), [])
  assert.deepEqual(newLines(['1 a', '2 b'], ['2 b', '3 c']), ['3 c'])
  assert.deepEqual(newLines(['1 a', '2 b'], ['3 c', '4 d']), ['3 c', '4 d'])
})

test('the API version that both sides know is the older one, by number', () => {
  assert.equal(older('1.41', '1.44'), '1.41')
  assert.equal(older('1.52', '1.44'), '1.44')
  assert.equal(older('1.9', '1.44'), '1.9')
  assert.equal(older('2.0', '1.44'), '1.44')
})

test('the engine is asked for where DOCKER_HOST says and nowhere else, or else at the usual places', () => {
  const usual = ['/var/run/docker.sock', '/run/podman/podman.sock']
  const own = ['/run/user/1/docker.sock', '/run/user/1/podman/podman.sock']
  assert.deepEqual(engineSockets({}), usual)
  assert.deepEqual(engineSockets({ DOCKER_HOST: '' }), usual)
  const env = { XDG_RUNTIME_DIR: '/run/user/1' }
  assert.deepEqual(engineSockets(env), [...usual, ...own])
  const named = { ...env, DOCKER_HOST: 'unix:///srv/engine.sock' }
  assert.deepEqual(engineSockets(named), ['/srv/engine.sock'])
  // What an agent may not see is all of them.
  assert.deepEqual(allSockets(named), ['/srv/engine.sock', ...usual, ...own])
  for (const wrong of ['tcp://192.0.2.1:2375', 'ssh://box', 'unix://engine.sock', '/srv/x.sock']) {
    assert.throws(() => engineSockets({ DOCKER_HOST: wrong }), {
      code: 'ENGINE_HOST',
      message: `DOCKER_HOST=${wrong} is not a Unix socket: Hardshell talks to the engine over unix:///… only. Set it so, or unset it.`,
    })
  }
})

test('an agent that already runs is named by host and port or by a socket, and nothing else', () => {
  assert.deepEqual(addressOf('http://127.0.0.1:18789'), { origin: 'http://127.0.0.1:18789' })
  assert.deepEqual(addressOf('unix:/run/bot.sock'), {
    origin: 'http://agent',
    socketPath: '/run/bot.sock',
  })
  assert.deepEqual(endpointOf(addressOf('http://[::1]:80')), { host: '::1', port: 80 })
  for (const wrong of [
    ...['', 'bot', 'https://127.0.0.1:1', 'http://u:p@127.0.0.1:1', 'http://127.0.0.1:1/x'],
    ...[
      'http://127.0.0.1:1/?q',
      'unix:relative',
      'unix:',
      `unix:/${'x'.repeat(107)}`,
      'file:///etc',
    ],
  ]) {
    assert.throws(() => addressOf(wrong), { code: 'UPSTREAM_INVALID' }, wrong)
  }
})

test('what the agent asked for is recorded as host and port in plain characters only', () => {
  const asked = (method: string, url: string, host?: string) =>
    askedFor({ method, url, headers: { host } })
  assert.equal(asked('CONNECT', 'api.example.com:443'), 'api.example.com:443')
  assert.equal(asked('GET', 'http://user:secret@example.com:80/path?q'), 'example.com:80')
  assert.equal(asked('GET', '/path', 'example.com'), 'example.com')
  assert.equal(asked('GET', '/path'), 'unreadable')
  assert.equal(asked('CONNECT', 'evil\u001b[2J:443'), 'unreadable')
  assert.equal(asked('CONNECT', `${'x'.repeat(300)}:1`), 'unreadable')
})
