/** Login and logout: a password in, a session out; behind the same gates as everything else. */
import type { IncomingMessage } from 'node:http'

import type { RefusalCode } from '../errors.ts'
import type { Facts, Identity } from '../gates/gate.ts'
import { challenge, wholeSeconds } from '../gates/identity.ts'
import { limits, seconds, type Bytes, type Millis } from '../limits.ts'
import { addressKey } from './address.ts'
import type { Lockout } from './lockout.ts'
import {
  isNavigation,
  localPath,
  loginPage,
  loginPath,
  logoutPage,
  logoutPath,
  type Page,
} from './login-page.ts'
import type { Password } from './password-check.ts'
import { cookieName, cookieValues, type IsSecure } from './session-prover.ts'
import type { SessionBook } from './sessions.ts'

/** What login works with. */
export interface LoginDeps {
  readonly password: Password
  readonly sessions: SessionBook
  readonly lockout: Lockout
  readonly isSecure: IsSecure
  /** How long the body of a login may take. */
  readonly bodyTimeMs: Millis
}

/** A request that the gates let through. */
export interface LoginCall {
  readonly facts: Facts
  readonly identity: Identity
  readonly request: IncomingMessage
}

/** A page of ours, a document for a program, or a refusal; `because` goes to the log alone. */
export type LoginReply =
  | {
      readonly status: number
      readonly html: string
      readonly headers: readonly string[]
      readonly code?: RefusalCode
      readonly because?: string
    }
  | { readonly status: number; readonly document: object; readonly headers?: readonly string[] }
  | { readonly code: RefusalCode; readonly because: string; readonly headers?: readonly string[] }

/** One route, as the table of our own answers takes it. */
export interface LoginRoute {
  readonly method: 'GET' | 'POST'
  readonly path: string
  answer(call: LoginCall): LoginReply | Promise<LoginReply>
}

/** The routes of password mode. */
export function loginRoutes(deps: LoginDeps): readonly LoginRoute[] {
  return [
    // Whoever reaches this has a session already: without one the answer was the login page.
    { method: 'GET', path: loginPath, answer: () => seeOther('/') },
    { method: 'POST', path: loginPath, answer: (call) => login(call, deps) },
    { method: 'GET', path: logoutPath, answer: () => shown(logoutPage(), 200) },
    { method: 'POST', path: logoutPath, answer: (call) => logout(call, deps) },
  ]
}

/** A refusal that a person sees in a browser. */
export interface RefusalPage extends Page {
  readonly status: number
}

/**
 * The page in place of a refusal: the login form where a browser goes to a page without a credential, and the same form
 * with the reason where it sent one too often. `undefined` for every other refusal and for programs.
 */
export function refusalPage(facts: Facts, code: RefusalCode): RefusalPage | undefined {
  if (code === 'UNAUTHENTICATED' && facts.websocket === undefined && isNavigation(facts)) {
    // A credential in the URL must not come back in a page.
    const next = facts.credentialInUrl ? '/' : localPath(facts.target)
    const error = facts.ownCookies === undefined ? undefined : 'Your session is over.'
    return { ...loginPage(next, error), status: 401 }
  }
  const tries = facts.path === loginPath && facts.method === 'POST' && isForm(facts)
  if (!tries || (code !== 'AUTH_LOCKED' && code !== 'RATE_LIMITED')) return undefined
  return { ...loginPage('/', tooMany), status: 429 }
}

const tooMany = 'Too many attempts. Wait a few minutes, then try again.'
const wrongPassword = 'This is not the password.'
const busy = 'Others are logging in. Try again in a moment.'

/** While as many wait as may: each verification takes some 200 ms. */
const busyMs = seconds(3)

const isForm = ({ contentType }: Facts) =>
  /^application\/x-www-form-urlencoded *(?:;|$)/i.test(contentType ?? '')
const isJson = ({ contentType }: Facts) => /^application\/json *(?:;|$)/i.test(contentType ?? '')

interface Given {
  readonly password: string
  readonly next: string
}

async function login({ facts, request }: LoginCall, deps: LoginDeps): Promise<LoginReply> {
  if (!isForm(facts) && !isJson(facts)) return malformed('neither a form nor JSON')
  const body = await readBody(facts, request, deps.bodyTimeMs)
  if (typeof body !== 'string') return body
  const given = isForm(facts) ? readForm(body) : readJson(body)
  if (given === undefined) return malformed('no password in the body')
  const { lockout, password } = deps
  const key = addressKey(facts.peer)
  const outcome = await password.attempt(
    given.password,
    () => lockout.lockedFor(key) === 0 && !request.socket.destroyed,
  )
  switch (outcome) {
    case 'right':
      return letIn(facts, given, deps)
    case 'wrong':
      lockout.fail(key)
      return refused(facts, given, 'UNAUTHENTICATED', wrongPassword, 'wrong password', challenge)
    case 'busy':
      return refused(facts, given, 'LOGIN_BUSY', busy, 'too many logins wait', [
        'Retry-After',
        wholeSeconds(busyMs),
      ])
    case 'barred': {
      const lockedMs = lockout.lockedFor(key)
      const because = lockedMs > 0 ? 'address locked while waiting' : 'the client went away'
      const headers = ['Retry-After', wholeSeconds(lockedMs)]
      return refused(facts, given, 'AUTH_LOCKED', tooMany, because, headers)
    }
    default:
      return outcome satisfies never
  }
}

async function letIn(facts: Facts, { next }: Given, deps: LoginDeps): Promise<LoginReply> {
  const { sessions, isSecure } = deps
  if (isJson(facts)) {
    const { secret, expiresAt } = await sessions.make('client')
    return {
      status: 200,
      document: { token: secret, expiresAt: new Date(expiresAt).toISOString() },
    }
  }
  const secure = isSecure(facts)
  // The browser forgets the cookie that it came with, so its session would only lie about.
  for (const value of cookieValues(facts, secure)) {
    const before = sessions.lookUp(value)
    if (before.kind === 'valid') await sessions.end(before.identity.id, 'replaced')
  }
  const { secret } = await sessions.make('browser')
  return seeOther(localPath(next), cookie(secret, secure, limits.sessionLifeMs.default))
}

async function logout(
  { facts, identity }: LoginCall,
  { sessions, isSecure }: LoginDeps,
): Promise<LoginReply> {
  const ended = identity.id.startsWith('session:') && (await sessions.end(identity.id, 'logout'))
  const forget = cookie('', isSecure(facts), 0)
  if (isForm(facts)) return seeOther('/', forget)
  return { status: 200, document: { ended }, headers: forget }
}

/** Max-Age 0 removes it (RFC 6265 §5.2.2); the attributes must be the same, or another cookie is meant. */
function cookie(value: string, secure: boolean, lifeMs: Millis): readonly string[] {
  const attributes = `Path=/; HttpOnly; SameSite=Strict; Max-Age=${Math.round(lifeMs / 1000)}`
  const text = `${cookieName(secure)}=${value}; ${attributes}`
  return ['Set-Cookie', secure ? `${text}; Secure` : text]
}

function seeOther(location: string, more: readonly string[] = []): LoginReply {
  return { status: 303, html: '', headers: ['Location', location, ...more] }
}

function shown(page: Page, status: number): LoginReply {
  return { status, ...page }
}

function malformed(because: string): LoginReply {
  return { code: 'LOGIN_INVALID', because }
}

/** A form's refusal is the form again, with the reason; a program's is a problem document. */
function refused(
  facts: Facts,
  { next }: Given,
  code: 'UNAUTHENTICATED' | 'AUTH_LOCKED' | 'LOGIN_BUSY',
  say: string,
  because: string,
  headers: readonly string[],
): LoginReply {
  if (!isForm(facts)) return { code, because, headers }
  const page = loginPage(localPath(next), say)
  const status = code === 'UNAUTHENTICATED' ? 401 : 429
  return { status, html: page.html, headers: [...page.headers, ...headers], code, because }
}

function readForm(body: string): Given | undefined {
  const fields = new URLSearchParams(body)
  const [password, ...others] = fields.getAll('password')
  if (password === undefined || password === '' || others.length > 0) return undefined
  return { password, next: fields.get('next') ?? '/' }
}

function readJson(body: string): Given | undefined {
  try {
    const value: unknown = JSON.parse(body)
    if (typeof value !== 'object' || value === null || !('password' in value)) return undefined
    const { password } = value
    if (typeof password !== 'string' || password === '' || passwordsIn(body) > 1) return undefined
    return { password, next: '/' }
  } catch (thrown) {
    if (thrown instanceof SyntaxError) return undefined
    throw thrown
  }
}

/** How often a JSON text has the name; JSON.parse keeps the last and tells nobody. A string before a colon is a name. */
function passwordsIn(json: string): number {
  const names = json.matchAll(/("(?:[^"\\]|\\.)*")(\s*:)?/g)
  return [...names].filter(([, text = '""', colon]) => {
    return colon !== undefined && JSON.parse(text) === 'password'
  }).length
}

/** The body as text, or the refusal of one that is too large, too slow or cut off. Nothing more is read then. */
function readBody(
  { framing }: Facts,
  request: IncomingMessage,
  timeMs: Millis,
): Promise<string | LoginReply> {
  const max: Bytes = limits.loginBytes.default
  const large: LoginReply = {
    code: 'BODY_TOO_LARGE',
    because: `more than ${max} bytes for a login`,
  }
  if (framing.kind === 'none') return Promise.resolve('')
  if (framing.kind === 'length' && framing.bytes > max) return Promise.resolve(large)
  return new Promise((resolve) => {
    const pieces: Buffer[] = []
    let bytes = 0
    const settle = (outcome: string | LoginReply) => {
      clearTimeout(timer)
      request.pause()
      request.removeAllListeners('data')
      resolve(outcome)
    }
    const timer = setTimeout(
      () => settle({ code: 'REQUEST_TIMEOUT', because: 'the login came too slowly' }),
      timeMs,
    )
    request.on('data', (piece: Buffer) => {
      bytes += piece.length
      if (bytes > max) settle(large)
      else pieces.push(piece)
    })
    request.once('end', () => settle(Buffer.concat(pieces).toString('utf8')))
    request.once('close', () => settle({ code: 'BAD_REQUEST', because: 'the client went away' }))
  })
}
