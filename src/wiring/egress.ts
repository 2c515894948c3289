/** The agent's side: what a bot that calls out reaches in place of the service's own address. */
import type { AuditSink } from '../audit/record.ts'
import { channelAccounts } from '../config/channel-accounts.ts'
import type { Loaded } from '../config/load.ts'
import type { TelegramRoot } from '../egress/telegram-root.ts'
import { codeOf, Failure, messageOf } from '../errors.ts'
import type { Log } from '../log.ts'
import type { Desk } from '../senders/desk.ts'
import type { People } from '../senders/people.ts'
import { placeKey } from '../senders/place.ts'
import { clocks } from './clocks.ts'

/** What the agent's side is made from. */
export interface EgressParts {
  readonly people: People
  readonly audit: AuditSink
  readonly log: Log
}

/** The open doors on the agent's side. */
export interface Egress {
  /** Where each account is served, `telegram/default` → port. */
  readonly ports: ReadonlyMap<string, number>
  close(): Promise<void>
}

/** Opens a listener for each account that has one; a Failure names the key whose address cannot be used. */
export async function openEgress({ config }: Loaded, parts: EgressParts): Promise<Egress> {
  const roots = new Map<string, TelegramRoot>()
  const close = async () => {
    await Promise.all([...roots.values()].map((root) => root.close()))
  }
  try {
    for (const { channel, account, path } of channelAccounts(config)) {
      const { listen } = account.settings
      if (listen === undefined) continue
      const desk = parts.people.desk(channel.name, account.id)
      if (desk === undefined) throw new Failure('NO_CHANNEL', `${path}: the account has no policy`)
      const root = await opened(path, listen, () => telegramRoot(desk, { ...parts, path, listen }))
      roots.set(placeKey(desk.place), root)
      parts.log.info({ path, listen }, 'a bot that polls finds its API here')
    }
  } catch (thrown) {
    await close()
    throw thrown
  }
  return { ports: new Map([...roots].map(([name, { port }]) => [name, port])), close }
}

interface RootParts extends EgressParts {
  readonly path: string
  readonly listen: string
}

/** The rules between keys have made sure that both credentials are there; empty ones equal nothing. */
async function telegramRoot(desk: Desk, parts: RootParts): Promise<TelegramRoot> {
  const { people, audit, log, path, listen } = parts
  const { account } = desk.settings
  // Loaded where it is used: start-up is mostly modules.
  const { openTelegramRoot, telegramApi } = await import('../egress/telegram-root.ts')
  const { pollEar } = await import('../egress/poll-desk.ts')
  const { apiRoot = telegramApi, botToken = '', agentToken = '' } = account.settings
  const colon = listen.lastIndexOf(':')
  return openTelegramRoot(
    {
      account,
      apiRoot,
      botToken,
      agentToken,
      host: listen.slice(0, colon).replace(/^\[|\]$/g, ''),
      port: Number(listen.slice(colon + 1)),
    },
    {
      hear: pollEar(desk, people),
      now: clocks.monotonic,
      audit,
      onTrouble: (because) => log.warn({ path, because }, 'a call of the bot failed'),
    },
  )
}

async function opened(
  path: string,
  listen: string,
  open: () => Promise<TelegramRoot>,
): Promise<TelegramRoot> {
  try {
    return await open()
  } catch (thrown) {
    const inUse = codeOf(thrown) === 'EADDRINUSE'
    const why = inUse ? 'is in use by another program' : `cannot be used: ${messageOf(thrown)}`
    const code = inUse ? 'PORT_IN_USE' : 'BIND_FAILED'
    throw new Failure(code, `${path}.listen: ${listen} ${why}; choose another port`, {
      cause: thrown,
    })
  }
}
