/** Opens many connections or WebSockets, holds them without a word, and says on demand how many still answer. */
import { connect, type Socket } from 'node:net'

import { WebSocket } from 'ws'

/** What the harness asks for, as JSON in the first argument. */
export interface HoldPlan {
  readonly kind: 'http' | 'websocket'
  readonly port: number
  readonly count: number
  readonly path: string
  readonly token: string
  /** Connections of one source address; the next ones come from 127.0.0.3 and so on. */
  readonly perAddress: number
}

/** What is reported: how many answered, how many did not, and how many have closed meanwhile. */
export interface HoldReport {
  readonly answered: number
  readonly failed: number
  readonly closed: number
}

/** One held connection: asks once and says whether the right answer came. */
type Held = () => Promise<boolean>

const answerMs = 20_000
/** How many are opened at the same time. */
const atOnce = 100
const plan = JSON.parse(process.argv[2] ?? '{}') as HoldPlan
const held: Held[] = []
let closed = 0

const addressOf = (index: number) => `127.0.0.${2 + Math.floor(index / plan.perAddress)}`

/** Runs `work` for each index, a hundred at a time, and counts. */
async function each(count: number, work: (index: number) => Promise<boolean>): Promise<HoldReport> {
  let next = 0
  let answered = 0
  const lane = async () => {
    while (next < count) {
      next += 1
      if (await work(next - 1)) answered += 1
    }
  }
  await Promise.all(Array.from({ length: atOnce }, lane))
  return { answered, failed: count - answered, closed }
}

function inTime(work: (done: (ok: boolean) => void) => void): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), answerMs)
    work((ok) => {
      clearTimeout(timer)
      resolve(ok)
    })
  })
}

function openHttp(index: number): Promise<boolean> {
  const socket = connect({ port: plan.port, host: '127.0.0.1', localAddress: addressOf(index) })
  const request =
    `GET ${plan.path} HTTP/1.1\r\nHost: 127.0.0.1:${plan.port}\r\n` +
    `Authorization: Bearer ${plan.token}\r\n\r\n`
  let answer = ''
  let done: ((ok: boolean) => void) | undefined
  socket.setEncoding('latin1')
  socket.on('data', (text: string) => {
    answer += text
    if (isWhole(answer)) done?.(answer.startsWith('HTTP/1.1 200 '))
  })
  socket.on('error', () => done?.(false))
  socket.on('close', () => {
    closed += 1
    done?.(false)
  })
  const ask: Held = () =>
    inTime((settle) => {
      answer = ''
      done = settle
      if (socket.destroyed) settle(false)
      else (socket as Socket).write(request)
    })
  held.push(ask)
  return ask()
}

/** A head with Content-Length and as many bytes behind it. */
function isWhole(answer: string): boolean {
  const end = answer.indexOf('\r\n\r\n')
  if (end === -1) return false
  const length = /\r\ncontent-length: (\d+)/i.exec(answer.slice(0, end))?.[1]
  return length !== undefined && answer.length >= end + 4 + Number(length)
}

function openWebSocket(index: number): Promise<boolean> {
  const socket = new WebSocket(`ws://127.0.0.1:${plan.port}${plan.path}`, {
    localAddress: addressOf(index),
    perMessageDeflate: false,
    headers: { authorization: `Bearer ${plan.token}` },
  })
  let done: ((ok: boolean) => void) | undefined
  socket.on('open', () => done?.(true))
  socket.on('message', () => done?.(true))
  socket.on('error', () => done?.(false))
  socket.on('close', () => {
    closed += 1
    done?.(false)
  })
  held.push(() =>
    inTime((settle) => {
      done = settle
      if (socket.readyState === WebSocket.OPEN) socket.send('still there?')
      else settle(false)
    }),
  )
  return inTime((settle) => (done = settle))
}

process.on('message', () => {
  void each(held.length, (index) => held[index]?.() ?? Promise.resolve(false)).then((report) =>
    process.send?.(report),
  )
})
const open = plan.kind === 'http' ? openHttp : openWebSocket
process.send?.(await each(plan.count, open))
