/** Looks for secrets in files: raw and in the spellings that programs give them, many secrets in one pass. */
import { lstatSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import type { Planted } from './secrets.ts'

/** A secret that stands in a file. Never holds the secret. */
export interface Hit {
  readonly file: string
  readonly kind: Planted['kind']
  readonly name: string
  /** How it is spelled there: `raw`, `base64`, … */
  readonly spelling: string
  /** Byte of the file at which it begins, and how many it has there. */
  readonly at: number
  readonly length: number
}

interface Pattern {
  readonly bytes: Buffer
  readonly spelling: string
  readonly planted: Planted
}

/** What is the same whatever stands before and behind: three texts, one for each place in a group of three bytes. */
function base64Parts(bytes: Buffer, form: 'base64' | 'base64url'): readonly string[] {
  return [0, 1, 2].map((before) => {
    const text = Buffer.concat([Buffer.alloc(before), bytes]).toString(form)
    const whole = Math.floor(((before + bytes.length) * 8) / 6)
    return text.slice(Math.ceil((before * 8) / 6), whole)
  })
}

/** Every usual spelling of a text, each once; the first one is the text itself. */
export function spellingsOf(value: string): ReadonlyMap<string, string> {
  const bytes = Buffer.from(value, 'utf8')
  const url = encodeURIComponent(value)
  const html = value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  const spelled: readonly (readonly [string, string])[] = [
    ['raw', value],
    ['json', JSON.stringify(value).slice(1, -1)],
    ['json in json', JSON.stringify(JSON.stringify(value).slice(1, -1)).slice(1, -1)],
    ['url', url],
    ['url, lower case', url.replaceAll(/%[0-9A-F]{2}/g, (code) => code.toLowerCase())],
    ['form', new URLSearchParams({ a: value }).toString().slice(2)],
    ['html', html.replaceAll('"', '&quot;').replaceAll("'", '&#39;')],
    ['hex', bytes.toString('hex')],
    ['hex, upper case', bytes.toString('hex').toUpperCase()],
    ...base64Parts(bytes, 'base64').map((text) => ['base64', text] as const),
    ...base64Parts(bytes, 'base64url').map((text) => ['base64url', text] as const),
    ['utf16', bytes.toString('utf8').split('').join('\0')],
  ]
  const texts = new Map<string, string>()
  for (const [spelling, text] of spelled) if (!texts.has(text)) texts.set(text, spelling)
  return texts
}

/** Bytes at the beginning of a pattern that are compared first, in one pass for all. */
const windowBytes = 6
const base = 16_777_619
const outgoing = Array.from({ length: windowBytes - 1 }).reduce<number>(
  (power) => Math.imul(power, base),
  1,
)

function hashOf(bytes: Uint8Array): number {
  let hash = 0
  for (let i = 0; i < windowBytes; i += 1) hash = (Math.imul(hash, base) + (bytes[i] ?? 0)) | 0
  return hash
}

/** A search for many secrets at once (Rabin and Karp: a rolling hash over windows of 6 bytes). */
export class Search {
  readonly #byHash = new Map<number, Pattern[]>()
  readonly #maybe = new Uint8Array(1 << 22)

  constructor(secrets: Iterable<Planted>) {
    for (const planted of secrets) {
      for (const [text, spelling] of spellingsOf(planted.value)) {
        const bytes = Buffer.from(text, 'utf8')
        if (bytes.length < windowBytes) continue
        const hash = hashOf(bytes)
        const same = this.#byHash.get(hash) ?? []
        same.push({ bytes, spelling, planted })
        this.#byHash.set(hash, same)
        this.#maybe[hash & (this.#maybe.length - 1)] = 1
      }
    }
  }

  /** Every place in these bytes at which a secret stands. */
  in(content: Buffer, file: string): readonly Hit[] {
    const hits: Hit[] = []
    const mask = this.#maybe.length - 1
    let hash = content.length < windowBytes ? 0 : hashOf(content)
    for (let end = windowBytes; end <= content.length; end += 1) {
      if (this.#maybe[hash & mask] === 1) {
        const at = end - windowBytes
        for (const { bytes, spelling, planted } of this.#byHash.get(hash) ?? []) {
          const { length } = bytes
          if (!content.subarray(at, at + length).equals(bytes)) continue
          const { kind, name } = planted
          hits.push({ file, kind, name, spelling, at, length })
        }
      }
      const gone = content[end - windowBytes] ?? 0
      hash = (Math.imul(hash - Math.imul(gone, outgoing), base) + (content[end] ?? 0)) | 0
    }
    return hits
  }
}

/** Regular files below a folder, by path; links are not followed. */
export function filesBelow(folder: string): readonly string[] {
  if (!(lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() ?? false)) return []
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .toSorted()
}
