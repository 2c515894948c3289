/** Strangers of the services whose answers are calls: what each writes, and the one call that must follow. */
import { Buffer } from 'node:buffer'
import { createHmac } from 'node:crypto'

import { line, metaProof, slack, whatsapp, type Utterance, type Written } from './webhooks.ts'
import type { ServiceRequest } from './sdk-service.ts'

/** A service that strangers are answered on by a call of its API. */
export interface AskedService {
  readonly name: string
  readonly method: 'POST' | 'PUT'
  readonly path: string
  /** Keys of the configuration; `api` is the root of the service. */
  settings(api: string): object
  readonly owner: string
  /** The nth stranger. */
  stranger(nth: number): string
  readonly group: string
  write(said: Utterance): Written
  /** What is said again, changed, where the service tells. */
  edit?(said: Utterance): Written
  /** What the call must be: the words are the code's. */
  call(
    stranger: string,
    nth: number,
  ): {
    readonly method: string
    readonly path: string | RegExp
    readonly body: (words: string) => object
    /** Headers that carry the credential; all others of that kind must be absent. */
    readonly authorization: string | undefined
  }
  /** The credential, which stands in no log. */
  readonly credential: string
  /** More about the call, such as a signature. */
  readonly proof?: (request: ServiceRequest) => boolean
}

const json = { 'Content-Type': 'application/json' }
const bytes = (value: unknown) => Buffer.from(JSON.stringify(value))
const at = (said: Utterance) => said.at ?? Date.now()
const digits = (nth: number) => String(nth).padStart(4, '0')

const zaloSecret = 'a3f9-zalo-webhook-secret'
const zaloToken = '1234567890:zalo-bot-token-0123456789'
const zalo: AskedService = {
  name: 'zalo',
  method: 'POST',
  path: '/hooks/zalo',
  settings: (apiRoot) => ({ webhookSecret: zaloSecret, botToken: zaloToken, apiRoot }),
  owner: '6ede9afa66b88fe6d6a9',
  stranger: (nth) => `ffff9afa66b88fe6${digits(nth)}`,
  group: 'g1234567890abcdef',
  write(said) {
    const { from, words, key, group } = said
    const message = {
      message_id: `m${key}`,
      date: at(said),
      from: { id: from, display_name: 'N', is_bot: false },
      chat: { id: group ?? from, chat_type: group === undefined ? 'PRIVATE' : 'GROUP' },
      text: words,
    }
    return {
      path: this.path,
      headers: { ...json, 'X-Bot-Api-Secret-Token': zaloSecret },
      body: bytes({ event_name: 'message.text.received', message }),
    }
  },
  call: (stranger) => ({
    method: 'POST',
    path: `/bot${encodeURIComponent(zaloToken).replaceAll('%3A', ':')}/sendMessage`,
    body: (text) => ({ chat_id: stranger, text }),
    authorization: undefined,
  }),
  credential: zaloToken,
}

const bluePassword = 'blue bubbles & pass/word'
const bluebubbles: AskedService = {
  name: 'bluebubbles',
  method: 'POST',
  path: '/hooks/bluebubbles',
  settings: (serverUrl) => ({ password: bluePassword, serverUrl }),
  owner: '+15551230001',
  stranger: (nth) => `+1555999${digits(nth)}`,
  group: 'iMessage;+;chat123456789',
  write: (said) => blue('new-message', said),
  edit: (said) => blue('updated-message', said),
  call: (stranger) => ({
    method: 'POST',
    path: `/api/v1/message/text?password=${encodeURIComponent(bluePassword)}`,
    body: (message) => ({
      chatGuid: `iMessage;-;${stranger}`,
      tempGuid: /^hardshell-[0-9a-f]{24}$/,
      message,
    }),
    authorization: undefined,
  }),
  credential: bluePassword,
}

function blue(type: string, said: Utterance): Written {
  const data = {
    guid: `p:0/${type}${said.key}`,
    text: said.words,
    handle: { address: said.from },
    isFromMe: false,
    dateCreated: at(said),
    chats: [{ guid: said.group ?? `iMessage;-;${said.from}` }],
  }
  return {
    path: `/hooks/bluebubbles?password=${encodeURIComponent(bluePassword)}`,
    headers: json,
    body: bytes({ type, data }),
  }
}

const hsToken = 'b7_hs_token_0123456789abcdef'
const asToken = 'b7_as_token_0123456789abcdef'
const directRooms = Array.from({ length: 10 }, (_, nth) => `!direct${digits(nth)}:hs.test`)
const matrix: AskedService = {
  name: 'matrix',
  method: 'PUT',
  path: '/',
  settings: (apiRoot) => ({ hsToken, asToken, apiRoot, botIds: ['@guard:hs.test'], directRooms }),
  owner: '@olga:hs.test',
  stranger: (nth) => `@eve${digits(nth)}:evil.test`,
  group: '!ops:hs.test',
  write: (said) => transaction(said, {}),
  edit: (said) =>
    transaction(said, {
      'm.new_content': { msgtype: 'm.text', body: said.words },
      'm.relates_to': { rel_type: 'm.replace', event_id: '$old' },
    }),
  call: (stranger) => ({
    method: 'PUT',
    path: new RegExp(
      `^/_matrix/client/v3/rooms/${encodeURIComponent(roomOf(stranger))}/send/m\\.room\\.message/hardshell-[0-9a-f]{24}$`,
    ),
    body: (body) => ({ msgtype: 'm.notice', body }),
    authorization: `Bearer ${asToken}`,
  }),
  credential: asToken,
}
const roomOf = (person: string) => `!direct${/\d{4}/.exec(person)?.[0] ?? '0009'}:hs.test`

function transaction(said: Utterance, content: object): Written {
  const event = {
    type: 'm.room.message',
    room_id: said.group ?? roomOf(said.from),
    sender: said.from,
    event_id: `$e${said.key}`,
    origin_server_ts: at(said),
    content: {
      msgtype: 'm.text',
      body: said.words,
      ...(said.mention === true && { 'm.mentions': { user_ids: ['@guard:hs.test'] } }),
      ...content,
    },
  }
  return {
    path: `/_matrix/app/v1/transactions/t${said.key}`,
    headers: { ...json, Authorization: `Bearer ${hsToken}` },
    body: bytes({ events: [event] }),
  }
}

const talkSecret = 'c9-nextcloud-shared-secret-0123456789abcdef'
let talkBackend = ''
const talkRooms = Array.from({ length: 10 }, (_, nth) => `direct${digits(nth)}`)
const nextcloudTalk: AskedService = {
  name: 'nextcloud-talk',
  method: 'POST',
  path: '/hooks/talk',
  settings: (backend) => {
    talkBackend = backend
    return { botSecret: talkSecret, backend, botIds: ['guard'], directRooms: talkRooms }
  },
  owner: 'users/olga',
  stranger: (nth) => `users/eve${digits(nth)}`,
  group: 'gr0up123',
  write: (said) => talk('Create', said),
  edit: (said) => talk('Update', said),
  call: (stranger, nth) => ({
    method: 'POST',
    path: `/ocs/v2.php/apps/spreed/api/v1/bot/direct${/\d{4}/.exec(stranger)?.[0] ?? ''}/message`,
    body: (message) => ({ message, replyTo: nth }),
    authorization: undefined,
  }),
  proof: ({ headers, body }) => {
    const { message } = JSON.parse(body) as { message: string }
    const random = String(headers['x-nextcloud-talk-bot-random'])
    const mac = createHmac('sha256', talkSecret)
      .update(random + message)
      .digest('hex')
    return random.length === 64 && headers['x-nextcloud-talk-bot-signature'] === mac
  },
  credential: talkSecret,
}

function talk(type: string, { from, words, key, group }: Utterance): Written {
  const body = bytes({
    type,
    actor: { type: 'Person', id: from, name: 'N', talkParticipantType: '1' },
    object: {
      type: 'Note',
      id: String(key),
      name: 'message',
      content: JSON.stringify({ message: words, parameters: {} }),
      mediaType: 'text/markdown',
    },
    target: {
      type: 'Collection',
      id: group ?? `direct${/\d{4}/.exec(from)?.[0] ?? '0009'}`,
      name: 'room',
    },
  })
  const random = `${key}`.padStart(64, '0')
  const mac = createHmac('sha256', talkSecret).update(random).update(body).digest('hex')
  const headers = {
    ...json,
    'X-Nextcloud-Talk-Backend': talkBackend,
    'X-Nextcloud-Talk-Random': random,
    'X-Nextcloud-Talk-Signature': mac,
  }
  return { path: '/hooks/talk', headers, body }
}

const slackAsked: AskedService = {
  ...slack,
  method: 'POST',
  group: 'C0GROUP001',
  stranger: (nth) => `U0STRANGE${nth}`,
  write: (said) => slack.write(said),
  call: (stranger) => ({
    method: 'POST',
    path: '/chat.postMessage',
    body: (text) => ({ channel: `D0${stranger}`, text, unfurl_links: false }),
    authorization: 'Bearer xoxb-test-token',
  }),
  credential: 'xoxb-test-token',
}

const whatsappAsked: AskedService = {
  ...whatsapp,
  method: 'POST',
  group: '',
  stranger: (nth) => `1555123${digits(nth + 2)}`,
  write: (said) => whatsapp.write(said),
  call: (stranger) => ({
    method: 'POST',
    path: '/1234567890/messages',
    body: (text) => ({
      messaging_product: 'whatsapp',
      to: stranger,
      type: 'text',
      text: { body: text },
    }),
    authorization: 'Bearer EAAtest',
  }),
  credential: 'EAAtest',
}

const page = '105550000000001'
/** Messenger and Instagram: a page, and ids of people that only it knows. */
const pageAsked = (name: 'messenger' | 'instagram', object: string): AskedService => ({
  name,
  method: 'POST',
  path: `/hooks/${name}`,
  settings: (api) => whatsapp.settings(api),
  owner: '7000000000000001',
  stranger: (nth) => `800000000000${digits(nth)}`,
  group: '',
  write(said) {
    const message = { mid: `m_${said.key}`, text: said.words }
    const one = { sender: { id: said.from }, recipient: { id: page }, timestamp: at(said), message }
    const body = bytes({ object, entry: [{ id: page, time: at(said), messaging: [one] }] })
    return { path: this.path, headers: { ...json, ...metaProof(body) }, body }
  },
  call: (stranger) => ({
    method: 'POST',
    path: `/${page}/messages`,
    body: (text) => ({
      recipient: { id: stranger },
      messaging_type: 'RESPONSE',
      message: { text },
    }),
    authorization: 'Bearer EAAtest',
  }),
  credential: 'EAAtest',
})

const lineAsked: AskedService = {
  ...line,
  method: 'POST',
  group: `C${'c'.repeat(32)}`,
  stranger: (nth) => `U${String(nth + 2).repeat(32)}`,
  write: (said) => line.write(said),
  call: () => ({
    method: 'POST',
    path: '/v2/bot/message/reply',
    body: (text) => ({ replyToken: /^.+$/, messages: [{ type: 'text', text }] }),
    authorization: 'Bearer line-access-token',
  }),
  credential: 'line-access-token',
}

/** Every one of them. */
export const askedServices: readonly AskedService[] = [
  zalo,
  bluebubbles,
  matrix,
  nextcloudTalk,
  slackAsked,
  whatsappAsked,
  pageAsked('messenger', 'page'),
  pageAsked('instagram', 'instagram'),
  lineAsked,
]
