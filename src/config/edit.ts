/** Edits of a JSON5 text that touch one value's span: comments, order and every other byte stay. */
import { parseJson5 } from './json5.ts'

/** A name in an object, or a place in a list. */
export type Step = string | number

/** Where a value stands: from `start` up to `end`, in UTF-16 units of the text. */
interface Span {
  readonly start: number
  readonly end: number
}

interface Member extends Span {
  /** The name of the member; its place in a list. */
  readonly name: Step
  /** The key as it is spelled, quotes included; empty in a list. */
  readonly spelled: string
  readonly value: Value
}

interface Value extends Span {
  readonly kind: 'object' | 'list' | 'plain'
  readonly members: readonly Member[]
}

/** Comments, strings, brackets and all else that is not white space; right for any text that parses as JSON5. */
const token =
  /\/\/[^\n\r\u2028\u2029]*|\/\*[^]*?\*\/|"(?:[^"\\]|\\[^])*"|'(?:[^'\\]|\\[^])*'|[{}[\]:,]|[^\s{}[\]:,"'/]+/g

interface Token extends Span {
  readonly text: string
}

function tokensOf(text: string): readonly Token[] {
  return [...text.replace(/^\ufeff/, ' ').matchAll(token)]
    .map(({ 0: word, index }) => ({ text: word, start: index, end: index + word.length }))
    .filter(({ text: word }) => !word.startsWith('//') && !word.startsWith('/*'))
}

function nameOf(spelled: string): string {
  const { value } = parseJson5(`{${spelled}:0}`)
  return Object.getOwnPropertyNames(value ?? {})[0] ?? ''
}

/** Reads tokens to a tree of spans. The text is known to be JSON5, so every token is where it must be. */
class Reader {
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(tokens: readonly Token[]) {
    this.#tokens = tokens
  }

  #next(): Token {
    const found = this.#tokens[this.#at]
    if (found === undefined) throw new SyntaxError('the text ends too early')
    this.#at += 1
    return found
  }

  value(): Value {
    const first = this.#next()
    if (first.text !== '{' && first.text !== '[') {
      return { kind: 'plain', members: [], start: first.start, end: first.end }
    }
    const kind = first.text === '{' ? 'object' : 'list'
    const members: Member[] = []
    for (;;) {
      const peeked = this.#tokens[this.#at]
      if (peeked?.text === '}' || peeked?.text === ']') {
        return { kind, members, start: first.start, end: this.#next().end }
      }
      if (peeked?.text === ',') this.#at += 1
      else members.push(this.#member(kind, members.length))
    }
  }

  #member(kind: 'object' | 'list', index: number): Member {
    if (kind === 'list') {
      const value = this.value()
      return { name: index, spelled: '', value, start: value.start, end: value.end }
    }
    const key = this.#next()
    this.#next()
    const value = this.value()
    return { name: nameOf(key.text), spelled: key.text, value, start: key.start, end: value.end }
  }
}

function treeOf(text: string): Value {
  const { problems } = parseJson5(text)
  if (problems.length > 0) throw new SyntaxError('the text is not JSON5, or has a key twice')
  return new Reader(tokensOf(text)).value()
}

function walk(root: Value, path: readonly Step[]): { at: Value; rest: readonly Step[] } {
  let at = root
  for (const [index, step] of path.entries()) {
    const member = at.members.find(({ name }) => name === step)
    if (member === undefined) return { at, rest: path.slice(index) }
    at = member.value
  }
  return { at, rest: [] }
}

function splice(text: string, start: number, end: number, put: string): string {
  return text.slice(0, start) + put + text.slice(end)
}

/** Replaces only the value at a path, or puts in what is missing of it. Throws SyntaxError if the text is not JSON5. */
export function setValue(text: string, path: readonly Step[], value: unknown): string {
  const root = treeOf(text)
  const { at, rest } = walk(root, path)
  if (rest.length === 0) return splice(text, at.start, at.end, spell(text, root, at, value))
  if (at.kind !== 'object') {
    // What stands there is no object, so that nothing can be put into it: it is replaced.
    const put = spell(text, root, at, nest(rest, value))
    return splice(text, at.start, at.end, put)
  }
  const [name = '', ...below] = rest
  return insert(text, root, at, String(name), nest(below, value))
}

function nest(path: readonly Step[], value: unknown): unknown {
  return path.reduceRight<unknown>((below, name) => ({ [String(name)]: below }), value)
}

/** Takes a member out, with its comma and, where it has a line of its own, the line. */
export function removeValue(text: string, path: readonly Step[]): string {
  const root = treeOf(text)
  const parent = walk(root, path.slice(0, -1))
  const last = path.at(-1)
  const member =
    parent.rest.length === 0 ? parent.at.members.find(({ name }) => name === last) : undefined
  if (member === undefined) return text
  const tokens = tokensOf(text)
  const after = tokens.find(({ start }) => start >= member.end)
  const before = tokens.findLast(({ end }) => end <= member.start)
  if (after?.text === ',') return cut(text, member.start, after.end)
  if (before?.text === ',') {
    // The last of several: the comma before it goes too, what stands between them stays.
    const without = cut(text, member.start, member.end)
    return splice(without, before.start, before.end, '')
  }
  return cut(text, member.start, member.end)
}

function cut(text: string, start: number, end: number): string {
  const lineStart = text.lastIndexOf('\n', start - 1) + 1
  const rest = /^[ \t]*(?:\r?\n|$)/.exec(text.slice(end))
  if (rest !== null && /^[ \t]*$/.test(text.slice(lineStart, start))) {
    return splice(text, lineStart, end + rest[0].length, '')
  }
  const blank = /^[ \t]/.test(text.slice(end)) && /[\s{[]/.test(text.charAt(start - 1)) ? 1 : 0
  return splice(text, start, end + blank, '')
}

/** How the file indents, how deep a place is, and whether it quotes its keys. */
function indentAt(text: string, position: number): string {
  const lineStart = text.lastIndexOf('\n', position - 1) + 1
  return /^[ \t]*/.exec(text.slice(lineStart))?.[0] ?? ''
}

function quotes(object: Value, root: Value): boolean {
  const first = object.members[0] ?? root.members[0]
  return first?.spelled.startsWith('"') ?? false
}

function isMultiLine(text: string, { start, end }: Span): boolean {
  return text.slice(start, end).includes('\n')
}

function unitOf(text: string, root: Value): string {
  const first = root.members[0]
  const unit = first === undefined ? '' : indentAt(text, first.start)
  return unit === '' ? '  ' : unit
}

function spellKey(name: string, quoted: boolean): string {
  return !quoted && /^[A-Za-z_$][\w$]*$/.test(name) ? name : literal(name)
}

/** JSON with the two line ends escaped that JSON alone allows in a text, and of which JSON5's parser warns. */
function literal(value: unknown): string {
  const text = JSON.stringify(value)
  return text.replaceAll('\u2028', String.raw`\u2028`).replaceAll('\u2029', String.raw`\u2029`)
}

/** A value as text: objects over lines, lists of plain values on one. */
function spellValue(value: unknown, indent: string, unit: string, quoted: boolean): string {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value)
  if (Array.isArray(value)) {
    return `[${value.map((item) => spellValue(item, indent, unit, quoted)).join(', ')}]`
  }
  if (!isObject) return literal(value)
  const entries = Object.entries(value)
  if (entries.length === 0) return '{}'
  const [only] = entries
  if (entries.length === 1 && only?.[0] === 'encrypted') {
    return `{ ${spellKey('encrypted', quoted)}: ${literal(only[1])} }`
  }
  const deeper = indent + unit
  const end = quoted ? '' : ','
  const lines = entries.map(
    ([name, item]) =>
      `${deeper}${spellKey(name, quoted)}: ${spellValue(item, deeper, unit, quoted)}`,
  )
  return `{\n${lines.join(',\n')}${end}\n${indent}}`
}

function spell(text: string, root: Value, at: Value, value: unknown): string {
  const spelled = spellValue(
    value,
    indentAt(text, at.start),
    unitOf(text, root),
    quotes(root, root),
  )
  return spelled.replaceAll('\n', newLineOf(text))
}

/** How the file ends its lines. */
function newLineOf(text: string): string {
  return text.includes('\r\n') ? '\r\n' : '\n'
}

function insert(text: string, root: Value, into: Value, name: string, value: unknown): string {
  const quoted = quotes(into, root)
  const unit = unitOf(text, root)
  const outer = indentAt(text, into.start)
  const multi = into.members.length === 0 || isMultiLine(text, into)
  const first = into.members[0]
  const indent = first !== undefined && multi ? indentAt(text, first.start) : outer + unit
  const newLine = newLineOf(text)
  const spelled = spellValue(value, multi ? indent : outer, unit, quoted)
  const put = `${spellKey(name, quoted)}: ${spelled.replaceAll('\n', newLine)}`
  const inside = text.slice(into.start + 1, into.end - 1)
  const contentEnd = into.start + 1 + inside.trimEnd().length
  const tokens = tokensOf(text)
  const before = tokens.findLast(({ end }) => end < into.end)
  const trailing = before?.text === ','
  const tail = trailing || (into.members.length === 0 && !quoted) ? ',' : ''
  const placed = multi
    ? `${newLine}${indent}${put}${tail}${newLine}${outer}`
    : ` ${put}${tail}${inside.endsWith(' ') ? ' ' : ''}`
  const grown = splice(text, contentEnd, into.end - 1, placed)
  const last = into.members.at(-1)
  return trailing || last === undefined ? grown : splice(grown, last.end, last.end, ',')
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** The text edited so that it says `after` where it said `before`; what is the same in both keeps its bytes. */
export function applyDocument(
  text: string,
  before: unknown,
  after: unknown,
  path: readonly Step[] = [],
): string {
  if (!isObject(before) || !isObject(after)) {
    return JSON.stringify(before) === JSON.stringify(after) ? text : setValue(text, path, after)
  }
  const gone = Object.keys(before).filter((name) => !Object.hasOwn(after, name))
  const removed = gone.reduce((now, name) => removeValue(now, [...path, name]), text)
  return Object.entries(after).reduce((now, [name, value]) => {
    const to = [...path, name]
    return Object.hasOwn(before, name)
      ? applyDocument(now, before[name], value, to)
      : setValue(now, to, value)
  }, removed)
}
