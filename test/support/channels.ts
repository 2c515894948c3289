/** Signed samples of every service, the accounts they are for, and requests made from them. */
import { Buffer } from 'node:buffer'
import { createPublicKey, sign } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { channelNamed } from '../../src/channels/all.ts'
import type {
  Account,
  Channel,
  Mapping,
  TrustedKey,
  WebhookRequest,
} from '../../src/channels/channel.ts'
import type { PolicySettings, RoomSettings } from '../../src/senders/policy.ts'

interface RawPolicy {
  readonly dmPolicy: 'pairing' | 'allowlist' | 'disabled'
  readonly allowFrom: readonly string[]
  readonly groupPolicy: 'allowlist' | 'disabled'
  readonly groupAllowFrom?: readonly string[]
  readonly groups: Readonly<Record<string, RoomSettings>>
  readonly directRooms?: readonly string[]
}

export interface Expected {
  readonly class: string
  readonly sender: { readonly id: string | null; readonly kind: string }
  readonly room: { readonly id: string | null; readonly kind: string }
  readonly mentioned: boolean
  readonly verdict: string
  /** Body of the answer to the service when the message is withheld. */
  readonly withheld?: string
}

export interface Sample {
  readonly name: string
  readonly request?: {
    readonly method: string
    readonly path?: string
    readonly headers: Readonly<Record<string, string>>
    readonly body: string
    readonly jwt?: {
      readonly claims: Readonly<Record<string, string>>
      readonly kid: string
      readonly signWith: string
    } | null
    readonly limit?: number
  }
  readonly gateway?: unknown
  readonly sse?: { readonly event: string; readonly data: unknown }
  readonly upstreamUpdates?: readonly {
    readonly rel: number
    readonly from: string
    readonly text: string
    readonly verdict: string
  }[]
  readonly expect: {
    readonly proven: boolean
    readonly messages: readonly Expected[]
    readonly action: string
    readonly delivered?: readonly number[]
  }
}

export interface Fixture {
  readonly secret: Readonly<Record<string, string>> & {
    readonly jwks?: { readonly keys: readonly (Record<string, unknown> & { kid: string })[] }
  }
  readonly bot: Readonly<Record<string, string | number>>
  readonly mapping?: { sender: string; conversation: string; isDm: Mapping['dm'] } & {
    mention: NonNullable<Mapping['mention']>
    id: string
  }
  readonly policy: RawPolicy
  readonly now: number
  readonly vectors: readonly Sample[]
}

const folder = new URL('../fixtures/channels/', import.meta.url)

/** The samples of one file. */
export function fixture(name: string): Fixture {
  const parsed: unknown = JSON.parse(readFileSync(new URL(`${name}.json`, folder), 'utf8'))
  return parsed as Fixture
}

/** A channel by name; a test names only what exists. */
export function channelOf(name: string): Channel {
  const channel = channelNamed(name)
  if (channel === undefined) throw new Error(`no channel ${name}`)
  return channel
}

/** Which of our settings hold what a fixture calls secret. */
const settingsOf: Readonly<
  Record<string, (secret: Fixture['secret'], sample: Sample) => Record<string, string | undefined>>
> = {
  'telegram-webhook': (of) => ({ webhookSecret: of['secretToken'] }),
  'telegram-polling': () => ({}),
  'slack-http': (of) => ({ signingSecret: of['signingSecret'] }),
  'discord-interactions': (of) => ({ publicKey: of['publicKey'] }),
  'discord-gateway': () => ({}),
  meta: (of) => ({ appSecret: of['appSecret'], verifyToken: of['verifyToken'] }),
  line: (of) => ({ channelSecret: of['channelSecret'] }),
  googlechat: (of, sample) =>
    byNumber(sample)
      ? { audienceType: 'project-number', audience: of['projectNumber'] }
      : { audienceType: 'app-url', audience: of['appUrl'] },
  msteams: (of) => ({ appId: of['appId'], tenantId: of['tenantId'] }),
  twilio: (of) => ({ authToken: of['authToken'], publicWebhookUrl: of['publicUrl'] }),
  'matrix-appservice': (of) => ({ hsToken: of['hsToken'] }),
  mattermost: (of) => ({ token: of['token'] }),
  'nextcloud-talk': (of) => ({ botSecret: of['botSecret'] }),
  zalo: (of) => ({ webhookSecret: of['webhookSecret'] }),
  bluebubbles: (of) => ({ password: of['password'] }),
  'signal-sse': () => ({}),
  'generic-json': (of) => ({ secret: of['secret'] }),
}

const byNumber = (sample: Sample): boolean =>
  sample.request?.jwt?.claims['iss'] !== 'https://accounts.google.com'

/** The channel that a sample is for. */
export function channelFor(file: string, sample: Sample): Channel {
  if (file === 'meta') {
    return channelOf(sample.name.includes('messenger') ? 'messenger' : 'whatsapp')
  }
  if (file === 'generic-json') return channelOf('generic')
  if (file === 'nextcloud-talk') return channelOf(file)
  return channelOf(file.split('-')[0] ?? '')
}

/** The account that a sample was sent to. */
export function accountFor(file: string, of: Fixture, sample: Sample): Account {
  const found = Object.entries(settingsOf[file]?.(of.secret, sample) ?? {})
  const { id, userId, botId, appId, applicationId, user, number, username } = of.bot ?? {}
  const ids = [id, userId, botId, appId, applicationId, user, number]
  const path = file === 'matrix-appservice' ? '/' : sample.request?.path?.split('?')[0]
  const { mapping } = of
  return {
    id: 'default',
    webhookPath: path ?? '',
    settings: Object.fromEntries(
      found.flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])),
    ),
    bot: {
      ids: ids.flatMap((one) => (one === undefined ? [] : [String(one)])),
      names: username === undefined ? [] : [String(username)],
    },
    directRooms: new Set(of.policy.directRooms ?? []),
    ...(mapping !== undefined && {
      mapping: {
        sender: mapping.sender,
        room: mapping.conversation,
        dm: mapping.isDm,
        mention: mapping.mention,
        id: mapping.id,
      },
    }),
  }
}

/** The policy of a fixture. */
export function policyOf({ policy }: Fixture): PolicySettings {
  const listed = policy.groupAllowFrom
  return {
    dmPolicy: policy.dmPolicy,
    allowFrom: new Set(policy.allowFrom),
    groupPolicy: policy.groupPolicy,
    ...(listed !== undefined && { groupAllowFrom: new Set(listed) }),
    groups: new Map(Object.entries(policy.groups)),
    gatewayAllowlist: new Set<string>(),
    gatewayGroups: new Set<string>(),
  }
}

/** The keys that a host would have fetched for a fixture. */
export function keysOf({ secret }: Fixture, sample: Sample): readonly TrustedKey[] {
  const number = byNumber(sample)
  if (secret.jwks !== undefined) {
    return secret.jwks.keys.map((jwk) => ({
      kid: jwk.kid,
      jwk,
      endorsements: jwk['endorsements'] as readonly string[],
    }))
  }
  const { spki, x509 } = secret
  if (spki === undefined || x509 === undefined) return []
  // Google serves certificates for the project number and JWKs for the address.
  const jwk = { ...createPublicKey(spki).export({ format: 'jwk' }) }
  return number ? [{ kid: 'h5-key-1', x509 }] : [{ kid: 'h5-key-1', jwk }]
}

/** The request of a sample; where the proof is a token, it is signed now. */
export function requestOf(of: Fixture, sample: Sample): WebhookRequest {
  const from = sample.request
  if (from === undefined) throw new Error(`${sample.name} is no request`)
  const [path = '', query = ''] = (from.path ?? '').split('?')
  const headers = Object.entries(from.headers).flat()
  if (from.jwt !== undefined && from.jwt !== null) {
    const pem = of.secret[from.jwt.signWith] ?? ''
    const token = jwt(from.jwt.claims, from.jwt.kid, pem, of.now)
    headers.push('Authorization', `Bearer ${token}`)
  }
  return { method: from.method, path, query, headers, body: Buffer.from(from.body) }
}

/** An RS256 token; `exp` may be an offset from now, `+1h` or `-10m`. */
export function jwt(
  claims: Readonly<Record<string, unknown>>,
  kid: string,
  pem: string,
  now: number,
  alg = 'RS256',
): string {
  const offset = /^([+-])(\d+)([hm])$/.exec(typeof claims['exp'] === 'string' ? claims['exp'] : '')
  const unit = offset?.[3] === 'h' ? 3600 : 60
  const by = Number(offset?.[2] ?? 0) * unit * (offset?.[1] === '-' ? -1 : 1)
  const exp = offset === null ? claims['exp'] : now / 1000 + by
  const part = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const body = `${part({ alg, typ: 'JWT', kid })}.${part({ ...claims, exp })}`
  return `${body}.${sign('sha256', Buffer.from(body), pem).toString('base64url')}`
}

/** Another request with some parts changed. */
export function changed(request: WebhookRequest, parts: Partial<WebhookRequest>): WebhookRequest {
  return { ...request, ...parts }
}

/** The same request with a header replaced, added or removed. */
export function withHeader(request: WebhookRequest, name: string, value?: string): WebhookRequest {
  const headers: string[] = []
  for (let i = 0; i < request.headers.length; i += 2) {
    const key = request.headers[i] ?? ''
    if (key.toLowerCase() !== name.toLowerCase()) headers.push(key, request.headers[i + 1] ?? '')
  }
  if (value !== undefined) headers.push(name, value)
  return { ...request, headers }
}
