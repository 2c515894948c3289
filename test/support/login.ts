/** A sidecar in password mode, and requests as a browser or a program makes them. */
import { request, type IncomingHttpHeaders } from 'node:http'

import { hashPassword } from '../../src/identity/password.ts'
import { plant } from './secrets.ts'
import { startSidecar, type SidecarOptions, type TestSidecar } from './sidecar.ts'

export const thePassword = plant('password', 'thePassword', 'a long enough passphrase')

/** Bounds of the program, chosen to be quick; weaker than the default. */
export const cheapCost = { memory: 19_456, passes: 1, lanes: 1 }

let cheap: Promise<string> | undefined
let strong: Promise<string> | undefined
export const cheapHash = (): Promise<string> => (cheap ??= hashPassword(thePassword, cheapCost))
export const strongHash = (): Promise<string> => (strong ??= hashPassword(thePassword))

/** No configured token: the password is all there is, unless a test says otherwise. */
export async function startWithPassword(
  options: SidecarOptions & { readonly hash?: string } = {},
): Promise<TestSidecar> {
  const { gateway = {}, ...config } = (options.config ?? {}) as { gateway?: object }
  const passwordHash = options.hash ?? (await strongHash())
  return startSidecar({
    ...options,
    config: {
      ...config,
      gateway: { ...gateway, auth: { mode: 'password', token: undefined, passwordHash } },
    },
  })
}

export interface Said {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly body: string
  /** `name=value` of each cookie that was set. */
  readonly cookies: readonly string[]
}

/** One request on a connection of its own. */
export function ask(
  port: number,
  method: string,
  path: string,
  headers: Readonly<Record<string, string>> = {},
  body?: string,
): Promise<Said> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: '127.0.0.1', port, method, path, headers, agent: false, timeout: 60_000 },
      (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', reject)
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            body: Buffer.concat(pieces).toString('utf8'),
            cookies: (response.headers['set-cookie'] ?? []).map((text) => text.split(';')[0] ?? ''),
          }),
        )
      },
    )
    call.on('timeout', () => call.destroy(new Error('no answer within a minute')))
    call.on('error', reject)
    call.end(body)
  })
}

/** What a browser says when somebody opens a page. */
export const opening = {
  Accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8',
  'Sec-Fetch-Mode': 'navigate',
  'Sec-Fetch-Dest': 'document',
  'Sec-Fetch-Site': 'none',
}

const formType = 'application/x-www-form-urlencoded'

/** The login form as a browser sends it. */
export function sendForm(
  port: number,
  fields: Readonly<Record<string, string>>,
  headers: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const origin = { Origin: `http://127.0.0.1:${port}`, 'Sec-Fetch-Site': 'same-origin' }
  const all = { ...opening, ...origin, 'Content-Type': formType, ...headers }
  return ask(port, 'POST', '/.hardshell/login', all, new URLSearchParams(fields).toString())
}

/** A login as a program sends it. */
export function sendJson(
  port: number,
  document: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<Said> {
  const all = { 'Content-Type': 'application/json', ...headers }
  return ask(port, 'POST', '/.hardshell/login', all, JSON.stringify(document))
}

/** Logs in as a browser; the answer is the Cookie header to send from now on. */
export async function logIn(port: number): Promise<string> {
  const said = await sendForm(port, { password: thePassword })
  const [cookie] = said.cookies
  if (said.status !== 303 || cookie === undefined)
    throw new Error(`login: ${said.status} ${said.body}`)
  plant('client token', 'the session of a browser', cookie.slice(cookie.indexOf('=') + 1))
  return cookie
}

/** Logs in as a program; the answer is the token. */
export async function tokenFor(port: number): Promise<string> {
  const said = await sendJson(port, { password: thePassword })
  if (said.status !== 200) throw new Error(`login: ${said.status} ${said.body}`)
  const { token } = JSON.parse(said.body) as { token: string }
  return plant('client token', 'the token of a session', token)
}

/** The stable code of a refusal. */
export const codeOf = ({ body }: Said): string | undefined => /"code":"([A-Z_]+)"/.exec(body)?.[1]
