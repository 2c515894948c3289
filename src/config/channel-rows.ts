/** The rows of the table of settings for channels: they stand under `channels.<name>` and each of its accounts. */
import { choice, count, flag, list, origin, text, urlPath } from './readers.ts'
import type { Reader } from './readers.ts'
import { key, optional } from './row.ts'
import type { Table } from './row.ts'

/** The capability that channels and the policies for people come with. */
export const peopleLater = { what: 'channels and the policies for people' }

/** A secret in plain text; its own rules come with what it is for. */
export const secretText: Reader<string> = text('a secret')

const perSender = { min: 1, max: 1_000_000 }

/** A sender or identity in a list of people; `"*"` is refused with the migration. */
export const senderEntry = text('a stable id like "telegram:12345"', {
  pattern: /^(?!\*$)[^\u0000-\u001f\u007f]+$/,
  code: 'WILDCARD',
  remedy: 'Remove "*" and set dm.policy to "pairing": each new sender then asks, and you approve.',
})

const dmPolicy = {
  ...choice(['pairing', 'allowlist', 'disabled']),
  read: (value: unknown) =>
    value === 'open'
      ? ({
          ok: false,
          troubles: [
            {
              code: 'POLICY_OPEN',
              message: 'is "open", which was removed',
              remedy:
                'Replace it: { "dm": { "policy": "pairing" } }, and remove "*" from allowFrom; then approve each sender with "hardshell pairing approve".',
            },
          ],
        } as const)
      : choice(['pairing', 'allowlist', 'disabled']).read(value),
}

const later = { since: peopleLater }
/** The keys of one channel, and of one account of it. */
export const channelRows = {
  webhookPath: optional(urlPath, 'The exact path on which the service posts its updates.', later),
  secret: optional(secretText, "The service's proof secret for webhooks.", {
    secret: true,
    ...later,
  }),
  botToken: optional(secretText, 'The bot credential that Hardshell swaps in for the agent.', {
    secret: true,
    ...later,
  }),
  listen: optional(text('a loopback address and port'), "The listener for the bot's own calls.", {
    restart: true,
    ...later,
  }),
  apiRoot: optional(origin, "The service's real API root.", later),
  'dm.policy': key(dmPolicy, 'pairing', 'What a stranger in a direct chat gets.', later),
  allowFrom: key(list(senderEntry), [], 'Senders who may speak in a direct chat.', later),
  groupPolicy: key(
    choice(['allowlist', 'disabled']),
    'allowlist',
    'Which groups are served.',
    later,
  ),
  groupAllowFrom: key(list(senderEntry), [], 'Senders who may speak in a group.', later),
  'groups.*.requireMention': key(flag, true, 'This group needs a mention of the bot.', later),
  requireMention: key(
    flag,
    true,
    'A message in a group counts only if it mentions the bot.',
    later,
  ),
  messagesPerMinute: key(count(perSender), 20, 'Messages a minute of one sender.', later),
  messagesPerDay: key(count(perSender), 500, 'Messages a day of one sender.', later),
  reply: key(text('"silent", "code" or a text'), 'code', 'What a stranger is answered.', later),
  repliesPerHour: key(count(perSender), 60, 'Answers to strangers in an hour.', later),
} satisfies Table
