/** grammY and telegraf as most of them run: by polling, with a root that is ours and a token that is worth nothing. */
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

import { startBotApi, type BotApi } from '../support/bot-api.ts'
import { freePort } from '../support/ports.ts'
import { eventually, startSidecar, type TestSidecar } from '../support/sidecar.ts'
import { approve, codeIn, startBot, trialOf, type SdkBot } from '../support/sdk.ts'

const real = '7000000001:AAreal0credential0of0the0bot0000000'
const dummy = '7000000001:dummydummydummydummydummydummydummy1'
const owner = 111111111
const stranger = 999000111

interface Place {
  readonly api: BotApi
  readonly sidecar: TestSidecar
  /** Stops the sidecar and starts another in its home. */
  restart(): Promise<void>
  bot(): Promise<SdkBot>
}

async function place(t: TestContext, name: string): Promise<Place> {
  const api = await startBotApi(real)
  const home = mkdtempSync(join(tmpdir(), 'hs-'))
  const listen = `127.0.0.1:${await freePort()}`
  const telegram = {
    listen,
    botToken: real,
    agentToken: dummy,
    apiRoot: api.url,
    allowFrom: [String(owner)],
  }
  const run = () => startSidecar({ home, config: { channels: { telegram } } })
  let sidecar = await run()
  t.after(async () => {
    await sidecar.stop()
    await api.stop()
    rmSync(home, { recursive: true, force: true })
  })
  return {
    api,
    get sidecar() {
      return sidecar
    },
    restart: async () => {
      await sidecar.stop()
      sidecar = await run()
    },
    bot: () => startBot(t, name, { BOT_TOKEN: dummy, API_ROOT: `http://${listen}` }),
  }
}

const texts = (bot: SdkBot) => bot.heard().map(({ text }) => text)

for (const name of ['grammy-polling', 'telegraf-polling']) {
  trialOf(name, async (t) => {
    const at = await place(t, name)
    const { api } = at
    let bot = await at.bot()
    assert.equal(bot.ready, 'example_guard_bot')

    await t.test('the owner is heard, and the answer goes out under the real token', async () => {
      api.say(owner, 'hello')
      await eventually(() => api.sentTo(owner).includes('you said hello'), 'the bot answers')
      assert.deepEqual(texts(bot), ['hello'])
      assert.ok(!bot.program.text().includes(real))
    })

    let code: string | undefined
    await t.test('a stranger gets one code, and the bot hears nothing', async () => {
      api.say(stranger, 'let me in')
      await eventually(() => api.sentTo(stranger).length > 0, 'the stranger is answered')
      code = codeIn(api.sentTo(stranger)[0] ?? '')
      api.say(stranger, 'please')
      api.say(owner, 'still there?')
      await eventually(() => texts(bot).includes('still there?'), 'the owner is heard')
      assert.deepEqual(texts(bot), ['hello', 'still there?'])
      assert.equal(api.sentTo(stranger).length, 1)
    })

    await t.test('a withheld message makes no hot loop', async () => {
      await eventually(() => api.waiting() === 1, 'the bot polls again')
      const before = api.polls.length
      api.say(stranger, 'and again')
      await eventually(() => api.unconfirmed().length === 0, 'the message is confirmed')
      await new Promise((resolve) => setTimeout(resolve, 500))
      assert.ok(api.polls.length - before <= 3, `${api.polls.length - before} polls`)
    })

    await t.test('the same message arrives once its sender is approved', async () => {
      assert.ok(code !== undefined)
      await approve(at.sidecar, 'telegram', code)
      api.say(stranger, 'let me in')
      await eventually(() => texts(bot).includes('let me in'), 'the approved sender is heard')
      assert.deepEqual(texts(bot), ['hello', 'still there?', 'let me in'])
    })

    await t.test('nothing is lost or repeated over a crash of the bot', async () => {
      await eventually(() => api.unconfirmed().length === 0, 'all is confirmed')
      bot.program.child.kill('SIGKILL')
      await bot.program.ended()
      api.say(owner, 'one')
      api.say(stranger + 1, 'from another stranger')
      api.say(owner, 'two')
      bot = await at.bot()
      await eventually(() => texts(bot).includes('two'), 'both are heard')
      await eventually(() => api.unconfirmed().length === 0, 'all is confirmed')
      assert.deepEqual(texts(bot), ['one', 'two'])
      assert.equal(api.sentTo(stranger + 1).length, 1)
    })

    await t.test('a restart of Hardshell loses nothing either', async () => {
      await at.restart()
      api.say(owner, 'after the restart')
      api.say(stranger, 'still let in')
      const heard = () => texts(bot).slice(2)
      await eventually(() => heard().length >= 2, 'both are heard', 30_000)
      assert.deepEqual(heard(), ['after the restart', 'still let in'])
    })

    await t.test('the audit log has every decision, and no credential or text', () => {
      const records = at.sidecar.records()
      const of = (event: string) =>
        records.filter((one) => one['event'] === event).map((one) => one['sender'])
      assert.ok(of('message.allowed').includes(`telegram:${owner}`))
      assert.ok(of('message.withheld').includes(`telegram:${stranger}`))
      assert.ok(of('pairing.requested').includes(`telegram:${stranger}`))
      const all = JSON.stringify(records)
      for (const secret of [real, dummy, 'let me in']) assert.ok(!all.includes(secret), secret)
    })
  })
}
