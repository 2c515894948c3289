/** An agent that is broken or taken over: what it answers never hangs, splits or poisons a client's answer. */
import assert from 'node:assert/strict'
import { createServer, type AddressInfo, type Socket } from 'node:net'
import { after, before, test } from 'node:test'

import { exchange, head } from '../support/raw.ts'
import { startSidecar, type TestSidecar } from '../support/sidecar.ts'

let side: TestSidecar
/** What the agent does with each request. */
let agent: (socket: Socket) => void = () => undefined
const sockets = new Set<Socket>()
const server = createServer((socket) => {
  sockets.add(socket)
  socket.on('error', () => undefined)
  socket.on('data', () => agent(socket))
})
before(async () => {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  side = await startSidecar({
    config: {
      agent: { upstream: `http://127.0.0.1:${port}` },
      security: { limits: { upstreamTimeout: '1s' } },
    },
  })
})
after(async () => {
  await side.stop()
  for (const socket of sockets) socket.destroy()
  await new Promise<void>((resolve) => server.close(() => resolve()))
})

const ask = (method = 'GET', version = '1.1') =>
  exchange(
    side.port,
    [
      head(
        `${method} / HTTP/${version}`,
        'Host: localhost',
        `Authorization: Bearer ${side.token}`,
        'Connection: close',
      ),
    ],
    { timeMs: 8000 },
  )

/** The client's answer when the agent answers with these bytes. */
async function answered(bytes: string) {
  agent = (socket) => void socket.write(bytes, 'latin1')
  const answer = await ask()
  assert.equal(answer.closed, true, `${JSON.stringify(bytes)} leaves no client waiting`)
  return answer
}

const withBody = (head: string, body = 'hello') =>
  `${head}\r\nContent-Length: ${body.length}\r\n\r\n${body}`

test('a reason phrase of any bytes never leaves the client without an answer', async () => {
  for (const phrase of ['O\x01K', 'caf\xc3\xa9', 'O\xe9K', 'a\tb', '\x1b[31m', '']) {
    const answer = await answered(withBody(`HTTP/1.1 200 ${phrase}`))
    assert.equal(answer.status, 200)
    assert.match(answer.text, /^HTTP\/1\.1 200 [\x20-\x7e]*\r\n[^]*\r\n\r\nhello$/)
  }
})

test('an answer that is no HTTP is a 502 of its own code, with one request id', async () => {
  for (const bytes of [
    withBody('HTTP/1.1 200 OK\r\nBad Name: x'),
    withBody('HTTP/1.1 200 OK\r\nX-A: a\rX-B: b'),
    withBody('HTTP/1.1 200 OK\nX-A: a'),
    withBody('HTTP/1.1 200 OK\r\nX-A: a\x00b'),
    withBody('HTTP/1.1 000 OK'),
    withBody('HTTP/1.1 600 OK'),
    withBody('HTTP/1.1 999 OK'),
    'HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello',
    'HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n',
    'noise',
  ]) {
    const answer = await answered(bytes)
    assert.equal(answer.status, 502, JSON.stringify(bytes))
    assert.equal(answer.code, 'AGENT_ANSWER_INVALID', JSON.stringify(bytes))
    assert.equal(answer.text.match(/^x-request-id:/gim)?.length, 1)
  }
})

test('a transfer coding of the agent that we would take off is refused, not mislabelled', async () => {
  for (const coding of ['gzip, chunked', 'gzip', 'identity, chunked']) {
    agent = (socket) =>
      void socket.end(
        `HTTP/1.1 200 OK\r\nTransfer-Encoding: ${coding}\r\n\r\n5\r\nhello\r\n0\r\n\r\n`,
      )
    const answer = await ask()
    assert.equal(answer.code, 'AGENT_ANSWER_INVALID', coding)
  }
  const twice = await answered(
    `HTTP/1.1 200 OK\r\n${'Transfer-Encoding: chunked\r\n'.repeat(2)}\r\n5\r\nhello\r\n0\r\n\r\n`,
  )
  assert.equal(twice.code, 'AGENT_ANSWER_INVALID')
  agent = (socket) =>
    void socket.write(
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    )
  assert.equal((await ask()).status, 200)
})

test('an answer that only its connection delimits is whole when the agent ends it, and broken when it resets it', async () => {
  const open = 'HTTP/1.1 200 OK\r\n\r\nhello'
  agent = (socket) => void socket.end(open)
  assert.match((await ask()).text, /\r\n5\r\nhello\r\n0\r\n\r\n$/)
  for (const begun of [
    open,
    'HTTP/1.0 200 OK\r\n\r\nhello',
    'HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
  ]) {
    agent = (socket) =>
      void socket.write(begun, () => setTimeout(() => socket.resetAndDestroy(), 50))
    const answer = await ask()
    assert.match(answer.text, /^HTTP\/1\.1 200 [^]*hello/)
    assert.equal(answer.closed, true)
    assert.ok(!answer.text.endsWith('0\r\n\r\n'), begun)
  }
})

test('a client that knows no chunks is told by a reset that an answer broke off (RFC 9112 §8)', async () => {
  const chunk = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n'
  agent = (socket) => void socket.write(chunk, () => setTimeout(() => socket.destroy(), 50))
  const broken = await ask('GET', '1.0')
  assert.match(broken.text, /\r\n\r\nhello$/)
  assert.equal(broken.reset, true)
  agent = (socket) => void socket.write(`${chunk}0\r\n\r\n`)
  const whole = await ask('GET', '1.0')
  assert.match(whole.text, /\r\n\r\nhello$/)
  assert.equal(whole.reset, false)
})

test('a request that an agent fails at is not sent to it again', async () => {
  for (const fail of [
    (socket: Socket) => socket.resetAndDestroy(),
    (socket: Socket) => socket.destroy(),
  ]) {
    // A connection that has answered may have been closed in the same moment; none is left here.
    for (const socket of sockets) socket.destroy()
    let asked = 0
    agent = (socket) => {
      asked += 1
      fail(socket)
    }
    const answer = await ask()
    assert.equal(answer.code, 'AGENT_DOWN')
    assert.equal(asked, 1)
  }
})

test('a connection that the agent closes while the next request is on its way costs no answer', async () => {
  const used = new WeakSet<Socket>()
  let closed = 0
  agent = (socket) => {
    if (!used.has(socket)) socket.write(withBody('HTTP/1.1 200 OK'))
    else {
      closed += 1
      socket.destroy()
    }
    used.add(socket)
  }
  for (let i = 0; i < 20 && closed === 0; i += 1) assert.equal((await ask()).status, 200)
  assert.equal(closed, 1)
})

test('a 204 carries no length, whatever the agent says (RFC 9110 §8.6)', async () => {
  const answer = await answered('HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n')
  assert.equal(answer.status, 204)
  assert.doesNotMatch(answer.text, /content-length/i)
})

test('interim answers without end are a time-out', async () => {
  agent = (socket) => {
    const timer = setInterval(
      () => socket.write('HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'),
      50,
    )
    socket.once('close', () => clearInterval(timer))
  }
  const answer = await ask()
  assert.equal(answer.status, 504)
  assert.equal(answer.code, 'AGENT_TIMEOUT')
  assert.equal(answer.closed, true)
})

test('an interim answer before the last one does no harm', async () => {
  const answer = await answered(
    `HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n${withBody('HTTP/1.1 200 OK')}`,
  )
  assert.deepEqual(answer.statuses, [200])
})

test('what an agent sends behind its answer is never the next answer (CWE-444)', async () => {
  const stray = withBody('HTTP/1.1 200 OK', 'STRAY')
  for (let i = 0; i < 5; i += 1) {
    const answer = await answered(`${withBody('HTTP/1.1 200 OK')}${stray}`)
    assert.match(answer.text, /\r\n\r\nhello$/)
  }
})

test('an agent cannot set our cookie, nor one without a name that reads like it (RFC 6265bis §5.6)', async () => {
  for (const cookie of [
    'hardshell=x',
    ' hardshell =x',
    '__Host-hardshell=x; Secure; Path=/',
    '=hardshell=x',
    ' = hardshell=x; Path=/',
    '=__Host-hardshell=x; Secure; Path=/',
    'hardshell',
  ]) {
    const answer = await answered(
      withBody(`HTTP/1.1 200 OK\r\nSet-Cookie: ${cookie}\r\nSet-Cookie: theirs=1`),
    )
    assert.match(answer.text, /Set-Cookie: theirs=1/)
    assert.equal(answer.text.match(/^set-cookie:/gim)?.length, 1, cookie)
  }
})
