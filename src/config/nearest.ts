/** Finds the key that somebody meant. */

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
