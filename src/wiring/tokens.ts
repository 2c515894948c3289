/** From the configuration to the tokens: their store, what they tell the log and the audit, and the file of one. */

import type { AuditSink } from '../audit/record.ts'
import { hashOf, type Config, type Loaded } from '../config/load.ts'
import { Failure } from '../errors.ts'
import type { TokenFile } from '../identity/token-file.ts'
import { rotationOf } from '../identity/token-life.ts'
import { judgeToken } from '../identity/token-rule.ts'
import { tokenEntry, type TokenEvent } from '../identity/token-table.ts'
import { TokenBook } from '../identity/tokens.ts'
import type { Log } from '../log.ts'
import type { Live } from '../proxy/live.ts'
import type { Store } from '../store/store.ts'
import { clocks } from './clocks.ts'

const { randomBytes } = process.getBuiltinModule('node:crypto')
const { join } = process.getBuiltinModule('node:path')

/** What the tokens are made from. */
export interface TokenParts {
  readonly loaded: Loaded
  readonly store: Store
  readonly audit: AuditSink
  readonly live: Live
  readonly log: Log
}

/** The tokens at work. */
export interface Tokens {
  readonly tokens: TokenBook
  /** Hash of the configuration with the token that is in its file now. */
  readonly configHash: () => string
  /** Ends the watches, and writes down last uses. */
  readonly close: () => Promise<void>
}

/**
 * Opens the tokens, takes over the configured one, and begins to watch its file. Fails with TOKEN_REVOKED when the
 * configured token was revoked, or with the store's Failure.
 */
export async function openTokens(parts: TokenParts): Promise<Tokens> {
  const { loaded, store, audit, live, log } = parts
  const { auth } = loaded.config.gateway
  const { auditLogging } = loaded.config.security
  const tokens = await TokenBook.open({
    store,
    now: clocks.now,
    random: randomBytes,
    rotation: rotationOf(auth.tokenRotation, auth.rotationGrace),
    onTrouble: (failure) => log.error({ code: failure.code }, failure.message),
    firstSeenOf: async (fingerprint) => {
      if (!auditLogging) return undefined
      const { firstSeenIn } = await import('./first-seen.ts')
      return firstSeenIn(join(loaded.home, 'audit'), fingerprint, log)
    },
  })
  tokens.onEvent((event) => tell(event, { audit, log }))
  tokens.onRevoked(
    (identityId, end) =>
      void live.endIdentity(identityId, rotates.has(end) ? 'rotated' : 'revoked'),
  )
  await useConfigured(tokens, auth.token, audit)
  tokens.start()
  const present = { hash: loaded.hash }
  const file = await watchFile(tokens, parts, (token) => {
    present.hash = hashWith(loaded.config, token)
  })
  return {
    tokens,
    configHash: () => present.hash,
    close: async () => {
      await file?.close()
      await tokens.close()
    },
  }
}

/** Ends that come from a rotation: requests under way may be answered. */
const rotates: ReadonlySet<string> = new Set(['retired', 'replaced', 'aged'])

function tell(
  told: TokenEvent,
  { audit, log }: { readonly audit: AuditSink; readonly log: Log },
): void {
  const { event, name, fingerprint, detail } = told
  const known = `fingerprint ${fingerprint}`
  audit.append(tokenEntry(told))
  const facts = { event, token: name, fingerprint }
  if (event === 'token.ageing') {
    log.warn(facts, `token ${name} (${known}) has reached ${detail ?? 'its age'}: rotate it`)
  } else if (event === 'token.aged') {
    log.error(facts, `token ${name} (${known}) is past its age and grace and is refused: rotate it`)
  }
}

/** The configured token is one more entry of the table; one that was revoked stays refused. */
async function useConfigured(
  tokens: TokenBook,
  value: string | undefined,
  audit: AuditSink,
): Promise<void> {
  const view = await tokens.configure(value)
  if (view === undefined) return
  if (view.status === 'revoked') {
    throw new Failure(
      'TOKEN_REVOKED',
      'gateway.auth.token was revoked with "hardshell token revoke": put a new one there (openssl rand -base64 32)',
    )
  }
  // At every start, so that the day is in the newest files of a log whose oldest ones go.
  const since = new Date(view.createdAt).toISOString()
  const because = `fingerprint ${view.fingerprint}, first seen ${since}`
  audit.append({ event: 'token.configured', identity: view.name, because })
}

/** Watches the file that the configured token came from; `undefined` when it came from elsewhere. */
async function watchFile(
  tokens: TokenBook,
  { loaded, audit, log }: TokenParts,
  taken: (token: string) => void,
): Promise<TokenFile | undefined> {
  const source = loaded.secretSources.find(
    ({ path, from }) => from === 'file' && path.startsWith('gateway.auth.token'),
  )
  if (source?.name === undefined) return undefined
  const { path, read } = loaded.secretFile(source.name)
  const agentToken = loaded.config.agent.token
  const { TokenFile } = await import('../identity/token-file.ts')
  return new TokenFile({
    path,
    read,
    use: async (value) => {
      if (tokens.isConfigured(value)) return
      const verdict = judgeToken(value, agentToken === undefined ? {} : { agentToken })
      if (verdict !== undefined) {
        throw new Failure(
          verdict.code,
          `The new token in ${path}: ${verdict.message} ${verdict.remedy}`,
        )
      }
      await tokens.configure(value, { mustBeGood: true })
      taken(value)
      log.info({ path }, 'the configured token was replaced by the one that is in its file now')
    },
    onTrouble: ({ code, message }) => {
      audit.append({
        event: 'token.refused',
        code,
        because: 'the new token in its file cannot be used',
      })
      log.error({ code, path }, `${message} The token before stays.`)
    },
  })
}

function hashWith(config: Config, token: string): string {
  const { gateway } = config
  return hashOf({ ...config, gateway: { ...gateway, auth: { ...gateway.auth, token } } })
}
