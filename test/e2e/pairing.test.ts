/** Letting people in and out by the command line, on a real sidecar with real answers to its services. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { command } from '../support/command.ts'
import { startService } from '../support/sdk-service.ts'
import { eventually, type TestSidecar } from '../support/sidecar.ts'
import {
  bodiesAt,
  codeIn,
  generic,
  line,
  post,
  publicHost,
  slack,
  startChannels,
  telegram,
  whatsapp,
  type TestService,
} from '../support/webhooks.ts'

let keys = 0
const say = (sidecar: TestSidecar, service: TestService, from: string, words = 'hi') =>
  post(sidecar.port, service.write({ from, words, key: (keys += 1) }))

const json = async (sidecar: TestSidecar, ...argv: readonly string[]) => {
  const { out, err, code } = await command(sidecar.home, ...argv, '--json')
  if (out === '') throw new Error(`${code} ${err}`)
  return JSON.parse(out) as Record<string, unknown> & {
    readonly requests: readonly { sender: string; code: string }[]
    readonly senders: readonly { sender: string; from: string; account: string }[]
    readonly findings: readonly { sender: string; why: string }[]
  }
}

const telegramCall = (body = '{}') => JSON.parse(body) as { chat_id: string; text: string }

function keptHome(t: TestContext): string {
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  t.after(() => rmSync(home, { recursive: true, force: true }))
  return home
}

test('the owner reads the list, approves, and the sender is told and heard', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [telegram, slack] })
  const code = codeIn((await say(sidecar, telegram, telegram.stranger)).body) ?? ''
  await say(sidecar, slack, slack.stranger)
  const { out } = await command(sidecar.home, 'pairing', 'list')
  assert.match(out, new RegExp(`telegram +default +${telegram.stranger} +${code} `))
  assert.match(out, new RegExp(`slack +default +${slack.stranger} +[A-Z2-9]{8} `))
  const only = await json(sidecar, 'pairing', 'list', '--channel', 'slack')
  assert.equal(only.requests.length, 1)
  const approved = await command(sidecar.home, 'pairing', 'approve', 'telegram', code, '--notify')
  assert.equal(approved.code, 0, approved.err)
  await eventually(() => api.text().includes('let in'), 'the sender is told')
  const told = api.requests.find(({ body }) => body.includes('let in'))
  assert.match(told?.path ?? '', /^\/bot424242:abcdefghijklmnop\/sendMessage$/)
  assert.equal(telegramCall(told?.body).chat_id, telegram.stranger)
  await say(sidecar, telegram, telegram.stranger, 'heard')
  assert.equal(bodiesAt(sidecar.agent).length, 1)
  const events = sidecar.records().map(({ event }) => event)
  for (const event of ['pairing.requested', 'pairing.approved', 'reply.sent', 'message.allowed']) {
    assert.ok(events.includes(event), event)
  }
  assert.ok(!JSON.stringify(sidecar.records()).includes(code))
})

test('whoever is denied is not in, and may ask again', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const code = codeIn((await say(sidecar, telegram, telegram.stranger)).body) ?? ''
  assert.equal((await command(sidecar.home, 'pairing', 'deny', 'telegram', code)).code, 0)
  assert.deepEqual((await json(sidecar, 'pairing', 'list')).requests, [])
  const again = codeIn((await say(sidecar, telegram, telegram.stranger)).body)
  assert.ok(again !== undefined && again !== code)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('the answer is in the owner’s words, or there is none and the list has the code', async (t) => {
  const api = await startService(t)
  const reply = async (words: string) => {
    const sidecar = await startChannels(t, api, {
      only: [telegram],
      policy: () => ({ reply: words }),
    })
    const { body } = await say(sidecar, telegram, telegram.stranger)
    const { requests } = await json(sidecar, 'pairing', 'list')
    return { body, code: requests[0]?.code ?? '' }
  }
  const own = await reply('Olga muss zustimmen: {code}')
  assert.equal(telegramCall(own.body).text, `Olga muss zustimmen: ${own.code}`)
  const silent = await reply('silent')
  assert.deepEqual([silent.body, silent.code.length], ['', 8])
})

test('where the policy is a list, a stranger is answered nothing at all', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, {
    only: [telegram, slack, line],
    policy: () => ({ dm: { policy: 'allowlist' } }),
  })
  for (const service of [telegram, slack, line]) {
    const answer = await say(sidecar, service, service.stranger)
    assert.deepEqual([answer.status, answer.body], [200, ''], service.name)
  }
  assert.deepEqual((await json(sidecar, 'pairing', 'list')).requests, [])
  assert.equal(api.requests.length, 0)
  assert.deepEqual(sidecar.agent.seen, [])
})

test('answers that need a call go out with the credential, to the configured root alone', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [slack, whatsapp, line] })
  const expected: Readonly<Record<string, readonly [RegExp, string]>> = {
    slack: [/^\/chat\.postMessage$/, 'Bearer xoxb-test-token'],
    whatsapp: [/^\/1234567890\/messages$/, 'Bearer EAAtest'],
    line: [/^\/v2\/bot\/message\/reply$/, 'Bearer line-access-token'],
  }
  for (const service of [slack, whatsapp, line]) {
    const before = api.requests.length
    await say(sidecar, service, service.stranger)
    await eventually(() => api.requests.length > before, service.name)
    const sent = api.requests.at(-1)
    const [path, credential] = expected[service.name] ?? [/^$/, '']
    assert.match(sent?.path ?? '', path)
    assert.equal(sent?.headers['authorization'], credential)
    assert.ok(codeIn(sent?.body.replaceAll('\\n', ' ') ?? '') !== undefined, sent?.body)
  }
})

test('a new request is told to the owner in the owner’s own chat', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    config: { owners: [`telegram:${telegram.owner}`] },
  })
  const code = codeIn((await say(sidecar, telegram, telegram.stranger)).body) ?? ''
  await eventually(() => api.requests.length === 1, 'the owner is told')
  const told = telegramCall(api.requests[0]?.body)
  assert.equal(told.chat_id, telegram.owner)
  assert.ok(told.text.includes(`hardshell pairing approve telegram ${code}`))
})

test('senders are added and taken off by id, at once', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    policy: () => ({ dm: { policy: 'allowlist' }, groups: { [String(telegram.group)]: {} } }),
  })
  const run = (...argv: readonly string[]) => command(sidecar.home, 'allowlist', ...argv)
  const handle = await run('add', 'telegram', '@olga')
  assert.equal(handle.code, 2)
  assert.match(handle.err, /"@olga" is a handle.*numeric user id.*\[SENDER_ID\]/)
  const added = await run(
    'add',
    'telegram',
    `tg:${telegram.stranger}`,
    '--expires',
    '30d',
    '--note',
    'night shift',
  )
  assert.equal(added.code, 0, added.err)
  await say(sidecar, telegram, telegram.stranger)
  const { group } = telegram
  const inGroup = telegram.write({
    from: telegram.stranger,
    words: 'team',
    key: (keys += 1),
    mention: true,
    ...(group === undefined ? {} : { group }),
  })
  await post(sidecar.port, inGroup)
  assert.equal(sidecar.agent.seen.length, 2)
  const listed = await run('list')
  assert.match(listed.out, /222222222 +allowlist add .* night shift/)
  assert.match(listed.out, /111111111 +channels\.telegram\.allowFrom/)
  assert.equal((await run('remove', 'telegram', telegram.stranger)).code, 0)
  await say(sidecar, telegram, telegram.stranger)
  assert.equal(sidecar.agent.seen.length, 2)
  const configured = await run('remove', 'telegram', telegram.owner)
  assert.equal(configured.code, 1)
  assert.match(configured.err, /remove the entry in channels\.telegram\.allowFrom/)
})

test('an id that a stranger chose moves nothing on the terminal, and is taken as it is shown', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [generic] })
  const sender = 'o\u202elga \u009b2J\u200b'
  const shown = 'o\\u202elga \\u009b2J\\u200b'
  await say(sidecar, generic, sender)
  const asked = await command(sidecar.home, 'pairing', 'list')
  assert.ok(asked.out.includes(` "${shown}" `), asked.out)
  const code = (await json(sidecar, 'pairing', 'list')).requests[0]?.code ?? ''
  const approved = await command(sidecar.home, 'pairing', 'approve', 'generic', code)
  assert.ok(approved.out.startsWith(`generic:"${shown}" may speak`), approved.out)
  await say(sidecar, generic, sender)
  assert.equal(sidecar.agent.seen.length, 1)
  const listed = await command(sidecar.home, 'allowlist', 'list')
  assert.ok(listed.out.includes(` "${shown}" `), listed.out)
  const revoked = await command(sidecar.home, 'pairing', 'revoke', 'generic', shown)
  assert.deepEqual([revoked.code, revoked.out], [0, `generic:"${shown}" is not paired any more`])
  await say(sidecar, generic, sender)
  assert.equal(sidecar.agent.seen.length, 1)
  const again = (await json(sidecar, 'pairing', 'list')).requests[0]?.code ?? ''
  const denied = await command(sidecar.home, 'pairing', 'deny', 'generic', again)
  assert.equal(denied.out, `dropped the request of generic:"${shown}"`)
  for (const { out } of [asked, approved, listed, revoked, denied]) {
    assert.match(out, /^[\x20-\x7e\n]*$/)
  }
})

test('a review shows who has not spoken, and says so with its exit code', async (t) => {
  const api = await startService(t)
  const sidecar = await startChannels(t, api, { only: [telegram] })
  const before = await command(sidecar.home, 'allowlist', 'review', '--unused', '1m')
  assert.equal(before.code, 1)
  assert.match(before.out, /^WHY .*\nunused +telegram +default +111111111 .* never/)
  await say(sidecar, telegram, telegram.owner)
  const after = await command(sidecar.home, 'allowlist', 'review', '--unused', '1m')
  assert.deepEqual([after.code, after.out], [0, 'every entry is in use'])
})

test('whoever is taken out of the configuration is not let in by an old pairing', async (t) => {
  const api = await startService(t)
  const home = keptHome(t)
  const only = [telegram]
  const first = await startChannels(t, api, { only, home })
  const { token } = first
  const code = codeIn((await say(first, telegram, telegram.stranger)).body) ?? ''
  await command(home, 'pairing', 'approve', 'telegram', code)
  await first.app.stop(0)
  const both = () => ({ allowFrom: [telegram.owner, telegram.stranger] })
  const second = await startChannels(t, api, { only, home, token, policy: both })
  await say(second, telegram, telegram.stranger)
  assert.equal(second.agent.seen.length, 1)
  await second.app.stop(0)
  const third = await startChannels(t, api, { only, home, token })
  await say(third, telegram, telegram.stranger)
  assert.deepEqual(third.agent.seen, [])
  const { senders } = await json(third, 'allowlist', 'list')
  assert.deepEqual(
    senders.map(({ sender }) => sender),
    [telegram.owner],
  )
})

test('accounts of one channel have their own people, paths and secrets', async (t) => {
  const api = await startService(t)
  const account = (path: string, secret: string, from: string) => ({
    webhookPath: path,
    webhookSecret: secret,
    allowFrom: [from],
  })
  const work = 'work-secret-0123456789'
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    policy: () => ({ accounts: { work: account('/hooks/work', work, '333') } }),
  })
  const to = (path: string, secret: string, from: string) => {
    const written = telegram.write({ from, words: 'hi', key: (keys += 1) })
    const headers = { 'X-Telegram-Bot-Api-Secret-Token': secret }
    return post(sidecar.port, { ...written, path }, { headers })
  }
  assert.equal((await to('/hooks/work', work, '333')).status, 200)
  assert.equal(sidecar.agent.seen.length, 1)
  const foreign = await to('/hooks/work', work, telegram.owner)
  const code = codeIn(foreign.body) ?? ''
  assert.equal((await to('/hooks/telegram', work, '333')).status, 401)
  assert.equal(sidecar.agent.seen.length, 1)
  await command(sidecar.home, 'pairing', 'approve', 'telegram', code)
  const { senders } = await json(sidecar, 'allowlist', 'list')
  assert.deepEqual(
    senders.map(({ account: of, sender }) => `${of} ${sender}`),
    [`default ${telegram.owner}`, `work ${telegram.owner}`, 'work 333'],
  )
  const channels = sidecar
    .records()
    .flatMap(({ event, channel }) => (event === 'pairing.requested' ? [channel] : []))
  assert.deepEqual(channels, ['telegram/work'])
})

test('the gateway’s lists let in whom they name by channel, and nobody by a bare id', async (t) => {
  const api = await startService(t)
  const group = String(telegram.group)
  const sidecar = await startChannels(t, api, {
    only: [telegram],
    policy: () => ({ allowFrom: [] }),
    config: {
      gateway: {
        dmPolicies: { allowlist: ['telegram:777', '888', 'user@example.com'] },
        groupPolicies: { allowedGroups: [`telegram:${group}`], mentionGating: false },
      },
    },
  })
  await say(sidecar, telegram, '777')
  await post(sidecar.port, telegram.write({ from: '777', words: 'team', key: (keys += 1), group }))
  assert.equal(sidecar.agent.seen.length, 2)
  assert.ok(codeIn((await say(sidecar, telegram, '888')).body) !== undefined)
  assert.equal(sidecar.agent.seen.length, 2)
})

test('channel check says what is right, what is wrong, and what nobody knows', async (t) => {
  const api = await startService(t, ({ path }) =>
    path.endsWith('/getWebhookInfo')
      ? { ok: true, result: { url: `https://${publicHost}${telegram.path}` } }
      : { ok: true },
  )
  const sidecar = await startChannels(t, api, { only: [telegram, slack] })
  const good = await command(sidecar.home, 'channel', 'check', 'telegram')
  assert.equal(good.code, 0, good.out)
  assert.match(good.out, /telegram +default +webhook +ok +registered at https:\/\/gw\.example\.com/)
  const other = await command(sidecar.home, 'channel', 'check', 'slack')
  assert.match(other.out, /slack +default +webhook +not measured/)
  assert.equal((await command(sidecar.home, 'channel', 'check', 'line')).code, 1)
  const all = await json(sidecar, 'channel', 'check')
  assert.equal((all['channels'] as readonly unknown[]).length, 2)
  assert.ok(!JSON.stringify(all).includes('abcdefghijklmnop'))
  await sidecar.app.stop(0)
  // Without a running sidecar the configuration is enough.
  const stopped = await command(sidecar.home, 'channel', 'check', 'telegram')
  assert.equal(stopped.code, 0, stopped.err)
})

test('without a channel the commands say which key is missing', async (t) => {
  const { startSidecar } = await import('../support/sidecar.ts')
  const sidecar = await startSidecar()
  t.after(() => sidecar.stop())
  for (const argv of [
    ['pairing', 'list'],
    ['allowlist', 'list'],
    ['channel', 'check'],
  ]) {
    const { code, err } = await command(sidecar.home, ...argv)
    assert.equal(code, 1, argv.join(' '))
    assert.match(err, /channels\.<name>\.webhookPath/)
  }
})
