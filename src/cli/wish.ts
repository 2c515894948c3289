/** The wish of whoever runs us to end: SIGINT or SIGTERM. */

/** npm passes on the Ctrl-C that the terminal has sent to us too: what comes this soon is the same wish, ms. */
const sameWishMs = 500

/** Resolves with the first signal, whatever is under way then; a second wish ends the program at once. */
export function firstWish(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let heard: 'nothing' | 'just now' | 'a wish' = 'nothing'
    const hear = (signal: NodeJS.Signals) => {
      if (heard === 'a wish') process.exit(1)
      if (heard === 'just now') return
      heard = 'just now'
      setTimeout(() => (heard = 'a wish'), sameWishMs).unref()
      resolve(signal)
    }
    process.on('SIGINT', hear)
    process.on('SIGTERM', hear)
  })
}
