/** A client of its own process: UP bytes to URL/DOWN, and as many back. Says what it got, as JSON; TOKEN is in its environment. */
import { once } from 'node:events'
import { request, type IncomingMessage } from 'node:http'

import { counted, zerosTo } from './zeros.ts'

const [url = '', upText = '', down = ''] = process.argv.slice(2)
const up = Number(upText)
const call = request(`${url}/${down}`, {
  method: up > 0 ? 'POST' : 'GET',
  agent: false,
  headers: {
    Authorization: `Bearer ${process.env['TOKEN']}`,
    ...(up > 0 ? { 'Content-Length': up } : {}),
  },
})
const answered = once(call, 'response') as Promise<[IncomingMessage]>
const [[response]] = await Promise.all([answered, zerosTo(call, up)])
const { statusCode: status, headers } = response
const got = await counted(response)
process.stdout.write(`${JSON.stringify({ status, up: Number(headers['x-got']), down: got })}\n`)
