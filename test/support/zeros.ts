/** Large bodies: made as fast as they are taken, and counted where they arrive. */
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'

const piece = Buffer.alloc(64 * 1024)

/** Writes so many zeros and ends; no faster than they are taken. */
export async function zerosTo(target: Writable, bytes: number): Promise<void> {
  for (let left = bytes; left > 0; left -= piece.length) {
    const more = target.write(left < piece.length ? piece.subarray(0, left) : piece)
    if (!more) await once(target, 'drain')
  }
  target.end()
}

/** Reads a stream of buffers to its end and gives its length. */
export async function counted(source: Readable): Promise<number> {
  let bytes = 0
  source.on('data', (data: Buffer) => (bytes += data.length))
  await once(source, 'end')
  return bytes
}
