/** A bot that reads signal-cli's event stream with the npm package eventsource, through a door that is ours. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

import { callAdmin } from '../../src/admin/client.ts'
import {
  envelopeOf,
  startSignalDaemon,
  wordsOf,
  type Person,
  type SignalDaemon,
} from '../support/signal-cli.ts'
import { freePort } from '../support/ports.ts'
import { eventually, startSidecar, type TestSidecar } from '../support/sidecar.ts'
import { codeIn, startBot, trialOf, type SdkBot } from '../support/sdk.ts'

const own = '+15550000000'
const owner: Person = { number: '+15551230001', uuid: '11111111-1111-4111-8111-111111111111' }
const stranger: Person = { number: '+15559990002', uuid: '99999999-9999-4999-8999-999999999999' }
const group = 'R3JvdXBJZExhYmVsMTIzNDU2Nzg5MDEyMzQ1Njc4OTA='
const agentToken = 'k7Qp2vXz9LmN4rTb8WcY6dHf3sJg1AeU'

interface Place {
  readonly daemon: SignalDaemon
  readonly sidecar: TestSidecar
  restart(): Promise<void>
  bot(): Promise<SdkBot>
}

async function place(t: TestContext): Promise<Place> {
  const daemon = await startSignalDaemon(own)
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  const listen = `127.0.0.1:${await freePort()}`
  const signal = {
    listen,
    agentToken,
    apiRoot: daemon.url,
    botIds: [own],
    allowFrom: [`uuid:${owner.uuid}`],
    groups: { [group]: { requireMention: true } },
  }
  const run = () => startSidecar({ home, config: { channels: { signal } } })
  let sidecar = await run()
  t.after(async () => {
    await sidecar.stop()
    await daemon.stop()
    rmSync(home, { recursive: true, force: true })
  })
  const env = { SIGNAL_URL: `http://${listen}/${agentToken}`, SIGNAL_ACCOUNT: own }
  return {
    daemon,
    get sidecar() {
      return sidecar
    },
    restart: async () => {
      await sidecar.stop()
      sidecar = await run()
    },
    bot: () => startBot(t, 'signal-events', env),
  }
}

const texts = (bot: SdkBot) => bot.heard().map(({ text }) => text)
const noted = (bot: SdkBot) =>
  [...bot.program.text().matchAll(/^NOTED "(.*)"$/gm)].map(([, kind]) => kind)

trialOf('signal-cli with eventsource', async (t) => {
  const at = await place(t)
  const { daemon } = at
  const bot = await at.bot()
  /** What the owner says last has been heard, so nothing before it is still on its way. */
  const afterThat = async (words: string) => {
    daemon.say(owner, words)
    await eventually(() => texts(bot).at(-1) === words, `the owner is heard: ${words}`)
  }

  await t.test('the owner is heard, and the answer goes out by the daemon', async () => {
    daemon.say(owner, 'hello')
    await eventually(() => daemon.sentTo(owner.uuid).includes('you said hello'), 'the bot answers')
    assert.deepEqual(texts(bot), ['hello'])
    assert.equal(daemon.streams[0]?.account, own)
  })

  let code: string | undefined
  await t.test(
    'a stranger gets one code by a call of send, and the bot hears nothing',
    async () => {
      daemon.say(stranger, 'let me in')
      await eventually(() => daemon.sentTo(stranger.uuid).length > 0, 'the stranger is answered')
      code = codeIn(daemon.sentTo(stranger.uuid)[0] ?? '')
      assert.deepEqual(daemon.calls.at(-1)?.params['account'], own)
      daemon.say(stranger, 'please')
      await afterThat('still there?')
      assert.deepEqual(texts(bot), ['hello', 'still there?'])
      assert.equal(daemon.sentTo(stranger.uuid).length, 1)
    },
  )

  await t.test(
    "a stranger's edit, reaction, story, call and words of a group reach nobody",
    async () => {
      const before = texts(bot)
      const eve = { ...stranger, uuid: '88888888-8888-4888-8888-888888888888' }
      for (const part of [
        { editMessage: { targetSentTimestamp: 1, ...wordsOf('edited') } },
        wordsOf('', {
          message: null,
          reaction: { emoji: '👍', targetAuthor: own, targetSentTimestamp: 1 },
        }),
        { storyMessage: { allowsReplies: true, textAttachment: { text: 'story' } } },
        { callMessage: { offerMessage: { id: 1, type: 'AUDIO_CALL' } } },
        { syncMessage: { sentMessage: { destination: own, message: 'sync' } } },
        { newThing: { message: 'of a later version' } },
        wordsOf('\ufffc in the group', {
          groupInfo: { groupId: group, type: 'DELIVER' },
          mentions: [{ number: own, start: 0, length: 1 }],
        }),
        wordsOf('elsewhere', {
          groupInfo: { groupId: 'b3RoZXJvdGhlcm90aGVyb3RoZXI=', type: 'DELIVER' },
        }),
        wordsOf('', { message: null, isExpirationUpdate: true, expiresInSeconds: 60 }),
      ]) {
        daemon.receive(envelopeOf(eve, part))
      }
      await afterThat('and now?')
      assert.deepEqual(texts(bot), [...before, 'and now?'])
      assert.deepEqual(noted(bot), [])
      assert.deepEqual(daemon.sentTo(eve.uuid), [])
    },
  )

  await t.test('typing and receipts pass, and hold no words', async () => {
    daemon.receive(envelopeOf(stranger, { typingMessage: { action: 'STARTED', timestamp: 1 } }))
    daemon.receive(
      envelopeOf(stranger, { receiptMessage: { when: 1, isRead: true, timestamps: [1] } }),
    )
    await eventually(() => noted(bot).length === 2, 'both are noted')
    assert.deepEqual(noted(bot), ['typingMessage', 'receiptMessage'])
  })

  await t.test(
    'in a served group the owner is heard when the bot is meant, and else not',
    async () => {
      const before = texts(bot)
      const groupInfo = { groupId: group, type: 'DELIVER' }
      daemon.receive(envelopeOf(owner, wordsOf('among ourselves', { groupInfo })))
      daemon.receive(
        envelopeOf(
          owner,
          wordsOf('\ufffc go', { groupInfo, mentions: [{ number: own, start: 0, length: 1 }] }),
        ),
      )
      await eventually(() => texts(bot).length === before.length + 1, 'the mention is heard')
      assert.deepEqual(texts(bot), [...before, '\ufffc go'])
      await eventually(() => daemon.sentTo(group).length === 1, 'the group is answered')
    },
  )

  await t.test("the owner's edit and reaction are heard", async () => {
    daemon.receive(
      envelopeOf(owner, { editMessage: { targetSentTimestamp: 1, ...wordsOf('better') } }),
    )
    const reaction = { emoji: '🎉', targetAuthor: own, targetSentTimestamp: 1 }
    daemon.receive(envelopeOf(owner, wordsOf('', { message: null, reaction })))
    await eventually(() => texts(bot).at(-1) === '🎉', 'both are heard')
    assert.deepEqual(texts(bot).slice(-2), ['better', '🎉'])
  })

  await t.test('the same message arrives once its sender is approved, who is told', async () => {
    assert.ok(code !== undefined)
    const { home } = at.sidecar
    const told = await callAdmin({ HARDSHELL_HOME: home }, 'pairing.approve', {
      channel: 'signal',
      code,
      notify: true,
    })
    assert.deepEqual(told, {
      channel: 'signal',
      account: 'default',
      sender: `uuid:${stranger.uuid}`,
      notified: true,
    })
    await eventually(() => daemon.sentTo(stranger.uuid).length === 2, 'the stranger is told')
    daemon.say(stranger, 'let me in')
    await eventually(() => texts(bot).at(-1) === 'let me in', 'the approved sender is heard')
  })

  await t.test(
    'a sign of life passes, and after a cut the bot comes again where it was',
    async () => {
      daemon.keepAlive()
      const before = texts(bot).length
      daemon.cut()
      await eventually(() => daemon.streams.length === 0, 'the stream is over')
      daemon.say(owner, 'while you were away')
      daemon.say({ ...stranger, uuid: '77777777-7777-4777-8777-777777777777' }, 'withheld')
      await eventually(() => texts(bot).length > before, 'what was missed is heard', 15_000)
      assert.deepEqual(texts(bot).slice(before), ['while you were away'])
      assert.ok(daemon.streams[0]?.lastId !== undefined)
    },
  )

  await t.test('a restart of Hardshell loses nothing that the daemon keeps', async () => {
    const before = texts(bot).length
    await at.restart()
    daemon.say(owner, 'after the restart')
    daemon.say(stranger, 'still let in')
    await eventually(() => texts(bot).length === before + 2, 'both are heard', 20_000)
    assert.deepEqual(texts(bot).slice(before), ['after the restart', 'still let in'])
  })

  await t.test(
    'a stranger taken off the list is silent again, on the stream that is open',
    async () => {
      const before = texts(bot).length
      await callAdmin({ HARDSHELL_HOME: at.sidecar.home }, 'pairing.revoke', {
        channel: 'signal',
        sender: `uuid:${stranger.uuid}`,
      })
      daemon.say(stranger, 'still here?')
      await afterThat('the end')
      assert.deepEqual(texts(bot).slice(before), ['the end'])
    },
  )

  await t.test('the audit log has every decision, and no credential or text', () => {
    const records = at.sidecar.records()
    const of = (event: string) =>
      records.filter((one) => one['event'] === event).map((one) => one['sender'])
    assert.ok(of('message.allowed').includes(`signal:uuid:${owner.uuid}`))
    assert.ok(of('message.withheld').includes(`signal:uuid:${stranger.uuid}`))
    assert.ok(of('pairing.requested').includes(`signal:uuid:${stranger.uuid}`))
    assert.ok(of('reply.sent').includes(`signal:uuid:${stranger.uuid}`))
    const all = JSON.stringify(records)
    for (const secret of [agentToken, 'let me in']) assert.ok(!all.includes(secret), secret)
  })

  await t.test(
    '"channel check" finds the daemon, and says when it is another program',
    async () => {
      const check = () =>
        callAdmin({ HARDSHELL_HOME: at.sidecar.home }, 'channel.check', { channel: 'signal' })
      const rows = JSON.stringify(await check())
      assert.match(rows, /"check":"service","result":"ok"/)
      assert.match(rows, /"check":"answers","result":"ok"/)
      assert.ok(!rows.includes('"problem"'), rows)
      await daemon.stop()
      assert.match(JSON.stringify(await check()), /"check":"service","result":"problem"/)
    },
  )
})
