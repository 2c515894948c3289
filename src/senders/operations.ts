/** What the command line and the admin socket can do about people; one function for both. */
import type { Message } from '../channels/channel.ts'
import { escaped, type Entry } from '../channels/entries.ts'
import { Failure } from '../errors.ts'
import { days, minutes } from '../limits.ts'
import type { PairingBook, PairingRequest } from './book.ts'
import type { DeskSettings } from './desk.ts'
import type { Admitted, SenderList } from './list.ts'
import type { Evidence } from './people.ts'
import { gatewayPlace, type Place } from './place.ts'

/** An account of the configuration and whom it lists. */
export interface ConfiguredAccount extends Place {
  readonly listed: DeskSettings['listed']
}

/** What the operations work on. */
export interface PeopleContext {
  readonly list: SenderList
  readonly book: PairingBook
  /** The configured accounts; undefined where the configuration cannot be read. */
  readonly accounts: readonly ConfiguredAccount[] | undefined
  /** Wall clock, ms since the epoch. */
  readonly now: () => number
  readonly evidence?: Evidence | undefined
  /**
   * Says something to a person by a call, `seen` being the reply address of their own words; `false` where there is no
   * way. Absent where nothing runs.
   */
  readonly say?:
    | ((place: Place, to: string, words: string, seen: Message['replyTo']) => boolean)
    | undefined
}

/** A sender who may speak, as lists show it. */
export interface SenderView extends Place {
  readonly sender: string
  /** A key of the configuration, `allowlist add`, or `pairing`. */
  readonly from: string
  readonly since?: number
  readonly expiresAt?: number
  readonly note?: string
  readonly lastSpoke?: number
}

/** Why an entry deserves a look. */
export interface ReviewFinding extends SenderView {
  readonly why: 'unused' | 'expired' | 'unknown'
}

/** One operation: a checked input in, an answer for `--json` out; fails with a Failure. */
type Operation = (input: unknown) => Promise<unknown>

/** Words for somebody who was just let in. */
const welcome = 'You have been let in. Say it again.'
const noteChars = 200
const life = { min: minutes(1), max: days(3660) }

/** `pairing.*` and `allowlist.*`. Inputs come from outside and are checked here. */
export function peopleOperations(context: PeopleContext): Readonly<Record<string, Operation>> {
  const { list, book } = context
  const fresh = () => Promise.all([list.refresh(), book.refresh()])
  return {
    'pairing.list': async (input) => {
      const { channel } = fieldsOf(input, ['channel'])
      const only = channel === undefined ? undefined : await channelOf(channel)
      await fresh()
      const requests = book.pending().filter((one) => only === undefined || one.channel === only)
      return { requests: requests.map(({ replyTo: _address, ...shown }) => shown) }
    },
    'pairing.approve': async (input) => {
      const { channel, code, notify } = fieldsOf(input, ['channel', 'code', 'notify'])
      await fresh()
      return approve(context, await channelOf(channel), textOf(code, 'a code'), notify === true)
    },
    'pairing.deny': async (input) => {
      const { channel, code } = fieldsOf(input, ['channel', 'code'])
      const name = await channelOf(channel)
      const request = await takeRequest(context, name, textOf(code, 'a code'))
      tell(context, 'pairing.denied', request, 'by the owner')
      return { channel: name, account: request.account, sender: request.sender }
    },
    'pairing.revoke': async (input) => {
      await fresh()
      const who = await whoOf(input, [], context)
      return { ...who, removed: await revoke(context, who) }
    },
    'allowlist.list': async (input) => {
      const { channel } = fieldsOf(input, ['channel'])
      const only = channel === undefined ? undefined : await channelOf(channel)
      await fresh()
      return { senders: views(context).filter((one) => only === undefined || one.channel === only) }
    },
    'allowlist.add': async (input) => {
      const { expiresInMs, note } = fieldsOf(input, [...whoFields, 'expiresInMs', 'note'])
      return add(context, await whoOf(input, ['expiresInMs', 'note']), lifeOf(expiresInMs), note)
    },
    'allowlist.remove': async (input) => {
      await fresh()
      const who = await whoOf(input, [], context)
      return remove(context, who)
    },
    'allowlist.review': async (input) => {
      const { unusedMs = days(30) } = fieldsOf(input, ['unusedMs'])
      const forMs = lifeOf(unusedMs) ?? days(30)
      await fresh()
      return { findings: review(context, forMs) }
    },
  }
}

async function approve(
  context: PeopleContext,
  channel: string,
  code: string,
  notify: boolean,
): Promise<object> {
  const request = await takeRequest(context, channel, code)
  const { account, sender, replyTo } = request
  const place = { channel, account }
  // An entry that the owner made is worth more than a pairing and stays.
  if (!isGood(context, context.list.find(place, sender), 'listed')) {
    await context.list.admit({ ...place, sender, kind: 'paired', since: context.now() })
  }
  tell(context, 'pairing.approved', request, 'by the owner')
  const told = notify && context.say?.(place, sender, welcome, replyTo) === true
  return { ...place, sender, notified: told }
}

async function takeRequest(
  context: PeopleContext,
  channel: string,
  code: string,
): Promise<PairingRequest> {
  try {
    return await context.book.take(channel, code)
  } catch (thrown) {
    if (thrown instanceof Failure && thrown.code !== 'PAIRING_CODE') {
      context.evidence?.append({ event: 'pairing.refused', channel, because: thrown.code })
    }
    throw thrown
  }
}

/** Ends a pairing and a pending request; an entry of the owner is not a pairing. */
async function revoke(context: PeopleContext, who: Who): Promise<readonly Place[]> {
  const ended: Place[] = []
  for (const place of placesOf(context, who)) {
    const found = context.list.find(place, who.sender)
    if (found?.kind === 'listed') {
      throw no(
        'SENDER_LISTED',
        `${who.channel}:${who.sender} was added, not paired: use "hardshell allowlist remove".`,
      )
    }
    const asked = await context.book.forget(place, who.sender)
    const paired = await context.list.remove(place, who.sender)
    if (!asked && !paired) continue
    ended.push(place)
    tell(context, 'pairing.revoked', { ...place, sender: who.sender }, 'by the owner')
  }
  if (ended.length > 0) return ended
  throw no(
    'SENDER_UNKNOWN',
    `${who.channel}:${who.sender} is not paired; see "hardshell allowlist list".`,
  )
}

async function add(
  context: PeopleContext,
  who: Who,
  forMs: number | undefined,
  note: unknown,
): Promise<SenderView> {
  const words = note === undefined ? undefined : textOf(note, '--note').slice(0, noteChars)
  const account = oneAccount(context, who)
  const now = context.now()
  const admitted: Admitted = {
    channel: who.channel,
    account,
    sender: who.sender,
    kind: 'listed',
    since: now,
    ...(forMs === undefined ? {} : { expiresAt: now + forMs }),
    ...(words === undefined ? {} : { note: words }),
  }
  await context.list.admit(admitted)
  await context.book.forget(admitted, who.sender)
  tell(context, 'sender.added', admitted, 'by the owner')
  return viewOf(context, admitted)
}

async function remove(context: PeopleContext, who: Who): Promise<object> {
  const removed: Place[] = []
  for (const place of placesOf(context, who)) {
    const asked = await context.book.forget(place, who.sender)
    const was = await context.list.remove(place, who.sender)
    if (!asked && !was) continue
    removed.push(place)
    tell(context, 'sender.removed', { ...place, sender: who.sender }, 'by the owner')
  }
  const still = configured(context)
    .filter((one) => one.channel === who.channel && one.sender === who.sender)
    .filter((one) => who.account === undefined || one.account === who.account)
    .map(({ from }) => from)
  if (removed.length === 0 && still.length === 0) {
    throw no('SENDER_UNKNOWN', `${who.channel}:${who.sender} is on no list.`)
  }
  return { channel: who.channel, sender: who.sender, removed, stillListed: [...new Set(still)] }
}

/** Entries that nobody has used for a while, that have expired, or whose account is not configured any more. */
function review(context: PeopleContext, unusedMs: number): readonly ReviewFinding[] {
  const now = context.now()
  return views(context).flatMap((view): readonly ReviewFinding[] => {
    if (view.expiresAt !== undefined && view.expiresAt <= now) return [{ ...view, why: 'expired' }]
    const known = context.accounts?.some(
      ({ channel, account }) => channel === view.channel && account === view.account,
    )
    if (known === false) return [{ ...view, why: 'unknown' }]
    const since = Math.max(view.lastSpoke ?? 0, view.since ?? 0)
    return now - since >= unusedMs ? [{ ...view, why: 'unused' }] : []
  })
}

function views(context: PeopleContext): readonly SenderView[] {
  const stored = context.list.all().map((admitted) => viewOf(context, admitted))
  const order = ({ channel, account, sender }: SenderView) => `${channel}/${account}/${sender}`
  return [...configured(context), ...stored].toSorted((a, b) => (order(a) < order(b) ? -1 : 1))
}

function configured(context: PeopleContext): readonly SenderView[] {
  return (context.accounts ?? []).flatMap(({ channel, account, listed }) =>
    listed.map(({ sender, where }) => {
      const place = { channel, account }
      return { ...place, sender, from: where, ...spoken(context, place, sender) }
    }),
  )
}

function viewOf(context: PeopleContext, admitted: Admitted): SenderView {
  const { kind, ...rest } = admitted
  const from = kind === 'listed' ? 'allowlist add' : 'pairing'
  return { ...rest, from, ...spoken(context, admitted, admitted.sender) }
}

function spoken({ list }: PeopleContext, place: Place, sender: string): { lastSpoke?: number } {
  const at = list.lastSpoke(place, sender)
  return at === undefined ? {} : { lastSpoke: at }
}

function isGood(
  { now }: PeopleContext,
  found: Admitted | undefined,
  kind: Admitted['kind'],
): boolean {
  return found?.kind === kind && (found.expiresAt === undefined || found.expiresAt > now())
}

/** A sender whom the owner named. */
interface Who {
  readonly channel: string
  readonly sender: string
  readonly account: string | undefined
}

const whoFields = ['channel', 'sender', 'account']

/** `known` are those who may be named by the very id of their messages, whether a list would take it or not. */
async function whoOf(
  input: unknown,
  more: readonly string[],
  known?: Pick<PeopleContext, 'list' | 'book'>,
): Promise<Who> {
  const { channel, sender, account } = fieldsOf(input, [...whoFields, ...more])
  const { normaliseEntry } = await import('../channels/all.ts')
  const name = await channelOf(channel)
  const given = textOf(sender, 'a sender')
  const of = account === undefined ? undefined : textOf(account, '--account')
  const there = known === undefined ? undefined : asKnown(known, name, given)
  if (there !== undefined) return { channel: name, sender: there, account: of }
  const entry = name === gatewayPlace.channel ? identityEntry(given) : normaliseEntry(name, given)
  if ('problem' in entry) throw bad('SENDER_ID', `${entry.problem}.`)
  return { channel: name, sender: entry.id, account: of }
}

/** The sender who was let in, or who asks, under exactly this id, or with its escapes for what is not plain. */
function asKnown(
  { list, book }: Pick<PeopleContext, 'list' | 'book'>,
  channel: string,
  given: string,
): string | undefined {
  const here = [...list.all(), ...book.pending()].filter((one) => one.channel === channel)
  const found =
    here.find(({ sender }) => sender === given) ??
    here.find(({ sender }) => escaped(sender) === given)
  return found?.sender
}

/** An identity that somebody vouches for, as the lists show it. */
function identityEntry(given: string): Entry {
  return /^(?:jwt:[0-9a-f]{12}|tailscale):[^\u0000-\u001f\u007f]+$/.test(given)
    ? { id: given }
    : { problem: 'This is no identity: write it as "hardshell allowlist list" shows it' }
}

async function channelOf(value: unknown): Promise<string> {
  const { channelNamed, channels } = await import('../channels/all.ts')
  const name = textOf(value, 'a channel').toLowerCase()
  if (channelNamed(name) !== undefined || name === gatewayPlace.channel) return name
  const known = channels.map((one) => one.name).join(', ')
  throw bad('CHANNEL_UNKNOWN', `"${name.slice(0, 40)}" is not a channel; known are ${known}.`)
}

/** The accounts that a sender may be on: the named one, or every one of the channel. */
function placesOf(context: PeopleContext, { channel, account }: Who): readonly Place[] {
  if (account !== undefined) return [{ channel, account }]
  const accounts = new Set([
    ...accountIds(context, channel),
    ...context.list.all().flatMap((one) => (one.channel === channel ? [one.account] : [])),
    ...context.book.pending().flatMap((one) => (one.channel === channel ? [one.account] : [])),
  ])
  return [...accounts].map((one) => ({ channel, account: one }))
}

function accountIds({ accounts }: PeopleContext, channel: string): readonly string[] {
  return (accounts ?? []).flatMap((one) => (one.channel === channel ? [one.account] : []))
}

/** The one account that an entry is for. */
function oneAccount(context: PeopleContext, { channel, account }: Who): string {
  const known = accountIds(context, channel)
  if (context.accounts === undefined) return account ?? 'default'
  const [only, ...more] = known
  if (only === undefined) {
    throw bad(
      'CHANNEL_UNCONFIGURED',
      channel === gatewayPlace.channel
        ? 'Identities without an entry may not ask; list them in gateway.dmPolicies.allowlist.'
        : `channels.${channel} is not configured, so nobody speaks there.`,
    )
  }
  if (account === undefined) {
    if (more.length === 0) return only
    throw bad(
      'ACCOUNT_NEEDED',
      `${channel} has the accounts ${known.join(', ')}: name one with --account.`,
    )
  }
  if (known.includes(account)) return account
  throw bad(
    'ACCOUNT_UNKNOWN',
    `${channel} has no account "${account.slice(0, 40)}", only ${known.join(', ')}.`,
  )
}

function tell(
  { evidence }: PeopleContext,
  event: string,
  { channel, account, sender }: Place & { readonly sender: string },
  because: string,
): void {
  const name = account === 'default' ? channel : `${channel}/${account}`
  evidence?.append({ event, channel: name, sender: `${channel}:${sender}`, because })
}

const bad = (code: string, message: string) => new Failure(code, message, { exitCode: 2 })
const no = (code: string, message: string) => new Failure(code, message)

function fieldsOf(input: unknown, known: readonly string[]): Readonly<Record<string, unknown>> {
  if (input === undefined || input === null) return {}
  if (typeof input !== 'object' || Array.isArray(input)) {
    throw bad('PEOPLE_INPUT', 'The input is not an object.')
  }
  const unknown = Object.keys(input).find((key) => !known.includes(key))
  if (unknown === undefined) return { ...input }
  throw bad('PEOPLE_INPUT', `The input has an unknown field "${unknown.slice(0, 64)}".`)
}

function textOf(value: unknown, what: string): string {
  if (typeof value === 'string' && value !== '' && value.length <= 512) return value
  throw bad('PEOPLE_INPUT', `Give ${what}.`)
}

function lifeOf(value: unknown): number | undefined {
  if (value === undefined) return undefined
  const { min, max } = life
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max) {
    return value
  }
  throw bad('PEOPLE_INPUT', 'A time must be between "1m" and "3660d".')
}
