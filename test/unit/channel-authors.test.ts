/**
 * Of everything that a sample holds, only the place where its service names the author lets it speak: each place in turn is
 * given to the owner, left out, or joined by one that names the owner too.
 */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { test } from 'node:test'

import type { Message } from '../../src/channels/channel.ts'
import { gatewayMessage } from '../../src/channels/discord.ts'
import { streamMessage } from '../../src/channels/signal.ts'
import { judgeMessage } from '../../src/senders/policy.ts'
import type { Fixture, Sample } from '../support/channels.ts'
import { accountFor, channelFor, fixture, policyOf, requestOf } from '../support/channels.ts'

type Step = string | number
type Path = readonly Step[]

/** The owner of each file's policy, and the places that name an author there; `N` is a position in a list. */
const rows: Readonly<Record<string, { owner: string | number; authors: readonly string[] }>> = {
  'telegram-webhook': {
    owner: 111_111_111,
    authors: ['message.from', 'callback_query.from', 'inline_query.from'],
  },
  'slack-http': {
    owner: 'U0OWNER001',
    authors: [
      ...['event.user', 'event.message.user', 'event.assistant_thread.user_id', 'user'],
      // Of another kind, so that no id of a person is one: what an app posts is named by the app's own.
      ...['event.bot_id', 'event.message.bot_id'],
    ],
  },
  'discord-interactions': {
    owner: '100000000000000001',
    authors: ['user', 'member', 'member.user'],
  },
  'discord-gateway': {
    owner: '100000000000000001',
    authors: ['d.author', 'd.user_id', 'd.user', 'd.webhook_id'],
  },
  meta: {
    owner: '15551230001',
    authors: [
      'entry.N.changes.N.value.messages.N.from',
      'entry.N.changes.N.value.messages.N.from_user_id',
      'entry.N.messaging.N.sender',
    ],
  },
  line: { owner: `U${'1'.repeat(32)}`, authors: ['events.N.source.userId'] },
  'signal-sse': { owner: '+15551230001', authors: ['envelope.sourceNumber'] },
}

/** Names under which services, and programs that read them, look for somebody. */
const names = [
  'actor author bot_id contact context edited event from from_user from_user_id group_id guild_id id',
  'interaction_metadata inviter member message parent_user_id payload sender sender_chat sender_id',
  'source sourceNumber sourceUuid user userId user_id user_team username wa_id webhook_id',
  'constructor toString',
].flatMap((some) => some.split(' '))

function placesOf(value: unknown, at: Path = []): readonly Path[] {
  if (typeof value !== 'object' || value === null) return [at]
  const inner = Object.entries(value).flatMap(([key, of]) =>
    placesOf(of, [...at, Array.isArray(value) ? Number(key) : key]),
  )
  return [at, ...inner]
}

const under = (value: unknown, path: Path): unknown =>
  path.reduce<unknown>((of, step) => (of as Record<Step, unknown>)[step], value)

/** A copy with another value at a place, or without the place. */
function changed(value: unknown, [step, ...rest]: Path, by: unknown): unknown {
  if (step === undefined) return by
  const inner = changed((value as Record<Step, unknown>)[step], rest, by)
  if (Array.isArray(value)) return value.map((of: unknown, i) => (i === step ? inner : of))
  return { ...(value as object), [step]: inner }
}

interface Readable {
  readonly body: unknown
  read(body: unknown): readonly Message[]
}

/** A sample as an object, and how its adapter reads such an object; undefined for what no object is. */
function readable(file: string, of: Fixture, sample: Sample): Readable | undefined {
  const account = accountFor(file, of, sample)
  if (file === 'discord-gateway') {
    const read = (body: unknown) => {
      const message = gatewayMessage(body, account)
      return message === undefined ? [] : [message]
    }
    return { body: sample.gateway, read }
  }
  if (file === 'signal-sse') {
    return {
      body: sample.sse?.data,
      read: (body) => [streamMessage(JSON.stringify(body), account)],
    }
  }
  if (!sample.expect.proven || sample.expect.action === 'respond') return undefined
  const channel = channelFor(file, sample)
  const request = requestOf(of, sample)
  const sent = request.body.toString()
  const read = (text: string) => channel.messages({ ...request, body: Buffer.from(text) }, account)
  if (sent.startsWith('{')) {
    return { body: JSON.parse(sent) as unknown, read: (body) => read(JSON.stringify(body)) }
  }
  const payload = new URLSearchParams(sent).get('payload')
  if (payload === null) return undefined
  return {
    body: JSON.parse(payload) as unknown,
    read: (body) => read(`payload=${encodeURIComponent(JSON.stringify(body))}`),
  }
}

for (const [file, { owner, authors }] of Object.entries(rows)) {
  test(`${file}: the owner's id in any place but the author's lets nobody speak`, () => {
    const of = fixture(file)
    const policy = policyOf(of)
    const nobody = { listed: new Set<string>(), paired: new Set<string>() }
    const strangers = of.vectors.filter(({ expect }) =>
      expect.messages.every(
        ({ sender }) => sender.kind !== 'self' && !policy.allowFrom.has(sender.id ?? ''),
      ),
    )
    const found = new Set<string>()
    for (const sample of strangers) {
      const one = readable(file, of, sample)
      if (one === undefined) continue
      const speaks = (body: unknown) =>
        one.read(body).some((message) => judgeMessage(message, policy, nobody).verdict === 'speak')
      if (speaks(one.body)) continue
      for (const path of placesOf(one.body)) {
        const at = under(one.body, path)
        const isObject = typeof at === 'object' && at !== null && !Array.isArray(at)
        const added = isObject ? names.filter((name) => !Object.hasOwn(at, name)) : []
        const more = added.map((name) => [...path, name])
        const places = path.length === 0 ? more : [path, ...more]
        for (const place of places) {
          for (const by of [
            owner,
            { id: owner },
            { user: { id: owner } },
            [owner],
            true,
            null,
            undefined,
          ]) {
            if (!speaks(changed(one.body, place, by))) continue
            found.add(place.map((step) => (typeof step === 'number' ? 'N' : step)).join('.'))
          }
        }
      }
    }
    assert.ok(found.size > 0)
    const named = (place: string) => authors.some((one) => place === one || place === `${one}.id`)
    assert.deepEqual(
      [...found].filter((place) => !named(place)),
      [],
    )
  })
}
