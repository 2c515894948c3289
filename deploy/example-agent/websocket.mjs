/** The server's half of RFC 6455, as much of it as a small bot needs: text, binary, ping, close, fragments. */
import { createHash } from 'node:crypto'
import { isUtf8 } from 'node:buffer'

const text = 1
const binary = 2
const close = 8
const ping = 9
const pong = 10

const messageBytes = 16 * 1024 * 1024

/** Close codes that may stand in a frame (RFC 6455 §7.4). */
const mayBeSent = (code) =>
  (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) ||
  (code >= 3000 && code <= 4999)

class Violation extends Error {
  constructor(code, message) {
    super(message)
    this.code = code
  }
}

function frame(opcode, payload) {
  const head =
    payload.length < 126
      ? Buffer.alloc(2)
      : payload.length < 65536
        ? Buffer.alloc(4)
        : Buffer.alloc(10)
  head[0] = 0x80 | opcode
  if (head.length === 2) head[1] = payload.length
  if (head.length === 4) (head.writeUInt16BE(payload.length, 2), (head[1] = 126))
  if (head.length === 10) (head.writeBigUInt64BE(BigInt(payload.length), 2), (head[1] = 127))
  return Buffer.concat([head, payload])
}

/** Takes one whole frame off the front of `bytes`, or returns undefined when more must arrive first. */
function take(bytes) {
  if (bytes.length < 2) return undefined
  const final = (bytes[0] & 0x80) !== 0
  const opcode = bytes[0] & 0x0f
  if ((bytes[0] & 0x70) !== 0) throw new Violation(1002, 'reserved bits without an extension')
  if ((bytes[1] & 0x80) === 0) throw new Violation(1002, 'a client frame without a mask')
  let length = bytes[1] & 0x7f
  if (opcode >= close && (!final || length > 125))
    throw new Violation(1002, 'a control frame too long or fragmented')
  if (![0, text, binary, close, ping, pong].includes(opcode))
    throw new Violation(1002, 'an unknown opcode')
  let offset = 2
  if (length === 126) {
    if (bytes.length < 4) return undefined
    length = bytes.readUInt16BE(2)
    offset = 4
  } else if (length === 127) {
    if (bytes.length < 10) return undefined
    const long = bytes.readBigUInt64BE(2)
    if (long > BigInt(messageBytes)) throw new Violation(1009, 'a frame too large')
    length = Number(long)
    offset = 10
  }
  if (length > messageBytes) throw new Violation(1009, 'a frame too large')
  if (bytes.length < offset + 4 + length) return undefined
  const mask = bytes.subarray(offset, offset + 4)
  const payload = Buffer.from(bytes.subarray(offset + 4, offset + 4 + length))
  for (let i = 0; i < length; i++) payload[i] ^= mask[i & 3]
  return { final, opcode, payload, rest: bytes.subarray(offset + 4 + length) }
}

/**
 * Answers the handshake on `socket` and calls `onMessage(data, isBinary, send)` for every whole message.
 * `send(data, isBinary)` sends one message back.
 */
export function acceptWebSocket(request, socket, first, onMessage) {
  const key = request.headers['sec-websocket-key'] ?? ''
  if (
    request.headers['sec-websocket-version'] !== '13' ||
    Buffer.from(key, 'base64').length !== 16
  ) {
    socket.end(
      'HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nConnection: close\r\nContent-Length: 0\r\n\r\n',
    )
    return
  }
  const proof = createHash('sha1')
    .update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`)
    .digest('base64')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${proof}\r\n\r\n`,
  )
  socket.setNoDelay(true)

  let pending = first
  let parts = []
  let partsBytes = 0
  let kind = 0
  let closed = false

  const send = (data, isBinary) => {
    if (!closed && socket.writable) socket.write(frame(isBinary ? binary : text, data))
  }
  const end = (code, reason = '') => {
    if (closed) return
    closed = true
    const payload = Buffer.alloc(2)
    payload.writeUInt16BE(code)
    socket.end(frame(close, Buffer.concat([payload, Buffer.from(reason)])))
  }

  function control({ opcode, payload }) {
    if (opcode === ping) socket.write(frame(pong, payload))
    if (opcode !== close) return
    if (payload.length === 0) return end(1000)
    if (payload.length === 1 || !mayBeSent(payload.readUInt16BE(0)))
      throw new Violation(1002, 'a close code out of range')
    if (!isUtf8(payload.subarray(2))) throw new Violation(1007, 'a close reason that is not UTF-8')
    end(payload.readUInt16BE(0))
  }

  function data({ final, opcode, payload }) {
    if ((opcode === 0) !== (kind !== 0)) throw new Violation(1002, 'a fragment out of order')
    if (opcode !== 0) kind = opcode
    parts.push(payload)
    partsBytes += payload.length
    if (partsBytes > messageBytes) throw new Violation(1009, 'a message too large')
    if (!final) return
    const message = Buffer.concat(parts)
    const isBinary = kind === binary
    parts = []
    partsBytes = 0
    kind = 0
    if (!isBinary && !isUtf8(message)) throw new Violation(1007, 'text that is not UTF-8')
    onMessage(message, isBinary, send)
  }

  function read(chunk) {
    if (closed) return
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk])
    try {
      for (let next = take(pending); next !== undefined && !closed; next = take(pending)) {
        pending = next.rest
        if (next.opcode >= close) control(next)
        else data(next)
      }
    } catch (thrown) {
      if (!(thrown instanceof Violation)) throw thrown
      end(thrown.code, thrown.message)
    }
  }

  socket.on('error', () => socket.destroy())
  socket.on('end', () => socket.end())
  socket.on('data', read)
  if (pending.length > 0) read(Buffer.alloc(0))
}
