/** Application events on standard error (pino). Never a line per request: the audit log is the access log. */
import { pino } from 'pino'

/** Levels of HARDSHELL_LOG_LEVEL. */
export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent'

/** What the parts of Hardshell may write: an event in words, and its facts. Never a secret. */
export interface Log {
  info(facts: object, message: string): void
  warn(facts: object, message: string): void
  error(facts: object, message: string): void
}

/** A log on standard error. Fields that carry credentials by name are masked whatever they hold. */
export function openLog(level: LogLevel): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: {
        paths: [
          'token',
          'password',
          'authorization',
          'cookie',
          'secret',
          '*.token',
          '*.password',
          '*.authorization',
        ],
        censor: '***',
      },
    },
    pino.destination({ dest: 2, sync: true }),
  )
}
