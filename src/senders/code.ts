/** Pairing codes: eight characters that two people can read to each other. */
import type { Buffer } from 'node:buffer'

/** Thirty-two letters and digits without I, O, 0 and 1, so that five bits of a byte choose one. */
const alphabet = 'ABCDEFGHJKLMNPQRSTUVWXYZ23456789'
const codeChars = 8

/** The system's random source, or one that a test holds. */
export type RandomBytes = (size: number) => Buffer

/** A fresh code: 40 random bits. */
export function makeCode(random: RandomBytes): string {
  return [...random(codeChars)].map((byte) => alphabet.charAt(byte & 31)).join('')
}

/** The code that somebody typed, in capitals and without spaces or hyphens; undefined when it is none. */
export function readCode(typed: string): string | undefined {
  const code = typed.toUpperCase().replace(/[\s-]/g, '')
  return /^[A-HJ-NP-Z2-9]{8}$/.test(code) ? code : undefined
}
