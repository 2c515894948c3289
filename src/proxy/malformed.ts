/** What is wrong with bytes that the parser refuses to call a request. */
import { codeOf, type RefusalCode } from '../errors.ts'

/** Which refusal a parser error is. */
export function parserRefusal(error: Error): RefusalCode {
  const code = codeOf(error)
  if (code === 'HPE_HEADER_OVERFLOW') return 'HEADERS_TOO_LARGE'
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'REQUEST_TIMEOUT'
  if (code === 'HPE_CHUNK_EXTENSIONS_OVERFLOW') return 'BODY_TOO_LARGE'
  if (code === 'HPE_INVALID_VERSION' && begins(error, otherVersion)) return 'HTTP_VERSION'
  if (code === 'HPE_INVALID_METHOD' && begins(error, otherMethod)) return 'METHOD_NOT_ALLOWED'
  return 'BAD_REQUEST'
}

/** A method that llhttp does not know, in front of an HTTP request line; anything else is noise. */
const otherMethod = /^[A-Za-z][A-Za-z-]{0,30} \/\S* HTTP\/1\.[01]\r\n/
/** A whole version that is not 1.0 or 1.1; a bare line feed behind a good one is something else. */
const otherVersion = /^[A-Z]{1,31} \S+ HTTP\/(?!1\.[01]\s)\d\.\d\r\n/

function begins(error: Error, form: RegExp): boolean {
  if (!('rawPacket' in error) || !Buffer.isBuffer(error.rawPacket)) return false
  return form.test(error.rawPacket.toString('latin1', 0, 9000))
}
