/** The text of a managed token: `hsk_<id>_<secret><checksum>`, which secret scanners can recognise. */

const alphabet = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'
const idChars = 8
/** 62^43 > 2^256: as many digits as 256 bits need. */
const secretChars = 43
/** 62^6 > 2^32. */
const checksumChars = 6
const pattern = new RegExp(
  `^hsk_([0-9A-Za-z]{${idChars}})_[0-9A-Za-z]{${secretChars + checksumChars}}$`,
)

/** As many cryptographically random bytes as asked for. */
export type RandomBytes = (count: number) => Uint8Array

/** A new token over 256 random bits, and the id that stands in it in the clear. */
export function makeToken(random: RandomBytes): { readonly id: string; readonly token: string } {
  const id = base62(random(8), idChars)
  const body = `hsk_${id}_${base62(random(32), secretChars)}`
  return { id, token: `${body}${checksum(body)}` }
}

/**
 * Reads the text of a token without knowing any: its id, and whether the checksum fits. `undefined` for a text of
 * another shape. It proves nothing: a fitting checksum can be computed by anybody.
 */
export function readToken(
  text: string,
): { readonly id: string; readonly intact: boolean } | undefined {
  const id = pattern.exec(text)?.[1]
  if (id === undefined) return undefined
  const body = text.slice(0, -checksumChars)
  return { id, intact: text.slice(-checksumChars) === checksum(body) }
}

function checksum(body: string): string {
  // Loaded when there is a managed token to look at: a start with a configured one goes without.
  const { crc32 } = process.getBuiltinModule('node:zlib')
  return digits(BigInt(crc32(body)), checksumChars)
}

function base62(bytes: Uint8Array, chars: number): string {
  return digits(BigInt(`0x${Buffer.from(bytes).toString('hex')}`), chars)
}

/** The lowest `chars` digits, most significant first, padded with zeros. */
function digits(number: bigint, chars: number): string {
  let rest = number
  let text = ''
  for (let place = 0; place < chars; place += 1) {
    text = (alphabet[Number(rest % 62n)] ?? '0') + text
    rest /= 62n
  }
  return text
}
