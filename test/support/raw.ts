/** Bytes on a socket: what no HTTP client would send, and exactly what comes back. */
import { connect } from 'node:net'

export interface RawAnswer {
  /** Everything received, as Latin-1. */
  readonly text: string
  /** Status of the first answer; 0 when there was none. */
  readonly status: number
  /** Statuses of all answers in the stream. */
  readonly statuses: readonly number[]
  /** The server ended the connection. */
  readonly closed: boolean
  /** It did so by a reset, which says that something is missing. */
  readonly reset: boolean
  readonly code: string | undefined
}

/**
 * Sends the pieces one after the other (a number waits so many ms) and collects until the server closes, the answer
 * is complete and `until` says so, or `timeMs` is over. With `ends` the client then says that it will send no more.
 */
export async function exchange(
  port: number,
  pieces: readonly (string | Buffer | number)[],
  options: {
    timeMs?: number
    until?: (text: string) => boolean
    host?: string
    ends?: boolean
  } = {},
): Promise<RawAnswer> {
  const { timeMs = 3000, until, host = '127.0.0.1', ends = false } = options
  const socket = connect({ port, host })
  const received: Buffer[] = []
  let closed = false
  let reset = false
  const text = () => Buffer.concat(received).toString('latin1')
  const over = new Promise<void>((resolve) => {
    const timer = setTimeout(resolve, timeMs)
    socket.on('data', (piece: Buffer) => {
      received.push(piece)
      if (until?.(text()) === true) {
        clearTimeout(timer)
        resolve()
      }
    })
    socket.on('error', (error) => {
      reset = 'code' in error && error.code === 'ECONNRESET'
    })
    socket.on('end', () => {
      closed = true
    })
    socket.on('close', () => {
      closed = true
      clearTimeout(timer)
      resolve()
    })
  })
  for (const piece of pieces) {
    if (typeof piece === 'number') await new Promise((resolve) => setTimeout(resolve, piece))
    else if (!socket.destroyed && socket.writable) socket.write(piece)
  }
  if (ends) socket.end()
  await over
  socket.destroy()
  const all = text()
  const statuses = [...all.matchAll(/^HTTP\/1\.[01] (\d{3})/gm)].map((found) => Number(found[1]))
  return {
    text: all,
    status: statuses[0] ?? 0,
    statuses,
    closed,
    reset,
    code: /"code":"([A-Z_]+)"/.exec(all)?.[1],
  }
}

/** A request head from lines, with the blank line behind it. */
export const head = (...lines: string[]): string => `${lines.join('\r\n')}\r\n\r\n`
