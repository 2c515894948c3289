/** The table of settings as a tree, and the walks over it: fill in defaults, spell, mask. */
import type { Row } from './row.ts'
import { settings, spellings } from './schema.ts'
import type { Config } from './schema.ts'

/** One segment of a path. A leaf has a row; a wildcard node stands for names that the owner chooses. */
export interface Node {
  readonly children: Map<string, Node>
  wildcard: Node | undefined
  row: Row<unknown> | undefined
  /** Path pattern of the row; differs from where the node is for another spelling. */
  pattern: string
  /** Set where the node is another spelling of `pattern`. */
  alias: boolean
}

/** What a file gives: the tree's shape, with the read values at the leaves. */
export type Given = Map<string, Given | { readonly value: unknown }>

function newNode(pattern: string): Node {
  return { children: new Map(), wildcard: undefined, row: undefined, pattern, alias: false }
}

function descend(root: Node, path: string): Node {
  let node = root
  let at = ''
  for (const segment of path.split('.')) {
    at = at === '' ? segment : `${at}.${segment}`
    let next = segment === '*' ? node.wildcard : node.children.get(segment)
    if (next === undefined) {
      next = newNode(at)
      if (segment === '*') node.wildcard = next
      else node.children.set(segment, next)
    }
    node = next
  }
  return node
}

function build(): Node {
  const root = newNode('')
  for (const [path, row] of rowsByPath) descend(root, path).row = row
  for (const [from, to] of Object.entries(spellings)) {
    const node = descend(root, from)
    node.row = rowsByPath.get(to)
    node.pattern = to
    node.alias = true
  }
  return root
}

/** Every row by its path pattern. */
export const rowsByPath: ReadonlyMap<string, Row<unknown>> = new Map(Object.entries(settings))

/** The root of the tree of settings. */
export const tree: Node = build()

/** Says whether a key can be used in this version, with some value at least. */
export function isAvailable(row: Row<unknown>): boolean {
  return row.since === undefined || row.since.needs !== undefined
}

/** True when every key at or below a node comes with a later version. */
export function isAllLater(node: Node): boolean {
  const below = [...node.children.values(), ...(node.wildcard === undefined ? [] : [node.wildcard])]
  if (node.row !== undefined) return !isAvailable(node.row)
  return below.length > 0 && below.every(isAllLater)
}

/** The effective values: what is given, and the defaults of the rest. */
export function fill(node: Node, given: Given | undefined): Record<string, unknown> {
  // No prototype where the owner chooses names, so that no name of a channel can meet one.
  const prototype = node.wildcard === undefined ? Object.prototype : null
  const result = Object.create(prototype) as Record<string, unknown>
  for (const [name, child] of node.children) {
    if (child.alias) continue
    const there = given?.get(name)
    if (child.row !== undefined) {
      result[name] = there !== undefined && 'value' in there ? there.value : child.row.default
    } else if (child.children.size > 0 || child.wildcard !== undefined) {
      result[name] = fill(child, there instanceof Map ? there : undefined)
    }
  }
  if (node.wildcard !== undefined) {
    for (const [name, there] of given ?? []) {
      if (there instanceof Map && !node.children.has(name)) {
        result[name] = fill(node.wildcard, there)
      }
    }
  }
  return result
}

/** Turns each leaf of effective values into something else; undefined leaves it out, as do empty objects. */
export function mapLeaves(
  node: Node,
  values: Readonly<Record<string, unknown>>,
  leaf: (row: Row<unknown>, value: unknown, path: string) => unknown,
  at = '',
): Record<string, unknown> {
  const result: Record<string, unknown> = {}
  for (const [name, value] of Object.entries(values)) {
    const child = node.children.get(name) ?? node.wildcard
    if (child === undefined) continue
    const path = at === '' ? name : `${at}.${name}`
    if (child.row !== undefined) {
      const mapped = leaf(child.row, value, path)
      if (mapped !== undefined) result[name] = mapped
    } else {
      const below = mapLeaves(child, value as Record<string, unknown>, leaf, path)
      if (Object.keys(below).length > 0) result[name] = below
    }
  }
  return result
}

/** Replaces a secret value, or each value of a map of secrets. */
export function replaceSecret(value: unknown, replace: (secret: string) => string): unknown {
  if (typeof value === 'string') return replace(value)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, secret]) => [name, replace(String(secret))]),
  )
}

/** Keys that mean something only for an agent that Hardshell launches. */
export const launchKeys: readonly string[] = [
  'agent.command',
  'agent.args',
  'agent.env',
  'agent.workdir',
  'agent.port',
  'agent.healthPath',
  'agent.workspace',
]

/**
 * The effective configuration as a file would spell it, secrets as `***`, without keys that have no effect. But for
 * the secrets, what this gives loads again as the same configuration.
 */
export function spellConfig(config: Config): Record<string, unknown> {
  const launches = config.agent.image !== undefined
  return mapLeaves(tree, config, (row, value, path) => {
    if (value === undefined || !isAvailable(row)) return undefined
    if (!launches && launchKeys.includes(path)) return undefined
    const spelled = row.reader.write(value)
    return row.secret ? replaceSecret(spelled, () => '***') : spelled
  })
}
