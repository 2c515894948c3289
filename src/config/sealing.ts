/** Secrets in the text of a configuration: which there are, how each stands there, and putting seals on them. */
import { Failure } from '../errors.ts'
import { findKeys, keyFiles, makeKey } from '../secrets/key.ts'
import type { Keyring, SecretsKey } from '../secrets/key.ts'
import { headerOf, open, seal } from '../secrets/vault.ts'
import { setValue } from './edit.ts'
import type { Step } from './edit.ts'
import type { Env } from './environment.ts'
import { parseJson5 } from './json5.ts'
import { tree } from './tree.ts'
import type { Node } from './tree.ts'

/** One secret of a document. */
export interface Secret {
  readonly path: readonly Step[]
  /** `plain`: readable text. `variable`: has a `${VAR}`. `file`: `{ "file": … }`. */
  readonly kind: 'plain' | 'sealed' | 'variable' | 'file'
  /** The text of a plain secret or of a seal; else the name of what it comes from. */
  readonly value: string
}

type Random = (bytes: number) => Uint8Array

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** How one value of a secret key stands in the file; undefined for what is no secret at all. */
export function secretAt(path: readonly Step[], raw: unknown): Secret | undefined {
  if (typeof raw === 'string') {
    return { path, kind: raw.includes('${') ? 'variable' : 'plain', value: raw }
  }
  if (!isObject(raw)) return undefined
  const { encrypted, file } = raw
  if (typeof encrypted === 'string') return { path, kind: 'sealed', value: encrypted }
  return typeof file === 'string' ? { path, kind: 'file', value: file } : undefined
}

/** Every secret of a document, by the table of settings; total over any value. */
export function secretsIn(
  document: unknown,
  node: Node = tree,
  path: readonly Step[] = [],
): readonly Secret[] {
  if (!isObject(document)) return []
  return Object.entries(document).flatMap(([name, raw]): readonly Secret[] => {
    const child = node.children.get(name) ?? node.wildcard
    const at = [...path, name]
    if (child === undefined) return []
    if (child.row === undefined) return secretsIn(raw, child, at)
    if (child.row.secret !== true) return []
    const whole = secretAt(at, raw)
    if (whole !== undefined || !isObject(raw)) return whole === undefined ? [] : [whole]
    return Object.entries(raw).flatMap(([key, item]) => secretAt([...at, key], item) ?? [])
  })
}

/** The path of a secret as people write it. */
export function spellPath(path: readonly Step[]): string {
  return path.join('.')
}

/** The key that seals; made where there is none and nothing is sealed yet. Throws Failure. */
export function sealingKey(
  { home, text, file }: { readonly home: string; readonly text: string; readonly file: string },
  env: Env,
  random: Random,
): { readonly key: SecretsKey; readonly made: string | undefined } {
  const { current, where } = findKeys(home, env)
  if (current !== undefined) return { key: current, made: undefined }
  const sealed = secretsIn(parseJson5(text).value).find(({ kind }) => kind === 'sealed')
  if (sealed !== undefined) {
    throw new Failure(
      'SECRETS_KEY',
      `${where} does not exist, but ${spellPath(sealed.path)} in ${file} is sealed: bring the key back with "hardshell secrets restore". Nothing was changed.`,
    )
  }
  return { key: makeKey(home, env, random), made: keyFiles(home).current }
}

/** The text with every plain secret sealed in its place, and the paths of those. The text must be JSON5. */
export function sealPlain(
  text: string,
  key: SecretsKey,
  random: Random,
): { readonly text: string; readonly sealed: readonly string[] } {
  const plain = secretsIn(parseJson5(text).value).filter(
    ({ kind, value }) => kind === 'plain' && value !== '',
  )
  const sealed = plain.reduce(
    (now, { path, value }) => setValue(now, path, { encrypted: seal(key, value, random) }),
    text,
  )
  return { text: sealed, sealed: plain.map(({ path }) => spellPath(path)) }
}

/**
 * The text with every sealed value opened and sealed anew under `to`; one that is sealed with it already keeps its
 * bytes. Throws Failure for one that does not open, and then nothing is changed.
 */
export function sealAnew(
  text: string,
  keys: Keyring,
  to: SecretsKey,
  random: Random,
): { readonly text: string; readonly sealed: readonly string[] } {
  const due = secretsIn(parseJson5(text).value).filter(
    ({ kind, value }) => kind === 'sealed' && headerOf(value)?.['kid'] !== to.id,
  )
  const resealed = due.reduce((now, { path, value }) => {
    const opened = open(keys, value)
    if (opened.because !== undefined) {
      const at = spellPath(path)
      throw new Failure('SEALED', `${at} cannot be opened: ${opened.because}. Nothing was changed.`)
    }
    return setValue(now, path, { encrypted: seal(to, opened.value, random) })
  }, text)
  return { text: resealed, sealed: due.map(({ path }) => spellPath(path)) }
}
