/** Loaded into the process under test: how long each fdatasync took, in ms, written as JSON on SIGUSR2. */
import fs from 'node:fs'

const took: number[] = []
const real = fs.fdatasync

fs.fdatasync = Object.assign(
  (fd: number, done: fs.NoParamCallback) => {
    const from = performance.now()
    real(fd, (error) => {
      took.push(performance.now() - from)
      done(error)
    })
  },
  { __promisify__: real.__promisify__ },
)

process.on('SIGUSR2', () => {
  const path = process.env['BENCH_SYNCS'] ?? ''
  fs.writeFileSync(`${path}.new`, JSON.stringify(took.splice(0)))
  fs.renameSync(`${path}.new`, path)
})
