/** Tokens of Google Chat and Microsoft Teams: what a JWT must say, and what no JWT can do (RFC 8725). */
import assert from 'node:assert/strict'
import { Buffer } from 'node:buffer'
import { createHmac, createPublicKey, generateKeyPairSync, sign } from 'node:crypto'
import { test } from 'node:test'
import type { Account, Channel, TrustedKey, WebhookRequest } from '../../src/channels/channel.ts'
import { googlechat } from '../../src/channels/googlechat.ts'
import { msteams } from '../../src/channels/msteams.ts'
import { proven } from '../../src/channels/proof.ts'
import type { Fixture, Sample } from '../support/channels.ts'
import {
  accountFor,
  changed,
  fixture,
  jwt,
  keysOf,
  requestOf,
  withHeader,
} from '../support/channels.ts'

const json = 'application/json'
const now = 1_764_000_000_000

const post = (type: string, body: string, headers: Record<string, string> = {}, query = '') => ({
  method: 'POST',
  path: '/hook',
  query,
  headers: ['Content-Type', type, ...Object.entries(headers).flat()],
  body: Buffer.from(body),
})

const ok = async (
  channel: Channel,
  of: WebhookRequest,
  account: Account,
  keys: readonly TrustedKey[] = [],
  at = now,
) => (await proven(channel, of, account, keys, at)).ok

const first = (of: Fixture): Sample => of.vectors[0] ?? assert.fail('no sample')

/** The token of a request replaced. */
const bearing = (of: WebhookRequest, token: string) =>
  withHeader(of, 'Authorization', `Bearer ${token}`)

for (const file of ['googlechat', 'msteams'] as const) {
  const of = fixture(file)
  const sample = first(of)
  const channel = file === 'googlechat' ? googlechat : msteams
  const account = accountFor(file, of, sample)
  const keys = keysOf(of, sample)
  const request = requestOf(of, sample)
  const claims = { ...sample.request?.jwt?.claims }
  const pem = of.secret['keyPem'] ?? ''
  const other = of.secret['otherKeyPem'] ?? ''
  const with_ = (more: object, key = pem, kid = 'h5-key-1') =>
    bearing(request, jwt({ ...claims, ...more }, kid, key, of.now))
  const good = (from: WebhookRequest, at = of.now) => ok(channel, from, account, keys, at)

  test(`${file}: a token of another key, key id, issuer or audience proves nothing`, async () => {
    assert.equal(await good(with_({})), true)
    assert.equal(await good(with_({}, other)), false)
    assert.equal(await good(with_({}, pem, 'unknown')), false)
    assert.equal(await good(with_({ iss: 'https://evil.example' })), false)
    assert.equal(await good(with_({ iss: undefined })), false)
    assert.equal(await good(with_({ aud: 'other' })), false)
    assert.equal(await good(with_({ aud: undefined })), false)
    assert.equal(await ok(channel, request, account, []), false)
  })

  test(`${file}: a token is good five minutes beyond its end and not longer, and never without one`, async () => {
    const exp = of.now / 1000
    assert.equal(await good(with_({ exp }), of.now + 299_000), true)
    assert.equal(await good(with_({ exp }), of.now + 301_000), false)
    assert.equal(await good(with_({ exp: undefined })), false)
    assert.equal(await good(with_({ nbf: exp + 299 })), true)
    assert.equal(await good(with_({ nbf: exp + 301 })), false)
  })

  test(`${file}: no other algorithm, and no key that the token brings along (RFC 8725)`, async () => {
    const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
    const body = part({ ...claims, exp: of.now / 1000 + 3600 })
    const none = `${part({ alg: 'none', kid: 'h5-key-1' })}.${body}.`
    assert.equal(await good(bearing(request, none)), false)
    const head = part({ alg: 'HS256', kid: 'h5-key-1' })
    const publicPem = createPublicKey(pem).export({ type: 'spki', format: 'pem' })
    const confused = createHmac('sha256', publicPem).update(`${head}.${body}`).digest('base64url')
    assert.equal(await good(bearing(request, `${head}.${body}.${confused}`)), false)
    const mine = generateKeyPairSync('rsa', { modulusLength: 2048 })
    const jwk = mine.publicKey.export({ format: 'jwk' })
    for (const extra of [
      { jwk },
      { jku: 'https://evil.example/jwks' },
      { x5u: 'https://evil.example/c' },
    ]) {
      const headed = part({ alg: 'RS256', kid: 'h5-key-1', ...extra })
      const signature = sign('sha256', Buffer.from(`${headed}.${body}`), mine.privateKey).toString(
        'base64url',
      )
      assert.equal(await good(bearing(request, `${headed}.${body}.${signature}`)), false)
    }
    for (const junk of ['', 'x', 'a.b.c', '..', `${head}.${body}`]) {
      assert.equal(await good(bearing(request, junk)), false)
    }
    assert.equal(
      await good(
        withHeader(request, 'Authorization', `Basic ${jwt(claims, 'h5-key-1', pem, of.now)}`),
      ),
      false,
    )
  })
}

test("googlechat: any other Google account's token for our address proves nothing", async () => {
  const of = fixture('googlechat')
  const sample = of.vectors.find(({ name }) => name === 'gchat-08-app-url-aud') ?? first(of)
  const account = accountFor('googlechat', of, sample)
  const principal = 'service-123@gcp-sa-gsuiteaddons.iam.gserviceaccount.com'
  const request = requestOf(of, sample)
  const prove = (more: object, as: Account = account) => {
    const token = jwt(
      { ...sample.request?.jwt?.claims, ...more },
      'h5-key-1',
      of.secret['keyPem'] ?? '',
      of.now,
    )
    return ok(googlechat, bearing(request, token), as, keysOf(of, sample), of.now)
  }
  assert.equal(await prove({}), true)
  assert.equal(await prove({ email: 'mallory@gmail.com' }), false)
  assert.equal(await prove({ email: undefined }), false)
  assert.equal(await prove({ email_verified: false }), false)
  assert.equal(await prove({ email: principal }), false)
  const settings = { ...account.settings, appPrincipal: principal }
  assert.equal(await prove({ email: principal }, { ...account, settings }), true)
})

test('googlechat: an add-on brings its token in the body, and a project number does not take that', async () => {
  const of = fixture('googlechat')
  const sample = of.vectors.find(({ name }) => name === 'gchat-13-addon') ?? first(of)
  const account = accountFor('googlechat', of, sample)
  const request = requestOf(of, sample)
  const token = jwt(
    { ...sample.request?.jwt?.claims },
    'h5-key-1',
    of.secret['keyPem'] ?? '',
    of.now,
  )
  const body = {
    ...(JSON.parse(sample.request?.body ?? '') as object),
    authorizationEventObject: { systemIdToken: token },
  }
  const inBody = changed(withHeader(request, 'Authorization'), {
    body: Buffer.from(JSON.stringify(body)),
  })
  assert.equal(await ok(googlechat, inBody, account, keysOf(of, sample), of.now), true)
  const byNumber = accountFor('googlechat', of, first(of))
  assert.equal(await ok(googlechat, inBody, byNumber, keysOf(of, first(of)), of.now), false)
})

test('googlechat: a message that names two authors, or a mention of another app, does not count', () => {
  const of = fixture('googlechat')
  const account = accountFor('googlechat', of, first(of))
  const event = (more: object, message: object) =>
    googlechat.messages(
      post(
        json,
        JSON.stringify({
          type: 'MESSAGE',
          user: { name: 'users/1', type: 'HUMAN' },
          space: { name: 'spaces/A', spaceType: 'SPACE' },
          message,
          ...more,
        }),
      ),
      { ...account, bot: { ids: ['users/77'], names: [] } },
    )[0]
  assert.equal(event({}, { sender: { name: 'users/2' } })?.withhold, 'the event names two authors')
  const mention = (name: string, type = 'BOT') =>
    event({}, { annotations: [{ type: 'USER_MENTION', userMention: { user: { name, type } } }] })
      ?.mentioned
  assert.equal(mention('users/77'), true)
  assert.equal(mention('users/app'), true)
  assert.equal(mention('users/88'), false)
  assert.equal(mention('users/77', 'HUMAN'), false)
})

test('msteams: the service address must be Microsoft’s and the one in the token', async () => {
  const of = fixture('msteams')
  const sample = first(of)
  const account = accountFor('msteams', of, sample)
  const prove = (serviceUrl: unknown, claim: unknown = serviceUrl, channelId = 'msteams') => {
    const body = { ...(JSON.parse(sample.request?.body ?? '') as object), serviceUrl, channelId }
    const token = jwt(
      { ...sample.request?.jwt?.claims, serviceurl: claim },
      'h5-key-1',
      of.secret['keyPem'] ?? '',
      of.now,
    )
    const request = changed(bearing(requestOf(of, sample), token), {
      body: Buffer.from(JSON.stringify(body)),
    })
    return ok(msteams, request, account, keysOf(of, sample), of.now)
  }
  assert.equal(await prove('https://smba.trafficmanager.net/teams/'), true)
  assert.equal(
    await prove('https://smba.trafficmanager.net/emea/', 'https://smba.trafficmanager.net/teams/'),
    false,
  )
  assert.equal(await prove('https://evil.example/'), false)
  assert.equal(await prove('https://smba.trafficmanager.net.evil.example/'), false)
  assert.equal(await prove('http://smba.trafficmanager.net/'), false)
  assert.equal(await prove(undefined, undefined), false)
  assert.equal(await prove('https://smba.trafficmanager.net/teams/', null), false)
  assert.equal(
    await prove(
      'https://smba.trafficmanager.net/teams/',
      'https://smba.trafficmanager.net/teams/',
      'webchat',
    ),
    false,
  )
})

test('msteams: a key that is not endorsed for Teams proves nothing', async () => {
  const of = fixture('msteams')
  const account = accountFor('msteams', of, first(of))
  const keys = keysOf(of, first(of))
  const request = requestOf(of, first(of))
  const prove = (endorsements: readonly string[]) =>
    ok(
      msteams,
      request,
      account,
      keys.map((key) => ({ ...key, endorsements })),
      of.now,
    )
  assert.equal(await prove(['msteams']), true)
  assert.equal(await prove(['webchat']), false)
  assert.equal(await prove([]), false)
})

test('msteams: guests without an object id, and other tenants, are nobody', () => {
  const of = fixture('msteams')
  const account = accountFor('msteams', of, first(of))
  const real = JSON.parse(first(of).request?.body ?? '') as Record<string, object>
  const read = (more: object) =>
    msteams.messages(post(json, JSON.stringify({ ...real, ...more })), account)[0]
  assert.equal(read({ from: { id: '29:x' } })?.sender.id, null)
  assert.equal(read({ from: { id: '29:x', aadObjectId: 'olga@example.com' } })?.sender.id, null)
  assert.equal(read({ from: real['recipient'] })?.sender.kind, 'self')
  assert.match(read({ channelData: { tenant: { id: 'other' } } })?.withhold ?? '', /tenant/)
  assert.match(read({ channelData: {}, conversation: { id: 'a:1' } })?.withhold ?? '', /tenant/)
  assert.equal(read({ text: undefined, value: { x: 1 } })?.class, 'interaction')
})

test('the keys of a token are fetched only from its service, over https', () => {
  const number = { audienceType: 'project-number', audience: '1' }
  const sources = [
    googlechat.keySource?.({
      ...accountFor('googlechat', fixture('googlechat'), first(fixture('googlechat'))),
      settings: number,
    }),
    googlechat.keySource?.({
      ...accountFor('googlechat', fixture('googlechat'), first(fixture('googlechat'))),
      settings: { ...number, audienceType: 'app-url' },
    }),
    msteams.keySource?.(accountFor('msteams', fixture('msteams'), first(fixture('msteams')))),
  ]
  assert.deepEqual(
    sources.map((one) => [new URL(one?.url ?? '').origin, one?.form]),
    [
      ['https://www.googleapis.com', 'x509'],
      ['https://www.googleapis.com', 'jwks'],
      ['https://login.botframework.com', 'openid'],
    ],
  )
})
