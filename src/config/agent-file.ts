/**
 * The configuration files of agents, in the one form that a migration reads: older files kept their channels at the top,
 * newer ones refer to their secrets. Pure: a document in, and the same one changed.
 */
import { nested, remove, valueAt } from './paths.ts'
import type { Json } from './paths.ts'

/** One thing that a migration did, or left, and why; never with the value of a secret. */
export interface Change {
  readonly path: string
  readonly say: string
}

/** Keys that an agent has moved, and still moves itself when it starts with an older file. */
const moved = {
  ...Object.fromEntries(
    ['telegram', 'whatsapp', 'discord', 'slack', 'signal', 'imessage', 'msteams'].map((name) => [
      name,
      `channels.${name}`,
    ]),
  ),
  'routing.allowFrom': 'channels.whatsapp.allowFrom',
  'gateway.token': 'gateway.auth.token',
  'gateway.password': 'gateway.auth.password',
} as const

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A secret of the agent's file: text, or its reference to a variable. */
export function secretOf(value: unknown): string | undefined {
  if (typeof value === 'string' && value !== '') return value
  if (!isObject(value) || value['source'] !== 'env') return undefined
  const { id } = value
  return typeof id === 'string' && /^[A-Za-z_]\w*$/.test(id) ? `\${${id}}` : undefined
}

/** Variables that the file itself sets: `env.vars`, and text straight in `env`. */
function variablesOf(agent: Json): ReadonlyMap<string, string> {
  const sets = [valueAt(agent, ['env', 'vars']), agent['env']].filter(isObject)
  return new Map(
    sets
      .flatMap((set) => Object.entries(set))
      .flatMap(([name, value]) => (typeof value === 'string' ? [[name, value] as const] : [])),
  )
}

function moveKeys(agent: Json, changes: Change[]): void {
  for (const [from, to] of Object.entries(moved)) {
    const value = valueAt(agent, from.split('.'))
    if (value === undefined) continue
    const there = valueAt(agent, to.split('.'))
    const both = isObject(there) && isObject(value) ? { ...value, ...there } : (there ?? value)
    remove(agent, from.split('.'))
    nested(agent, to.split('.'), both)
    changes.push({ path: to, say: `is what an older agent calls ${from}` })
  }
}

/** Secrets as this program spells them: a variable, a file, or the text that the file itself gives to a variable. */
function spellSecrets(
  at: unknown,
  path: string,
  variables: ReadonlyMap<string, string>,
  changes: Change[],
): void {
  if (!isObject(at)) return
  for (const [name, value] of Object.entries(at)) {
    const key = `${path}.${name}`
    const spelled = isObject(value) ? secretOf(value) : value
    const variable = typeof spelled === 'string' ? /^\$\{(\w+)\}$/.exec(spelled)?.[1] : undefined
    const given = variable === undefined ? undefined : variables.get(variable)
    if (variable !== undefined && given !== undefined && given !== '') {
      at[name] = given
      changes.push({ path: key, say: `is what the agent's file gives to ${variable}` })
    } else if (spelled === undefined) spellSecrets(value, key, variables, changes)
    else at[name] = spelled
    const isFile = name === 'tokenFile' && typeof value === 'string' && value.startsWith('/')
    if (!isFile || !path.startsWith('channels.')) continue
    delete at['tokenFile']
    at['botToken'] ??= { file: value }
  }
}

/** Brings the file of any version of an agent to one form. Changes the document. */
export function modernise(agent: Json, changes: Change[]): void {
  const variables = variablesOf(agent)
  moveKeys(agent, changes)
  for (const part of ['channels', 'gateway']) spellSecrets(agent[part], part, variables, changes)
}

const isList = (value: unknown): value is readonly unknown[] => Array.isArray(value)

/** What is included, with what includes it laid over: objects merge, lists follow one another, else the last wins. */
function overlay(under: unknown, over: unknown): unknown {
  if (isList(under) && isList(over)) return [...under, ...over]
  if (!isObject(under) || !isObject(over)) return over
  const result: Json = { ...under }
  for (const [name, value] of Object.entries(over)) {
    if (name === '__proto__') continue
    result[name] = Object.hasOwn(under, name) ? overlay(under[name], value) : value
  }
  return result
}

/**
 * The document with each `$include` in its place filled in, as the agent does: a name or a list of them, at any depth.
 * `read` gives the document of a name and what includes in it are read by; it throws Failure, also for a circle.
 */
export function withIncludes(value: unknown, read: IncludeReader): unknown {
  if (isList(value)) return value.map((item) => withIncludes(item, read))
  if (!isObject(value)) return value
  const { $include: named, ...rest } = value
  const own = Object.fromEntries(
    Object.entries(rest).map(([name, item]) => [name, withIncludes(item, read)]),
  )
  if (named === undefined) return own
  const names = (isList(named) ? named : [named]).map(String)
  const included = names.map((name) => {
    const { document, next } = read(name)
    return withIncludes(document, next)
  })
  return [...included, own].reduce<unknown>((under, over) => overlay(under, over), {})
}

/** Reads one included file. */
export type IncludeReader = (name: string) => {
  readonly document: unknown
  readonly next: IncludeReader
}
