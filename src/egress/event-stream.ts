/**
 * Server-sent events (WHATWG HTML §9.2) read in bounded memory and written anew: a reader that splits lines or fields in
 * another way than we do never sees bytes that we did not.
 */
import { Buffer, isUtf8 } from 'node:buffer'

/** A whole event. `data` is undefined where it had none. */
export interface StreamEvent {
  readonly kind: 'event'
  readonly type: string | undefined
  readonly id: string | undefined
  readonly retry: string | undefined
  readonly data: string | undefined
}

/** A sign of life, an event, or one that cannot be read, in words of ours. */
export type StreamPart =
  | StreamEvent
  | { readonly kind: 'comment' }
  | { readonly kind: 'broken'; readonly because: string; readonly id: string | undefined }

const lineFeed = 10
const carriageReturn = 13
const colon = 58

interface Fields {
  type?: string
  id?: string
  retry?: string
  readonly data: string[]
  bytes: number
  broken?: string
}

const noFields = (): Fields => ({ data: [], bytes: 0 })

/** Reads one stream, chunk by chunk. An event of more than `maxBytes` is left out and told as broken. */
export class EventReader {
  readonly #maxBytes: number
  /** The line so far is its first `#length` bytes. */
  #line = Buffer.alloc(0)
  #length = 0
  #afterReturn = false
  #first = true
  #fields = noFields()

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes
  }

  /** What the chunk has completed, in order. */
  *read(chunk: Buffer): Generator<StreamPart> {
    let start = 0
    for (let at = 0; at < chunk.length; at += 1) {
      const byte = chunk[at]
      if (byte !== lineFeed && byte !== carriageReturn) continue
      const secondHalf = byte === lineFeed && this.#afterReturn && at === start
      this.#afterReturn = byte === carriageReturn
      if (!secondHalf) {
        this.#keep(chunk.subarray(start, at))
        const part = this.#end()
        if (part !== undefined) yield part
      }
      start = at + 1
    }
    if (start === chunk.length) return
    this.#afterReturn = false
    this.#keep(chunk.subarray(start))
  }

  /** Holds a piece of a line, unless the event has grown too long. */
  #keep(piece: Buffer): void {
    const fields = this.#fields
    fields.bytes += piece.length
    if (fields.bytes > this.#maxBytes) {
      fields.broken = `the event is longer than ${this.#maxBytes} bytes`
      fields.data.length = 0
      this.#length = 0
      return
    }
    const length = this.#length + piece.length
    if (length > this.#line.length) {
      const larger = Buffer.allocUnsafe(Math.max(length, 2 * this.#line.length))
      this.#line.copy(larger, 0, 0, this.#length)
      this.#line = larger
    }
    piece.copy(this.#line, this.#length)
    this.#length = length
  }

  #end(): StreamPart | undefined {
    const fields = this.#fields
    let line = this.#line.subarray(0, this.#length)
    this.#length = 0
    if (fields.bytes > this.#maxBytes) {
      // The rest of an event that is too long: only the empty line that ends it counts.
      fields.bytes = this.#maxBytes
      return undefined
    }
    if (this.#first && line.subarray(0, 3).equals(byteOrderMark)) line = line.subarray(3)
    this.#first = false
    if (line.length === 0) return this.#dispatch()
    if (line[0] === colon) {
      fields.bytes -= line.length
      return { kind: 'comment' }
    }
    if (isUtf8(line)) this.#field(line.toString('utf8'))
    else fields.broken = 'the event is not UTF-8'
    return undefined
  }

  #field(line: string): void {
    const mark = line.indexOf(':')
    const name = mark === -1 ? line : line.slice(0, mark)
    const value = mark === -1 ? '' : line.slice(mark + 1).replace(/^ /, '')
    const fields = this.#fields
    if (name === 'data') fields.data.push(value)
    else if (name === 'event' && /^[\x21-\x7e]{0,100}$/.test(value)) fields.type = value
    else if (name === 'event') fields.broken = 'the type of the event is not plain'
    else if (name === 'id' && isEventId(value)) fields.id = value
    else if (name === 'retry' && /^\d{1,9}$/.test(value)) fields.retry = value
  }

  #dispatch(): StreamPart | undefined {
    const { type, id, retry, data, broken } = this.#fields
    this.#fields = noFields()
    if (this.#line.length > keptBytes) this.#line = Buffer.alloc(0)
    if (broken !== undefined) return { kind: 'broken', because: broken, id }
    if (data.length === 0 && id === undefined && retry === undefined) return undefined
    return { kind: 'event', type, id, retry, data: data.length === 0 ? undefined : data.join('\n') }
  }
}

/** A line buffer larger than this is given back after its event. */
const keptBytes = 65_536
const byteOrderMark = Buffer.from([0xef, 0xbb, 0xbf])

/** An id that can go into a header and back: plain characters, bounded. */
export function isEventId(value: string): boolean {
  return /^[\x20-\x7e]{0,200}$/.test(value)
}

/** A sign of life as signal-cli writes it: it ends no event. */
export const commentLine = ':\n'

/** The event as it goes on. Without data nothing is told to the bot, but that it has come this far in the stream. */
export function spellEvent({ type, id, retry, data }: Omit<StreamEvent, 'kind'>): string {
  const lines = [
    ...(id === undefined ? [] : [`id:${spaced(id)}`]),
    ...(retry === undefined ? [] : [`retry:${retry}`]),
    ...(type === undefined || data === undefined ? [] : [`event:${type}`]),
    ...(data === undefined ? [] : data.split('\n').map((line) => `data:${spaced(line)}`)),
  ]
  return lines.length === 0 ? '' : `${lines.join('\n')}\n\n`
}

/** One blank after the colon is taken off by readers, so a value that begins with one gets another. */
const spaced = (value: string) => (value.startsWith(' ') ? ` ${value}` : value)
