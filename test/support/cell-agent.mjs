/**
 * The agent of the sandbox tests. It stands in for one that was taken over: whatever the test sends to /eval it runs,
 * inside the cell. It listens on loopback alone.
 */
import { createServer } from 'node:http'

const port = Number(process.env.PORT ?? 8000)
const readyMs = Number(process.env.READY_MS ?? 0)
const AsyncFunction = (async () => undefined).constructor

const server = createServer((request, response) => {
  if (request.url !== '/eval') {
    response.end(`hello from ${request.url}`)
    return
  }
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const code = Buffer.concat(chunks).toString('utf8')
    new AsyncFunction('load', code)((name) => import(name))
      .then((value) => ({ value: value ?? null }))
      .catch((thrown) => ({ thrown: thrown.code ?? String(thrown) }))
      .then((answer) => response.end(JSON.stringify(answer)))
  })
})
setTimeout(() => server.listen(port, '127.0.0.1', () => console.log('listening')), readyMs)
if (process.env.IGNORE_TERM === undefined) process.on('SIGTERM', () => process.exit(0))
else process.on('SIGTERM', () => console.log('SIGTERM ignored'))
