/** Asks an agent whether it is ready: an answer to a path, or an open port. */
import { request } from '../node-http.ts'
import type { AgentAddress } from './agent.ts'

const { connect } = process.getBuiltinModule('node:net')

/** How long a question may take. */
const answerMs = 2000
/**
 * A portal accepts for an agent that does not listen yet and hangs up as soon as it knows; a connection that stays open
 * for this long has reached the agent.
 */
const settleMs = 300

/** True when the agent answers 2xx on `path`, or, without a path, when its port is open. Never rejects. */
export function answers(address: AgentAddress, path: string | undefined): Promise<boolean> {
  return path === undefined ? portOpen(address) : pathAnswers(address, path)
}

/** Where a Node client connects for an address. */
export function endpointOf(
  address: AgentAddress,
): { path: string } | { host: string; port: number } {
  if (address.socketPath !== undefined) return { path: address.socketPath }
  const { hostname, port } = new URL(address.origin)
  return { host: hostname.replace(/^\[|\]$/g, ''), port: port === '' ? 80 : Number(port) }
}

function portOpen(address: AgentAddress): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(endpointOf(address))
    const done = (open: boolean) => {
      clearTimeout(limit)
      socket.destroy()
      resolve(open)
    }
    const limit = setTimeout(() => done(false), answerMs)
    socket.on('error', () => done(false))
    socket.on('close', () => done(false))
    socket.once('connect', () => {
      // Nothing stands between us and a TCP port, so there the connection itself is the answer.
      if (address.socketPath === undefined) done(true)
      else setTimeout(() => done(!socket.destroyed && !socket.readableEnded), settleMs)
    })
    socket.resume()
  })
}

function pathAnswers(address: AgentAddress, path: string): Promise<boolean> {
  const { socketPath } = address
  const at = socketPath === undefined ? endpointOf(address) : { socketPath }
  return new Promise((resolve) => {
    const asked = request(
      {
        ...at,
        path,
        method: 'GET',
        agent: false,
        timeout: answerMs,
        headers: { host: 'localhost' },
      },
      (response) => {
        const status = response.statusCode ?? 0
        response.destroy()
        resolve(status >= 200 && status < 300)
      },
    )
    asked.on('timeout', () => asked.destroy())
    asked.on('error', () => resolve(false))
    asked.on('close', () => resolve(false))
    asked.end()
  })
}
