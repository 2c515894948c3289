/** The variables of the environment that Hardshell reads (env-schema), apart from `${VAR}` in the file. */
import type envSchema from 'env-schema'
import { homeOf } from '../home.ts'
import type { LogLevel } from '../log.ts'
import type { Problem } from './problems.ts'

const { createRequire } = process.getBuiltinModule('node:module')

/** An environment, as a process has it. */
export type Env = Readonly<Record<string, string | undefined>>

/** Each variable with its meaning, for docs/configuration.md. */
export const variables = {
  HARDSHELL_HOME: 'The folder of Hardshell; ~/.hardshell unless it is set.',
  HARDSHELL_CONFIG: 'The configuration file; --config wins over it.',
  HARDSHELL_TOKEN: 'The gateway token, unless the file has gateway.auth.token or tokenFile.',
  HARDSHELL_SECRETS_KEY: 'The key of sealed values, in place of keys/secrets.key.',
  HARDSHELL_LOG_LEVEL: 'fatal, error, warn, info, debug, trace or silent; info unless it is set.',
  MONITORING_URL: 'Supplies monitoring.endpoint once monitoring is available.',
  MOLTBOT_TOKEN: 'Stands in for HARDSHELL_TOKEN.',
  CLAWDBOT_GATEWAY_TOKEN: 'Stands in for HARDSHELL_TOKEN, after MOLTBOT_TOKEN.',
  OPENCLAW_GATEWAY_TOKEN: 'Stands in for HARDSHELL_TOKEN, after CLAWDBOT_GATEWAY_TOKEN.',
} as const

const logLevels: readonly LogLevel[] = [
  'fatal',
  'error',
  'warn',
  'info',
  'debug',
  'trace',
  'silent',
]

const text = { type: 'string', maxLength: 4096, pattern: '^[^\\u0000-\\u001f\\u007f]+$' }

/** What the environment says. */
export interface Environment {
  readonly home: string
  readonly config: string | undefined
  readonly logLevel: LogLevel
}

interface Read {
  HARDSHELL_CONFIG?: string
  HARDSHELL_LOG_LEVEL: LogLevel
}

interface AjvError {
  readonly instancePath: string
}

const remedies: Readonly<Record<string, string>> = {
  HARDSHELL_LOG_LEVEL: 'Use fatal, error, warn, info, debug, trace or silent.',
}

function problemsOf(error: unknown): readonly Problem[] {
  const { errors } = error as { errors?: readonly AjvError[] }
  if (errors === undefined) throw error
  return errors.map(({ instancePath }) => {
    const name = instancePath.slice(1)
    const remedy = remedies[name] ?? 'Use at most 4,096 characters on one line.'
    return {
      code: 'ENVIRONMENT',
      path: name,
      message: 'has a value that is not acceptable',
      remedy,
    }
  })
}

/** True for a value that the schema would let through as it is: a level by its name, else printable ASCII. */
function isPlain([name, value]: readonly [string, string]): boolean {
  if (name === 'HARDSHELL_LOG_LEVEL') return logLevels.some((level) => level === value)
  return value.length <= 1024 && /^[ -~]*$/.test(value)
}

/** Reads the environment; an empty variable counts as unset, as compose files pass them. */
export function readEnvironment(env: Env): {
  readonly value: Environment
  readonly problems: readonly Problem[]
} {
  const data: Record<string, string> = {}
  for (const name of Object.keys(variables)) {
    const value = env[name]
    if (value !== undefined && value !== '') data[name] = value
  }
  const home = homeOf(env)
  // env-schema brings a hundred modules, a third of our start-up time: it judges whatever is not plainly in order.
  if (Object.entries(data).every(isPlain)) {
    const value = {
      home,
      config: data['HARDSHELL_CONFIG'],
      logLevel: (data['HARDSHELL_LOG_LEVEL'] as LogLevel | undefined) ?? 'info',
    }
    return { value, problems: [] }
  }
  const properties = {
    ...Object.fromEntries(Object.keys(variables).map((name) => [name, text])),
    HARDSHELL_LOG_LEVEL: {
      type: 'string',
      enum: logLevels,
      default: 'info',
    },
  }
  const readSchema = createRequire(import.meta.url)('env-schema') as typeof envSchema
  try {
    const read = readSchema<Read>({ schema: { type: 'object', properties }, data, env: false })
    const value = {
      home,
      config: read.HARDSHELL_CONFIG,
      logLevel: read.HARDSHELL_LOG_LEVEL,
    }
    return { value, problems: [] }
  } catch (error) {
    const value: Environment = { home, config: undefined, logLevel: 'info' }
    return { value, problems: problemsOf(error) }
  }
}
