/** The agent's side: what a bot that calls out reaches in place of the service's own address. */
import type { AuditSink } from '../audit/record.ts'
import { channelAccounts } from '../config/channel-accounts.ts'
import type { Loaded } from '../config/load.ts'
import type { Door } from '../egress/door.ts'
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
  const doors = new Map<string, Door>()
  const close = async () => {
    await Promise.all([...doors.values()].map((door) => door.close()))
  }
  try {
    for (const { channel, account, path } of channelAccounts(config)) {
      const { listen } = account.settings
      if (listen === undefined) continue
      const desk = parts.people.desk(channel.name, account.id)
      if (desk === undefined) throw new Failure('NO_CHANNEL', `${path}: the account has no policy`)
      const door = await opened(path, listen, () => doorOf(desk, { ...parts, path, listen }))
      doors.set(placeKey(desk.place), door)
      parts.log.info({ path, listen }, 'a bot that calls out finds its service here')
    }
  } catch (thrown) {
    await close()
    throw thrown
  }
  return { ports: new Map([...doors].map(([name, { port }]) => [name, port])), close }
}

interface DoorParts extends EgressParts {
  readonly path: string
  readonly listen: string
}

/** The rules between keys have made sure that the credentials and addresses are there; empty ones equal nothing. */
async function doorOf(desk: Desk, { people, audit, log, path, listen }: DoorParts): Promise<Door> {
  const { account } = desk.settings
  const { apiRoot, botToken = '', agentToken = '' } = account.settings
  const colon = listen.lastIndexOf(':')
  const host = listen.slice(0, colon).replace(/^\[|\]$/g, '')
  const at = { account, agentToken, host, port: Number(listen.slice(colon + 1)) }
  // Loaded where they are used: start-up is mostly modules.
  const { pollEar } = await import('../egress/poll-desk.ts')
  const deps = {
    hear: pollEar(desk, people),
    now: clocks.monotonic,
    audit,
    onTrouble: (because: string) => log.warn({ path, because }, 'a call of the bot failed'),
  }
  if (desk.place.channel === 'signal') {
    const { openSignalRoot } = await import('../egress/signal-root.ts')
    return openSignalRoot({ ...at, apiRoot: apiRoot ?? '' }, deps)
  }
  const { openTelegramRoot, telegramApi } = await import('../egress/telegram-root.ts')
  return openTelegramRoot({ ...at, botToken, apiRoot: apiRoot ?? telegramApi }, deps)
}

async function opened(path: string, listen: string, open: () => Promise<Door>): Promise<Door> {
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
