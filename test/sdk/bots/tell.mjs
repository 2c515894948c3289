// What every bot prints: one line when it listens, one for each message that its handler was given.
export const tell = (word, value) => process.stdout.write(`${word} ${JSON.stringify(value)}\n`)
export const heard = (text, from) => tell('HEARD', { text: String(text), from: String(from) })
export const listening = (server) =>
  new Promise((resolve) => {
    server.once('listening', () => {
      tell('READY', server.address().port)
      resolve()
    })
  })
process.on('unhandledRejection', (thrown) => tell('FAILED', String(thrown)))
