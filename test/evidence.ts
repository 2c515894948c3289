/**
 * The end of a test run: `node test/evidence.ts FOLDER` looks in everything that Hardshell produced for every secret
 * that a test planted. Prints each file with the name of the secret, never the secret, and exits with 1 if there is one.
 */
import { hash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { argv } from 'node:process'
import { parseJson5 } from '../src/config/json5.ts'
import { allowed } from './support/allowed.ts'
import { Search, filesBelow } from './support/search.ts'
import type { Hit } from './support/search.ts'
import { secretsOf } from './support/secrets.ts'
import type { Planted } from './support/secrets.ts'

/** What is told of a run. */
export interface Verdict {
  readonly secrets: number
  readonly files: number
  readonly bytes: number
  /** Where a secret stands that may not stand there. */
  readonly leaks: readonly Hit[]
  /** How often each row of the table was needed. */
  readonly used: ReadonlyMap<string, number>
}

/** Lines that are printed; the number of leaks is told in any case. */
const shownMax = 100
const source = new URL('../src', import.meta.url).pathname
const linesOf = (file: string) => readFileSync(file, 'utf8').split('\n').filter(Boolean)

/** The files that this run produced: what was put aside, and folders that nobody removed. */
function producedIn(root: string): readonly string[] {
  const kept = ['folders', 'said', 'answers', 'logged', 'reports']
  const left = filesBelow(join(root, 'made')).flatMap(linesOf)
  // A test of a fresh checkout has a copy of the tests, with all that they plant.
  const isTest = (file: string) => /hardshell-copy-\w+\/(?:test|bench)\//.test(file)
  return [...kept.map((name) => join(root, name)), ...left]
    .flatMap(filesBelow)
    .filter((file) => !isTest(file))
}

/** Keys that Hardshell made itself: what stands in a folder of keys is a secret everywhere else. */
function keysIn(files: readonly string[]): readonly Planted[] {
  return files
    .filter((file) => /\/keys\/[\w.-]*key$/.test(file))
    .flatMap((file) => {
      const text = readFileSync(file, 'utf8').trim()
      // The lines of a PEM, or the one line of a key.
      const lines = text.split('\n').filter((line) => !line.startsWith('---'))
      return lines
        .filter((line) => line.length >= 40 && isVaried(line))
        .map((value) => ({ kind: 'key' as const, name: 'a key of the folder of keys', value }))
    })
}

/** Not "aaaa…", which stands in many places by chance. */
const isVaried = (value: string) => new Set(value).size >= 8

/**
 * Every plain secret of a configuration that a test wrote, long and varied enough to stand nowhere by chance. Printed
 * examples, which the program knows in order to refuse them, are no secrets.
 */
function configured(files: readonly string[]): readonly Planted[] {
  const program = filesBelow(source).map((file) => readFileSync(file, 'utf8'))
  return files
    .filter((file) => /\.json5?$/.test(file) && !file.includes('/reports/'))
    .flatMap((file) => secretsOf(parseJson5(readFileSync(file, 'utf8')).value, 16))
    .filter(({ value }) => isVaried(value) && !program.some((text) => text.includes(value)))
}

/** Tokens and sessions in our own spelling need no register. */
function minted(content: Buffer, file: string): readonly Hit[] {
  const found = content.toString('latin1').matchAll(/\bhs[ks]_[\w-]{40,}/g)
  return [...found].map(({ 0: { length }, index: at }) => ({
    ...{ file, at, length, kind: 'client token', spelling: 'raw', name: 'a token or session' },
  }))
}

/** Searches the evidence of a run. */
export function searchEvidence(root: string): Verdict {
  const planted = filesBelow(join(root, 'planted')).flatMap((file) =>
    linesOf(file).map((line) => JSON.parse(line) as Planted),
  )
  const files = producedIn(root)
  const secrets = new Map(
    [...keysIn(files), ...configured(files), ...planted].map((one) => [one.value, one]),
  )
  const search = new Search(secrets.values())
  const used = new Map<string, number>()
  const leaks: Hit[] = []
  const compiled = new Set<string>()
  let bytes = 0
  for (const file of files) {
    const content = readFileSync(file)
    bytes += content.length
    if (file.includes('/cache/')) {
      // Code that Node compiled, the same in every home: one look is enough.
      const sum = hash('sha256', content)
      if (compiled.has(sum)) continue
      compiled.add(sum)
    }
    // A name is seen by whoever lists a folder: there is no place for a secret in it.
    leaks.push(...search.in(Buffer.from(relative(root, file)), relative(root, file)))
    const hits = [...search.in(content, file), ...minted(content, file)]
    const rowOf = (hit: Hit) =>
      allowed.find((row) => row.kinds.includes(hit.kind) && row.at(hit, content))
    const right = hits.filter((hit) => rowOf(hit) !== undefined)
    for (const { where } of right.flatMap((hit) => rowOf(hit) ?? [])) {
      used.set(where, (used.get(where) ?? 0) + 1)
    }
    // A secret may be part of a longer one, which stands there rightly.
    const covers = (hit: Hit) =>
      right.some(({ at, length }) => at <= hit.at && hit.at + hit.length <= at + length)
    const wrong = hits.filter((hit) => !covers(hit))
    leaks.push(...wrong.map((hit) => ({ ...hit, file: relative(root, file) })))
  }
  return { secrets: secrets.size, files: files.length, bytes, leaks, used }
}

if (import.meta.main) {
  const { secrets, files, bytes, leaks, used } = searchEvidence(argv[2] ?? '')
  const lines = leaks.map(
    ({ file, at, kind, name, spelling }) => `LEAK ${file}:${at}: ${kind}, ${name} (${spelling})`,
  )
  for (const line of lines.slice(0, shownMax)) process.stdout.write(`${line}\n`)
  for (const [where, times] of used) process.stdout.write(`allowed ${times} times: ${where}\n`)
  const size = `${files} files, ${(bytes / 1024 ** 2).toFixed(1)} MB`
  process.stdout.write(`searched ${size} for ${secrets} planted secrets: ${leaks.length} leaks\n`)
  // A whole run plants hundreds: to have found none would mean that the search is broken. Chosen files may plant none.
  const enough = secrets > 0 || argv[3] === 'chosen'
  process.exitCode = leaks.length === 0 && enough ? 0 : 1
}
