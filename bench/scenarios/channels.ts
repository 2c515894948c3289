/** Messages of channels: what a decision costs, webhooks of mixed senders under load, and senders by the hundred thousand. */
import { Buffer } from 'node:buffer'
import { randomBytes } from 'node:crypto'
import { fileURLToPath } from 'node:url'

import type { Account, Message, WebhookRequest } from '../../src/channels/channel.ts'
import { telegram } from '../../src/channels/telegram.ts'
import { judgeMessage, type Known, type PolicySettings } from '../../src/senders/policy.ts'
import { load, type Sample } from '../lib/load.ts'
import { startHardshell, startHttpProxy3, startSink, type Place } from '../lib/proxies.ts'
import { figure, range, type Effort, type Section } from '../lib/section.ts'
import { median, ratios, spread } from '../lib/stats.ts'

/** Bytes of an update. */
const updateBytes = 2048
/** Each account takes 600 webhooks a minute, which a benchmark would run into with one. */
const accountsCount = 400
const owner = '111111111'

/** All three. */
export async function channels(place: Place, effort: Effort): Promise<readonly Section[]> {
  return [decision(effort), lookup(effort), await webhooks(place, effort)]
}

const account: Account = {
  id: 'default',
  webhookPath: '/telegram',
  settings: { webhookSecret: 'a-webhook-secret-0123456789' },
  bot: { ids: ['7000000001'], names: ['example_guard_bot'] },
}

function update(from: string, bytes: number): Buffer {
  const of = (text: string) =>
    JSON.stringify({
      update_id: 5001,
      message: {
        message_id: 42,
        from: { id: Number(from), is_bot: false, first_name: 'Owner', language_code: 'en' },
        chat: { id: Number(from), first_name: 'Owner', type: 'private' },
        date: 1_764_000_000,
        text,
        entities: [{ type: 'url', offset: 0, length: 24 }],
      },
    })
  return Buffer.from(of('lorem ipsum '.repeat(200).slice(0, bytes - of('').length)))
}

function policy(allowed: Iterable<string>): PolicySettings {
  return {
    dmPolicy: 'pairing',
    allowFrom: new Set(allowed),
    groupPolicy: 'allowlist',
    groups: new Map([['-1002000000001', { requireMention: true }]]),
    gatewayAllowlist: new Set<string>(),
    gatewayGroups: new Set<string>(),
  }
}

const nobody: Known = { listed: new Set<string>(), paired: new Set<string>() }

/** ns of one call, over many. */
function cost(run: () => void, times: number): number {
  const from = process.hrtime.bigint()
  for (let i = 0; i < times; i += 1) run()
  return Number(process.hrtime.bigint() - from) / times
}

/** Two pieces of work in turn, round by round, after a warm-up. */
function inTurn(
  one: () => void,
  two: () => void,
  { smoke, rounds }: Effort,
): readonly [number[], number[]] {
  const times = smoke ? 2000 : 50_000
  const first: number[] = []
  const second: number[] = []
  for (let round = -1; round < (smoke ? 1 : rounds * 3); round += 1) {
    const swap = round % 2 === 0
    const a = swap ? cost(two, times) : cost(one, times)
    const b = swap ? cost(one, times) : cost(two, times)
    if (round < 0) continue
    first.push(swap ? b : a)
    second.push(swap ? a : b)
  }
  return [first, second]
}

function decision(effort: Effort): Section {
  const body = update(owner, updateBytes)
  const request: WebhookRequest = {
    method: 'POST',
    path: '/telegram',
    query: '',
    headers: [],
    body,
  }
  const settings = policy([owner])
  let spoke = 0
  const decide = () => {
    for (const message of telegram.messages(request, account)) {
      if (judgeMessage(message, settings, nobody).verdict === 'speak') spoke += 1
    }
  }
  let parsed = 0
  const parse = () => {
    const value: unknown = JSON.parse(body.toString('utf8'))
    if (typeof value === 'object') parsed += 1
  }
  const [ours, alone] = inTurn(decide, parse, effort)
  const over = spread(ratios(ours, alone))
  return {
    name: 'decision',
    title: `Decision on an update of ${body.length} bytes: parse, extract, decide`,
    columns: ['way', 'µs'],
    rows: [
      ['JSON.parse alone', figure(median(alone) / 1000, 2)],
      ['Hardshell', figure(median(ours) / 1000, 2)],
    ],
    goals: [
      {
        name: 'decision on an update, over JSON.parse of it alone',
        value: over.median,
        bound: 3,
        sense: 'at most',
        unit: '×',
      },
    ],
    ratios: { 'decision: over JSON.parse': over },
    notes: ['both begin with the bytes of the body'],
    broken: spoke === 0 || parsed === 0 ? ['decision: the update was not let through'] : [],
  }
}

/** As many different writers in both cases, so that only the length of the list differs. */
const writers = 100

function lookup(effort: Effort): Section {
  const among = (count: number) => {
    const people = Array.from({ length: count }, (_, i) => String(100_000_000 + i))
    const settings = policy(people)
    const requests = people
      .filter((_, i) => i % (count / writers) === 0)
      .map((id): WebhookRequest => {
        const body = update(id, 400)
        return { method: 'POST', path: '/telegram', query: '', headers: [], body }
      })
    const messages = requests.flatMap((request) => telegram.messages(request, account))
    return { settings, requests, messages }
  }
  const [many, few] = [among(100_000), among(writers)]
  let spoke = 0
  let next = 0
  const turn = <T>(of: readonly T[]): T | undefined => of[(next = (next + 37) % of.length)]
  const judge = (message: Message | undefined, settings: PolicySettings) => {
    if (message === undefined) return
    if (judgeMessage(message, settings, nobody).verdict === 'speak') spoke += 1
  }
  const whole =
    ({ settings, requests }: typeof many) =>
    () => {
      const request = turn(requests)
      if (request !== undefined) judge(telegram.messages(request, account)[0], settings)
    }
  const alone =
    ({ settings, messages }: typeof many) =>
    () =>
      judge(turn(messages), settings)
  const [ofMany, ofFew] = inTurn(whole(many), whole(few), effort)
  const [aloneMany, aloneFew] = inTurn(alone(many), alone(few), effort)
  const over = spread(ratios(ofMany, ofFew))
  const row = (name: string, all: readonly number[], only: readonly number[]) => [
    name,
    figure(median(all)),
    figure(median(only)),
  ]
  return {
    name: 'senders',
    title: `A listed sender, ${writers} of whom write: among 100,000 and among 100`,
    columns: ['list', 'update read and judged, ns', 'policy alone, ns'],
    rows: [row('100', ofFew, aloneFew), row('100,000', ofMany, aloneMany)],
    goals: [
      {
        name: 'an update of a sender among 100,000, over one among 100',
        value: over.median,
        bound: 1.5,
        sense: 'at most',
        unit: '×',
      },
    ],
    ratios: {
      'senders: 100,000 over 100': over,
      'senders: 100,000 over 100, policy alone': spread(ratios(aloneMany, aloneFew)),
    },
    notes: [
      'alone in a loop the list of 100 never leaves the fastest cache, which no real message finds: that column is for information',
    ],
    broken: spoke === 0 ? ['senders: nobody was let through'] : [],
  }
}

const bare = 'http-proxy-3, no checks'
const guarded = 'Hardshell, all on'

async function webhooks(place: Place, effort: Effort): Promise<Section> {
  const secret = randomBytes(24).toString('base64url')
  const bot = await startSink(place)
  const accounts = Array.from({ length: accountsCount }, (_, i) => [
    `a${i}`,
    { webhookPath: `/telegram/${i}`, webhookSecret: secret },
  ])
  const telegramConfig = {
    allowFrom: [owner],
    messagesPerMinute: 1_000_000,
    messagesPerDay: 1_000_000,
    reply: 'silent',
    accounts: Object.fromEntries(accounts) as Record<string, unknown>,
  }
  const channelsConfig = { telegram: telegramConfig }
  const ways = [
    { name: bare, ...(await startHttpProxy3(place, bot.port)) },
    { name: guarded, ...(await startHardshell(place, bot.port, { channels: channelsConfig })) },
  ]
  const file = fileURLToPath(new URL('../lib/webhooks.lua', import.meta.url))
  const samples = new Map<string, Sample[]>()
  let run = 0
  for (let round = effort.smoke ? 0 : -1; round < effort.rounds; round += 1) {
    for (const { name, port, child } of round % 2 === 0 ? ways : ways.toReversed()) {
      run += 1
      const told = [
        secret,
        String(run * 10_000_000),
        String(accountsCount),
        String(updateBytes - 240),
      ]
      const sample = await load({
        port,
        pid: child.pid,
        path: '/',
        method: 'POST',
        token: undefined,
        connections: 32,
        seconds: round < 0 ? 3 : effort.seconds,
        script: { file, told },
      })
      if (round >= 0) samples.set(name, [...(samples.get(name) ?? []), sample])
    }
  }
  for (const { child } of [...ways, bot]) await child.stop()
  return webhookSection(samples)
}

function webhookSection(samples: ReadonlyMap<string, readonly Sample[]>): Section {
  const of = (name: string, value: (sample: Sample) => number) =>
    (samples.get(name) ?? []).map(value)
  const perSecond = (sample: Sample) => sample.perSecond
  const over = spread(ratios(of(guarded, perSecond), of(bare, perSecond)))
  return {
    name: 'webhooks',
    title: `Telegram webhooks of ${updateBytes} bytes, half of them from strangers, 32 connections`,
    columns: ['way', 'webhooks/s', '× http-proxy-3', 'CPU µs', 'p50 / p99 µs'],
    rows: [...samples.keys()].map((name) => [
      name,
      figure(median(of(name, perSecond))),
      range(spread(ratios(of(name, perSecond), of(bare, perSecond)))),
      figure(median(of(name, (one) => one.cpuMicros)), 1),
      `${figure(median(of(name, (one) => one.p50)))} / ${figure(median(of(name, (one) => one.p99)))}`,
    ]),
    goals: [
      {
        name: 'webhooks/s of mixed senders, Hardshell over http-proxy-3',
        value: over.median,
        bound: 1,
        sense: 'at least',
        unit: '×',
      },
    ],
    ratios: { 'webhooks: per second over http-proxy-3': over },
    notes: [
      'the stranger of each account was given a code before; giving one is a write that survives a power cut',
      'each webhook is proven, looked up among those delivered, judged and written to the audit log',
      `${accountsCount} accounts share the load, because each takes at most 600 webhooks a minute`,
    ],
    broken: [...samples].flatMap(([name, list]) => {
      const bad = list.reduce((sum, sample) => sum + sample.bad, 0)
      const none = list.some((sample) => sample.requests === 0)
      if (bad === 0 && !none) return []
      return [`webhooks: ${name}: ${none ? 'a round without an answer' : `${bad} wrong answers`}`]
    }),
  }
}
