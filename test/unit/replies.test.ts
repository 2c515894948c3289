/** Answers by the service's API: retries, bounds, credentials in their place, and never another host. */
import assert from 'node:assert/strict'
import { createHmac } from 'node:crypto'
import { test } from 'node:test'
import { channelNamed } from '../../src/channels/all.ts'
import type { ApiCall, Channel, CredentialPlace } from '../../src/channels/channel.ts'
import { Failure } from '../../src/errors.ts'
import { checkAddress, Credentials } from '../../src/senders/credentials.ts'
import type { Incoming, Outgoing } from '../../src/senders/outgoing.ts'
import { ReplyQueue, type ReplyEnd, type ReplyQueueDeps } from '../../src/senders/replies.ts'
import {
  accountWith,
  countingRandom,
  recordingCall,
  settled,
  TestClock,
} from '../support/people.ts'

function channel(name: string): Channel {
  const found = channelNamed(name)
  if (found === undefined) throw new Error(name)
  return found
}

const telegram = channel('telegram')
const token = '123:abcDEF-xyz_0'
const account = accountWith({ botToken: token })

const apiCall = (place: CredentialPlace, setting: string, url: string, body = '{}'): ApiCall => ({
  method: 'POST',
  url,
  headers: ['Content-Type', 'application/json'],
  body,
  credential: { place, setting },
})
const send = apiCall('path', 'botToken', 'https://api.telegram.org/bot{credential}/sendMessage')

type Answer = (outgoing: Outgoing, nth: number) => Partial<Incoming> | 'no answer'

function queueWith(answer: Answer, more: Partial<ReplyQueueDeps> = {}) {
  const { call, asked } = recordingCall(answer)
  const ends: ReplyEnd[] = []
  const queue = new ReplyQueue({
    call,
    now: new TestClock().now,
    random: countingRandom(),
    max: 10,
    attempts: 4,
    backOffMs: [1, 1, 1],
    onEnd: (end) => void ends.push(end),
    ...more,
  })
  return { queue, asked, ends }
}

async function until(ends: readonly ReplyEnd[], count: number): Promise<void> {
  for (let i = 0; i < 500 && ends.length < count; i += 1) {
    await new Promise((resolve) => setTimeout(resolve, 2))
  }
}

const outcome = ({ sent, attempts, status, because }: ReplyEnd) => ({
  sent,
  attempts,
  status,
  because,
})

test('an answer that the service takes is sent once', async () => {
  const { queue, asked, ends } = queueWith(() => ({ status: 200 }))
  queue.send({ channel: telegram, account, call: send, to: '7' })
  await until(ends, 1)
  assert.deepEqual(ends.map(outcome), [{ sent: true, attempts: 1, status: 200, because: 'taken' }])
  assert.equal(asked[0]?.url, `https://api.telegram.org/bot${token}/sendMessage`)
  assert.equal(queue.size, 0)
})

test('a service that is away or busy is tried four times and no more', async () => {
  for (const answer of ['no answer', { status: 500 }, { status: 503 }, { status: 429 }] as const) {
    const { queue, asked, ends } = queueWith(() => answer)
    queue.send({ channel: telegram, account, call: send, to: '7' })
    await until(ends, 1)
    assert.equal(asked.length, 4)
    assert.deepEqual([ends[0]?.sent, ends[0]?.attempts], [false, 4])
  }
})

test('a service that comes back gets the answer', async () => {
  const { queue, ends } = queueWith((_, nth) => ({ status: nth < 3 ? 502 : 200 }))
  queue.send({ channel: telegram, account, call: send, to: '7' })
  await until(ends, 1)
  assert.deepEqual(ends.map(outcome), [{ sent: true, attempts: 3, status: 200, because: 'taken' }])
})

test('what will not be better the next time is not tried again', async () => {
  for (const status of [301, 302, 400, 401, 403, 404]) {
    const { queue, asked, ends } = queueWith(() => ({ status, headers: { location: 'http://x' } }))
    queue.send({ channel: telegram, account, call: send, to: '7' })
    await until(ends, 1)
    assert.equal(asked.length, 1, String(status))
    assert.equal(ends[0]?.sent, false)
  }
})

test('a pause that the service asks for is kept, and one of hours is not waited for', async () => {
  const long = queueWith(() => ({ status: 429, headers: { 'retry-after': '3600' } }))
  long.queue.send({ channel: telegram, account, call: send, to: '7' })
  await until(long.ends, 1)
  assert.equal(long.asked.length, 1)
  const short = queueWith((_, nth) =>
    nth === 1 ? { status: 429, headers: { 'retry-after': '0.05' } } : { status: 200 },
  )
  const from = performance.now()
  short.queue.send({ channel: telegram, account, call: send, to: '7' })
  await until(short.ends, 1)
  assert.ok(performance.now() - from >= 45)
  assert.equal(short.ends[0]?.sent, true)
})

test('answers of one account keep their order, and accounts do not wait for each other', async () => {
  const release: (() => void)[] = []
  const order: string[] = []
  const { queue, ends } = queueWith(() => ({}), {
    call: async (outgoing) => {
      order.push(outgoing.body ?? '')
      if (outgoing.body === 'slow') await new Promise<void>((resolve) => release.push(resolve))
      return { status: 200, headers: {}, body: '' }
    },
  })
  const other = accountWith({ botToken: token }, 'work')
  queue.send({ channel: telegram, account, call: { ...send, body: 'slow' }, to: '7' })
  queue.send({ channel: telegram, account, call: { ...send, body: 'second' }, to: '7' })
  queue.send({ channel: telegram, account: other, call: { ...send, body: 'other' }, to: '7' })
  await settled()
  assert.deepEqual(order, ['slow', 'other'])
  release[0]?.()
  await until(ends, 3)
  assert.deepEqual(order, ['slow', 'other', 'second'])
})

test('the tenth answer waits and the eleventh is dropped', async () => {
  const release: (() => void)[] = []
  const { queue, ends } = queueWith(() => ({}), {
    call: async () => {
      await new Promise<void>((resolve) => release.push(resolve))
      return { status: 200, headers: {}, body: '' }
    },
  })
  for (let i = 0; i < 10; i += 1) queue.send({ channel: telegram, account, call: send, to: `${i}` })
  assert.equal(queue.size, 10)
  assert.equal(ends.length, 0)
  queue.send({ channel: telegram, account, call: send, to: 'one more' })
  assert.deepEqual(
    ends.map(({ sent, reply, because }) => [sent, reply.to, because]),
    [[false, 'one more', '10 answers are waiting']],
  )
  for (let i = 0; i < 10; i += 1) {
    await settled()
    release.shift()?.()
  }
  await until(ends, 11)
  assert.equal(queue.size, 0)
})

test('a stop does not wait for back-off, and drops what waits', async () => {
  const { queue, ends } = queueWith(() => ({ status: 503 }), { backOffMs: [60_000] })
  queue.send({ channel: telegram, account, call: send, to: '7' })
  queue.send({ channel: telegram, account, call: send, to: '8' })
  await settled()
  const from = performance.now()
  await queue.close()
  assert.ok(performance.now() - from < 5000)
  assert.deepEqual(
    ends.map(({ sent }) => sent),
    [false, false],
  )
  queue.send({ channel: telegram, account, call: send, to: '9' })
  assert.equal(ends.at(-1)?.because, 'Hardshell stops')
})

test('Slack’s 200 to what it did not do is not a success', async () => {
  const slack = channel('slack')
  const post = apiCall('bearer', 'botToken', 'https://slack.com/api/chat.postMessage')
  const { queue, ends } = queueWith(() => ({ body: '{"ok":false,"error":"channel_not_found"}' }))
  queue.send({ channel: slack, account: accountWith({ botToken: 'xoxb-1' }), call: post, to: 'U1' })
  await until(ends, 1)
  assert.deepEqual([ends[0]?.sent, ends[0]?.because], [false, 'Slack says channel_not_found'])
})

test('a Bot API of Zalo that says no in the body did nothing, and is asked again when it is busy', async () => {
  const zalo = channel('zalo')
  const of = accountWith({ botToken: 'z:1', apiRoot: 'https://zalo.test' })
  const post = apiCall('path', 'botToken', 'https://zalo.test/bot{credential}/sendMessage')
  const told = async (answer: Answer) => {
    const { queue, ends } = queueWith(answer)
    queue.send({ channel: zalo, account: of, call: post, to: 'z' })
    await until(ends, 1)
    return ends.map(outcome)[0]
  }
  const no = (code: number) => ({ body: `{"ok":false,"error_code":${code},"description":"x"}` })
  const ended = (sent: boolean, attempts: number, because: string) => ({
    ...{ sent, attempts, status: 200, because },
  })
  assert.deepEqual(await told(() => no(401)), ended(false, 1, 'Zalo says 401'))
  assert.deepEqual(await told((_, nth) => (nth === 1 ? no(429) : {})), ended(true, 2, 'taken'))
  assert.deepEqual(await told(() => no(500)), ended(false, 4, 'Zalo says 500'))
  assert.deepEqual(await told(() => ({ body: '{"ok":true}' })), ended(true, 1, 'taken'))
})

test('an error of signal-cli is no success, and its limits and networks pass', async () => {
  const signal = channel('signal')
  const of = accountWith({ apiRoot: 'http://127.0.0.1:8080' })
  const rpc = apiCall('none', '', 'http://127.0.0.1:8080/api/v1/rpc')
  const told = async (answer: Answer) => {
    const { queue, ends } = queueWith(answer)
    queue.send({ channel: signal, account: of, call: rpc, to: '+1' })
    await until(ends, 1)
    return [ends[0]?.sent, ends[0]?.attempts, ends[0]?.because]
  }
  const error = (code: unknown) => ({ body: JSON.stringify({ error: { code, message: 'x y' } }) })
  const result = (type: string) => ({
    body: JSON.stringify({ result: { timestamp: 1, results: [{ type }] } }),
  })
  assert.deepEqual(await told(() => error(-1)), [false, 1, 'signal-cli says -1'])
  assert.deepEqual(await told(() => error('x')), [false, 1, 'signal-cli says no'])
  assert.deepEqual(await told(() => error(-5)), [false, 4, 'signal-cli says -5'])
  assert.deepEqual(await told((_, nth) => (nth === 1 ? error(-3) : {})), [true, 2, 'taken'])
  assert.deepEqual(await told(() => result('UNREGISTERED_FAILURE')), [
    ...[false, 1, 'signal-cli reaches nobody'],
  ])
  assert.deepEqual(await told(() => result('SUCCESS')), [true, 1, 'taken'])
})

test('no credential stands in what is told about an answer', async () => {
  for (const answer of ['no answer', { status: 401, body: token }] as const) {
    const { queue, ends } = queueWith(() => answer)
    queue.send({ channel: telegram, account, call: send, to: '7' })
    await until(ends, 1)
    assert.ok(!JSON.stringify(ends.map(outcome)).includes('abcDEF'))
  }
})

const credentials = (answer: Answer = () => ({})) => {
  const clock = new TestClock()
  const { call, asked } = recordingCall(answer)
  return { at: new Credentials({ call, now: clock.now, random: countingRandom() }), asked, clock }
}

test('each service gets the credential where it wants it', async () => {
  const root = 'https://host.test/api'
  const settings = { apiRoot: root, key: 'se cret/1' }
  const places: readonly (readonly [CredentialPlace, string, readonly string[]])[] = [
    ['path', `${root}/bot${encodeURIComponent('se cret/1')}/x`, []],
    ['bearer', `${root}/bot{credential}/x`, ['Authorization', 'Bearer se cret/1']],
    ['bot', `${root}/bot{credential}/x`, ['Authorization', 'Bot se cret/1']],
    ['query-password', `${root}/bot{credential}/x?password=se%20cret%2F1`, []],
    ['none', `${root}/bot{credential}/x`, []],
  ]
  for (const [place, url, headers] of places) {
    const call = apiCall(place, 'key', `${root}/bot{credential}/x`)
    const placed = await credentials().at.place(telegram, accountWith(settings), call)
    assert.equal(placed.url, url, place)
    assert.deepEqual(placed.headers, ['Content-Type', 'application/json', ...headers], place)
  }
})

test('a Nextcloud answer is signed over a fresh random and the words', async () => {
  const talk = channel('nextcloud-talk')
  const of = accountWith({ botSecret: 'k'.repeat(40), backend: 'https://cloud.test/nc' })
  const url = 'https://cloud.test/nc/ocs/v2.php/apps/spreed/api/v1/bot/abc/message'
  const call = apiCall('nextcloud-bot', 'botSecret', url, '{"message":"Hällo"}')
  const { headers } = await credentials().at.place(talk, of, call)
  const at = headers.indexOf('X-Nextcloud-Talk-Bot-Random')
  const random = headers[at + 1] ?? ''
  const expected = createHmac('sha256', 'k'.repeat(40)).update(`${random}Hällo`).digest('hex')
  assert.equal(random.length, 64)
  assert.equal(headers[headers.indexOf('X-Nextcloud-Talk-Bot-Signature') + 1], expected)
})

test('a Bot Framework token is fetched once, kept, and fetched again when it is old', async () => {
  const teams = channel('msteams')
  const of = accountWith({ appId: 'app', appPassword: 'p&w', tenantId: 'tenant' })
  const call = apiCall(
    'client-credentials',
    'appPassword',
    'https://smba.trafficmanager.net/emea/v3',
  )
  const { at, asked, clock } = credentials(() => ({
    body: '{"access_token":"T1","expires_in":3600}',
  }))
  for (let i = 0; i < 3; i += 1) {
    const { headers } = await at.place(teams, of, call)
    assert.ok(headers.includes('Bearer T1'))
  }
  assert.equal(asked.length, 1)
  assert.match(asked[0]?.url ?? '', /^https:\/\/login\.microsoftonline\.com\/botframework\.com\//)
  assert.match(asked[0]?.body ?? '', /client_secret=p%26w&scope=https/)
  clock.pass(59 * 60_000)
  await at.place(teams, of, call)
  assert.equal(asked.length, 2)
})

test('a bot of one tenant gets its token there', async () => {
  const teams = channel('msteams')
  const of = accountWith({ appId: 'app', appPassword: 'pw', tenantId: 'tenant-1' })
  const call = apiCall(
    'client-credentials',
    'appPassword',
    'https://smba.trafficmanager.net/emea/v3',
  )
  const { at, asked } = credentials(({ url }) =>
    url.includes('/tenant-1/')
      ? { body: '{"access_token":"T2","expires_in":60}' }
      : { status: 400 },
  )
  assert.ok((await at.place(teams, of, call)).headers.includes('Bearer T2'))
  assert.equal(asked.length, 2)
  const none = credentials(() => ({ status: 401 }))
  await assert.rejects(none.at.place(teams, of, call), { code: 'CALL_FAILED' })
})

test('an answer leaves for the service’s own hosts and the configured root, and for nothing else', () => {
  const mine = accountWith({ apiRoot: 'http://127.0.0.1:8081/root' })
  for (const url of [
    'https://api.telegram.org/bot1/sendMessage',
    'http://127.0.0.1:8081/root/bot1/sendMessage',
    'http://127.0.0.1:8081/root',
  ]) {
    assert.doesNotThrow(() => checkAddress(telegram, mine, url), url)
  }
  for (const url of [
    'http://api.telegram.org/bot1/sendMessage',
    'https://api.telegram.org:8443/bot1',
    'https://api.telegram.org.evil.test/bot1',
    'https://user@api.telegram.org/bot1',
    'https://evil.test/api.telegram.org',
    'http://127.0.0.1:8081/rootother',
    'http://127.0.0.1:8081/root/../admin',
    'http://127.0.0.1:9999/root/x',
    'http://169.254.169.254/latest/meta-data',
    'file:///etc/passwd',
    'not a url',
  ]) {
    assert.throws(
      () => checkAddress(telegram, mine, url),
      (thrown) => thrown instanceof Failure && thrown.code === 'CALL_REFUSED',
      url,
    )
  }
})

test('a Teams answer leaves for Microsoft’s connectors alone', () => {
  const teams = channel('msteams')
  const none = accountWith({})
  assert.doesNotThrow(() => checkAddress(teams, none, 'https://smba.trafficmanager.net/emea/v3/x'))
  assert.doesNotThrow(() =>
    checkAddress(teams, none, 'https://smba.infra.gcc.teams.microsoft.com/x'),
  )
  assert.throws(() => checkAddress(teams, none, 'https://smba.trafficmanager.net.evil.test/x'))
  assert.throws(() => checkAddress(telegram, none, 'https://directline.botframework.com/x'))
})

test('without its credential an answer is not sent, and the key that is missing is named', async () => {
  const { queue, asked, ends } = queueWith(() => ({}))
  queue.send({ channel: telegram, account: accountWith({}), call: send, to: '7' })
  await until(ends, 1)
  assert.equal(asked.length, 0)
  assert.match(ends[0]?.because ?? '', /channels\.telegram\.botToken is not set/)
})
