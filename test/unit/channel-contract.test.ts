/** Every channel runs the suite of test/contract/channel.ts. */
import assert from 'node:assert/strict'
import type { Buffer } from 'node:buffer'
import { createHmac, createPrivateKey, sign } from 'node:crypto'
import { test } from 'node:test'
import { channels } from '../../src/channels/all.ts'
import type { WebhookRequest } from '../../src/channels/channel.ts'
import { channelContract } from '../contract/channel.ts'
import type { Specimen } from '../contract/channel.ts'
import { accountFor, channelFor, changed, fixture, keysOf } from '../support/channels.ts'
import { requestOf, withHeader } from '../support/channels.ts'

interface Row {
  readonly file: string
  readonly sample: string
  readonly proofHeaders: readonly string[]
  /** The proof over a new body; without it the body is not covered. */
  readonly signed?: (
    request: WebhookRequest,
    secret: Readonly<Record<string, string>>,
  ) => WebhookRequest
}

const mac = (algorithm: string, key: string | Uint8Array, ...parts: (string | Buffer)[]) => {
  const made = createHmac(algorithm, key)
  for (const part of parts) made.update(part)
  return made
}

/** PKCS #8 for a raw Ed25519 seed (RFC 8410 §7). */
const ed25519 = (seed: string) =>
  createPrivateKey({
    key: Uint8Array.from(
      (`302e020100300506032b657004220420${seed}`.match(/../g) ?? []).map((one) =>
        parseInt(one, 16),
      ),
    ) as Buffer,
    format: 'der',
    type: 'pkcs8',
  })

const clock = '1764000000'

const rows: readonly Row[] = [
  {
    file: 'telegram-webhook',
    sample: 'tg-01-dm-allowed',
    proofHeaders: ['x-telegram-bot-api-secret-token'],
  },
  {
    file: 'slack-http',
    sample: 'slack-01-dm-allowed',
    proofHeaders: ['x-slack-signature', 'x-slack-request-timestamp'],
    signed: (of, { signingSecret = '' }) =>
      withHeader(
        of,
        'X-Slack-Signature',
        `v0=${mac('sha256', signingSecret, `v0:${clock}:`, of.body).digest('hex')}`,
      ),
  },
  {
    file: 'discord-interactions',
    sample: 'dc-04-slash-dm-owner',
    proofHeaders: ['x-signature-ed25519', 'x-signature-timestamp'],
    signed: (of, { privateSeedHex = '' }) => {
      const signed = Uint8Array.from([...new TextEncoder().encode(clock), ...of.body])
      const signature = sign(null, signed, ed25519(privateSeedHex))
      return withHeader(of, 'X-Signature-Ed25519', signature.toString('hex'))
    },
  },
  {
    file: 'meta',
    sample: 'meta-01-text-owner',
    proofHeaders: ['x-hub-signature-256'],
    signed: (of, { appSecret = '' }) =>
      withHeader(
        of,
        'X-Hub-Signature-256',
        `sha256=${mac('sha256', appSecret, of.body).digest('hex')}`,
      ),
  },
  {
    file: 'meta',
    sample: 'meta-11-messenger-owner',
    proofHeaders: ['x-hub-signature-256'],
    signed: (of, { appSecret = '' }) =>
      withHeader(
        of,
        'X-Hub-Signature-256',
        `sha256=${mac('sha256', appSecret, of.body).digest('hex')}`,
      ),
  },
  {
    file: 'line',
    sample: 'line-01-dm-owner',
    proofHeaders: ['x-line-signature'],
    signed: (of, { channelSecret = '' }) =>
      withHeader(of, 'x-line-signature', mac('sha256', channelSecret, of.body).digest('base64')),
  },
  { file: 'googlechat', sample: 'gchat-01-dm-owner', proofHeaders: ['authorization'] },
  { file: 'googlechat', sample: 'gchat-08-app-url-aud', proofHeaders: ['authorization'] },
  { file: 'msteams', sample: 'teams-01-dm-owner', proofHeaders: ['authorization'] },
  { file: 'twilio', sample: 'tw-01-sms-owner', proofHeaders: ['x-twilio-signature'] },
  { file: 'matrix-appservice', sample: 'mx-01-dm-owner', proofHeaders: ['authorization'] },
  { file: 'mattermost', sample: 'mm-02-json-owner', proofHeaders: [] },
  {
    file: 'nextcloud-talk',
    sample: 'nc-01-room-mention',
    proofHeaders: ['x-nextcloud-talk-random', 'x-nextcloud-talk-signature'],
  },
  { file: 'zalo', sample: 'zalo-01-dm-owner', proofHeaders: ['x-bot-api-secret-token'] },
  { file: 'bluebubbles', sample: 'bb-01-dm-owner', proofHeaders: [] },
  {
    file: 'generic-json',
    sample: 'gen-01-dm-allowed',
    proofHeaders: ['webhook-id', 'webhook-timestamp', 'webhook-signature'],
  },
]

const covered = new Set<string>(['signal', 'instagram'])

for (const row of rows) {
  const of = fixture(row.file)
  const sample = of.vectors.find(({ name }) => name === row.sample)
  if (sample === undefined) throw new Error(`no sample ${row.sample}`)
  const channel = channelFor(row.file, sample)
  covered.add(channel.name)
  const request = requestOf(of, sample)
  const specimen: Specimen = {
    channel,
    account: accountFor(row.file, of, sample),
    keys: keysOf(of, sample),
    request,
    now: of.now,
    proofHeaders: row.proofHeaders,
    resign(body) {
      const fresh = changed(request, { body })
      return row.signed?.(fresh, of.secret) ?? fresh
    },
  }
  channelContract(`${channel.name} (${row.sample})`, specimen)
  if (row.signed !== undefined) {
    test(`${channel.name}: a signature made for the body by the rule of the service is accepted`, async () => {
      const { proven } = await import('../../src/channels/proof.ts')
      const again = specimen.resign(request.body)
      const proof = await proven(channel, again, specimen.account, specimen.keys, of.now)
      assert.deepEqual(proof, { ok: true })
    })
  }
}

test('every channel runs the suite, or shares the file of one that does', () => {
  assert.deepEqual(
    channels.map(({ name }) => name).filter((name) => !covered.has(name)),
    [],
  )
})
