/** JSON5 text to values, without the two traps of it: a key that stands twice, and `__proto__`. */
import type { parse as Parse } from 'json5'
import type { Problem } from './problems.ts'

const { createRequire } = process.getBuiltinModule('node:module')

// An ES import of a CommonJS package first compiles Node's scanner of its exports: a start goes without. And the parser
// comes alone, without what writes JSON5.
const parse = createRequire(import.meta.url)('json5/lib/parse.js') as typeof Parse

/** The value of a JSON5 text, or why it has none. */
export type Parsed =
  | { readonly value: unknown; readonly problems: readonly Problem[] }
  | { readonly value?: undefined; readonly problems: readonly [Problem, ...Problem[]] }

const token =
  /\/\/[^\n\r\u2028\u2029]*|\/\*[^]*?\*\/|"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|[{}[\]:,]|[^\s{}[\]:,"'/]+/g

/** No configuration is nested so deep, and who reads one walks it by recursion. */
const nestedMost = 64

interface Frame {
  readonly path: string
  /** Keys seen so far; undefined for a list. */
  readonly keys: Set<string> | undefined
  /** The key or index that the next value belongs to. */
  at: string
  index: number
}

function childPath(frame: Frame | undefined): string {
  if (frame === undefined) return ''
  if (frame.keys === undefined) return `${frame.path}[${frame.index}]`
  return frame.path === '' ? frame.at : `${frame.path}.${frame.at}`
}

/** The name that a key token spells; escapes count, so `"a"` and `\u0061` are one key. */
function nameOf(word: string): string {
  const plain =
    /^(["'])([^\\]*)\1$/.exec(word)?.[2] ?? (/^[A-Za-z_]+$/.test(word) ? word : undefined)
  if (plain !== undefined) return plain
  const keys = Object.getOwnPropertyNames(parse(`{${word}:0}`))
  return keys[0] ?? ''
}

/** Keys that stand twice in one object, as a parser silently keeps the last; or that it is too deep. For valid JSON5. */
function faultsOf(text: string): readonly Problem[] {
  const problems: Problem[] = []
  const stack: Frame[] = []
  let expectKey = false
  for (const { 0: word, index } of text.matchAll(token)) {
    if (word.startsWith('//') || word.startsWith('/*')) continue
    const top = stack.at(-1)
    if (word === '{' || word === '[') {
      if (stack.length === nestedMost) return [tooDeep]
      const keys = word === '{' ? new Set<string>() : undefined
      stack.push({ path: childPath(top), keys, at: '', index: 0 })
      expectKey = word === '{'
    } else if (word === '}' || word === ']') {
      stack.pop()
      expectKey = false
    } else if (word === ',') {
      expectKey = top?.keys !== undefined
      if (top !== undefined) top.index += 1
    } else if (word === ':') {
      expectKey = false
    } else if (expectKey && top?.keys !== undefined) {
      top.at = nameOf(word)
      if (top.keys.has(top.at)) {
        const line = text.slice(0, index).split('\n').length
        problems.push({
          code: 'DUPLICATE_KEY',
          path: childPath(top),
          message: `stands a second time, on line ${line}`,
          remedy: 'Remove one of the two.',
        })
      }
      top.keys.add(top.at)
    }
  }
  return problems
}

const tooDeep: Problem = {
  code: 'SYNTAX',
  path: '',
  message: `has more than ${nestedMost} brackets in one another`,
  remedy: 'Remove what is nested so deep.',
}

/** Parses JSON5. Never throws; `__proto__` is an ordinary key of the result. */
export function parseJson5(text: string): Parsed {
  try {
    const value: unknown = parse(text.replace(/^\ufeff/, ''))
    const problems = faultsOf(text)
    return problems.includes(tooDeep) ? { problems: [tooDeep] } : { value, problems }
  } catch (error) {
    // The parser's message names a character of the file; its position says enough and shows no secret.
    const { lineNumber, columnNumber } = error as { lineNumber?: number; columnNumber?: number }
    const where = lineNumber === undefined ? '' : ` (line ${lineNumber}, column ${columnNumber})`
    const problem: Problem = {
      code: 'SYNTAX',
      path: '',
      message: `is not JSON5${where}`,
      remedy: 'Mend the brackets, commas or quotes there.',
    }
    return { problems: [problem] }
  }
}
