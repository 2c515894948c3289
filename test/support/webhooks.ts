/** Webhooks as the services send them, signed here, for a real sidecar. */
import { Buffer } from 'node:buffer'
import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { request } from 'node:http'
import type { TestContext } from 'node:test'

import type { TestAgent } from './agent.ts'
import type { Service } from './sdk-service.ts'
import { startSidecar, type SidecarOptions, type TestSidecar } from './sidecar.ts'

/** The host under which the services of the tests reach us. */
export const publicHost = 'gw.example.com'

/** A webhook before it is sent. */
export interface Written {
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: Buffer
}

/** What a message says: by whom, where, with which id of the service. */
export interface Utterance {
  readonly from: string
  readonly words: string
  readonly key: number
  /** A group in place of a direct chat. */
  readonly group?: string
  readonly mention?: boolean
  /** When it was signed, ms since the epoch; now unless said otherwise. */
  readonly at?: number
}

/** A service of the tests: how it is configured, who is who, and how it writes. */
export interface TestService {
  readonly name: string
  readonly path: string
  /** Its keys of the configuration, with the root of its API. */
  settings(apiRoot: string): object
  readonly owner: string
  readonly stranger: string
  readonly group: string | undefined
  write(said: Utterance): Written
  /** It signs the time, so that an old request is refused by itself. */
  readonly signsTime: boolean
}

const json = { 'Content-Type': 'application/json' }
const seconds = (at: number | undefined) => Math.floor((at ?? Date.now()) / 1000)
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))

const telegramSecret = 'Wh3pTz8kQy5mVr2xLd7N_telegram'
/** Telegram. */
export const telegram: TestService = {
  name: 'telegram',
  path: '/hooks/telegram',
  settings: (apiRoot) => ({
    webhookSecret: telegramSecret,
    botToken: '424242:abcdefghijklmnop',
    botNames: ['guard_bot'],
    apiRoot,
  }),
  owner: '111111111',
  stranger: '222222222',
  group: '-1001',
  signsTime: false,
  write({ from, words, key, group, mention, at }) {
    const text = mention === true ? `@guard_bot ${words}` : words
    const entities = mention === true ? [{ type: 'mention', offset: 0, length: 10 }] : []
    const chat =
      group === undefined
        ? { id: Number(from), type: 'private' }
        : { id: Number(group), type: 'supergroup' }
    return {
      path: this.path,
      headers: { ...json, 'X-Telegram-Bot-Api-Secret-Token': telegramSecret },
      body: bytes({
        update_id: key,
        message: {
          message_id: key,
          date: seconds(at),
          from: { id: Number(from), is_bot: false, first_name: 'Ä"\\/' },
          chat,
          text,
          entities,
        },
      }),
    }
  },
}

const slackSecret = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'
/** Slack: the bytes with an escaped slash, which a re-serialised body would lose. */
export const slack: TestService = {
  name: 'slack',
  path: '/hooks/slack',
  settings: (apiRoot) => ({
    signingSecret: slackSecret,
    botToken: 'xoxb-test-token',
    botIds: ['U0BOT00001'],
    apiRoot,
  }),
  owner: 'U0OWNER001',
  stranger: 'U0STRANGE1',
  group: 'C0GROUP001',
  signsTime: true,
  write({ from, words, key, group, mention, at }) {
    const text = mention === true ? `<@U0BOT00001> ${words}` : words
    const event = {
      type: 'message',
      user: from,
      text,
      ts: `${seconds(at)}.${String(key).padStart(6, '0')}`,
      channel: group ?? `D0${from}`,
      channel_type: group === undefined ? 'im' : 'channel',
    }
    const payload = { type: 'event_callback', team_id: 'T0TEAM', event_id: `Ev${key}`, event }
    const body = Buffer.from(JSON.stringify(payload).replaceAll('/', '\\/'))
    return { path: this.path, headers: slackHeaders(body, at), body }
  },
}

/** The headers that prove a Slack body. */
export function slackHeaders(body: Buffer, at?: number, type = 'application/json') {
  const time = String(seconds(at))
  const mac = createHmac('sha256', slackSecret).update(`v0:${time}:`).update(body).digest('hex')
  return {
    'Content-Type': type,
    'X-Slack-Request-Timestamp': time,
    'X-Slack-Signature': `v0=${mac}`,
  }
}

const discordKey = generateKeyPairSync('ed25519')
const discordPublic = discordKey.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32)
/** Discord interactions. */
export const discord: TestService = {
  name: 'discord',
  path: '/hooks/discord',
  settings: (apiRoot) => ({
    publicKey: discordPublic.toString('hex'),
    botToken: 'discord-token',
    apiRoot,
  }),
  owner: '100000000000000001',
  stranger: '200000000000000002',
  group: '300000000000000003',
  signsTime: true,
  write({ from, words, key, group, at }) {
    const user = { id: from, username: 'somebody' }
    const where =
      group === undefined
        ? { context: 1, channel_id: '900000000000000009', user }
        : { context: 0, guild_id: '800000000000000008', channel_id: group, member: { user } }
    const data = { name: 'ask', options: [{ name: 'words', value: words }] }
    const body = bytes({ id: String(10n ** 17n + BigInt(key)), type: 2, ...where, data })
    return { path: this.path, headers: discordHeaders(body, at), body }
  },
}

/** The headers that prove a Discord body. */
export function discordHeaders(body: Buffer, at?: number) {
  const time = String(seconds(at))
  const signature = sign(null, Buffer.concat([Buffer.from(time), body]), discordKey.privateKey)
  return {
    ...json,
    'X-Signature-Timestamp': time,
    'X-Signature-Ed25519': signature.toString('hex'),
  }
}

const metaSecret = '0123456789abcdef0123456789abcdee'
/** WhatsApp Cloud API. */
export const whatsapp: TestService = {
  name: 'whatsapp',
  path: '/hooks/whatsapp',
  settings: (apiRoot) => ({
    appSecret: metaSecret,
    verifyToken: 'verify-me-please',
    accessToken: 'EAAtest',
    apiRoot,
  }),
  owner: '15551230001',
  stranger: '15551230002',
  group: undefined,
  signsTime: false,
  write: ({ from, words, key, at }) => whatsappBatch([{ from, words, key }], at),
}

/** Several WhatsApp messages in one signed request. */
export function whatsappBatch(
  said: readonly Pick<Utterance, 'from' | 'words' | 'key'>[],
  at?: number,
): Written {
  const value = {
    messaging_product: 'whatsapp',
    metadata: { display_phone_number: '15559990000', phone_number_id: '1234567890' },
    contacts: said.map(({ from }) => ({ wa_id: from, profile: { name: 'Somebody' } })),
    messages: said.map(({ from, words, key }) => ({
      from,
      id: `wamid.${key}`,
      timestamp: String(seconds(at)),
      type: 'text',
      text: { body: words },
    })),
  }
  const changes = [{ field: 'messages', value }]
  const body = bytes({ object: 'whatsapp_business_account', entry: [{ id: '1', changes }] })
  return { path: '/hooks/whatsapp', headers: { ...json, ...metaProof(body) }, body }
}

/** The header that proves a body of Meta. */
export function metaProof(body: Buffer) {
  const mac = createHmac('sha256', metaSecret).update(body).digest('hex')
  return { 'X-Hub-Signature-256': `sha256=${mac}` }
}

const lineSecret = 'fedcba9876543210fedcba9876543210'
const lineId = (digit: string) => `U${digit.repeat(32)}`
/** LINE. */
export const line: TestService = {
  name: 'line',
  path: '/hooks/line',
  settings: (apiRoot) => ({
    channelSecret: lineSecret,
    channelAccessToken: 'line-access-token',
    apiRoot,
  }),
  owner: lineId('1'),
  stranger: lineId('2'),
  group: `C${'c'.repeat(32)}`,
  signsTime: false,
  write: (said) => lineBatch([said], said.at),
}

/** Several LINE events in one signed request. */
export function lineBatch(said: readonly Utterance[], at?: number): Written {
  const events = said.map(({ from, words, key, group, mention }) => ({
    type: 'message',
    mode: 'active',
    webhookEventId: `01EVENT${key}`,
    timestamp: seconds(at) * 1000,
    deliveryContext: { isRedelivery: false },
    replyToken: `reply-${key}`,
    source:
      group === undefined
        ? { type: 'user', userId: from }
        : { type: 'group', groupId: group, userId: from },
    message: {
      type: 'text',
      id: String(key),
      text: words,
      ...(mention === true
        ? { mention: { mentionees: [{ index: 0, length: 4, isSelf: true }] } }
        : {}),
    },
  }))
  const body = bytes({ destination: 'Ubot', events })
  return { path: '/hooks/line', headers: { ...json, ...lineProof(body) }, body }
}

/** The header that proves a body of LINE. */
export function lineProof(body: Buffer) {
  return { 'x-line-signature': createHmac('sha256', lineSecret).update(body).digest('base64') }
}

const twilioToken = '00112233445566778899aabbccddeeff'
/** Twilio SMS. */
export const twilio: TestService = {
  name: 'twilio',
  path: '/hooks/twilio',
  settings: () => ({
    authToken: twilioToken,
    publicWebhookUrl: `https://${publicHost}/hooks/twilio`,
  }),
  owner: '+15551230001',
  stranger: '+15551230002',
  group: undefined,
  signsTime: false,
  write({ from, words, key }) {
    const fields = { MessageSid: `SM${key}`, From: from, To: '+15559990000', Body: words }
    const signed = Object.entries(fields)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, value]) => name + value)
      .join('')
    const mac = createHmac('sha1', twilioToken).update(`https://${publicHost}${this.path}${signed}`)
    const type = 'application/x-www-form-urlencoded'
    return {
      path: this.path,
      headers: { 'Content-Type': type, 'X-Twilio-Signature': mac.digest('base64') },
      body: Buffer.from(new URLSearchParams(fields).toString()),
    }
  },
}

/** The `hs_token` of the home server. */
export const matrixToken = 'hs_token_of_the_tests_0123456789'

/** A transaction of a Matrix home server: a message of each of these people in one direct room. */
export function matrixEvents(id: string, senders: readonly string[], at?: number): Written {
  const events = senders.map((sender, i) => ({
    type: 'm.room.message',
    room_id: '!dm:hs.test',
    sender,
    event_id: `$${id}-${i}`,
    origin_server_ts: seconds(at) * 1000,
    content: { msgtype: 'm.text', body: 'hi' },
  }))
  return {
    path: `/_matrix/app/v1/transactions/${id}`,
    headers: { ...json, Authorization: `Bearer ${matrixToken}` },
    body: bytes({ events }),
  }
}

const genericSecret = Buffer.alloc(32, 9).toString('base64')
/** Any bot with Standard Webhooks signatures. */
export const generic: TestService = {
  name: 'generic',
  path: '/hooks/generic',
  settings: () => ({
    secret: `whsec_${genericSecret}`,
    pointers: {
      sender: '/author/id',
      room: '/room',
      dm: { pointer: '/kind', equals: 'dm' },
      mention: { pointer: '/mentions', contains: 'bot' },
    },
  }),
  owner: 'user-1',
  stranger: 'user-2',
  group: 'room-1',
  signsTime: true,
  write({ from, words, key, group, mention, at }) {
    const id = `msg_${key}`
    const time = String(seconds(at))
    const body = bytes({
      author: { id: from },
      room: group ?? `dm-${from}`,
      kind: group === undefined ? 'dm' : 'group',
      mentions: mention === true ? ['bot'] : [],
      text: words,
    })
    const mac = createHmac('sha256', Buffer.from(genericSecret, 'base64'))
      .update(`${id}.${time}.`)
      .update(body)
    return {
      path: this.path,
      headers: {
        ...json,
        'webhook-id': id,
        'webhook-timestamp': time,
        'webhook-signature': `v1,${mac.digest('base64')}`,
      },
      body,
    }
  },
}

/** Every service of the tests. */
export const services: readonly TestService[] = [
  telegram,
  slack,
  discord,
  whatsapp,
  line,
  twilio,
  generic,
]

/** The answer to a webhook. */
export interface Answer {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
}

/** Sends a webhook under the public host; `headers` replace those of the service, `undefined` takes one away. */
export function post(
  port: number,
  written: Written,
  more: {
    readonly headers?: Readonly<Record<string, string | undefined>>
    readonly method?: string
    readonly path?: string
    readonly body?: Buffer
  } = {},
): Promise<Answer> {
  const body = more.body ?? written.body
  const headers: Record<string, string> = { Host: publicHost }
  for (const [name, value] of Object.entries({ ...written.headers, ...more.headers })) {
    if (value !== undefined) headers[name] = value
  }
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        host: '127.0.0.1',
        port,
        method: more.method ?? 'POST',
        path: more.path ?? written.path,
        headers: { ...headers, 'Content-Length': body.length },
        agent: false,
      },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk))
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
        )
        response.on('error', reject)
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}

/** A sidecar for channels, with a policy for each and the API of every service at `api`. */
export interface ChannelSidecarOptions extends Omit<SidecarOptions, 'config'> {
  readonly policy?: (service: TestService) => object
  readonly config?: Record<string, unknown>
  readonly only?: readonly TestService[]
}

/** Starts a sidecar that serves the services; it ends with the test. */
export async function startChannels(
  t: TestContext,
  api: Pick<Service, 'url'>,
  options: ChannelSidecarOptions = {},
): Promise<TestSidecar> {
  const { policy, config, only = services, ...rest } = options
  const sidecar = await startSidecar({
    ...rest,
    config: {
      ...config,
      gateway: { publicOrigins: [`https://${publicHost}`], ...(config?.['gateway'] as object) },
      channels: Object.fromEntries(
        only.map((service) => [
          service.name,
          {
            webhookPath: service.path,
            ...service.settings(api.url),
            allowFrom: [service.owner],
            ...policy?.(service),
          },
        ]),
      ),
    },
  })
  t.after(() => sidecar.stop())
  return sidecar
}

/** The code in an answer or in what a service was told. */
export const codeIn = (text: string): string | undefined =>
  /code: ([A-HJ-NP-Z2-9]{8})/.exec(text)?.[1]

/** SHA-256 in hexadecimal. */
export const sha256 = (body: Buffer): string => createHash('sha256').update(body).digest('hex')

/** What reached the agent, with whole bodies. */
export const bodiesAt = (agent: TestAgent): readonly string[] =>
  agent.seen.map(({ body }) => body.toString('utf8'))
