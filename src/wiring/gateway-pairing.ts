/** Pairing of identities that a JWT or Tailscale proves and no list has, where `denyByDefault` is false (DESIGN §5). */
import type { Config, Loaded } from '../config/load.ts'
import type { Identity } from '../gates/gate.ts'
import { jwtIdentity, tailscaleIdentity, type LetIn } from '../identity/vouched.ts'
import type { Live } from '../proxy/live.ts'
import type { Evidence, People, PeopleRecord } from '../senders/people.ts'
import { gatewayPlace } from '../senders/place.ts'
import type { Log } from '../log.ts'
import { clocks } from './clocks.ts'

/** What it works with. */
export interface GatewayPairingParts {
  readonly people: Pick<People, 'list' | 'book' | 'desks'>
  readonly evidence: Evidence
  readonly live: Live
  readonly log: Log
}

/** Who asks to come in, and who was let in. */
export interface GatewayPairing {
  readonly letIn: LetIn
  /** The code to show to an identity; undefined when there is no room. Rejects when it cannot be written or recorded. */
  ask(identity: Identity): Promise<string | undefined>
  /** False once an identity that came in by pairing has been taken out; true for every other. */
  isGood(identityId: string): boolean
  /** Ends what is open by those who were taken out; to be called about twice a second. */
  tick(): void
}

/** Opens it on the list and the book of the channels; who has left the allowlist since the last start is not paired. */
export async function openGatewayPairing(
  { config }: Pick<Loaded, 'config'>,
  parts: GatewayPairingParts,
): Promise<GatewayPairing> {
  const { people, live, log } = parts
  const { list, book } = people
  for (const id of await list.settle(gatewayPlace, listedIds(config))) {
    const because = 'no longer listed in the configuration'
    await recorded(parts, { event: 'pairing.revoked', sender: senderOf(id), because })
  }
  /** Identities that came in by pairing; never more than were let in. */
  const came = new Set<string>()
  const isStill = (id: string): boolean => {
    const found = list.find(gatewayPlace, id)
    const { expiresAt } = found ?? {}
    return found !== undefined && (expiresAt === undefined || expiresAt > clocks.now())
  }
  return {
    letIn: ({ id }) => {
      const { paired, listed } = list.known(gatewayPlace)
      if (!paired.has(id) && !listed.has(id)) return false
      came.add(id)
      list.spoke(gatewayPlace, id)
      return true
    },
    ask: async ({ id, name }) => {
      const asked = await book.ask(gatewayPlace, id, {})
      if (asked.kind === 'issued') {
        await recorded(parts, {
          event: 'pairing.requested',
          sender: senderOf(id),
          because: `${name} asks`,
        })
        const sentence = `hardshell pairing approve ${gatewayPlace.channel} ${asked.request.code}`
        log.warn({ identity: id, name }, `somebody asks to be let in: ${sentence}`)
        for (const desk of people.desks) {
          const words = `${name} asks to use the agent through the gateway. To agree: ${sentence}`
          for (const owner of desk.settings.owners) desk.say(owner, words, {})
        }
        return asked.request.code
      }
      if (asked.kind === 'pending') {
        return book
          .pending()
          .find((one) => one.channel === gatewayPlace.channel && one.sender === id)?.code
      }
      if (asked.first) {
        await recorded(parts, { event: 'pairing.full', because: asked.because })
        log.warn({ because: asked.because }, 'identities without an entry are refused for now')
      }
      return undefined
    },
    isGood: (id) => !came.has(id) || isStill(id),
    tick: () => {
      for (const id of came) {
        if (isStill(id)) continue
        came.delete(id)
        void live.endIdentity(id, 'revoked')
      }
    },
  }
}

const senderOf = (id: string) => `${gatewayPlace.channel}:${id}`

/** The identities that entries of the allowlist name by subject or login. */
function listedIds({ gateway: { auth, dmPolicies } }: Config): readonly string[] {
  const { issuer } = auth.jwt
  return dmPolicies.allowlist.flatMap((entry) => [
    tailscaleIdentity(entry),
    ...(issuer === undefined ? [] : [jwtIdentity(issuer, entry)]),
  ])
}

/** A code that left no evidence is not given out. */
function recorded(
  { evidence }: GatewayPairingParts,
  record: Pick<PeopleRecord, 'event' | 'because' | 'sender'>,
): Promise<void> {
  return new Promise((resolve, reject) => {
    evidence.append({ ...record, channel: gatewayPlace.channel }, (failure) => {
      if (failure === undefined) resolve()
      else reject(failure)
    })
  })
}
