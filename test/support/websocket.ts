/** Raw WebSocket frames on a socket (RFC 6455 §5.2): what no library would send, and what it would hide. */
import { createHash, randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'

export const opcodes = { more: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 } as const

export interface Frame {
  readonly opcode: number
  readonly payload: Buffer
  readonly fin: boolean
  readonly masked: boolean
  /** The three reserved bits as a number, 0 to 7. */
  readonly rsv: number
}

export interface FrameOptions {
  fin?: boolean
  masked?: boolean
  rsv?: number
  /** Declares this length instead of the payload's own. */
  length?: number
}

/** One frame as bytes. */
export function frame(
  opcode: number,
  payload: Buffer | string = '',
  options: FrameOptions = {},
): Buffer {
  const { fin = true, masked = true, rsv = 0 } = options
  const data = Buffer.from(payload)
  const length = options.length ?? data.length
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode]
  const maskBit = masked ? 0x80 : 0
  const extended = Buffer.alloc(length > 65535 ? 8 : length > 125 ? 2 : 0)
  if (extended.length === 8) extended.writeBigUInt64BE(BigInt(length))
  else if (extended.length === 2) extended.writeUInt16BE(length)
  head.push(maskBit | (extended.length === 8 ? 127 : extended.length === 2 ? 126 : length))
  if (!masked) return Buffer.concat([Buffer.from(head), extended, data])
  const mask = randomBytes(4)
  for (let i = 0; i < data.length; i++) data[i] = (data[i] ?? 0) ^ (mask[i % 4] ?? 0)
  return Buffer.concat([Buffer.from(head), extended, mask, data])
}

/** A close frame; without a code its payload is empty. */
export function closeFrame(code?: number, reason: Buffer | string = '', options?: FrameOptions) {
  if (code === undefined) return frame(opcodes.close, '', options)
  const payload = Buffer.alloc(2)
  payload.writeUInt16BE(code)
  return frame(opcodes.close, Buffer.concat([payload, Buffer.from(reason)]), options)
}

/** Takes the first whole frame off `bytes`, or says that it is incomplete. */
export function parseFrame(bytes: Buffer): { frame: Frame; rest: Buffer } | undefined {
  if (bytes.length < 2) return undefined
  const [first = 0, second = 0] = bytes
  let length = second & 0x7f
  let at = 2
  if (length === 126) {
    if (bytes.length < 4) return undefined
    length = bytes.readUInt16BE(2)
    at = 4
  } else if (length === 127) {
    if (bytes.length < 10) return undefined
    length = Number(bytes.readBigUInt64BE(2))
    at = 10
  }
  const masked = (second & 0x80) !== 0
  const mask = masked ? bytes.subarray(at, at + 4) : undefined
  if (masked) at += 4
  if (bytes.length < at + length) return undefined
  const payload = Buffer.from(bytes.subarray(at, at + length))
  if (mask !== undefined) {
    for (let i = 0; i < payload.length; i++) payload[i] = (payload[i] ?? 0) ^ (mask[i % 4] ?? 0)
  }
  return {
    frame: {
      opcode: first & 0x0f,
      fin: (first & 0x80) !== 0,
      rsv: (first >> 4) & 7,
      masked,
      payload,
    },
    rest: bytes.subarray(at + length),
  }
}

/** Sec-WebSocket-Accept for a key. */
export function acceptOf(key: string): string {
  const suffix = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
  return createHash('sha1').update(`${key}${suffix}`).digest('base64')
}

export interface HandshakeOptions {
  path?: string
  /** Lines as they go on the wire, without the handshake's own. */
  headers?: readonly string[]
  protocols?: string
  extensions?: string
  key?: string
  /** Bytes sent in the same write as the handshake. */
  behind?: Buffer
  /** Keeps its half of the connection open when the other side ends. */
  stubborn?: boolean
}

export interface HttpAnswer {
  readonly status: number
  readonly head: string
  readonly headers: ReadonlyMap<string, string>
}

/** How long anything may take on a busy machine, in ms. */
const patienceMs = 15_000

/** A WebSocket client on a bare socket, able to break every rule. */
export class RawClient {
  readonly socket: Socket
  readonly key: string
  /** Resolves when the connection is gone. */
  readonly gone: Promise<void>
  #bytes: Buffer = Buffer.alloc(0)
  #ended = false
  #wake: () => void = () => undefined

  constructor(port: number, options: HandshakeOptions = {}) {
    this.key = options.key ?? randomBytes(16).toString('base64')
    this.socket = connect({
      host: '127.0.0.1',
      port,
      allowHalfOpen: options.stubborn === true,
    })
    this.socket.setNoDelay(true)
    this.socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk])
      this.#wake()
    })
    const ended = () => {
      this.#ended = true
      this.#wake()
    }
    this.socket.on('end', ended)
    this.socket.on('error', ended)
    this.gone = new Promise((resolve) => {
      this.socket.on('close', () => {
        ended()
        resolve()
      })
    })
    const lines = [`GET ${options.path ?? '/'} HTTP/1.1`, 'Host: agent.example']
    lines.push('Connection: Upgrade', 'Upgrade: websocket', 'Sec-WebSocket-Version: 13')
    lines.push(`Sec-WebSocket-Key: ${this.key}`)
    if (options.protocols !== undefined) lines.push(`Sec-WebSocket-Protocol: ${options.protocols}`)
    if (options.extensions !== undefined) {
      lines.push(`Sec-WebSocket-Extensions: ${options.extensions}`)
    }
    lines.push(...(options.headers ?? []), '', '')
    const handshake = Buffer.from(lines.join('\r\n'))
    this.socket.write(Buffer.concat([handshake, options.behind ?? Buffer.alloc(0)]))
  }

  /** The head of the answer to the handshake. */
  async answer(): Promise<HttpAnswer> {
    for (;;) {
      const end = this.#bytes.indexOf('\r\n\r\n')
      if (end >= 0) {
        const head = this.#bytes.subarray(0, end).toString('latin1')
        this.#bytes = this.#bytes.subarray(end + 4)
        const [line = '', ...rest] = head.split('\r\n')
        const headers = new Map<string, string>()
        for (const one of rest) {
          const colon = one.indexOf(':')
          headers.set(one.slice(0, colon).toLowerCase(), one.slice(colon + 1).trim())
        }
        return { status: Number(line.split(' ')[1]), head, headers }
      }
      await this.#more('the answer to the handshake')
    }
  }

  /** Waits for the 101 and fails with the answer when it is another one. */
  async open(): Promise<this> {
    const answer = await this.answer()
    if (answer.status !== 101) throw new Error(`not opened: ${answer.head}`)
    return this
  }

  /** The next frame. */
  async frame(): Promise<Frame> {
    for (;;) {
      const parsed = parseFrame(this.#bytes)
      if (parsed !== undefined) {
        this.#bytes = parsed.rest
        return parsed.frame
      }
      await this.#more('a frame')
    }
  }

  /** The close frame, with whatever comes before it thrown away; `undefined` when the connection ends without one. */
  async closing(): Promise<{ code: number | undefined; reason: string } | undefined> {
    for (;;) {
      const parsed = parseFrame(this.#bytes)
      if (parsed === undefined) {
        if (this.#ended) return undefined
        await this.#more('a close frame', true)
        continue
      }
      this.#bytes = parsed.rest
      if (parsed.frame.opcode !== opcodes.close) continue
      const { payload } = parsed.frame
      const code = payload.length >= 2 ? payload.readUInt16BE() : undefined
      return { code, reason: payload.subarray(2).toString() }
    }
  }

  /** Everything until the end of the connection. */
  async rest(): Promise<Buffer> {
    while (!this.#ended) await this.#more('the end of the connection', true)
    return this.#bytes
  }

  send(opcode: number, payload: Buffer | string = '', options?: FrameOptions): void {
    this.socket.write(frame(opcode, payload, options))
  }

  destroy(): void {
    this.socket.destroy()
  }

  async #more(what: string, endIsFine = false): Promise<void> {
    if (this.#ended) {
      if (endIsFine) return
      throw new Error(`the connection ended before ${what}`)
    }
    const before = this.#bytes.length
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited too long for ${what}`)), patienceMs)
      this.#wake = () => {
        if (this.#bytes.length === before && !this.#ended) return
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** Resolves when `test` holds; fails after some seconds with `what`. */
export async function until(what: string, test: () => boolean): Promise<void> {
  const by = performance.now() + patienceMs
  while (!test()) {
    if (performance.now() > by) throw new Error(`waited too long until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
