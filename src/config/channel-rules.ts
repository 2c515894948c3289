/** Rules about channels that look at more than one key: secrets, foreign settings, ids in lists, paths in use. */
import { channelNamed, channels, normaliseEntry, normaliseRoom } from '../channels/all.ts'
import type { Channel } from '../channels/channel.ts'
import type { Entry } from '../channels/entries.ts'
import { fromBase64, sameSecret } from '../channels/proof.ts'
import { channelAccounts, rootAccount, type ChannelAccount } from './channel-accounts.ts'
import { serviceKeys } from './channel-rows.ts'
import { editDistance } from './read.ts'
import type { Notice, Problem, ProblemCode } from './problems.ts'
import type { Config } from './schema.ts'

/** What the rules look at; a part of what all rules between keys look at. */
export interface ChannelSubject {
  readonly config: Config
  readonly isTroubled: (path: string) => boolean
}

type Given = Config['channels'][string] | Config['channels'][string]['accounts'][string]

/** Every problem of the channels, and of the lists of people that name a channel. */
export function channelProblems(subject: ChannelSubject): readonly Problem[] {
  const { config } = subject
  const accounts = channelAccounts(config)
  return [
    ...Object.entries(config.channels).flatMap(([name, root]) => {
      const channel = channelNamed(name)
      const path = `channels.${name}`
      if (channel === undefined) return [notAChannel(path, name)]
      return [
        ...givenProblems(channel, path, root),
        ...Object.entries(root.accounts).flatMap(([id, given]) =>
          givenProblems(channel, `${path}.accounts.${id}`, given),
        ),
      ]
    }),
    ...accounts.flatMap((one) => accountProblems(one, subject)),
    ...clashes(accounts, config),
    ...peopleLists(config),
  ]
}

const problem = (code: ProblemCode, path: string, message: string, remedy: string): Problem => ({
  code,
  path,
  message,
  remedy,
})

function notAChannel(path: string, name: string): Problem {
  const known = channels.map((channel) => channel.name)
  const near = known
    .map((one) => ({ one, distance: editDistance(name.toLowerCase(), one) }))
    .toSorted((a, b) => a.distance - b.distance)[0]
  const hint = near !== undefined && near.distance <= 2 ? `Did you mean channels.${near.one}? ` : ''
  const remedy = `${hint}Known are ${known.join(', ')}; any other bot with a JSON webhook is "generic".`
  return problem('UNKNOWN_KEY', path, 'is not a channel', remedy)
}

/** What one object of the file says, whatever it inherits. */
function givenProblems(channel: Channel, path: string, given: Given): readonly Problem[] {
  const places = Object.entries(given.groups).flatMap(([id, group]) => {
    const at = `${path}.groups[${JSON.stringify(id)}]`
    const topics = Object.entries(group.topics).map(
      ([topic, { allowFrom }]) => [`${at}.topics[${JSON.stringify(topic)}]`, allowFrom] as const,
    )
    const lists = [[at, group.allowFrom] as const, ...topics]
    return [
      ...entryProblems(at, normaliseRoom(channel.name, id)),
      ...lists.flatMap(([where, list]) => listProblems(channel, `${where}.allowFrom`, list)),
    ]
  })
  return [
    ...foreignSettings(channel, path, given),
    ...listProblems(channel, `${path}.allowFrom`, given.allowFrom),
    ...listProblems(channel, `${path}.groupAllowFrom`, given.groupAllowFrom),
    ...places,
  ]
}

function listProblems(
  channel: Channel,
  path: string,
  list: readonly string[] | undefined,
): readonly Problem[] {
  return (list ?? []).flatMap((entry, i) =>
    entryProblems(`${path}[${i}]`, normaliseEntry(channel.name, entry)),
  )
}

function entryProblems(path: string, entry: Entry): readonly Problem[] {
  if ('id' in entry) return []
  // "…" is what, because: remedy
  const parts = /^("(?:[^"\\]|\\.)*"[^:]*): ([^]*)$/.exec(entry.problem)
  const [, what = entry.problem, remedy = 'use a stable id'] = parts ?? []
  return [problem('HANDLE', path, what.replace(/^"/, 'has "'), sentence(remedy))]
}

function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.?]$/.test(text) ? '' : '.'}`
}

/** A key that another channel needs would be read and ignored here. */
function foreignSettings(channel: Channel, path: string, given: Given): readonly Problem[] {
  const own: readonly string[] = channel.settings.map((row) => row.key)
  const values: Readonly<Record<string, unknown>> = { ...given }
  const foreign = serviceKeys.filter((key) => values[key] !== undefined && !own.includes(key))
  const pointers = channel.name !== 'generic' && pointersGiven(given) ? ['pointers'] : []
  const rooms =
    given.directRooms !== undefined && !saysNoDirect.has(channel.name) ? ['directRooms'] : []
  return [...foreign, ...pointers, ...rooms].map((key) => {
    const names = own.length === 0 ? 'It has none.' : `Its own are ${own.join(', ')}.`
    return problem('UNKNOWN_KEY', `${path}.${key}`, `is not a setting of ${channel.name}`, names)
  })
}

/** Channels whose messages do not say whether a room is a direct chat. */
const saysNoDirect: ReadonlySet<string> = new Set(['matrix', 'nextcloud-talk'])

function pointersGiven({ pointers }: Given): boolean {
  const { sender, room, id, dm, mention } = pointers
  const all = [sender, room, id, ...Object.values(dm), ...Object.values(mention)]
  return all.some((one) => one !== undefined)
}

/** What one account lacks once the service can reach it, or it the service. */
function accountProblems(
  { channel, account, path }: ChannelAccount,
  { isTroubled }: ChannelSubject,
): readonly Problem[] {
  const called = account.webhookPath !== ''
  const stands = account.settings['listen'] !== undefined
  const polls = stands || (!called && account.settings['apiRoot'] !== undefined)
  const problems: Problem[] = []
  for (const row of channel.settings) {
    const at = `${path}.${row.key}`
    const value = account.settings[row.key]
    const needed =
      (called && row.required) ||
      (polls && row.key === 'botToken') ||
      (stands && row.key === 'agentToken')
    if (isTroubled(at)) continue
    if (value === undefined) {
      if (needed) problems.push(missing(at, row.say))
      continue
    }
    const wrong = row.problem?.(value)
    if (wrong === undefined) continue
    const [what = wrong, remedy = `It is ${row.say}`] = wrong.split(/: (.*)/s)
    problems.push(problem('FORMAT', at, what, sentence(remedy)))
  }
  if (called && channel.proof === 'none') {
    const remedy = 'Remove it: its messages come over the connection that the bot opens.'
    const at = `${path}.webhookPath`
    problems.push(problem('EXCLUSIVE', at, `is set, but ${channel.name} has no webhook`, remedy))
  }
  if (stands) problems.push(...listenProblems(channel, account, path))
  if (channel.name === 'generic' && called) problems.push(...genericProblems(account, path))
  return problems
}

function listenProblems(
  channel: Channel,
  { settings, bot }: ChannelAccount['account'],
  path: string,
): readonly Problem[] {
  if (!callsOut.has(channel.name)) {
    const remedy = `Remove it: only ${[...callsOut].join(' and ')} have bots that call out through us yet.`
    const message = 'is not available in this version for this channel'
    return [problem('NOT_AVAILABLE', `${path}.listen`, message, remedy)]
  }
  const { botToken = '', agentToken = '', apiRoot = '', listen = '' } = settings
  const problems: Problem[] = []
  if (agentToken !== '' && sameSecret(agentToken, botToken)) {
    const remedy = 'Make one of your own, so that the bot never holds the real one.'
    problems.push(problem('EXCLUSIVE', `${path}.agentToken`, 'is the real botToken', remedy))
  }
  if (URL.parse(apiRoot)?.host === listen) {
    const remedy = "It is the service's real root; the bot is told the address in listen."
    problems.push(problem('EXCLUSIVE', `${path}.apiRoot`, 'is our own address in listen', remedy))
  }
  if (channel.name === 'signal' && apiRoot === '') {
    const remedy = 'Give the address of "signal-cli daemon --http", like "http://127.0.0.1:8080".'
    problems.push(
      problem('KEY_NEEDED', `${path}.apiRoot`, 'is missing, and listen needs it', remedy),
    )
  }
  if (channel.name === 'signal' && !bot.ids.some((one) => /^(?:\+|uuid:)/.test(one))) {
    const remedy = 'Give the number of the account, like "+15551230000", and its id as "uuid:…".'
    const message = 'does not name the account, and a daemon may serve several'
    problems.push(problem('KEY_NEEDED', `${path}.botIds`, message, remedy))
  }
  return problems
}

/** Channels for whose service we stand in. */
const callsOut: ReadonlySet<string> = new Set(['telegram', 'signal'])

const missing = (path: string, say: string): Problem =>
  problem(
    'SECRET_MISSING',
    path,
    'is missing, and without it nothing can be proven',
    `It is ${say}.`,
  )

function genericProblems(account: ChannelAccount['account'], path: string): readonly Problem[] {
  const { mapping, settings } = account
  const problems: Problem[] = []
  if (mapping === undefined) {
    const remedy =
      'Give pointers.sender, pointers.room, pointers.dm.pointer and pointers.dm.equals.'
    const message = 'do not say who speaks and where'
    problems.push(problem('SECRET_MISSING', `${path}.pointers`, message, remedy))
  }
  const proof = settings['proof'] ?? 'standard-webhooks'
  if (proof === 'header' && settings['secretHeader'] === undefined) {
    problems.push(missing(`${path}.secretHeader`, 'the header that carries the secret'))
  }
  const secret = settings['secret'] ?? ''
  if (proof === 'standard-webhooks' && secret.length >= 16) {
    if (fromBase64(secret.replace(/^whsec_/, '')) === undefined) {
      const remedy = 'Use the output of "openssl rand -base64 32", with or without "whsec_".'
      problems.push(problem('FORMAT', `${path}.secret`, 'is not base64', remedy))
    }
  }
  return problems
}

/** Two accounts under one name, or two roads on one path. */
function clashes(accounts: readonly ChannelAccount[], config: Config): readonly Problem[] {
  const problems: Problem[] = []
  const health = config.gateway.healthPath
  for (const [i, one] of accounts.entries()) {
    const at = `${one.path}.webhookPath`
    const { channel, account } = one
    const twin = accounts.find(
      (other) => other !== one && other.channel === channel && other.account.id === account.id,
    )
    if (twin !== undefined && one.path.includes('.accounts.')) {
      const remedy = `Name it otherwise: "${rootAccount}" is the account of the channel itself.`
      problems.push(problem('EXCLUSIVE', one.path, 'is a second account of that name', remedy))
    }
    const door = account.settings['listen']
    const other = accounts.slice(0, i).find((of) => of.account.settings['listen'] === door)
    if (door !== undefined && other !== undefined) {
      const remedy = 'Give each account a port of its own.'
      const message = `is also that of ${other.path}`
      problems.push(problem('EXCLUSIVE', `${one.path}.listen`, message, remedy))
    }
    const path = account.webhookPath
    if (path === '') continue
    const taken = accounts.slice(0, i).find((other) => meets(other, one) || meets(one, other))
    if (taken !== undefined) {
      const remedy = 'Give each account a path of its own.'
      const message = `is also the webhook of ${taken.path}`
      problems.push(problem('EXCLUSIVE', at, message, remedy))
    }
    if (path === health) {
      const remedy = 'Choose another path, or another gateway.healthPath.'
      problems.push(problem('EXCLUSIVE', at, 'is gateway.healthPath', remedy))
    }
  }
  return problems
}

function meets(one: ChannelAccount, other: ChannelAccount): boolean {
  const path = other.account.webhookPath
  return ['GET', 'POST', 'PUT'].some(
    (method) =>
      one.channel.carries(method, path, one.account) &&
      other.channel.carries(method, path, other.account),
  )
}

/**
 * The gateway's own lists hold claims of identities, which may be anything, and senders with the name of their channel
 * before them, which must be ids.
 */
function peopleLists({ gateway, owners }: Config): readonly Problem[] {
  const people = [
    ['gateway.dmPolicies.allowlist', gateway.dmPolicies.allowlist, normaliseEntry],
    ['gateway.groupPolicies.allowedGroups', gateway.groupPolicies.allowedGroups, normaliseRoom],
    ['owners', owners, normaliseEntry],
  ] as const
  return people.flatMap(([path, entries, read]) =>
    entries.flatMap((entry, i) => {
      const name = entry.slice(0, entry.indexOf(':')).toLowerCase()
      if (channelNamed(name) === undefined) return []
      return entryProblems(`${path}[${i}]`, read(name, entry))
    }),
  )
}

/** What is worth knowing about channels that load. */
export function channelNotices(config: Config): readonly Notice[] {
  return channelAccounts(config).flatMap(({ channel, account, policy, path }) => {
    const notices: Notice[] = []
    const { apiRoot, listen } = account.settings
    if (account.webhookPath === '' && listen === undefined) {
      notices.push({
        level: 'WARNING',
        code: 'CHANNEL_UNGUARDED',
        path,
        message: 'has a policy but no road; no message of it comes through Hardshell yet',
        remedy:
          channel.proof === 'none'
            ? `Set ${path}.listen, apiRoot and agentToken; see docs/channels/${channel.name}.md.`
            : `Set ${path}.webhookPath and the secret of the service; see docs/channels/${channel.name}.md.`,
      })
    }
    if (apiRoot !== undefined && apiRoot.startsWith('http://') && isPublic(apiRoot)) {
      notices.push({
        level: 'WARNING',
        code: 'CREDENTIAL_IN_CLEAR',
        path: `${path}.apiRoot`,
        message: 'is plain HTTP; the credential of the bot would cross the network in clear',
        remedy: 'Use https.',
      })
    }
    const groups = Object.keys(policy.groups).length > 0
    // Telegram writes a mention with the name; its token only tells the id.
    const byName = channel.name === 'telegram'
    const named = (byName ? account.bot.names : account.bot.ids).length > 0
    if (groups && !named && namesItsBot.has(channel.name) && policy.requireMention !== false) {
      notices.push({
        level: 'WARNING',
        code: 'BOT_UNNAMED',
        path: `${path}.${byName ? 'botNames' : 'botIds'}`,
        message: byName
          ? 'is not set; in groups only replies to the bot count, and no mention of its name'
          : 'is not set; mentions in groups cannot be told, so nothing said there counts',
        remedy: byName
          ? 'Give the user name of the bot in botNames.'
          : 'Give the ids of the bot in botIds.',
      })
    }
    return notices
  })
}

/** Channels whose mentions carry the id or name of the bot. */
const namesItsBot: ReadonlySet<string> = new Set([
  'telegram',
  'slack',
  'matrix',
  'nextcloud-talk',
  'signal',
])

/** A name or address outside of this machine and its private networks. */
function isPublic(root: string): boolean {
  const { hostname } = new URL(root)
  if (!hostname.includes('.') || hostname.endsWith('.local')) return false
  return !/^(?:127|10|192\.168|172\.(?:1[6-9]|2\d|3[01]))\./.test(hostname)
}
