/** Is a channel set up right? Secrets, addresses, the service's own view of our webhook, and what cannot be known. */
import type { Account, Channel } from '../channels/channel.ts'
import { settingProblems } from '../channels/channel.ts'
import { dig, field, readJsonText, text } from '../channels/json.ts'
import { Failure } from '../errors.ts'
import { hours } from '../limits.ts'
import { checkAddress } from './credentials.ts'
import type { Call, Incoming } from './outgoing.ts'

/** One thing that was looked at. `not measured` is an answer of its own: nobody knows. */
export interface CheckRow {
  readonly account: string
  readonly check: 'secret' | 'address' | 'service' | 'webhook' | 'answers' | 'mentions'
  readonly result: 'ok' | 'problem' | 'not measured'
  readonly says: string
}

/** What a check looks at. */
export interface CheckSubject {
  readonly channel: Channel
  readonly account: Account
  /** Where it stands in the file. */
  readonly path: string
  /** Groups are served and a mention is needed there. */
  readonly needsMention: boolean
  /** Strangers are answered. */
  readonly answers: boolean
}

/** What a check needs from outside. */
export interface CheckDeps {
  readonly call: Call
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  /** Origins under which services reach us. */
  readonly publicOrigins: readonly string[]
}

type Found = Omit<CheckRow, 'account' | 'check'>
const ok = (says: string): Found => ({ result: 'ok', says })
const wrong = (says: string): Found => ({ result: 'problem', says })
const unknown = (says: string): Found => ({ result: 'not measured', says })

/** Every row about one account, in the order in which they should be mended. */
export async function checkAccount(
  subject: CheckSubject,
  deps: CheckDeps,
): Promise<readonly CheckRow[]> {
  const rows: readonly (readonly [CheckRow['check'], Found])[] = [
    ['secret', secret(subject)],
    ['address', address(subject, deps)],
    ['service', await service(subject, deps)],
    ['webhook', await webhook(subject, deps)],
    ['answers', answers(subject)],
    ['mentions', mentions(subject)],
  ]
  return rows.map(([check, found]) => ({ account: subject.account.id, check, ...found }))
}

function secret({ channel, account, path }: CheckSubject): Found {
  if (account.webhookPath === '') {
    if (account.settings['listen'] !== undefined) {
      return ok('the bot calls through Hardshell; no webhook proof is needed')
    }
    const road = channel.proof === 'none' ? 'listen' : 'webhookPath'
    return wrong(`${path}.${road} is not set: no message of it comes through Hardshell`)
  }
  const [problem] = settingProblems(channel, account)
  return problem === undefined ? ok('everything that the proof needs is set') : wrong(problem)
}

/** Services that run on the owner's own machines reach us without a public address. */
const nearby = new Set(['matrix', 'mattermost', 'nextcloud-talk', 'bluebubbles', 'generic'])

function address({ channel, account }: CheckSubject, { publicOrigins }: CheckDeps): Found {
  const path = account.webhookPath
  if (path === '') return unknown('there is no webhook')
  const [origin] = publicOrigins
  if (origin === undefined) {
    return nearby.has(channel.name)
      ? ok(`the service calls ${path} on this machine's own address`)
      : wrong(`gateway.publicOrigins is empty: a call of ${channel.name} for ${path} gets 421`)
  }
  const signed = account.settings['publicWebhookUrl']
  if (signed !== undefined) {
    const url = new URL(signed)
    const ours = publicOrigins.includes(url.origin) && url.pathname === path
    if (!ours) return wrong('publicWebhookUrl is not one of gateway.publicOrigins with webhookPath')
  }
  return ok(`the service calls ${origin}${path}`)
}

/** The root of the service's API: a configured one, or the usual host. */
function rootOf({ hosts }: Channel, { settings }: Account): string | undefined {
  const named = settings['apiRoot'] ?? settings['backend'] ?? settings['serverUrl']
  const [host] = hosts
  return named ?? (host === undefined ? undefined : `https://${host}`)
}

/** Where a service tells that it is the one meant: 200 there, and nothing else, is good. */
const alive: Readonly<Record<string, string>> = { signal: '/api/v1/check' }

async function service({ channel, account }: CheckSubject, { call }: CheckDeps): Promise<Found> {
  const root = rootOf(channel, account)
  if (root === undefined) return unknown('no address of the service is configured')
  try {
    const path = Object.hasOwn(alive, channel.name) ? alive[channel.name] : undefined
    const url = `${root}${path ?? ''}`
    const { status } = await call({ method: 'GET', url, headers: ['Accept', '*/*'] })
    return path === undefined || status === 200
      ? ok(`${new URL(root).host} answers (status ${status})`)
      : wrong(`${new URL(root).host} answers ${path} with status ${status}: is it ${channel.name}?`)
  } catch (thrown) {
    return wrong(`the service cannot be reached: ${reasonOf(thrown)}`)
  }
}

/** Where the service says which webhook it calls. */
interface Registry {
  /** The setting that holds the credential. */
  readonly setting: string
  readonly request: (
    root: string,
    credential: string,
  ) => { url: string; headers: readonly string[] }
  readonly usualRoot: string
  readonly read: (document: unknown, now: number) => { url: string; trouble?: string | undefined }
}

const registries: Readonly<Record<string, Registry>> = {
  telegram: {
    setting: 'botToken',
    usualRoot: 'https://api.telegram.org',
    request: (root, token) => ({ url: `${root}/bot${token}/getWebhookInfo`, headers: [] }),
    read: (document, now) => {
      const at = Number(dig(document, 'result', 'last_error_date') ?? 0) * 1000
      const said = text(dig(document, 'result', 'last_error_message'))
      const recent = said !== undefined && now - at < hours(1)
      return {
        url: text(dig(document, 'result', 'url')) ?? '',
        trouble: recent ? `its last delivery failed: ${printable(said)}` : undefined,
      }
    },
  },
  discord: {
    setting: 'botToken',
    usualRoot: 'https://discord.com/api/v10',
    request: (root, token) => ({
      url: `${root}/applications/@me`,
      headers: ['Authorization', `Bot ${token}`],
    }),
    read: (document) => ({ url: text(field(document, 'interactions_endpoint_url')) ?? '' }),
  },
  line: {
    setting: 'channelAccessToken',
    usualRoot: 'https://api.line.me',
    request: (root, token) => ({
      url: `${root}/v2/bot/channel/webhook/endpoint`,
      headers: ['Authorization', `Bearer ${token}`],
    }),
    read: (document) => ({
      url: text(field(document, 'endpoint')) ?? '',
      trouble: field(document, 'active') === false ? '"Use webhook" is off' : undefined,
    }),
  },
}

async function webhook(subject: CheckSubject, deps: CheckDeps): Promise<Found> {
  const { channel, account, path } = subject
  if (account.webhookPath === '') return unknown('there is no webhook')
  const registry = Object.hasOwn(registries, channel.name) ? registries[channel.name] : undefined
  if (registry === undefined) {
    return unknown(`${channel.name} has no call that tells which webhook it uses`)
  }
  const credential = account.settings[registry.setting]
  if (credential === undefined) {
    return unknown(`${path}.${registry.setting} is not set, so the service cannot be asked`)
  }
  const root = account.settings['apiRoot'] ?? registry.usualRoot
  try {
    const { url, headers } = registry.request(root, credential)
    checkAddress(channel, account, url)
    const answer = await deps.call({ method: 'GET', url, headers })
    return judgeRegistry(registry, answer, account, deps)
  } catch (thrown) {
    return wrong(`the service cannot be asked: ${reasonOf(thrown)}`)
  }
}

function judgeRegistry(
  registry: Registry,
  answer: Incoming,
  account: Account,
  { now, publicOrigins }: CheckDeps,
): Found {
  if (answer.status === 401 || answer.status === 403 || answer.status === 404) {
    return wrong(`the service refuses ${registry.setting} (status ${answer.status})`)
  }
  const read = readJsonText(answer.body)
  if (answer.status !== 200 || !read.ok) {
    return wrong(`the service gives no answer that can be read (status ${answer.status})`)
  }
  const { url, trouble } = registry.read(read.value, now())
  if (url === '') return wrong('no webhook is registered with the service')
  const at = URL.parse(url)
  if (at === null || at.pathname !== account.webhookPath) {
    return wrong(`the registered webhook has another path than ${account.webhookPath}`)
  }
  if (publicOrigins.length > 0 && !publicOrigins.includes(at.origin)) {
    return wrong('the registered webhook is at an origin that is not in gateway.publicOrigins')
  }
  return trouble === undefined ? ok(`registered at ${at.origin}${at.pathname}`) : wrong(trouble)
}

/** What a channel needs to say something; those that are not here answer in the response itself. */
const needed: Readonly<Record<string, readonly string[]>> = {
  slack: ['botToken'],
  whatsapp: ['accessToken'],
  messenger: ['accessToken'],
  instagram: ['accessToken'],
  line: ['channelAccessToken'],
  msteams: ['appPassword'],
  matrix: ['asToken', 'apiRoot'],
  'nextcloud-talk': ['backend'],
  zalo: ['botToken'],
  bluebubbles: ['serverUrl'],
  signal: ['apiRoot'],
}

function answers({ channel, account, path, answers: wanted }: CheckSubject): Found {
  if (!wanted) return ok('strangers are not answered, as configured')
  if (channel.name === 'generic') {
    return unknown('there is no way to answer; new requests are in "hardshell pairing list"')
  }
  const settings = needed[channel.name] ?? []
  const missing = settings.filter((key) => account.settings[key] === undefined)
  if (missing.length === 0) return ok('strangers can be told their code')
  const names = missing.map((key) => `${path}.${key}`).join(' and ')
  return wrong(`${names} is not set: strangers are not told their code`)
}

/** Services that say by themselves whether the bot is meant. */
const saysWhetherMeant = new Set(['googlechat', 'msteams', 'mattermost', 'line', 'discord'])
/** Services that do not say whom a message in a group addresses. */
const neverSaysWhom = new Set(['zalo', 'bluebubbles'])

function mentions({ channel, account, needsMention, path }: CheckSubject): Found {
  if (!needsMention) return ok('no group needs a mention')
  const { name } = channel
  const pointed = name === 'generic' && account.mapping?.mention !== undefined
  if (pointed || saysWhetherMeant.has(name)) return ok(`${name} says whether the bot is meant`)
  const silence = 'nothing said in groups counts'
  if (name === 'generic') {
    return wrong(`set ${path}.pointers.mention or requireMention: false; now ${silence}`)
  }
  if (neverSaysWhom.has(name)) {
    return wrong(`${name} does not say who is meant: without requireMention: false ${silence}`)
  }
  const { ids, names } = account.bot
  return ids.length + names.length > 0
    ? ok('the bot is named')
    : unknown(`${path}.botIds is not set; mentions that carry the bot's id are not seen`)
}

const reasonOf = (thrown: unknown) =>
  thrown instanceof Failure ? thrown.message : 'an unexpected answer'

/** Words of the service, without anything that a terminal acts on. */
function printable(words: string): string {
  return words.replace(/[^\x20-\x7e]/g, '?').slice(0, 200)
}
