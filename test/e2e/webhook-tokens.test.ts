/** Services that prove themselves by a token over keys that we fetch: every signed sample, through a real sidecar. */
import assert from 'node:assert/strict'
import { test, type TestContext } from 'node:test'

import type { Call, Incoming, Outgoing } from '../../src/senders/outgoing.ts'
import { Failure } from '../../src/errors.ts'
import { accountFor, fixture, requestOf, type Fixture, type Sample } from '../support/channels.ts'
import { eventually, startSidecar } from '../support/sidecar.ts'
import { post, publicHost } from '../support/webhooks.ts'

/** What the services' own hosts answer in these tests; everything else cannot be reached. */
function servicesAt(answers: Readonly<Record<string, unknown>>): {
  call: Call
  asked: Outgoing[]
  down: { is: boolean }
} {
  const asked: Outgoing[] = []
  const down = { is: false }
  const call: Call = (outgoing) => {
    asked.push(outgoing)
    const answer = answers[outgoing.url]
    if (down.is || answer === undefined) {
      return Promise.reject(new Failure('CALL_FAILED', 'no answer in time'))
    }
    const found: Incoming = { status: 200, headers: {}, body: JSON.stringify(answer) }
    return Promise.resolve(found)
  }
  return { call, asked, down }
}

async function sidecarFor(t: TestContext, file: string, of: Fixture, sample: Sample, call: Call) {
  const account = accountFor(file, of, sample)
  const { allowFrom, groupAllowFrom, groups } = of.policy
  const sidecar = await startSidecar({
    call,
    config: {
      gateway: { publicOrigins: [`https://${publicHost}`] },
      channels: {
        [file]: {
          webhookPath: account.webhookPath,
          ...account.settings,
          ...(file === 'msteams' ? { appPassword: 'client-secret' } : {}),
          allowFrom,
          groupAllowFrom,
          groups,
        },
      },
    },
  })
  t.after(() => sidecar.stop())
  return sidecar
}

const now = (of: Fixture): Fixture => ({ ...of, now: Date.now() })

function written(of: Fixture, sample: Sample) {
  const { path, query, headers, body } = requestOf(of, sample)
  const pairs: Record<string, string> = {}
  for (let i = 0; i < headers.length; i += 2) pairs[headers[i] ?? ''] = headers[i + 1] ?? ''
  return { path: query === '' ? path : `${path}?${query}`, headers: pairs, body }
}

const teamsKeys = 'https://login.botframework.com/v1/.well-known/openidconfiguration'
const teamsSet = 'https://login.botframework.com/v1/.well-known/keys'
const googleCertificates =
  'https://www.googleapis.com/service_accounts/v1/metadata/x509/chat@system.gserviceaccount.com'

async function everySample(t: TestContext, file: string, call: Call, samples: readonly Sample[]) {
  const of = now(fixture(file))
  const [first] = samples
  if (first === undefined) throw new Error('no samples')
  const sidecar = await sidecarFor(t, file, of, first, call)
  for (const sample of samples) {
    const before = sidecar.agent.seen.length
    const answer = await post(sidecar.port, written(of, sample), {
      method: sample.request?.method ?? 'POST',
    })
    const speaks = sample.expect.messages.some(({ verdict }) => verdict === 'speak')
    const expected = sample.expect.proven ? 200 : 401
    assert.equal(answer.status, expected, `${sample.name}: ${answer.body}`)
    assert.equal(sidecar.agent.seen.length - before, speaks ? 1 : 0, sample.name)
    if (speaks) {
      const seen = sidecar.agent.seen.at(-1)
      const sent = written(of, sample)
      assert.deepEqual(seen?.body, sent.body, sample.name)
      assert.equal(seen?.headers.authorization, sent.headers['Authorization'], sample.name)
    }
  }
}

test('every Teams sample is judged as expected, by keys from the metadata', async (t) => {
  const of = fixture('msteams')
  const { call, asked } = servicesAt({
    [teamsKeys]: { jwks_uri: teamsSet },
    [teamsSet]: of.secret.jwks,
  })
  const samples = of.vectors.filter(({ request }) => request !== undefined)
  await everySample(t, 'msteams', call, samples)
  const fetched = asked.filter(({ method }) => method === 'GET').map(({ url }) => url)
  assert.deepEqual(fetched, [teamsKeys, teamsSet])
})

test('every Google Chat sample of the project number is judged as expected', async (t) => {
  const of = fixture('googlechat')
  const { call, asked } = servicesAt({ [googleCertificates]: { 'h5-key-1': of.secret['x509'] } })
  const samples = of.vectors.filter(
    ({ request }) => request?.jwt?.claims['iss'] === 'chat@system.gserviceaccount.com',
  )
  assert.ok(samples.length > 5)
  await everySample(t, 'googlechat', call, samples)
  assert.equal(asked.length, 1)
})

test('without keys nothing is proven: the service is asked to come again, and the agent gets nothing', async (t) => {
  const of = now(fixture('googlechat'))
  const { call, down } = servicesAt({ [googleCertificates]: { 'h5-key-1': of.secret['x509'] } })
  down.is = true
  const [owner] = of.vectors
  if (owner === undefined) throw new Error('no sample')
  const sidecar = await sidecarFor(t, 'googlechat', of, owner, call)
  const answer = await post(sidecar.port, written(of, owner))
  assert.equal(answer.status, 503)
  assert.equal(answer.headers['retry-after'], '5')
  assert.deepEqual(sidecar.agent.seen, [])
})

test('a stranger on Teams is told by the connector, with a token of the bot', async (t) => {
  const of = now(fixture('msteams'))
  const login = 'https://login.microsoftonline.com/botframework.com/oauth2/v2.0/token'
  const activities = 'https://smba.trafficmanager.net/teams/v3/conversations/a%3A666/activities'
  const { call, asked } = servicesAt({
    [teamsKeys]: { jwks_uri: teamsSet },
    [teamsSet]: of.secret.jwks,
    [login]: { access_token: 'T1', expires_in: 3600 },
    [activities]: { id: '1' },
  })
  const stranger = of.vectors.find(({ name }) => name === 'teams-02-dm-stranger')
  if (stranger === undefined) throw new Error('no sample')
  const sidecar = await sidecarFor(t, 'msteams', of, stranger, call)
  assert.equal((await post(sidecar.port, written(of, stranger))).status, 200)
  await eventually(() => asked.some(({ url }) => url === activities), 'the stranger is told')
  const told = asked.find(({ url }) => url === activities)
  assert.ok(told?.headers.includes('Bearer T1'))
  assert.match(told?.body ?? '', /Pairing code: [A-HJ-NP-Z2-9]{8}/)
  assert.deepEqual(sidecar.agent.seen, [])
})
