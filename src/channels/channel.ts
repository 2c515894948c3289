/**
 * The contract of a channel: pure functions over bytes. Keys are fetched, clocks read, replies sent
 * and replays remembered by the host; a channel only says what it sees. It does not know which road
 * (webhook, poll, socket) it serves.
 */
import type { Buffer } from 'node:buffer'

import type { Millis } from '../limits.ts'
import type { IdRule } from './entries.ts'

/**
 * A webhook request as the host read it: bounded, and with every header that was sent,
 * `Authorization` included.
 */
export interface WebhookRequest {
  readonly method: string
  /** Canonical path without the query. */
  readonly path: string
  /** The query without its question mark, byte for byte. */
  readonly query: string
  /** Flat name, value, name, value …; repeated headers stay repeated. */
  readonly headers: readonly string[]
  /** The raw body, never decompressed or re-encoded. */
  readonly body: Buffer
}

/** Who the agent itself is on the channel. */
export interface BotIdentity {
  /** Every stable id of the bot there. */
  readonly ids: readonly string[]
  /** User names without "@", for services whose mentions carry the name. */
  readonly names: readonly string[]
}

/**
 * One configured account of a channel; the host builds it from `channels.<name>[.accounts.<id>]`.
 */
export interface Account {
  /** Name of the account, `default` where there is only one. */
  readonly id: string
  /** The exact path that the service calls; empty when the channel takes no webhooks. */
  readonly webhookPath: string
  /** Values by the keys of `Channel.settings`; secrets are resolved. */
  readonly settings: Readonly<Record<string, string>>
  readonly bot: BotIdentity
  /**
   * Rooms known to be direct chats, for services whose messages do not say so (Matrix, Nextcloud
   * Talk).
   */
  readonly directRooms?: ReadonlySet<string>
  /** Where the generic channel finds its facts. */
  readonly mapping?: Mapping
}

/** JSON pointers (RFC 6901) into the body of a generic webhook. */
export interface Mapping {
  readonly sender: string
  readonly room: string
  readonly dm: { readonly pointer: string; readonly equals: string }
  readonly mention?: {
    readonly pointer: string
    readonly equals?: string
    readonly contains?: string
  }
  readonly id?: string
}

/**
 * One key of `channels.<name>` that the channel needs, so that a missing secret is a start-up
 * error.
 */
export interface SettingRow {
  readonly key: string
  readonly secret: boolean
  /** Needed as soon as the service can reach us. */
  readonly required: boolean
  readonly say: string
  /** What is wrong with a value and what to do, or nothing. Never quotes the value. */
  readonly problem?: (value: string) => string | undefined
}

/** Public keys of a service, fetched and refreshed by the host. */
export interface TrustedKey {
  readonly kid: string
  /** A JWK (RFC 7517), or a PEM certificate. */
  readonly jwk?: Readonly<Record<string, unknown>>
  readonly x509?: string
  /** Bot Framework: the services that may use this key. */
  readonly endorsements?: readonly string[]
}

/** Where the host fetches the keys of a channel. */
export interface KeySource {
  readonly url: string
  /**
   * `jwks`: a key set · `openid`: metadata with `jwks_uri` · `x509`: an object of key id → PEM
   * certificate.
   */
  readonly form: 'jwks' | 'openid' | 'x509'
}

/**
 * Whether the request proves to come from the service. `because` is for the log, in our own words.
 */
export type Proof = { readonly ok: true } | { readonly ok: false; readonly because: string }

/** What kind of proof it is; it decides whether a batch can be thinned. */
export type ProofKind = 'secret' | 'bearer' | 'hmac' | 'asymmetric' | 'none'

/**
 * Who wrote a message. Only `user`, `bot` and `webhook` can ever be let in, and the last two only
 * by their id.
 */
export type SenderKind =
  | 'user'
  | 'bot'
  | 'self'
  | 'channel'
  | 'anonymous'
  | 'webhook'
  | 'service'
  | 'system'
  | 'unknown'

/**
 * What a message is to the policy. `probe` is the service testing us, `status` a report about the
 * bot's own sending.
 */
export type MessageClass =
  | 'message'
  | 'edit'
  | 'command'
  | 'interaction'
  | 'reaction'
  | 'membership'
  | 'status'
  | 'system'
  | 'probe'
  | 'unknown'

/** The author. `id` decides, or one of `aliases`; `handle` is shown and never decides. */
export interface Sender {
  readonly id: string | null
  readonly aliases: readonly string[]
  readonly handle?: string
  readonly kind: SenderKind
  /** Workspace, tenant or home server, where the service has one. */
  readonly scope?: string
}

/** Where it was said. */
export interface Room {
  readonly id: string | null
  readonly kind: 'dm' | 'group' | 'channel' | 'unknown'
  readonly parentId?: string
  readonly threadId?: string
  readonly scope?: string
}

/** How the agent was addressed. */
export type MentionedBy = 'entity' | 'reply' | 'command' | 'event' | 'pattern'

/** One message as the policy judges it, whatever road it came by. */
export interface Message {
  readonly channel: string
  readonly account: string
  /** The service's own name of the event. */
  readonly eventType: string
  readonly class: MessageClass
  readonly sender: Sender
  readonly room: Room
  readonly mentioned: boolean | 'unknown'
  readonly mentionedBy?: MentionedBy
  /**
   * The utterance: the same words delivered as two events have it in common, so that one code goes
   * out.
   */
  readonly dedupeKey: string
  /** The delivery: a second one with the same key is a replay, or the service's own retry. */
  readonly deliveryKey: string
  /** When it was said, ms since the epoch. */
  readonly at?: number
  /** Position in the batch; what `without` takes. */
  readonly index: number
  /** Why nobody may speak with it, whoever wrote it. */
  readonly withhold?: string
  /** Another program answers in this chat now, so a stranger there is asked nothing. */
  readonly overheard?: true
  /** Our own answer to a probe. A probe without one is forwarded, but only when it is authentic. */
  readonly answer?: Reply
  /** What the channel needs to answer it: ids and one-use tokens of the service. */
  readonly replyTo: Readonly<Record<string, string>>
}

/** An HTTP answer to the service. */
export interface Reply {
  readonly status: number
  /** Flat name, value … */
  readonly headers: readonly string[]
  readonly body: string
}

/** How the host puts a credential into an API call. */
export type CredentialPlace =
  | 'path'
  | 'bearer'
  | 'bot'
  | 'query-password'
  | 'client-credentials'
  | 'nextcloud-bot'
  | 'none'

/** A call of the service's API as data, for the host's bounded queue. */
export interface ApiCall {
  readonly method: 'POST' | 'PUT'
  /** Absolute; `{credential}` stands where the service wants it in the path. */
  readonly url: string
  readonly headers: readonly string[]
  readonly body: string
  /** The setting that holds the credential, and its place. */
  readonly credential: { readonly setting: string; readonly place: CredentialPlace }
}

/**
 * An answer to a stranger: in the response where the protocol allows it, else by a call. `{}`:
 * there is no way.
 */
export interface Outgoing {
  readonly sync?: Reply
  readonly api?: ApiCall
}

/** A call that the service took with a success and did not do. `because` is of a known form and fit for the audit log. */
export interface Undone {
  readonly because: string
  /** It may be done later. */
  readonly again: boolean
}

/**
 * A batch without the refused messages, with the headers that changed; or why it cannot be thinned.
 */
export type Thinned =
  | { readonly ok: true; readonly body: string; readonly headers: readonly string[] }
  | { readonly ok: false; readonly because: string }

/** One messaging service. */
export interface Channel {
  readonly name: string
  readonly proof: ProofKind
  /** Hosts of the service's API. */
  readonly hosts: readonly string[]
  readonly settings: readonly SettingRow[]
  /** What a stable sender id and room id look like here. */
  readonly ids: IdRule
  /** Media types of the body; the type is not signed, so a foreign one is refused. */
  readonly contentTypes: readonly string[]
  /**
   * How far the signed time may be from ours, both ways; undefined when the service signs no time.
   */
  readonly freshness?: Millis
  /** The keys that `authentic` needs. */
  keySource?(account: Account): KeySource | undefined
  /** Its service calls paths below `webhookPath` too; that of all other channels only the path itself. */
  readonly callsBelow?: true
  /** The request is this account's: exact path and method. */
  carries(method: string, path: string, account: Account): boolean
  /** Requests that are answered before any proof and never forwarded. */
  probe?(request: WebhookRequest, account: Account): Reply | undefined
  /**
   * Call it through `proven`, which checks what all channels share. `now` in ms since the epoch.
   */
  authentic(
    request: WebhookRequest,
    account: Account,
    keys: readonly TrustedKey[],
    now: number,
  ): Proof | Promise<Proof>
  /**
   * What an authentic request says. Empty only for a batch with nothing in it; unreadable bytes are
   * one `unknown`.
   */
  messages(request: WebhookRequest, account: Account): readonly Message[]
  /**
   * The request without the messages at these indexes, proven anew where the proof covers the body.
   */
  without(request: WebhookRequest, account: Account, refused: ReadonlySet<number>): Thinned
  /** Tells the writer of a message something. */
  invite(message: Message, text: string, account: Account): Outgoing
  /** Where the service answers 2xx to what it does not do: what its answer says of it. */
  undone?(answer: string): Undone | undefined
  /** The answer with which the service is content and does not retry, when nothing is forwarded. */
  withheld(messages: readonly Message[], account: Account): Reply
}

/** What every adapter fills in the same way. */
export interface Draft {
  readonly eventType: string
  readonly class: MessageClass
  readonly sender?: Sender
  readonly room?: Room
  readonly mentioned?: boolean | 'unknown'
  readonly mentionedBy?: MentionedBy | undefined
  readonly dedupeKey: string
  readonly deliveryKey?: string
  readonly at?: number | undefined
  readonly index?: number
  readonly withhold?: string | undefined
  readonly overheard?: boolean
  readonly answer?: Reply
  readonly replyTo?: Readonly<Record<string, string>>
}

/** Nobody that we could name. */
export const nobodyKnown: Sender = { id: null, aliases: [], kind: 'unknown' }
/** The service itself. */
export const theService: Sender = { id: null, aliases: [], kind: 'system' }
/** No room that we could name. */
export const nowhere: Room = { id: null, kind: 'unknown' }

/** A message from what an adapter found. */
export function message(channel: string, account: Account, draft: Draft): Message {
  const { mentionedBy, at, withhold, overheard, answer } = draft
  return {
    channel,
    account: account.id,
    eventType: draft.eventType.slice(0, 100),
    class: draft.class,
    sender: draft.sender ?? nobodyKnown,
    room: draft.room ?? nowhere,
    mentioned: draft.mentioned ?? false,
    ...(mentionedBy !== undefined && { mentionedBy }),
    dedupeKey: draft.dedupeKey,
    deliveryKey: draft.deliveryKey ?? draft.dedupeKey,
    ...(at !== undefined && { at }),
    index: draft.index ?? 0,
    ...(withhold !== undefined && { withhold }),
    ...(overheard === true && { overheard }),
    ...(answer !== undefined && { answer }),
    replyTo: draft.replyTo ?? {},
  }
}

/** A message that nobody can make sense of: dropped, with the reason in the audit log. */
export function unknown(
  channel: string,
  account: Account,
  because: string,
  key: string,
  index = 0,
): Message {
  return message(channel, account, {
    eventType: 'unknown',
    class: 'unknown',
    dedupeKey: key,
    index,
    withhold: because,
  })
}

/** `Channel.without` of a channel whose requests hold one message: all or nothing. */
export function indivisible(): Thinned {
  return { ok: false, because: 'a request of this channel holds one message' }
}

/** An answer without a body. */
export const emptyOk: Reply = { status: 200, headers: [], body: '' }

/** A JSON answer. */
export function jsonReply(body: unknown, status = 200): Reply {
  return { status, headers: ['Content-Type', 'application/json'], body: JSON.stringify(body) }
}

/** The usual recognition: POST on exactly the configured path. */
export function postOnPath(method: string, path: string, account: Account): boolean {
  return method === 'POST' && account.webhookPath !== '' && path === account.webhookPath
}

/**
 * What is wrong with the settings of an account, one line each; a channel with a line here must not
 * start.
 */
export function settingProblems(channel: Channel, account: Account): readonly string[] {
  const lines: string[] = []
  for (const row of channel.settings) {
    const value = account.settings[row.key] ?? ''
    const key = `channels.${channel.name}.${row.key}`
    if (value === '') {
      if (row.required) lines.push(`${key} is missing: ${row.say}`)
      continue
    }
    const problem = row.problem?.(value)
    if (problem !== undefined) lines.push(`${key} ${problem}`)
  }
  return lines
}
