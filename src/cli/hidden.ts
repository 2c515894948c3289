/** A question on the terminal whose answer does not appear there. */
import type { ReadStream } from 'node:tty'

import { Failure } from '../errors.ts'

/** The terminal of a process. */
export interface Terminal {
  readonly stdin: ReadStream
  readonly stderr: { write(text: string): unknown }
}

const charsMax = 4096

/** Asks on standard error and reads one line without echo. Fails with INTERRUPTED on Ctrl-C or an ended input. */
export async function askHidden({ stdin, stderr }: Terminal, prompt: string): Promise<string> {
  // First silent, then the question: who types quickly must not be seen either.
  stdin.setRawMode(true)
  stderr.write(prompt)
  stdin.setEncoding('utf8')
  try {
    return await new Promise<string>((resolve, reject) => {
      let line = ''
      const done = (end: () => void) => {
        stdin.off('data', hear)
        stdin.off('end', ended)
        end()
      }
      const ended = () => done(() => reject(interrupted()))
      const hear = (text: string) => {
        for (const character of text) {
          if (character === '\r' || character === '\n') return done(() => resolve(line))
          if (character === '\u0003' || character === '\u0004') return ended()
          if (character === '\u007f' || character === '\b') line = [...line].slice(0, -1).join('')
          else if (character === '\u0015') line = ''
          else if (line.length < charsMax) line += character
        }
      }
      stdin.on('data', hear)
      stdin.on('end', ended)
      stdin.resume()
    })
  } finally {
    stdin.setRawMode(false)
    stdin.pause()
    stderr.write('\n')
  }
}

const interrupted = () => new Failure('INTERRUPTED', 'No password was given.', { exitCode: 2 })
