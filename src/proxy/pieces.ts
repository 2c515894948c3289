/** The pieces of large bodies: their memory is given back while a stream runs, not once 64 MiB of it have gathered. */

/** The V8 of Node 24. A later one has no such flag and would say so on stderr. */
const knownV8 = /^13\./

let asked = false

/**
 * To be called where a body is about to pass in pieces; from the first call on, V8 collects its young generation
 * whenever 8 MiB of buffers have been made. Left alone it counts them only towards a full collection, every 64 MiB.
 *
 * The flag is four times smaller than its effect: V8 compares twice the default size of a semi-space, which is twice the
 * flag, with the buffers of the young generation. Its heap itself keeps the size it started with. Not before a stream,
 * because V8 takes no code that was compiled under other flags: Node would compile anew what it has not loaded yet.
 */
export function collectPiecesEarly(): void {
  if (asked) return
  asked = true
  if (!knownV8.test(process.versions.v8)) return
  process.getBuiltinModule('node:v8').setFlagsFromString('--scavenger-max-new-space-capacity-mb=2')
}
