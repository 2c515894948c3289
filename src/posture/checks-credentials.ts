/** Checks of what proves who a client is. */
import { isWeak, readHash } from '../identity/password.ts'
import { judgeToken } from '../identity/token-rule.ts'
import { days } from '../limits.ts'
import { inGroup, ofConfig, ofMeasured, ofProblems, when, type Check, type Look } from './check.ts'
import type { PostureContext } from './context.ts'

const replace =
  'Run "hardshell security audit --fix", or put the output of "openssl rand -hex 32" there.'
const rotationMost = days(90)
const unusedFor = days(90)

const tokenFix = { kind: 'token' } as const
const badToken = (code: string) => {
  const look = ofProblems(code)
  const fixed = (context: PostureContext): Look => {
    const found = look(context)
    if ('unmeasured' in found) return found
    return found.map((one) => ({ ...one, fix: tokenFix }))
  }
  return Object.assign(fixed, { codes: look.codes })
}

/** Share of its greatest age that the configured token has reached; undefined when it is not known. */
function ageOf({ tokens, config, now }: PostureContext): Look | number {
  if (config === undefined) return { unmeasured: 'the configuration cannot be read' }
  if (config.gateway.auth.token === undefined) return []
  if (!('value' in tokens)) return tokens
  const configured = tokens.value.filter(({ kind }) => kind === 'configured')
  const good = configured.filter(({ status }) => status === 'good')
  // One that the file no longer names is good for its grace, and not due: its owner has done what there is to do.
  const any = good.find(({ dueAt }) => dueAt !== undefined) ?? good[0] ?? configured.at(-1)
  if (any === undefined) return { unmeasured: 'the token has not been in use yet' }
  return (now - any.createdAt) / config.gateway.auth.tokenRotation
}

const percent = (share: number) => `${Math.floor(share * 100)} %`

/** Credentials: length, variety, examples, age, rotation, use, the password hash. */
export const credentialChecks: readonly Check[] = inGroup('credentials', [
  {
    id: 'credentials.token-missing',
    severity: 'CRITICAL',
    title: 'There is a token',
    remedy: replace,
    look: badToken('TOKEN_MISSING'),
  },
  {
    id: 'credentials.token-short',
    severity: 'CRITICAL',
    title: 'The token has 32 characters or more',
    remedy: replace,
    look: badToken('TOKEN_SHORT'),
  },
  {
    id: 'credentials.token-plain',
    severity: 'CRITICAL',
    title: 'The token has enough different characters',
    remedy: replace,
    look: badToken('TOKEN_PLAIN'),
  },
  {
    id: 'credentials.token-example',
    severity: 'CRITICAL',
    title: 'The token is not printed in public',
    remedy: replace,
    look: badToken('TOKEN_EXAMPLE'),
  },
  {
    id: 'credentials.token-pattern',
    severity: 'CRITICAL',
    title: 'The token is no repeated block or keyboard run',
    remedy: replace,
    look: badToken('TOKEN_PATTERN'),
  },
  {
    id: 'credentials.token-is-agents',
    severity: 'CRITICAL',
    title: "The token is not the agent's own",
    remedy: replace,
    look: badToken('TOKEN_IS_AGENTS'),
  },
  {
    id: 'credentials.token-aged',
    severity: 'HIGH',
    title: 'The configured token is younger than tokenRotation',
    remedy: 'Put a fresh token into gateway.auth.tokenFile: openssl rand -hex 32',
    look: (context) => {
      const share = ageOf(context)
      if (typeof share !== 'number') return share
      return when(share >= 1, `the configured token has reached ${percent(share)} of its age`)
    },
  },
  {
    id: 'credentials.token-ageing',
    severity: 'LOW',
    title: 'The configured token is not about to reach its age',
    remedy: 'Put a fresh token into gateway.auth.tokenFile soon: openssl rand -hex 32',
    look: (context) => {
      const share = ageOf(context)
      if (typeof share !== 'number') return share
      return when(
        share >= 0.8 && share < 1,
        `the configured token has reached ${percent(share)} of its age`,
      )
    },
  },
  {
    id: 'credentials.token-revoked',
    severity: 'HIGH',
    title: 'The configured token was not revoked',
    remedy: replace,
    look: ofMeasured(
      ({ tokens }) => tokens,
      (tokens) => {
        const configured = tokens.filter(({ kind }) => kind === 'configured')
        const good = configured.some(({ status }) => status === 'good')
        const revoked = configured.some(({ status }) => status === 'revoked')
        return when(revoked && !good, 'the configured token was revoked and is refused', {
          fix: tokenFix,
        })
      },
    ),
  },
  {
    id: 'credentials.rotation-slow',
    severity: 'MEDIUM',
    title: 'Tokens are replaced at least every 90 days',
    remedy: 'Set gateway.auth.tokenRotation to "30d".',
    look: ofConfig(({ gateway: { auth } }) =>
      when(
        auth.tokenRotation > rotationMost,
        `gateway.auth.tokenRotation is ${Math.floor(auth.tokenRotation / days(1))} days`,
      ),
    ),
  },
  {
    id: 'credentials.token-unused',
    severity: 'LOW',
    title: 'No token lies unused for 90 days',
    remedy: 'Revoke it with "hardshell token revoke ID".',
    look: ofMeasured(
      ({ tokens }) => tokens,
      (tokens, { now }) =>
        tokens
          .filter(({ status, kind }) => status === 'good' && kind === 'managed')
          .filter(({ lastUsedAt, createdAt }) => now - (lastUsedAt ?? createdAt) > unusedFor)
          .map(({ id, name }) => ({
            found: `the token ${name} was not used for 90 days`,
            remedy: `Run: hardshell token revoke ${id}`,
          })),
    ),
  },
  {
    id: 'credentials.token-admin',
    severity: 'MEDIUM',
    title: 'A token with scope admin is bound to networks or expires',
    remedy: 'Make it again with --cidr or --expires, and revoke this one.',
    look: ofMeasured(
      ({ tokens }) => tokens,
      (tokens) =>
        tokens
          .filter(({ status, scopes }) => status === 'good' && scopes.includes('admin'))
          .filter(({ networks, expiresAt }) => networks.length === 0 && expiresAt === undefined)
          .map(({ name }) => ({ found: `the token ${name} may do everything, from anywhere` })),
    ),
  },
  {
    id: 'credentials.password-hash',
    severity: 'CRITICAL',
    title: 'The password hash can be used',
    remedy: 'Print one with "hardshell auth hash-password".',
    look: ofProblems('PASSWORD_HASH'),
  },
  {
    id: 'credentials.password-hash-weak',
    severity: 'MEDIUM',
    title: 'The password hash costs a guesser what a new one would',
    remedy: 'Print a new one with "hardshell auth hash-password".',
    look: ofConfig(({ gateway: { auth } }) => {
      if (auth.passwordHash === undefined) return []
      const known = readHash(auth.passwordHash)
      if ('because' in known) return { unmeasured: 'the hash cannot be read' }
      return when(isWeak(known), 'gateway.auth.passwordHash has weaker parameters than the default')
    }),
  },
  {
    id: 'credentials.jwt-keys-plain',
    severity: 'LOW',
    title: 'The keys of the issuer come over https or from a file',
    remedy: 'Use the https address of the keys in gateway.auth.jwt.jwks.',
    look: ofConfig(({ gateway: { auth } }) =>
      when(/^http:/i.test(auth.jwt.jwks ?? ''), 'gateway.auth.jwt.jwks is fetched without TLS'),
    ),
  },
  {
    id: 'credentials.agent-token-weak',
    severity: 'MEDIUM',
    title: "The agent's own token is a strong one",
    remedy: 'Give the agent a token from "openssl rand -hex 32", there and in agent.token.',
    look: ofConfig(({ agent }) => {
      const verdict = agent.token === undefined ? undefined : judgeToken(agent.token)
      return when(verdict !== undefined, `agent.token is weak (${verdict?.code ?? ''})`)
    }),
  },
])
