/** Puts the configured credential of the bot where its service wants it, and lets nothing leave for another host. */
import { createHmac } from 'node:crypto'

import type { Account, ApiCall, Channel } from '../channels/channel.ts'
import { field, readJsonText, text } from '../channels/json.ts'
import { Failure } from '../errors.ts'
import { minutes, seconds, type Millis } from '../limits.ts'
import type { RandomBytes } from './code.ts'
import type { Call, Outgoing } from './outgoing.ts'
import { placeKey } from './place.ts'

/** What placing a credential needs from outside. */
export interface CredentialDeps {
  readonly call: Call
  /** Monotonic clock, ms. */
  readonly now: () => Millis
  readonly random: RandomBytes
}

/** Where Bot Framework activities are answered besides the hosts that the channel names. */
const connectorHosts =
  /^(?:smba\.infra\.(?:gcc\.teams\.microsoft\.com|gov\.teams\.microsoft\.us|dod\.teams\.microsoft\.us)|[a-z0-9-]+\.botframework\.com)$/
/** Settings that name a root of the owner's choice. */
const rootSettings = ['apiRoot', 'backend', 'serverUrl']
const loginRoot = 'https://login.microsoftonline.com'

/** Fails with CALL_REFUSED unless the address is the service's own host over TLS, or under a configured root. */
export function checkAddress(channel: Channel, account: Account, address: string): void {
  const url = URL.parse(address)
  const known =
    url !== null &&
    url.protocol === 'https:' &&
    url.port === '' &&
    (channel.hosts.includes(url.hostname) ||
      (channel.name === 'msteams' && connectorHosts.test(url.hostname)))
  const configured =
    url !== null && rootSettings.some((key) => isUnder(url, account.settings[key] ?? ''))
  const plain = url !== null && url.username === '' && url.password === ''
  if (plain && (known || configured)) return
  throw new Failure('CALL_REFUSED', `an answer of ${channel.name} would leave for another host`)
}

function isUnder(url: URL, root: string): boolean {
  const at = URL.parse(root)
  if (at === null || at.origin !== url.origin) return false
  const path = at.pathname.replace(/\/+$/, '')
  return url.pathname === path || url.pathname.startsWith(`${path}/`)
}

/** Credentials of all accounts; tokens that have to be fetched are kept until they expire. */
export class Credentials {
  readonly #deps: CredentialDeps
  readonly #tokens = new Map<string, { readonly token: string; readonly until: number }>()

  constructor(deps: CredentialDeps) {
    this.#deps = deps
  }

  /**
   * The request behind an API call. Fails with CALL_REFUSED for a foreign host, CREDENTIAL_MISSING when the setting is
   * not configured; neither can be mended by trying again.
   */
  async place(channel: Channel, account: Account, call: ApiCall): Promise<Outgoing> {
    checkAddress(channel, account, call.url)
    const { setting, place } = call.credential
    const credential = account.settings[setting] ?? ''
    if (place !== 'none' && credential === '') {
      throw new Failure(
        'CREDENTIAL_MISSING',
        `channels.${channel.name}.${setting} is not set, so nobody can be answered there`,
      )
    }
    const { method, url, headers, body } = call
    const plain = { method, url, headers, body }
    const bearer = (scheme: string, value: string) => ({
      ...plain,
      headers: [...headers, 'Authorization', `${scheme} ${value}`],
    })
    switch (place) {
      case 'none':
        return plain
      case 'path':
        return { ...plain, url: url.replace('{credential}', inPath(credential)) }
      case 'bearer':
        return bearer('Bearer', credential)
      case 'bot':
        return bearer('Bot', credential)
      case 'query-password':
        return { ...plain, url: `${url}?password=${encodeURIComponent(credential)}` }
      case 'client-credentials':
        return bearer('Bearer', await this.#clientToken(channel, account, credential))
      case 'nextcloud-bot':
        return { ...plain, headers: [...headers, ...this.#talkSignature(credential, body)] }
      default:
        return place satisfies never
    }
  }

  /** Signed over a fresh random and the words of the message (Nextcloud Talk, bots, "Sending a chat message"). */
  #talkSignature(secret: string, body: string): readonly string[] {
    const random = this.#deps.random(32).toString('hex')
    const read = readJsonText(body)
    const words = (read.ok ? text(field(read.value, 'message')) : undefined) ?? ''
    const signature = createHmac('sha256', secret).update(random).update(words).digest('hex')
    return ['X-Nextcloud-Talk-Bot-Random', random, 'X-Nextcloud-Talk-Bot-Signature', signature]
  }

  /** A token of the Bot Framework by client credentials (RFC 6749 §4.4), from the common tenant or the bot's own. */
  async #clientToken(channel: Channel, account: Account, secret: string): Promise<string> {
    const key = placeKey({ channel: channel.name, account: account.id })
    const kept = this.#tokens.get(key)
    if (kept !== undefined && kept.until > this.#deps.now()) return kept.token
    const { appId = '', tenantId = '' } = account.settings
    for (const tenant of ['botframework.com', tenantId]) {
      const answer = await this.#deps.call({
        method: 'POST',
        url: `${loginRoot}/${encodeURIComponent(tenant)}/oauth2/v2.0/token`,
        headers: ['Content-Type', 'application/x-www-form-urlencoded'],
        body: new URLSearchParams({
          grant_type: 'client_credentials',
          client_id: appId,
          client_secret: secret,
          scope: 'https://api.botframework.com/.default',
        }).toString(),
      })
      const read = answer.status === 200 ? readJsonText(answer.body) : undefined
      const token = read?.ok === true ? text(field(read.value, 'access_token')) : undefined
      if (read?.ok === true && token !== undefined) {
        const life = Number(field(read.value, 'expires_in') ?? 0)
        const forMs = Math.min(seconds(Number.isFinite(life) ? life : 0), minutes(60))
        this.#tokens.set(key, { token, until: this.#deps.now() + forMs - minutes(1) })
        return token
      }
    }
    throw new Failure('CALL_FAILED', 'login.microsoftonline.com gave no token for the bot')
  }
}

/** Tokens that stand in a path hold a colon and nothing else that a path could not. */
function inPath(credential: string): string {
  if (/^[\w:.~-]+$/.test(credential)) return credential
  return encodeURIComponent(credential)
}
