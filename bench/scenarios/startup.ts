/** From the start of the process to its first right answer, beside an empty Node server. */
import { connect } from 'node:net'

import { freePort, proxyCore, start } from '../lib/children.ts'
import { residentBytes } from '../lib/machine.ts'
import { hardshellHome, node, smallPath, startUpstream, type Place } from '../lib/proxies.ts'
import { figure, type Effort, type Section } from '../lib/section.ts'
import { median, ratios, spread } from '../lib/stats.ts'

interface Started {
  readonly ms: number
  readonly residentBytes: number
}

/** What a started program is asked for. */
interface Question {
  readonly port: number
  readonly path: string
  readonly place: Place
  readonly env: Readonly<Record<string, string>>
}

const giveUpMs = 20_000

/** Starts each in turn. */
export async function startup(place: Place, { smoke }: Effort): Promise<readonly Section[]> {
  const upstream = await startUpstream(place, 0)
  const runs = smoke ? 2 : 10
  const empty: Started[] = []
  const ours: Started[] = []
  const forwarded: Started[] = []
  // One unmeasured start of each: the files are in the page cache, the home has its keys and state.
  const hardshellPort = await freePort()
  const served = hardshellHome(place, hardshellPort, upstream.port)
  for (let run = -1; run < runs; run += 1) {
    const port = await freePort()
    const code = `require('node:http').createServer((q,s)=>s.end()).listen(${port},'127.0.0.1')`
    const one = await firstAnswer([node, '-e', code], { port, path: '/', place, env: {} })
    const hardshell = { port: hardshellPort, place, env: served.env }
    const two = await firstAnswer(served.argv, { ...hardshell, path: '/health' })
    const three = await firstAnswer(served.argv, { ...hardshell, path: smallPath })
    if (run < 0) continue
    empty.push(one)
    ours.push(two)
    forwarded.push(three)
  }
  await upstream.child.stop()
  const ms = (list: readonly Started[]) => list.map((one) => one.ms)
  const byRun = spread(ratios(ms(ours), ms(empty)))
  const best = Math.min(...ms(ours)) / Math.min(...ms(empty))
  const row = (name: string, list: readonly Started[]) => [
    name,
    figure(Math.min(...ms(list))),
    figure(median(ms(list))),
    figure(median(list.map((one) => one.residentBytes)) / 1024 ** 2),
  ]
  return [
    {
      name: 'start',
      title: `Start to first answer, ${runs} runs in turn`,
      columns: ['way', 'best ms', 'median ms', 'RSS MiB'],
      rows: [
        row('node -e, empty server', empty),
        row('Hardshell from dist, judged and recorded', ours),
        row('Hardshell from dist, forwarded too', forwarded),
      ],
      goals: [
        {
          name: 'start to first answer, Hardshell over an empty Node server (median of the runs)',
          value: byRun.median,
          bound: 3,
          sense: 'at most',
          unit: '×',
        },
        {
          name: 'start to first answer, best over best',
          value: best,
          bound: 3,
          sense: 'at most',
          unit: '×',
        },
      ],
      ratios: { 'start: over an empty Node server': byRun },
      notes: [
        'the first 200 of each: of Hardshell GET /health with the token, through every gate and the audit log',
        'the last row is the first 200 that came from the agent; undici is loaded for it',
      ],
      broken: [],
    },
  ]
}

/** Starts the process and asks until the answer is 200; ends it. */
async function firstAnswer(
  argv: readonly string[],
  { port, path, place, env }: Question,
): Promise<Started> {
  const { folder, token } = place
  const name = `start-${port}`
  const from = performance.now()
  const child = start({ name, argv, core: proxyCore, folder, env })
  try {
    while (performance.now() - from < giveUpMs) {
      if (child.process.exitCode !== null) break
      if (await asks(port, path, token)) {
        return { ms: performance.now() - from, residentBytes: residentBytes(child.pid) }
      }
    }
    throw new Error(`${name} gave no 200 on ${port}: ${child.lastWords()}`)
  } finally {
    await child.stop()
  }
}

/** One attempt: true when the status line says 200. */
function asks(port: number, path: string, token: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const done = (ok: boolean) => {
      socket.destroy()
      resolve(ok)
    }
    socket.setTimeout(5000, () => done(false))
    // A refused attempt is followed by a short pause, so that polling leaves the other core alone.
    socket.once('error', () => setTimeout(() => resolve(false), 1))
    socket.once('data', (chunk) => done(chunk.toString('latin1').startsWith('HTTP/1.1 200 ')))
    socket.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nAuthorization: Bearer ${token}\r\n\r\n`,
    )
  })
}
