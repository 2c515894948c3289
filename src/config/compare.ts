/** What is different between two configurations, secrets masked. */
import { upstreamDefault } from './rules.ts'
import type { Config } from './schema.ts'
import { fill, isAvailable, launchKeys, mapLeaves, replaceSecret, tree } from './tree.ts'

/** One key that differs; undefined where it is not set. */
export interface Difference {
  readonly key: string
  readonly from: unknown
  readonly to: unknown
}

interface Leaf {
  readonly shown: unknown
  /** The value itself, to compare; it leaves this file in no way. */
  readonly exact: string
}

function leavesOf(config: Config): ReadonlyMap<string, Leaf> {
  const leaves = new Map<string, Leaf>()
  const launches = config.agent.image !== undefined
  mapLeaves(tree, config, (row, value, path) => {
    const idle = !launches && launchKeys.includes(path)
    if (value === undefined || !isAvailable(row) || idle) return undefined
    const spelled = row.reader.write(value)
    const shown = (row.secret ?? false) ? replaceSecret(spelled, () => '***') : spelled
    leaves.set(path, { shown, exact: JSON.stringify(spelled) })
    return undefined
  })
  return leaves
}

/** The configuration of an empty file. */
export function defaultConfig(): Config {
  const config = fill(tree, undefined) as Config
  return { ...config, agent: { ...config.agent, upstream: upstreamDefault } }
}

/** Every key whose value is not the same in both, in order; two secrets that differ are both `***`. */
export function differences(from: Config, to: Config): readonly Difference[] {
  const [before, after] = [leavesOf(from), leavesOf(to)]
  const keys = [...new Set([...before.keys(), ...after.keys()])].toSorted()
  return keys.flatMap((key) => {
    const [one, other] = [before.get(key), after.get(key)]
    if (one?.exact === other?.exact) return []
    return [{ key, from: one?.shown, to: other?.shown }]
  })
}
