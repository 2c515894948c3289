/**
 * The configuration files of agents, in the one form that a migration reads: older files kept their channels at the top,
 * newer ones refer to their secrets. Pure: a document in, and the same one changed.
 */
import { dirname, resolve } from 'node:path'
import { Failure } from '../errors.ts'
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

/** How deep files may include others, the agent's own bound, and how many there may be in all. */
const includesDeep = 10
const includesMost = 100

function filled(value: unknown, include: (name: string) => unknown): unknown {
  if (isList(value)) return value.map((item) => filled(item, include))
  if (!isObject(value)) return value
  const { $include: named, ...rest } = value
  const own = Object.fromEntries(
    Object.entries(rest).map(([name, item]) => [name, filled(item, include)]),
  )
  const names = named === undefined ? [] : isList(named) ? named : [named]
  const under = names.map((name) => include(String(name)))
  return [...under, own].reduce<unknown>((below, over) => overlay(below, over), {})
}

/**
 * The document of a file with each `$include` in its place filled in, as the agent does: a name or a list of them, at any
 * depth, from the folder of the file that includes. Throws Failure for a circle and for too many; and whatever `read` does.
 */
export function readWithIncludes(file: string, read: (path: string) => unknown): unknown {
  let count = 0
  const whole = (path: string, chain: readonly string[]): unknown => {
    count += 1
    const why = chain.includes(path)
      ? 'includes itself'
      : chain.length > includesDeep || count > includesMost
        ? 'is one of too many included files'
        : undefined
    if (why !== undefined) throw new Failure('SYNTAX', `${path} ${why}. Nothing was changed.`)
    const deeper = [...chain, path]
    return filled(read(path), (name) => whole(resolve(dirname(path), name), deeper))
  }
  return whole(file, [])
}
