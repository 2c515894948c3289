/**
 * Other configurations as ours: what a Moltbot, Clawdbot or OpenClaw file says about who may connect and speak, and what
 * an older file of ours says that is no longer accepted. Pure: documents in, a document and the reasons out.
 */
import { modernise, secretOf } from './agent-file.ts'
import type { Change } from './agent-file.ts'
import type { Problem } from './problems.ts'
import { spellings } from './schema.ts'
import { nested, parentAt, pathSteps, remove, valueAt } from './paths.ts'
import type { Json } from './paths.ts'

/** A document of ours, and how it came about. */
export interface Migrated {
  readonly document: Json
  readonly changes: readonly Change[]
  /** The gateway needs a token of its own: the old one is missing, weak, or the agent's. */
  readonly needsToken: boolean
  /** What could not be mended; empty when the document would load. */
  readonly left: readonly Problem[]
}

/** What a migration looks at. */
export interface Subject {
  /** The other configuration; undefined when only ours is brought up to date. */
  readonly from: Json | undefined
  /** What stands at the destination; its keys win. */
  readonly ours: Json | undefined
  /** Senders that the agent has approved, by channel. */
  readonly approved: Readonly<Record<string, readonly string[]>>
  /** Where the token stands, beside the configuration file unless absolute. */
  readonly tokenFile: string
  /** Says what is wrong with a document of ours; a document that needs a token is judged with a good one. */
  readonly judge: (document: Json, withToken: boolean) => readonly Problem[]
}

const passes = 25
/** Problems of the surroundings, which another document would not mend. */
export const outside: ReadonlySet<string> = new Set([
  'VARIABLE_UNSET',
  'FILE_MISSING',
  'FILE_MODE',
  'FILE_OWNER',
  'ENVIRONMENT',
])

function isObject(value: unknown): value is Json {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function objectAt(document: unknown, path: string): Json {
  const found = valueAt(document, path.split('.'))
  return isObject(found) ? found : {}
}

/** Says whether a file speaks our language; the agents know none of these keys and refuse them. */
export function isOurs(document: Json): boolean {
  const agent = objectAt(document, 'agent')
  const gateway = objectAt(document, 'gateway')
  const auth = objectAt(document, 'gateway.auth')
  return (
    isObject(document['security']) ||
    ['upstream', 'image'].some((key) => key in agent) ||
    ['dmPolicies', 'groupPolicies', 'publicOrigins'].some((key) => key in gateway) ||
    ['tokenRotation', 'tokenFile', 'passwordHash'].some((key) => key in auth)
  )
}

/** What the agent's own file says, as a document of ours that guards the agent where it runs. */
function fromAgent(agent: Json, changes: Change[]): Json {
  modernise(agent, changes)
  const gateway = objectAt(agent, 'gateway')
  const auth = objectAt(agent, 'gateway.auth')
  const port = typeof gateway['port'] === 'number' ? gateway['port'] : 18_789
  const token = secretOf(auth['token']) ?? secretOf(auth['password'])
  const owners = objectAt(agent, 'commands')['ownerAllowFrom']
  const channels = Object.entries(objectAt(agent, 'channels')).filter(
    ([name, one]) => name !== 'defaults' && isObject(one) && one['enabled'] !== false,
  )
  const say = `the agent keeps this port, and Hardshell answers in front of it`
  changes.push({ path: 'agent.upstream', say: `is http://127.0.0.1:${port}: ${say}` })
  if (token !== undefined) {
    const reason = 'is what the agent asks for; clients get a token of their own'
    changes.push({ path: 'agent.token', say: reason })
  }
  const used = ['gateway', 'channels', 'commands']
  const others = Object.keys(agent).filter((name) => !used.includes(name))
  if (others.length > 0) {
    changes.push({ path: '', say: `stays with the agent, who reads it: ${others.join(', ')}` })
  }
  return {
    gateway: {
      bind: '127.0.0.1',
      port: port === 8080 ? 8081 : 8080,
      ...('controlUi' in gateway ? { controlUi: gateway['controlUi'] } : {}),
    },
    agent: {
      upstream: `http://127.0.0.1:${port}`,
      ...(token === undefined ? {} : { token }),
    },
    ...(Array.isArray(owners) ? { owners } : {}),
    ...(channels.length > 0 ? { channels: Object.fromEntries(channels.map(withoutEnabled)) } : {}),
  }
}

function withoutEnabled([name, channel]: readonly [string, unknown]): readonly [string, unknown] {
  if (!isObject(channel)) return [name, channel]
  const { enabled: _, ...rest } = channel
  return [name, rest]
}

/** One spelling for keys that have two, so that neither meets the other. */
function spellOnce(document: Json): void {
  for (const [from, to] of Object.entries(spellings)) {
    const parts = from.split('.')
    const last = to.split('.').slice(parts.lastIndexOf('*') + 1)
    for (const { holder } of holders(document, parts.slice(0, parts.lastIndexOf('*') + 1))) {
      const old = parts.slice(parts.lastIndexOf('*') + 1)
      const value = valueAt(holder, old)
      if (value === undefined) continue
      remove(holder, old)
      if (valueAt(holder, last) === undefined) nested(holder, last, value)
    }
  }
}

/** Every object at a path pattern, with where it stands. */
function holders(
  document: unknown,
  pattern: readonly string[],
  path: readonly string[] = [],
): readonly { readonly holder: Json; readonly path: readonly string[] }[] {
  if (!isObject(document)) return []
  const [first, ...rest] = pattern
  if (first === undefined) return [{ holder: document, path }]
  const names = first === '*' ? Object.keys(document) : [first]
  return names.flatMap((name) => holders(document[name], rest, [...path, name]))
}

/** Lists hold text: ids that were written as numbers are the same ids. "*" goes, wherever it stands. */
function cleanList(holder: Json, key: string, path: string, changes: Change[]): void {
  const list = holder[key]
  if (!Array.isArray(list)) return
  const kept = list.filter((entry) => entry !== '*')
  if (kept.length < list.length) {
    changes.push({ path, say: '"*" was removed: it let everybody in' })
  }
  if (kept.length === 0 && list.length > 0) delete holder[key]
  else holder[key] = kept.map((entry: unknown) => (typeof entry === 'number' ? `${entry}` : entry))
}

function closePolicies(document: Json, changes: Change[]): void {
  const accounts = [
    ...holders(document, ['channels', '*']),
    ...holders(document, ['channels', '*', 'accounts', '*']),
  ]
  for (const { holder, path } of accounts) {
    const at = path.join('.')
    const dm = holder['dm']
    if (isObject(dm) && dm['policy'] === 'open') {
      dm['policy'] = 'pairing'
      changes.push({ path: `${at}.dm.policy`, say: '"open" became "pairing"' })
    }
    if (holder['groupPolicy'] === 'open') {
      holder['groupPolicy'] = 'allowlist'
      changes.push({ path: `${at}.groupPolicy`, say: '"open" became "allowlist"' })
    }
    for (const key of ['allowFrom', 'groupAllowFrom']) {
      cleanList(holder, key, `${at}.${key}`, changes)
    }
    for (const rooms of [
      ['groups', '*'],
      ['groups', '*', 'topics', '*'],
    ]) {
      for (const { holder: room, path: below } of holders(holder, rooms)) {
        cleanList(room, 'allowFrom', `${at}.${below.join('.')}.allowFrom`, changes)
      }
    }
  }
  cleanList(document, 'owners', 'owners', changes)
  for (const { holder } of holders(document, ['gateway', 'dmPolicies'])) {
    cleanList(holder, 'allowlist', 'gateway.dmPolicies.allowlist', changes)
    const listed = Array.isArray(holder['allowlist']) && holder['allowlist'].length > 0
    if (holder['denyByDefault'] === false && !listed) {
      holder['denyByDefault'] = true
      const say = 'false became true: with an empty allowlist anyone could connect'
      changes.push({ path: 'gateway.dmPolicies.denyByDefault', say })
    }
  }
}

function closeGateway(document: Json, changes: Change[]): void {
  for (const { holder: gateway } of holders(document, ['gateway'])) {
    if ('controlUi' in gateway) {
      delete gateway['controlUi']
      changes.push({ path: 'gateway.controlUi', say: 'was removed: it is never honoured' })
    }
    const { bind } = gateway
    const wide = ['0.0.0.0', '::', 'lan', 'auto', 'tailnet', 'custom'].includes(String(bind))
    if (!wide || gateway['dangerouslyBindAllInterfaces'] === true) continue
    gateway['bind'] = '127.0.0.1'
    const say = `${JSON.stringify(bind)} became "127.0.0.1": put a tunnel in front`
    changes.push({ path: 'gateway.bind', say })
  }
}

/** What we know to mend, whatever else the document says. Changes the document. */
function harden(document: Json, changes: Change[]): Json {
  spellOnce(document)
  closePolicies(document, changes)
  closeGateway(document, changes)
  return document
}

/** The keys of both; where both say something, ours stays. Lists are never mixed: who was removed stays removed. */
function merge(from: Json, ours: Json, path: readonly string[] = []): Json {
  const result: Json = { ...ours }
  for (const [name, value] of Object.entries(from)) {
    if (name === '__proto__') continue
    const at = [...path, name]
    const there = ours[name]
    if (there === undefined) result[name] = value
    // Ways to prove who one is, and ways to reach the agent, exclude each other: one file's or the other's.
    else if (at.join('.') === 'gateway.auth') continue
    else if (isObject(there) && isObject(value)) {
      const taken = at.join('.') === 'agent' ? withoutRoad(value, there) : value
      result[name] = merge(taken, there, at)
    }
  }
  return result
}

function withoutRoad(from: Json, ours: Json): Json {
  if (!('image' in ours) && !('upstream' in ours)) return from
  const { upstream: _, image: __, ...rest } = from
  return rest
}

/** The channel, or the account of one, that a store of approved senders is named after: `telegram`, `telegram-work`. */
function placeOf(document: Json, name: string): readonly string[] | undefined {
  const channels = objectAt(document, 'channels')
  if (isObject(channels[name])) return ['channels', name]
  const channel = Object.keys(channels).find((one) => name.startsWith(`${one}-`))
  if (channel === undefined) return undefined
  const account = name.slice(channel.length + 1)
  const path = ['channels', channel, 'accounts', account]
  if (isObject(valueAt(document, path))) return path
  return account === 'default' ? ['channels', channel] : undefined
}

/** Approved senders join those of the file they belong to. */
function admit(document: Json, approved: Subject['approved'], changes: Change[]): void {
  for (const [name, ids] of Object.entries(approved)) {
    const place = placeOf(document, name)
    const holder = place === undefined ? undefined : valueAt(document, place)
    if (place === undefined || !isObject(holder)) {
      const say = `has ${ids.length} approved senders that were left out: the file names no such channel or account`
      if (ids.length > 0) changes.push({ path: `${name}-allowFrom.json`, say })
      continue
    }
    const listed = Array.isArray(holder['allowFrom']) ? (holder['allowFrom'] as unknown[]) : []
    const fresh = ids.filter((id) => id !== '*' && !listed.map(String).includes(id))
    if (fresh.length === 0) continue
    holder['allowFrom'] = [...listed, ...fresh]
    const say = `has ${fresh.length} senders more, whom the agent had approved`
    changes.push({ path: `${place.join('.')}.allowFrom`, say })
  }
}

function giveToken(document: Json, tokenFile: string): void {
  remove(document, ['gateway', 'auth', 'token'])
  nested(document, ['gateway', 'auth', 'mode'], 'token')
  nested(document, ['gateway', 'auth', 'tokenFile'], tokenFile)
}

/** A token file that is missing is a missing token, though a missing file is else none of our business. */
function isAboutToken({ code, path }: Problem, tolerated: ReadonlySet<string>): boolean {
  if (code === 'FILE_MISSING') return path === 'gateway.auth.tokenFile'
  if (tolerated.has(code)) return false
  return (
    code.startsWith('TOKEN_') ||
    ['gateway.auth.token', 'gateway.auth.tokenFile', 'gateway.auth.passwordHash'].includes(path)
  )
}

/** Takes out what a problem is about; false when nothing of it stands in the document. */
function takeOut(document: Json, { path }: Problem): boolean {
  const steps = pathSteps(path)
  if (remove(document, steps)) return true
  const parent = parentAt(document, steps)
  if (!isObject(parent) || !path.startsWith('channels.')) return false
  // Without its secret a channel has no road; its policies stand without one.
  return ['webhookPath', 'listen', 'apiRoot']
    .map((key) => {
      const there = key in parent
      delete parent[key]
      return there
    })
    .includes(true)
}

/** Moves our own port away from the agent's. */
function movePort(document: Json, changes: Change[]): void {
  const { upstream: given } = objectAt(document, 'agent')
  const upstream = typeof given === 'string' ? URL.parse(given) : null
  const port = upstream?.port === '8080' ? 8081 : 8080
  nested(document, ['gateway', 'port'], port)
  changes.push({ path: 'gateway.port', say: `became ${port}: the agent listens on the old one` })
}

interface Repaired {
  readonly needsToken: boolean
  readonly left: readonly Problem[]
}

/** Takes out, one round after the other, what keeps a document from loading. Changes the document. */
function repair(
  document: Json,
  { judge, tokenFile }: Subject,
  changes: Change[],
  tolerated: ReadonlySet<string>,
): Repaired {
  let needsToken = false
  for (let pass = 0; pass < passes; pass += 1) {
    const problems = judge(document, needsToken).filter(
      (problem) => isAboutToken(problem, tolerated) || !tolerated.has(problem.code),
    )
    if (problems.length === 0) return { needsToken, left: [] }
    const token = problems.find((problem) => isAboutToken(problem, tolerated))
    if (token !== undefined && !needsToken) {
      needsToken = true
      remove(document, ['gateway', 'auth', 'passwordHash'])
      giveToken(document, tokenFile)
      changes.push({ path: 'gateway.auth.token', say: `${token.message}: it gets a new one` })
      continue
    }
    if (problems.some(({ code }) => code === 'LOOP')) {
      movePort(document, changes)
      continue
    }
    // From the end, so that the places in a list stay right.
    const gone = problems.toReversed().filter((problem) => takeOut(document, problem))
    for (const { path, message } of gone) {
      changes.push({ path, say: `was left out: ${message}` })
    }
    if (gone.length === 0) return { needsToken, left: problems }
  }
  return { needsToken, left: judge(document, needsToken) }
}

/** Brings a configuration to what this version loads and enforces. The same again changes nothing. */
export function migrateDocument(subject: Subject): Migrated {
  const changes: Change[] = []
  const { from, approved } = subject
  const ours = harden(structuredClone(subject.ours ?? {}), changes)
  if (from === undefined) {
    return { document: ours, changes, ...repair(ours, subject, changes, outside) }
  }
  // First ours alone, so that what is taken out of it does not make room for another answer the next time.
  const alone = repair(ours, subject, changes, new Set([...outside, 'TOKEN_MISSING']))
  const copy = structuredClone(from)
  const read = isOurs(copy) ? copy : fromAgent(copy, changes)
  admit(read, approved, changes)
  const document = merge(harden(read, changes), ours)
  const { needsToken, left } = repair(document, subject, changes, outside)
  return { document, changes, needsToken: needsToken || alone.needsToken, left }
}
