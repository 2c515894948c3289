/** A row of the table of settings, and the type that a table of rows amounts to. */
import type { Reader } from './readers.ts'

/** A capability that comes with a later version, and which values of the key need it (all, if not said). */
export interface Later<T> {
  /** Names the capability in the message: "session cells". */
  readonly what: string
  needs?(value: T): boolean
}

/** One key of the configuration. */
export interface Row<T> {
  readonly reader: Reader<T>
  /** The value when the key is absent; undefined when the key has none. */
  readonly default: T
  /** One sentence for docs/configuration.md, editors and the example files. */
  readonly doc: string
  /** The value is masked when shown, and `{ "file": … }` may stand for it. */
  readonly secret?: boolean
  /** A change takes effect only at the next start. */
  readonly restart?: boolean
  /** Variables that supply the value when the file does not, first to last. */
  readonly env?: readonly string[]
  /** Set while the capability does not exist: using the key is NOT_AVAILABLE. Removing it makes the key work. */
  readonly since?: Later<T>
}

/** A capability that only some values of a key need. */
export function valuesLater<T>(
  { what }: { readonly what: string },
  ...values: readonly T[]
): Later<T> {
  return { what, needs: (value) => values.includes(value) }
}

type More<T> = Omit<Row<T>, 'reader' | 'default' | 'doc'>

/** A key with a default. */
export function key<T>(
  reader: Reader<T>,
  fallback: NoInfer<T>,
  doc: string,
  more: More<NoInfer<T>> = {},
): Row<T> {
  return { reader, default: fallback, doc, ...more }
}

/** A key without a default: undefined when it is absent. */
export function optional<T>(
  reader: Reader<T>,
  doc: string,
  more: More<NoInfer<T>> = {},
): Row<T | undefined> {
  const read = reader as Reader<T | undefined>
  return { reader: read, default: undefined, doc, ...(more as More<T | undefined>) }
}

/** Rows by path; a `*` segment stands for names that the owner chooses. */
export type Table = Readonly<Record<string, Row<unknown>>>

/** The same rows under a longer path. */
export function under<const P extends string, R extends Table>(
  prefix: P,
  rows: R,
): { readonly [K in keyof R & string as `${P}.${K}`]: R[K] } {
  const moved = Object.entries(rows).map(([path, row]) => [`${prefix}.${path}`, row] as const)
  return Object.fromEntries(moved) as { readonly [K in keyof R & string as `${P}.${K}`]: R[K] }
}

type Head<K> = K extends `${infer H}.${string}` ? H : K
type Tail<T, H extends string> = {
  [K in keyof T as K extends `${H}.${infer Rest}` ? Rest : never]: T[K]
}
type ValueOf<R> = R extends Row<infer T> ? T : never

/** The nested, deeply read-only object that a table describes; a `*` segment becomes an index signature. */
export type Nested<T> = {
  readonly [H in Head<keyof T & string> as H extends '*' ? string : H]: H extends keyof T
    ? ValueOf<T[H]>
    : Nested<Tail<T, H & string>>
}
