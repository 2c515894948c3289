/** Channels in the configuration: what each one needs, what is not its own, and who stands on its lists. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { channels } from '../../src/channels/all.ts'
import { channelAccounts } from '../../src/config/channel-accounts.ts'
import { rowsByPath } from '../../src/config/tree.ts'
import { codesOf, load, problemsOf } from '../support/config-load.ts'

const telegram = (more: object) => ({ channels: { telegram: more } })
const secret = 'kT7vQx2mZp9LwRf4Hs8NcYb3'
const accountsOf = (file: object) => channelAccounts(load(file).config)
const noticesOf = (file: object) =>
  load(file)
    .notices.filter(({ path, code }) => path.startsWith('channels.') && code !== 'PLAIN_SECRET')
    .map(({ path, code }) => `${path} ${code}`)

test('every setting of every channel has a key, secret where the channel says so', () => {
  for (const channel of channels) {
    for (const { key, secret: isSecret } of channel.settings) {
      for (const at of [`channels.*.${key}`, `channels.*.accounts.*.${key}`]) {
        const row = rowsByPath.get(at)
        assert.ok(row !== undefined, `${channel.name} needs ${at}`)
        assert.equal(row.secret ?? false, isSecret, `${channel.name} ${key}`)
      }
    }
  }
})

test('a policy loads alone, and a notice says that nothing comes through us yet', () => {
  for (const { name } of channels) {
    assert.doesNotThrow(() => load({ channels: { [name]: { dm: { policy: 'pairing' } } } }), name)
  }
  assert.deepEqual(noticesOf(telegram({ dm: { policy: 'pairing' } })), [
    'channels.telegram CHANNEL_UNGUARDED',
  ])
  assert.deepEqual(noticesOf(telegram({ webhookPath: '/tg', webhookSecret: secret })), [])
})

test('a webhook path without the secret of its service is an error for every channel', () => {
  for (const channel of channels) {
    const codes = codesOf({ channels: { [channel.name]: { webhookPath: '/hook' } } })
    const needed = channel.settings.filter(({ required }) => required)
    for (const { key } of needed) {
      assert.ok(codes.includes(`channels.${channel.name}.${key} SECRET_MISSING`), key)
    }
    if (needed.length === 0)
      assert.ok(codes.includes(`channels.${channel.name}.webhookPath EXCLUSIVE`))
  }
})

test('an empty or too short secret is an error and is not shown', () => {
  assert.deepEqual(codesOf(telegram({ webhookPath: '/tg', webhookSecret: '' })), [
    'channels.telegram.webhookSecret FORMAT',
  ])
  const [short] = problemsOf(telegram({ webhookPath: '/tg', webhookSecret: 'abc123shorty' }))
  assert.equal(short?.path, 'channels.telegram.webhookSecret')
  assert.ok(!JSON.stringify(short).includes('abc123shorty'))
})

test('an API root without a webhook needs the credential that is swapped in', () => {
  const root = { apiRoot: 'https://api.telegram.org' }
  assert.deepEqual(codesOf(telegram(root)), ['channels.telegram.botToken SECRET_MISSING'])
  assert.doesNotThrow(() => load(telegram({ ...root, botToken: '123456:abcdefghijkl' })))
})

test('a setting of another channel is refused with the names of its own', () => {
  const problems = problemsOf(telegram({ signingSecret: secret, pointers: { sender: '/a' } }))
  assert.deepEqual(
    problems.map(({ path, code }) => `${path} ${code}`),
    ['channels.telegram.pointers UNKNOWN_KEY', 'channels.telegram.signingSecret UNKNOWN_KEY'],
  )
  assert.match(problems[1]?.remedy ?? '', /webhookSecret, botToken/)
  assert.deepEqual(codesOf({ channels: { slack: { directRooms: ['D1'] } } }), [
    'channels.slack.directRooms UNKNOWN_KEY',
  ])
})

test('a name that is no channel is refused with the nearest one', () => {
  const [problem] = problemsOf({ channels: { telegramm: { dmPolicy: 'pairing' } } })
  assert.equal(problem?.path, 'channels.telegramm')
  assert.match(problem?.remedy ?? '', /Did you mean channels\.telegram\?/)
})

test('an entry that can change hands is refused with the way to the id', () => {
  const file = telegram({
    allowFrom: ['telegram:12345', '@olga'],
    groupAllowFrom: ['olga'],
    groups: {
      '-1001': { allowFrom: ['Olga P.'], topics: { '7': { allowFrom: ['@x'] } } },
      crew: {},
    },
  })
  const problems = problemsOf(file)
  assert.deepEqual(
    problems.map(({ path, code }) => `${path} ${code}`),
    [
      'channels.telegram.allowFrom[1] HANDLE',
      'channels.telegram.groupAllowFrom[0] HANDLE',
      'channels.telegram.groups["-1001"].allowFrom[0] HANDLE',
      'channels.telegram.groups["-1001"].topics["7"].allowFrom[0] HANDLE',
      'channels.telegram.groups["crew"] HANDLE',
    ],
  )
  assert.match(problems[0]?.message ?? '', /"@olga" is a handle/)
  assert.match(problems[0]?.remedy ?? '', /^Use the numeric user id/)
})

test('the gateway lists take claims of any form, and ids where they name a channel', () => {
  const gateway = (allowlist: readonly string[], allowedGroups: readonly string[] = []) => ({
    gateway: { dmPolicies: { allowlist }, groupPolicies: { allowedGroups } },
  })
  assert.doesNotThrow(() => load(gateway(['user@example.com', '@olga', 'telegram:1'], ['crew'])))
  assert.deepEqual(codesOf(gateway(['telegram:@olga'], ['telegram:crew'])), [
    'gateway.dmPolicies.allowlist[0] HANDLE',
    'gateway.groupPolicies.allowedGroups[0] HANDLE',
  ])
  assert.deepEqual(codesOf({ owners: ['slack:olga', 'olga@example.com'] }), ['owners[0] HANDLE'])
})

test('"open" and "*" are refused wherever they stand', () => {
  assert.deepEqual(
    codesOf(
      telegram({
        dmPolicy: 'open',
        groupPolicy: 'open',
        groupAllowFrom: ['*'],
        groups: { '*': {} },
        accounts: { work: { dm: { policy: 'open' } } },
      }),
    ),
    [
      'channels.telegram.accounts.work.dm.policy POLICY_OPEN',
      'channels.telegram.dmPolicy POLICY_OPEN',
      'channels.telegram.groupAllowFrom[0] WILDCARD',
      'channels.telegram.groupPolicy POLICY_OPEN',
      'channels.telegram.groups["*"] HANDLE',
    ],
  )
})

test('an account has the policies of its channel where it says nothing, groups as a whole', () => {
  const [root, work, home] = accountsOf(
    telegram({
      webhookPath: '/tg',
      webhookSecret: secret,
      allowFrom: ['1'],
      messagesPerDay: 9,
      groups: { '-1': {}, '-2': {} },
      accounts: {
        work: {
          webhookPath: '/work',
          webhookSecret: `${secret}2`,
          allowFrom: ['2'],
          dmPolicy: 'allowlist',
        },
        home: {
          webhookPath: '/home',
          webhookSecret: `${secret}3`,
          groups: { '-3': {} },
          messagesPerDay: 8,
        },
      },
    }),
  )
  assert.deepEqual(
    [root, work, home].map((one) => [
      one?.account.id,
      one?.account.webhookPath,
      one?.policy.dmPolicy,
      one?.policy.allowFrom,
      Object.keys(one?.policy.groups ?? {}),
      one?.policy.messagesPerDay,
    ]),
    [
      ['default', '/tg', 'pairing', ['1'], ['-1', '-2'], 9],
      ['work', '/work', 'allowlist', ['2'], ['-1', '-2'], 9],
      ['home', '/home', 'pairing', ['1'], ['-3'], 8],
    ],
  )
  assert.equal(work?.account.settings['webhookSecret'], `${secret}2`)
})

test('the secret of a channel is never the secret of its account', () => {
  const file = telegram({
    webhookPath: '/tg',
    webhookSecret: secret,
    accounts: { work: { webhookPath: '/work' } },
  })
  assert.deepEqual(codesOf(file), ['channels.telegram.accounts.work.webhookSecret SECRET_MISSING'])
})

test('a channel with accounts is an account itself only when it has what an account has', () => {
  const own = { webhookPath: '/work', webhookSecret: secret }
  const ids = (file: object) => accountsOf(file).map(({ account }) => account.id)
  assert.deepEqual(ids(telegram({ allowFrom: ['1'], accounts: { work: own } })), ['work'])
  assert.deepEqual(ids(telegram({ accounts: { default: own } })), ['default'])
  const two = telegram({ webhookPath: '/a', webhookSecret: secret, accounts: { default: own } })
  assert.deepEqual(codesOf(two), ['channels.telegram.accounts.default EXCLUSIVE'])
})

test('one path serves one webhook, and never the health path', () => {
  const hooks = {
    telegram: { webhookPath: '/hook', webhookSecret: secret },
    zalo: { webhookPath: '/hook', webhookSecret: secret },
  }
  assert.deepEqual(codesOf({ channels: hooks }), ['channels.zalo.webhookPath EXCLUSIVE'])
  const health = telegram({ webhookPath: '/health', webhookSecret: secret })
  assert.deepEqual(codesOf(health), ['channels.telegram.webhookPath EXCLUSIVE'])
})

test('the generic channel must be told where the sender and the room stand', () => {
  const base = { webhookPath: '/in', secret: Buffer.alloc(32, 7).toString('base64') }
  const pointers = { sender: '/from', room: '/room', dm: { pointer: '/kind', equals: 'dm' } }
  const generic = (more: object) => ({ channels: { generic: { ...base, ...more } } })
  assert.doesNotThrow(() => load(generic({ pointers })))
  assert.deepEqual(codesOf(generic({})), ['channels.generic.pointers SECRET_MISSING'])
  assert.deepEqual(codesOf(generic({ pointers: { ...pointers, sender: 'from' } })), [
    'channels.generic.pointers SECRET_MISSING',
    'channels.generic.pointers.sender FORMAT',
  ])
  assert.deepEqual(codesOf(generic({ pointers, proof: 'header' })), [
    'channels.generic.secretHeader SECRET_MISSING',
  ])
  assert.deepEqual(codesOf(generic({ pointers, secret: 'not base64, for sure' })), [
    'channels.generic.secret FORMAT',
  ])
})

test('the id of a Telegram bot comes from its token', () => {
  const [one] = accountsOf(telegram({ botToken: '424242:abcdefghijkl', botIds: ['7'] }))
  assert.deepEqual(one?.account.bot.ids, ['7', '424242'])
})

test('the name of a bot may be written with its "@"', () => {
  const [one] = accountsOf(telegram({ botNames: ['@guard_bot', 'other_bot'] }))
  assert.deepEqual(one?.account.bot.names, ['guard_bot', 'other_bot'])
})

test('an API root keeps its path and loses the slash at its end', () => {
  const hook = { webhookPath: '/tg', webhookSecret: secret }
  const root = (apiRoot: string) => telegram({ ...hook, apiRoot, botToken: '1:abcdefgh' })
  const [one] = accountsOf(root('https://API.example.org/bots/'))
  assert.equal(one?.account.settings['apiRoot'], 'https://api.example.org/bots')
  for (const wrong of ['ftp://x', 'https://u:p@x', 'https://x/?a=1', 'x', 'https://x/#a']) {
    assert.deepEqual(codesOf(root(wrong)), ['channels.telegram.apiRoot FORMAT'], wrong)
  }
  assert.deepEqual(noticesOf(root('http://api.example.org')), [
    'channels.telegram.apiRoot CREDENTIAL_IN_CLEAR',
  ])
  assert.deepEqual(noticesOf(root('http://127.0.0.1:8081')), [])
})

test('groups that need a mention of a bot without a name are told', () => {
  const hook = { webhookPath: '/tg', webhookSecret: secret, groups: { '-1': {} } }
  const unnamed = ['channels.telegram.botNames BOT_UNNAMED']
  assert.deepEqual(noticesOf(telegram(hook)), unnamed)
  // The token tells the id, and a mention has the name.
  assert.deepEqual(noticesOf(telegram({ ...hook, botToken: '424242:abcdefghijkl' })), unnamed)
  assert.deepEqual(noticesOf(telegram({ ...hook, botNames: ['guard_bot'] })), [])
  assert.deepEqual(noticesOf(telegram({ ...hook, requireMention: false })), [])
})

test('an answer of one’s own must have a place for the code', () => {
  for (const reply of ['silent', 'code', 'Say {code} to Olga']) {
    assert.doesNotThrow(() => load(telegram({ reply })), reply)
  }
  assert.deepEqual(codesOf(telegram({ reply: 'Go away' })), ['channels.telegram.reply FORMAT'])
})
