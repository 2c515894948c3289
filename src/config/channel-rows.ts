/** The rows of the table of settings for channels: they stand under `channels.<name>` and each of its accounts. */
import { limits } from '../limits.ts'
import { choice, count, flag, list, text, urlPath } from './readers.ts'
import type { Reader } from './readers.ts'
import { key, optional } from './row.ts'
import type { Row, Table } from './row.ts'

/** A secret in plain text; its own rules come with what it is for. */
export const secretText: Reader<string> = text('a secret')

const perSender = { min: 1, max: 1_000_000 }

/** A sender or identity in a list of people; `"*"` is refused with the migration. */
export const senderEntry = text('a stable id like "telegram:12345"', {
  pattern: /^(?!\*$)[^\u0000-\u001f\u007f]+$/,
  code: 'WILDCARD',
  remedy: 'Remove "*" and set dm.policy to "pairing": each new sender then asks, and you approve.',
})

/** One of a few words, where "open" was once another. */
function policy<const C extends readonly string[]>(words: C, remedy: string): Reader<C[number]> {
  const reader = choice(words)
  const removed = { code: 'POLICY_OPEN', message: 'is "open", which was removed', remedy } as const
  return {
    ...reader,
    read: (value) => (value === 'open' ? { ok: false, troubles: [removed] } : reader.read(value)),
  }
}

const dmPolicy = policy(
  ['pairing', 'allowlist', 'disabled'],
  'Replace it: { "dm": { "policy": "pairing" } }, and remove "*" from allowFrom; then approve each sender with "hardshell pairing approve".',
)
const groupPolicy = policy(
  ['allowlist', 'disabled'],
  'Replace it with "allowlist" and list the groups by id in "groups".',
)

/** The root of an API: scheme, host and perhaps a path, without a slash at its end. */
const apiRoot: Reader<string> = {
  ...text('an address like "https://api.telegram.org"'),
  schema: { type: 'string', pattern: '^https?://' },
  read: (value) => {
    const remedy = 'Use scheme, host and optional path, like "https://api.telegram.org".'
    const fits =
      typeof value === 'string' &&
      value.length <= 1024 &&
      /^https?:\/\/[^\s/?#@\\]+(?:\/[!$&'()*+,\-.0-9:;=@A-Z_a-z~/]*)?$/i.test(value)
    const url = fits ? URL.parse(value) : null
    if (url === null) {
      const troubles = [{ code: 'FORMAT', message: 'is not the root of an API', remedy } as const]
      return { ok: false, troubles }
    }
    return { ok: true, value: `${url.origin}${url.pathname.replace(/\/+$/, '')}` }
  },
}

const loopback = text('a loopback address and port like "127.0.0.1:8082"', {
  pattern:
    /^(?:127(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3}|\[::1\]):(?:[1-9]\d{0,3}|[1-5]\d{4}|6[0-4]\d{3}|65[0-4]\d\d|655[0-2]\d|6553[0-5])$/,
  remedy: 'Use 127.0.0.1 or [::1] and a port that nothing else uses.',
})

const replyText = text('"silent", "code", or a text with "{code}"', {
  pattern: /^(?:silent|code|[^]*\{code\}[^]*)$/,
  remedy: 'Use "code" for the short answer, "silent" for none, or put {code} into your own words.',
})

const pointer = text('a JSON pointer like "/message/from/id"', {
  pattern: /^(?:\/(?:[^~/]|~[01])*)+$/,
  remedy: 'Begin it with "/", as in RFC 6901.',
})

const secretOf = (doc: string): Row<string | undefined> =>
  optional(secretText, doc, { secret: true })
const textOf = (doc: string): Row<string | undefined> => optional(text('a text'), doc)

/** What the services ask for; each channel says which of these are its own, and all others are refused there. */
const serviceRows = {
  webhookSecret: secretOf('Telegram, Zalo: the secret_token that setWebhook was given.'),
  botToken: secretOf('Telegram, Slack, Discord, Zalo: the bot credential, for answers.'),
  agentToken: secretOf(
    'Telegram, Signal: what a bot that calls out through us holds and proves itself with.',
  ),
  signingSecret: secretOf('Slack: the Signing Secret of the app.'),
  publicKey: textOf('Discord: the Public Key of the application.'),
  appSecret: secretOf('WhatsApp, Messenger, Instagram: the App Secret.'),
  verifyToken: secretOf('WhatsApp, Messenger, Instagram: the word typed as Verify token.'),
  accessToken: secretOf('WhatsApp, Messenger, Instagram: the token for sending.'),
  channelSecret: secretOf('LINE: the Channel secret.'),
  channelAccessToken: secretOf('LINE: the token for replies.'),
  audienceType: textOf('Google Chat: "project-number" or "app-url".'),
  audience: textOf('Google Chat: the project number, or the address of the app.'),
  appPrincipal: textOf('Google Chat add-ons: the service account that signs.'),
  appId: textOf('Microsoft Teams: the Microsoft App ID.'),
  tenantId: textOf('Microsoft Teams: the tenant whose people may be listed.'),
  appPassword: secretOf('Microsoft Teams: the client secret, for answers.'),
  authToken: secretOf('Twilio: the Auth Token of the account.'),
  publicWebhookUrl: textOf(
    'Twilio: the address that Twilio calls, which is part of what it signs.',
  ),
  hsToken: secretOf('Matrix: hs_token of the registration file.'),
  asToken: secretOf('Matrix: as_token of the registration file, for answers.'),
  token: secretOf('Mattermost: the token of the outgoing webhook or slash command.'),
  botSecret: secretOf('Nextcloud Talk: the secret that occ talk:bot:install was given.'),
  backend: textOf('Nextcloud Talk: the address of the server.'),
  password: secretOf('BlueBubbles: the server password.'),
  serverUrl: textOf('BlueBubbles: the server, for answers.'),
  secret: secretOf('Generic: the secret that the sending program shares with you.'),
  proof: textOf('Generic: "standard-webhooks", "bearer" or "header".'),
  secretHeader: textOf('Generic: the header that carries the secret, for proof "header".'),
} as const satisfies Table

/** The names of the services' own keys. */
export const serviceKeys: readonly string[] = Object.keys(serviceRows)

/** Where the generic channel finds its facts. */
const pointerRows = {
  'pointers.sender': optional(pointer, "Generic: where the sender's id stands in the body."),
  'pointers.room': optional(pointer, 'Generic: where the id of the room stands.'),
  'pointers.dm.pointer': optional(pointer, 'Generic: the value that tells a direct chat.'),
  'pointers.dm.equals': textOf('Generic: what that value is in a direct chat.'),
  'pointers.mention.pointer': optional(pointer, 'Generic: the value that tells a mention.'),
  'pointers.mention.equals': textOf('Generic: what that value is when the bot is meant.'),
  'pointers.mention.contains': textOf('Generic: what that list holds when the bot is meant.'),
  'pointers.id': optional(pointer, 'Generic: where the id of the message stands.'),
} as const satisfies Table

const placeRows = {
  enabled: optional(flag, 'False takes this group or topic off the list.'),
  requireMention: optional(flag, 'A message here counts only if it mentions the bot.'),
  allowFrom: optional(list(senderEntry), 'Who may speak here, in place of groupAllowFrom.'),
}

const accountOwnRows = {
  webhookPath: optional(urlPath, 'The exact path on which the service posts its updates.'),
  listen: optional(
    loopback,
    "Telegram, Signal: where a bot that calls out reaches Hardshell in place of the service's API root.",
    { restart: true },
  ),
  apiRoot: optional(apiRoot, "The service's real API root, where it is not the usual one."),
  ...serviceRows,
  ...pointerRows,
  botIds: optional(list(text('an id')), 'Ids of the bot itself, for mentions and its own words.'),
  botNames: optional(list(text('a name')), 'User names of the bot, without "@", for mentions.'),
  directRooms: optional(
    list(text('a room id')),
    'Matrix, Nextcloud Talk: rooms that are direct chats; their messages do not say so.',
  ),
} as const satisfies Table

const policyRows = {
  'dm.policy': key(dmPolicy, 'pairing', 'What a stranger in a direct chat gets.'),
  allowFrom: key(list(senderEntry), [], 'Senders who may speak in a direct chat.'),
  groupPolicy: key(groupPolicy, 'allowlist', 'Which groups are served: the listed ones, or none.'),
  groupAllowFrom: optional(
    list(senderEntry),
    'Senders who may speak in a group; without it those of allowFrom, never the paired.',
  ),
  'groups.*.enabled': placeRows.enabled,
  'groups.*.requireMention': placeRows.requireMention,
  'groups.*.allowFrom': placeRows.allowFrom,
  'groups.*.topics.*.enabled': placeRows.enabled,
  'groups.*.topics.*.requireMention': placeRows.requireMention,
  'groups.*.topics.*.allowFrom': placeRows.allowFrom,
  requireMention: optional(
    flag,
    'A message in a group counts only if it mentions the bot; true unless mentionGating is false.',
  ),
  requestsPerMinute: key(
    count(limits.channelRequestsPerMinute),
    limits.channelRequestsPerMinute.default,
    'Proven webhooks a minute of one account; the service is asked to bring the rest again.',
  ),
  messagesPerMinute: key(count(perSender), 20, 'Messages a minute of one sender.'),
  messagesPerDay: key(count(perSender), 500, 'Messages a day of one sender.'),
  reply: key(replyText, 'code', 'What a stranger is answered in a direct chat.'),
  repliesPerHour: key(count(perSender), 60, 'Answers to strangers in an hour.'),
} as const satisfies Table

/** The keys of one channel. */
export const channelRows = { ...accountOwnRows, ...policyRows } satisfies Table

type ValueOf<R> = R extends Row<infer T> ? T : never
type Optional<R extends Table> = { readonly [K in keyof R]: Row<ValueOf<R[K]> | undefined> }

/** The same rows without defaults: what is not given is the channel's. */
function withoutDefaults<R extends Table>(rows: R): Optional<R> {
  const bare = Object.entries(rows).map(([name, row]) => [name, { ...row, default: undefined }])
  return Object.fromEntries(bare) as Optional<R>
}

/** The keys of one account of a channel: policies that are not given are those of the channel. */
export const accountRows = withoutDefaults(channelRows)
