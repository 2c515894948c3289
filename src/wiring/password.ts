/** From the configuration to password mode: the password, its sessions, the routes and pages of login. */
import { randomBytes } from 'node:crypto'

import type { AuditSink } from '../audit/record.ts'
import type { Config } from '../config/load.ts'
import { Failure } from '../errors.ts'
import type { TokenLookup } from '../identity/bearer.ts'
import type { Lockout } from '../identity/lockout.ts'
import { loginRoutes, refusalPage } from '../identity/login.ts'
import { Hasher } from '../identity/hasher.ts'
import { Password } from '../identity/password-check.ts'
import type { Prover } from '../identity/proof.ts'
import { secureBy, sessionProver, withSessions } from '../identity/session-prover.ts'
import { SessionBook } from '../identity/sessions.ts'
import type { Log } from '../log.ts'
import type { Live } from '../proxy/live.ts'
import type { OwnRoute } from '../proxy/own.ts'
import type { ServerParts } from '../proxy/server.ts'
import type { Store } from '../store/store.ts'
import { clocks } from './clocks.ts'

/** What password mode adds to the listener. */
export interface PasswordMode {
  readonly prover: Prover
  readonly refusalPage: NonNullable<ServerParts['refusalPage']>
  /** Bearer tokens of sessions beside those of the table. */
  readonly beside: (tokens: TokenLookup) => TokenLookup
  readonly routes: (lockout: Lockout) => readonly OwnRoute[]
  /** False once the session behind an identity is over; true for every other identity. */
  readonly isGood: (identityId: string) => boolean
  /** Ends every session; says how many there were. */
  readonly endAll: () => Promise<number>
  readonly close: () => Promise<void>
}

/** What password mode works with. */
export interface PasswordParts {
  readonly store: Store
  readonly audit: AuditSink
  readonly live: Live
  readonly log: Log
}

/** Opens password mode. Fails with PASSWORD_HASH, or with the store's Failure. */
export async function openPasswordMode(
  { gateway, security }: Config,
  { store, audit, live, log }: PasswordParts,
): Promise<PasswordMode> {
  const configured = gateway.auth.passwordHash
  if (configured === undefined) {
    throw new Failure('PASSWORD_HASH', 'gateway.auth.passwordHash is missing')
  }
  const hasher = new Hasher()
  const password = await Password.open({
    store,
    configured,
    derive: hasher.derive,
    onUpgrade: (failure) => {
      if (failure !== undefined) log.error({ code: failure.code }, failure.message)
      else audit.append({ event: 'password.upgraded', because: 'the configured hash is weak' })
    },
  })
  const sessions = await SessionBook.open({
    store,
    now: clocks.now,
    password: password.generation,
    random: randomBytes,
    isLive: (identityId) => live.has(identityId),
    onTrouble: (failure) => log.error({ code: failure.code }, failure.message),
  })
  sessions.onEvent(({ event, identityId }) => {
    audit.append({ event, identity: identityId })
    if (event !== 'session.created') live.endIdentity(identityId, 'revoked')
  })
  sessions.start()
  const isSecure = secureBy(gateway.publicOrigins)
  return {
    prover: sessionProver(sessions, isSecure),
    refusalPage,
    beside: (tokens) => withSessions(tokens, sessions),
    routes: (lockout) =>
      loginRoutes({
        password,
        sessions,
        lockout,
        isSecure,
        bodyTimeMs: security.limits.bodyTimeout,
      }),
    isGood: (identityId) => !identityId.startsWith('session:') || sessions.isGood(identityId),
    endAll: () => sessions.endAll(),
    close: async () => {
      await password.close()
      hasher.close()
      await sessions.close()
    },
  }
}
