/** A process that appends to a log under load and says which records it was told are written. */
import { writeSync } from 'node:fs'
import { openAudit } from '../../src/audit/log.ts'
import { KiB } from '../../src/limits.ts'

const [dir = '', perTurn = '20', sync = 'batch'] = process.argv.slice(2)
const log = openAudit({
  dir,
  sync: sync === 'always' ? 'always' : 'batch',
  rotateBytes: KiB(256),
  keepFiles: 1000,
  now: () => Date.now(),
})
let count = 0
const turn = (): void => {
  for (let index = 0; index < Number(perTurn); index += 1) {
    const requestId = `${process.pid}-${(count += 1)}`
    log.append({ event: 'request.allowed', requestId, path: '/chat' }, (failure) => {
      // Synchronous, so that what was said is out before the process can be killed.
      if (failure === undefined) writeSync(1, `${requestId}\n`)
    })
  }
  setImmediate(turn)
}
turn()
