/** From the configuration to those who vouch for clients: trusted hops, the issuer of JWTs, Tailscale. */
import { dirname, resolve } from 'node:path'

import type { Loaded } from '../config/load.ts'
import { Failure } from '../errors.ts'
import { trustHops, type Hops } from '../identity/hops.ts'
import type { JwtProver } from '../identity/jwt.ts'
import type { Prover } from '../identity/proof.ts'
import type { TailnetName } from '../identity/tailscale.ts'
import { admitListed, type Admit } from '../identity/vouched.ts'
import { seconds } from '../limits.ts'
import type { Log } from '../log.ts'
import type { Live } from '../proxy/live.ts'
import { clocks } from './clocks.ts'
import type { GatewayPairing } from './gateway-pairing.ts'

/** What others vouch for, and how it is known. */
export interface Vouching {
  /** Undefined when no hop is trusted. */
  readonly hops: Hops | undefined
  /** The prover of `Authorization` in mode "jwt"; it takes the tokens of ours too. */
  readonly jwt: Prover | undefined
  /** The prover of Tailscale logins, when it is enabled. */
  readonly tailscale: Prover | undefined
  /** This node's names on the tailnet, for the Host check. */
  readonly tailnetHosts: ReadonlySet<string>
  /** False once every JWT of an identity has expired; true for every other identity. */
  readonly isGood: (identityId: string) => boolean
  /** The pairing code of an identity that no list has; absent where none may ask. */
  readonly ask: GatewayPairing['ask'] | undefined
  readonly close: () => void
}

/** What vouching works with. */
export interface VouchingParts {
  /** The prover of our own tokens. */
  readonly tokens: Prover
  readonly live: Live
  readonly log: Log
  /** Where identities without an entry may ask to be let in. */
  readonly pairing: GatewayPairing | undefined
}

/** How often this node's name on the tailnet is asked for. */
const nameEveryMs = seconds(15)
/** How often expired JWTs are looked for: what is open by them ends within a second. */
const tickMs = 500

/** Opens what the configuration names. Fails with JWKS_UNREADABLE when the keys are in a file that cannot be used. */
export async function openVouching(loaded: Loaded, parts: VouchingParts): Promise<Vouching> {
  const { gateway } = loaded.config
  const { dmPolicies, groupPolicies } = gateway
  const { pairing } = parts
  const admit = admitListed(
    {
      people: dmPolicies.enabled ? dmPolicies.allowlist : undefined,
      groups: groupPolicies.enabled ? groupPolicies.allowedGroups : undefined,
    },
    pairing?.letIn,
  )
  const stops: (() => void)[] = []
  const every = (ms: number, action: () => void) => {
    const timer = setInterval(action, ms).unref()
    stops.push(() => clearInterval(timer))
  }
  const { mode, tailscale } = gateway.auth
  const jwt = mode === 'jwt' ? await jwtFor(loaded, admit, parts) : undefined
  if (jwt !== undefined) every(tickMs, () => jwt.tick())
  if (pairing !== undefined) every(tickMs, () => pairing.tick())
  const tailnet = tailscale.enabled
    ? await tailnetFor(tailscale.socket, admit, parts.log)
    : undefined
  if (tailnet !== undefined) {
    await tailnet.name.refresh()
    every(nameEveryMs, () => void tailnet.name.refresh())
  }
  return {
    hops: gateway.trustedProxies.length === 0 ? undefined : trustHops(gateway.trustedProxies),
    jwt,
    tailscale: tailnet?.prover,
    tailnetHosts: tailnet?.name.hosts ?? noHosts,
    isGood: (identityId) =>
      (!identityId.startsWith('jwt:') || jwt?.isGood(identityId) === true) &&
      pairing?.isGood(identityId) !== false,
    ask: pairing?.ask,
    close: () => {
      for (const stop of stops) stop()
    },
  }
}

const noHosts: ReadonlySet<string> = new Set()

async function jwtFor(
  loaded: Loaded,
  admit: Admit,
  { tokens, live, log }: VouchingParts,
): Promise<JwtProver> {
  const [{ jwtProver }, { fileTimes, keysFromFile, keysFromUrl, keySet, urlTimes }] =
    await Promise.all([import('../identity/jwt.ts'), import('../identity/jwks.ts')])
  const { issuer, audience, jwks, identityClaim, groupsClaim } = loaded.config.gateway.auth.jwt
  if (issuer === undefined || audience === undefined || jwks === undefined) {
    throw new Failure('JWKS_UNREADABLE', 'gateway.auth.jwt needs issuer, audience and jwks')
  }
  const isUrl = /^https?:/i.test(jwks)
  const { followSymlinks } = loaded.config.security
  let trouble: string | undefined
  const keys = keySet({
    text: isUrl ? keysFromUrl(jwks) : keysFromFile(resolve(folderOf(loaded), jwks), followSymlinks),
    times: isUrl ? urlTimes : fileTimes,
    now: clocks.monotonic,
    onTrouble: (because) => {
      trouble = because
      if (because === undefined) log.info({}, 'the keys of the JWT issuer can be had again')
      else log.error({ because }, 'the keys of the JWT issuer cannot be had: the last ones stay')
    },
  })
  const warm = keys.warm()
  if (!isUrl) {
    await warm
    if (trouble !== undefined) {
      throw new Failure('JWKS_UNREADABLE', `gateway.auth.jwt.jwks: ${trouble}`)
    }
  }
  return jwtProver({
    settings: { issuer, audience, identityClaim, groupsClaim },
    keys,
    admit,
    otherwise: tokens,
    now: clocks.now,
    onExpired: (identityId) => void live.endIdentity(identityId, 'revoked'),
  })
}

/** Files are beside the configuration unless their path is absolute. */
function folderOf({ file, home }: Loaded): string {
  return file === undefined ? home : dirname(file)
}

async function tailnetFor(
  socket: string,
  admit: Admit,
  log: Log,
): Promise<{ readonly name: TailnetName; readonly prover: Prover }> {
  const { localApi, tailnetName, tailscaleProver } = await import('../identity/tailscale.ts')
  const api = localApi(socket)
  const tell = (because: string | undefined) => {
    if (because === undefined) log.info({ socket }, 'Tailscale can be asked again')
    else log.error({ socket, because }, 'Tailscale cannot be asked: its logins prove nothing')
  }
  return {
    name: tailnetName(api, tell),
    prover: tailscaleProver({ localApi: api, admit, now: clocks.monotonic, onTrouble: tell }),
  }
}
