/** Bots of real SDKs as processes of their own, unmodified, and the trial that each of them stands behind Hardshell. */
import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'

import { callAdmin } from '../../src/admin/client.ts'
import { checkout } from './images.ts'
import { start, type Program } from './program.ts'
import { startSidecar, eventually, type SidecarOptions, type TestSidecar } from './sidecar.ts'

const folder = join(checkout, 'test/sdk')

/** What the handler of a bot was given. */
export interface Word {
  readonly text: string
  readonly from: string
}

/** A running bot. */
export interface SdkBot {
  /** What it said when it was ready: its port, or its name. */
  readonly ready: string
  readonly program: Program
  heard(): readonly Word[]
}

/** Starts `test/sdk/bots/<name>.mjs`; it ends with the test. */
export async function startBot(
  t: TestContext,
  name: string,
  env: Readonly<Record<string, string>>,
): Promise<SdkBot> {
  if (!existsSync(join(folder, 'node_modules'))) {
    throw new Error('the SDKs are not installed: run "npm ci --prefix test/sdk"')
  }
  const program = start(t, [join(folder, 'bots', `${name}.mjs`)], env)
  const [, ready = ''] = await program.said(/^READY (.*)$/m)
  return {
    program,
    ready: String(JSON.parse(ready)),
    heard: () =>
      [...program.text().matchAll(/^HEARD (.*)$/gm)].map(
        ([, line = '']) => JSON.parse(line) as Word,
      ),
  }
}

/** A request as the service sends it. */
export interface Sent {
  readonly method: 'POST' | 'PUT'
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** One message of one person. */
export interface Said {
  readonly from: string
  readonly text: string
  /** Distinguishes deliveries. */
  readonly id: number
  /** Seconds since the epoch. */
  readonly at: number
}

/** What happens when a message is older than it may be. */
export type Stale = { readonly seconds: number; readonly status: number }

/** One service with one SDK. */
export interface Trial {
  readonly channel: string
  readonly owner: string
  readonly stranger: string
  /** The handler is given this in place of the text, where the service has no free text. */
  readonly word?: (said: Said) => string
  readonly sign: (said: Said) => Sent | Promise<Sent>
  /** The same request with words that were never signed, or without its proof. */
  readonly tamper: (sent: Sent) => Sent
  /** Undefined where a request carries no time. */
  readonly stale?: Stale
  /** Calls of the service's API that Hardshell made, as text; the answer to a webhook is looked at too. */
  readonly outside?: () => string
}

/** A sidecar in front of a bot, for one channel. */
export async function guard(
  t: TestContext,
  bot: SdkBot,
  channel: string,
  config: object,
  more: Pick<SidecarOptions, 'call'> = {},
): Promise<TestSidecar> {
  const sidecar = await startSidecar({
    config: {
      agent: { upstream: `http://127.0.0.1:${bot.ready}` },
      channels: { [channel]: config },
    },
    ...more,
  })
  t.after(() => sidecar.stop())
  return sidecar
}

/** Sends a webhook through the sidecar; the text of the answer comes with it. */
export async function deliver(
  sidecar: TestSidecar,
  { method, path, headers, body }: Sent,
): Promise<{ status: number; text: string }> {
  const answer = await fetch(`${sidecar.url}${path}`, { method, headers: { ...headers }, body })
  return { status: answer.status, text: await answer.text() }
}

/** Approves a pairing code as `hardshell pairing approve` does. */
export async function approve(sidecar: TestSidecar, channel: string, code: string): Promise<void> {
  await callAdmin({ HARDSHELL_HOME: sidecar.home }, 'pairing.approve', { channel, code })
}

/** The pairing code in a text. */
export function codeIn(text: string): string | undefined {
  return /\b[A-HJ-NP-Z2-9]{8}\b/.exec(text)?.[0]
}

const now = () => Math.floor(Date.now() / 1000)

/**
 * The trial: owner, stranger, approval, then what must not come through. Every step says what the bot's own handler was
 * given, because an SDK that rejects what we forward is as broken as one that hears a stranger.
 */
export async function stand(
  t: TestContext,
  trial: Trial,
  bot: SdkBot,
  sidecar: TestSidecar,
): Promise<void> {
  const { channel, owner, stranger } = trial
  const wordOf = (said: Said): Word => ({ text: trial.word?.(said) ?? said.text, from: said.from })
  const expected: Word[] = []
  const send = async (said: Said) => deliver(sidecar, await trial.sign(said))
  const hears = (said: Said) => {
    expected.push(wordOf(said))
    return eventually(() => bot.heard().length >= expected.length, `the bot hears: ${said.text}`)
  }
  const same = () => assert.deepEqual(bot.heard(), expected, bot.program.text())
  const hello = { from: owner, text: 'hello', id: 1, at: now() }
  const first = await trial.sign(hello)

  await t.test("the owner's message arrives, and the SDK accepts it", async () => {
    const answer = await deliver(sidecar, first)
    assert.equal(answer.status, 200, answer.text)
    await hears(hello)
    same()
  })

  let code: string | undefined
  await t.test('a stranger gets a code, and the bot hears nothing', async () => {
    const answer = await send({ from: stranger, text: 'letmein', id: 2, at: now() })
    assert.equal(answer.status, 200, answer.text)
    await eventually(() => {
      code = codeIn(answer.text) ?? codeIn(trial.outside?.() ?? '')
      return code !== undefined
    }, 'the stranger is given a code')
    same()
  })

  await t.test('the same message arrives once its sender is approved', async () => {
    assert.ok(code !== undefined)
    await approve(sidecar, channel, code)
    const again = { from: stranger, text: 'letmein', id: 3, at: now() }
    assert.equal((await send(again)).status, 200)
    await hears(again)
    same()
  })

  await t.test('a tampered message is refused', async () => {
    const sent = await trial.sign({ from: owner, text: 'tampered', id: 4, at: now() })
    assert.equal((await deliver(sidecar, trial.tamper(sent))).status, 401)
    same()
  })

  await t.test('a replayed message is not heard again', async () => {
    const answer = await deliver(sidecar, first)
    assert.ok(answer.status < 300, `${answer.status}`)
    same()
  })

  if (trial.stale !== undefined) {
    const { seconds, status } = trial.stale
    await t.test('a stale message is refused', async () => {
      const answer = await send({ from: owner, text: 'stale', id: 5, at: now() - seconds })
      assert.equal(answer.status, status, answer.text)
      same()
    })
  }

  await t.test('the bot still hears the owner after all that', async () => {
    const last = { from: owner, text: 'goodbye', id: 6, at: now() }
    assert.equal((await send(last)).status, 200)
    await hears(last)
    same()
  })
}

/** A test of one SDK. */
export function trialOf(name: string, run: (t: TestContext) => Promise<void>): void {
  test(`${name} behind Hardshell, unmodified`, { timeout: 60_000 }, run)
}
