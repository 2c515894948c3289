/** Reads a parsed document by the tree of settings: unknown keys, `${VAR}`, secrets in files, every reader. */
import { Failure } from '../errors.ts'
import { FileFailure } from '../files.ts'
import type { Opened } from '../secrets/vault.ts'
import type { Env } from './environment.ts'
import type { Problem, ProblemCode } from './problems.ts'
import { kindOf } from './readers.ts'
import type { Trouble } from './readers.ts'
import { isAllLater, isAvailable, rowsByPath, tree } from './tree.ts'
import type { Given, Node } from './tree.ts'

/** Where a secret came from, so that a variable can be taken out of the environment and shown by name. */
export interface SecretSource {
  /** Key path, like `gateway.auth.token` or `agent.env.API_KEY`. */
  readonly path: string
  /**
   * `config`: in the file itself as plain text. `sealed`: in the file, sealed. `variable`: through `${NAME}`.
   * `environment`: a fallback variable.
   */
  readonly from: 'config' | 'sealed' | 'variable' | 'environment' | 'file'
  /** Name of the variable or path of the file. */
  readonly name?: string
}

/** What the reading of a document needs and collects. */
export interface Reading {
  readonly env: Env
  /** Reads the secret in a file; throws FileFailure. */
  readonly secretOf: (path: string) => string
  /** Opens a sealed value; throws Failure where the key itself cannot be used. */
  readonly open: (sealed: string) => Opened
  readonly problems: Problem[]
  readonly sources: SecretSource[]
}

/** Problems that are told even for a key that is not available yet, because they quote a migration. */
const migrations: ReadonlySet<ProblemCode> = new Set(['POLICY_OPEN', 'WILDCARD'])
const ownName = /^[A-Za-z0-9][A-Za-z0-9_:.-]{0,127}$/
/** Names that services give: "-1001234", "!room:example.org", "spaces/AAA". */
const roomName = /^(?!__proto__$)[^\u0000-\u001f\u007f]{1,300}$/
const variable = /\$\{([^}]*)\}?/g
const onlyVariable = /^\$\{[A-Za-z_][A-Za-z0-9_]*\}$/

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A path that is safe to print, whatever the key is. */
function pathTo(parent: string, name: string): string {
  const short = name.length > 64 ? `${name.slice(0, 64)}…` : name
  if (!/^[\w$:-]+…?$/.test(short)) return `${parent}[${JSON.stringify(short)}]`
  return parent === '' ? short : `${parent}.${short}`
}

function unknownKey(node: Node, parent: string, name: string, reading: Reading): void {
  const path = pathTo(parent, name)
  if (isAllLater(node)) {
    reading.problems.push(notAvailable(path, undefined))
    return
  }
  const known = [...rowsByPath].filter(([, row]) => isAvailable(row)).map(([pattern]) => pattern)
  const near = nearestKey(parent, name, [...node.children.keys()], known)
  const remedy =
    near === undefined
      ? 'Remove it; "hardshell config schema" lists every key.'
      : `Did you mean ${near}? "hardshell config schema" lists every key.`
  reading.problems.push({ code: 'UNKNOWN_KEY', path, message: 'is not a known key', remedy })
}

function notAvailable(path: string, what: string | undefined): Problem {
  return {
    code: 'NOT_AVAILABLE',
    path,
    message: 'is not available in this version',
    remedy:
      what === undefined
        ? 'Remove it; a later version brings it.'
        : `Remove it; a later version brings ${what}.`,
  }
}

/** Replaces each `${VAR}` in a text once; what a variable holds is not looked into again. */
function expandText(
  text: string,
  path: string,
  reading: Reading,
  note: (name: string) => void,
): string | undefined {
  let complete = true
  const expanded = text.replace(variable, (whole, name: string) => {
    const wellFormed = whole.endsWith('}') && /^[A-Za-z_][A-Za-z0-9_]*$/.test(name)
    const value = wellFormed && Object.hasOwn(reading.env, name) ? reading.env[name] : undefined
    if (value === undefined) {
      complete = false
      reading.problems.push(
        wellFormed
          ? {
              code: 'VARIABLE_UNSET',
              path,
              message: `needs the variable ${name}, which is not set`,
              remedy: `Set ${name} in the environment of Hardshell, or write the value here.`,
            }
          : {
              code: 'VARIABLE_SYNTAX',
              path,
              message: 'holds a ${…} without the name of a variable',
              remedy: 'Write it as ${NAME}, with letters, digits and underscores.',
            },
      )
      return ''
    }
    note(name)
    return value
  })
  return complete ? expanded : undefined
}

/** A leaf's value with variables and files put in; undefined when something was missing, which is then told. */
function resolveLeaf(
  value: unknown,
  path: string,
  secret: boolean,
  reading: Reading,
): { readonly value: unknown } | undefined {
  if (typeof value === 'string') {
    const names: string[] = []
    const text = expandText(value, path, reading, (name) => names.push(name))
    if (text === undefined) return undefined
    if (secret) {
      if (names.length === 0) reading.sources.push({ path, from: 'config' })
      for (const name of names) reading.sources.push({ path, from: 'variable', name })
    }
    return { value: text }
  }
  if (secret && isObject(value) && Object.hasOwn(value, 'encrypted')) {
    return openSealed(value, path, reading)
  }
  if (secret && isObject(value) && typeof value['file'] === 'string') {
    return resolveFile(value, path, reading)
  }
  return { value }
}

/** A sealed value, opened; what stands beside it or is none is told. */
function openSealed(
  value: Readonly<Record<string, unknown>>,
  path: string,
  reading: Reading,
): { readonly value: string } | undefined {
  const { encrypted, ...extra } = value
  const told = (code: ProblemCode, message: string, remedy: string): undefined => {
    reading.problems.push({ code, path, message, remedy })
  }
  if (typeof encrypted !== 'string' || Object.keys(extra).length > 0) {
    const remedy = 'Write the value again with "hardshell config set".'
    return told('SEALED', 'is not { "encrypted": "…" } and nothing else', remedy)
  }
  try {
    const opened = reading.open(encrypted)
    if (opened.because !== undefined) {
      const { because, wrongKey } = opened
      const say = `cannot be opened: ${because}`
      if (!wrongKey) return told('SEALED', say, 'Write it again with "hardshell config set".')
      return told('SECRETS_KEY', say, 'Bring the key back with "hardshell secrets restore".')
    }
    reading.sources.push({ path, from: 'sealed' })
    return { value: opened.value }
  } catch (thrown) {
    if (!(thrown instanceof Failure)) throw thrown
    const [what = '', ...remedy] = thrown.message.split('. ')
    return told('SECRETS_KEY', `cannot be opened: ${what}`, remedy.join('. '))
  }
}

function resolveFile(
  value: Readonly<Record<string, unknown>>,
  path: string,
  reading: Reading,
): { readonly value: string } | undefined {
  const extra = Object.keys(value).filter((name) => name !== 'file')
  for (const name of extra) {
    const remedy = 'Keep only "file".'
    const at = pathTo(path, name)
    reading.problems.push({ code: 'UNKNOWN_KEY', path: at, message: 'is not a known key', remedy })
  }
  const file = expandText(String(value['file']), path, reading, () => undefined)
  if (file === undefined || extra.length > 0) return undefined
  const secret = readSecret(file, path, reading)
  return secret === undefined ? undefined : { value: secret }
}

/** The text without its last line end, which editors and "echo" add. */
export function withoutLineEnd(text: string): string {
  return text.replace(/\r?\n$/, '')
}

/** Reads a secret from a file, or tells why it cannot be read. */
export function readSecret(file: string, path: string, reading: Reading): string | undefined {
  try {
    const secret = withoutLineEnd(reading.secretOf(file))
    reading.sources.push({ path, from: 'file', name: file })
    return secret
  } catch (error) {
    if (!(error instanceof FileFailure)) throw error
    const { what, remedy } = error
    reading.problems.push({
      code: error.code as ProblemCode,
      path,
      message: `cannot be read: ${what}`,
      remedy,
    })
    return undefined
  }
}

/** Resolves a list or a map element by element; an element that is exactly `${VAR}` splits at commas. */
function resolveAll(
  value: unknown,
  path: string,
  secret: boolean,
  reading: Reading,
): { readonly value: unknown } | undefined {
  if (Array.isArray(value)) {
    const parts = value.map((item: unknown, index) => {
      const part = resolveLeaf(item, `${path}[${index}]`, secret, reading)
      if (part === undefined) return undefined
      const splits = typeof item === 'string' && onlyVariable.test(item)
      if (!splits || typeof part.value !== 'string') return [part.value]
      return part.value.split(',').flatMap((piece) => (piece.trim() === '' ? [] : [piece.trim()]))
    })
    return parts.includes(undefined) ? undefined : { value: parts.flatMap((part) => part ?? []) }
  }
  if (!isObject(value)) return resolveLeaf(value, path, secret, reading)
  const whole = secret && (Object.hasOwn(value, 'file') || Object.hasOwn(value, 'encrypted'))
  if (whole) return resolveLeaf(value, path, secret, reading)
  return resolveMap(value, path, secret, reading)
}

function resolveMap(
  value: Readonly<Record<string, unknown>>,
  path: string,
  secret: boolean,
  reading: Reading,
): { readonly value: unknown } | undefined {
  const entries: (readonly [string, unknown])[] = []
  let complete = true
  for (const [name, item] of Object.entries(value)) {
    const part = resolveLeaf(item, pathTo(path, name), secret, reading)
    if (part === undefined) complete = false
    else entries.push([name, part.value])
  }
  return complete ? { value: Object.fromEntries(entries) } : undefined
}

function tell(troubles: readonly Trouble[], path: string, reading: Reading): void {
  for (const { code, message, remedy, at = '' } of troubles) {
    reading.problems.push({ code, path: `${path}${at}`, message, remedy })
  }
}

/** Reads one leaf. The value of a key whose capability comes later is never looked at, but for migrations. */
function readLeaf(
  node: Node,
  raw: unknown,
  path: string,
  reading: Reading,
): { readonly value: unknown } | undefined {
  const { row } = node
  if (row === undefined) return undefined
  const { since } = row
  if (since !== undefined && since.needs === undefined) {
    const judged = row.reader.read(raw)
    if (!judged.ok) {
      const told = judged.troubles.filter(({ code }) => migrations.has(code))
      tell(told, path, reading)
    }
    reading.problems.push(notAvailable(path, since.what))
    return undefined
  }
  const resolved = resolveAll(raw, path, row.secret ?? false, reading)
  if (resolved === undefined) return undefined
  const result = row.reader.read(resolved.value)
  if (!result.ok) {
    tell(result.troubles, path, reading)
    return undefined
  }
  if (since?.needs?.(result.value) === true) {
    const { what } = since
    const message = 'is not available in this version with this value'
    reading.problems.push({ ...notAvailable(path, what), message })
  }
  return { value: result.value }
}

/** The branch at these segments, made where it is missing. */
function branchAt(given: Given, segments: readonly string[]): Given {
  let at = given
  for (const segment of segments) {
    const there = at.get(segment)
    const next = there instanceof Map ? there : (new Map() as Given)
    at.set(segment, next)
    at = next
  }
  return at
}

function segmentsOf(pattern: string, names: readonly string[]): readonly string[] {
  const free = [...names]
  return pattern.split('.').map((part) => (part === '*' ? (free.shift() ?? '') : part))
}

function put(given: Given, pattern: string, names: readonly string[], value: unknown): boolean {
  const segments = segmentsOf(pattern, names)
  const at = branchAt(given, segments.slice(0, -1))
  const last = segments.at(-1) ?? ''
  if (at.has(last)) return false
  at.set(last, { value })
  return true
}

function namesOf({ wildcard }: Node): RegExp {
  return /\.(?:groups|topics)\.\*$/.test(wildcard?.pattern ?? '') ? roomName : ownName
}

function walk(
  node: Node,
  value: unknown,
  at: { readonly path: string; readonly names: readonly string[] },
  given: Given,
  reading: Reading,
): void {
  if (!isObject(value)) {
    const message = `must be an object, not ${kindOf(value)}`
    const remedy = 'Put its keys in { }.'
    reading.problems.push({ code: 'TYPE', path: at.path, message, remedy })
    return
  }
  for (const name of Object.keys(value)) {
    const named = node.children.get(name)
    const child = named ?? (namesOf(node).test(name) ? node.wildcard : undefined)
    if (child === undefined) {
      unknownKey(node, at.path, name, reading)
      continue
    }
    const path = pathTo(at.path, name)
    const names = named === undefined ? [...at.names, name] : at.names
    if (child.row === undefined) {
      // A name that the owner chose counts even when nothing is said about it: `groups: { "-1001": {} }`.
      if (named === undefined) branchAt(given, segmentsOf(child.pattern, names))
      walk(child, value[name], { path, names }, given, reading)
      continue
    }
    const leaf = readLeaf(child, value[name], path, reading)
    if (leaf !== undefined && !put(given, child.pattern, names, leaf.value)) {
      const message = 'is given in two spellings'
      const remedy = 'Remove one of them.'
      reading.problems.push({ code: 'EXCLUSIVE', path, message, remedy })
    }
  }
}

/** Reads a whole document; what is wrong goes to `reading.problems`. Total over any JSON value. */
export function readDocument(document: unknown, reading: Reading): Given {
  const given: Given = new Map()
  walk(tree, document, { path: '', names: [] }, given, reading)
  return given
}

/** Letters that must change to turn one word into another (Damerau–Levenshtein, neighbours swapped count once). */
export function editDistance(left: string, right: string): number {
  const a = left.slice(0, 64)
  const b = right.slice(0, 64)
  let before: number[] = []
  let previous = Array.from({ length: b.length + 1 }, (_, column) => column)
  for (let i = 1; i <= a.length; i += 1) {
    const current = [i]
    for (let j = 1; j <= b.length; j += 1) {
      const cost = a[i - 1] === b[j - 1] ? 0 : 1
      let best = Math.min(
        (previous[j] ?? 0) + 1,
        (current[j - 1] ?? 0) + 1,
        (previous[j - 1] ?? 0) + cost,
      )
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (before[j - 2] ?? 0) + 1)
      }
      current.push(best)
    }
    before = previous
    previous = current
  }
  return previous[b.length] ?? 0
}

/**
 * The known path nearest to an unknown one: a sibling with a similar name, else a key of that name elsewhere.
 * `siblings` are the names allowed in the same object.
 */
export function nearestKey(
  parent: string,
  unknown: string,
  siblings: readonly string[],
  known: readonly string[],
): string | undefined {
  const word = unknown.toLowerCase()
  const ranked = siblings
    .map((name) => ({ name, distance: editDistance(word, name.toLowerCase()) }))
    .toSorted((a, b) => a.distance - b.distance)
  const [best] = ranked
  if (best !== undefined && best.distance <= Math.max(1, Math.floor(best.name.length / 3))) {
    return parent === '' ? best.name : `${parent}.${best.name}`
  }
  const elsewhere = known.filter((path) => path.split('.').at(-1)?.toLowerCase() === word)
  return elsewhere.length > 0
    ? elsewhere[0]
    : known.find(
        (path) => path.toLowerCase().startsWith(`${word}.`) && path.split('.').length === 2,
      )
}
