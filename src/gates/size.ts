/** The declared length of a body; a chunked one is measured while it streams. */
import type { Bytes } from '../limits.ts'
import { allow, deny, type Gate } from './gate.ts'

/** Refuses a request that declares more than `maxBytes`. */
export function sizeGate(maxBytes: Bytes): Gate {
  return {
    name: 'size',
    decide: ({ framing }) =>
      framing.kind === 'length' && framing.bytes > maxBytes
        ? deny('BODY_TOO_LARGE', `${framing.bytes} > ${maxBytes} bytes`)
        : allow,
  }
}
