/** Paths into a document, as problems spell them: `channels.telegram.allowFrom[2]`, `groups["-1001"]`. */

/** An object as a file gives it, to be changed in place by who made a copy. */
export type Json = Record<string, unknown>

type Step = string | number

/** The steps of a spelled path. */
export function pathSteps(path: string): readonly Step[] {
  return [...path.matchAll(/\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]|([^.[\]]+)/g)].map(
    ([, index, quoted, name]) => {
      if (index !== undefined) return Number(index)
      return quoted === undefined ? (name ?? '') : String(JSON.parse(quoted))
    },
  )
}

/** The names of a key that a person typed: dots between them, or spelled as problems spell a name that has dots. */
export function keyNames(key: string): readonly string[] {
  if (!key.includes('["')) return key.split('.')
  try {
    return pathSteps(key).map(String)
  } catch (error) {
    if (error instanceof SyntaxError) return [key]
    throw error
  }
}

/** The value at a path, or undefined. */
export function valueAt(document: unknown, path: readonly Step[]): unknown {
  return path.reduce<unknown>((at, step) => {
    if (Array.isArray(at)) return typeof step === 'number' ? (at as unknown[])[step] : undefined
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined
    return (at as Json)[String(step)]
  }, document)
}

/** What holds the last step of a path. */
export function parentAt(document: unknown, path: readonly Step[]): unknown {
  return valueAt(document, path.slice(0, -1))
}

/** Takes the value at a path out of a document; false when there is none. */
export function remove(document: unknown, path: readonly Step[]): boolean {
  const parent = parentAt(document, path)
  const last = path.at(-1)
  if (last === undefined || valueAt(document, path) === undefined) return false
  if (Array.isArray(parent)) parent.splice(Number(last), 1)
  else delete (parent as Json)[String(last)]
  return true
}

/** Puts a value at a path of names, and objects where there are none on the way. */
export function nested(document: Json, path: readonly string[], value: unknown): void {
  const [name = '', ...rest] = path
  if (rest.length === 0) {
    document[name] = value
    return
  }
  const there = document[name]
  const isObject = typeof there === 'object' && there !== null && !Array.isArray(there)
  const next = isObject ? (there as Json) : {}
  document[name] = next
  nested(next, rest, value)
}
