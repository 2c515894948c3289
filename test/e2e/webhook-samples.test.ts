/** Every signed sample of every service with a webhook goes over the real road and ends as expected. */
import assert from 'node:assert/strict'
import { test } from 'node:test'

import type { WebhookRequest } from '../../src/channels/channel.ts'
import {
  accountFor,
  channelFor,
  fixture,
  keysOf,
  policyOf,
  requestOf,
  type Fixture,
  type Sample,
} from '../support/channels.ts'
import { openDesk, recordingCall, TestClock } from '../support/people.ts'
import { openRoad } from '../support/road.ts'
import { post } from '../support/webhooks.ts'

const files = [
  'telegram-webhook',
  'slack-http',
  'discord-interactions',
  'meta',
  'line',
  'googlechat',
  'msteams',
  'twilio',
  'matrix-appservice',
  'mattermost',
  'nextcloud-talk',
  'zalo',
  'bluebubbles',
  'generic-json',
]

/** The keys of a fixture, as the service's own addresses would serve them. */
function keyService(of: Fixture, sample: Sample) {
  const keys = keysOf(of, sample)
  const set = { keys: keys.flatMap(({ jwk, kid }) => (jwk === undefined ? [] : [{ ...jwk, kid }])) }
  const certificates = Object.fromEntries(keys.map(({ kid, x509 }) => [kid, x509]))
  return recordingCall(({ url }) => {
    const origin = new URL(url).origin
    const document = url.includes('openid')
      ? { jwks_uri: `${origin}/keys` }
      : url.includes('x509')
        ? certificates
        : set
    return { body: JSON.stringify(document) }
  }).call
}

/** Headers of a request; two of one name go out as two. */
function headersOf({ headers }: WebhookRequest): Record<string, string> {
  const all: Record<string, string> = {}
  for (let i = 0; i < headers.length; i += 2) all[headers[i] ?? ''] = headers[i + 1] ?? ''
  return all
}

async function roadFor(file: string, of: Fixture, sample: Sample) {
  const clock = new TestClock()
  clock.ms = of.now
  const { settings } = (await openDesk(clock)).desk
  const desk = {
    ...settings,
    channel: channelFor(file, sample),
    account: accountFor(file, of, sample),
    policy: policyOf(of),
    listed: [],
  }
  return openRoad(desk, clock, { call: keyService(of, sample) })
}

for (const file of files) {
  test(`${file}: every sample passes, is answered or is withheld as it should`, async () => {
    const of = fixture(file)
    const samples = of.vectors.filter(({ request }) => request !== undefined)
    assert.ok(samples.length > 0)
    for (const sample of samples) {
      const road = await roadFor(file, of, sample)
      try {
        await judged(sample, requestOf(of, sample), road)
      } finally {
        await road.close()
      }
    }
  })
}

async function judged(
  sample: Sample,
  request: WebhookRequest,
  road: Awaited<ReturnType<typeof roadFor>>,
): Promise<void> {
  const { name } = sample
  const { proven, action } = sample.expect
  const path = request.query === '' ? request.path : `${request.path}?${request.query}`
  const written = { path, headers: headersOf(request), body: request.body }
  const answer = await post(road.port, written, { method: request.method })
  const refused = !proven && action !== 'respond-200-empty-never-forward'
  assert.equal(answer.status, refused ? 401 : 200, `${name}: ${answer.body}`)
  const [first, ...more] = road.passed
  assert.equal(more.length, 0, name)
  if (action === 'forward') assert.deepEqual(first?.body, request.body, name)
  else if (action === 'split-and-resign') assert.ok(first !== undefined, name)
  else assert.equal(first, undefined, name)
  const codes = road.people.book.pending().length
  assert.ok(action === 'pair' ? codes > 0 : action === 'split-and-resign' || codes === 0, name)
  if (action === 'drop') {
    assert.ok(
      road.records.every(({ event }) => event === 'message.withheld'),
      name,
    )
  }
}
