/** A client that does not read its answer holds a connection to the agent: it may for a while, not for ever. */
import type { ServerResponse } from 'node:http'

/**
 * Looks after `stallMs` whether the client has taken any of what is waiting for it, and again as long as it has; calls
 * `stalled` once it has not. Ends by itself when everything is taken or the response is over.
 */
export function watchStall(response: ServerResponse, stallMs: number, stalled: () => void): void {
  let left = waiting(response)
  const look = (): void => {
    const now = waiting(response)
    if (now >= left) {
      stop()
      stalled()
      return
    }
    left = now
    timer = setTimeout(look, stallMs)
  }
  const stop = (): void => {
    clearTimeout(timer)
    response.removeListener('drain', stop)
    response.removeListener('close', stop)
  }
  let timer = setTimeout(look, stallMs)
  response.once('drain', stop)
  response.once('close', stop)
}

/** Bytes that we hold because the client has not taken them. */
export function waiting(response: ServerResponse): number {
  return response.socket?.writableLength ?? 0
}
