/** Application events on standard error (pino). Never a line per request: the audit log is the access log. */

import type { pino as Pino } from 'pino'

const { createRequire } = process.getBuiltinModule('node:module')

/** Levels of HARDSHELL_LOG_LEVEL. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** What the parts of Hardshell may write: an event in words, and its facts. Never a secret. */
export interface Log {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

/**
 * A log on standard error. Fields that carry credentials by name are masked whatever they hold. pino itself is loaded at
 * the first event that the level lets through: a start without one does not pay for it.
 */
export function openLog(level: LogLevel): Log {
  let opened: Log | undefined
  const written = levels.slice(levels.indexOf(level))
  const at =
    (name: 'info' | 'warn' | 'error') =>
    (facts: object, message: string): void => {
      if (level === 'silent' || !written.includes(name)) return
      opened ??= openPino(level)
      opened[name](facts, message)
    }
  return { info: at('info'), warn: at('warn'), error: at('error') }
}

/** From the most talkative on. */
const levels: readonly LogLevel[] = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']

const masked = ['token', 'password', 'authorization', 'cookie', 'secret']

function openPino(level: LogLevel): Log {
  const { pino } = createRequire(import.meta.url)('pino') as { pino: typeof Pino }
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: [...masked, ...masked.map((name) => `*.${name}`)], censor: '***' },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}
